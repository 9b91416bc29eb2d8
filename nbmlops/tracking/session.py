"""The run that this process tracks, and its truthful end.

MLflow's own active run is the state; here is only whether a cell has failed since,
and the end that an open run gets when another begins or the process exits.
"""

import atexit
import os
import socket
import sys
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import psutil

from nbmlops.project import Project
from nbmlops.scrub import scrub_text
from nbmlops.tracking import git
from nbmlops.tracking.mlflow import Tracking, translated


@dataclass
class _Process:
    """What this process remembers: the error since its run began, and whether its end is watched."""

    failure: BaseException | None = None
    is_watched: bool = False


_process = _Process()


def begin(project: Project, name: str | None) -> Any:
    """Begin a run, after ending the one that was left open."""
    tracking = project.open(Tracking)
    with translated("The run"):
        settle()
        _watch()
        return tracking.mlflow.start_run(
            experiment_id=tracking.experiment_id,
            run_name=name,
            nested=tracking.mlflow.active_run() is not None,
            parent_run_id=os.environ.get("NBMLOPS_RUN"),
            tags=owner_tags() | _code_tags(project),
        )


def end(project: Project, status: str) -> None:
    """End the active run."""
    mlflow = project.open(Tracking).mlflow
    with translated("The run's end"):
        _end(mlflow, status)
    forget()


def settle() -> None:
    """End a run of ours that was left open: FAILED if a cell failed since it began, FINISHED if none did."""
    mlflow = sys.modules.get("mlflow")
    active = mlflow.active_run() if mlflow else None
    if mlflow and active and active.data.tags.get("nbmlops.pid") == str(os.getpid()):
        _end(mlflow, "FINISHED" if _process.failure is None else "FAILED")
    forget()


def failed(error: BaseException) -> None:
    """Take note that a cell, or the script, raised while a run may be open."""
    _process.failure = error


def forget() -> None:
    """Begin a new run with no failure."""
    _process.failure = None


def _end(mlflow: Any, status: str) -> None:
    if (failure := _process.failure) is not None:
        mlflow.set_tag("nbmlops.error", scrub_text(f"{type(failure).__name__}: {failure}")[:500])
    mlflow.end_run(status)


def owner_tags() -> dict[str, str]:
    """Name this process for good: a pid alone may be given again."""
    started = psutil.Process().create_time()
    return {
        "nbmlops.host": socket.gethostname(),
        "nbmlops.pid": str(os.getpid()),
        "nbmlops.pid_started": f"{started:.2f}",
    }


def owner_is_dead(tags: dict[str, str]) -> bool:
    """Say whether the process that owns a run is known to be gone: only this machine's can be known."""
    if tags.get("nbmlops.host") != socket.gethostname() or "nbmlops.pid" not in tags:
        return False
    try:
        started = psutil.Process(int(tags["nbmlops.pid"])).create_time()
    except psutil.NoSuchProcess:
        return True
    return bool(abs(started - float(tags["nbmlops.pid_started"])) > 1)


def _code_tags(project: Project) -> dict[str, str]:
    commit = git.head(project.folder)
    return {"mlflow.source.git.commit": commit} if commit else {}


def _watch() -> None:
    """Once a process: look at its end and, outside IPython, at the exception that ends it."""
    if _process.is_watched:
        return
    _process.is_watched = True
    atexit.register(settle)  # runs before MLflow's own hook, which would call every open run FINISHED
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        failed(error)
        before(kind, error, trace)

    sys.excepthook = hook
