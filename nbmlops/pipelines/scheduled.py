"""What a project runs by itself, and when next: read from nbmlops.toml and the ledger; nothing is started here."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any, ClassVar

from nbmlops import secrets
from nbmlops.data.tables import names_a_table
from nbmlops.errors import NbmlopsError, UsageError
from nbmlops.pipelines.flow.edit import STARTING
from nbmlops.pipelines.flow.problems import Notes, refuse
from nbmlops.pipelines.flow.timing import Timing, notebook_schedule, timing_of
from nbmlops.pipelines.schedule import next_firings, parsed
from nbmlops.project import Project, Settings
from nbmlops.verb import MACHINE_ONLY


@dataclass(frozen=True)
class Scheduled:
    """A pipeline or a notebook that runs by itself; `target` is what `run` takes."""

    name: str
    target: str
    timing: Timing
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_pipeline(self) -> bool:
        """Whether it is no notebook."""
        return not self.target.endswith(".ipynb")

    @property
    def clock(self) -> str:
        """Its expression and its zone in one text; empty where only triggers start it."""
        return f"{self.timing.schedule} {self.timing.timezone}" if self.timing.schedule else ""


@dataclass(frozen=True)
class Upcoming:
    """What runs next by itself: `next_at` is aware and in the schedule's zone, None without a clock or while paused."""

    noun: ClassVar[str] = "schedule"

    name: str
    target: str
    next_at: datetime | None
    paused: bool
    schedule: str
    timezone: str = ""
    triggers: tuple[str, ...] = ()
    last: str = ""  # how its newest firing went
    problem: str = ""  # why it never runs, as it is declared
    kind: str = field(default="schedule", metadata=MACHINE_ONLY)  # among the rows of `jobs`

    @property
    def headline(self) -> str:
        """When it runs next, in one line."""
        clock = [f"at {worded(self.next_at)}"] if self.next_at else []
        when = self.problem or " and ".join([*clock, *(f"on {each}" for each in self.triggers)])
        return f"schedule {self.name}: {'paused' if self.paused else when}"

    @staticmethod
    def listed(rows: "Sequence[Upcoming]") -> list[tuple[str, list[Any]]]:
        """Choose the columns of a list; times are shown in their own zone."""
        names = ("name", "target", "schedule", "timezone", "triggers", "paused", "last", "problem")
        columns: list[tuple[str, list[Any]]] = [(name, [getattr(row, name) for row in rows]) for name in names]
        next_ones = [worded(row.next_at) if row.next_at else "" for row in rows]
        return [*columns[:2], ("next", next_ones), *columns[2:]]


@dataclass(frozen=True)
class FiringRow:
    """One firing, as it is listed: `cause` is the clock or a trigger; `due_at` and `ended_at` are aware, in UTC."""

    noun: ClassVar[str] = "firing"

    schedule: str
    due_at: datetime
    cause: str
    state: str
    job: str = ""
    ended_at: datetime | None = None
    exit_code: int | None = None
    reason: str = ""
    kind: str = field(default="firing", metadata=MACHINE_ONLY)  # among the rows of `jobs`

    @property
    def headline(self) -> str:
        """What became of it, in one line."""
        job = f", job {self.job[:8]}" if self.job else ""
        return f"firing of {self.schedule}, {self.cause}, due {self.due_at:%Y-%m-%d %H:%M} UTC: {self.state}{job}"


def declared_in(settings: Settings) -> tuple[dict[str, Scheduled], dict[str, str]]:
    """Read all that runs by itself; give it by name, and by name what is wrong with the rest.

    One that is declared badly hides none of the others.
    """
    found: dict[str, Scheduled] = {}
    wrong: dict[str, str] = {}
    for name, reader in _readers(settings):
        try:
            each = reader(settings, name)
            _refuse_what_cannot_run(each, settings)
            if name in found:
                raise UsageError(f"{settings.where('schedules', name)}: {name} is the name of a pipeline, too.")
            found[name] = each
        except NbmlopsError as exc:
            wrong[name] = exc.message
    return found, wrong


def scheduled(settings: Settings, name: str) -> Scheduled:
    """Find one thing that runs by itself.

    Raises
    ------
    UsageError
        It is declared badly.
    """
    found, wrong = declared_in(settings)
    if name in wrong:
        raise UsageError(wrong[name])
    return found[name]


