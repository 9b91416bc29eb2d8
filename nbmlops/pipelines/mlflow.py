"""The one file of this folder that talks to MLflow: the run that a notebook's execution is."""

import contextlib
import os
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbmlops.errors import StoreError
from nbmlops.project import Project
from nbmlops.tracking import journal
from nbmlops.tracking.capture import facts
from nbmlops.tracking.capture.source import Executed
from nbmlops.tracking.journal import sync
from nbmlops.tracking.mlflow import Tracking, translated
from nbmlops.tracking.plugin.line import Line
from nbmlops.tracking.plugin.overlay import PLACE
from nbmlops.tracking.store import is_journaled

DELIVER_S = 8.0  # that a run's end waits for what was logged in its kernel
ANSWER_S = 3.0  # that its store may take to answer once


@dataclass(frozen=True)
class Begun:
    """A run that has begun; offline it has an id of the journal's until it is delivered."""

    run_id: str
    place: str  # of its artifacts

    @property
    def is_offline(self) -> bool:
        """Whether only the journal knows it."""
        return self.place.startswith(PLACE)


def begin(tracking: Tracking, name: str, parameters: Mapping[str, Any], tags: Mapping[str, str]) -> Begun:
    """Begin a run, under the headless notebook that this process may be in; with its store away, in the journal."""
    tags = {"nbmlops.id": uuid.uuid4().hex, **tags}
    if above := os.environ.get("NBMLOPS_RUN"):
        tags["mlflow.parentRunId"] = above
    with translated("The notebook's run"):
        begun = tracking.client.create_run(tracking.experiment_id, tags=tags, run_name=name)
    run_id = str(begun.info.run_id)
    if is_journaled(tracking.uri):
        tracking.store.kept.forget(run_id)  # this process executes none of its cells
    try:
        tracking.log(run_id, {}, parameters, {}, 0, [])
    except BaseException:
        tracking.client.set_terminated(run_id, "FAILED")
        raise
    return Begun(run_id, str(begun.info.artifact_uri))


def keep(tracking: Tracking, begun: Begun, moment: facts.Moment, executed: Executed) -> None:
    """Keep with a run what it was made from: executed source, verdict, code, environment."""
    with tempfile.TemporaryDirectory(prefix="nbmlops-") as scratch, translated("The notebook's run"):
        for name, text in facts.files(moment, executed).items():
            path = Path(scratch, name)
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="")
        tracking.log(begun.run_id, {}, {}, facts.tags(moment, executed), 0, [])
        _artifacts(tracking, begun).log_artifacts(scratch)


def _artifacts(tracking: Tracking, begun: Begun) -> Any:
    """Give the place of a run's artifacts; MLflow's client would ask the store for it, which takes 10 ms and more."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(begun.place, tracking_uri=tracking.uri)


def deliver(project: Project, tracking: Tracking, *, is_last: bool) -> bool:
    """Deliver the journals of kernels that are gone and of this process, in bounded time.

    Runs that a dead kernel left open end with that. Gives False when something is left. This process's own waits for
    the last delivery where no kernel has left one: once is quicker than twice.
    """
    if not is_journaled(tracking.uri):
        return True
    folder = sync.folder_of(project)
    gone = [path for path in journal.journals(folder) if not journal.has_writer(path)]
    ours = [*gone, *filter(_is_ours, journal.journals(folder))] if gone or is_last else []
    if not ours:
        return True
    deadline = time.monotonic() + DELIVER_S
    with sync.Stores([tracking.url], ANSWER_S) as stores, contextlib.suppress(OSError):
        sync.sweep(folder, stores, deadline=deadline, patience_s=ANSWER_S, is_due=ours.__contains__)
    return not any(path.exists() and journal.unsent(path) for path in ours)


def _is_ours(path: Path) -> bool:
    header = journal.header_of(path)
    return header is not None and header.pid == os.getpid()


def end(
    tracking: Tracking, begun: Begun, status: str, tags: Mapping[str, str], files: Sequence[Path], *, below: bool = True
) -> None:
    """End a run with its output notebook and page; what it had open under it died with the kernel, and failed.

    `below`: whether all is delivered that may tell the end of those runs.
    """
    with translated("The end of the notebook's run"), contextlib.ExitStack() as always:
        always.callback(tracking.client.set_terminated, begun.run_id, status)
        for child in _open_below(tracking, begun.run_id) if below else []:
            tracking.client.set_terminated(child, "FAILED")
        tracking.log(begun.run_id, {}, {}, tags, 0, [])
        artifacts = _artifacts(tracking, begun)
        for file in files:
            artifacts.log_artifact(str(file))


def _open_below(tracking: Tracking, run_id: str) -> list[str]:
    try:
        with translated("The list of runs"):
            if (known := Line(tracking.url).ask(lambda: _read_below(tracking, run_id), ANSWER_S)) is not None:
                return known
        below = f"tags.`mlflow.parentRunId` = '{run_id}' and attributes.status = 'RUNNING'"
        return [run.run_id for run in tracking.newest(1000, below)]
    except StoreError:  # away by now; whoever finds their process gone ends them
        return []


def _read_below(tracking: Tracking, run_id: str) -> list[str] | None:
    """Read the open runs below another from the tables, where the store is a database whose tables are known."""
    from nbmlops.tracking import sql

    engine = getattr(tracking.store, "engine", None)
    return sql.tagged(engine, "mlflow.parentRunId", run_id, "RUNNING") if engine else None
