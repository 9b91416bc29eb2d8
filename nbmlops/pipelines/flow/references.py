"""References such as ``${train.model_uri}``: parsed, found and put in; nothing is evaluated."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from nbmlops.errors import UsageError, nearest

# What a reference may name beside a step, with what is known of it; `parameters` and `matrix` have the user's own keys.
CONTEXT: dict[str, dict[str, str]] = {
    "due": {"date": "date", "time": "datetime"},
    "run": {"id": "str"},
    "pipeline": {"name": "str"},
    "parameters": {},
    "matrix": {},
}
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_MARK = re.compile(r"\$\$\{|\$\{([^{}]*)\}|\$\{")


@dataclass(frozen=True)
class Reference:
    """One value of another step, or of what a run is about; `path` has at least one key."""

    owner: str
    path: tuple[str, ...]

    @property
    def key(self) -> str:
        """The result that is meant, without what lies inside it."""
        return self.path[0]

    def __str__(self) -> str:
        return f"${{{'.'.join((self.owner, *self.path))}}}"


def parsed(text: str) -> tuple[str | Reference, ...]:
    """Part a text into plain pieces and references; ``$${`` stands for ``${`` itself.

    Raises
    ------
    UsageError
        A ``${`` opens no reference.

    Examples
    --------
    >>> parsed("AUC ${train.roc_auc}, $${price}")
    ('AUC ', Reference(owner='train', path=('roc_auc',)), ', ${price}')
    """
    parts: list[str | Reference] = []
    plain, end = "", 0
    for mark in _MARK.finditer(text):
        plain += text[end : mark.start()]
        end = mark.end()
        if mark[0] == "$${":
            plain += "${"
            continue
        parts += [plain] if plain else []
        plain = ""
        parts.append(_reference(mark))
    plain += text[end:]
    return (*parts, plain) if plain else tuple(parts)


def _reference(mark: re.Match[str]) -> Reference:
    owner, *path = (part.strip() for part in (mark[1] or "").split("."))
    if not path or not all(NAME.fullmatch(part) for part in (owner, *path)):
        hint = "Write ${step.result}, or $${ for the characters ${ themselves."
        raise UsageError(f"{mark[0]!r} is no reference.", hint)
    return Reference(owner, tuple(path))


def within(value: Any) -> Iterator[Reference]:
    """Give every reference in a value, those in lists and tables included.

    Examples
    --------
    >>> [str(each) for each in within({"table": "${extract.table}", "days": [1, "${due.date}"]})]
    ['${extract.table}', '${due.date}']
    """
    if isinstance(value, str):
        yield from (part for part in parsed(value) if isinstance(part, Reference))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from within(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from within(item)


def references_in(value: Any) -> tuple[Reference, ...]:
    """List the references in a value."""
    return tuple(within(value))


def whole(value: Any) -> Reference | None:
    """Give the reference that is all of a value, whose type it then has."""
    parts = parsed(value) if isinstance(value, str) else ()
    return parts[0] if len(parts) == 1 and isinstance(parts[0], Reference) else None


def filled(value: Any, look_up: Callable[[Reference], Any]) -> Any:
    """Put values in the place of references; what was put in is never read again.

    A reference that is the whole text keeps the type of what it names, one inside a text becomes text.

    Examples
    --------
    >>> filled({"n": "${train.n}", "note": "n=${train.n}"}, lambda reference: 3)
    {'n': 3, 'note': 'n=3'}
    """
    if isinstance(value, str):
        parts = parsed(value)
        if len(parts) == 1 and isinstance(parts[0], Reference):
            return look_up(parts[0])
        return "".join(part if isinstance(part, str) else as_text(look_up(part)) for part in parts)
    if isinstance(value, Mapping):
        return {key: filled(item, look_up) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [filled(item, look_up) for item in value]
    return value


def found(reference: Reference, values: Mapping[str, Any]) -> Any:
    """Find what a reference names; of a matrix step (a list of results) the list of it, in matrix order.

    Raises
    ------
    UsageError
        There is no such value; the hint names the nearest.

    Examples
    --------
    >>> found(Reference("train", ("auc",)), {"train": [{"auc": 0.7}, {"auc": 0.8}]})
    [0.7, 0.8]
    """
    if reference.owner not in values:
        raise UsageError(f"{reference} names a step that has no result here.", nearest(reference.owner, values))
    held = values[reference.owner]
    if isinstance(held, list | tuple):
        return [_dug(reference, each) for each in held]
    return _dug(reference, held)


def _dug(reference: Reference, held: Any) -> Any:
    for depth, key in enumerate(reference.path):
        if not isinstance(held, Mapping) or key not in held:
            inside = ".".join((reference.owner, *reference.path[:depth]))
            raise UsageError(
                f"{inside} has no {key!r}.", nearest(key, map(str, held) if isinstance(held, Mapping) else [])
            )
        held = held[key]
    return held


def as_text(value: Any) -> str:
    """Word a value inside a text: numbers as Python spells them, truth as true and false, the rest as JSON.

    Examples
    --------
    >>> as_text("a"), as_text(0.5), as_text(True), as_text([1, "x"]), as_text(None)
    ('a', '0.5', 'true', '[1, "x"]', 'null')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, date):
        return value.isoformat()
    return json.dumps(value, ensure_ascii=False, default=str)
