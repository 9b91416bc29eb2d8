"""The digest of a table: equal tables have equal digests in every process and on every machine. No files, no stores."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from nbmlops.errors import DataError

RULE = b"nbmlops table 1"  # another rule needs another number: digests are kept for years
THREADS = min(2, os.cpu_count() or 1)

Words = npt.NDArray[np.generic]
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def digest(frame: pd.DataFrame) -> str:
    """Give the digest of a table: SHA-256 over its index, its column labels and its columns' values, in their order.

    The rule: a column counts as its kind (truth, integer, real, text, bytes, time with its zone, duration,
    date, list ...) and its values, never as how it is stored. So ``int32`` is as ``int64``, an object column of
    strings as ``str``, a category as its values, NumPy as Arrow and nullable, whatever the chunks, codes or units;
    1 differs from 1.0, True and "1". Every missing value of a column is alike (NaN, None, NaT, NA), and so are
    0.0 and -0.0. An index counts by its values and names; ``attrs`` do not count.

    Parameters
    ----------
    frame
        Any table, (n_rows, n_columns); it is not changed.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    DataError
        A cell holds an object that says nothing about its value, such as a model.

    Notes
    -----
    O(n), at about a gigabyte a second on two threads; columns of mixed objects at the speed of Python.
    A table without rows, or without columns, has a digest as well.

    Examples
    --------
    >>> table = pd.DataFrame({"n": [1, 2], "carrier": ["UA", None]})
    >>> digest(table)[:16]
    '22914c51874b3f58'
    >>> digest(table) == digest(table.astype({"n": "int8", "carrier": "category"}))
    True
    >>> digest(table) == digest(table[::-1])
    False
    """
    columns = [frame.iloc[:, place] for place in range(frame.shape[1])]
    with ThreadPoolExecutor(THREADS) as pool:  # hashing and Arrow let go of the interpreter's lock
        digests = pool.map(_column, [*_levels(frame.columns), *_levels(frame.index), *columns])
        return _hashed(RULE, [repr(frame.shape).encode(), repr(frame.columns.nlevels).encode(), *digests]).hex()


def _levels(index: pd.Index) -> Iterator["pd.Series[Any]"]:
    """Give an index as columns; its names are columns of one more."""
    yield pd.Series([str(name) if name is not None else None for name in index.names], dtype=object)
    for level in range(index.nlevels):
        yield index.get_level_values(level).to_series()


def _column(values: "pd.Series[Any]") -> bytes:
    kind, parts = _canonical(_arrow(values))
    return _hashed(kind.encode(), parts)


def _hashed(kind: bytes, parts: Iterable[Any]) -> bytes:
    """Hash parts, each with its length before it, so that no bytes can pass from one to the next."""
    whole = hashlib.sha256(b"%d:%s" % (len(kind), kind))
    for part in parts:
        content = memoryview(part).cast("B") if len(part) else b""
        whole.update(b"%d:" % len(content))
        whole.update(content)
    return whole.digest()


# ------------------------------------------------------------------ into Arrow
def _arrow(values: Any) -> pa.Array:
    """Give a column as one Arrow array; objects that Arrow has no type for become their spelling."""
    if isinstance(values.dtype, pd.SparseDtype):
        values = values.sparse.to_dense()
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        instants = pa.array(values.dt.tz_convert(None))
        return instants.view(pa.timestamp(instants.type.unit, values.dtype.tz))
    try:
        array = pa.array(values, from_pandas=values.dtype == object)
    except (pa.ArrowException, UnicodeError, OverflowError, TypeError, ValueError):
        return pa.array([_spelled(value) for value in values], pa.large_string())
    if values.dtype == object and pa.types.is_nested(array.type) and any(isinstance(v, set) for v in values):
        return pa.array([_spelled(value) for value in values], pa.large_string())  # a set's order is its process's own
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _spelled(value: Any) -> str:
    """Spell an object with its type; lone surrogates come escaped."""
    if isinstance(value, set | frozenset):
        return f"{type(value).__name__} {sorted(map(_spelled, value))}"
    if " at 0x" in (spelling := repr(value)):  # an address: of this process alone
        raise DataError(f"A cell holds a {type(value).__name__}, which says nothing about its value.")
    return "missing" if pd.api.types.is_scalar(value) and pd.isna(value) else f"{type(value).__name__} {spelling}"


# --------------------------------------------------------- one form for each kind
def _canonical(array: Any) -> tuple[str, list[Any]]:
    """Give a column's kind, and its values as buffers that are equal when the values are."""
    kind = array.type
    if isinstance(kind, pa.ExtensionType):
        name, parts = _canonical(array.storage)
        return f"{kind.extension_name} {kind.__arrow_ext_serialize__().decode()} {name}", parts
    if pa.types.is_dictionary(kind):
        return _canonical(array.dictionary_decode())
    if pa.types.is_floating(kind):
        return "real", [_reals(array)]
    if array.null_count == len(array):
        return "missing", []
    return _present(array, kind)


