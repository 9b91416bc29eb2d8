"""One headless run of a notebook, from its plan to its end in MLflow, in the ledger and on disk."""

import contextlib
import functools
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nbmlops import secrets
from nbmlops.errors import NbmlopsError
from nbmlops.ledger.database import Ledger
from nbmlops.pipelines import contract, endings, jobs
from nbmlops.pipelines import mlflow as record
from nbmlops.pipelines import notebook as nb
from nbmlops.pipelines.execution import guard
from nbmlops.pipelines.execution.bounded import Bounded
from nbmlops.pipelines.execution.masked import Masked
from nbmlops.pipelines.execution.process import Worker, ending_in_order, undisturbed
from nbmlops.pipelines.execution.record import Log, Record, partial_of, write
from nbmlops.pipelines.page import Pages
from nbmlops.pipelines.planning import Plan
from nbmlops.project import Project, actor
from nbmlops.scrub import masking
from nbmlops.tracking import journal
from nbmlops.tracking.capture import facts, ipython
from nbmlops.tracking.capture.source import Executed, cells_of, executions_in
from nbmlops.tracking.mlflow import Tracking
from nbmlops.tracking.owner import owner_tags


@dataclass(frozen=True)
class Outcome:
    """How a run ended, and the error that stands for it where it did not end well."""

    run: nb.NotebookRun
    error: BaseException | None = None


@dataclass(frozen=True)
class Begun:
    """A run that MLflow knows, its job, and where its output notebook will appear."""

    tracking: Tracking
    run: record.Begun
    job: jobs.Job
    output: Path
    folder: Path
    moment: facts.Moment

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.run.run_id


@dataclass
class Trace:
    """What has been heard of the cells so far; progress goes on as lines."""

    project: Project
    prepared: nb.Prepared
    record: Record
    log: Log
    masked: Masked = field(default_factory=Masked)
    bounded: Bounded = field(default_factory=Bounded)
    end: dict[str, Any] = field(default_factory=dict)

    def follow(self, events: Iterator[dict[str, Any]]) -> None:
        """Take every event: into the log first, and without secrets."""
        for event in events:
            for masked in self.masked.of(event):
                for each in self.bounded.of(masked):
                    self.take(each)

    def take(self, event: dict[str, Any]) -> None:
        """Take one event."""
        self.log.append(event)
        self.record.take(event)
        if event["event"] == "end":
            self.end = event
        elif event["event"] == "cell" and event["status"] != "running":
            index, total = event["cell"], max(self.prepared.numbers, default=0)
            if number := self.prepared.numbers[index]:
                line = f"cell {number}/{total}  {self.prepared.line(index)}  {event['seconds']:.1f} s"
                self.project.notify(line)

    def timings(self) -> tuple[nb.CellTiming, ...]:
        """Say how every code cell of the source went."""
        cells = self.prepared.content["cells"]
        return tuple(
            nb.CellTiming(number, self.prepared.line(index), round(self.record.seconds.get(index, 0.0), 3), status)
            for index, number in enumerate(self.prepared.numbers)
            if number and cells[index].get("cell_type") == "code"
            for status in [_TOLD.get(self.record.statuses.get(index, ""), "pending")]
        )


