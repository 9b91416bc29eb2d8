"""What a record holds, read: the features of its rows by column, and a prediction for each row. Pure.

Bodies were valid when they were answered, so that this reads and does not judge: what it cannot read raises
ValueError, and the record is counted as bad.
"""

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from nbmlops.serving.capture.frames import COLUMNS, NOTHING, VALUES, Record

ARROW = "application/vnd.apache.arrow.stream"
CSV = "text/csv"

Columns = dict[str, list[Any]]


def features_of(record: Record, names: Sequence[str] = ()) -> Columns:
    """Read a record's features: columns of equal length.

    Parameters
    ----------
    record
        As a log holds it.
    names
        The features' names in the model's signature, for rows that name none; without them ``0``, ``1``, ….

    Raises
    ------
    ValueError
        It cannot be read, or its columns differ in length.

    Examples
    --------
    >>> body = b'{"dataframe_split": {"columns": ["delay", "day"], "data": [[4.5, 1], [0.0, 2]]}}'
    >>> features_of(Record("r", 0, "1", "champion", 0.0, 200, "application/json", body, "", b""))
    {'delay': [4.5, 0.0], 'day': [1, 2]}
    """
    try:
        columns = _columns(record, names)
    except (TypeError, KeyError, AttributeError, IndexError, RecursionError) as exc:
        raise ValueError(f"not readable as {record.form}: {exc}") from exc
    if len({len(values) for values in columns.values()}) > 1:
        raise ValueError("columns of different lengths")
    return columns


def predictions_of(record: Record, n_rows: int) -> list[Any]:
    """Read a record's predictions, one for each of its rows; an answer of another length stands in the first.

    Raises
    ------
    ValueError
        It cannot be read.

    Examples
    --------
    >>> predictions_of(Record("r", 0, "1", "champion", 0.0, 200, "", b"", "body", b'{"predictions": [0, 1]}'), 2)
    [0, 1]
    """
    if record.answer_form == NOTHING:
        return [None] * n_rows
    try:
        found = _json(record.answer) if record.answer_form == VALUES else _answered(record.answer)
    except (TypeError, KeyError, AttributeError, IndexError, RecursionError) as exc:
        raise ValueError(f"an answer that is not readable: {exc}") from exc
    if isinstance(found, list) and len(found) == n_rows:
        return found
    return ([found] + [None] * n_rows)[:n_rows]


def _columns(record: Record, names: Sequence[str]) -> Columns:
    kind = record.form.partition(";")[0].strip().lower()
    if kind == NOTHING:
        return {}
    if kind == COLUMNS:
        return {str(name): _listed(values) for name, values in _json(record.features).items()}
    if kind == ARROW:
        return _arrow(record.features)
    if kind == CSV:
        return _csv(record.features)
    if kind in ("application/json", ""):
        return _of_json(_json(record.features), names)
    raise ValueError(f"bodies of the form {kind} are not read")


def _json(text: bytes) -> Any:
    """Read JSON; NaN and infinity too, as Python writes them."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)


def _of_json(body: Any, names: Sequence[str]) -> Columns:
    """Read MLflow's forms, and the Open Inference Protocol's tensors."""
    if "dataframe_split" in body:
        split = body["dataframe_split"]
        return _by_position(split["data"], [str(name) for name in split.get("columns") or names])
    if "dataframe_records" in body:
        return _by_name(body["dataframe_records"])
    given = body["instances"] if "instances" in body else body["inputs"]
    if isinstance(given, Mapping):
        return {str(name): _listed(values) for name, values in given.items()}
    if given and isinstance(given[0], Mapping):
        return _tensors(given) if "datatype" in given[0] else _by_name(given)
    return _by_position(given, names)


def _by_name(rows: Sequence[Mapping[str, Any]]) -> Columns:
    names = dict.fromkeys(str(name) for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _by_position(rows: Sequence[Any], names: Sequence[str]) -> Columns:
    rows = [row if isinstance(row, list) else [row] for row in rows]
    width = max(map(len, rows), default=0)
    if any(len(row) != width for row in rows):
        raise ValueError("rows of different lengths")
    if len(names) != width:
        names = [str(n) for n in range(width)]
    return {name: [row[n] for row in rows] for n, name in enumerate(names)}


def _tensors(tensors: Sequence[Mapping[str, Any]]) -> Columns:
    return {str(each["name"]): _shaped(each["data"], each["shape"]) for each in tensors}


def _shaped(data: list[Any], shape: Sequence[int]) -> list[Any]:
    """Give a flat tensor's rows: ``(n,)`` and ``(n, 1)`` values, ``(n, k)`` lists; nested data stays as it is."""
    if not shape or len(data) == shape[0]:
        return [row[0] if isinstance(row, list) and len(row) == 1 else row for row in data]
    width = len(data) // shape[0]
    return [data[at : at + width] for at in range(0, len(data), width)]


def _answered(answer: bytes) -> Any:
    """Find the predictions in an answer's body."""
    if answer[:4] == b"\xff\xff\xff\xff":  # how an Arrow stream begins
        columns = _arrow(answer)
        return next(iter(columns.values())) if len(columns) == 1 else _rows(columns)
    body = _json(answer)
    if not isinstance(body, Mapping):
        return body
    if "outputs" not in body:
        return body.get("predictions", body)
    columns = _tensors(body["outputs"])
    return next(iter(columns.values())) if len(columns) == 1 else _rows(columns)


def _rows(columns: Columns) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _arrow(body: bytes) -> Columns:
    import pyarrow as pa

    with pa.ipc.open_stream(io.BytesIO(body)) as stream:
        table = stream.read_all()
    return {str(name): table.column(n).to_pylist() for n, name in enumerate(table.column_names)}


def _csv(body: bytes) -> Columns:
    from pyarrow import csv

    table = csv.read_csv(io.BytesIO(body))
    return {str(name): table.column(n).to_pylist() for n, name in enumerate(table.column_names)}


def _listed(values: Any) -> list[Any]:
    return values if isinstance(values, list) else [values]
