"""Runs pipelines: each step as soon as what it needs is there, beside each other, until nothing is left to do.

All that must survive is in the ledger: a driver that was killed is started again, plans anew, and finds published what
was done. A step may be executed more than once; its result is published once, by its newest attempt.
"""

import contextlib
import functools
import os
import queue
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from nbmlops.errors import ApprovalError, ConflictError, KernelError, NbmlopsError, UsageError
from nbmlops.pipelines import contract, executors, jobs
from nbmlops.pipelines.attempts import WORTH_A_RETRY
from nbmlops.pipelines.executors import Executor, StepEnd, StepSpec
from nbmlops.pipelines.flow import commands, runs
from nbmlops.pipelines.flow.checks import checked, own_parameters
from nbmlops.pipelines.flow.declared import Step
from nbmlops.pipelines.flow.files import Files, digest_of
from nbmlops.pipelines.flow.ingredients import Known, Published, restored
from nbmlops.pipelines.flow.instances import Instance
from nbmlops.pipelines.flow.plan import PlannedStep, Planning, Selection, context, finished, left_out, planned
from nbmlops.pipelines.flow.runs import PipelineRun, StepRun
from nbmlops.pipelines.warm.place import OFF
from nbmlops.project import Project, actor
from nbmlops.scrub import MASK, scrub
from nbmlops.strict_json import plain
from nbmlops.tracking.owner import owner_tags
from nbmlops.verb import FENCE

if TYPE_CHECKING:
    from nbmlops.ledger.steps import Fence

LOST_MOST = 3  # times that a step is begun anew because its worker was lost; that counts as no retry
CONTINUED = "CONTINUED"  # of a job that waited, and goes on as another
BEAT_S = 60.0  # between two signs of life
_IN_A_NAME = re.compile(r"[^\w.,=-]")


# ------------------------------------------------------------------------- run
def run_pipeline(
    project: Project,
    name: str,
    *,
    parameters: Mapping[str, Any] | None = None,
    only: Sequence[str] = (),
    from_: Sequence[str] = (),
    force: Sequence[str] = (),
    executor: str | Executor = "local",
    due: datetime | None = None,
    is_fresh: bool = False,
    dry_run: bool = False,
    resumed: jobs.Job | None = None,
) -> PipelineRun:
    """Run a declared pipeline.

    Parameters
    ----------
    project
        The project.
    name
        The pipeline, as ``[pipelines.NAME]`` declares it.
    parameters
        Values for its own parameters.
    only, from_, force
        Steps or instances: run only these; run these and what is behind them; run these also where they are unchanged,
        ``*`` for all.
    executor
        Where steps run: a name that `executors.named` knows, or an executor, which stays open.
    due
        When the run is due, aware; now without it.
    is_fresh
        Whether the cells of its notebooks run in processes that have imported nothing before.
    dry_run
        Plan it, and run nothing.
    resumed
        The job that this run goes on with: see `resume_pipeline`.

    Returns
    -------
    PipelineRun
        Every step in the order of running. With status WAITING, it goes on when it is run again after the decision.

    Raises
    ------
    NotFoundError
        There is no such pipeline.
    UsageError
        Its declaration, a parameter or a selection is wrong: found before anything runs.
    ConflictError
        It runs already.
    NbmlopsError
        What the first failed step ended with; ``report`` is the PipelineRun. Steps that do not need it have run.
    """
    began_at = datetime.now(UTC)
    job = "" if dry_run else jobs.new_id()
    selection = Selection(tuple(only), tuple(from_), tuple(force))
    due = due or began_at
    planning = prepared(project, name, parameters or {}, selection, due, job, _before(project, resumed))
    shown = contract.shown(planning.context["parameters"])
    plan = planned(planning)
    if dry_run:
        steps = tuple(StepRun(each.name, each.verdict, each.reason, runs.PLANNED) for each in plan)
        return PipelineRun(name, "", runs.PLANNED, 0.0, due, shown, steps)
    given = {"due": due.isoformat(), "parameters": contract.shown(parameters or {}), "selection": plain(selection)}
    before = resumed.job if resumed else ""
    to_run = [each.name for each in plan if each.verdict == "run"]
    begun = jobs.beginning(job=job, name=name, parameters=shown, given=given, resumed=before, steps=to_run)
    _refuse_while_it_runs(project, name, selection)
    driver = Driver(project, planning, begun, is_fresh, resumed)
    run = driver.run(executor, due, shown)
    if driver.errors:
        raise _first(driver.errors, run)
    return run


