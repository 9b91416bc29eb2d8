"""The runs that this process tracks, and their truthful ends.

MLflow's own active runs are the state; here is only what has failed since, in which cell each run began,
and the end that open runs get when another begins, a cell raises, or the process ends.
"""

import atexit
import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from nbmlops.errors import NbmlopsError
from nbmlops.scrub import scrub_text
from nbmlops.tracking import plugin

if TYPE_CHECKING:
    from nbmlops.project import Project

_CELLS = ("ipykernel_", "<ipython-input")  # what the file names of cells have in them


class TerminatedError(BaseException):
    """The process was told to end."""


@dataclass(frozen=True)
class Cell:
    """The notebook's cell that is being executed."""

    key: str  # its id, or its source where the front end gives none
    count: int
    source: str

    def line(self, error: BaseException) -> str:
        """Name the cell, and in it the line that an error came from.

        The body of a cell magic is compiled without the magic's own line.
        """
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_in_cell(frame)]
        bodies = [frame for frame in frames if "run_cell_magic(" not in (frame.line or "")]
        lines = self.source.splitlines()
        number = bodies[0].lineno if bodies else None
        if number and len(bodies) < len(frames):
            number += 1
        if number is None or number > len(lines):
            return f"[In {self.count}]: {next((line for line in lines if line.strip()), '').strip()}"
        return f"[In {self.count}], line {number}: {lines[number - 1].strip()}"


def _is_in_cell(frame: traceback.FrameSummary) -> bool:
    return any(mark in frame.filename for mark in _CELLS)


@dataclass(frozen=True)
class Failure:
    """What a cell, or the script, raised, and where."""

    error: BaseException
    where: str = ""

    @property
    def status(self) -> str:
        """The end of a run in which this happened."""
        return "KILLED" if isinstance(self.error, KeyboardInterrupt | TerminatedError) else "FAILED"

    @property
    def tags(self) -> dict[str, str]:
        """The error, and the cell that it came from, as tags."""
        told = scrub_text(f"{type(self.error).__name__}: {self.error}".rstrip(": "))[:500]
        return {"nbmlops.error": told} | ({"nbmlops.cell": scrub_text(self.where)[:500]} if self.where else {})


@dataclass
class _Process:
    """What this process remembers beside MLflow's active runs."""

    uri: str = ""  # of the store of the run that `track` began
    failures: dict[str, Failure] = field(default_factory=dict)  # since the run began, by cell; the last one tells
    cell: Cell | None = None
    begun_in: dict[str, str] = field(default_factory=dict)  # run id -> the cell that began it
    is_watched: bool = False
    has_handler: bool = False
    shell: Any = None  # whose cells are followed


_process = _Process()


# ----------------------------------------------------------------- begin and end
def begin(project: "Project", name: str | None, *, nested: bool = False, tags: dict[str, str] | None = None) -> Any:
    """Begin a run, after ending the one that was left open; a nested one lies under it instead."""
    from nbmlops.tracking.mlflow import Tracking, translated

    tracking = project.open(Tracking)
    with translated("The run"):
        if not nested:
            settle()
        watch()
        if os.environ.get("MLFLOW_RUN_ID") == os.environ.get("NBMLOPS_RUN"):  # a run under that one, not that one
            os.environ.pop("MLFLOW_RUN_ID", None)
        _process.uri = tracking.uri
        mlflow = tracking.mlflow
        run = mlflow.start_run(
            experiment_id=tracking.experiment_id,
            run_name=name,
            nested=mlflow.active_run() is not None,
            tags={**tracking.context_tags(), **(tags or {})},
        )
    began(run.info.run_id)
    return run


def end(project: "Project", status: str) -> Any:
    """End the active run in the store that it began in, and give it as MLflow has it then."""
    from nbmlops.tracking.mlflow import Tracking, aimed, translated

    mlflow = aimed(_process.uri or project.open(Tracking).uri)
    with translated("The run's end"):
        run_id = mlflow.active_run().info.run_id
        _end(mlflow, status)
        ended = mlflow.get_run(run_id)
    _forget_if_none_is_open(mlflow)
    return ended


def settle(begun_in: str | None = None) -> None:
    """End the runs of this process that were left open, as what has happened since they began says.

    FAILED if a cell or the script raised, or ``sys.exit`` was called with another code than
    0; KILLED if it was interrupted or told to end; else FINISHED. (``raise SystemExit(1)`` itself passes
    by everything that Python lets one watch: call ``sys.exit``, or end the run.) A cell's key limits
    it to the runs that began in that cell and have no other open under them.
    """
    mlflow = sys.modules.get("mlflow")
    while mlflow and (active := mlflow.active_run()) and _is_ours(active):
        if begun_in is not None and _process.begun_in.get(active.info.run_id) != begun_in:
            return
        failure = _failure()
        _end(_aimed(mlflow), failure.status if failure else "FINISHED")
    _forget_if_none_is_open(mlflow)


def began(run_id: str) -> None:
    """Take note of a run that has begun, and of the cell it began in; what failed before it is not its failure."""
    mlflow = sys.modules["mlflow"]
    active = mlflow.active_run()
    if active is None or active.info.run_id == run_id:
        forget()
    _process.begun_in[run_id] = _process.cell.key if _process.cell else ""


def failed(error: BaseException) -> None:
    """Take note that a cell, or the script, raised while a run may be open; ``sys.exit(0)`` is no failure."""
    if not is_leaving(error):
        cell = _process.cell
        _process.failures.pop(cell.key if cell else "", None)  # the last one stands last
        _process.failures[cell.key if cell else ""] = Failure(error, cell.line(error) if cell else "")


