"""When a pipeline or a notebook runs by itself, as nbmlops.toml declares it; no clock is read here."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nbmlops.duration import duration_s
from nbmlops.errors import NotFoundError, UsageError, nearest
from nbmlops.pipelines.flow.problems import Notes, Place, refuse
from nbmlops.project import Settings

CATCHUP = ("one", "all", "none")
OVERLAP = ("skip", "queue")
TRIGGERS = ("drift", "file", "data", "webhook", "alias", "job")  # webhook alone names nothing
PERIODS_S = {"hour": 3600.0, "day": 86400.0, "week": 7 * 86400.0, "month": 30 * 86400.0}


@dataclass(frozen=True)
class Budget:
    """How many runs triggers may start in a period."""

    n: int
    per: str

    @property
    def period_s(self) -> float:
        """The period's length; a month has 30 days."""
        return PERIODS_S[self.per]


@dataclass(frozen=True)
class Timing:
    """When something runs by itself: at what times, at which triggers, and how often at most."""

    schedule: str = ""
    timezone: str = "UTC"
    on: tuple[str, ...] = ()
    cooldown_s: float = 0.0
    budget: Budget | None = None
    catchup: str = "one"
    overlap: str = "skip"
    against: str = ""  # the reference of drift triggers


@dataclass(frozen=True)
class NotebookSchedule:
    """A notebook that runs by itself: ``[schedules.NAME]``."""

    name: str
    notebook: str
    timing: Timing
    parameters: Mapping[str, Any] = field(default_factory=dict)


def notebook_schedule(settings: Settings, name: str) -> NotebookSchedule:
    """Read the schedule of a notebook as nbmlops.toml declares it.

    Raises
    ------
    NotFoundError
        There is no such schedule; the hint names the nearest.
    UsageError
        Its declaration is wrong; one error lists every problem with its line.
    """
    table = table_of(settings.schedules, "schedule", name)
    place = ("schedules", name)
    notes = Notes()
    notes.name(place, "a schedule's name", name)
    notebook = table.get("notebook", "")
    if not notebook.endswith(".ipynb"):
        notes.add((*place, "notebook"), "it needs the path of a notebook.", 'Add notebook = "notebooks/NAME.ipynb"')
    timing = timing_of(table, place, notes)
    if not timing.schedule and not timing.on:
        notes.add(place, "it never runs: it has neither schedule nor on.", 'Add schedule = "30 2 * * *"')
    refuse(settings, f"Schedule {name}", notes.problems)
    return NotebookSchedule(name, notebook, timing, table.get("parameters", {}))


def table_of(tables: Mapping[str, Mapping[str, Any]], noun: str, name: str) -> Mapping[str, Any]:
    """Find what is declared under a name; the error's hint names the nearest."""
    if name in tables:
        return tables[name]
    hint = nearest(name, tables) or f"Declare it in nbmlops.toml: [{noun}s.{name}]"
    raise NotFoundError(f"nbmlops.toml has no {noun} {name!r}.", hint)


def timing_of(table: Mapping[str, Any], place: Place, notes: Notes) -> Timing:
    """Read when something runs; note what is wrong with it."""
    timing = Timing(
        schedule=table.get("schedule", ""),
        timezone=table.get("timezone", "UTC"),
        on=tuple(table.get("on", ())),
        cooldown_s=duration_of(table, "cooldown", place, notes),
        budget=notes.take((*place, "budget"), None, _budget, table),
        catchup=table.get("catchup", "one"),
        overlap=table.get("overlap", "skip"),
        against=table.get("against", ""),
    )
    notes.one_of((*place, "catchup"), timing.catchup, CATCHUP)
    notes.one_of((*place, "overlap"), timing.overlap, OVERLAP)
    notes.take((*place, "timezone"), None, check_zone, timing.timezone)
    for trigger in timing.on:
        notes.take((*place, "on"), None, check_trigger, trigger)
    if "catchup" in table and not timing.schedule:
        notes.add((*place, "catchup"), "catchup is of a schedule, and there is none.")
    for key in ("cooldown", "budget"):
        if key in table and not timing.on:
            notes.add((*place, key), f"{key} is of triggers, and there are none: on is empty.")
    return timing


def _budget(table: Mapping[str, Any]) -> Budget | None:
    return budget(table["budget"]) if "budget" in table else None


def budget(text: str) -> Budget:
    """Read how many runs triggers may start in a period.

    Examples
    --------
    >>> budget("3/week")
    Budget(n=3, per='week')
    """
    n, _, per = (part.strip() for part in text.partition("/"))
    if not re.fullmatch(r"[1-9]\d{0,5}", n, re.ASCII) or per not in PERIODS_S:
        raise UsageError(f"budget cannot be {text!r}.", f"Write it as 3/week; there are {', '.join(PERIODS_S)}.")
    return Budget(int(n), per)


def check_trigger(text: str) -> None:
    """Refuse a trigger of a kind that does not exist, or that names nothing."""
    kind, colon, name = text.partition(":")
    if kind not in TRIGGERS:
        raise UsageError(f"there is no trigger {text!r}.", nearest(kind, TRIGGERS))
    if (kind == "webhook") == bool(colon) or (colon and not name.strip()):
        wanted = "webhook" if kind == "webhook" else f"{kind}:NAME"
        raise UsageError(f"the trigger {text!r} is incomplete or too long.", f"Write {wanted}")


def check_zone(name: str) -> None:
    """Refuse a timezone that the machine does not know."""
    import zoneinfo

    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise UsageError(f"there is no timezone {name!r}.", nearest(name, zoneinfo.available_timezones())) from exc


def duration_of(row: Mapping[str, Any], key: str, place: Place, notes: Notes) -> float:
    """Read a duration in seconds, 0 where there is none; a timeout may not be 0."""
    seconds = notes.take((*place, key), 1.0, duration_s, row.get(key, 0), key)
    if key == "timeout" and key in row and not seconds:
        notes.add((*place, key), "timeout must be above 0 seconds.")
    return seconds