def resume_pipeline(project: Project, job: jobs.Job, **options: Any) -> PipelineRun:
    """Go on with a job of a pipeline that failed, was killed or waits: the same run, due when it was due.

    What it had published is not executed again.

    Parameters
    ----------
    project
        The project.
    job
        The job, as `jobs.find` gives it.
    **options
        `executor` and `dry_run` of `run_pipeline`.

    Raises
    ------
    ConflictError
        It runs, has finished, or was given a secret that is not kept.
    """
    if job.status in (jobs.RUNNING, runs.FINISHED, CONTINUED):
        raise ConflictError(f"Job {job.job} of {job.name} cannot go on: it is {job.status}.")
    given = job.given
    if lost := [name for name, value in given["parameters"].items() if value == MASK]:
        hint = f"Run it anew with a reference: `run {job.name} -p {lost[0]}=env:{lost[0].upper()}`"
        raise ConflictError(f"Job {job.job} was given a secret, {lost[0]}, which is not kept.", hint)
    due = datetime.fromisoformat(given["due"])
    selection = {**given["selection"], "force": ()}  # what was forced has run, or is run as it failed
    return run_pipeline(
        project, job.name, parameters=given["parameters"], due=due, resumed=job, **{**selection, **options}
    )


def prepared(
    project: Project,
    name: str,
    parameters: Mapping[str, Any],
    selection: Selection,
    due: datetime,
    job: str = "",
    resumed: Iterable[str] = (),
) -> Planning:
    """Check a pipeline and collect all that its plan depends on."""
    from nbmlops.ledger.steps import Steps
    from nbmlops.tracking.capture import environment

    found = checked(project.settings, name, project.root)
    pipeline = found.pipeline
    values = contract.checked(own_parameters(pipeline), parameters, f"Pipeline {name}")
    files = files_of(project, pipeline.steps)
    return Planning(
        pipeline,
        found.sources,
        known_of(project.open(Steps).published(name), files),
        context(pipeline, due, job, values),
        environment.digest(),
        files.digest,
        selection,
        frozenset(resumed),
    )


def _before(project: Project, job: jobs.Job | None) -> Iterator[str]:
    """Name the job that a run goes on with, and those that this one went on with."""
    while job:
        yield job.job
        job = jobs.find(project, job.resumed) if job.resumed else None


def files_of(project: Project, steps: Sequence[Step]) -> Files:
    """Name the places from which paths of a pipeline's steps are meant."""
    root = project.root.resolve()
    notebooks = [(root / step.target).parent for step in steps if step.kind == "notebook"]
    return Files(tuple(dict.fromkeys([root, *notebooks])))


def known_of(rows: Sequence[Mapping[str, Any]], files: Files) -> Known:
    """Sort what was published; what points to files that are not as they were is known, and no longer used."""
    found = []
    for row in rows:
        ingredients = restored(row["ingredients"]) if row["ingredients"] else None
        published = Published(row["step"], row["key"], row["results"], ingredients, digest_of(row["files"]), row["job"])
        found.append((published, row["files"]))
    known = Known.of(published for published, _ in found)
    held = {published.key: published for published, kept in found if files.still(kept)}
    return replace(known, by_key=held)


