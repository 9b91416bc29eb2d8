"""The source of the cell that sets parameters: data spelled as Python, one assignment a line, secrets left out."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from nbmlops.scrub import scrub
from nbmlops.secrets import HANDED, Reference

_SECRETS = '__import__("nbmlops.secrets", fromlist=["secrets"])'  # a cell that needs it imports it, and no name is left


@dataclass(frozen=True)
class Injection:
    """The source of the cell that sets parameters, and the variables that hand it secrets which are no references."""

    source: str
    environment: Mapping[str, str]


def injection(values: Mapping[str, Any]) -> Injection:
    """Word the cell that sets checked values.

    A reference is resolved when the cell runs. What looks like a secret is not
    written: the cell takes it from the environment.

    Examples
    --------
    >>> print(injection({"month": 3, "api_key": "s3cr3t", "token": Reference("env:TOKEN")}).source)
    # Parameters
    month = 3
    api_key = __import__("nbmlops.secrets", fromlist=["secrets"]).taken('api_key', 0)
    token = __import__("nbmlops.secrets", fromlist=["secrets"]).resolved('env:TOKEN')
    """
    lines, environment = ["# Parameters"], {}
    for name, value in values.items():
        speller = _Speller(name)
        lines.append(f"{name} = {speller.spelled(value, name)}")
        if speller.kept_back:
            environment[f"{HANDED}{name}"] = json.dumps(speller.kept_back)
    return Injection("\n".join(lines), environment)


def references(values: Any) -> list[str]:
    """List the references to secrets among checked values, each once.

    Examples
    --------
    >>> references({"token": Reference("env:TOKEN"), "note": "env:TOKEN", "all": [Reference("file:a")]})
    ['env:TOKEN', 'file:a']
    """
    return list(dict.fromkeys(_references(values)))


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, Reference):
        yield str(value)
    elif isinstance(value, list | tuple | Mapping):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _references(each)


def secret_values(values: Mapping[str, Any]) -> list[str]:
    """List the texts among values that are secrets and no references, for the scrubber to remember.

    Examples
    --------
    >>> secret_values({"api_key": "s3cr3t", "token": Reference("env:TOKEN"), "stores": {"password": 12345}})
    ['s3cr3t', '12345']
    """
    spellers = [_Speller(name) for name in values]
    for speller, (name, value) in zip(spellers, values.items(), strict=True):
        speller.spelled(value, name)
    return [str(each) for speller in spellers for each in speller.kept_back]


def spelled(value: Any) -> str:
    """Spell a checked value as a Python expression that needs no import.

    Examples
    --------
    >>> spelled([1, float("inf"), date(2013, 1, 31)])
    "[1, float('inf'), __import__('datetime').date.fromisoformat('2013-01-31')]"
    """
    return _Speller(None).spelled(value, "")


@dataclass
class _Speller:
    """Spells the value of one parameter; its secrets are kept back, unless it has no name."""

    parameter: str | None
    kept_back: list[Any] = field(default_factory=list)

    def spelled(self, value: Any, name: str) -> str:
        """Spell a value that goes by a name: a secret is known by that, or by its shape."""
        match value:
            case Reference():
                return f"{_SECRETS}.resolved({str.__repr__(value)})"
            case str() | int() | float() if self.parameter is not None and is_secret(value, name):
                self.kept_back.append(value)
                return f"{_SECRETS}.taken({self.parameter!r}, {len(self.kept_back) - 1})"
            case float() if not math.isfinite(value):
                return f"float({str(value)!r})"
            case list():
                return f"[{self._joined(value, name)}]"
            case tuple():
                return f"({self._joined(value, name)}{',' if len(value) == 1 else ''})"
            case dict():
                pairs = (f"{self.spelled(key, '')}: {self.spelled(item, str(key))}" for key, item in value.items())
                return f"{{{', '.join(pairs)}}}"
            case Decimal():
                return f"__import__('decimal').Decimal({self.spelled(str(value), name)})"
            case Path():
                return f"__import__('pathlib').Path({self.spelled(str(value), name)})"
            case date() | time():
                return _spelled_time(value)
        return repr(value)

    def _joined(self, values: list[Any] | tuple[Any, ...], name: str) -> str:
        return ", ".join(self.spelled(each, name) for each in values)


def is_secret(value: Any, name: str) -> bool:
    """Say whether a value is a secret, by its name or its shape."""
    return repr(scrub(value, name)) != repr(value)  # NaN is not equal to itself


def _spelled_time(value: date | time) -> str:
    zone, fold = getattr(value, "tzinfo", None), getattr(value, "fold", 0)
    changes = ["fold=1"] if fold else []
    if isinstance(value, datetime) and isinstance(zone, ZoneInfo):  # by its name, which no offset tells
        value = value.replace(tzinfo=None)
        changes.append(f"tzinfo=__import__('zoneinfo').ZoneInfo({zone.key!r})")
    changed = f".replace({', '.join(changes)})" if changes else ""
    return f"__import__('datetime').{type(value).__name__}.fromisoformat({value.isoformat()!r}){changed}"
