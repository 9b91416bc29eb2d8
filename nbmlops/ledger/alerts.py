"""What alerts are to tell, as the ledger keeps it: each event is one row of an alert, queued once, told at least once.

A row is WAITING until its time has come, then SENDING under a lease that one process has; SENT when it was taken,
GIVEN_UP when nobody took it for a day, MUTED when the alert kept silent. Where a process dies while it sends, the lease
runs out and another one sends again: under the same id, by which a receiver knows it.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, Self

import sqlalchemy as sa

from nbmlops.ledger.database import Ledger, event_of
from nbmlops.ledger.events import Event
from nbmlops.ledger.schedules import stamp
from nbmlops.ledger.tables import ALERTS, EVENTS, HEARD
from nbmlops.project import Project

WAITING, SENDING, SENT, GIVEN_UP, MUTED = "WAITING", "SENDING", "SENT", "GIVEN_UP", "MUTED"
OPEN = (WAITING, SENDING)
_IS_OPEN = ALERTS.c.state.in_(OPEN)
KEPT = 1000  # rows of one alert that are over; the oldest go first
AT_ONCE = 1000  # events that are in memory at the same time
LONGEST = 500  # characters of what came of an attempt

Wanted = Callable[[Event], bool]


@dataclass(frozen=True)
class Asked:
    """What an alert asks for: events of some verbs which are `wanted`, from `since` to `now`, both aware.

    Of an alert that has heard nothing yet, what was before it `begins` is not told either.
    """

    verbs: Sequence[str]
    wanted: Wanted
    since: datetime
    begins: datetime
    now: datetime


class Outlook(NamedTuple):
    """The newest event's number, and whether anything waits, or is to be sent now."""

    head: int
    is_waiting: bool
    is_due: bool


@dataclass(frozen=True)
class Delivery:
    """An event that an alert tells of: `attempts` have begun, `said` is what came of the last one."""

    alert: str
    event: int
    state: str
    attempts: int
    queued_at: str
    next_at: str
    said: str = ""


class Alerts:
    """The tables of what is to be told, and of how far each alert has heard."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @classmethod
    def of(cls, project: Project) -> Self:
        """Open the tables in the project's ledger."""
        return cls(project.open(Ledger))

    # ------------------------------------------------------------------- queue
    def outlook(self, alerts: Iterable[str], now: datetime) -> Outlook:
        """Look, in one query over indices, whether there is anything to do for some alerts."""
        is_open = sa.and_(_IS_OPEN, ALERTS.c.alert.in_(list(alerts)))
        waits = sa.select(sa.func.min(ALERTS.c.next_at)).where(is_open)
        head = sa.select(sa.func.max(EVENTS.c.seq))
        with self._ledger.reading() as connection:
            found = connection.execute(sa.select(head.scalar_subquery(), waits.scalar_subquery())).one()
        return Outlook(found[0] or 0, found[1] is not None, found[1] is not None and found[1] <= stamp(now))

    def hear(self, alert: str, asked: Asked) -> int:
        """Queue what has happened and an alert tells of, each event once, whoever else does so at the same time.

        Gives how many were queued, or passed over in silence.
        """
        with self._alone(alert) as connection:
            newest, (_, muted_until) = _newest(connection), _heard(connection, alert)
            news = _news(connection, alert, asked, newest)
            state = MUTED if muted_until > stamp(asked.now) else WAITING
            if rows := [_row(alert, event.seq, state, asked.now) for event in news]:
                connection.execute(ALERTS.insert(), rows)
                connection.execute(_forgetting(alert))
            _keep_heard(connection, alert, newest, muted_until)
        return len(rows)

    def unheard(self, alert: str, asked: Asked) -> int:
        """Count what `hear` would queue, and queue nothing."""
        with self._ledger.reading() as connection:
            is_muted = _heard(connection, alert)[1] > stamp(asked.now)
            return 0 if is_muted else len(_news(connection, alert, asked, _newest(connection)))

    def waiting(self, alert: str, now: datetime, *, at_once: bool = False) -> list[Delivery]:
        """List what is to be sent now, the oldest first; `at_once` also what is to wait for a while yet."""
        is_free = sa.true() if at_once else ALERTS.c.next_at <= stamp(now)
        is_lost = sa.and_(ALERTS.c.state == SENDING, ALERTS.c.next_at <= stamp(now))
        is_due = sa.or_(sa.and_(ALERTS.c.state == WAITING, is_free), is_lost)
        query = sa.select(ALERTS).where(ALERTS.c.alert == alert, is_due).order_by(ALERTS.c.event)
        with self._ledger.reading() as connection:
            return [Delivery(**row._mapping) for row in connection.execute(query)]

    def claim(self, delivery: Delivery, until: datetime) -> Delivery | None:
        """Take a delivery in hand until a lease is out; None where another process has."""
        values = {"state": SENDING, "attempts": delivery.attempts + 1, "next_at": stamp(until)}
        return Delivery(**{**vars(delivery), **values}) if self._changed(delivery, values) else None

    def end(self, delivery: Delivery, state: str, said: str, next_at: datetime) -> bool:
        """Tell what came of an attempt; False where its lease was out and another one has begun."""
        return self._changed(delivery, {"state": state, "said": said[:LONGEST], "next_at": stamp(next_at)})

    def give_up(self, before: datetime) -> int:
        """Give up what has waited since before a time, also of alerts that nobody declares any more."""
        too_old = sa.and_(_IS_OPEN, ALERTS.c.queued_at < stamp(before))
        with self._ledger.reading() as connection:  # a writer would hold up others, each time for nothing
            if connection.execute(sa.select(ALERTS.c.event).where(too_old).limit(1)).first() is None:
                return 0
        with self._ledger.writing() as connection:
            return connection.execute(ALERTS.update().where(too_old).values(state=GIVEN_UP)).rowcount

    # ----------------------------------------------------------------- silence
    def mute(self, alert: str, until: datetime | None) -> None:
        """Have an alert keep silent until a time, or no longer; what waits or comes meanwhile is not made up."""
        waits = sa.and_(ALERTS.c.alert == alert, ALERTS.c.state == WAITING)
        with self._alone(alert) as connection:
            if until:
                connection.execute(ALERTS.update().where(waits).values(state=MUTED))
            heard, _ = _heard(connection, alert)
            heard = _newest(connection) if heard is None else heard
            _keep_heard(connection, alert, heard, stamp(until) if until else "")

    def muted(self, now: datetime) -> dict[str, datetime]:
        """Name the alerts that keep silent, with until when."""
        query = sa.select(HEARD.c.alert, HEARD.c.muted_until).where(HEARD.c.muted_until > stamp(now))
        with self._ledger.reading() as connection:
            return {row.alert: datetime.fromisoformat(row.muted_until) for row in connection.execute(query)}

    def begin(self, alert: str) -> None:
        """Have an alert heed what happens from now on, whatever one of its name has heard before."""
        with self._alone(alert) as connection:
            connection.execute(ALERTS.update().where(ALERTS.c.alert == alert, _IS_OPEN).values(state=MUTED))
            _keep_heard(connection, alert, _newest(connection), "")

    def forget(self, alert: str) -> None:
        """Forget an alert, and what it was to tell."""
        with self._alone(alert) as connection:
            for table in (ALERTS, HEARD):
                connection.execute(table.delete().where(table.c.alert == alert))

    # ----------------------------------------------------------------- reading
    def newest(self, alert: str, limit: int | None = None) -> list[Delivery]:
        """List what an alert was to tell, the newest first."""
        query = sa.select(ALERTS).where(ALERTS.c.alert == alert).order_by(ALERTS.c.event.desc()).limit(limit)
        with self._ledger.reading() as connection:
            return [Delivery(**row._mapping) for row in connection.execute(query)]

    def events(self, numbers: Sequence[int]) -> dict[int, Event]:
        """Give events by their numbers."""
        with self._ledger.reading() as connection:
            rows = connection.execute(sa.select(EVENTS).where(EVENTS.c.seq.in_(numbers)))
            return {row.seq: event_of(row) for row in rows}

    # ---------------------------------------------------------------- internal
    @contextlib.contextmanager
    def _alone(self, alert: str) -> Iterator[sa.Connection]:
        """Give a transaction in which nobody else queues for an alert."""
        with self._ledger.writing() as connection:
            if connection.dialect.name != "sqlite":  # whose writers enter one by one
                lock = sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 7065437095))")
                connection.execute(lock, {"name": alert})
            yield connection

    def _changed(self, delivery: Delivery, values: Mapping[str, Any]) -> bool:
        same = (ALERTS.c.state == delivery.state, ALERTS.c.attempts == delivery.attempts)
        which = sa.and_(ALERTS.c.alert == delivery.alert, ALERTS.c.event == delivery.event, *same)
        with self._ledger.writing() as connection:
            return connection.execute(ALERTS.update().where(which).values(values)).rowcount == 1


