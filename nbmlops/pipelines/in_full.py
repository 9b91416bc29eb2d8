"""One job with its parts: a notebook's cells, a pipeline's steps, each with its state and how long it took."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbmlops.pipelines import jobs, logbook
from nbmlops.pipelines.jobs import Job
from nbmlops.pipelines.notebook import CellTiming
from nbmlops.pipelines.reading import JobStep, at_its_cell, steps_of
from nbmlops.project import Project

_ABOUT_A_CELL = b'{"event":"cell",'


@dataclass(frozen=True)
class JobInFull(Job):
    """A job, the cells of its notebook (ok, failed, running or pending), and the newest attempt at each of its steps.

    The cells are those that this machine's log tells of; what waits for a person tells its question as `message`.
    """

    cells: tuple[CellTiming, ...] = ()
    attempts: tuple[JobStep, ...] = ()


def job_in_full(project: Project, job: Job) -> JobInFull:
    """Add its parts to a job."""
    found = at_its_cell(project, job)
    log = jobs.known_folder(project, job.job) / jobs.LOG
    cells = tuple(_cells(log, found)) if job.notebook else ()
    return JobInFull(**vars(found), cells=cells, attempts=tuple(steps_of(project, [found])))


def _cells(log: Path, job: Job) -> Iterator[CellTiming]:
    """Read how each code cell went from a log, as far as it goes; one that never ended has failed with its process."""
    states = {"kept": "ok"} if job.status == jobs.RUNNING else {"kept": "ok", "running": "failed"}
    with contextlib.suppress(OSError, ValueError), log.open("rb") as file:
        cells: list[dict[str, Any]] = json.loads(file.readline())["notebook"]["cells"]
        newest = {event["cell"]: event for event in map(json.loads, _whole(file))}
        for index, cell in enumerate(cells):
            if cell.get("cell_type") == "code":
                event = newest.get(index, {"status": "pending"})
                number, line = logbook.numbered(cells, index, was_given=bool(job.given))
                status = states.get(event["status"], event["status"])
                yield CellTiming(number, line, round(event.get("seconds", 0.0), 3), status)


def _whole(lines: Iterator[bytes]) -> Iterator[bytes]:
    return (line for line in lines if line.startswith(_ABOUT_A_CELL) and line.endswith(b"\n"))