def upcoming(project: Project) -> tuple[Upcoming, ...]:
    """List what runs by itself, the next first; without a ledger nothing is known to be paused.

    Raises
    ------
    StoreError
        The ledger is out of reach.
    """
    from nbmlops.ledger.schedules import Schedules

    found, wrong = declared_in(project.settings)
    if not found and not wrong:
        return ()
    ledger = project.open(Schedules)
    paused = ledger.paused()
    listed = [_upcoming(each, each.name in paused, _last(ledger, each.name)) for each in found.values()]
    listed += [Upcoming(name, "", None, name in paused, "", problem=why) for name, why in wrong.items()]
    latest = datetime.max.replace(tzinfo=UTC)
    return tuple(sorted(listed, key=lambda each: ((each.next_at or latest).astimezone(UTC), each.name)))


def recent_firings(project: Project, limit: int = 20, *, name: str = "") -> tuple[FiringRow, ...]:
    """List firings, the newest first, of one schedule or of all.

    Raises
    ------
    StoreError
        The ledger is out of reach.
    """
    from nbmlops.ledger.schedules import Schedules

    return tuple(map(_row, project.open(Schedules).newest(limit, schedule=name)))


def _row(firing: Any) -> FiringRow:
    return FiringRow(
        schedule=firing.schedule,
        due_at=firing.due,
        cause="clock" if firing.is_of_clock else firing.occasion.partition("#")[0],
        state=firing.state,
        job=firing.job,
        ended_at=datetime.fromisoformat(firing.ended_at) if firing.ended_at else None,
        exit_code=firing.exit_code,
        reason=firing.reason,
    )


def _last(ledger: Any, name: str) -> str:
    return next((firing.state for firing in ledger.newest(1, schedule=name)), "")


def _upcoming(each: Scheduled, paused: bool, last: str) -> Upcoming:
    timing = each.timing
    is_timed = bool(timing.schedule) and not paused
    times = next_firings(timing.schedule, timing.timezone, datetime.now(UTC), 1) if is_timed else ()
    zone = timing.timezone if timing.schedule else ""
    return Upcoming(each.name, each.target, next(iter(times), None), paused, timing.schedule, zone, timing.on, last)


def worded(moment: datetime) -> str:
    """Word an aware time in its own zone.

    Examples
    --------
    >>> from zoneinfo import ZoneInfo
    >>> worded(datetime(2026, 3, 29, 3, tzinfo=ZoneInfo("Europe/Vienna")))
    'Sun 2026-03-29 03:00 CEST'
    """
    return f"{moment:%a %Y-%m-%d %H:%M %Z}"


# ------------------------------------------------------------------- reading
def _refuse_what_cannot_run(each: Scheduled, settings: Settings) -> None:
    """Refuse an expression that never fires, and triggers that nothing ever pulls, or that pull themselves."""
    if each.timing.schedule:
        parsed(each.timing.schedule)
    for kind, _, name in (trigger.partition(":") for trigger in each.timing.on):
        if kind == "drift" and names_a_table(name) and not each.timing.against:
            raise UsageError(
                f"drift:{name} needs the reference that {name} is measured against.",
                'Add against = "reference.parquet" (--against).',
            )
        if kind == "webhook":
            _refuse_an_open_door(settings)
        if kind == "job" and name == job_name(each):
            raise UsageError(f"{each.name} would start itself: job:{name} is what it is.", "Name another job.")


def _refuse_an_open_door(settings: Settings) -> None:
    """Refuse webhooks without a port, or without a token that is kept elsewhere."""
    token, port = settings.agent.get("token", ""), settings.agent.get("port", 0)
    if not isinstance(secrets.read(token), secrets.Reference):
        raise UsageError("webhook needs a token, as a reference.", 'Add [agent] token = "env:HOOK_TOKEN"')
    if not 1 <= port <= 65535:
        raise UsageError("webhook needs a port from 1 to 65535.", "Add [agent] port = 8377")


def job_name(each: Scheduled | Upcoming) -> str:
    """Name the job that it becomes: a notebook's is the notebook's own."""
    return PurePath(each.target).stem if each.target.endswith(".ipynb") else each.target


def _readers(settings: Settings) -> Iterator[tuple[str, Any]]:
    for name, table in settings.pipelines.items():
        if set(STARTING) & set(table):
            yield name, _pipeline
    for name in settings.schedules:
        yield name, _notebook


def _pipeline(settings: Settings, name: str) -> Scheduled:
    """Read when a pipeline runs; whether its steps are sound is found out when it does."""
    notes = Notes()
    timing = timing_of(settings.pipelines[name], ("pipelines", name), notes)
    refuse(settings, f"Pipeline {name}", notes.problems)
    return Scheduled(name, name, timing)


def _notebook(settings: Settings, name: str) -> Scheduled:
    each = notebook_schedule(settings, name)
    return Scheduled(name, each.notebook, each.timing, each.parameters)
