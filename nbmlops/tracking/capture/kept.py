"""What a run keeps of its making, read back from its artifacts."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbmlops.errors import ConflictError
from nbmlops.scrub import MASK
from nbmlops.tracking.capture import facts
from nbmlops.tracking.capture.source import Execution, executions_in, executions_of
from nbmlops.tracking.mlflow import Tracking, translated
from nbmlops.tracking.runs import Run


@dataclass(frozen=True)
class Kept:
    """What a run keeps; `notebook` is the executed one of a headless run, `parameters` what that was given."""

    run: Run
    executions: tuple[Execution, ...] = ()
    notebook: Mapping[str, Any] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)

    @property
    def secrets(self) -> list[str]:
        """Names of the parameters whose values were secret, and so were not kept."""
        return [name for name, value in self.parameters.items() if value == MASK]


def kept(tracking: Tracking, run: Run) -> Kept:
    """Read what a run keeps.

    Raises
    ------
    ConflictError
        It keeps no source: it was made by other means than nbmlops.
    """
    with tempfile.TemporaryDirectory(prefix="nbmlops-") as scratch, translated("The run's files"):
        texts = {name: _text(tracking, run, name, Path(scratch)) for name in _names(tracking, run)}
    for notebook in (json.loads(text) for name, text in texts.items() if name.endswith(".ipynb")):
        if notes := notebook.get("metadata", {}).get("papermill"):
            return Kept(run, executions_in(notebook), notebook, notes.get("parameters", {}), texts)
    if facts.SOURCE not in texts:
        raise ConflictError(
            f"Run {run.name} ({run.run_id[:8]}) keeps no source.",
            "Runs of `track` and `run` do; it was made otherwise.",
        )
    return Kept(run, tuple(executions_of(texts[facts.SOURCE])), texts=texts)


def _names(tracking: Tracking, run: Run) -> list[str]:
    """Name the artifacts that tell how the run was made: the executed notebook, which lies on top, and ours."""
    client = tracking.client
    on_top = [each.path for each in client.list_artifacts(run.run_id) if each.path.endswith(".ipynb")]
    return [*on_top, *(each.path for each in client.list_artifacts(run.run_id, "nbmlops") if not each.is_dir)]


def _text(tracking: Tracking, run: Run, name: str, scratch: Path) -> str:
    path = tracking.client.download_artifacts(run.run_id, name, str(scratch))
    return Path(path).read_bytes().decode("utf-8", errors="replace")
