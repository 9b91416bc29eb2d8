"""What a worker counts, variant by variant, in a small file that it maps into memory; and how the agent reads it.

A count is a store to memory: no lock, no call to the system, nothing to flush. The
pages are the kernel's, so a killed worker loses nothing that it has counted. Readers
copy the file and never make a writer wait; of a request that is being counted they
may see a part.

What can be told apart, and what cannot: `bins`.
"""

import contextlib
import fcntl
import math
import mmap
import os
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbmlops.errors import ConflictError, StoreError, UsageError
from nbmlops.serving.bins import (
    N_HASHES,
    N_LATENCIES,
    N_NUMBERS,
    NAME_BYTES,
    NAN_BIN,
    label_hash,
    latency_bin,
    name_bytes,
    number_bin,
    number_bins,
)
from nbmlops.serving.window import Window

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[Any]

# The file: a header, then SLOTS slots of one size. Change LAYOUT with anything below.
LAYOUT = 1
MAGIC = b"nbmlops-counters"
SLOTS = 16
HEADER_BYTES = 4096
_HEADER = struct.Struct("<16sIIQ")  # magic, layout, slots, size of the file; then the checksum of these
_CHECKSUM = struct.Struct("<I")
_REFUSALS_AT = 1024  # in the header's page: the counts by status; a file that was made before they were has zeros here
FIRST_STATUS, N_STATUSES = 400, 200

N_NAMES = 64
LABEL_BYTES = 64
FEW = 16  # up to so many predictions, one by one is quicker than numpy

# A slot, in words of eight bytes.
_SCALARS = LABEL_BYTES // 8
(
    _N_REQUESTS,
    _N_ROWS,
    _N_ERRORS,
    _N_REFUSED,
    _IN_FLIGHT,
    _LATENCY_SUM,
    _N_COMPARED,
    _N_DIFFERING,
    _DIFFERENCE_SUM,
    _NAMES_USED,
) = range(_SCALARS, _SCALARS + 10)
_LATENCIES = _SCALARS + 16
_NUMBERS = _LATENCIES + N_LATENCIES
_NAMED = _NUMBERS + N_NUMBERS
_HASHED = _NAMED + N_NAMES
_NAMES = _HASHED + N_HASHES
SLOT_WORDS = _NAMES + N_NAMES * NAME_BYTES // 8
SLOT_BYTES = SLOT_WORDS * 8
FILE_BYTES = HEADER_BYTES + SLOTS * SLOT_BYTES

SAME = 1e-6  # numbers that differ by less, relative to the champion's or to 1, are the same answer


