"""The firings of schedules, as the ledger keeps them: each occasion is one row, so exactly one agent gets it.

A firing is CLAIMED by an agent, then STARTED by the process that runs it, and that only with the claim's newest fence:
where an agent dies in between, another takes the claim over under a higher fence, and whatever the dead one has still
begun starts nothing. So each occasion starts at most one run; one whose run was started and died is told as LOST, and
not run again.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

import sqlalchemy as sa

from nbmlops.ledger.database import Ledger
from nbmlops.ledger.tables import FIRINGS, JOBS, PAUSES, SEEN
from nbmlops.project import Project, actor

CLAIMED, STARTED, QUEUED = "CLAIMED", "STARTED", "QUEUED"
FINISHED, FAILED, SKIPPED, LOST = "FINISHED", "FAILED", "SKIPPED", "LOST"
ACTIVE, OPEN = (CLAIMED, STARTED), (CLAIMED, STARTED, QUEUED)
KEPT = 2000  # firings of one schedule; the oldest go first
LONGEST_REASON = 1000  # characters
ANSWER = "answer"  # what begins the occasion of a firing that goes on with a job: answer#JOB
_IS_CLOCK = FIRINGS.c.occasion == FIRINGS.c.due_at  # a trigger's occasion is what it has seen


@dataclass(frozen=True)
class Firing:
    """One occasion of a schedule, and what came of it."""

    schedule: str
    occasion: str
    due_at: str
    state: str
    fence: int = 1
    owner: Mapping[str, str] = field(default_factory=dict)
    job: str = ""
    claimed_at: str = ""
    started_at: str = ""
    ended_at: str = ""
    exit_code: int | None = None
    reason: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def due(self) -> datetime:
        """When it was due, aware, in UTC."""
        return datetime.fromisoformat(self.due_at)

    @property
    def is_of_clock(self) -> bool:
        """Whether a due time has come, and no trigger."""
        return self.occasion == self.due_at


@dataclass(frozen=True)
class Seen:
    """Since when something is heeded, aware, and what was seen of it last."""

    since: datetime
    value: Any = None


def stamp(moment: datetime) -> str:
    """Write a time as firings have it: UTC, to the second.

    Examples
    --------
    >>> stamp(datetime(2026, 3, 29, 3, tzinfo=UTC))
    '2026-03-29T03:00:00+00:00'
    """
    return moment.astimezone(UTC).isoformat(timespec="seconds")


class Schedules:
    """The tables of firings, pauses and what was seen."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @classmethod
    def of(cls, project: Project) -> Self:
        """Open the tables in the project's ledger."""
        return cls(project.open(Ledger))

    # ----------------------------------------------------------------- claiming
    def claim(self, firing: Firing, *, overlap: str = "skip", is_late: bool = False, beside: str = "") -> Firing | None:
        """Make an occasion one's own, if it is nobody's yet; None where it is.

        Parameters
        ----------
        firing
            The occasion, with who claims it and when.
        overlap
            What becomes of it while a firing of the same schedule goes on: ``skip`` or ``queue``.
        is_late
            Whether it is one of several that are made up after a gap: they wait for each other.
        beside
            What else goes on that it may not run beside: a run that a person has started.

        Returns
        -------
        Firing or None
            As it is kept: CLAIMED to be started, QUEUED, or SKIPPED with the reason.
        """
        with self._alone(firing.schedule) as connection:
            if connection.execute(sa.select(FIRINGS.c.state).where(_is(firing))).first():
                return None
            before = self._first(connection, firing.schedule, OPEN) or beside
            kept = _placed(firing, before, queue=is_late or overlap == "queue")
            connection.execute(FIRINGS.insert().values(vars(kept)))
            connection.execute(_forgetting(firing.schedule))
        return kept

    def enqueue(self, firing: Firing) -> Firing:
        """Put an occasion into its schedule's queue; give the firing that it is, also if it was there before."""
        with self._alone(firing.schedule) as connection:
            if known := connection.execute(sa.select(FIRINGS).where(_is(firing))).first():
                return _firing(known)
            connection.execute(FIRINGS.insert().values(vars(firing)))
        return firing

    def take_over(self, firing: Firing, owner: Mapping[str, str], claimed_at: str) -> Firing | None:
        """Take the claim of an agent that is gone before its run has started; None where another was faster."""
        return self._reclaimed(firing, CLAIMED, owner, claimed_at)

    def take_next(self, schedule: str, owner: Mapping[str, str], claimed_at: str) -> Firing | None:
        """Claim the oldest firing of a schedule's queue, if nothing of it goes on."""
        with self._alone(schedule) as connection:
            if self._first(connection, schedule, ACTIVE):
                return None
            query = sa.select(FIRINGS).where(FIRINGS.c.schedule == schedule, FIRINGS.c.state == QUEUED)
            row = connection.execute(query.order_by(FIRINGS.c.due_at, FIRINGS.c.occasion).limit(1)).first()
            return self._taken(connection, _firing(row), QUEUED, owner, claimed_at) if row else None

    def drop(self, firing: Firing, reason: str) -> bool:
        """Skip a firing that has not started."""
        unchanged = sa.and_(_is(firing), FIRINGS.c.state == firing.state, FIRINGS.c.fence == firing.fence)
        return self._changed(unchanged, state=SKIPPED, fence=firing.fence + 1, reason=reason[:LONGEST_REASON])

    # ------------------------------------------------------------------ running
    def start(self, schedule: str, occasion: str, fence: int, owner: Mapping[str, str], started_at: str) -> bool:
        """Start a claimed firing, as the process that is to run it; False where the claim is no longer this one."""
        mine = sa.and_(_at(schedule, occasion), FIRINGS.c.fence == fence, FIRINGS.c.state == CLAIMED)
        return self._changed(mine, state=STARTED, owner=dict(owner), started_at=started_at)

    def beat(self, schedule: str, occasion: str, fence: int, owner: Mapping[str, str]) -> bool:
        """Give a sign of life of a firing that goes on; one that was taken for lost goes on as well."""
        return self._changed(_running(schedule, occasion, fence), state=STARTED, owner=dict(owner))

    def put_back(self, schedule: str, occasion: str, fence: int, *, queue: bool, reason: str) -> bool:
        """Queue or skip a firing that was started and found that its run may not begin now."""
        told = {"state": QUEUED if queue else SKIPPED, "owner": {}, "started_at": "", "reason": reason[:LONGEST_REASON]}
        return self._changed(_running(schedule, occasion, fence), **told)

    def end(
        self, schedule: str, occasion: str, fence: int, state: str, *, ended_at: str, exit_code: int | None, reason: str
    ) -> bool:
        """Tell the end of a firing that was started; its own runner's word counts also where it was taken for lost."""
        told = {"state": state, "ended_at": ended_at, "exit_code": exit_code, "reason": reason[:LONGEST_REASON]}
        return self._changed(_running(schedule, occasion, fence), **told)

    # ------------------------------------------------------------------ reading
    def open_firings(self) -> list[Firing]:
        """List what is claimed, goes on or waits in a queue, in the order in which it was due."""
        return self._firings(FIRINGS.c.state.in_(OPEN), ascending=True)

    def newest(self, limit: int | None = None, *, schedule: str = "") -> list[Firing]:
        """List firings, the newest first."""
        return self._firings(FIRINGS.c.schedule == schedule if schedule else sa.true(), limit=limit)

    def find(self, schedule: str, occasion: str) -> Firing | None:
        """Find the firing of an occasion."""
        return next(iter(self._firings(_at(schedule, occasion))), None)

    def newest_due(self, schedules: Iterable[str], until: datetime) -> dict[str, datetime]:
        """Give the newest due time of each schedule that has its row, up to a time; a seek in the index for each."""
        found = {}
        with self._ledger.reading() as connection:
            for name in schedules:
                of_clock = (FIRINGS.c.schedule == name, FIRINGS.c.occasion <= stamp(until), _IS_CLOCK)
                newest = sa.select(FIRINGS.c.occasion).where(*of_clock).order_by(FIRINGS.c.occasion.desc()).limit(1)
                if due_at := connection.scalar(newest):
                    found[name] = datetime.fromisoformat(due_at)
        return found

    def last_run(self, schedule: str) -> datetime | None:
        """Tell when the newest firing of a schedule was due that was not skipped, whatever caused it."""
        query = sa.select(sa.func.max(FIRINGS.c.due_at)).where(
            FIRINGS.c.schedule == schedule, FIRINGS.c.state != SKIPPED
        )
        with self._ledger.reading() as connection:
            due_at = connection.scalar(query)
        return datetime.fromisoformat(due_at) if due_at else None

    def n_triggered(self, schedule: str, since: datetime) -> int:
        """Count the runs that triggers have started since a time."""
        query = sa.select(sa.func.count()).where(
            FIRINGS.c.schedule == schedule,
            ~_IS_CLOCK,
            ~FIRINGS.c.occasion.startswith(f"{ANSWER}#"),  # which goes on with a run, and is none of its own
            FIRINGS.c.state != SKIPPED,
            FIRINGS.c.due_at >= stamp(since),
        )
        with self._ledger.reading() as connection:
            return int(connection.scalar(query) or 0)

    def n_finished(self, job: str) -> int:
        """Count the jobs of a name that have ended well."""
        query = sa.select(sa.func.count()).where(JOBS.c.name == job, JOBS.c.status == FINISHED)
        with self._ledger.reading() as connection:
            return int(connection.scalar(query) or 0)

    # ------------------------------------------------------------------- pauses
    def pause(self, schedule: str, at: datetime) -> bool:
        """Pause a schedule; False where it is paused already."""
        with self._alone(schedule) as connection:
            if connection.scalar(sa.select(PAUSES.c.paused_at).where(PAUSES.c.schedule == schedule)):
                return False
            connection.execute(PAUSES.insert().values(schedule=schedule, paused_at=stamp(at), paused_by=actor()))
        return True

    def unpause(self, schedule: str, at: datetime) -> bool:
        """Go on with a schedule from now: what came while it was paused is not made up."""
        with self._alone(schedule) as connection:
            was_paused = connection.execute(PAUSES.delete().where(PAUSES.c.schedule == schedule)).rowcount == 1
            if was_paused:
                seen = SEEN.update().where(SEEN.c.schedule == schedule)
                connection.execute(seen.values(since_at=stamp(at), seen=sa.null()))
        return was_paused

    def paused(self) -> dict[str, str]:
        """Name the paused schedules, with who has paused each."""
        with self._ledger.reading() as connection:
            rows = connection.execute(sa.select(PAUSES.c.schedule, PAUSES.c.paused_by))
            return {row.schedule: row.paused_by for row in rows}

    # --------------------------------------------------------------------- seen
    def seen(self) -> dict[tuple[str, str, str], Seen]:
        """Give what was seen, by schedule, trigger and place."""
        with self._ledger.reading() as connection:
            rows = connection.execute(sa.select(SEEN))
            return {
                (row.schedule, row.trigger, row.place): Seen(datetime.fromisoformat(row.since_at), row.seen)
                for row in rows
            }

    def see(self, schedule: str, trigger: str, place: str, seen: Seen) -> None:
        """Keep what was seen, in place of what was seen before."""
        key = {"schedule": schedule, "trigger": trigger, "place": place}
        with self._alone(schedule) as connection:
            connection.execute(SEEN.delete().where(*(SEEN.c[name] == value for name, value in key.items())))
            connection.execute(SEEN.insert().values(**key, since_at=stamp(seen.since), seen=seen.value))

    def unsee(self, schedule: str, trigger: str) -> None:
        """Forget what a trigger has seen, in every place: it looks anew."""
        with self._alone(schedule) as connection:
            connection.execute(SEEN.delete().where(SEEN.c.schedule == schedule, SEEN.c.trigger == trigger))

    def forget(self, schedule: str) -> None:
        """Forget since when a schedule is heeded, what it has seen, and its pause; its firings stay."""
        with self._alone(schedule) as connection:
            for table in (SEEN, PAUSES):
                connection.execute(table.delete().where(table.c.schedule == schedule))

    # ----------------------------------------------------------------- internal
    @contextlib.contextmanager
    def _alone(self, schedule: str) -> Iterator[sa.Connection]:
        """Give a transaction in which nobody else decides about a schedule."""
        with self._ledger.writing() as connection:
            if connection.dialect.name != "sqlite":  # whose writers enter one by one
                lock = sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 7065437094))")
                connection.execute(lock, {"name": schedule})
            yield connection

    @staticmethod
    def _first(connection: sa.Connection, schedule: str, states: tuple[str, ...]) -> str:
        """Name the oldest occasion of a schedule that is in one of some states, if one is."""
        query = sa.select(FIRINGS.c.occasion).where(FIRINGS.c.schedule == schedule, FIRINGS.c.state.in_(states))
        return connection.scalar(query.order_by(FIRINGS.c.due_at).limit(1)) or ""

    def _reclaimed(self, firing: Firing, state: str, owner: Mapping[str, str], claimed_at: str) -> Firing | None:
        with self._alone(firing.schedule) as connection:
            return self._taken(connection, firing, state, owner, claimed_at)

    @staticmethod
    def _taken(
        connection: sa.Connection, firing: Firing, state: str, owner: Mapping[str, str], claimed_at: str
    ) -> Firing | None:
        values = {"state": CLAIMED, "fence": firing.fence + 1, "owner": dict(owner), "claimed_at": claimed_at}
        unchanged = sa.and_(_is(firing), FIRINGS.c.state == state, FIRINGS.c.fence == firing.fence)
        if connection.execute(FIRINGS.update().where(unchanged).values(values)).rowcount != 1:
            return None
        return Firing(**{**vars(firing), **values})

    def _changed(self, which: sa.ColumnElement[bool], **values: Any) -> bool:
        with self._ledger.writing() as connection:
            return connection.execute(FIRINGS.update().where(which).values(values)).rowcount == 1

    def _firings(
        self, which: sa.ColumnElement[bool], *, limit: int | None = None, ascending: bool = False
    ) -> list[Firing]:
        order = (FIRINGS.c.due_at, FIRINGS.c.occasion)
        query = sa.select(FIRINGS).where(which).limit(limit)
        query = query.order_by(*(order if ascending else (column.desc() for column in order)))
        with self._ledger.reading() as connection:
            return [_firing(row) for row in connection.execute(query)]


