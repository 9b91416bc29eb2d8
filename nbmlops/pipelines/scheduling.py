"""The verbs of schedules: `schedule`, `pause`, `unpause`, `unschedule`. An agent does the rest."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from nbmlops import background, editing
from nbmlops.editing import Edit, Line
from nbmlops.errors import NotFoundError, UsageError, nearest
from nbmlops.pipelines import contract
from nbmlops.pipelines.flow import checks, edit
from nbmlops.pipelines.flow.edit import Wish
from nbmlops.pipelines.flow.references import references_in
from nbmlops.pipelines.schedule import next_firings
from nbmlops.pipelines.scheduled import Scheduled, declared_in, scheduled, worded
from nbmlops.project import FILE, KEYS, Project, Settings, check_keys
from nbmlops.verb import MACHINE_ONLY, AnyRef, Pairs, Result, verb

N_SHOWN = 3  # next firings


@dataclass(frozen=True)
class FiringTime:
    """One time at which a schedule fires: in its own zone, and in UTC."""

    local: str
    utc: str
    at: datetime = field(metadata=MACHINE_ONLY)

    @classmethod
    def of(cls, moment: datetime) -> Self:
        """Word an aware time.

        Examples
        --------
        >>> from zoneinfo import ZoneInfo
        >>> FiringTime.of(datetime(2026, 3, 29, 3, tzinfo=ZoneInfo("Europe/Vienna"))).local
        'Sun 2026-03-29 03:00 CEST'
        """
        return cls(worded(moment), f"{moment.astimezone(UTC):%a %Y-%m-%d %H:%M} UTC", moment)


@dataclass(frozen=True)
class ScheduleCard(Result):
    """What runs by itself, when next, and what of nbmlops.toml was changed for it; `agent` says who will start it."""

    name: str
    target: str
    schedule: str
    timezone: str
    paused: bool
    next: tuple[FiringTime, ...]
    triggers: tuple[str, ...] = ()
    catchup: str = "one"
    overlap: str = "skip"
    agent: str = ""
    changes: tuple[Line, ...] = ()
    difference: str = field(default="", metadata=MACHINE_ONLY)
    dry_run: bool = False
    as_before: bool = field(default=False, metadata=MACHINE_ONLY)  # nothing was to be changed

    @property
    def headline(self) -> str:
        """When it runs, in one line."""
        times = [f"at {self.schedule} in {self.timezone}"] if self.schedule else []
        when = " and ".join([*times, *(f"on {trigger}" for trigger in self.triggers)]) or "by hand only"
        return f"{self.name} runs {when}" + (", and is paused" if self.paused else "")

    @property
    def subject(self) -> str:
        """How the ledger files it."""
        return f"schedule/{self.name}"

    @property
    def only_seen(self) -> bool:
        """Whether somebody has only looked at it."""
        return self.as_before

    @property
    def next_step(self) -> str:
        """Go on with it, or look at what it does."""
        return f"unpause {self.name}" if self.paused else "jobs"


@verb
def schedule(
    project: Project,
    target: AnyRef,
    expression: str | None = None,
    *,
    tz: str | None = None,
    on: list[str] | None = None,
    catchup: Literal["one", "all", "none"] | None = None,
    overlap: Literal["skip", "queue"] | None = None,
    cooldown: str | None = None,
    budget: str | None = None,
    against: str | None = None,
    parameters: Pairs = {},
    name: str = "",
    dry_run: bool = False,
) -> ScheduleCard:
    """Have a pipeline or a notebook run by itself, at set times or on triggers.

    Writes it into ``nbmlops.toml``, whose comments stay, and starts the project's
    agent where none runs. What is not given stays as it is; given alone, a target
    shows what it has. A time that a clock change skips runs right after the gap,
    one that comes twice runs once.

    Parameters
    ----------
    target
        A pipeline, a notebook's path, or a schedule that exists.
    expression
        When, as cron has it: minute, hour, day, month, weekday: "30 2 * * *"; or @hourly, @daily, @weekly.
    tz
        The time zone that it is meant in; UTC without it.
    on
        What starts it beside the clock: file:GLOB (new or changed files), data:FILE (other content), drift:FILE or
        drift:ENDPOINT (its live traffic), alias:MODEL (it was promoted or rolled back), job:NAME (one has finished),
        webhook.
    catchup
        Of the times that were missed while nothing ran: make up for the last one, all, or none.
    overlap
        What becomes of a time at which the run before still goes on: skip it, or queue it.
    cooldown
        How long after a run triggers start none: 24h.
    budget
        How many runs triggers may start: 3/week (or hour, day, month).
    against
        The table that drift:FILE or drift:ENDPOINT is measured against, for instance what the model was trained on;
        an endpoint has a reference of its own unless one is given.
    parameters
        Values for a notebook, ``name=value``; ``${due.date}`` and ``${due.time}`` are when it was due.
    name
        Of a notebook's schedule; the notebook's own without it.
    dry_run
        Show the difference, write nothing.

    Returns
    -------
    ScheduleCard
        The next three firings, in the zone and in UTC, and the difference in nbmlops.toml.

    Raises
    ------
    UsageError
        The expression is none or never fires, or zone, trigger or a value is not right.
    NotFoundError
        There is no such pipeline or notebook.

    Examples
    --------
    >>> from nbmlops.project import Project
    >>> project = getfixture("project")
    >>> empty = '{"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": []}'
    >>> _ = (project.root / "report.ipynb").write_text(empty)
    >>> card = schedule(project, "report.ipynb", "30 2 * * *", tz="Europe/Vienna", dry_run=True)
    >>> card.headline, len(card.next)
    ('report runs at 30 2 * * * in Europe/Vienna', 3)

    Plain code
    ----------
    import os
    import subprocess

    lines = subprocess.run(["crontab", "-l"], capture_output=True, text=True).stdout
    line = " ".join([$expression or "@daily", "papermill", $target, "output.ipynb"])
    subprocess.run(["crontab", "-"], input=lines + line + os.linesep, text=True, check=True)
    """
    place = _place_of(project, target)
    wish = Wish(
        schedule=expression,
        timezone=tz,
        on=None if on is None else tuple(on),
        cooldown=cooldown,
        budget=budget,
        catchup=catchup,
        overlap=overlap,
        against=against,
        parameters=_typed(project, place, parameters) if parameters else None,
    )
    if wish == Wish():
        return replace(_card(project, _known(project, place)), as_before=True)
    with editing.alone(project):
        edited = edit.scheduled(editing.text_of(project), place, wish, name)
        settings = _as_edited(project.settings, edited)
        each = _checked(settings, edited, project.root)
        if dry_run:
            return _card(project, each, edited.difference, dry_run=True)
        before, _ = declared_in(project.settings)
        editing.write(project, edited.text)
    _begin_anew(project, each, before.get(each.name))
    return _card(project, each, edited.difference, agent=background.called(project))


@verb
def unschedule(project: Project, target: AnyRef, *, dry_run: bool = False) -> ScheduleCard:
    """Have something run by itself no longer; a pipeline stays, and what runs goes on.

    Parameters
    ----------
    target
        The pipeline, the schedule, or the notebook's path.
    dry_run
        Show the difference, write nothing.

    Returns
    -------
    ScheduleCard
        What was taken out of nbmlops.toml.

    Raises
    ------
    NotFoundError
        Nothing of that name has a schedule.
    UsageError
        The notebook has several schedules: one is to be named.

    Examples
    --------
    >>> unschedule(getfixture("project"), "nightly")
    Traceback (most recent call last):
    nbmlops.errors.NotFoundError: Nothing called 'nightly' has a schedule.

    Plain code
    ----------
    import subprocess

    lines = subprocess.run(["crontab", "-l"], capture_output=True, text=True).stdout.splitlines(keepends=True)
    changed = [line for line in lines if $target not in line]
    subprocess.run(["crontab", "-"], input="".join(changed), text=True, check=True)
    """
    from nbmlops.ledger.schedules import Schedules

    with editing.alone(project):
        edited = edit.unscheduled(editing.text_of(project), _place_of(project, target))
        name = edited.place.partition(".")[2]
        if not dry_run:
            editing.write(project, edited.text)
    if not dry_run:
        project.open(Schedules).forget(name)
    return ScheduleCard(
        name,
        target,
        "",
        "",
        False,
        (),
        changes=editing.changes(edited.difference),
        difference=edited.difference,
        dry_run=dry_run,
    )


@verb
def pause(project: Project, target: AnyRef, *, dry_run: bool = False) -> ScheduleCard:
    """Pause a schedule and its triggers; what runs goes on.

    Parameters
    ----------
    target
        The pipeline, the schedule, or the notebook's path.
    dry_run
        Look whether there is one, pause nothing.

    Returns
    -------
    ScheduleCard
        The schedule as it is now.

    Raises
    ------
    NotFoundError
        Nothing of that name has a schedule.

    Examples
    --------
    >>> pause(getfixture("project"), "nightly")
    Traceback (most recent call last):
    nbmlops.errors.NotFoundError: Nothing called 'nightly' has a schedule.

    Plain code
    ----------
    import subprocess

    lines = subprocess.run(["crontab", "-l"], capture_output=True, text=True).stdout.splitlines(keepends=True)
    changed = ["# " + line if $target in line else line for line in lines]
    subprocess.run(["crontab", "-"], input="".join(changed), text=True, check=True)
    """
    from nbmlops.ledger.schedules import Schedules

    each = _known(project, _place_of(project, target))
    if not dry_run:
        project.open(Schedules).pause(each.name, datetime.now(UTC))
    return _card(project, each, dry_run=dry_run)


@verb
def unpause(project: Project, target: AnyRef, *, dry_run: bool = False) -> ScheduleCard:
    """Go on with a paused schedule from now; what came meanwhile is not made up.

    Parameters
    ----------
    target
        The pipeline, the schedule, or the notebook's path.
    dry_run
        Look whether there is one, go on with nothing.

    Returns
    -------
    ScheduleCard
        The schedule as it is now.

    Raises
    ------
    NotFoundError
        Nothing of that name has a schedule.

    Examples
    --------
    >>> unpause(getfixture("project"), "nightly")
    Traceback (most recent call last):
    nbmlops.errors.NotFoundError: Nothing called 'nightly' has a schedule.

    Plain code
    ----------
    import subprocess

    lines = subprocess.run(["crontab", "-l"], capture_output=True, text=True).stdout.splitlines(keepends=True)
    changed = [line.removeprefix("# ") if $target in line else line for line in lines]
    subprocess.run(["crontab", "-"], input="".join(changed), text=True, check=True)
    """
    from nbmlops.ledger.schedules import Schedules

    each = _known(project, _place_of(project, target))
    if dry_run:
        return _card(project, each, dry_run=True)
    project.open(Schedules).unpause(each.name, datetime.now(UTC))
    return _card(project, each, agent=background.called(project))


# ------------------------------------------------------------------- finding
def _place_of(project: Project, target: str) -> str:
    """Give a notebook's path as nbmlops.toml has it, relative to the project; any other name as it is."""
    if not target.endswith(".ipynb"):
        return target
    path, root = project.path(target).resolve(), project.root.resolve()
    if not path.is_relative_to(root):
        raise UsageError(f"{path} lies outside of the project {root}.", "Move it into the project.")
    return path.relative_to(root).as_posix()