def _refuse_while_it_runs(project: Project, name: str, selection: Selection) -> None:
    """Refuse a second run beside one that goes on, unless neither touches the steps of the other."""
    from nbmlops.ledger.jobs import Jobs

    for row in project.open(Jobs).newest(name=name, status=jobs.RUNNING):
        job = jobs.find(project, row["id"])
        other = Selection(**job.given.get("selection", {}))
        if job.status == jobs.RUNNING and not _are_apart(selection, other):
            raise ConflictError(
                f"{name} runs already, as job {job.job}.", f"Wait for it, or end it: `cancel {job.job}`"
            )


def _are_apart(one: Selection, other: Selection) -> bool:
    """Tell whether both are of named steps alone, and share none: what they publish is published step by step."""
    if one.from_ or other.from_ or not (one.only and other.only):
        return False
    return {name.partition("[")[0] for name in one.only}.isdisjoint(name.partition("[")[0] for name in other.only)


@contextlib.contextmanager
def _opened(executor: str | Executor) -> Iterator[Executor]:
    """Give an executor for as long as a block lasts; one that was given stays open."""
    if not isinstance(executor, str):
        yield executor
        return
    place = executors.named(executor)
    try:
        yield place
    finally:
        place.close()


def _told(name: str, error: NbmlopsError) -> str:
    """Word a step's error, which may name its step already."""
    return f"Step {name}: {error.message.removeprefix(f'Step {name}: ')}"


def _first(errors: Mapping[str, NbmlopsError], run: PipelineRun) -> NbmlopsError:
    """Give the error that a run ends with: the first, told with its step."""
    (name, error), *others = errors.items()
    also = f" ({len(others)} more failed)" if others else ""
    error.message = f"{_told(name, error)}{also}"
    error.args = (error.message,)
    error.report = run  # type: ignore[attr-defined]
    return error


# ---------------------------------------------------------------------- driver
@dataclass
class Attempt:
    """A step that runs, or is about to; it has its fence and the time of its beginning once it has begun."""

    instance: Instance
    planned: PlannedStep
    fence: "Fence"
    number: int = 1
    n_lost: int = 0
    began: float = 0.0