def execute(project: Project, plan: Plan) -> Outcome:
    """Execute a plan as an MLflow run; its output notebook appears whole, also when a cell failed."""
    started = time.monotonic()
    prepared = nb.prepare(plan.content, plan.given, keeps_injected=plan.keeps_injected)
    folder = jobs.folder_of(project, plan.job)
    project.open(Ledger).close()  # until it is used again: a process that is forked must share no connection
    with (
        ending_in_order(),
        contextlib.ExitStack() as always,
        _output(project, plan) as output,
        Worker(is_fresh=plan.is_fresh or prepared.sets_environment) as worker,
    ):
        with nb.writing(folder / jobs.LOG):  # before there is a run, which would be left open
            log = always.enter_context(Log(folder / jobs.LOG, prepared.content, output))
        worker.keep(log.path)
        worker.preload(prepared.imports())
        trace = Trace(project, prepared, Record(prepared.content), log)
        hidden = [secrets.resolved(each, plan.notebook.parent) for each in contract.references(plan.given)]
        begun = _begin(project, plan, output, folder)
        worker.beat = functools.partial(jobs.renew, project, begun.job)
        pages = always.enter_context(Pages())
        with masking(hidden + contract.secret_values(plan.effective)):
            broken = _heard(begun, plan, _job(project, plan, begun, prepared), trace, worker)
        always.enter_context(undisturbed())
        ending = endings.judged(trace.record, prepared, trace.end, worker, plan, output, broken)
        ending = _finish(project, begun, plan, trace, ending, worker, pages)
    run = nb.NotebookRun(
        notebook=_named(project, plan.notebook),
        output=str(output),
        run_id=begun.run_id,
        status=ending.status,
        duration_s=round(time.monotonic() - started, 3),
        parameters=plan.shown(),
        cells=trace.timings(),
        job=plan.job,
        results=jobs.told_in(folder),
        reason=ending.reason,
        failure=ending.failure,
    )
    _keep(project, begun, run, ending)
    return Outcome(run, ending.error)


@contextlib.contextmanager
def _output(project: Project, plan: Plan) -> Iterator[Path]:
    """Give the output's path, which is this run's alone for as long as it lasts."""
    if plan.output is None:
        name = f"{plan.notebook.stem}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{plan.job[:8]}.ipynb"
        yield project.state("runs", name)
    else:
        with jobs.only_writer(project, plan.output):
            yield plan.output


def _begin(project: Project, plan: Plan, output: Path, folder: Path) -> Begun:
    tracking = project.open(Tracking)
    moment = facts.begin(plan.notebook.parent)
    run = record.begin(tracking, plan.notebook.stem, plan.shown(), _tags(project, plan))
    job = jobs.beginning(
        job=plan.job,
        name=plan.notebook.stem,
        run_id=run.run_id,
        output=str(output),
        notebook=_named(project, plan.notebook),
        parameters=plan.shown(),
        given=contract.shown(plan.given),
        resumed=plan.resumed.job,
    )
    return Begun(tracking, run, job, output, folder, moment)


def _heard(begun: Begun, plan: Plan, job: dict[str, Any], trace: Trace, worker: Worker) -> BaseException | None:
    """Have the cells run, and hear of them; give what broke that off from our side.

    From here on others know the job, and may have us told to end.
    """
    try:
        jobs.put(trace.project, begun.job)
        if plan.resumed.snapshot:  # it may be gone on from there once more
            shutil.copyfile(job["snapshot"]["path"], job["snapshot"]["keep"])
        for event in plan.resumed.events:  # of the cells that need not run again
            trace.log.append(event)
            trace.record.take(event)
        trace.follow(worker.execute(job, plan.limits.run_s, plan.limits.cell_s))
    except BaseException as exc:  # noqa: BLE001  # the run's end tells of it, and it is raised again then
        _stop(trace, worker)
        return exc
    return None


def _stop(trace: Trace, worker: Worker) -> None:
    """End the cells in order; at once when their log cannot be written, or who told us to end has no patience."""
    try:
        trace.follow(worker.stop())
    except (OSError, KeyboardInterrupt, SystemExit):
        with undisturbed():
            for _ in worker.stop(guard.KILL):
                pass


