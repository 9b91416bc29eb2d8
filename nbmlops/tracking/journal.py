"""The journal's files: append-only JSON lines, one file for each process that logs; no store is known here.

A folder of journals holds, for each process::

    HOST-PID-STAMP.jsonl      a header line, then one line a record, each written before the call returned
    HOST-PID-STAMP.sent       how far it has been delivered, and the real ids of runs begun offline
    HOST-PID-STAMP.rejected   records that the store refused, each with the reason and the journal's header
    HOST-PID-STAMP.files/     copies of artifacts that wait for their upload
    HOST-PID-STAMP.lock       held by the one who delivers it

A record is ``[kind, run, ...]``; the functions below make each kind. A line without its newline was torn by a
crash before its call returned, so nobody was promised it. A journal appears under its name with its header
whole and its writer's lock held, so that nobody takes it for one that its writer has left.
"""

import contextlib
import errno
import fcntl
import hashlib
import io
import json
import math
import os
import re
import shutil
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import IO, Any, Self

import orjson

from nbmlops.errors import StoreError, UsageError
from nbmlops.scrub import scrub_text

FORMAT = 1
DURABILITIES = ("page-cache", "fsync", "off")
CHUNK_BYTES = 512 * 1024  # read and delivered at once: what bounds a sender's memory
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
# how many words a record of each kind has at least
_WORDS = {"metric": 6, "param": 4, "tag": 4, "begin": 2, "create": 3, "update": 3, "inputs": 3, "file": 3, "model": 3}
_DRAFT = ".draft"  # ends the name of what is not yet whole
_STALE_S = 60.0  # after which a draft, or a companion without its journal, was left by a crash

Record = list[Any]


# ------------------------------------------------------------------- records
def metric(
    run_id: str, key: str, value: float, at_ms: int, step: int, extras: Mapping[str, str] | None = None
) -> bytes:
    """Word a metric; JSON has no words for NaN and infinities, so these become text that ``float`` reads."""
    number: float | str = value if value - value == 0 else _NOT_FINITE(value)
    record: Record = ["metric", run_id, key, number, at_ms, step]
    if extras:
        record.append(extras)
    return orjson.dumps(record, None, orjson.OPT_APPEND_NEWLINE)


def line(kind: str, run_id: str, *rest: Any) -> bytes:
    """Word any other record: ``param`` and ``tag`` (key, value), ``create``, ``update``, ``inputs`` (one mapping).

    ``begin`` says that the journal's writer owns the run; the id that its creation carried may follow, and
    ``intend`` with this id alone goes before a run is asked for.
    ``file`` stands for an artifact: the place it belongs under, its path there, and its copy in the journal.
    """
    return orjson.dumps([kind, run_id, *rest], None, orjson.OPT_APPEND_NEWLINE)


def _NOT_FINITE(value: float) -> str:  # noqa: N802  # never called for a number one meets
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


# -------------------------------------------------------------------- writing
@dataclass(frozen=True)
class Header:
    """A journal's first line: whose it is, and the store that its records are meant for."""

    target: str
    host: str
    pid: int
    created_at: float
    format: int = FORMAT


ABOVE = "NBMLOPS_RUN_OFFLINE"  # variable that names the run above this process, where that began offline
_HEADER = {each.name for each in fields(Header)}