def _news(connection: sa.Connection, alert: str, asked: Asked, newest: int) -> list[Event]:
    """Give what an alert has not heard of and wants to, up to an event."""
    heard, _ = _heard(connection, alert)
    since = asked.since if heard is not None else max(asked.since, asked.begins)
    query = sa.select(EVENTS).where(EVENTS.c.seq > (heard or 0), EVENTS.c.seq <= newest)
    query = query.where(EVENTS.c.verb.in_(asked.verbs), EVENTS.c.at >= since.astimezone(UTC).isoformat())
    rows = connection.execute(query.order_by(EVENTS.c.seq).execution_options(yield_per=AT_ONCE))
    return [event for row in rows if asked.wanted(event := event_of(row))]


def _newest(connection: sa.Connection) -> int:
    return connection.scalar(sa.select(sa.func.max(EVENTS.c.seq))) or 0


def _heard(connection: sa.Connection, alert: str) -> tuple[int | None, str]:
    row = connection.execute(sa.select(HEARD.c.event, HEARD.c.muted_until).where(HEARD.c.alert == alert)).first()
    return (row.event, row.muted_until) if row else (None, "")


def _keep_heard(connection: sa.Connection, alert: str, event: int, muted_until: str) -> None:
    connection.execute(HEARD.delete().where(HEARD.c.alert == alert))
    connection.execute(HEARD.insert().values(alert=alert, event=event, muted_until=muted_until))


def _row(alert: str, event: int, state: str, now: datetime) -> dict[str, Any]:
    return {
        "alert": alert,
        "event": event,
        "state": state,
        "attempts": 0,
        "queued_at": stamp(now),
        "next_at": stamp(now),
        "said": "",
    }


def _forgetting(alert: str) -> sa.Delete:
    """Delete what is over and too old to be asked for."""
    about = ALERTS.c.alert == alert
    oldest = sa.select(ALERTS.c.event).where(about).order_by(ALERTS.c.event.desc()).limit(1).offset(KEPT - 1)
    return ALERTS.delete().where(about, ALERTS.c.state.not_in(OPEN), ALERTS.c.event < oldest.scalar_subquery())