class Tally:
    """One variant's counts in a worker's file, for writing; by one thread only.

    Each request begins with `began` and ends with one of `answered`, `failed` and
    `refused`. What was predicted is counted apart from that, once for each batch.
    """

    def __init__(self, page: memoryview) -> None:
        self._page = page
        self._words = page.cast("Q")
        self._signed = page.cast("q")
        self._reals = page.cast("d")
        self._names: dict[str, int] = {}
        for place, name in enumerate(_names(page)):
            self._names.setdefault(name, _NAMED + place)

    def began(self) -> None:
        """Count a request in flight."""
        self._signed[_IN_FLIGHT] += 1

    def answered(self, latency_s: float, n_rows: int = 1) -> None:
        """Count a request that was answered, after this many seconds."""
        words = self._words
        words[_N_REQUESTS] += 1
        words[_N_ROWS] += n_rows
        words[_LATENCIES + latency_bin(latency_s)] += 1
        self._reals[_LATENCY_SUM] += latency_s
        self._signed[_IN_FLIGHT] -= 1

    def failed(self, latency_s: float, n_rows: int = 1) -> None:
        """Count a request that we, or the model, failed to answer."""
        self._words[_N_ERRORS] += 1
        self.answered(latency_s, n_rows)

    def refused(self) -> None:
        """Count a request that was refused for a fault of its caller."""
        self._words[_N_REFUSED] += 1
        self._signed[_IN_FLIGHT] -= 1

    def predicted_one(self, value: object) -> None:
        """Count a prediction: a number or truth value, a label, None (as NaN), anything else by its type's name."""
        if isinstance(value, float):
            self._words[_NUMBERS + number_bin(value)] += 1
        elif isinstance(value, str):
            self._words[self._label_word(value)] += 1
        elif hasattr(value, "__float__"):
            self._words[_NUMBERS + number_bin(_real(value))] += 1
        elif value is None:
            self._words[_NUMBERS + NAN_BIN] += 1
        elif isinstance(value, (list, tuple)):
            self.predicted(value)
        else:
            self._words[_HASHED + label_hash(type(value).__name__)] += 1

    def predicted(self, values: "Sequence[Any] | Array") -> None:
        """Count the predictions of a batch, of any shape; every number or label in it counts as one."""
        if isinstance(values, (list, tuple)) and len(values) <= FEW:
            for value in values:
                self.predicted_one(value)
            return
        import numpy as np

        given = np.asarray(values) if _is_plain(values) else np.array([None, *values], dtype=object)[1:]
        if given.dtype.kind in "biuf":
            self._add(_NUMBERS, np.bincount(number_bins(given.ravel().astype(np.float64)), minlength=N_NUMBERS))
        elif given.dtype.kind == "U":
            names, counts = np.unique(given, return_counts=True)
            for name, count in zip(names.tolist(), counts.tolist(), strict=True):
                self._words[self._label_word(name)] += count
        else:
            for value in given.ravel().tolist():
                self.predicted_one(value)

    def compared(self, ours: "Sequence[Any] | Array", theirs: "Sequence[Any] | Array") -> None:
        """Count a shadow's answers, held row by row against the champion's.

        Numbers differ from 1e-6 on, relative to the champion's or to 1, whichever is more.
        Their absolute differences are summed; labels differ or not. Answers without a
        counterpart differ.
        """
        n_differing, difference_sum = differences(ours, theirs)
        words = self._words
        words[_N_COMPARED] += max(len(ours), len(theirs))
        words[_N_DIFFERING] += n_differing
        self._reals[_DIFFERENCE_SUM] += difference_sum

    def _add(self, first: int, counts: "npt.NDArray[np.int64]") -> None:
        import numpy as np

        words = np.frombuffer(self._page, np.int64, len(counts), first * 8)
        words += counts

    def _label_word(self, label: str) -> int:
        word = self._names.get(label)
        return self._new_label(label) if word is None else word

    def _new_label(self, label: str) -> int:
        used = self._words[_NAMES_USED]
        if used == N_NAMES:
            return _HASHED + label_hash(label)
        name = name_bytes(label)
        begin = _NAMES * 8 + used * NAME_BYTES
        self._page[begin : begin + NAME_BYTES] = name.ljust(NAME_BYTES, b"\0")
        self._words[_NAMES_USED] = used + 1
        self._names[label] = _NAMED + used
        return _NAMED + used


class Counters:
    """A worker's file of counts, open for writing.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     counters = Counters.open(Path(folder) / "counters-0")
    ...     tally = counters.tally("3")
    ...     tally.began(), tally.answered(0.002), tally.predicted([0.25, 0.75])
    ...     read(Path(folder) / "counters-0")["3"].n_requests
    (None, None, None)
    1
    """

    def __init__(self, descriptor: int, mapped: mmap.mmap) -> None:
        self._descriptor = descriptor
        self._view = memoryview(mapped)
        self._refusals = _refusals(self._view)
        self._tallies: dict[str, Tally] = {}
        self._places = {label: place for place, label in enumerate(_labels(self._view)) if label}
        self._released: list[str] = []
        for place in self._places.values():  # what was in flight died with the worker before
            self._slot(place).cast("q")[_IN_FLIGHT] = 0

    @classmethod
    def open(cls, path: Path) -> "Counters":
        """Open a worker's file: its counts go on where they stopped; one that cannot be read is made anew.

        Raises
        ------
        ConflictError
            Another process counts in it.
        StoreError
            It cannot be made: the disk is full, or nothing may be written there.
        """
        try:
            if not _is_ours(path):
                _make(path)
            return cls._opened(path)
        except OSError as exc:
            raise StoreError(
                f"The counters {path.name} cannot be made: {exc.strerror}.",
                "Its folder must exist, be writable and have space.",
            ) from exc

    @classmethod
    def _opened(cls, path: Path) -> "Counters":
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return cls(descriptor, mmap.mmap(descriptor, FILE_BYTES))
        except BlockingIOError:
            os.close(descriptor)
            raise ConflictError(f"Another process counts in {path.name}.", "Give each worker its own file.") from None

    def tally(self, label: str) -> Tally:
        """Give the counts of a variant, for writing; the same object for the same label.

        Raises
        ------
        UsageError
            The label is empty, or longer than 64 bytes.
        ConflictError
            Sixteen variants are counted already, and none of them was released.
        """
        if label in self._released:
            self._released.remove(label)
        if label not in self._tallies:
            place = self._places.get(label)
            self._tallies[label] = Tally(self._slot(self._claimed(label) if place is None else place))
        return self._tallies[label]

    def refused(self, status: int) -> None:
        """Count a request that was answered with an error, 400 to 599, whether a version was asked or not."""
        self._refusals[status - FIRST_STATUS] += 1

    def release(self, label: str) -> None:
        """Tell that a variant is gone: its counts stay until another needs the place."""
        if self._tallies.pop(label, None):
            self._released.append(label)

    def close(self) -> None:
        """Let the file go; its tallies must not be written any more."""
        self._tallies.clear()
        if self._descriptor >= 0:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)  # the map has a copy of the descriptor, and would keep it
            os.close(self._descriptor)
        self._descriptor = -1

    def _claimed(self, label: str) -> int:
        name = label.encode()
        if not 0 < len(name) <= LABEL_BYTES:
            raise UsageError(f"A variant's label has 1 to {LABEL_BYTES} bytes, not {len(name)}.")
        place = self._free_place()
        slot = self._slot(place)
        slot[:] = bytes(SLOT_BYTES)
        slot[:LABEL_BYTES] = name.ljust(LABEL_BYTES, b"\0")
        self._places[label] = place
        return place

    def _free_place(self) -> int:
        if free := set(range(SLOTS)) - set(self._places.values()):
            return min(free)
        idle = self._released or [label for label in self._places if label not in self._tallies]
        if not idle:
            raise ConflictError(f"{SLOTS} variants are counted already.", "Release one that is gone.")
        oldest = idle[0]
        if oldest in self._released:
            self._released.remove(oldest)
        return self._places.pop(oldest)

    def _slot(self, place: int) -> memoryview:
        begin = HEADER_BYTES + place * SLOT_BYTES
        return self._view[begin : begin + SLOT_BYTES]


