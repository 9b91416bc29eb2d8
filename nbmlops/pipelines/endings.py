"""How a headless run ended: one cause, from which its status, error, exit code, tags and notebook are all made."""

import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbmlops import errors
from nbmlops.errors import CellError, ConflictError, KernelError, NbmlopsError, StoreError
from nbmlops.pipelines import notebook as nb
from nbmlops.pipelines.notebook import Failure
from nbmlops.scrub import scrub_text

if TYPE_CHECKING:
    from nbmlops.pipelines.execution.process import Worker
    from nbmlops.pipelines.execution.record import Record
    from nbmlops.pipelines.planning import Plan

_ANEW = "Run the notebook from its start."
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


@dataclass(frozen=True)
class Ending:
    """How a run ended; `error` is raised for it, `failure` is the same in plain figures and words."""

    status: str  # FINISHED, SKIPPED, FAILED or KILLED
    error: BaseException | None = None
    failure: Failure | None = None
    reason: str = ""

    @property
    def run_status(self) -> str:
        """The status of the MLflow run, which knows no SKIPPED."""
        return "FINISHED" if self.status == "SKIPPED" else self.status

    @property
    def exit_code(self) -> int:
        """The exit code of a command that ends so."""
        if isinstance(self.error, KeyboardInterrupt):
            return 128 + signal.SIGINT
        code = self.error.code if isinstance(self.error, SystemExit) else getattr(self.error, "exit_code", 1)
        return 0 if self.error is None else int(code or 0)

    def spoilt(self, trouble: NbmlopsError | OSError) -> "Ending":
        """Give how it ended with what went wrong afterwards, which never hides what did before."""
        if self.error is not None:
            self.error.add_note(f"and then: {trouble}")
            return self
        error = trouble if isinstance(trouble, NbmlopsError) else _unwritten(trouble)
        return Ending("FAILED", error, Failure("broken", error.message), error.message)

    @property
    def tags(self) -> dict[str, str]:
        """What the run tells of its end as tags."""
        if self.failure is None:
            return {"nbmlops.skipped": self.reason[:500]} if self.status == "SKIPPED" else {}
        cell = {"nbmlops.cell": named(self.failure)} if self.failure.cell is not None else {}
        return {"nbmlops.error": self._told()[:500], "nbmlops.cause": self.failure.cause} | cell

    def _told(self) -> str:
        error = self.error
        said = error.message if isinstance(error, NbmlopsError) else str(error)
        return scrub_text(f"{type(error).__name__}: {said}".rstrip(": "))


def judged(
    record: "Record",
    prepared: nb.Prepared,
    end: dict[str, Any],
    worker: "Worker",
    plan: "Plan",
    output: Path,
    broken: BaseException | None,
) -> Ending:
    """Judge an end, first things first: we were told to end, a limit ended it, a cell failed, its process died."""
    name, hint = plan.notebook.name, f"See the executed notebook: {output}"
    place = _Place(prepared, record, end)
    if broken is not None and not isinstance(broken, Exception):
        cause = "interrupted" if isinstance(broken, KeyboardInterrupt) else "terminated"
        failure = place.failure(cause, f"{name} was {cause} from outside{place.where()}.")
        return Ending("KILLED", broken, failure, failure.message)
    if broken is not None:
        failure = place.failure("broken", f"{name} broke off: {_said(broken)}{place.where()}.")
        return Ending("FAILED", _broken(broken, failure, hint), failure, failure.message)
    if worker.timed_out:
        return _timed_out(worker.timed_out, plan, place, hint)
    if end.get("status") in ("ok", "left"):
        is_skipped = end.get("ename") == "SkipNotebook"
        return Ending("SKIPPED", reason=scrub_text(end["reason"])) if is_skipped else Ending("FINISHED")
    if end.get("status") == "failed":
        return _raised(end, place, name, hint)
    if end.get("status") == "unrestored":
        failure = Failure("broken", f"{name} did not go on: {scrub_text(end['reason'])}")
        return Ending("FAILED", ConflictError(failure.message, _ANEW), failure, failure.message)
    code = worker.gone or 0
    cause = "killed" if code < 0 else "died"
    failure = place.failure(cause, f"{name} broke off: {_death(code)}{place.where()}{place.before()}.")
    status = "KILLED" if code == -signal.SIGTERM else "FAILED"
    return Ending(status, KernelError(failure.message, hint), failure, failure.message)


