"""nbmlops.toml edited: comments, order and everything else stay as they are; one process at a time."""

import contextlib
import difflib
import fcntl
import os
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbmlops.errors import StoreError, UsageError
from nbmlops.project import FILE, Project

if TYPE_CHECKING:
    from tomlkit import TOMLDocument
    from tomlkit.items import Table


@dataclass(frozen=True)
class Edit:
    """A changed nbmlops.toml: its new text, what differs, and which table that is (``pipelines.retrain``)."""

    text: str
    difference: str
    place: str


@dataclass(frozen=True)
class Line:
    """One line of nbmlops.toml that comes (+) or goes (-)."""

    line: str


def changes(difference: str) -> tuple[Line, ...]:
    r"""Take the lines that come or go out of a difference.

    Examples
    --------
    >>> changes("--- nbmlops.toml\n+++ nbmlops.toml\n@@ -1 +1 @@\n-a = 1\n+a = 2\n")
    (Line(line='-a = 1'), Line(line='+a = 2'))
    """
    return tuple(Line(line) for line in difference.splitlines()[2:] if line[:1] in "+-" and line[1:].strip())


# ------------------------------------------------------------------- the text
def document(text: str) -> "TOMLDocument":
    """Read a text so that it can be written again as it was.

    Raises
    ------
    UsageError
        It is no TOML.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        tomllib.loads(text)
        return tomlkit.parse(text)
    except (tomllib.TOMLDecodeError, TOMLKitError) as exc:
        raise UsageError(f"{FILE} is not valid TOML: {exc}.", "Mend that line and try again.") from exc


def table(document: "TOMLDocument", kind: str, key: str) -> "Table":
    """Give the table ``[kind.key]`` to write to; a new one is added at the end."""
    import tomlkit

    if kind not in document:
        document.append(kind, tomlkit.table(is_super_table=True))
    section = document[kind]
    if key not in section:
        section[key] = tomlkit.table()
    found: Table = section[key]
    return found


def drop(document: "TOMLDocument", kind: str, key: str) -> None:
    """Take a table away, and what held it where that is empty then."""
    section = document[kind]
    del section[key]
    if not section:
        del document[kind]


def put(table: "Table", key: str, value: Any) -> None:
    """Write a value: changed in its place, added before the table's own tables, or taken away where it is empty."""
    import tomlkit

    if not value:
        table.pop(key, None)
    elif key in table:
        table[key] = value
    else:
        table.append(key, tomlkit.item(value))


def edited(text: str, document: "TOMLDocument", place: str, own: Iterable[str] | None = None) -> Edit:
    """Give a document as an edit, if only the table at `place` has changed, and of that only its `own` keys.

    Raises
    ------
    UsageError
        Something else would change with it.
    """
    after = document.as_string()
    was, now = tomllib.loads(text), tomllib.loads(after)
    if now != document.unwrap() or _others(was, place, own) != _others(now, place, own):
        raise UsageError(f"{FILE} is written in a way in which it cannot be edited safely.", f"Edit [{place}] by hand.")
    lines = difflib.unified_diff(text.splitlines(), after.splitlines(), FILE, FILE, lineterm="")
    return Edit(after, "\n".join(lines), place)


def _others(content: dict[str, Any], place: str, own: Iterable[str] | None) -> dict[str, Any]:
    """Give all that an edit at a place must leave alone."""
    kind, _, key = place.partition(".")
    tables = {name: table for name, table in content.get(kind, {}).items() if name != key}
    kept = {} if own is None else content.get(kind, {}).get(key, {})
    rest = {name: value for name, value in kept.items() if name not in (own or ())}
    return {**content, kind: (tables, rest)}


# ------------------------------------------------------------------- the file
@contextlib.contextmanager
def alone(project: Project) -> Iterator[None]:
    """Let one process at a time edit nbmlops.toml."""
    with project.state("settings.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def text_of(project: Project) -> str:
    """Read nbmlops.toml as it is."""
    return (project.root / FILE).read_text(encoding="utf-8")


def write(project: Project, text: str) -> None:
    """Write nbmlops.toml whole and at once, with the rights that it has.

    Raises
    ------
    StoreError
        It cannot be written; it is as it was.
    """
    path = (project.root / FILE).resolve()
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.chmod(path.stat().st_mode)
        draft.replace(path)
    except OSError as exc:
        draft.unlink(missing_ok=True)
        raise StoreError(f"{path} cannot be written: {exc.strerror}.", "Check the disk and who may write it.") from exc
