"""What is known of jobs, and of what will start some: the verbs `jobs` and `logs`."""

import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, ClassVar

from nbmlops.duration import spoken
from nbmlops.errors import NotFoundError, UsageError
from nbmlops.pipelines import jobs as known
from nbmlops.pipelines import logbook
from nbmlops.pipelines.flow import runs
from nbmlops.pipelines.flow.declared import declared
from nbmlops.pipelines.jobs import Job
from nbmlops.pipelines.scheduled import FiringRow, Upcoming, job_name, recent_firings, upcoming
from nbmlops.project import Project
from nbmlops.verb import MACHINE_ONLY, JobRef, Rows, Stream, Text, verb

N_FIRINGS = 10  # that are listed
LOOK_S = 1.0
_GO_ON = (runs.RUNNING, runs.WAITING)


@dataclass(frozen=True)
class JobStep:
    """The newest attempt at a step of a pipeline's job: RUNNING, or how it ended; `began_at` is aware, in UTC.

    PENDING is one that has not begun, because of others: it has no attempt, and None for `began_at`. One that is
    WAITING has its question as `message`.
    """

    noun: ClassVar[str] = "step"

    job: str
    pipeline: str
    step: str
    status: str
    began_at: datetime | None
    duration_s: float
    attempt: int
    message: str = ""
    run_id: str = ""
    kind: str = field(default="step", metadata=MACHINE_ONLY)

    @property
    def headline(self) -> str:
        """How it is, in one line."""
        took = "" if self.status in (*_GO_ON, runs.PENDING) else f" in {spoken(self.duration_s)}"
        again = f", attempt {self.attempt}" if self.attempt > 1 else ""
        return f"{self.pipeline} / {self.step} {self.status}{took}{again}, job {self.job[:8]}"


@dataclass(frozen=True)
class DeclaredPipeline:
    """A pipeline that nothing starts by itself: `run` does; `problem` is why it cannot be, as it is declared."""

    noun: ClassVar[str] = "pipeline"

    name: str
    steps: tuple[str, ...]
    problem: str = ""
    kind: str = field(default="pipeline", metadata=MACHINE_ONLY)  # among the rows of `jobs`

    @property
    def headline(self) -> str:
        """What it is, in one line."""
        return f"pipeline {self.name}: {self.problem or ', '.join(self.steps)}"


Listed = Job | JobStep | Upcoming | DeclaredPipeline | FiringRow


@verb
def jobs(project: Project, *, name: str = "", limit: int = 20, watch: bool = False) -> Rows[Listed] | Stream:
    """List runs, steps, schedules and firings, each with the state that it truly has.

    Jobs stand first, the newest before the others, a running notebook with the
    cell that it is at; behind them the steps of pipelines that go on, also those
    that have not begun, and of the newest one; then what runs by itself, the next
    first; then the pipelines that nothing starts by itself; then the newest firings.

    Parameters
    ----------
    name
        Of one notebook or pipeline alone, a notebook's by its name without ending.
    limit
        How many jobs.
    watch
        Go on showing them as they change, until interrupted.

    Returns
    -------
    Rows of Job, JobStep, Upcoming, DeclaredPipeline and FiringRow
        Each has its `kind`: job, step, schedule, pipeline, firing. A job that is LOST is one whose process is gone
        without a word. With `watch` a Stream of them, about one a second.

    Raises
    ------
    StoreError
        The ledger is out of reach.
    UsageError
        Something asks to watch that could not show it.

    Examples
    --------
    >>> jobs(getfixture("project"))
    ()

    Plain code
    ----------
    import mlflow

    mlflow.set_tracking_uri($tracking)
    runs = mlflow.search_runs(experiment_names=[$experiment], max_results=$limit)
    print(runs[["tags.mlflow.source.name", "status", "start_time"]])
    """
    if not watch:
        return _listed(project, name, limit)
    if project.surface == "rest":
        raise UsageError("An answer over HTTP cannot go on for ever.", "Ask again, without watch.")
    return Stream(_watched(project, name, limit))