def glance(path: Path) -> bytes:
    """Give bytes of a worker's file that are others after every request; quickly, and empty where there is none."""
    try:
        with path.open("rb", buffering=0) as file:
            heads = [os.pread(file.fileno(), 8 * _LATENCIES, HEADER_BYTES + n * SLOT_BYTES) for n in range(SLOTS)]
            return b"".join((*heads, os.pread(file.fileno(), 8 * N_STATUSES, _REFUSALS_AT)))
    except OSError:
        return b""


def read(path: Path) -> dict[str, Window]:
    """Read a worker's counts so far, by variant, while it may be writing.

    Raises
    ------
    StoreError
        It is no file of counts, of another layout, or cut short.
    FileNotFoundError
        There is none.
    """
    view = _checked(path)
    slots = (view[begin : begin + SLOT_BYTES] for begin in range(HEADER_BYTES, FILE_BYTES, SLOT_BYTES))
    return {label: _window(slot) for label, slot in zip(_labels(view), slots, strict=True) if label}


def summed(paths: Iterable[Path]) -> dict[str, Window]:
    """Read the counts of several workers, and add them up; a file that is gone counts nothing.

    Raises
    ------
    StoreError
        One of them is no file of counts.
    """
    total: dict[str, Window] = {}
    for path in paths:
        try:
            found = read(path)
        except FileNotFoundError:
            continue
        for label, window in found.items():
            total[label] = total[label].plus(window) if label in total else window
    return total


def refusals(paths: Iterable[Path]) -> dict[int, int]:
    """Read how many requests several workers have refused so far, by status; a file that is gone counts nothing.

    They are of no version, and nothing that a rollout is judged by.

    Raises
    ------
    StoreError
        One of them is no file of counts.
    """
    total: Counter[int] = Counter()
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            found = _seen(_refusals(_checked(path)))
            total.update({FIRST_STATUS + place: count for place, count in found.items()})
    return dict(sorted(total.items()))


def differences(ours: "Sequence[Any] | Array", theirs: "Sequence[Any] | Array") -> tuple[int, float]:
    """Count answers that differ, and sum the absolute differences of those that are numbers.

    Examples
    --------
    >>> differences([1.0, 2.0, 3.0], [1.0, 2.5, 3.0])
    (1, 0.5)
    >>> differences(["late", "early"], ["late", "late"])
    (1, 0.0)
    """
    import numpy as np

    n = min(len(ours), len(theirs))
    unmatched = max(len(ours), len(theirs)) - n
    if not (_is_plain(ours) and _is_plain(theirs)):
        return unmatched + sum(one != other for one, other in zip(ours, theirs, strict=False)), 0.0
    left, right = np.asarray(ours[:n]), np.asarray(theirs[:n])
    if not {left.dtype.kind, right.dtype.kind} <= set("biuf") or left.shape != right.shape:
        pairs = zip(left.tolist(), right.tolist(), strict=True)
        return unmatched + sum(one != other for one, other in pairs), 0.0
    left, right = left.astype(np.float64), right.astype(np.float64)
    with np.errstate(invalid="ignore"):
        apart = np.abs(left - right)
    near = np.isfinite(apart) & (apart <= SAME * np.maximum(np.abs(right), 1))
    same = near | (left == right) | (np.isnan(left) & np.isnan(right))
    rows = same.reshape(n, -1).all(axis=1) if n else same
    return unmatched + int(n - rows.sum()), float(apart[~same & np.isfinite(apart)].sum())


