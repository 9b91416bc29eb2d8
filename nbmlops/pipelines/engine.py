"""One headless run of a notebook, from its plan to its end in MLflow and on disk."""

import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nbmlops import errors
from nbmlops.errors import CellError, KernelError, NbmlopsError
from nbmlops.pipelines import mlflow as record
from nbmlops.pipelines import notebook as nb
from nbmlops.pipelines.contract import shown
from nbmlops.pipelines.process import Executor, ending_in_order
from nbmlops.project import Project, actor
from nbmlops.scrub import scrub_text
from nbmlops.tracking import journal
from nbmlops.tracking.capture import facts, ipython
from nbmlops.tracking.capture.source import Executed, cells_of, executions_in
from nbmlops.tracking.mlflow import Tracking
from nbmlops.tracking.owner import owner_tags


@dataclass(frozen=True)
class Plan:
    """A run that has been checked: nothing has happened yet."""

    notebook: Path
    content: nb.Content
    given: Mapping[str, Any]
    effective: Mapping[str, Any]
    output: Path | None
    timeout_s: float | None


@dataclass
class Trace:
    """What the executing process reported so far; cells by their index in the executed notebook."""

    prepared: nb.Prepared
    current: int = -1
    cells: dict[int, tuple[str, float]] = field(default_factory=dict)
    end: dict[str, Any] = field(default_factory=dict)

    def follow(self, events: Iterator[dict[str, Any]]) -> Iterator[str]:
        """Take note of every event; give a line of progress for each cell that ended."""
        total = max(self.prepared.numbers, default=0)
        for event in events:
            if event["event"] == "end":
                self.end = event
            elif event["status"] == "started":
                self.current = event["cell"]
            else:
                self.current = event["cell"]
                self.cells[self.current] = (event["status"], event["seconds"])
                if number := self.prepared.numbers[self.current]:
                    yield f"cell {number}/{total}  {self.prepared.line(self.current)}  {event['seconds']:.1f} s"

    def timings(self) -> tuple[nb.CellTiming, ...]:
        """Say how every code cell of the source went."""
        return tuple(
            nb.CellTiming(number, self.prepared.line(index), round(seconds, 3), status)
            for index, number in enumerate(self.prepared.numbers)
            if number and self.prepared.content["cells"][index].get("cell_type") == "code"
            for status, seconds in [self.cells.get(index, ("pending", 0.0))]
        )

    @property
    def is_running(self) -> bool:
        """Whether a cell has begun that has not ended."""
        return self.current >= 0 and self.current not in self.cells

    def cell(self) -> str:
        """Name the cell that the end concerns; empty between cells."""
        if "cell" not in self.end and not self.is_running:
            return ""
        index = self.end.get("cell", self.current)
        count = self.end.get("count")
        name = f"cell {number}" if (number := self.prepared.numbers[index]) else "the cell of given parameters"
        return f"{name}{f' [In {count}]' if count else ''}: {self.prepared.line(index)}"


@dataclass(frozen=True)
class Begun:
    """A run that MLflow knows, and where its output notebook will appear."""

    tracking: Tracking
    run: record.Begun
    output: Path
    moment: facts.Moment

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.run.run_id

    @property
    def draft(self) -> Path:
        """The file that is executed in place, and then gets the output's name."""
        return self.output.with_name(f".{self.output.stem}.{self.run_id[:8]}.ipynb")


def execute(project: Project, plan: Plan) -> nb.NotebookRun:
    """Execute a plan as an MLflow run; its output notebook appears whole, also when a cell failed."""
    started = time.monotonic()
    trace = Trace(nb.prepare(plan.content, plan.given))
    with ending_in_order(), Executor() as executor:
        begun = _begin(project, plan)
        failure: BaseException | None = None
        try:
            nb.write(trace.prepared.content, begun.draft)
            job = _job(project, plan, begun, trace.prepared)
            for line in trace.follow(executor.execute(job, plan.timeout_s)):
                project.notify(line)
            failure = _failure(trace, executor, plan, begun.output)
        except BaseException as exc:  # noqa: BLE001  # raised again below, when the run has its end
            executor.stop()
            failure = exc
        _finish(project, begun, plan, trace, failure)
    if failure:
        raise failure
    return nb.NotebookRun(
        notebook=_named(project, plan.notebook),
        output=str(begun.output),
        run_id=begun.run_id,
        status="FINISHED",
        duration_s=round(time.monotonic() - started, 3),
        parameters=shown(plan.effective),
        cells=trace.timings(),
    )


def _begin(project: Project, plan: Plan) -> Begun:
    tracking = project.open(Tracking)
    moment = facts.begin(plan.notebook.parent)
    run = record.begin(tracking, plan.notebook.stem, shown(plan.effective), _tags(project, plan.notebook))
    name = f"{plan.notebook.stem}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{run.run_id[:8]}.ipynb"
    return Begun(tracking, run, plan.output or project.state("runs", name), moment)


