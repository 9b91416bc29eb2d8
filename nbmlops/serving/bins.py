"""The bins in which latencies, predicted numbers and predicted labels are counted.

- Latencies: 93 bins a decade from 10 µs to 100 s, so that a quantile is within 1.3 %;
  all that is quicker, or slower, is one bin each.
- Numbers that are predicted: 32 bins between a power of two and the next, each at most
  3.2 % wide, for magnitudes from 2⁻²⁰ (about 1e-6; what is smaller counts as zero) to
  2⁴⁰ (about 1e12), and either sign; NaN apart. Whole numbers below 64 have a bin each.
  A change far smaller than 3 % of the numbers themselves is not seen.
- Labels that are predicted: the first 64 by name; all others by one of 64 hashes of theirs.
"""

import math
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

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

N_HASHES = 64
NAME_BYTES = 48


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


def nearest_edge(limit_s: float) -> int:
    """Give the bin that begins nearest to a latency in seconds, which is above 0.

    Examples
    --------
    >>> nearest_edge(0.05) == latency_bin(0.05)
    True
    """
    return round(math.log(limit_s / LATENCY_LOW_S) * _PER_E) + 1


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
    return zlib.crc32(name_bytes(label)) % N_HASHES


def name_bytes(label: str) -> bytes:
    """Spell a predicted label in 48 bytes; one that is longer ends in a checksum of all of it."""
    name = label.encode(errors="replace")
    if len(name) <= NAME_BYTES:
        return name
    begin = name[: NAME_BYTES - 9].decode(errors="ignore").encode()
    return begin + b"~%08x" % zlib.crc32(name)
