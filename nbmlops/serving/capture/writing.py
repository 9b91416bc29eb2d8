"""The capture of one worker: a list in memory that a log takes up every 0.1 s.

What is not here: parsing. A request costs an append; `Capture.flush` makes frames of what waits, off the request's
path. Imports numpy and orjson at the most.
"""

import contextlib
import fcntl
import os
import re
import socket
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbmlops.serving.capture.columns import Filter
from nbmlops.serving.capture.frames import (
    BODY,
    COLUMNS,
    NOTHING,
    VALUES,
    Record,
    as_json,
    framed,
    mark_of,
    packed,
    packed_inputs,
)
from nbmlops.serving.capture.settings import CaptureSettings

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Columns = Mapping[str, Sequence[Any] | npt.NDArray[np.generic]]
    Answer = bytes | Sequence[Any] | npt.NDArray[np.generic]
    # request_id, at_ns, version, role, latency_s, status, form, features, answer, size in bytes
    _Waiting = tuple[str, int, str, str, float, int, str, bytes | Columns | None, Answer | None, int]

OPEN = "open"
SUFFIX = ".log"
DRAFT = ".draft"  # ends the name of a log that does not have its lock yet
JSON = "application/json"
FRAME_RECORDS = 512  # at most, so that packing holds the interpreter for about a millisecond
RETRY_S = 1.0  # between attempts at a disk that refuses
_RECORD_BYTES = 300  # what a record takes in memory beside its bodies
_VALUE_BYTES = 40  # what a value in a list takes, roughly
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL | os.O_CLOEXEC


@dataclass(frozen=True)
class Counts:
    """How many records are in a log, were dropped, wait, and were kept without features that could not be filtered."""

    kept: int
    dropped: int
    waiting: int
    unfiltered: int