class Writer:
    """A process' journal for one store; its file appears with the first record.

    Parameters
    ----------
    folder
        The folder of journals.
    target
        Plain URL of the store. A password in it is not written down.
    durability
        ``page-cache``: a record survives the death of the process. ``fsync``: it survives a power cut too,
        and each call waits for the disk (some 150 µs on an SSD, milliseconds on other disks).

    Examples
    --------
    >>> import tempfile
    >>> writer = Writer(Path(tempfile.mkdtemp()), "sqlite:///mlflow.db")
    >>> writer.append(metric("r1", "auc", 0.75, 1700000000000, 0))
    >>> [record for _, record in read(writer.path, 0)[0]][1:]
    [['metric', 'r1', 'auc', 0.75, 1700000000000, 0]]
    >>> writer.close()
    """

    def __init__(self, folder: Path, target: str, durability: str = "page-cache") -> None:
        if durability not in DURABILITIES:
            raise UsageError(f"The journal's durability is {durability!r}.", f"One of: {', '.join(DURABILITIES)}")
        self.folder = folder
        self.target = target
        self._syncs = durability == "fsync"
        self._fd = -1
        self._pid = 0
        self._lock = threading.RLock()
        self.path = folder / "unwritten.jsonl"
        os.register_at_fork(after_in_child=self._forked)

    @property
    def is_open(self) -> bool:
        """Whether this very process, and not the one that it was forked from, has written."""
        return self._fd >= 0 and self._pid == os.getpid()

    @property
    def size(self) -> int:
        """Bytes written."""
        return os.fstat(self._fd).st_size if self.is_open else 0

    def append(self, record: bytes) -> None:
        """Write one or more lines; when this returns, the death of the process cannot take them.

        Raises
        ------
        StoreError
            The disk is full, or cannot be written. What was written before is kept, and the next call tries anew.
        """
        with self._lock:  # two threads must not both open a file, nor mend each other's torn lines
            if self._pid != os.getpid():
                self._open()
            try:
                written = os.write(self._fd, record)
                if written < len(record):
                    self._complete(record, written)
                if self._syncs:
                    os.fdatasync(self._fd)
            except OSError as exc:
                raise self._refused(exc) from exc

    def copy(self, content: Path | bytes) -> dict[str, Any]:
        """Copy an artifact into the journal, so that it can be changed or removed before its upload.

        Returns
        -------
        dict
            ``copy``: its name in the journal; ``sha256`` of its bytes; ``bytes``: how many.

        Raises
        ------
        StoreError
            The disk is full, or cannot be written.
        OSError
            The file cannot be read.
        """
        with self._lock:
            if self._pid != os.getpid():
                self._open()
        folder = self.path.with_suffix(".files")
        name = uuid.uuid4().hex
        source = content.open("rb") if isinstance(content, Path) else io.BytesIO(content)
        with source:
            try:
                folder.mkdir(exist_ok=True, mode=0o700)
                size, digest = _copied(source, folder / name, self._syncs)
            except OSError as exc:
                (folder / name).unlink(missing_ok=True)
                raise self._refused(exc) from exc
        return {"copy": name, "sha256": digest, "bytes": size}

    def close(self) -> None:
        """Let the file go: others may then see that its writer has ended."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._pid = -1, 0

    def _forked(self) -> None:
        """Let go, in a child, of the parent's file: it would keep the parent's journal from looking ended.

        The parent's lock may be held by another of its threads, which the child does not have.
        """
        self._lock = threading.RLock()
        self.close()

    def _open(self) -> None:
        """Begin this process' own file; its lock tells others that the writer lives."""
        host = re.sub(r"[^\w.-]", "_", socket.gethostname())
        path = self.folder / f"{host}-{os.getpid()}-{time.time_ns():x}.jsonl"
        header = Header(portable(self.target, self.folder), socket.gethostname(), os.getpid(), time.time())
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._fd = _begun(path, header)
            if above := os.environ.get(ABOVE):
                os.write(self._fd, line("above", above))
            if self._syncs:
                _sync_folder(self.folder)
        except OSError as exc:
            raise self._refused(exc) from exc
        self._pid, self.path = os.getpid(), path

    def _complete(self, record: bytes, written: int) -> None:
        """Write the rest of what the disk took in part; on a full one whole lines stay, and the torn one goes.

        A whole line may have been delivered already, so that what follows must not take its place.
        """
        start = os.fstat(self._fd).st_size - written
        try:
            while written < len(record):
                written += os.write(self._fd, record[written:])
        except OSError:
            os.ftruncate(self._fd, start + record.rfind(b"\n", 0, written) + 1)
            raise

    def _refused(self, exc: OSError) -> StoreError:
        return StoreError(
            f"The journal in {self.folder} cannot be written: {exc.strerror}. This call was not kept, or not whole.",
            "Free some space, then log it again; what was logged before is safe.",
        )


