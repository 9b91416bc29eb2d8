"""One headless run of a notebook, from its plan to its end in MLflow and on disk."""

import contextlib
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nbmlops.errors import NbmlopsError
from nbmlops.pipelines import endings
from nbmlops.pipelines import mlflow as record
from nbmlops.pipelines import notebook as nb
from nbmlops.pipelines.contract import shown
from nbmlops.pipelines.execution.process import Worker, ending_in_order
from nbmlops.pipelines.execution.record import Log, Record, write
from nbmlops.pipelines.jobs import RESULTS, only_writer, told_results
from nbmlops.project import Project, actor
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
    timeout_s: float | None = None
    cell_timeout_s: float | None = None
    job: str = field(default_factory=lambda: uuid.uuid4().hex[:12])


@dataclass(frozen=True)
class Outcome:
    """How a run ended, and the error that stands for it where it did not end well."""

    run: nb.NotebookRun
    error: BaseException | None = None


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


@dataclass
class Trace:
    """What has been heard of the cells so far; progress goes on as lines."""

    project: Project
    prepared: nb.Prepared
    record: Record
    log: Log
    end: dict[str, Any] = field(default_factory=dict)

    def follow(self, events: Iterator[dict[str, Any]]) -> None:
        """Take every event: into the log first."""
        total = max(self.prepared.numbers, default=0)
        for event in events:
            self.log.append(event)
            self.record.take(event)
            if event["event"] == "end":
                self.end = event
            elif event["event"] == "cell" and event["status"] != "running":
                index = event["cell"]
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
    prepared = nb.prepare(plan.content, plan.given)
    folder = project.state("jobs", plan.job, "x").parent
    with ending_in_order(), _output(project, plan) as output, Worker() as worker:
        worker.keep(folder / "log.jsonl")
        begun = _begin(project, plan, output)
        log = Log(folder / "log.jsonl", prepared.content, output)
        trace = Trace(project, prepared, Record(prepared.content), log)
        broken: BaseException | None = None
        try:
            job = _job(project, plan, begun, prepared, folder)
            trace.follow(worker.execute(job, plan.timeout_s, plan.cell_timeout_s))
        except BaseException as exc:  # noqa: BLE001  # the run's end tells of it, and it is raised again then
            broken = exc
            with contextlib.suppress(OSError):  # of a full disk, say: it is what broke off
                trace.follow(worker.stop())
        ending = endings.judged(trace.record, prepared, trace.end, worker, plan, output, broken)
        run = nb.NotebookRun(
            notebook=_named(project, plan.notebook),
            output=str(output),
            run_id=begun.run_id,
            status=ending.status,
            duration_s=0.0,
            parameters=shown(plan.effective),
            job=plan.job,
            reason=ending.reason,
            failure=ending.failure,
        )
        error = _finish(project, begun, plan, trace, ending)
        log.close()
    run = replace(
        run,
        status="FAILED" if error and ending.error is None else run.status,
        duration_s=round(time.monotonic() - started, 3),
        cells=trace.timings(),
        results=told_results(folder),
    )
    return Outcome(run, error)


@contextlib.contextmanager
def _output(project: Project, plan: Plan) -> Iterator[Path]:
    """Give the output's path, which is this run's alone for as long as it lasts."""
    if plan.output is None:
        name = f"{plan.notebook.stem}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{plan.job[:8]}.ipynb"
        yield project.state("runs", name)
    else:
        with only_writer(project, plan.output):
            yield plan.output


def _begin(project: Project, plan: Plan, output: Path) -> Begun:
    tracking = project.open(Tracking)
    moment = facts.begin(plan.notebook.parent)
    run = record.begin(tracking, plan.notebook.stem, shown(plan.effective), _tags(project, plan))
    return Begun(tracking, run, output, moment)


def _job(project: Project, plan: Plan, begun: Begun, prepared: nb.Prepared, folder: Path) -> dict[str, Any]:
    """Word the job of the process that runs the cells."""
    return {
        "folder": str(plan.notebook.parent),
        "kernel": nb.kernel_of(plan.content),
        "cells": prepared.to_run(),
        "environment": {
            **prepared.environment,
            "NBMLOPS_PROJECT": str(project.root),
            "NBMLOPS_RUN": begun.run_id,
            RESULTS: str(folder / "results.jsonl"),
            journal.ABOVE: begun.run_id if begun.run.is_offline else "",
            ipython.NOTEBOOK: str(plan.notebook),
            "MLFLOW_TRACKING_URI": begun.tracking.uri,
            "MLFLOW_REGISTRY_URI": begun.tracking.uri,
            "MLFLOW_EXPERIMENT_NAME": begun.tracking.experiment,
        },
    }


def _tags(project: Project, plan: Plan) -> dict[str, str]:
    source = facts.source_tags(project.root, str(plan.notebook))
    return source | owner_tags() | {"mlflow.user": actor(), "nbmlops.job": plan.job}


def _named(project: Project, notebook: Path) -> str:
    return str(notebook.relative_to(project.root) if notebook.is_relative_to(project.root) else notebook)


def _finish(
    project: Project, begun: Begun, plan: Plan, trace: Trace, ending: endings.Ending
) -> BaseException | None:
    """Give the run and its output notebook their end; what fails meanwhile never hides why the notebook failed.

    Gives the error that the whole ends with.
    """
    error, status = ending.error, ending.run_status
    output: Path | None = begun.output
    troubles: list[NbmlopsError] = []
    try:
        content = _settle(begun, plan, trace, ending)
        executed = Executed(str(plan.notebook), executions_in(content), cells_of(trace.prepared.content))
        record.keep(begun.tracking, begun.run_id, begun.moment, executed)
    except NbmlopsError as exc:
        troubles.append(exc)
        output = begun.output if begun.output.exists() else None
        status = "FAILED" if error is None else status
    try:
        is_told = record.deliver(project, begun.tracking)
        record.end(begun.tracking, begun.run_id, status, ending.tags, output, below=is_told)
        record.deliver(project, begun.tracking)
    except NbmlopsError as exc:
        troubles.append(exc)
    for trouble in troubles:
        if error is None:
            error = trouble
        else:
            error.add_note(f"and then: {trouble}")
    return error


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
        content["cells"].insert(0, nb.banner(ending.failure, plan.content))
    with nb.writing(begun.output):
        write(content, begun.output)
    return content


_TOLD = {"ok": "ok", "kept": "ok", "failed": "failed", "running": "failed"}
