"""The runs that this process tracks, and their truthful ends.

MLflow's own active runs are the state; here is only what has failed since, in which cell a run began,
and the end that open runs get when another begins, a cell raises, or the process ends.
"""

import atexit
import contextlib
import os
import signal
import sys
import threading
import traceback
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import Any, NoReturn

from nbmlops.errors import NbmlopsError
from nbmlops.project import Project
from nbmlops.scrub import scrub_text
from nbmlops.tracking.mlflow import Tracking, aimed, translated


class TerminatedError(BaseException):
    """The process was told to end."""


@dataclass(frozen=True)
class Cell:
    """The notebook's cell that is being executed."""

    key: str  # its id, or its source where the front end gives none
    count: int
    source: str

    def line(self, error: BaseException) -> str:
        """Name the cell, and in it the line that an error came from."""
        numbers = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if "ipykernel" in frame.filename]
        lines = [line for line in self.source.splitlines() if line.strip()]
        number = numbers[-1] if numbers and numbers[-1] else 1
        all_lines = self.source.splitlines()
        text = all_lines[number - 1] if 0 < number <= len(all_lines) else (lines or [""])[0]
        return f"[In {self.count}], line {number}: {text.strip()}"


@dataclass
class _Process:
    """What this process remembers beside MLflow's active runs."""

    uri: str = ""  # of the store of the run that `track` began
    failure: BaseException | None = None
    where: str = ""  # the cell that the failure came from
    cell: Cell | None = None
    begun_in: dict[str, str] = field(default_factory=dict)  # run id -> the cell that began it
    is_watched: bool = False


_process = _Process()


# ----------------------------------------------------------------- begin and end
def begin(project: Project, name: str | None, *, nested: bool = False, tags: dict[str, str] | None = None) -> Any:
    """Begin a run, after ending the one that was left open; a nested one lies under it instead."""
    tracking = project.open(Tracking)
    with translated("The run"):
        if not nested:
            settle()
        watch()
        _process.uri = tracking.uri
        mlflow = tracking.mlflow
        return mlflow.start_run(
            experiment_id=tracking.experiment_id,
            run_name=name,
            nested=mlflow.active_run() is not None,
            tags={**tracking.context_tags(), **(tags or {})},
        )


def end(project: Project, status: str) -> Any:
    """End the active run in the store that it began in, and give it as MLflow has it then."""
    mlflow = aimed(_process.uri or project.open(Tracking).uri)
    with translated("The run's end"):
        run_id = mlflow.active_run().info.run_id
        _end(mlflow, status)
        ended = mlflow.get_run(run_id)
    if mlflow.active_run() is None:
        _process.uri = ""
    forget()
    return ended


def settle() -> None:
    """End the runs of this process that were left open, as what has happened since they began says.

    FAILED if a cell or the script raised, or ``sys.exit`` was called with another code than
    0; KILLED if it was interrupted or told to end; else FINISHED. (``raise SystemExit(1)`` itself passes
    by everything that Python lets one watch: call ``sys.exit``, or end the run.)
    """
    mlflow = sys.modules.get("mlflow")
    while mlflow and (active := mlflow.active_run()) and _is_ours(active):
        _end(aimed(_process.uri) if _process.uri else mlflow, _status_of(_process.failure))
    _process.uri = ""
    forget()


def failed(error: BaseException) -> None:
    """Take note that a cell, or the script, raised while a run may be open; ``sys.exit(0)`` is no failure."""
    if not (isinstance(error, SystemExit) and error.code in (None, 0)):
        _process.failure = error
        _process.where = _process.cell.line(error) if _process.cell else ""


def forget() -> None:
    """Begin anew, with no failure."""
    _process.failure, _process.where = None, ""


def _is_ours(run: Any) -> bool:
    return bool(run.data.tags.get("nbmlops.pid") == str(os.getpid()))


def _status_of(failure: BaseException | None) -> str:
    if failure is None:
        return "FINISHED"
    return "KILLED" if isinstance(failure, KeyboardInterrupt | TerminatedError) else "FAILED"


def _end(mlflow: Any, status: str) -> None:
    if _process.failure is not None and status != "FINISHED":  # an end that somebody called FINISHED has no error
        mlflow.set_tags(failure_tags(_process.failure))
    mlflow.end_run(status)


def failure_tags(failure: BaseException) -> dict[str, str]:
    """Word the error that ends a run, and the cell that it came from."""
    tags = {"nbmlops.error": scrub_text(f"{type(failure).__name__}: {failure}".rstrip(": "))[:500]}
    return tags | ({"nbmlops.cell": scrub_text(_process.where)[:500]} if _process.where else {})


# ------------------------------------------------------------------------- cells
def cell_begins(info: Any, count: int) -> None:
    """Take note of the cell that begins; executed again, it ends the run that it left open the time before."""
    _process.cell = Cell(info.cell_id or info.raw_cell, count, info.raw_cell)
    mlflow = sys.modules.get("mlflow")
    active = mlflow.active_run() if mlflow else None
    if active and _process.begun_in.get(active.info.run_id) == _process.cell.key:
        _quietly(settle)


def cell_ended(error: BaseException | None) -> None:
    """Take note of how the cell ended; a run that it began, and that it failed in, ends with it."""
    mlflow, cell = sys.modules.get("mlflow"), _process.cell
    active = mlflow.active_run() if mlflow else None
    is_new = bool(active and cell and active.info.run_id not in _process.begun_in)
    if active and cell and is_new:
        _process.begun_in[active.info.run_id] = cell.key
    if error is not None:
        failed(error)
        if active and cell and _process.begun_in.get(active.info.run_id) == cell.key:
            _quietly(settle)
    _process.cell = None


# ------------------------------------------------------------------- the process
def watch() -> None:
    """Once a process: look at its end, at signals and, outside IPython, at what ends it."""
    if _process.is_watched:
        return
    _process.is_watched = True
    atexit.register(_quietly, settle)  # runs before MLflow's own hook, which would call every open run FINISHED
    before, leave = sys.excepthook, sys.exit

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        failed(error)
        before(kind, error, trace)

    def leave_noted(code: str | int | None = None) -> NoReturn:
        failed(SystemExit(code))
        leave(code)

    sys.excepthook = hook
    sys.exit = leave_noted  # no hook of Python's tells the exit code
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminated)


def _terminated(signum: int, _: FrameType | None) -> None:
    """End the open runs KILLED, deliver what can be delivered at once, and die of the signal as was asked."""
    failed(TerminatedError("SIGTERM"))
    _quietly(settle)
    if plugin := sys.modules.get("nbmlops.tracking.plugin"):
        with contextlib.suppress(Exception):
            plugin.close_all(2.0)
    signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)


def _quietly(act: Any) -> None:
    try:
        with translated("The run's end"):
            act()
    except NbmlopsError as exc:  # nobody is left to raise to
        sys.stderr.write(f"{type(exc).__name__}: {exc}\n")
