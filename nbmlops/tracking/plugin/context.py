"""MLflow's plug-in that gives every run of a journaled store its truthful context: owner, source and commit."""

import os
import uuid
from pathlib import Path

from nbmlops.project import actor, find
from nbmlops.tracking import session
from nbmlops.tracking.capture import facts
from nbmlops.tracking.owner import owner_tags
from nbmlops.tracking.store import is_journaled


class RunContext:
    """A run context provider, as MLflow asks for one whenever ``mlflow.start_run`` begins a run."""

    def in_context(self) -> bool:
        """Say whether runs go through the journal."""
        import mlflow

        return is_journaled(mlflow.get_tracking_uri())

    def tags(self) -> dict[str, str]:
        """Give the tags of a run that begins now in this process."""
        session.watch()
        return run_tags()


def run_tags() -> dict[str, str]:
    """Word who begins a run, from what source, under which notebook's run, and the id that makes its creation safe."""
    root = find(Path.cwd()) or Path.cwd()
    above = os.environ.get("NBMLOPS_RUN")
    return {
        "nbmlops.id": uuid.uuid4().hex,
        "mlflow.user": actor(),
        **owner_tags(),
        **facts.source_tags(root),
        **({"mlflow.parentRunId": above} if above else {}),
    }
