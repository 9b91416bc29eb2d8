"""References to secrets, ``env:NAME`` and ``file:PATH``: told from text, looked for, and resolved where they are used.

A secret travels as its reference and is read by the process that needs it, which from then on masks its value.
"""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nbmlops.errors import UsageError
from nbmlops.scrub import remember

LARGEST = 1_000_000  # bytes of a file that holds a secret
HANDED = "NBMLOPS_PARAMETER_"  # begins the variables that hand a kernel its secrets that are no references
ESCAPE = "text:"
_KINDS = ("env:", "file:")

_taken: dict[str, list[Any]] = {}


class Reference(str):
    """Where a secret is to be found: ``env:NAME`` or ``file:PATH``."""

    __slots__ = ()


def read(text: str) -> str:
    """Read a text that was given: as a reference where it begins as one, else as it is.

    A URL (``file://...``) is none. Text that begins like a reference and is none is given
    with ``text:`` in front of it.

    Examples
    --------
    >>> type(read("env:TOKEN")).__name__, type(read("file:///data/january.csv")).__name__
    ('Reference', 'str')
    >>> read("text:env:TOKEN"), read("text: a note")
    ('env:TOKEN', 'text: a note')
    """
    if text.startswith(_KINDS) and not text.startswith("file://"):
        return Reference(text)
    escaped = text.removeprefix(ESCAPE)
    return escaped if escaped.startswith((*_KINDS, ESCAPE)) else str.__str__(text)


def escaped(value: Any) -> Any:
    """Word texts so that `read` gives them back as they are: they are no references, however they begin.

    Examples
    --------
    >>> escaped(["env:TOKEN", "march", 3, Reference("env:TOKEN")])
    ['text:env:TOKEN', 'march', 3, 'env:TOKEN']
    """
    if isinstance(value, list | tuple):
        return [escaped(each) for each in value]
    if isinstance(value, Mapping):
        return {key: escaped(each) for key, each in value.items()}
    if not isinstance(value, str) or isinstance(value, Reference):
        return value
    return value if type(again := read(value)) is str and again == value else f"{ESCAPE}{value}"


def resolved(reference: str, folder: Path = Path()) -> str:
    """Read the secret that a reference stands for; this process masks its value from now on.

    Parameters
    ----------
    reference
        ``env:NAME``, or ``file:PATH``, where ``~`` is the home. Line ends at the end of a file do not count.
    folder
        Folder from which a relative path is meant; the working folder without it.

    Raises
    ------
    UsageError
        The variable or the file is missing or empty, the file is no file of UTF-8 text or
        larger than 1 MB, or it is no reference.

    Examples
    --------
    >>> getfixture("monkeypatch").setenv("TOKEN", "s3cr3t-0815")
    >>> resolved("env:TOKEN")
    's3cr3t-0815'
    """
    secret = _secret(reference, folder)
    remember(secret)
    return secret


def missing(references: Iterable[str], folder: Path = Path()) -> list[str]:
    """Say which references stand for nothing, each in one sentence, before anything that needs them starts.

    Parameters
    ----------
    references
        The references.
    folder
        Folder from which relative paths are meant: that in which they will be resolved.

    Examples
    --------
    >>> missing(["env:NO_SUCH_TOKEN"])
    ['env:NO_SUCH_TOKEN: the variable NO_SUCH_TOKEN is not set.']
    """
    found = []
    for reference in dict.fromkeys(references):
        try:
            _secret(reference, folder)
        except UsageError as exc:
            found.append(exc.message)
    return found


def taken(name: str, place: int) -> Any:
    """Take a secret that was handed to this process in its environment, and out of that: children do not inherit it.

    Raises
    ------
    UsageError
        Nothing was handed over under that name: the cell runs again, elsewhere.
    """
    if (handed := os.environ.pop(f"{HANDED}{name}", None)) is not None:
        _taken[name] = json.loads(handed)
    try:
        value = _taken[name][place]
    except (KeyError, IndexError) as exc:
        raise UsageError(
            f"The value of {name} is a secret that was given to one run alone, and is not kept.",
            f"Give it anew, best as a reference: -p {name}=env:{name.upper()}",
        ) from exc
    remember(str(value))
    return value


def _secret(reference: str, folder: Path) -> str:
    kind, _, place = reference.partition(":")
    if kind == "env" and place:
        return _of_variable(reference, place)
    if kind == "file" and place:
        return _of_file(reference, Path(place).expanduser() if place.startswith("~") else folder / place)
    raise UsageError(
        "It is no reference to a secret.", "References are env:NAME and file:PATH."
    )  # it may be the secret


def _of_variable(reference: str, name: str) -> str:
    value = os.environ.get(name) if "\0" not in name else None
    if value:
        return value
    state = "not set" if value is None else "empty"
    raise UsageError(
        f"{reference}: the variable {name} is {state}.", _hint(reference, "Set it where the notebook runs.")
    )


def _of_file(reference: str, path: Path) -> str:
    try:
        if not path.is_file():
            raise FileNotFoundError
        if path.stat().st_size > LARGEST:
            raise UsageError(f"{reference}: {path} is larger than 1 MB, which no secret is.")
        secret = path.read_bytes().decode().rstrip("\r\n")
    except (OSError, ValueError, RuntimeError) as exc:
        state = "is not there" if isinstance(exc, FileNotFoundError) else "cannot be read as text"
        hint = "A relative path is meant from the notebook's folder."
        raise UsageError(f"{reference}: the file {path} {state}.", _hint(reference, hint)) from None
    if not secret:
        raise UsageError(f"{reference}: the file {path} is empty.")
    return secret


def _hint(reference: str, first: str) -> str:
    return f"{first} If a text is meant, and no secret: {ESCAPE}{reference}"
