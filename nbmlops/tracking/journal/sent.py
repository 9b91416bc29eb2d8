"""How far a journal is delivered, and what becomes of one that is: all files beside it but its copies of artifacts."""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

import orjson

from nbmlops.tracking.journal.reading import has_writer, header_of
from nbmlops.tracking.journal.records import Record
from nbmlops.tracking.journal.writer import DRAFT

_STALE_S = 60.0  # after which a draft, or a companion without its journal, was left by a crash


@dataclass
class Sent:
    """How far a journal has been delivered.

    Attributes
    ----------
    offset
        Bytes of the journal up to which all is in the store, apart from `files`.
    ids
        Runs begun offline and models, and what the store has made of them.
    open
        The runs that the writer has not ended, each with the id that its creation carried, if any.
    files
        Places in the journal of the artifacts that wait for their upload, the next one first.
    rejected, rejected_bytes
        Records kept aside, and the bytes that they take there.
    error, upload_error
        Why the store, or its place of artifacts, could not be reached.
    uploads_failed, upload_after
        Attempts at uploads in a row that failed, and the time (seconds of the epoch) of the next one.
    stumbles, stumbled_at
        Failures in a row at this place while the store took other things, and the time of the first.
    """

    offset: int = 0
    ids: dict[str, str] = field(default_factory=dict)
    open: dict[str, str] = field(default_factory=dict)
    files: list[int] = field(default_factory=list)
    rejected: int = 0
    rejected_bytes: int = 0
    error: str = ""
    upload_error: str = ""
    uploads_failed: int = 0
    upload_after: float = 0.0
    stumbles: int = 0
    stumbled_at: float = 0.0

    @classmethod
    def of(cls, path: Path) -> Self:
        """Read what is known of a journal's delivery."""
        try:
            return cls(**json.loads(path.with_suffix(".sent").read_bytes()))
        except (FileNotFoundError, json.JSONDecodeError, TypeError):
            return cls()

    def save(self, path: Path) -> None:
        """Write it down in one step; only who holds the journal's lock may."""
        draft = path.with_suffix(".sent-draft")
        draft.write_bytes(orjson.dumps(vars(self)))
        draft.replace(path.with_suffix(".sent"))


@contextlib.contextmanager
def delivering(path: Path, patience_s: float) -> Iterator[bool]:
    """Be the only one who delivers a journal; gives False when another still does after `patience_s` seconds."""
    deadline = time.monotonic() + patience_s
    with path.with_suffix(".lock").open("w") as lock:
        while not (is_mine := _is_locked(lock)) and time.monotonic() < deadline:
            time.sleep(0.005)
        try:
            yield is_mine
        finally:
            if is_mine and not path.exists():  # it was removed before this process had the lock
                path.with_suffix(".lock").unlink(missing_ok=True)
            if is_mine:
                fcntl.flock(lock, fcntl.LOCK_UN)  # a child forked meanwhile has the file open too


def _is_locked(file: IO[Any]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unsent(path: Path) -> int:
    """Count the records that have not been delivered."""
    try:
        sent = Sent.of(path)
        with path.open("rb") as file:
            file.seek(sent.offset)
            count = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
        return max(0, count - (sent.offset == 0)) + len(sent.files)  # the header is nobody's record
    except FileNotFoundError:
        return 0


def reject(path: Path, sent: Sent, records: Sequence[Record], reason: str) -> None:
    """Keep refused records aside, each with the store's reason; what a crash left of an earlier attempt goes first."""
    whose = header_of(path)
    header = vars(whose) if whose else {}
    lines = [orjson.dumps({"reason": reason, "record": each, "header": header}) + b"\n" for each in records]
    with path.with_suffix(".rejected").open("ab") as file:
        file.truncate(sent.rejected_bytes)
        file.write(b"".join(lines))
    sent.rejected += len(lines)
    sent.rejected_bytes += sum(map(len, lines))


def retry(path: Path) -> int:
    """Write a journal's refused records behind its others, so that they are delivered anew; give their number."""
    aside = path.with_suffix(".rejected")
    with delivering(path, 30.0) as is_mine:
        if not is_mine or not aside.exists():
            return 0
        found = [orjson.loads(each) for each in aside.read_bytes().splitlines()]
        lines = b"".join(orjson.dumps(each["record"], None, orjson.OPT_APPEND_NEWLINE) for each in found)
        if path.exists():
            lived = path.stat()
            with path.open("ab", buffering=0) as file:
                file.write(lines)
            if not has_writer(path):  # its time tells when the writer last lived
                os.utime(path, ns=(lived.st_atime_ns, lived.st_mtime_ns))
        else:
            draft = path.with_suffix(DRAFT)
            draft.write_bytes(orjson.dumps(found[0]["header"], None, orjson.OPT_APPEND_NEWLINE) + lines)
            draft.rename(path)
        sent = Sent.of(path)
        sent.rejected = sent.rejected_bytes = 0
        sent.save(path)
        aside.unlink()
        return len(found)


def discard(path: Path) -> None:
    """Remove a journal that is delivered and has no writer; refused records stay, with the files they speak of."""
    path.unlink(missing_ok=True)  # first: without the others it would be delivered anew
    crash_point("in-discard")
    _remove_companions(path)


def tidy(folder: Path) -> None:
    """Remove what a crash has left of journals that are gone, or have never been."""
    left = {each.with_suffix(".jsonl") for suffix in _COMPANIONS for each in folder.glob(f"*{suffix}")}
    for path in left:
        if not path.exists() and any(_is_stale(path.with_suffix(suffix)) for suffix in _COMPANIONS):
            _remove_companions(path)


_COMPANIONS = (".sent", ".sent-draft", ".lock", ".files", DRAFT)


def _remove_companions(path: Path) -> None:
    keeps_files = path.with_suffix(".rejected").exists()
    for suffix in _COMPANIONS:
        companion = path.with_suffix(suffix)
        if suffix != ".files":
            companion.unlink(missing_ok=True)
        elif not keeps_files:
            shutil.rmtree(companion, ignore_errors=True)


def _is_stale(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > _STALE_S
    except FileNotFoundError:
        return False


def crash_point(name: str) -> None:
    """Die here when a test of crashes asks for it."""
    if os.environ.get("NBMLOPS_CRASH_AT") == name:
        os.kill(os.getpid(), signal.SIGKILL)