@verb
def logs(project: Project, job: JobRef | None = None, *, tail: int = 0, follow: bool = False) -> Text:
    """Show what a job's cells printed, also while it runs.

    Parameters
    ----------
    job
        The job's id, or the beginning of it; the newest without it.
    tail
        Only the last so many lines; 0 for all.
    follow
        Go on showing what comes, until the job has ended.

    Returns
    -------
    Text
        Pictures and tables are named by their kind.

    Raises
    ------
    NotFoundError
        There is no such job, or its log is gone.
    UsageError
        `tail` is below 0, or given with `follow`.

    Examples
    --------
    >>> logs(getfixture("project"))
    Traceback (most recent call last):
    nbmlops.errors.NotFoundError: There are no jobs yet.
      Run a notebook: `run NOTEBOOK`

    Plain code
    ----------
    import nbformat

    for cell in nbformat.read($job, as_version=4).cells:
        for output in cell.get("outputs", ()):
            print(output.get("text", ""))
    """
    if tail < 0 or (tail and follow):
        raise UsageError("--tail is a number of lines from the end, and means nothing with --follow.", "--tail 100")
    found = known.find(project, job) if job else next(iter(known.newest(project, 1)), None)
    if found is None:
        raise NotFoundError("There are no jobs yet.", "Run a notebook: `run NOTEBOOK`")
    folder = known.known_folder(project, found.job)
    path = folder / known.LOG
    if not found.notebook and (steps := sorted(folder.glob("*.log"))):
        told = "\n".join(f"=== {each.stem}\n{each.read_text(errors='replace')}" for each in steps)
        return Text("\n".join(_last(told.split("\n"), tail)))
    if not path.exists():
        raise NotFoundError(f"The log of job {found.job} is gone.", f"Its output notebook: {found.output}")
    if follow:
        logbook.follow(path, project.notify, lambda: known.find(project, found.job).status == known.RUNNING)
        return Text()
    return Text("\n".join(_last(logbook.lines(path), tail)))


# -------------------------------------------------------------------- the parts
def _last(lines: Iterable[str], tail: int) -> Iterable[str]:
    return deque(lines, tail) if tail > 0 else lines


def _watched(project: Project, name: str, limit: int) -> Iterator[Rows[Listed]]:
    while True:
        yield _listed(project, name, limit)
        time.sleep(LOOK_S)


def _listed(project: Project, name: str, limit: int) -> Rows[Listed]:
    found = known.newest(project, limit, name=name)
    schedules = [each for each in upcoming(project) if name in ("", each.name, job_name(each))]
    firings = _firings(project, name, schedules, min(limit, N_FIRINGS))
    shown = [at_its_cell(project, job) for job in found]
    others = [each for each in _by_hand(project, schedules) if name in ("", each.name)]
    return Rows[Listed]((*shown, *steps_of(project, found), *schedules, *others, *firings))


def _by_hand(project: Project, schedules: Sequence[Upcoming]) -> Iterator[DeclaredPipeline]:
    """Give the declared pipelines that are not among what runs by itself."""
    for name in sorted(set(project.settings.pipelines) - {each.name for each in schedules}):
        try:
            yield DeclaredPipeline(name, tuple(step.name for step in declared(project.settings, name).steps))
        except UsageError as exc:
            yield DeclaredPipeline(name, (), exc.message)


def at_its_cell(project: Project, job: Job) -> Job:
    """Add the cell that a notebook runs, or ran when its process was lost."""
    if not job.notebook or job.status not in (known.RUNNING, known.LOST):
        return job
    log = known.known_folder(project, job.job) / known.LOG
    return replace(job, cell=logbook.running_cell(log, was_given=bool(job.given)))


def _firings(project: Project, name: str, schedules: Sequence[Upcoming], limit: int) -> Sequence[FiringRow]:
    if not name:
        return recent_firings(project, limit)
    names = {name, *(each.name for each in schedules)}
    rows = [row for each in names for row in recent_firings(project, limit, name=each)]
    return sorted(rows, key=lambda row: row.due_at, reverse=True)[:limit]


def steps_of(project: Project, found: Sequence[Job]) -> Iterator[JobStep]:
    """Give the steps of pipelines that go on, and of the newest one."""
    from nbmlops.ledger.steps import Steps

    pipelines = [job for job in found if not job.notebook]
    for job in pipelines:
        if job is pipelines[0] or job.status in _GO_ON:
            rows = project.open(Steps).of_job(job.job)
            n_attempts = Counter(row["step"] for row in rows)
            newest = {row["step"]: row for row in rows}
            yield from (_step(job, row, n_attempts[name]) for name, row in newest.items())
            ahead = [name for name in job.steps if name not in newest] if job.status in _GO_ON else []
            yield from (JobStep(job.job, job.name, name, runs.PENDING, None, 0.0, 0) for name in ahead)


def _step(job: Job, row: dict[str, Any], attempt: int) -> JobStep:
    is_asked = row["status"] == runs.WAITING
    is_left = row["status"] == runs.RUNNING != job.status  # by a driver that is gone
    began_at = datetime.fromisoformat(row["began_at"])
    ended_at = datetime.fromisoformat(row["ended_at"]) if row["ended_at"] else datetime.now(UTC)
    return JobStep(
        job=row["job"],
        pipeline=row["pipeline"],
        step=row["step"],
        status=known.LOST if is_left else row["status"],
        began_at=began_at,
        duration_s=round((ended_at - began_at).total_seconds(), 3),
        attempt=attempt,
        message=str(row["record"].get("question", "") if is_asked else row["error"].get("message", "")),
        run_id=row["run_id"],
    )
