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
from typing import Any, NoReturn

import psutil

from nbmlops.errors import NbmlopsError
from nbmlops.project import Project
from nbmlops.scrub import scrub_text
from nbmlops.tracking import git
from nbmlops.tracking.mlflow import Tracking, fluent, translated


@dataclass
class _Process:
    """What this process remembers: its run's store, the error since it began, and whether its end is watched."""

    uri: str = ""
    failure: BaseException | None = None
    is_watched: bool = False


_process = _Process()


def begin(project: Project, name: str | None) -> Any:
    """Begin a run, after ending the one that was left open."""
    tracking = project.open(Tracking)
    with translated("The run"):
        settle()
        _watch()
        _process.uri = tracking.uri
        return tracking.mlflow.start_run(
            experiment_id=tracking.experiment_id,
            run_name=name,
            nested=tracking.mlflow.active_run() is not None,
            parent_run_id=os.environ.get("NBMLOPS_RUN"),
            tags=owner_tags() | _code_tags(project),
        )


def end(project: Project, status: str) -> Any:
    """End the active run in the store that it began in, and give it as MLflow has it then."""
    mlflow = fluent(_process.uri or project.open(Tracking).uri)
    with translated("The run's end"):
        run_id = mlflow.active_run().info.run_id
        _end(mlflow, status)
        ended = mlflow.get_run(run_id)
    _process.uri = ""
    forget()
    return ended


def settle() -> None:
    """End a run of ours that was left open, as what has happened since it began says.

    FAILED if a cell or the script raised, or ``sys.exit`` was called with another code than
    0; KILLED if it was interrupted; else FINISHED. (``raise SystemExit(1)`` itself passes by
    everything that Python lets one watch: call ``sys.exit``, or end the run.)
    """
    mlflow = sys.modules.get("mlflow")
    active = mlflow.active_run() if mlflow else None
    if active and _process.uri and active.data.tags.get("nbmlops.pid") == str(os.getpid()):
        _end(fluent(_process.uri), _status_of(_process.failure))
    forget()


def failed(error: BaseException) -> None:
    """Take note that a cell, or the script, raised while a run may be open; ``sys.exit(0)`` is no failure."""
    if not (isinstance(error, SystemExit) and error.code in (None, 0)):
        _process.failure = error


def forget() -> None:
    """Begin a new run with no failure."""
    _process.failure = None


def _status_of(failure: BaseException | None) -> str:
    if failure is None:
        return "FINISHED"
    return "KILLED" if isinstance(failure, KeyboardInterrupt) else "FAILED"


def _end(mlflow: Any, status: str) -> None:
    failure = _process.failure
    if failure is not None and status != "FINISHED":  # an end that somebody called FINISHED has no error
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
        process = psutil.Process(int(tags["nbmlops.pid"]))
        is_another = abs(process.create_time() - float(tags["nbmlops.pid_started"])) > 1
        return bool(is_another or process.status() == psutil.STATUS_ZOMBIE)  # ended, and its parent did not look yet
    except psutil.NoSuchProcess:
        return True


def _code_tags(project: Project) -> dict[str, str]:
    commit = git.head(project.folder)
    return {"mlflow.source.git.commit": commit} if commit else {}


def _watch() -> None:
    """Once a process: look at its end and, outside IPython, at the exception or the exit code that ends it."""
    if _process.is_watched:
        return
    _process.is_watched = True
    atexit.register(_settle_at_exit)  # runs before MLflow's own hook, which would call every open run FINISHED
    before, leave = sys.excepthook, sys.exit

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        failed(error)
        before(kind, error, trace)

    def leave_noted(code: str | int | None = None) -> NoReturn:
        failed(SystemExit(code))
        leave(code)

    sys.excepthook = hook
    sys.exit = leave_noted  # no hook of Python's tells the exit code


def _settle_at_exit() -> None:
    try:
        with translated("The run's end"):
            settle()
    except NbmlopsError as exc:  # nobody is left to raise to
        sys.stderr.write(f"{type(exc).__name__}: {exc}\n")
