"""The journal's files: append-only JSON lines, one file for each process that logs; no store is known here.

A folder of journals holds, for each process::

    HOST-PID-STAMP.jsonl      a header line, then one line a record, each written before the call returned
    HOST-PID-STAMP.sent       how far it has been delivered, and the real ids of runs begun offline
    HOST-PID-STAMP.rejected   records that the store refused, each with the reason
    HOST-PID-STAMP.files/     copies of artifacts that wait for their upload

A record is ``[kind, run, ...]``; the functions below make each kind. A line without its newline was torn by a
crash before its call returned, so nobody was promised it.
"""

import contextlib
import fcntl
import hashlib
import io
import json
import math
import os
import re
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

import orjson

from nbmlops.errors import StoreError, UsageError
from nbmlops.scrub import scrub_text

FORMAT = 1
DURABILITIES = ("page-cache", "fsync", "off")
CHUNK_BYTES = 512 * 1024  # read and delivered at once: what bounds a sender's memory
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC

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

    ``begin`` says that the journal's writer owns the run.
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
                size, digest = _copied(source, folder / name)
            except OSError as exc:
                (folder / name).unlink(missing_ok=True)
                raise self._refused(exc) from exc
        return {"copy": name, "sha256": digest, "bytes": size}

    def close(self) -> None:
        """Let the file go: others may then see that its writer has ended."""
        if self.is_open:
            os.close(self._fd)
        self._fd, self._pid = -1, 0

    def _forked(self) -> None:
        """Leave the parent its lock, which another of its threads may have held."""
        self._lock = threading.RLock()

    def _open(self) -> None:
        """Begin this process' own file; its lock tells others that the writer lives."""
        host = re.sub(r"[^\w.-]", "_", socket.gethostname())
        path = self.folder / f"{host}-{os.getpid()}-{time.time_ns():x}.jsonl"
        header = Header(portable(self.target, self.folder), socket.gethostname(), os.getpid(), time.time())
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            fd = os.open(path, _APPEND | os.O_EXCL, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_SH)
                first = orjson.dumps(vars(header), None, orjson.OPT_APPEND_NEWLINE)
                if os.write(fd, first) < len(first):
                    raise OSError(28, os.strerror(28))
            except OSError:
                os.close(fd)
                path.unlink(missing_ok=True)
                raise
        except OSError as exc:
            raise self._refused(exc) from exc
        if self._fd >= 0:  # forked: the parent keeps its own
            os.close(self._fd)
        self._fd, self._pid, self.path = fd, os.getpid(), path

    def _complete(self, record: bytes, written: int) -> None:
        """Write the rest of a record that the disk took in part; a full disk leaves no torn line behind."""
        start = os.fstat(self._fd).st_size - written
        try:
            while written < len(record):
                written += os.write(self._fd, record[written:])
        except OSError:
            os.ftruncate(self._fd, start)
            raise

    def _refused(self, exc: OSError) -> StoreError:
        return StoreError(
            f"The journal in {self.folder} cannot be written: {exc.strerror}. Nothing of this call was kept.",
            "Free some space, then log it again; what was logged before is safe.",
        )


def _copied(source: IO[bytes], copy: Path) -> tuple[int, str]:
    """Copy a file and hash it in one pass; give its size and SHA-256."""
    digest = hashlib.sha256()
    with copy.open("wb") as file:
        while block := source.read(1 << 20):
            digest.update(block)
            file.write(block)
        return file.tell(), digest.hexdigest()


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
        A line that is no JSON (a power cut may leave zeros) is a record of kind ``torn``. A last line
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
    record = _record(first.rstrip(b"\n"))
    return Header(**record[1]) if record[0] == "header" and first.endswith(b"\n") else None


def _record(raw: bytes) -> Record:
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return ["torn", "", raw.decode(errors="replace")[:200]]
    return ["header", found] if isinstance(found, dict) else list(found)


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

    `ids` maps runs begun offline to those that the store made of them. `doubtful` is the run whose creation may
    have reached the store without its answer coming back. `open` are the runs that the writer has not ended.
    """

    offset: int = 0
    ids: dict[str, str] = field(default_factory=dict)
    doubtful: str = ""
    rejected: int = 0
    error: str = ""
    open: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, path: Path) -> Self:
        """Read what is known of a journal's delivery."""
        try:
            return cls(**json.loads(path.with_suffix(".sent").read_bytes()))
        except (FileNotFoundError, json.JSONDecodeError):
            return cls()

    def save(self, path: Path) -> None:
        """Write it down in one step."""
        draft = path.with_suffix(f".sent-{os.getpid()}")
        draft.write_bytes(orjson.dumps(vars(self)))
        draft.replace(path.with_suffix(".sent"))


@contextlib.contextmanager
def delivering(path: Path, patience_s: float) -> Iterator[bool]:
    """Be the only one who delivers a journal; gives False when another still does after `patience_s` seconds."""
    deadline = time.monotonic() + patience_s
    with path.with_suffix(".lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    yield False
                    return
                time.sleep(0.005)
            else:
                yield True
                return


def reject(path: Path, records: Sequence[Record], reason: str) -> None:
    """Keep refused records aside, each with the store's reason."""
    with path.with_suffix(".rejected").open("ab") as file:
        for record in records:
            file.write(orjson.dumps({"reason": reason, "record": record}, None, orjson.OPT_APPEND_NEWLINE))


def discard(path: Path) -> None:
    """Remove a journal that is delivered and has no writer; refused records stay, with the files they speak of."""
    for suffix in (".jsonl", ".sent", ".lock"):
        path.with_suffix(suffix).unlink(missing_ok=True)
    if not path.with_suffix(".rejected").exists():
        shutil.rmtree(path.with_suffix(".files"), ignore_errors=True)
