"""What a worker counts, variant by variant, in a small file that it maps into memory; and how the agent reads it.

A count is a store to memory: no lock, no call to the system, nothing to flush. The
pages are the kernel's, so a killed worker loses nothing that it has counted. Readers
copy the file and never make a writer wait; of a request that is being counted they
may see a part.

What can be told apart, and what cannot:

- Latencies: 93 bins a decade from 10 µs to 100 s, so that a quantile is within 1.3 %;
  all that is quicker, or slower, is one bin each.
- Numbers that are predicted: 32 bins between a power of two and the next, each at most
  3.2 % wide, for magnitudes from 2⁻²⁰ (about 1e-6; what is smaller counts as zero) to
  2⁴⁰ (about 1e12), and either sign; NaN apart. Whole numbers below 64 have a bin each.
  A change far smaller than 3 % of the numbers themselves is not seen.
- Labels that are predicted: the first 64 by name; all others by one of 64 hashes of theirs.
"""

import contextlib
import fcntl
import math
import mmap
import os
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbmlops.errors import ConflictError, StoreError, UsageError

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

LATENCY_LOW_S = 1e-5
PER_DECADE = 93  # so that 2, 2.5, 5 and 10 times an edge are edges too, within 0.03 %
N_LATENCIES = 7 * PER_DECADE + 2
_PER_E = PER_DECADE / math.log(10)
_LATENCY_OFFSET = 1 - math.log(LATENCY_LOW_S) * _PER_E

PER_OCTAVE = 32
SMALLEST, LARGEST = 2.0**-20, 2.0**40
N_MAGNITUDES = 60 * PER_OCTAVE + 1  # the last is for all from 2⁴⁰ on
NAN_BIN = 0
ZERO_BIN = N_MAGNITUDES + 1
N_NUMBERS = 2 * N_MAGNITUDES + 2
_ABOVE = ZERO_BIN + 1 - PER_OCTAVE * (math.frexp(SMALLEST)[1] + 1)  # where frexp's exponent is 0
_BELOW = 2 * ZERO_BIN - _ABOVE

N_NAMES = 64
N_HASHES = 64
NAME_BYTES = 48
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


def latency_bin(latency_s: float) -> int:
    """Give the bin of a latency in seconds; 0 and the last are for what lies outside of 10 µs to 100 s.

    Examples
    --------
    >>> latency_bin(5e-6), latency_bin(1.01e-5), latency_bin(0.05), latency_bin(1e9) == N_LATENCIES - 1
    (0, 1, 345, True)
    """
    if not latency_s > LATENCY_LOW_S:  # which nan is not either
        return 0
    return min(int(math.log(latency_s) * _PER_E + _LATENCY_OFFSET), N_LATENCIES - 1)


def latency_edge_s(place: int) -> float:
    """Give the latency, in seconds, at which a bin begins; of bin 0 it is 0.

    Examples
    --------
    >>> latency_edge_s(1), round(latency_edge_s(94), 9), round(latency_edge_s(N_LATENCIES - 1))
    (1e-05, 0.0001, 100)
    """
    return LATENCY_LOW_S * 10 ** ((place - 1) / PER_DECADE) if place > 0 else 0.0


def number_bin(value: float) -> int:
    """Give the bin of a predicted number; bins rise with the number, NaN's is 0.

    Examples
    --------
    >>> [number_bin(value) - ZERO_BIN for value in (0.0, 1e-9, 1.0, 1.02, 1.04, -1.0)]
    [0, 0, 641, 641, 642, -641]
    >>> number_bin(math.nan), number_bin(-math.inf), number_bin(math.inf) == N_NUMBERS - 1
    (0, 1, True)
    """
    if SMALLEST <= value < LARGEST:
        mantissa, exponent = math.frexp(value)
        return _ABOVE + exponent * PER_OCTAVE + int(mantissa * 2 * PER_OCTAVE)
    if -LARGEST < value <= -SMALLEST:
        mantissa, exponent = math.frexp(-value)
        return _BELOW - exponent * PER_OCTAVE - int(mantissa * 2 * PER_OCTAVE)
    if math.isnan(value):
        return NAN_BIN
    return N_NUMBERS - 1 if value >= LARGEST else 1 if value <= -LARGEST else ZERO_BIN


def number_bins(values: "Array") -> "Array":
    """Give the bins of many numbers at once, as `number_bin` does."""
    import numpy as np

    sizes = np.clip(np.abs(values), 0, LARGEST)
    mantissas, exponents = np.frexp(sizes)
    steps = np.nan_to_num(mantissas * (2 * PER_OCTAVE)).astype(np.int64)
    magnitudes = np.where(sizes < SMALLEST, 0, _ABOVE - ZERO_BIN + exponents * PER_OCTAVE + steps)
    return np.where(np.isnan(values), NAN_BIN, ZERO_BIN + np.where(values < 0, -magnitudes, magnitudes))


def label_hash(label: str) -> int:
    """Give the place, from 0 to 63, of a label that is not counted by name."""
    return zlib.crc32(_name_bytes(label)) % N_HASHES