def _present(array: Any, kind: Any) -> tuple[str, list[Any]]:
    """Give a column that has some value: which are missing first, then the values."""
    missing = [] if array.null_count == 0 else [np.packbits(_numpy(array.is_null()))]
    types = pa.types
    if types.is_boolean(kind):
        return "truth", [*missing, _numpy(array.fill_null(False))]
    if types.is_integer(kind):
        return _integers(array, missing)
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "text", [*missing, *_texts(array.cast(pa.large_string()).fill_null("").cast(pa.large_binary()))]
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return "bytes", [*missing, *_texts(array.cast(pa.large_binary()).fill_null(b""))]
    if types.is_timestamp(kind) or types.is_duration(kind):
        name = "duration" if types.is_duration(kind) else f"time {kind.tz or ''}"
        return name, [*missing, *_instants(_numpy(array.cast(pa.int64()).fill_null(0)), kind.unit)]
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        inner, parts = _canonical(pc.list_flatten(array))
        return f"list of {inner}", [*missing, _numpy(pc.list_value_length(array).fill_null(0).cast(pa.int64())), *parts]
    return _other(array, kind)


def _integers(array: Any, missing: list[Any]) -> tuple[str, list[Any]]:
    values = _numpy(array.fill_null(0))
    if values.dtype == np.uint64 and values.max() > np.iinfo(np.int64).max:
        return "integer beyond 63 bits", [*missing, values.astype("<u8")]
    return "integer", [*missing, values.astype("<i8", copy=False)]


def _reals(array: Any) -> Words:
    """Give numbers of double precision with one NaN and one zero; missing is NaN."""
    values: Words = _numpy(array.fill_null(np.nan)).astype("<f8", copy=False) + 0.0  # -0.0 + 0.0 is 0.0
    values[np.isnan(values)] = np.nan
    return values


def _texts(array: Any) -> list[Any]:
    """Give the lengths of texts and their bytes one after the other, without what a slice leaves around them."""
    _, offsets, content = array.buffers()
    ends = np.frombuffer(offsets, "<i8")[array.offset : array.offset + len(array) + 1]
    return [np.diff(ends), memoryview(content)[ends[0] : ends[-1]] if content else b""]


def _instants(counts: npt.NDArray[np.int64], unit: str) -> list[Any]:
    """Split counts of a unit into whole seconds and nanoseconds: that fits every unit's range."""
    per_second = _PER_SECOND[unit]
    seconds = counts // per_second
    return [seconds.astype("<i8", copy=False), ((counts - seconds * per_second) * (10**9 // per_second)).astype("<i4")]


def _other(array: Any, kind: Any) -> tuple[str, list[Any]]:
    """Give the rare kinds (dates, times of day, decimals, records) by the spelling of each value."""
    if pa.types.is_date(kind):
        return "date", _present(array.cast(pa.date32()).cast(pa.int32()), pa.int32())[1]
    name = "decimal" if pa.types.is_decimal(kind) else "time of day" if pa.types.is_time(kind) else "record"
    return name, _texts(pa.array([repr(value) for value in array.to_pylist()], pa.large_binary()))


def _numpy(array: Any) -> Any:
    return array.to_numpy(zero_copy_only=False)
