"""Where an endpoint's captures lie: open logs on this machine, segments in a folder or at any fsspec URL.

The one file that talks to fsspec, and that puts segments in their place.
"""

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from nbmlops.errors import StoreError, UsageError
from nbmlops.serving.capture.writing import OPEN, SUFFIX

CAPTURE = ".nbmlops/capture"
_SEGMENT = re.compile(r"date=\d{4}-\d{2}-\d{2}/(part|merged)-[^/]+\.parquet")


class Segments(Protocol):
    """A place for whole files, named ``date=YYYY-MM-DD/….parquet``; a file appears whole or not at all."""

    def sizes(self) -> dict[str, int]:
        """List the segments' names with their sizes in bytes."""

    def opened(self, name: str) -> Any:
        """Open a segment to read; FileNotFoundError when it is gone."""

    def draft(self, name: str) -> Path:
        """Name a local file in which a segment is written before it is put."""

    def put(self, draft: Path, name: str) -> None:
        """Make a draft a segment, in place of one of the same name; it is then on the disk."""

    def remove(self, name: str) -> None:
        """Remove a segment; one that is gone is fine."""


@dataclass(frozen=True)
class Place:
    """An endpoint's captures: the folder of logs on this machine, and its segments."""

    endpoint: str
    folder: Path
    segments: Segments

    @classmethod
    def of(cls, root: Path, endpoint: str, capture: str = CAPTURE) -> Self:
        """Name the captures of a project's endpoint.

        Parameters
        ----------
        root
            The project's folder.
        capture
            Where segments go: a folder, against `root`, or an fsspec URL such as ``s3://bucket/capture``.

        Raises
        ------
        UsageError
            The URL's scheme needs a package that is not installed.
        """
        folder = root / CAPTURE / endpoint
        if "://" in capture:
            return cls(endpoint, folder, RemoteSegments.at(f"{capture.rstrip('/')}/{endpoint}", folder / OPEN))
        return cls(endpoint, folder, LocalSegments(root / capture / endpoint))

    @property
    def open(self) -> Path:
        """The folder of logs."""
        return self.folder / OPEN

    def logs(self) -> list[Path]:
        """List the logs, oldest first: those that are written, and those that wait to become segments."""
        return sorted(self.open.glob(f"*{SUFFIX}"), key=lambda path: path.stem.rpartition("-")[2].rjust(20))

    @contextlib.contextmanager
    def kept(self, patience_s: float = 0.0) -> Iterator[bool]:
        """Be the only process of this machine that changes segments; False when another is, and stays so."""
        self.open.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(self.open / ".lock", patience_s) as is_mine:
            yield is_mine


@contextlib.contextmanager
def _locked(path: Path, patience_s: float) -> Iterator[bool]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + patience_s
    try:
        while not (is_mine := has_lock(fd)) and time.monotonic() < deadline:
            time.sleep(0.02)
        yield is_mine
    finally:
        os.close(fd)


def has_lock(fd: int) -> bool:
    """Take a file's lock, and say whether nobody else has it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@dataclass(frozen=True)
class LocalSegments:
    """Segments in a folder of this machine, readable by their owner alone."""

    folder: Path

    def sizes(self) -> dict[str, int]:
        """List names and sizes; a file that goes meanwhile is left out."""
        found = {}
        for path in self.folder.glob("date=*/*.parquet"):
            name = f"{path.parent.name}/{path.name}"
            if _SEGMENT.fullmatch(name):
                with contextlib.suppress(FileNotFoundError):
                    found[name] = path.stat().st_size
        return found

    def opened(self, name: str) -> Any:
        """Open a segment."""
        return (self.folder / name).open("rb")

    def draft(self, name: str) -> Path:
        """Name a hidden file beside the segment."""
        path = self.folder / name
        for folder in (self.folder.parent, self.folder, path.parent):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return path.with_name(f".{path.name}.draft")

    def put(self, draft: Path, name: str) -> None:
        """Rename the draft, and have the disk keep both the bytes and the name."""
        path = self.folder / name
        _sync(draft)
        draft.replace(path)
        _sync(path.parent)

    def remove(self, name: str) -> None:
        """Remove a segment, and the day's folder with its last."""
        path = self.folder / name
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            path.parent.rmdir()


@dataclass(frozen=True)
class RemoteSegments:
    """Segments at an fsspec URL; drafts lie beside the logs."""

    filesystem: Any
    path: str
    drafts: Path

    @classmethod
    def at(cls, url: str, drafts: Path) -> Self:
        """Open the file system of a URL."""
        try:
            import fsspec  # type: ignore[import-untyped]

            filesystem, path = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as exc:
            message = f"The captures' place {url.partition('://')[0]}://… cannot be used: {exc}"
            raise UsageError(message, "Install the package that it names, or set capture in [stores].") from exc
        return cls(filesystem, path, drafts)

    def sizes(self) -> dict[str, int]:
        """List names and sizes, as of now: listings are not cached."""
        with _translated(self.path):
            self.filesystem.invalidate_cache()
            try:
                found = self.filesystem.find(self.path, detail=True)
            except FileNotFoundError:
                return {}
        names = {"/".join(path.split("/")[-2:]): int(info["size"] or 0) for path, info in found.items()}
        return {name: size for name, size in names.items() if _SEGMENT.fullmatch(name)}

    def opened(self, name: str) -> Any:
        """Open a segment."""
        with _translated(self.path):
            return self.filesystem.open(f"{self.path}/{name}", "rb")

    def draft(self, name: str) -> Path:
        """Name a hidden file in the folder of logs."""
        self.drafts.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self.drafts / f".{name.replace('/', '-')}.draft"

    def put(self, draft: Path, name: str) -> None:
        """Upload the draft under another name, then give it its own."""
        with _translated(self.path):
            day = f"{self.path}/{name.partition('/')[0]}"
            self.filesystem.makedirs(day, exist_ok=True)
            uploaded = f"{day}/.{name.partition('/')[2]}.draft"
            self.filesystem.put_file(str(draft), uploaded)
            self.filesystem.mv(uploaded, f"{self.path}/{name}")
        draft.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """Remove a segment."""
        with _translated(self.path), contextlib.suppress(FileNotFoundError):
            self.filesystem.rm_file(f"{self.path}/{name}")


@contextlib.contextmanager
def _translated(place: str) -> Iterator[None]:
    """Tell of a store out of reach in our words; a file that is missing is the caller's to judge."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as exc:  # each file system has errors of its own
        message = f"The captures in {place} are out of reach: {type(exc).__name__}."
        raise StoreError(message, "Nothing is lost: they wait in logs on this machine.") from exc


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