@dataclass(frozen=True)
class Window:
    """What was counted of one variant: since its worker began, or between two readings.

    `n_errors` are requests that we or the model failed, `n_refused` those that were the
    caller's fault; the latter count as nothing else. `latencies` and `numbers` map a bin to
    its count, `labels` a predicted label, `others` the hash of one; what was not seen has no entry.
    `n_compared`, `n_differing` and `difference_sum` (of absolute differences) tell of answers
    of a shadow held against those of the champion.
    """

    n_requests: int = 0
    n_rows: int = 0
    n_errors: int = 0
    n_refused: int = 0
    n_in_flight: int = 0
    latency_sum_s: float = 0.0
    n_compared: int = 0
    n_differing: int = 0
    difference_sum: float = 0.0
    latencies: Mapping[int, int] = field(default_factory=dict)
    numbers: Mapping[int, int] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)
    others: Mapping[int, int] = field(default_factory=dict)

    def plus(self, other: "Window") -> "Window":
        """Add two windows, of two workers or of two spans.

        Examples
        --------
        >>> Window(n_requests=2, labels={"late": 2}).plus(Window(n_requests=1, labels={"early": 1})).labels
        {'early': 1, 'late': 2}
        """
        return self._joined(other, 1)

    def minus(self, before: "Window") -> "Window":
        """Give what was counted since an earlier reading; all of it where counting has begun anew meanwhile.

        `n_in_flight` is no count: it stays as it is.

        Examples
        --------
        >>> Window(n_requests=5, labels={"late": 5}).minus(Window(n_requests=2, labels={"late": 2}))
        Window(n_requests=3, ..., labels={'late': 3}, others={})
        """
        if before.n_requests > self.n_requests or before.n_refused > self.n_refused:
            return self
        return self._joined(before, -1)

    def quantile_s(self, share: float) -> float:
        """Give the latency, in seconds, that a share of the requests (0 to 1) did not exceed; NaN without any.

        The middle of its bin by proportion: within 1.3 %.

        Examples
        --------
        >>> round(Window(latencies={latency_bin(0.05): 99, latency_bin(0.2): 1}).quantile_s(0.5), 2)
        0.05
        """
        n = sum(self.latencies.values())
        return self.slowest_s(n - max(math.ceil(share * n), 1)) if n else math.nan

    def slowest_s(self, n_slower: int) -> float:
        """Give the latency, in seconds, that this many requests exceed; NaN where there are no more than that."""
        left = n_slower
        for place, count in sorted(self.latencies.items(), reverse=True):
            left -= count
            if left < 0:
                return latency_edge_s(place) * 10 ** (0.5 / PER_DECADE) if place else LATENCY_LOW_S
        return math.nan

    def n_slower(self, limit_s: float) -> int:
        """Count requests slower than a limit in seconds, moved to a bin's nearest edge (by 1.3 % at most).

        Examples
        --------
        >>> Window(latencies={latency_bin(0.049): 99, latency_bin(0.051): 1}).n_slower(0.05)
        1
        """
        if not limit_s > 0:
            return sum(self.latencies.values())
        edge = round(math.log(limit_s / LATENCY_LOW_S) * _PER_E) + 1
        return sum(count for place, count in self.latencies.items() if place >= edge)

    def record(self) -> dict[str, Any]:
        """Give it as JSON has it, without what is zero or empty."""
        given = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: _keyed_by_text(value) for name, value in given.items() if value}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Window":
        """Read what `record` gave.

        Examples
        --------
        >>> window = Window(n_requests=1, latencies={7: 1}, labels={"late": 1})
        >>> Window.of(window.record()) == window
        True
        """
        given: dict[str, Any] = dict(record)
        for name in _BY_NUMBER:
            given[name] = {int(key): count for key, count in record.get(name, {}).items()}
        return cls(**given)

    def _joined(self, other: "Window", sign: int) -> "Window":
        counts = {
            one.name: _sum(getattr(self, one.name), getattr(other, one.name), sign)
            for one in fields(self)
            if one.name != "n_in_flight"
        }
        return Window(**counts, n_in_flight=self.n_in_flight + (other.n_in_flight if sign > 0 else 0))


_BY_NUMBER = ("latencies", "numbers", "others")


def _sum(ours: Any, theirs: Any, sign: int) -> Any:
    if not isinstance(ours, Mapping):
        return ours + sign * theirs
    summed = {key: ours.get(key, 0) + sign * theirs.get(key, 0) for key in sorted({*ours, *theirs})}
    return {key: count for key, count in summed.items() if count > 0}


def _keyed_by_text(value: Any) -> Any:
    return {str(key): count for key, count in value.items()} if isinstance(value, Mapping) else value


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
        name = _name_bytes(label)
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


def minus(now: Mapping[str, Window], before: Mapping[str, Window]) -> dict[str, Window]:
    """Give what was counted between two readings, by variant.

    Examples
    --------
    >>> counted = minus({"3": Window(n_requests=5), "4": Window(n_requests=1)}, {"3": Window(n_requests=2)})
    >>> {label: window.n_requests for label, window in counted.items()}
    {'3': 3, '4': 1}
    """
    return {label: window.minus(before.get(label, Window())) for label, window in now.items()}


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


def _name_bytes(label: str) -> bytes:
    """Spell a predicted label in 48 bytes; one that is longer ends in a checksum of all of it."""
    name = label.encode(errors="replace")
    if len(name) <= NAME_BYTES:
        return name
    begin = name[: NAME_BYTES - 9].decode(errors="ignore").encode()
    return begin + b"~%08x" % zlib.crc32(name)


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