def is_leaving(error: BaseException) -> bool:
    """Say whether an error is a program's way to end in order."""
    return isinstance(error, SystemExit) and error.code in (None, 0)


def forget() -> None:
    """Begin anew, with no failure."""
    _process.failures.clear()


def tell(change: dict[str, Any]) -> dict[str, str]:
    """Make an end that a run is given while an exception passes truthful; give the tags that tell why.

    At the end of ``with mlflow.start_run():`` MLflow says FAILED, whatever the exception is.
    """
    error = sys.exception()
    if error is None or change.get("status") != "FAILED":
        return {}
    if is_leaving(error):
        change["status"] = "FINISHED"
        return {}
    failure = Failure(error, _process.cell.line(error) if _process.cell else "")
    change["status"] = failure.status
    return failure.tags


def _failure() -> Failure | None:
    return next(reversed(_process.failures.values()), None)


def _aimed(mlflow: Any) -> Any:
    from nbmlops.tracking.mlflow import aimed

    return aimed(_process.uri) if _process.uri else mlflow


def _is_ours(run: Any) -> bool:
    return bool(run.data.tags.get("nbmlops.pid") == str(os.getpid()))


def _end(mlflow: Any, status: str) -> None:
    failure = _failure()
    if failure and status != "FINISHED":  # an end that somebody called FINISHED has no error
        mlflow.set_tags(failure.tags)
    mlflow.end_run(status)


def _forget_if_none_is_open(mlflow: Any) -> None:
    if mlflow is None or mlflow.active_run() is None:
        _process.uri = ""
        _process.begun_in.clear()
        forget()


# ------------------------------------------------------------------------- cells
def follow(shell: Any) -> None:
    """Follow a shell's cells from now on: what a run keeps of them, and the end that a failing one gives it."""
    from nbmlops.tracking.capture import ipython

    if _process.shell is shell:
        return
    if _process.shell:
        leave(_process.shell)
    recorder = ipython.record(shell)
    _process.shell = shell
    shell.events.register("pre_run_cell", cell_begins)
    shell.events.register("post_run_cell", cell_ended)
    running = recorder.executions[-1:]
    if running and running[0].status == "running":  # the very cell that loads this: its end tells its id
        _process.cell = Cell("", running[0].number, running[0].source)


def leave(shell: Any) -> None:
    """Follow a shell's cells no more."""
    from nbmlops.tracking.capture import ipython

    if _process.shell is shell:
        for event, follower in (("pre_run_cell", cell_begins), ("post_run_cell", cell_ended)):
            with contextlib.suppress(ValueError):
                shell.events.unregister(event, follower)
        _process.shell = _process.cell = None
    ipython.stop(shell)


def cell_begins(info: Any) -> None:
    """Take note of the cell that begins; executed again, it ends the runs that it left open the time before."""
    if info.store_history and not info.silent:  # others are a front end's own
        cell = _process.cell = Cell(info.cell_id or info.raw_cell, _process.shell.execution_count - 1, info.raw_cell)
        _quietly(lambda: settle(begun_in=cell.key))


def cell_ended(result: Any) -> None:
    """Take note of how the cell ended; runs that it began, and that it failed in, end with it."""
    cell, info = _process.cell, result.info
    if cell is None or info is None:
        return
    if not cell.key:
        cell = _process.cell = Cell(info.cell_id or info.raw_cell, cell.count, info.raw_cell)
        _process.begun_in.update({run_id: cell.key for run_id, key in _process.begun_in.items() if not key})
    error = result.error_in_exec or result.error_before_exec
    if error is None:
        _process.failures.pop(cell.key, None)  # it failed before, and was mended
    else:
        failed(error)
        if not is_leaving(error):
            _quietly(lambda: settle(begun_in=cell.key))
    _process.cell = None


# ------------------------------------------------------------------- the process
def watch() -> None:
    """Look at this process' cells, signals and end; again it does what could not be done before."""
    _handle_sigterm()
    ipython = sys.modules.get("IPython")
    if shell := ipython.get_ipython() if ipython else None:
        follow(shell)
    if _process.is_watched:
        return
    _process.is_watched = True
    atexit.register(_quietly, settle)  # runs before MLflow's own hook, which would call every open run FINISHED
    before, leave_process = sys.excepthook, sys.exit

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        failed(error)
        before(kind, error, trace)

    def leave_noted(code: str | int | None = None) -> NoReturn:
        failed(SystemExit(code))
        leave_process(code)

    sys.excepthook = hook
    sys.exit = leave_noted  # no hook of Python's tells the exit code


def _handle_sigterm() -> None:
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and not _process.has_handler and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        _process.has_handler = True
        signal.signal(signal.SIGTERM, _terminated)


def _terminated(signum: int, _: FrameType | None) -> None:
    """End the open runs KILLED, deliver what can be delivered at once, and die of the signal as was asked."""
    try:
        failed(TerminatedError("SIGTERM"))
        _quietly(settle)
        plugin.close_all(patience_s=2.0)
    finally:
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)


def _quietly(act: Callable[[], None]) -> None:
    """Do what nobody is left to be told of by raising."""
    if "mlflow" not in sys.modules:  # so no run is open
        return
    from nbmlops.tracking.mlflow import translated

    try:
        with translated("The run's end"):
            act()
    except NbmlopsError as exc:
        sys.stderr.write(f"{type(exc).__name__}: {exc}\n")
