"""Alerts as nbmlops.toml declares them, ``[alerts.NAME]``: what each tells of, and where to; pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nbmlops import secrets
from nbmlops.editing import Edit, document, drop, edited, put, table
from nbmlops.errors import NotFoundError, UsageError, nearest
from nbmlops.monitoring.messages import KINDS
from nbmlops.project import Settings
from nbmlops.scrub import remember

WEBHOOK = "webhook:"
_HINT = 'Write to = "webhook:env:NAME", or "webhook:file:PATH".'


@dataclass(frozen=True)
class Alert:
    """Somebody who is told of some kinds of events.

    `to` is ``webhook:`` and a reference, `secret` the reference of what messages are signed with. Only one that is
    `private` is brought to addresses of one's own network.
    """

    name: str
    on: tuple[str, ...]
    to: str
    private: bool = False
    secret: str = ""

    @property
    def address(self) -> str:
        """The reference to where it is brought."""
        return self.to.removeprefix(WEBHOOK)

    @property
    def references(self) -> tuple[str, ...]:
        """All that is to be found where it is delivered."""
        return (self.address, *([self.secret] if self.secret else ()))


def declared_in(settings: Settings) -> tuple[dict[str, Alert], dict[str, str]]:
    """Read all alerts; give them by name, and by name what is wrong with the rest: one hides none of the others."""
    found: dict[str, Alert] = {}
    wrong: dict[str, str] = {}
    for name, content in settings.alerts.items():
        try:
            found[name] = alert_of(name, content)
        except UsageError as exc:
            wrong[name] = f"{settings.where('alerts', name)}: {exc.message}"
    return found, wrong


def alert_of(name: str, content: Mapping[str, Any]) -> Alert:
    """Read one alert.

    Raises
    ------
    UsageError
        It tells of nothing, or of what there is not, or names no place that it can be brought to.

    Examples
    --------
    >>> alert_of("oncall", {"on": ["slo"], "to": "webhook:env:ONCALL_HOOK"}).address
    'env:ONCALL_HOOK'
    >>> alert_of("oncall", {"on": ["slow"], "to": "webhook:env:ONCALL_HOOK"})
    Traceback (most recent call last):
    nbmlops.errors.UsageError: alerts.oncall.on: there is no kind 'slow' of events.
      Did you mean slo?
    """
    place, on = f"alerts.{name}", tuple(dict.fromkeys(content.get("on", ())))
    if not on:
        raise UsageError(f"{place} says not what it tells of.", f"Give some of {', '.join(KINDS)}.")
    for kind in on:
        if kind not in KINDS:
            raise UsageError(f"{place}.on: there is no kind {kind!r} of events.", nearest(kind, KINDS))
    to, secret = content.get("to", ""), content.get("secret", "")
    check_references(to, secret, of=f"{place}.")
    return Alert(name, on, to, bool(content.get("private", False)), secret)


def check_references(to: str, secret: str, *, of: str) -> None:
    """Refuse what is no reference; from now on it is masked, since it may be the secret itself.

    `of` stands in front of ``to`` and ``secret`` in the message.

    Raises
    ------
    UsageError
        One of them is none.
    """
    if not to.startswith(WEBHOOK) or not _is_reference(to.removeprefix(WEBHOOK)):
        remember(to, to.removeprefix(WEBHOOK))
        raise UsageError(f"{of}to is no reference, and an address is a secret that belongs in no file.", _HINT)
    if secret and not _is_reference(secret):
        remember(secret)
        raise UsageError(f"{of}secret is no reference, and a secret belongs in no file.", 'secret = "env:NAME"')


def kinds_of(text: str) -> list[str]:
    """Read kinds of events as they are typed.

    Examples
    --------
    >>> kinds_of("slo, drift")
    ['slo', 'drift']
    """
    return [word.strip() for word in text.split(",") if word.strip()]


def with_alert(text: str, name: str, wish: Mapping[str, Any]) -> Edit:
    r"""Write an alert into a text of nbmlops.toml, or change it; what is None stays, and what is empty goes.

    Raises
    ------
    UsageError
        The text is no TOML.

    Examples
    --------
    >>> wish = {"on": ["slo"], "to": "webhook:env:HOOK", "private": None, "secret": None}
    >>> print(with_alert("[project]\nname = 'x'  # ours\n", "oncall", wish).difference)
    --- nbmlops.toml
    +++ nbmlops.toml
    @@ -1,2 +1,6 @@
     [project]
     name = 'x'  # ours
    +
    +[alerts.oncall]
    +on = ["slo"]
    +to = "webhook:env:HOOK"
    """
    content = document(text)
    place = table(content, "alerts", name)
    for key, value in wish.items():
        if value is not None:
            put(place, key, value)
    return edited(text, content, f"alerts.{name}")


def without_alert(text: str, name: str) -> Edit:
    """Take an alert out of a text of nbmlops.toml.

    Raises
    ------
    NotFoundError
        There is none of that name; the hint names the nearest.
    """
    content = document(text)
    check_known(name, content.get("alerts", {}))
    drop(content, "alerts", name)
    return edited(text, content, f"alerts.{name}")


def check_known(name: str, known: Iterable[str]) -> None:
    """Refuse the name of no alert.

    Raises
    ------
    NotFoundError
        There is none of that name; the hint names the nearest.
    """
    if name not in known:
        hint = nearest(name, known) or f"Declare it: `alert {name} --on slo,drift,job --to webhook:env:NAME`"
        raise NotFoundError(f"There is no alert {name!r}.", hint)


def _is_reference(text: str) -> bool:
    return isinstance(secrets.read(text), secrets.Reference) and not text.endswith(":")