class Capture:
    """What one worker captures of one endpoint.

    What was added in the last 0.1 s before a kill -9 (since the last `flush`, that is) may be lost, nothing else;
    `close` loses nothing. Where the disk refuses, records wait in memory up to a limit; then new ones are dropped
    and counted, and serving goes on.

    Parameters
    ----------
    folder
        The endpoint's folder of captures; the log is begun in its folder ``open``, both readable by their owner alone.
    settings
        What is captured.
    key
        The project's key of hashed columns; needed where the settings hash any.
    told
        Takes one line when records begin to wait or to be dropped, and one when that is over.

    Examples
    --------
    >>> import tempfile
    >>> capture = Capture(Path(tempfile.mkdtemp()))
    >>> capture.add("r1", 1_700_000_000_000_000_000, "3", "champion", 0.001, {"delay": [4.5]}, [1])
    >>> capture.close()
    >>> capture.counts
    Counts(kept=1, dropped=0, waiting=0, unfiltered=0)
    """

    def __init__(
        self,
        folder: Path,
        settings: CaptureSettings | None = None,
        *,
        key: bytes = b"",
        told: Callable[[str], object] = str,
    ) -> None:
        self.settings = settings or CaptureSettings()
        self._filter = Filter(self.settings.exclude, self.settings.hash, key) if self.settings.filters else None
        self._threshold = None if self.settings.rate >= 1 else int(self.settings.rate * 2**32)
        self._log = _Log(folder / OPEN, self.settings)
        self._told = told
        self._waiting: deque[_Waiting] = deque()
        self._keeps_refused = self.settings.keeps_refused and not self.settings.filters  # an error may name a value
        self._most_bytes = self.settings.max_waiting_bytes
        self._pending: tuple[bytes, int, int] | None = (
            None  # what the disk refused: records packed, how many, their size
        )
        self._added_bytes = self._written_bytes = 0  # each has one writer: the request path, and flush
        self._dropped = self._kept = self._unfiltered = 0
        self._flushing = threading.Lock()
        self._retry_at = 0.0
        self._trouble = ""
        self._told_dropped = 0

    @property
    def counts(self) -> Counts:
        """What became of all records so far."""
        pending = self._pending[1] if self._pending else 0
        return Counts(self._kept, self._dropped, len(self._waiting) + pending, self._unfiltered)

    def describe(self, version: str, inputs: str | None) -> None:
        """Say what a version's features are, before its first request: the JSON of MLflow's ``signature.inputs``."""
        self._log.describe(version, inputs or "")

    def add(
        self,
        request_id: str,
        at_ns: int,
        version: str,
        role: str,
        latency_s: float,
        features: "bytes | Columns | None",
        answer: "Answer | None",
        form: str = JSON,
        status: int = 200,
    ) -> None:
        """Keep a request and its answer; called from one thread, in about a microsecond.

        Parameters
        ----------
        request_id
            Of the request; where the settings keep a share, it decides whether all records with this id are kept.
        at_ns
            When the request came: nanoseconds since 1970, UTC.
        version, role
            Of the model that answered: ``"3"``, ``"champion"``.
        latency_s
            Seconds from the request's arrival to its answer.
        features
            The body as it came, or the columns that were read of it, each ``(n_rows,)``; only these where columns
            are excluded or hashed. Not to be changed afterwards.
        answer
            The answer's body, or the predictions, ``(n_rows,)`` or ``(n_rows, n_outputs)``.
        form
            The content type of a body: JSON, CSV or an Arrow stream.
        status
            Of the answer. From 400 on neither features nor answer are kept, unless the settings say so.
        """
        if self._threshold is not None and zlib.crc32(request_id.encode("utf-8", "replace")) >= self._threshold:
            return
        if status >= 400 and not self._keeps_refused:
            features = answer = None
        size = _RECORD_BYTES + _size(features) + _size(answer)
        if self._added_bytes - self._written_bytes + size > self._most_bytes:
            self._dropped += 1
            return
        self._added_bytes += size
        self._waiting.append((request_id, at_ns, version, role, latency_s, status, form, features, answer, size))

    def flush(self) -> None:
        """Write what waits; called every 0.1 s, from any thread. A disk that refuses is tried again a second later."""
        with self._flushing:
            if time.monotonic() >= self._retry_at:
                self._flush()

    def close(self) -> None:
        """Write what waits and end the log; what the disk refuses now is lost, and counted."""
        with self._flushing:
            self._flush()
            self._log.close()
            lost = self.counts.waiting
            if lost:
                self._dropped += lost
                self._waiting.clear()
                self._pending = None
                self._told(f"{lost} captured requests are lost: {self._trouble}.")

    def _flush(self) -> None:
        try:
            self._log.roll_if_due()
            while frame := self._pending or self._packed():
                self._pending = frame
                self._log.write(frame[0])
                self._pending = None
                self._kept += frame[1]
                self._written_bytes += frame[2]
            self._tell_recovered()
        except OSError as exc:
            self._retry_at = time.monotonic() + RETRY_S
            self._tell_trouble(exc.strerror or str(exc))

    def _packed(self) -> tuple[bytes, int, int] | None:
        """Make one frame of what waits; None when nothing does."""
        taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), FRAME_RECORDS))]
        if not taken:
            return None
        return packed([self._record(each) for each in taken]), len(taken), sum(each[-1] for each in taken)

    def _record(self, waiting: "_Waiting") -> Record:
        request_id, at_ns, version, role, latency_s, status, form, features, answer, _ = waiting
        form, written = self._features(form, features)
        return Record(request_id, at_ns, version, role, latency_s, status, form, written, *_answer(answer))

    def _features(self, form: str, features: "bytes | Columns | None") -> tuple[str, bytes]:
        """Word a request's features, filtered where the settings say so: a body cannot be, so it is left out."""
        if features is None:
            return NOTHING, b""
        if not isinstance(features, bytes | bytearray | memoryview):
            return COLUMNS, as_json(self._filter(features) if self._filter is not None else features)
        if self._filter is not None:
            self._unfiltered += 1
            return NOTHING, b""
        return form, bytes(features)

    def _tell_trouble(self, reason: str) -> None:
        if not self._trouble:
            self._told(f"Captured requests cannot be written ({reason}): they wait, and serving goes on.")
            self._told_dropped = self._dropped
        self._trouble = reason

    def _tell_recovered(self) -> None:
        lost = self._dropped - self._told_dropped
        if self._trouble:
            self._told(f"Captured requests are written again; {lost} were dropped meanwhile.")
        elif lost and not self._told_dropped:
            self._told(f"{lost} captured requests were dropped: they came faster than they could be written.")
        self._trouble = ""
        self._told_dropped = self._dropped


