"""CSV as MLflow reads it with pandas: which words mean null, which true; numbers are parsed exactly."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nbmlops.errors import DataError, UsageError
from nbmlops.serving.schema import MISSING, TYPES, Column, Schema

NULLS = frozenset(
    (
        "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
        "NULL", "NaN", "None", "n/a", "nan", "null",
    )
)  # fmt: skip
_TRUTHS = {"true": True, "false": False, "1": True, "0": False}


def read(body: bytes, schema: Schema, max_rows: int) -> tuple[Mapping[Any, Sequence[Any]], int]:
    r"""Read a table with a header.

    Returns
    -------
    tuple
        The model's columns as lists, all where nothing is known of it, and the number of rows; no more than
        one row over `max_rows` is read.

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
    known = schema.columns or tuple(_untyped(name) for name in dict.fromkeys(header))
    for column in known:
        if header.count(str(column.name)) > 1:
            raise DataError(f"The data has column {column.name!r} more than once.", schema.hint())
    return {c.name: _column(c, header.index(c.name), rows, schema) for c in known if c.name in header}, len(rows)


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
    convert = _CONVERTS.get(column.type.name)
    if convert is None:
        raise DataError(f"Column {column.name!r} takes {column.type.name}, which CSV cannot hold.", "Send JSON.")
    words = [row[at] if at < len(row) else "" for row in rows]
    null = MISSING if column.type.name == "string" else None
    try:
        return [null if word in NULLS else convert(word) for word in words]
    except (KeyError, ValueError):
        row = next(row for row, word in enumerate(words) if word not in NULLS and not _reads(convert, word))
        said = f"Column {column.name!r} takes {column.type.name}; row {row} has text that cannot be read as that."
        raise DataError(said, schema.hint()) from None


def _reads(convert: Callable[[str], Any], word: str) -> bool:
    try:
        convert(word)
    except (KeyError, ValueError):
        return False
    return True


def _number(word: str) -> float:
    if "_" in word:
        raise ValueError
    return float(word)


def _whole(word: str) -> int:
    """Read a whole number, however it is written: ``7``, ``7.0``, ``7e0``."""
    if "_" in word:
        raise ValueError
    try:
        return int(word)
    except ValueError:
        number = float(word)
        if not number.is_integer():
            raise
        return int(number)


_CONVERTS: dict[str, Callable[[str], Any]] = {
    "boolean": lambda word: _TRUTHS[word.lower()],
    "integer": _whole,
    "long": _whole,
    "float": _number,
    "double": _number,
    "string": str,
}


def _untyped(name: str) -> Column:
    return Column(name, TYPES["string"])