def _job(project: Project, plan: Plan, begun: Begun, prepared: nb.Prepared) -> dict[str, Any]:
    """Word the job of the process that runs the cells."""
    return {
        "folder": str(plan.notebook.parent),
        "kernel": nb.kernel_of(plan.content),
        "cells": [cell for cell in prepared.to_run() if cell["index"] > plan.resumed.after],
        "snapshot": {
            "keep": str(begun.folder / jobs.SNAPSHOT),
            "references": {name: each for name, each in plan.given.items() if isinstance(each, secrets.Reference)},
            **plan.resumed.snapshot,
        },
        "profile": str(begun.folder) if plan.is_profiled else "",
        "environment": {
            **prepared.environment,
            "NBMLOPS_PROJECT": str(project.root),
            "NBMLOPS_RUN": begun.run_id,
            jobs.RESULTS: str(begun.folder / jobs.RESULTS_FILE),
            journal.ABOVE: begun.run_id if begun.run.is_offline else "",
            ipython.NOTEBOOK: str(plan.notebook),
            "MLFLOW_TRACKING_URI": begun.tracking.uri,
            "MLFLOW_REGISTRY_URI": begun.tracking.uri,
            "MLFLOW_EXPERIMENT_NAME": begun.tracking.experiment,
        },
    }


def _tags(project: Project, plan: Plan) -> dict[str, str]:
    source = facts.source_tags(project.root, str(plan.notebook))
    resumed = {"nbmlops.resumed": plan.resumed.job} if plan.resumed.job else {}
    return source | owner_tags() | {"mlflow.user": actor(), "nbmlops.job": plan.job} | resumed


def _named(project: Project, notebook: Path) -> str:
    return str(notebook.relative_to(project.root) if notebook.is_relative_to(project.root) else notebook)


# ------------------------------------------------------------------------------ ends
def _finish(
    project: Project, begun: Begun, plan: Plan, trace: Trace, ending: endings.Ending, worker: Worker, pages: Pages
) -> endings.Ending:
    """Give the run and its output notebook their end; what fails meanwhile never hides why the notebook failed.

    Gives how the whole ended.
    """
    made: list[Path] = []
    try:
        content = _settle(begun, plan, trace, ending)
        worker.done()
        page = pages.made(begun.output, begun.folder / f"{begun.output.stem}.html")
        profile = [begun.folder / "profile.pstats", begun.folder / "profile.txt"]
        made = [begun.output, *([page] if page else []), *(each for each in profile if each.exists())]
        executed = Executed(str(plan.notebook), executions_in(content), cells_of(trace.prepared.content))
        record.keep(begun.tracking, begun.run, begun.moment, executed)
    except (NbmlopsError, OSError) as exc:
        ending = ending.spoilt(exc)
    try:
        is_told = record.deliver(project, begun.tracking, is_last=False)
        record.end(begun.tracking, begun.run, ending.run_status, ending.tags, made, below=is_told)
        record.deliver(project, begun.tracking, is_last=True)
    except (NbmlopsError, OSError) as exc:
        ending = ending.spoilt(exc)
    return ending


def _settle(begun: Begun, plan: Plan, trace: Trace, ending: endings.Ending) -> nb.Content:
    """Write the output notebook, true also where the process of the cells died."""
    content = trace.record.settled(ending.reason)
    notes = content["metadata"].setdefault("papermill", {})
    notes |= {
        "input_path": str(plan.notebook),
        "output_path": str(begun.output),
        "exception": ending.error is not None,
        "duration": round(sum(trace.record.seconds.values()), 6),
    }
    if ending.failure:
        content = {**content, "cells": [nb.banner(ending.failure, plan.content), *content["cells"]]}
    with nb.writing(begun.output):
        write(content, begun.output)
        partial_of(begun.output).unlink(missing_ok=True)  # of an earlier run whose process was killed
    return content


def _keep(project: Project, begun: Begun, run: nb.NotebookRun, ending: endings.Ending) -> None:
    """Keep the job's end; a ledger that is away hides nothing that went wrong before."""
    cell = endings.named(run.failure) if run.failure and run.failure.cell is not None else ""
    job = replace(begun.job, status=run.status, duration_s=run.duration_s, cell=cell)
    job = replace(job, message=run.reason, exit_code=ending.exit_code)
    try:
        jobs.put(project, job)
    except NbmlopsError as exc:
        if ending.error is None:
            raise
        ending.spoilt(exc)


_TOLD = {"ok": "ok", "kept": "ok", "failed": "failed", "running": "failed"}