@dataclass
class Driver:
    """One run of a pipeline, as far as it is."""

    project: Project
    planning: Planning
    job: jobs.Job
    is_fresh: bool = False
    resumed: jobs.Job | None = None
    executor: Executor = field(init=False)
    errors: dict[str, NbmlopsError] = field(default_factory=dict)
    settled: dict[str, PlannedStep] = field(default_factory=dict)
    rows: dict[str, StepRun] = field(default_factory=dict)
    running: dict[str, Attempt] = field(default_factory=dict)
    later: list[tuple[float, Attempt]] = field(default_factory=list)

    def __post_init__(self) -> None:
        from nbmlops.ledger.steps import Steps

        self.steps: Steps = self.project.open(Steps)
        self.files = files_of(self.project, self.planning.pipeline.steps)
        self.waiting = list(self.planning.instances)
        self.ended: queue.SimpleQueue[tuple[Attempt, Future[StepEnd]]] = queue.SimpleQueue()
        self.folder = jobs.folder_of(self.project, self.job.job)
        self.environment = {**_environment(self.project), **({OFF: "off"} if self.is_fresh else {})}
        self.beat = time.monotonic() + BEAT_S

    def run(self, executor: str | Executor, due: datetime, shown: Mapping[str, Any]) -> PipelineRun:
        """Run until nothing is left; once others know the job it has its end, whatever that is."""
        started = time.monotonic()
        ended = replace(self.job, status=runs.KILLED)
        try:
            self.keep()
            with _opened(executor) as self.executor:
                self.work()
            ended = replace(self.job, status=self.status)
        except NbmlopsError as exc:
            ended = replace(self.job, status=runs.FAILED, message=exc.message, exit_code=exc.exit_code)
            raise
        finally:
            for name, error in list(self.errors.items())[:1]:  # of a run that was killed after that, too
                ended = replace(ended, message=_told(name, error), exit_code=error.exit_code)
            seconds = round(time.monotonic() - started, 3)
            jobs.put(self.project, replace(ended, duration_s=seconds))
        steps = tuple(self.rows[each.name] for each in self.planning.instances)
        return PipelineRun(self.planning.pipeline.name, self.job.job, ended.status, seconds, due, shown, steps)

    def keep(self) -> None:
        """Keep the job, and that the one it goes on from waits no more."""
        jobs.put(self.project, self.job)
        if self.resumed and self.resumed.status == runs.WAITING:
            message = f"It goes on as job {self.job.job}."
            jobs.put(self.project, replace(self.resumed, status=CONTINUED, message=message))

    def work(self) -> None:
        """Run steps until nothing is left of them."""
        try:
            self.advance()
            while self.running or self.later:
                self.listen()
                self.advance()
        except BaseException:
            self.abandon()
            raise

    @property
    def status(self) -> str:
        """The status of the whole."""
        statuses = {row.status for row in self.rows.values()}
        if self.errors:
            return runs.FAILED
        return runs.WAITING if runs.WAITING in statuses else runs.FINISHED

    # ----------------------------------------------------------------- forward
    def advance(self) -> None:
        """Settle or begin every instance whose needs are settled; they stand behind what they need."""
        left: list[Instance] = []
        ready: list[Attempt] = []
        for instance in self.waiting:
            needs = [name for need in instance.step.needs for name in self.planning.instance_names[need]]
            if held := [name for name in needs if name in self.rows and name not in self.settled]:
                self.hold(instance, held[0])
            elif all(name in self.settled for name in needs):
                ready += self.begin(instance)
            else:
                left.append(instance)
        self.waiting = left
        self.start(ready)

    def hold(self, instance: Instance, need: str) -> None:
        """Leave out an instance: what it needs failed, or waits."""
        how = {runs.WAITING: "waits for an approval", runs.PENDING: "is not reached"}
        reason = f"needs {need}, which {how.get(self.rows[need].status, 'failed')}"
        self.rows[instance.name] = StepRun(instance.name, "run", reason, runs.PENDING)

    def begin(self, instance: Instance) -> Iterator[Attempt]:
        """Plan an instance with what is known now, and do what that says; gives it where it is to be run."""
        from nbmlops.ledger.steps import Fence

        try:
            step = self.planning.step(instance, self.settled)
        except UsageError as exc:  # a result lacks what this one refers to
            self.fail(instance.name, StepRun(instance.name, "run", "", runs.FAILED), exc)
            return
        if step.verdict == "run":
            attempt = Attempt(instance, step, Fence(self.planning.pipeline.name, step.name, self.job.job, 0))
            if instance.step.kind == "approval":
                self.ask(attempt)
            else:
                yield attempt
            return
        self.expect_no_more(step.name)
        status = runs.CACHED if step.verdict == "cached" else runs.SKIPPED
        results = step.published.results if step.published else {}
        run_id = str(results.get("run_id", "")) if instance.step.kind == "notebook" else ""
        self.settle(step, StepRun(step.name, step.verdict, step.reason, status, run_id=run_id, results=results))

    def expect_no_more(self, name: str) -> None:
        """Take back that an instance is still to run."""
        if name in self.job.steps:
            self.job = replace(self.job, steps=[each for each in self.job.steps if each != name])
            jobs.put(self.project, self.job)

    def start(self, attempts: Sequence[Attempt]) -> None:
        """Begin attempts at steps: from now on no earlier ones can publish."""
        if not attempts:
            return
        keys = {attempt.planned.name: attempt.planned.key for attempt in attempts}
        fences = self.steps.claim_all(self.planning.pipeline.name, keys, job=self.job.job)
        for attempt, fence in zip(attempts, fences, strict=True):
            begun = replace(attempt, fence=fence, began=time.monotonic())
            self.running[fence.step] = begun
            again = f", attempt {attempt.number}" if attempt.number > 1 else ""
            self.project.notify(f"{fence.step}  runs{again}: {attempt.planned.reason}")
            future = self.executor.submit(self.spec(begun))
            future.add_done_callback(functools.partial(self._hear, begun))

    def _hear(self, attempt: Attempt, future: "Future[StepEnd]") -> None:
        self.ended.put((attempt, future))

    def spec(self, attempt: Attempt) -> StepSpec:
        """Word an attempt as an executor takes it."""
        step, name = attempt.instance.step, attempt.planned.name
        outer = os.environ.get(FENCE, "")
        return StepSpec(
            name=name,
            command=commands.command(step, attempt.planned),
            folder=str(self.project.root),
            environment={**self.environment, FENCE: f"{outer} {attempt.fence}".strip()},
            parameters=commands.parameters(step, attempt.planned),
            log=str(self.folder / f"{_IN_A_NAME.sub('_', name)[:150]}.log"),
            timeout_s=commands.limit_s(step),
            resources=commands.resources(step),
        )

    def ask(self, attempt: Attempt) -> None:
        """Put the question of an approval, unless it was answered with no."""
        from nbmlops.ledger import steps as ledger

        pipeline, step = self.planning.pipeline.name, attempt.planned
        row = StepRun(step.name, step.verdict, step.reason, runs.WAITING, message=step.words[0])
        latest = self.steps.latest(pipeline, step.name)
        is_rejected = latest is not None and latest["status"] == ledger.REJECTED and latest["key"] == step.key
        if latest is not None and is_rejected and step.name not in self.planning.forced:
            no = ApprovalError(
                f"{latest['error'].get('by')} said no: {step.words[0]}",
                f"Ask again: `run {pipeline} --force {attempt.instance.step.name}`",
                rule="approval",
            )
            self.fail(step.name, replace(row, status=runs.FAILED), no)
            return
        record = {"question": step.words[0], "ingredients": plain(step.ingredients)}
        self.steps.claim(
            pipeline, step.name, job=self.job.job, key=step.key, status=ledger.WAITING, record=scrub(record)
        )
        self.project.notify(f"{step.name}  waits for an approval: {step.words[0]}")
        self.rows[step.name] = row

    # -------------------------------------------------------------------- ends
    def listen(self) -> None:
        """Wait until a step has ended or is to be tried again, and take all that has."""
        now = time.monotonic()
        if now > self.beat:
            self.beat = now + BEAT_S
            self.job = replace(self.job, owner=owner_tags())
            jobs.put(self.project, self.job)
        self.start(self._due(now))
        soon = min([self.beat, *(at for at, _ in self.later)])
        for attempt, future in self._ended(max(0.0, soon - now)):
            del self.running[attempt.planned.name]
            self.take(attempt, future)

    def _due(self, now: float) -> list[Attempt]:
        found = [attempt for at, attempt in self.later if at <= now]
        self.later = [(at, attempt) for at, attempt in self.later if at > now]
        return found

    def _ended(self, timeout_s: float) -> Iterator[tuple[Attempt, "Future[StepEnd]"]]:
        try:
            yield self.ended.get(timeout=timeout_s)
            while True:
                yield self.ended.get_nowait()
        except queue.Empty:
            return

    def take(self, attempt: Attempt, future: "Future[StepEnd]") -> None:
        """Take the end of an attempt."""
        try:
            outcome = commands.outcome(attempt.instance.step, future.result())
        except Exception as exc:  # noqa: BLE001  # whatever the engine says: the worker is lost, the step is not
            self.lose(attempt, exc)
            return
        try:
            if outcome.error:
                self.refuse(attempt, outcome.error)
            elif outcome.skipped:
                self.leave_out(attempt, outcome.skipped)
            else:
                self.publish(attempt, outcome.results)
        except ConflictError as exc:
            self.fail(attempt.planned.name, self.row(attempt, runs.STALE), exc)

    def publish(self, attempt: Attempt, results: Mapping[str, Any]) -> None:
        """Publish what a step gives, and settle it."""
        from nbmlops.ledger.steps import Publication

        step = attempt.planned
        is_notebook = attempt.instance.step.kind == "notebook"
        told = scrub(plain(results))
        own = {name: value for name, value in told.items() if not (is_notebook and name == "output")}
        kept = plain(self.files.kept(own))
        run_id = str(told.get("run_id", "")) if is_notebook else ""
        self.steps.publish(attempt.fence, Publication(step.key, told, plain(step.ingredients), kept, run_id))
        published = Published(step.name, step.key, told, step.ingredients, digest_of(kept))
        row = replace(self.row(attempt, runs.FINISHED), run_id=run_id, results=told)
        self.settle(finished(step, published), row)

    def leave_out(self, attempt: Attempt, reason: str) -> None:
        """Settle a step that said itself that there is nothing to do."""
        self.steps.end(attempt.fence, runs.SKIPPED, error={"message": reason})
        self.settle(left_out(attempt.planned, reason), replace(self.row(attempt, runs.SKIPPED), reason=reason))

    def refuse(self, attempt: Attempt, error: NbmlopsError) -> None:
        """Take an error: try again where that may help, doubling the wait."""
        step = attempt.instance.step
        self.steps.end(attempt.fence, runs.FAILED, error=scrub(plain(error.details())))
        if attempt.number > step.retries or not isinstance(error, WORTH_A_RETRY):
            self.fail(attempt.planned.name, self.row(attempt, runs.FAILED), error)
            return
        wait_s = step.backoff_s * 2 ** (attempt.number - 1)
        self.project.notify(f"{attempt.planned.name}  failed, and is tried again: {error.message}")
        self.later.append((time.monotonic() + wait_s, replace(attempt, number=attempt.number + 1)))

    def lose(self, attempt: Attempt, cause: Exception) -> None:
        """Begin a step anew whose worker was lost: nothing is known of it, and it can publish nothing any more."""
        name, said = attempt.planned.name, (str(cause) or type(cause).__name__).splitlines()[0][:200].rstrip(".")
        if attempt.n_lost == LOST_MOST:
            lost = KernelError(f"Its worker was lost {LOST_MOST + 1} times, the last time so: {said}.")
            self.refuse(attempt, lost)
            return
        self.project.notify(f"{name}  is begun anew, for its worker was lost: {said}")
        self.later.append((time.monotonic(), replace(attempt, n_lost=attempt.n_lost + 1)))

    def settle(self, step: PlannedStep, row: StepRun) -> None:
        """Keep what became of an instance, so that those behind it can go on."""
        self.settled[step.name] = step
        self.rows[step.name] = row
        self.project.notify(
            f"{step.name}  {row.status}{f' in {row.seconds:.1f} s' if row.attempts else f': {row.reason}'}"
        )

    def fail(self, name: str, row: StepRun, error: NbmlopsError) -> None:
        """Keep why an instance failed; those that do not need it go on."""
        self.expect_no_more(name)
        self.errors[name] = error
        self.rows[name] = replace(row, message=error.message)
        self.project.notify(f"{name}  {row.status}: {error.message}")

    def row(self, attempt: Attempt, status: str) -> StepRun:
        """Word an attempt that has ended."""
        step = attempt.planned
        seconds = round(time.monotonic() - attempt.began, 3)
        return StepRun(step.name, step.verdict, step.reason, status, seconds, attempts=attempt.number)

    def abandon(self) -> None:
        """End what is running: this process was told to end, or something went wrong in it."""
        for attempt in self.running.values():
            try:
                self.steps.end(attempt.fence, runs.KILLED)
            except NbmlopsError:  # stale, or the ledger is out of reach: it can publish nothing either way
                continue


def _environment(project: Project) -> dict[str, str]:
    """Give the variables that a step's process needs, wherever it runs, to mean the same project and stores."""
    settings = project.settings
    stores = {"NBMLOPS_TRACKING": settings.tracking, "NBMLOPS_LEDGER": settings.ledger}
    given = {name: setting.value for name, setting in stores.items() if setting.source == "argument"}
    return {"NBMLOPS_PROJECT": str(project.root), "NBMLOPS_USER": actor(), **given}