def _placed(firing: Firing, before: str, *, queue: bool) -> Firing:
    """Decide what becomes of a new firing while one before it goes on or waits, or none does."""
    if not before:
        return Firing(**{**vars(firing), "state": CLAIMED})
    if queue:
        return Firing(**{**vars(firing), "state": QUEUED, "owner": {}})
    reason = f"the run of {before} goes on"
    return Firing(**{**vars(firing), "state": SKIPPED, "owner": {}, "job": "", "reason": reason})


def _firing(row: Any) -> Firing:
    return Firing(**row._mapping)


def _at(schedule: str, occasion: str) -> sa.ColumnElement[bool]:
    return sa.and_(FIRINGS.c.schedule == schedule, FIRINGS.c.occasion == occasion)


def _is(firing: Firing) -> sa.ColumnElement[bool]:
    return _at(firing.schedule, firing.occasion)


def _running(schedule: str, occasion: str, fence: int) -> sa.ColumnElement[bool]:
    return sa.and_(_at(schedule, occasion), FIRINGS.c.fence == fence, FIRINGS.c.state.in_((STARTED, LOST)))


def _forgetting(schedule: str) -> sa.Delete:
    """Delete what is too old to be asked for; what is open stays, and the newest due time, from which others count."""
    about = FIRINGS.c.schedule == schedule
    oldest = sa.select(FIRINGS.c.due_at).where(about).order_by(FIRINGS.c.due_at.desc()).limit(1).offset(KEPT - 1)
    newest_due = sa.select(sa.func.max(FIRINGS.c.due_at)).where(about, _IS_CLOCK)
    is_needed = sa.and_(_IS_CLOCK, FIRINGS.c.due_at == newest_due.scalar_subquery())
    too_old = FIRINGS.c.due_at < oldest.scalar_subquery()
    return FIRINGS.delete().where(about, FIRINGS.c.state.not_in(OPEN), too_old, ~is_needed)
