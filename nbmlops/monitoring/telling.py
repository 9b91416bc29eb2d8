"""Alerts told: what has happened is queued, what is queued is delivered, again until it is taken or a day is over."""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from nbmlops import secrets
from nbmlops.errors import StoreError, UsageError
from nbmlops.ledger.alerts import GIVEN_UP, SENT, WAITING, Alerts, Asked, Delivery
from nbmlops.ledger.events import Event
from nbmlops.monitoring import messages, outbound
from nbmlops.monitoring.alerts import Alert, declared_in
from nbmlops.monitoring.messages import Message
from nbmlops.project import Project
from nbmlops.scrub import scrub_text
from nbmlops.strict_json import dumps
from nbmlops.tracking.journal import crash_point

PATIENCE = timedelta(days=1)  # after which what nobody takes is given up; what is older when it is seen is not told
LEASE = timedelta(seconds=3 * outbound.TIMEOUT_S)  # of one who sends; after it another one does
PAUSES_S = (5.0, 3600.0)  # before the second attempt, and the longest


@dataclass(frozen=True)
class Told:
    """What came of an attempt to bring an alert to somebody."""

    alert: str
    event: int
    is_taken: bool
    said: str


def pause_s(attempts: int) -> float:
    """Give the pause after so many attempts: it doubles with each, up to an hour.

    Examples
    --------
    >>> [pause_s(n) for n in (1, 2, 3, 20)]
    [5.0, 10.0, 20.0, 3600.0]
    """
    return min(PAUSES_S[0] * 2.0 ** min(attempts - 1, 16), PAUSES_S[1])


def told(project: Project, now: datetime | None = None, *, at_once: bool = False) -> list[Told]:
    """Queue what is new, and deliver what is due.

    Parameters
    ----------
    project
        Whose alerts.
    now
        Aware; the clock's time without it.
    at_once
        Also what is to wait for a while, because an attempt has failed.

    Raises
    ------
    StoreError
        The ledger is out of reach; nothing is lost.
    """
    now = now or datetime.now(UTC)
    table = project.open(Alerts)
    alerts, _ = declared_in(project.settings)
    for alert in alerts.values():
        table.hear(alert.name, _asked(project, alert, now))
    table.give_up(now - PATIENCE)
    return [done for alert in alerts.values() for done in _delivered(project, table, alert, now, at_once=at_once)]


def tested(project: Project, alert: Alert) -> Told:
    """Send one message that says nothing else than that the alert is heard."""
    now = datetime.now(UTC)
    event = Event(0, now, "alert", f"alert/{alert.name}", "", "", True, "ok", {}, None, 0.0, "", "")
    identity = f"test_{hashlib.sha256(f'{alert.name}{time.time_ns()}'.encode()).hexdigest()[:32]}"
    return _sent(project, alert, messages.trial(), event, identity)


# ------------------------------------------------------------------- queueing
def unheard(project: Project, alert: Alert) -> int:
    """Count what is to be told and nobody has queued yet, because no agent has looked."""
    return project.open(Alerts).unheard(alert.name, _asked(project, alert, datetime.now(UTC)))


def _asked(project: Project, alert: Alert, now: datetime) -> Asked:
    def is_wanted(event: Event) -> bool:
        message = messages.message_of(event)
        return message is not None and message.kind in alert.on

    written_at = datetime.fromtimestamp(project.settings.path.stat().st_mtime, UTC)  # it was declared then, or before
    return Asked(messages.VERBS, is_wanted, now - PATIENCE, written_at, now)


# ------------------------------------------------------------------- delivering
def _delivered(project: Project, table: Alerts, alert: Alert, now: datetime, *, at_once: bool) -> Iterator[Told]:
    """Deliver what an alert has to tell, the oldest first, until one is not taken: then the others wait a moment."""
    due = table.waiting(alert.name, now, at_once=at_once)
    events = table.events([each.event for each in due])
    for each in due:
        claimed = table.claim(each, now + LEASE)
        if claimed is None:
            continue
        crash_point("alert-claimed")
        done = _attempted(project, alert, events[each.event])
        crash_point("alert-sent")
        _end(table, claimed, done, now)
        yield done
        if not done.is_taken:
            break


def _attempted(project: Project, alert: Alert, event: Event) -> Told:
    message = messages.message_of(event) or Message(alert.on[0], event.subject, event.outcome)
    return _sent(project, alert, message, event, identity_of(alert, event))


def _end(table: Alerts, delivery: Delivery, done: Told, now: datetime) -> None:
    next_at = now + timedelta(seconds=pause_s(delivery.attempts))
    queued_at = datetime.fromisoformat(delivery.queued_at)
    state = SENT if done.is_taken else WAITING if next_at < queued_at + PATIENCE else GIVEN_UP
    table.end(delivery, state, done.said, now if done.is_taken else next_at)


def identity_of(alert: Alert, event: Event) -> str:
    """Give the id of a message, the same at each attempt and on each machine."""
    return f"msg_{hashlib.sha256(f'{alert.name}:{event.hash}'.encode()).hexdigest()[:32]}"


def _sent(project: Project, alert: Alert, message: Message, event: Event, identity: str) -> Told:
    """Send a message once, and say what came back."""
    settings, timestamp = project.settings, int(time.time())
    body = dumps(messages.body_of(message, event, settings.name.value, alert.name)).encode()
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "webhook-id": identity,
        "webhook-timestamp": str(timestamp),
    }
    try:
        url = secrets.resolved(alert.address, settings.path.parent)
        if alert.secret:
            key = secrets.resolved(alert.secret, settings.path.parent)
            headers["webhook-signature"] = outbound.signature(key, identity, timestamp, body)
        answer = outbound.post(url, body, headers, private=alert.private)
    except (UsageError, StoreError) as exc:
        return Told(alert.name, event.seq, False, scrub_text(exc.message))
    return Told(alert.name, event.seq, answer.is_taken, f"it answered {answer}")
