"""CSV as MLflow reads it with pandas: which words mean null, which true; numbers are parsed exactly."""

import csv
import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nbmlops.errors import DataError, UsageError
from nbmlops.serving.schema import MISSING, Column, Schema

NULLS = frozenset(
    (
        "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
        "NULL", "NaN", "None", "n/a", "nan", "null",
    )
)  # fmt: skip
_TRUTHS = {"true": True, "false": False}


def read(body: bytes, schema: Schema, max_rows: int) -> tuple[Mapping[Any, Sequence[Any]], int]:
    r"""Read a table with a header.

    Returns
    -------
    tuple
        The model's columns as lists, and the number of rows; no more than one row over `max_rows` is read.

    Raises
    ------
    UsageError
        It is no CSV in UTF-8.
    DataError
        A row is longer than the header, two columns have one name, or a word is no value of its column's type.

    Examples
    --------
    >>> read(b"delay,tail\n1.5,N1\n,N2\n", Schema.of('[{"name": "delay", "type": "double"}]'), 10)
    ({'delay': [1.5, None]}, 2)
    """
    header, *rows = _rows(body, max_rows) or [[]]
    if schema.is_tensor:
        raise DataError(
            "The model takes an array without names of columns, which CSV cannot hold.", "Send JSON: inputs."
        )
    for row, values in enumerate(rows):
        if len(values) > len(header):
            raise DataError(f"Row {row} has {len(values)} values, and there are {len(header)} columns.", schema.hint())
    times, places = Counter(header), {name: place for place, name in enumerate(header)}
    for column in schema.columns:
        if times[str(column.name)] > 1:
            raise DataError(f"The data has column {column.name!r} more than once.", schema.hint())
    return {c.name: _column(c, places[str(c.name)], rows, schema) for c in schema.columns if c.name in places}, len(
        rows
    )


def _rows(body: bytes, max_rows: int) -> list[list[str]]:
    """Split the text; lines that are empty are no rows."""
    rows: list[list[str]] = []
    try:
        lines = csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
        for row in lines:
            if row and (len(row) > 1 or row[0].strip()):
                rows.append(row)
            if len(rows) > max_rows + 1:
                break
    except UnicodeDecodeError:
        raise UsageError("The body is not in UTF-8.", "Send CSV in UTF-8.") from None
    except csv.Error:
        raise UsageError(
            f"The body is no CSV: line {lines.line_num} cannot be read.", "Quote text with commas."
        ) from None
    if not rows:
        raise UsageError("The body is no CSV: it is empty.", "Begin with the names of the columns.")
    return rows


def _column(column: Column, at: int, rows: Sequence[Sequence[str]], schema: Schema) -> list[Any]:
    """Read one column in the first of its type's ways that reads all of its words."""
    ways = _WAYS.get(column.type.name)
    if ways is None:
        raise DataError(f"Column {column.name!r} takes {column.type.name}, which CSV cannot hold.", "Send JSON.")
    words = [row[at] if at < len(row) else "" for row in rows]
    null = MISSING if column.type.name == "string" else None
    unread = 0
    for convert in ways:
        values = [null if word in NULLS else _or_unread(convert, word) for word in words]
        if _UNREAD not in values:
            return values
        unread = max(unread, values.index(_UNREAD))
    said = f"Column {column.name!r} takes {column.type.name}; row {unread} has text that cannot be read as that."
    raise DataError(said, schema.hint())


class _Unread:
    """What stands where a word is no value of the type."""


_UNREAD = _Unread()


def _or_unread(convert: Callable[[str], Any], word: str) -> Any:
    try:
        return convert(word)
    except (KeyError, ValueError):
        return _UNREAD


def _number(word: str) -> float:
    if "_" in word:
        raise ValueError
    return float(word)


def _digits(word: str) -> int:
    if "_" in word:
        raise ValueError
    return int(word)


def _whole(word: str) -> int:
    """Read a whole number that is written as ``7.0`` or ``7e0``."""
    number = _number(word)
    if not number.is_integer():
        raise ValueError
    return int(number)


_WAYS: dict[str, tuple[Callable[[str], Any], ...]] = {
    "boolean": (lambda word: _TRUTHS[word.lower()], {"1": True, "0": False}.__getitem__),
    "integer": (_digits, _whole),
    "long": (_digits, _whole),
    "float": (_number,),
    "double": (_number,),
    "string": (str,),
}