def _job(project: Project, plan: Plan, begun: Begun, prepared: nb.Prepared) -> dict[str, Any]:
    """Word the job of the executing process; the environment is the kernel's."""
    return {
        "draft": str(begun.draft),
        "folder": str(plan.notebook.parent),
        "kernel": plan.content.get("metadata", {}).get("kernelspec", {}).get("name", ""),
        "environment": {
            **prepared.environment,
            "NBMLOPS_PROJECT": str(project.root),
            "NBMLOPS_RUN": begun.run_id,
            journal.ABOVE: begun.run_id if begun.run.is_offline else "",
            ipython.NOTEBOOK: str(plan.notebook),
            "MLFLOW_TRACKING_URI": begun.tracking.uri,
            "MLFLOW_REGISTRY_URI": begun.tracking.uri,
            "MLFLOW_EXPERIMENT_NAME": begun.tracking.experiment,
        },
    }


def _tags(project: Project, notebook: Path) -> dict[str, str]:
    return facts.source_tags(project.root, str(notebook)) | owner_tags() | {"mlflow.user": actor()}


def _named(project: Project, notebook: Path) -> str:
    return str(notebook.relative_to(project.root) if notebook.is_relative_to(project.root) else notebook)


# ------------------------------------------------------------------ how it ended
def _failure(trace: Trace, executor: Executor, plan: Plan, output: Path) -> NbmlopsError | None:
    """Turn the end that was reported into the error it stands for."""
    status = trace.end.get("status")
    if status == "ok":
        return None
    hint = f"See the executed notebook: {output}"
    where = f" ({cell})" if (cell := trace.cell()) else ""
    if executor.has_timed_out:
        return KernelError(f"{plan.notebook.name} ran longer than {plan.timeout_s:g} s and was ended{where}.", hint)
    if status == "failed":
        return _cell_error(trace, plan.notebook.name, hint)
    reason = trace.end.get("reason") or f"the executing process ended early: {executor.last_words() or 'silently'}"
    return KernelError(f"{plan.notebook.name} broke off: {scrub_text(reason)}{where}.", hint)


def _cell_error(trace: Trace, name: str, hint: str) -> NbmlopsError:
    """Give what a cell raised: an error of ours as itself, with its exit code; any other as CellError."""
    ename, reason = trace.end["ename"], scrub_text(trace.end["reason"])
    ours = getattr(errors, ename, None) if trace.end["is_ours"] else None
    if isinstance(ours, type) and issubclass(ours, NbmlopsError) and ours is not CellError:
        message, _, own_hint = reason.partition("\n  ")
        return ours(f"{message} ({name}, {trace.cell()})", own_hint or hint)
    cause = f"{ename}: {reason}".strip(": ")
    return CellError(f"{name} failed with {cause} ({trace.cell()})", hint, cell=trace.cell())


def _finish(project: Project, begun: Begun, plan: Plan, trace: Trace, failure: BaseException | None) -> None:
    """Give the run and its output notebook their end; what fails meanwhile never hides why the notebook failed."""
    tags = {} if failure is None else _failure_tags(failure, trace)
    status = _status(failure, trace)
    output: Path | None = begun.output
    troubles: list[NbmlopsError] = []
    try:
        content = _settle(begun, plan, trace, failure)
        record.keep(begun.tracking, begun.run_id, begun.moment, _executed(plan, trace, content))
    except NbmlopsError as exc:
        troubles.append(exc)
        output = begun.output if begun.output.exists() else None
        status = "FAILED" if failure is None else status
    try:
        is_told = record.deliver(project, begun.tracking)
        record.end(begun.tracking, begun.run_id, status, tags, output, below=is_told)
        record.deliver(project, begun.tracking)
    except NbmlopsError as exc:
        troubles.append(exc)
    for trouble in troubles:
        if failure is None:
            raise trouble
        failure.add_note(f"and then: {trouble}")


def _status(failure: BaseException | None, trace: Trace) -> str:
    """Judge the end: KILLED when somebody interrupted or ended this process or the kernel."""
    if failure is None:
        return "FINISHED"
    was_told = trace.end.get("ename") == "KeyboardInterrupt" or trace.end.get("code") == -signal.SIGTERM
    return "KILLED" if was_told or not isinstance(failure, Exception) else "FAILED"


def _failure_tags(failure: BaseException, trace: Trace) -> dict[str, str]:
    said = failure.message if isinstance(failure, NbmlopsError) else str(failure)
    error = scrub_text(f"{type(failure).__name__}: {said}".rstrip(": "))
    return {"nbmlops.error": error[:500]} | ({"nbmlops.cell": cell} if (cell := trace.cell()) else {})


def _executed(plan: Plan, trace: Trace, content: nb.Content) -> Executed:
    """Tell what the kernel executed, from the output notebook."""
    return Executed(str(plan.notebook), executions_in(content), cells_of(trace.prepared.content))


def _settle(begun: Begun, plan: Plan, trace: Trace, failure: BaseException | None) -> nb.Content:
    """Make the output notebook out of the draft, true also where the kernel or its process died."""
    try:
        content = nb.read(begun.draft)
    except NbmlopsError:  # killed in the middle of writing it: what was meant to run is known
        content = trace.prepared.content
    if failure is not None and trace.end.get("status") not in ("ok", "failed"):
        reason = str(failure).partition("\n")[0] or type(failure).__name__
        content = nb.broken_off(content, trace.current, trace.is_running, reason)
    notes = content.setdefault("metadata", {}).setdefault("papermill", {})
    notes |= {"input_path": str(plan.notebook), "output_path": str(begun.output)}
    nb.write(content, begun.output, begun.draft)
    return content
