"""A failed run taken up again at the cell that failed: what may be left out, and why."""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nbmlops.errors import ConflictError, NotFoundError
from nbmlops.pipelines import jobs, planning
from nbmlops.pipelines import notebook as nb
from nbmlops.pipelines.execution.record import Event, events
from nbmlops.pipelines.jobs import Job
from nbmlops.pipelines.planning import Limits, Plan, Resumed
from nbmlops.project import Project
from nbmlops.scrub import MASK

MAY_RESUME = ("FAILED", "KILLED", "WAITING", jobs.LOST)


def failed_job(project: Project, job: str | None) -> Job:
    """Find the job that is meant: by the beginning of its id, else the last that failed.

    Raises
    ------
    NotFoundError
        There is none.
    ConflictError
        It did not fail.
    """
    if job is None:
        found = next((each for each in jobs.newest(project, 200) if each.status in MAY_RESUME), None)
        if found is None:
            raise NotFoundError("No job has failed, so there is nothing to resume.")
        return found
    found = jobs.find(project, job)
    if found.status not in MAY_RESUME:
        raise ConflictError(
            f"Job {found.job} is {found.status}; only what failed is resumed.", f"Run it anew: `run {found.notebook}`"
        )
    return found


def planned(project: Project, job: Job) -> tuple[Plan, str]:
    """Plan the rest of a failed run; give also what will run again and why.

    Raises
    ------
    ConflictError
        A cell or parameter before the failed one has changed since, or a secret was given that is not kept.
    """
    if hidden := [name for name, value in job.given.items() if value == MASK]:
        raise ConflictError(
            f"{', '.join(hidden)} was given to job {job.job} as a secret's own value, which is not kept.",
            f"Give it as a reference: `run {job.notebook} -p {hidden[0]}=env:{hidden[0].upper()}`",
        )
    is_own = job.output and not Path(job.output).is_relative_to(project.state("runs"))
    output = job.output if is_own else None
    plan = planning.planned(project, job.notebook, job.given, output, Limits.read("24h", "6h"))
    folder = jobs.known_folder(project, job.job)
    try:
        heard = list(events(folder / jobs.LOG))
    except OSError:
        return plan, "It runs from its start: the log of the failed run is gone."
    resumed, reason = _kept(job, heard, nb.prepare(plan.content, plan.given), folder / jobs.SNAPSHOT)
    return replace(plan, resumed=resumed), reason


def _kept(job: Job, heard: Sequence[Event], prepared: nb.Prepared, path: Path) -> tuple[Resumed, str]:
    anew = Resumed(-1, job.job)
    taken = next((event for event in reversed(heard) if event["event"] == "snapshot"), None)
    if taken is None:
        why = next((event["reason"] for event in reversed(heard) if event["event"] == "unkept"), "none was due")
        return anew, f"It runs from its start: there is no snapshot of its variables ({why})."
    if _digest(path) != taken["digest"]:
        return anew, "It runs from its start: the snapshot of its variables is not the one that was written."
    after: int = taken["cell"]
    before, now = heard[0]["notebook"]["cells"], prepared.content["cells"]
    _compare(job, before[: after + 1], now[: after + 1], prepared.numbers)
    kept = tuple(event for event in heard if event["event"] in ("cell", "output") and event.get("cell", -1) <= after)
    sources = [nb.source_of(cell) for cell in now[: after + 1] if cell.get("cell_type") == "code"]
    number = prepared.numbers[after] or prepared.numbers[after - 1]
    rest = zip(prepared.numbers[after + 1 :], now[after + 1 :], strict=True)
    first = next((n for n, cell in rest if cell.get("cell_type") == "code"), number)
    reason = f"It goes on at cell {first}, with the variables as they were after cell {number}.{_again(heard)}"
    snapshot = {"digest": taken["digest"], "sources": sources, "path": str(path)}
    return Resumed(after, job.job, snapshot, (*kept, taken)), reason


def _again(heard: Sequence[Event]) -> str:
    """Say why cells before the failed one run again, where there are any."""
    later = list(itertools.takewhile(lambda event: event["event"] != "snapshot", reversed(heard)))
    why = next((event["reason"] for event in later if event["event"] == "unkept"), "")
    return f" There is no later snapshot ({why})." if why else ""


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _compare(job: Job, before: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]], numbers: Sequence[int]) -> None:
    each: Iterator[tuple[Any, Any, Any]] = itertools.zip_longest(numbers[: len(now)], before, now, fillvalue={})
    for number, was, is_ in each:
        if (nb.source_of(was), was.get("cell_type")) != (nb.source_of(is_), is_.get("cell_type")):
            lines = nb.source_of(is_ or was).strip().splitlines()
            named = f": {lines[0]}" if lines else ""
            cell = f"Cell {number}" if number else "A cell"
            raise ConflictError(
                f"{cell} has changed since job {job.job} ran it{named}",
                f"What follows from it would be wrong. Run all anew: `run {job.notebook}`",
            )
