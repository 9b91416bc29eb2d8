"""A failed run taken up again at the cell that failed: what may be left out, and why."""

from collections.abc import Sequence
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

MAY_RESUME = ("FAILED", "KILLED", jobs.LOST)


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
    resumed, reason = _kept(job, heard, nb.prepare(plan.content, plan.given))
    if resumed.after >= 0:
        snapshot = {**resumed.snapshot, "path": str(folder / jobs.SNAPSHOT)}
        resumed = Resumed(resumed.after, job.job, snapshot, resumed.events)
    return Plan(**{**vars(plan), "resumed": Resumed(-1, job.job) if resumed.after < 0 else resumed}), reason


def _kept(job: Job, heard: Sequence[Event], prepared: nb.Prepared) -> tuple[Resumed, str]:
    taken = next((event for event in reversed(heard) if event["event"] == "snapshot"), None)
    if taken is None:
        why = next((event["reason"] for event in reversed(heard) if event["event"] == "unkept"), "none was due")
        return Resumed(), f"It runs from its start: there is no snapshot of its variables ({why})."
    after: int = taken["cell"]
    before, now = heard[0]["notebook"]["cells"], prepared.content["cells"]
    _compare(job, before, now, after)
    kept = tuple(event for event in heard if event["event"] in ("cell", "output") and event.get("cell", -1) <= after)
    sources = [nb.source_of(cell) for cell in now[: after + 1] if cell.get("cell_type") == "code"]
    number = prepared.numbers[after] or prepared.numbers[after - 1]
    first = next((n for n in prepared.numbers[after + 1 :] if n), number)
    again = f" Cells {number + 1} to {first} run again: there is no snapshot after them." if first > number + 1 else ""
    reason = f"It goes on at cell {first}, with the variables as they were after cell {number}.{again}"
    return Resumed(after, job.job, {"digest": taken["digest"], "sources": sources}, kept), reason


def _compare(job: Job, before: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]], after: int) -> None:
    for index in range(after + 1):
        was, is_ = (cells[index] if index < len(cells) else {} for cells in (before, now))
        if (nb.source_of(was), was.get("cell_type")) != (nb.source_of(is_), is_.get("cell_type")):
            lines = nb.source_of(is_ or was).strip().splitlines()
            named = f": {lines[0]}" if lines else ""
            raise ConflictError(
                f"Cell {index + 1} has changed since job {job.job} ran it{named}",
                f"What follows from it would be wrong. Run all anew: `run {job.notebook}`",
            )
