"""THE one loader: a model's bytes are copied, the copy is checked against its manifest, only the copy is loaded."""

import atexit
import shutil
import tempfile
from pathlib import Path
from typing import Any

from nbmlops.errors import ApprovalError, ConflictError
from nbmlops.ledger.database import Ledger
from nbmlops.project import Project
from nbmlops.registry.manifest import Manifest, ManifestFile, differences, digest_of, manifest_of
from nbmlops.registry.mlflow import Registry
from nbmlops.registry.versions import ModelVersion


def verified_copy(project: Project, model: str | ModelVersion, *, into: Path | None = None) -> Path:
    """Copy a model version's bytes and check every one of them, without loading anything.

    Parameters
    ----------
    project
        Whose registry and ledger.
    model
        A version, or a reference to one (``name`` alone means ``name@champion``).
    into
        A folder that nobody else can enter. Without it a temporary one (mode
        0700) is made, and removed when this process exits.

    Returns
    -------
    pathlib.Path
        The folder with the verified copy, inside `into`. Load from it, not from the store: the
        store's bytes may change after they were checked.

    Raises
    ------
    ApprovalError
        nbmlops never registered this version, so nothing says what its bytes were.
    ConflictError
        The bytes are not those that were registered; the message names the file.
    NotFoundError
        There is no such version.
    """
    version = model if isinstance(model, ModelVersion) else project.open(Registry).resolve(model)
    kept = kept_manifest(project, version)
    folder = project.open(Registry).download(version, into or _temporary_folder())
    if wrong := differences(kept, manifest_of(folder)):
        raise ConflictError(
            f"{version.label} is not what was registered: {'; '.join(wrong)}.",
            f"Restore its files, or go back: `rollback {version.name}`",
        )
    return folder


def load_model(folder: Path) -> Any:
    """Load a verified copy as MLflow's python function."""
    import mlflow

    return mlflow.pyfunc.load_model(str(folder))


def kept_manifest(project: Project, version: ModelVersion) -> Manifest:
    """Read the manifest that was kept when a version was registered, and hold its digest against the version's tag.

    Raises
    ------
    ApprovalError
        The ledger has none.
    ConflictError
        The tag tells another digest, or the version's tag is gone.
    """
    subject = f"model/{version.label}"
    events = project.open(Ledger).events(verbs=("register",), subject=subject, outcome="ok", limit=1)
    if not events:
        raise ApprovalError(
            f"{version.label} was not registered by nbmlops, so there is no manifest to check its bytes against.",
            f"Register these bytes as a version of their own: `register models:/{version.label} {version.name}`",
            rule="no manifest",
        )
    manifest = tuple(ManifestFile(**file) for file in events[0].result["manifest"])
    if digest_of(manifest) != version.digest:
        raise ConflictError(
            f"{version.label}: its tag nbmlops.digest says {version.digest[:12] or 'nothing'}, "
            f"the ledger's event {events[0].seq} says {digest_of(manifest)[:12]}.",
            f"Find out who changed it: `history {version.name}`",
        )
    return manifest


def _temporary_folder() -> Path:
    folder = tempfile.mkdtemp(prefix="nbmlops-model-")  # mode 0700
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
