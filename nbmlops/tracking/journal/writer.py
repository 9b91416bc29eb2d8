"""The writer of a journal: one for each process and store."""

import errno
import fcntl
import hashlib
import io
import os
import re
import socket
import threading
import time
import uuid
from pathlib import Path
from typing import IO, Any

import orjson

from nbmlops.errors import StoreError, UsageError
from nbmlops.tracking.journal.records import Header, line, portable

DURABILITIES = ("page-cache", "fsync", "off")
DRAFT = ".draft"  # ends the name of what is not yet whole
ABOVE = "NBMLOPS_RUN_OFFLINE"  # variable that names the run above this process, where that began offline
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


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
    >>> from nbmlops.tracking.journal import metric, read
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
        with self._lock:  # the number of a file that is closed is soon another's
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
    draft = path.with_suffix(DRAFT)
    fd = os.open(draft, _APPEND | os.O_EXCL, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
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