def named(failure: Failure) -> str:
    """Name the cell that a failure is about.

    Examples
    --------
    >>> named(Failure("raised", "", cell=4, count=3, line="x / 0"))
    'cell 4 [In 3]: x / 0'
    """
    return nb.cell_named(failure.cell or 0, failure.line, failure.count)


@dataclass(frozen=True)
class _Place:
    """The cell that an ending is about: the one that the end names, or the last, where that did not go well."""

    prepared: nb.Prepared
    record: "Record"
    end: dict[str, Any]

    def index(self) -> int | None:
        """Give the cell's index; None between cells."""
        if "cell" in self.end:
            return int(self.end["cell"])
        is_last = self.record.statuses.get(self.record.current) in ("running", "failed")
        return self.record.current if is_last else None

    def failure(self, cause: str, message: str) -> Failure:
        """Word the failure."""
        index = self.index()
        if index is None:
            return Failure(cause, message)
        cell = self.prepared.content["cells"][index]
        return Failure(
            cause,
            message,
            cell=self.prepared.numbers[index],
            count=self.end.get("count"),
            line=nb.shortened(self.end.get("line") or self.prepared.line(index)),
            source=scrub_text(nb.source_of(cell)),
            ename=self.end.get("ename", ""),
            traceback=scrub_text(_COLOURS.sub("", "\n".join(self.end.get("traceback", ())))),
        )

    def before(self) -> str:
        """Give what the process said before the first cell, where it got no further."""
        said = self.record.last_words
        return f": {nb.shortened(said)}" if said and self.record.current < 0 else ""

    def where(self) -> str:
        """Name the cell in brackets; nothing between cells."""
        failure = self.failure("", "")
        return "" if failure.cell is None else f" ({named(failure)})"


def _timed_out(limit: str, plan: "Plan", place: _Place, hint: str) -> Ending:
    what, seconds = (plan.notebook.name, plan.limits.run_s) if limit == "run" else ("A cell", plan.limits.cell_s)
    inside = "" if limit == "run" else f" of {plan.notebook.name}"
    message = f"{what}{inside} ran longer than {seconds:g} s and was ended{place.where()}."
    return Ending("FAILED", KernelError(message, hint), place.failure("timeout", message), message)


def _raised(end: dict[str, Any], place: _Place, name: str, hint: str) -> Ending:
    """Give what a cell raised: an error of ours as itself, with its exit code; any other as CellError."""
    failure = place.failure("exited" if end["ename"] == "SystemExit" else "raised", "")
    cell, ename, reason = named(failure), end["ename"], scrub_text(end["reason"])
    status = "KILLED" if ename == "KeyboardInterrupt" else "FAILED"
    ours = getattr(errors, (end["ours"] or {}).get("type", ""), None)
    error: NbmlopsError
    if isinstance(ours, type) and issubclass(ours, NbmlopsError) and ours is not CellError:
        told = end["ours"]
        error = ours(f"{scrub_text(told['message'])} ({name}, {cell})", scrub_text(told["hint"]) or hint)
        for extra in set(ours.detail_fields) & set(told):
            setattr(error, extra, told[extra])
    else:
        cause = f"{ename}: {reason}".strip(": ")
        error = CellError(f"{name} failed with {cause} ({cell})", hint, cell=cell)
    said = Failure(**{**vars(failure), "message": error.message})
    return Ending(status, error, said, error.message)


def _broken(cause: BaseException, failure: Failure, hint: str) -> NbmlopsError:
    if isinstance(cause, NbmlopsError):
        return cause
    error = (StoreError if isinstance(cause, OSError) else KernelError)(failure.message, hint)
    error.__cause__ = cause
    return error


def _unwritten(cause: OSError) -> StoreError:
    """Word what kept the end of a run from being kept."""
    error = StoreError(f"The end of the run cannot be kept: {cause.strerror or cause}.", "Check the disk.")
    error.__cause__ = cause
    return error


def _said(cause: BaseException) -> str:
    if isinstance(cause, OSError) and cause.strerror:
        return f"what it shows cannot be written ({cause.strerror})"
    return scrub_text(f"{type(cause).__name__}: {cause}")


def _death(code: int) -> str:
    if code == -signal.SIGKILL:
        return "the kernel was killed (SIGKILL), which is what a system out of memory does"
    return (
        f"the kernel was ended by {signal.Signals(-code).name}" if code < 0 else f"the kernel exited with code {code}"
    )