def _checked(path: Path) -> memoryview:
    """Read all bytes of a file of counts."""
    given = path.read_bytes()
    if problem := _problem(given):
        raise StoreError(f"The counters {path.name} cannot be read: {problem}.", "A restarted worker makes it anew.")
    return memoryview(given)


def _refusals(view: memoryview) -> memoryview:
    return view[_REFUSALS_AT : _REFUSALS_AT + 8 * N_STATUSES].cast("Q")


def _window(slot: memoryview) -> Window:
    words, reals = slot.cast("Q"), slot.cast("d")
    named = words[_NAMED : _NAMED + N_NAMES].tolist()
    labels: dict[str, int] = {}
    for name, count in zip(_names(slot), named, strict=False):
        if count:
            labels[name] = labels.get(name, 0) + count
    return Window(
        n_requests=words[_N_REQUESTS],
        n_rows=words[_N_ROWS],
        n_errors=words[_N_ERRORS],
        n_refused=words[_N_REFUSED],
        n_in_flight=slot.cast("q")[_IN_FLIGHT],
        latency_sum_s=reals[_LATENCY_SUM],
        n_compared=words[_N_COMPARED],
        n_differing=words[_N_DIFFERING],
        difference_sum=reals[_DIFFERENCE_SUM],
        latencies=_seen(words[_LATENCIES : _LATENCIES + N_LATENCIES]),
        numbers=_seen(words[_NUMBERS : _NUMBERS + N_NUMBERS]),
        labels=dict(sorted(labels.items())),
        others=_seen(words[_HASHED : _HASHED + N_HASHES]),
    )


def _seen(words: memoryview) -> dict[int, int]:
    return {place: count for place, count in enumerate(words.tolist()) if count}


def _labels(view: memoryview) -> list[str]:
    """List the labels of all slots, empty where a slot is free."""
    begins = range(HEADER_BYTES, FILE_BYTES, SLOT_BYTES)
    return [_text(view[begin : begin + LABEL_BYTES]) for begin in begins]


def _names(slot: memoryview) -> list[str]:
    """List the predicted labels that a slot counts by name, in the order of their counts."""
    begins = (_NAMES * 8 + place * NAME_BYTES for place in range(min(slot.cast("Q")[_NAMES_USED], N_NAMES)))
    return [_text(slot[begin : begin + NAME_BYTES]) for begin in begins]


def _text(padded: memoryview) -> str:
    return bytes(padded).rstrip(b"\0").decode(errors="replace")


def _real(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # a whole number beyond all floats
        return math.inf if value > 0 else -math.inf
    except (TypeError, ValueError):  # says that it is a number, and has none: as unknown as None
        return math.nan


def _is_plain(values: Any) -> bool:
    """Say whether numpy makes of it what it is: text among numbers would make all of them text."""
    return hasattr(values, "dtype") or {type(value) for value in values} in ({int}, {float}, {bool}, {str})


def _header() -> bytes:
    begin = _HEADER.pack(MAGIC, LAYOUT, SLOTS, FILE_BYTES)
    return begin + _CHECKSUM.pack(zlib.crc32(begin))


def _problem(given: bytes) -> str:
    """Say why these bytes are no file of counts; empty when they are one."""
    if not given.startswith(MAGIC):
        return "it is none of nbmlops"
    if not given.startswith(_header()):
        return f"it has another layout than {LAYOUT}"
    return "" if len(given) == FILE_BYTES else f"it has {len(given)} bytes of {FILE_BYTES}"


def _is_ours(path: Path) -> bool:
    try:
        return not _problem(path.read_bytes())
    except FileNotFoundError:
        return False


def _make(path: Path) -> None:
    """Make an empty file, whole or not at all; its space is taken now: a full disk would kill whoever writes later."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with fresh.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, FILE_BYTES)
            file.write(_header())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