def _copied(source: IO[bytes], copy: Path, syncs: bool) -> tuple[int, str]:
    """Copy a file and hash it in one pass; give its size and SHA-256."""
    digest = hashlib.sha256()
    with copy.open("wb") as file:
        while block := source.read(1 << 20):
            digest.update(block)
            file.write(block)
        if syncs:
            file.flush()
            os.fsync(file.fileno())
        return file.tell(), digest.hexdigest()


def _begun(path: Path, header: Header) -> int:
    """Make a journal that has its header and its writer's lock from the moment that it can be seen."""
    draft = path.with_suffix(_DRAFT)
    fd = os.open(draft, _APPEND | os.O_EXCL, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        first = orjson.dumps(vars(header), None, orjson.OPT_APPEND_NEWLINE)
        if os.write(fd, first) < len(first):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        draft.rename(path)
    except OSError:
        os.close(fd)
        draft.unlink(missing_ok=True)
        raise
    return fd


def _sync_folder(folder: Path) -> None:
    """Have the disk keep a folder's names."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def portable(target: str, folder: Path) -> str:
    """Word a store's URL as a journal remembers it: no password, and what lies in the project relative to it.

    Examples
    --------
    >>> portable("sqlite:////p/.nbmlops/mlflow.db", Path("/p/.nbmlops/journal"))
    'sqlite:///{project}/.nbmlops/mlflow.db'
    """
    return scrub_text(target).replace(f":///{folder.parent.parent.as_posix()}/", ":///{project}/")


# -------------------------------------------------------------------- reading
def read(path: Path, offset: int, limit: int = CHUNK_BYTES) -> tuple[list[tuple[int, Record]], int]:
    """Read whole records from an offset on.

    Parameters
    ----------
    path
        A journal.
    offset
        Bytes from its start; 0 is the header, which is a record of kind ``header``.
    limit
        Bytes to read at most; one longer line is still read whole.

    Returns
    -------
    list of (size in bytes, record), and the offset after them
        A line that is no record (a power cut may leave zeros) is one of kind ``torn``. A last line
        without its newline is left: it is being written, or its writer died before the call returned.
    """
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(limit)
        if len(data) == limit:
            data += file.readline()
    whole = data[: data.rfind(b"\n") + 1]
    lines = whole.split(b"\n")[:-1]
    return [(len(each) + 1, _record(each)) for each in lines], offset + len(whole)


def header_of(path: Path) -> Header | None:
    """Read a journal's header; None where a crash came before it."""
    with path.open("rb") as file:
        first = file.readline()
    record = _record(first)
    return Header(**record[1]) if record[0] == "header" else None


def _record(raw: bytes) -> Record:
    """Read a line; of one that a power cut has filled with zeros, what stands behind them."""
    try:
        found = orjson.loads(raw.lstrip(b"\0"))
    except orjson.JSONDecodeError:
        found = None
    if isinstance(found, dict) and found.keys() == _HEADER and found["format"] == FORMAT:
        return ["header", found]
    if isinstance(found, list) and len(found) > 1 and len(found) >= _WORDS.get(str(found[0]), 2):
        return found
    return ["torn", "", raw.decode(errors="replace")[:200]]


def journals(folder: Path) -> list[Path]:
    """List a folder's journals, oldest first."""
    found = folder.glob("*.jsonl") if folder.is_dir() else ()
    return sorted(found, key=lambda path: path.stem.rpartition("-")[2].rjust(20))


def has_writer(path: Path) -> bool:
    """Say whether the process that writes a journal lives: it holds the file's lock as long as it does."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


# ------------------------------------------------------------------- delivery
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
        yield is_mine
        if is_mine and not path.exists():  # it was removed before this process had the lock
            path.with_suffix(".lock").unlink(missing_ok=True)


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
            with path.open("ab", buffering=0) as file:
                file.write(lines)
        else:
            draft = path.with_suffix(_DRAFT)
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


_COMPANIONS = (".sent", ".sent-draft", ".lock", ".files", _DRAFT)


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