def _size(value: Any) -> int:
    """Estimate how many bytes a body, columns or predictions hold in memory; of columns by the first."""
    if value is None:
        return 0
    if type(value) is bytes:
        return len(value)
    if isinstance(value, Mapping):
        return len(value) * _VALUE_BYTES * len(next(iter(value.values()), ()))
    return _VALUE_BYTES * len(value)


def _answer(answer: Any) -> tuple[str, bytes]:
    if answer is None:
        return NOTHING, b""
    if isinstance(answer, bytes | bytearray | memoryview):
        return BODY, bytes(answer)
    return VALUES, as_json(answer)


class _Log:
    """The file that a worker writes now; another is begun when it is large or old, or was removed."""

    def __init__(self, folder: Path, settings: CaptureSettings) -> None:
        self._folder = folder
        self._settings = settings
        self._inputs: dict[str, str] = {}  # replaced, never changed: described in one thread, written in another
        self._described: dict[str, str] = {}
        self._fd = -1
        self._path = folder
        self._mark = b""
        self._size = 0
        self._begun_at = 0.0

    def describe(self, version: str, inputs: str) -> None:
        """Remember a version's signature; it is written before the next records, in every log anew."""
        if self._inputs.get(version) != inputs:
            self._inputs = {**self._inputs, version: inputs}

    def write(self, payload: bytes) -> None:
        """Append a frame, whole or not at all."""
        if self._fd < 0:
            self._begin()
        inputs = self._inputs
        if inputs != self._described:
            self._append(framed(packed_inputs(inputs), self._mark))
            self._described = inputs
        self._append(framed(payload, self._mark))

    def roll_if_due(self) -> None:
        """End the log when it is large or old, so that it can become segments, or when somebody removed it."""
        if self._fd < 0:
            return
        is_due = self._size >= self._settings.roll_bytes
        is_due |= time.monotonic() - self._begun_at >= self._settings.roll_s
        if is_due or os.fstat(self._fd).st_nlink == 0:
            self.close()

    def close(self) -> None:
        """Let the file and its lock go: it may become segments now. One that holds nothing is removed."""
        if self._fd < 0:
            return
        if not self._size:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
        os.close(self._fd)
        self._fd = -1

    def _begin(self) -> None:
        """Begin a log that has its writer's lock from the moment that it can be seen."""
        for folder in (self._folder.parent.parent, self._folder.parent, self._folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._folder / f"{host()}-{os.getpid()}-{time.time_ns():x}{SUFFIX}"
        self._fd = _begun(path)
        self._path, self._mark, self._size = path, mark_of(path.stem), 0
        self._described = {}
        self._begun_at = time.monotonic()

    def _append(self, frame: bytes) -> None:
        """Write all of a frame; what the disk took of one that it then refused is cut off again."""
        written = 0
        try:
            while written < len(frame):
                written += os.write(self._fd, memoryview(frame)[written:])
        except OSError:
            self._cut_off()
            raise
        self._size += written

    def _cut_off(self) -> None:
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:  # its torn end will be recognised; another log is begun
            os.close(self._fd)
            self._fd = -1


def host() -> str:
    """Name this machine in the names of logs and segments."""
    return re.sub(r"[^\w.]", "_", socket.gethostname())


def _begun(path: Path) -> int:
    draft = path.with_suffix(DRAFT)
    fd = os.open(draft, _APPEND, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        draft.rename(path)
    except OSError:
        os.close(fd)
        draft.unlink(missing_ok=True)
        raise
    return fd
