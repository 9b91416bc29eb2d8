"""MLflow's plug-in for artifacts that an MLflow server keeps: behind a journal they are uploaded later.

Without the journal, and for every read, MLflow's own repository is used, for the plain URL.
"""

import os
from pathlib import Path
from typing import Any

from mlflow.entities import FileInfo
from mlflow.store.artifact.artifact_repo import ArtifactRepository, verify_artifact_path
from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository

from nbmlops.errors import StoreError
from nbmlops.tracking.plugin.overlay import PLACE
from nbmlops.tracking.store import is_journaled, plain


def artifact_repository(artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> Any:
    """Make the repository of an artifact place: MLflow's own, or the journaled one behind a journal."""
    import mlflow

    tracking_uri = tracking_uri or mlflow.get_tracking_uri()
    if is_journaled(tracking_uri):
        return JournaledArtifacts(artifact_uri, tracking_uri, registry_uri)
    return MlflowArtifactsRepository(artifact_uri, tracking_uri, registry_uri)


class JournaledArtifacts(ArtifactRepository):  # type: ignore[misc]  # MLflow has no types
    """An artifact place whose writes are journaled; reads see them, for they wait until all is uploaded."""

    def __init__(self, artifact_uri: str, tracking_uri: str, registry_uri: str | None = None) -> None:
        super().__init__(artifact_uri, tracking_uri, registry_uri)
        from mlflow.tracking._tracking_service.utils import _get_store

        self._store = _get_store(tracking_uri)

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        """Journal a file."""
        verify_artifact_path(artifact_path)
        self._keep(Path(local_file), "/".join(part for part in (artifact_path, Path(local_file).name) if part))

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Journal all files of a folder."""
        verify_artifact_path(artifact_path)
        top = Path(local_dir)
        for folder, _, names in os.walk(top):
            for name in names:
                file = Path(folder, name)
                self._keep(file, "/".join(p for p in (artifact_path, file.relative_to(top).as_posix()) if p))

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        """List what is there."""
        return list(self._plain().list_artifacts(path))

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        self._plain()._download_file(remote_file_path, local_path)

    def download_artifacts(self, artifact_path: str, dst_path: str | None = None) -> str:
        """Download a file or folder."""
        return str(self._plain().download_artifacts(artifact_path, dst_path))

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Delete a file or folder."""
        self._plain().delete_artifacts(artifact_path)

    def _keep(self, file: Path, path: str) -> None:
        is_offline = self.artifact_uri.startswith(PLACE)
        run_id = self.artifact_uri.removeprefix(PLACE) if is_offline else ""
        self._store.outbox.keep_file(run_id, "" if is_offline else self.artifact_uri, path, file)

    def _plain(self) -> Any:
        """Give MLflow's repository, once all that was journaled before is there."""
        if not self._store.outbox.flush(uploads="all", is_urgent=True):
            raise StoreError(
                "The tracking store is out of reach, so its artifacts cannot be read; "
                "those that were logged meanwhile are safe in the journal.",
                "sync",
            )
        place = self.artifact_uri
        if place.startswith(PLACE):
            place = self._store.get_run(place.removeprefix(PLACE)).info.artifact_uri
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        return get_artifact_repository(place, tracking_uri=plain(self.tracking_uri))