def _known(project: Project, place: str) -> Scheduled:
    found, wrong = declared_in(project.settings)
    named = [name for name, each in found.items() if place in (name, each.target)]
    if len(named) > 1 and place not in found:
        raise UsageError(f"{place} has {len(named)} schedules.", f"Name one: {', '.join(named)}")
    if named:
        return found[place if place in found else named[0]]
    if place in wrong:
        raise UsageError(wrong[place])
    raise NotFoundError(f"Nothing called {place!r} has a schedule.", nearest(place, found))


# ------------------------------------------------------------------- checking
def _typed(project: Project, place: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Bring values for a notebook to the types that it declares, as far as TOML has them; none is a secret."""
    if not place.endswith(".ipynb"):
        place = _known(project, place).target
    if not place.endswith(".ipynb"):
        return dict(given)  # a pipeline's, which are refused where they would be written
    from nbmlops.pipelines import notebook as nb

    path = project.root / place
    known = [replace(each, is_required=False) for each in nb.parameters_of(nb.read(path))]
    literal = {name: value for name, value in given.items() if not references_in(value)}
    values = contract.checked(known, literal, path.name)
    if hints := contract.hints({name: values[name] for name in literal}):
        raise UsageError(f"A secret would stand in {FILE}, which is kept in git.", hints[0])
    return {name: _in_toml(values.get(name, value), value) for name, value in given.items()}


def _in_toml(value: Any, given: Any) -> Any:
    """Give a value as it is where TOML has its type, else as it was typed, which is read by its type again."""
    return value if isinstance(value, bool | int | float | str | list | dict) else given


def _as_edited(settings: Settings, edited: Edit) -> Settings:
    content = tomllib.loads(edited.text)
    check_keys(content, KEYS, (), settings.path, edited.text)
    return replace(
        settings,
        pipelines=content.get("pipelines", {}),
        schedules=content.get("schedules", {}),
        text=edited.text,
    )


def _checked(settings: Settings, edited: Edit, root: Path) -> Scheduled:
    """Check a schedule as it is to be, and what it starts: what is wrong is told now and not at night."""
    kind, _, name = edited.place.partition(".")
    each = scheduled(settings, name)
    if kind == "pipelines":
        checks.checked(settings, name, root)
    else:
        checks.checked_schedule(settings, name, root)
    return each


# -------------------------------------------------------------------- writing
def _begin_anew(project: Project, each: Scheduled, before: Scheduled | None) -> None:
    """Heed a new or changed clock from now on, and new triggers from the next look: nothing of before is made up."""
    from nbmlops.ledger.schedules import Schedules, Seen

    ledger = project.open(Schedules)
    if each.clock and each.clock != (before.clock if before else ""):
        ledger.see(each.name, each.clock, "", Seen(datetime.now(UTC)))
    for trigger in set(each.timing.on) - set(before.timing.on if before else ()):
        ledger.unsee(each.name, trigger)


def _card(
    project: Project, each: Scheduled, difference: str = "", *, agent: str = "", dry_run: bool = False
) -> ScheduleCard:
    from nbmlops.ledger.schedules import Schedules

    timing = each.timing
    times = next_firings(timing.schedule, timing.timezone, datetime.now(UTC), N_SHOWN) if each.clock else ()
    return ScheduleCard(
        name=each.name,
        target=each.target,
        schedule=timing.schedule,
        timezone=timing.timezone if each.clock else "",
        paused=each.name in project.open(Schedules).paused(),
        next=tuple(map(FiringTime.of, times)),
        triggers=timing.on,
        catchup=timing.catchup,
        overlap=timing.overlap,
        agent=agent,
        changes=editing.changes(difference),
        difference=difference,
        dry_run=dry_run,
    )
