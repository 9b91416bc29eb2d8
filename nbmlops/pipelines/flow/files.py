"""The files and folders that values name: what was in them, and whether it still is."""

import functools
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbmlops.pipelines.flow.ingredients import sha

LONGEST = 1000  # characters of a text that may be a path
MOST_FILES = 10_000  # of a folder that is looked at
_CHUNK = 1 << 20
Kept = Mapping[str, Sequence[Any]]  # a text -> digest, size in bytes, time of change in ns


@dataclass(frozen=True)
class Files:
    """What lies under the places from which a pipeline's paths are meant: the project's folder, its notebooks'.

    A text is taken for a path when it has a slash or an ending and something is there, the project's folder and those
    above it aside. Of a folder the names, sizes and times of its files count, of a file its bytes.
    """

    places: tuple[Path, ...]

    def digest(self, text: str) -> str:
        """Give the digest of what a text names; empty where that is nothing of this machine."""
        path = self._path(text)
        try:
            return _digest(path, _stamp(path)) if path else ""
        except OSError:
            return ""

    def kept(self, results: Mapping[str, Any]) -> dict[str, tuple[str, int, int]]:
        """Tell what results point to, as it is now."""
        found = {}
        for text in dict.fromkeys(_texts(results)):
            if (path := self._path(text)) and (digest := self.digest(text)):
                found[text] = (digest, *_stamp(path)[:2])
        return found

    def still(self, kept: Kept) -> bool:
        """Tell whether all that results point to is as it was kept: untouched, or with the same bytes."""
        return all(self._is(text, *told) for text, told in kept.items())

    def _is(self, text: str, digest: str, size: int, changed_ns: int) -> bool:
        path = self._path(text)
        if path is None:
            return False
        if path.is_file() and _stamp(path)[:2] == (size, changed_ns):
            return True
        return self.digest(text) == digest

    def _path(self, text: str) -> Path | None:
        name = text.removeprefix("file://")
        is_plain = 0 < len(name) <= LONGEST and name.isprintable() and "://" not in name
        if not is_plain or not ("/" in name or Path(name).suffix):
            return None
        try:
            path = next((path for place in self.places if (path := place / name).exists()), None)
            return None if path is None or self.places[0].is_relative_to(path.resolve()) else path
        except OSError:
            return None


def digest_of(kept: Kept) -> str:
    """Reduce what results point to to one digest; empty where they point to nothing.

    Examples
    --------
    >>> digest_of({}), len(digest_of({"a.csv": ("d", 3, 1)})), digest_of({"a.csv": ("d", 3, 1)})[:6]
    ('', 64, 'c863a3')
    """
    return sha({text: told[0] for text, told in kept.items()}) if kept else ""


def _stamp(path: Path) -> tuple[int, int, int]:
    told = path.stat()
    return told.st_size, told.st_mtime_ns, told.st_ino


def _digest(path: Path, stamp: tuple[int, int, int]) -> str:
    return _of_folder(path) if path.is_dir() else _of_file(path, stamp)


@functools.lru_cache(maxsize=4096)
def _of_file(path: Path, stamp: tuple[int, int, int]) -> str:  # noqa: ARG001  # a changed file is read anew
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _of_folder(path: Path) -> str:
    found = []
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            told = os.stat(os.path.join(folder, name), follow_symlinks=False)
            found.append([os.path.relpath(os.path.join(folder, name), path), told.st_size, told.st_mtime_ns])
        if len(found) > MOST_FILES:
            return ""
    return sha(found)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)
