"""What the verb `alert` does: an alert declared, changed, removed, tested, silenced, shown."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from nbmlops import background, editing, secrets
from nbmlops.duration import duration_s
from nbmlops.editing import Edit
from nbmlops.errors import StoreError, UsageError
from nbmlops.ledger.alerts import OPEN, Alerts, Delivery
from nbmlops.ledger.events import Event
from nbmlops.monitoring import telling
from nbmlops.monitoring.alerts import (
    Alert,
    alert_of,
    check_known,
    check_references,
    declared_in,
    kinds_of,
    with_alert,
    without_alert,
)
from nbmlops.monitoring.messages import message_of
from nbmlops.monitoring.reports import AlertCard, AlertList, AlertRow, DeliveryRow
from nbmlops.project import KEYS, Project, check_keys

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,99}")
N_SHOWN = 10  # newest deliveries


def check(to: str | None, secret: str | None) -> None:
    """Refuse what is no reference before anything else is said of it."""
    check_references("webhook:env:NAME" if to is None else to, secret or "", of="--")


def declared(project: Project, name: str, wish: Mapping[str, Any], *, dry_run: bool) -> AlertCard:
    """Write an alert into nbmlops.toml, or change the one that is there."""
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot be an alert's name.", "Give one of letters, digits, _ and -.")
    wish = {**wish, "on": None if wish["on"] is None else kinds_of(wish["on"])}
    with editing.alone(project):
        edit = with_alert(editing.text_of(project), name, wish)
        each = _as_edited(project, name, edit)
        if not dry_run:
            if name not in project.settings.alerts:
                project.open(Alerts).begin(name)
            editing.write(project, edit.text)
    agent = "" if dry_run else background.called(project)
    card = _card(project, each)
    return replace(card, agent=agent, **_changed(edit), dry_run=dry_run)


def removed(project: Project, name: str, *, dry_run: bool) -> AlertCard:
    """Take an alert out of nbmlops.toml, and forget what it was to tell."""
    with editing.alone(project):
        edit = without_alert(editing.text_of(project), name)
        if not dry_run:
            editing.write(project, edit.text)
    if not dry_run:
        project.open(Alerts).forget(name)
    return AlertCard(name, (), "", **_changed(edit), dry_run=dry_run, is_gone=True)


def tested(project: Project, name: str, *, dry_run: bool) -> AlertCard:
    """Send one message now.

    Raises
    ------
    StoreError
        It was not taken; the message says what came back.
    """
    each = _known(project, name)
    if dry_run:
        return replace(_card(project, each), dry_run=True)
    done = telling.tested(project, each)
    if not done.is_taken:
        raise StoreError(f"{each.name} is not heard at {each.to}: {done.said}", "Mend it, and try again.")
    return replace(_card(project, each), said=done.said)


def muted(project: Project, name: str, how_long: str, *, dry_run: bool) -> AlertCard:
    """Have an alert keep silent for a while, or no longer."""
    each = _known(project, name)
    now = datetime.now(UTC)
    until = None if how_long == "off" else now + timedelta(seconds=duration_s(how_long, "--mute"))
    if dry_run:
        return replace(_card(project, each), muted_until=until, dry_run=True)
    project.open(Alerts).mute(name, until)
    return _card(project, each)


def shown(project: Project, name: str) -> AlertCard:
    """Give an alert as it is."""
    return replace(_card(project, _known(project, name)), as_before=True)


def listed(project: Project) -> AlertList:
    """List all alerts, those that are declared badly too."""
    found, wrong = declared_in(project.settings)
    silent = project.open(Alerts).muted(datetime.now(UTC))
    rows = [_row(project, each, silent.get(each.name)) for each in found.values()]
    return AlertList((*rows, *(AlertRow(name, (), "", problem=why) for name, why in wrong.items())))


# ------------------------------------------------------------------- the parts
def _known(project: Project, name: str) -> Alert:
    found, wrong = declared_in(project.settings)
    if name in wrong:
        raise UsageError(wrong[name])
    check_known(name, found)
    return found[name]


def _as_edited(project: Project, name: str, edit: Edit) -> Alert:
    content = tomllib.loads(edit.text)
    check_keys(content, KEYS, (), project.settings.path, edit.text)
    return alert_of(name, content["alerts"][name])


def _changed(edit: Edit) -> dict[str, Any]:
    return {"changes": editing.changes(edit.difference), "difference": edit.difference}


def _problem(project: Project, each: Alert) -> str:
    """Say which reference stands for nothing here; the agent may know more variables, or less."""
    return " ".join(secrets.missing(each.references, project.root))


def _row(project: Project, each: Alert, muted_until: datetime | None) -> AlertRow:
    newest = project.open(Alerts).newest(each.name)
    waiting = sum(delivery.state in OPEN for delivery in newest)
    last = next(iter(_deliveries(project, newest[:1])), None)
    words = f"{last.state} {last.queued_at:%Y-%m-%d %H:%M} UTC: {last.what}" if last else ""
    return AlertRow(each.name, each.on, each.to, muted_until, waiting, words, _problem(project, each))


def _card(project: Project, each: Alert) -> AlertCard:
    table = project.open(Alerts)
    return AlertCard(
        name=each.name,
        on=each.on,
        to=each.to,
        private=each.private,
        signed=bool(each.secret),
        muted_until=table.muted(datetime.now(UTC)).get(each.name),
        problem=_problem(project, each),
        deliveries=_deliveries(project, table.newest(each.name, N_SHOWN)),
    )


def _deliveries(project: Project, newest: list[Delivery]) -> tuple[DeliveryRow, ...]:
    events = project.open(Alerts).events([each.event for each in newest])
    return tuple(
        DeliveryRow(
            each.event,
            _what(events[each.event]),
            each.state,
            each.attempts,
            datetime.fromisoformat(each.queued_at),
            each.said,
        )
        for each in newest
    )


def _what(event: Event) -> str:
    message = message_of(event)
    return message.headline if message else event.subject
