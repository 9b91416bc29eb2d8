"""What a record holds, read: the features of its rows by column, and a prediction for each row. Pure.

A body is read as the worker read it, by `nbmlops.serving.protocols`. What cannot be read raises ValueError: the
record is then counted as bad.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

from nbmlops.serving.capture.frames import COLUMNS, NOTHING, VALUES, Record, from_json
from nbmlops.serving.protocols import invocations
from nbmlops.serving.protocols.limits import Limits
from nbmlops.serving.protocols.refusals import Answer
from nbmlops.serving.schema import UNNAMED, Schema

TENSOR = "inputs"  # the column of a tensor that has no name
_LIMITS = Limits(max_body_bytes=1 << 40, max_rows=1 << 40)  # the worker has judged that
_UNREADABLE = (TypeError, KeyError, AttributeError, IndexError, RecursionError, OverflowError)

Columns = dict[str, list[Any]]


def features_of(record: Record, schema: Schema) -> Columns:
    """Read a record's features: columns of equal length, their names as text.

    Parameters
    ----------
    record
        As a log holds it.
    schema
        Of the version that answered. Where it is not known, rows that name no columns get ``0``, ``1``, ….

    Raises
    ------
    ValueError
        It cannot be read, or its columns differ in length.

    Examples
    --------
    >>> body = b'{"dataframe_split": {"columns": ["delay", "day"], "data": [[4.5, 1], [0.0, 2]]}}'
    >>> record = Record("r", 0, "1", "champion", 0.0, 200, "application/json", body, "", b"")
    >>> features_of(record, Schema.of(None))
    {'delay': [4.5, 0.0], 'day': [1, 2]}
    """
    try:
        found = _columns(record, schema)
        columns = {TENSOR if name == UNNAMED else str(name): _listed(values) for name, values in found.items()}
    except _UNREADABLE as exc:
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
        found = from_json(record.answer) if record.answer_form == VALUES else _answered(record.answer)
    except _UNREADABLE as exc:
        raise ValueError(f"an answer that is not readable: {exc}") from exc
    if isinstance(found, list) and len(found) == n_rows:
        return found
    return ([found] + [None] * n_rows)[:n_rows]


def _columns(record: Record, schema: Schema) -> Mapping[Any, Any]:
    if record.form == NOTHING:
        return {}
    if record.form == COLUMNS:
        found: Mapping[str, Any] = from_json(record.features)
        return found
    request = invocations.read(record.features, record.form, schema, _LIMITS)
    if isinstance(request, Answer):
        raise ValueError(f"refused as {record.form}")
    if schema.is_known or request.columns:
        return request.columns
    return _without_schema(from_json(record.features))


def _without_schema(body: Any) -> Columns:
    """Read MLflow's forms where a model has no signature, so that the model itself reads them."""
    if "dataframe_split" in body:
        split = body["dataframe_split"]
        return _by_position(split["data"], [str(name) for name in split.get("columns") or ()])
    if "dataframe_records" in body:
        return _by_name(body["dataframe_records"])
    given = body["instances"] if "instances" in body else body["inputs"]
    if isinstance(given, Mapping):
        return dict(given)
    return _by_name(given) if given and isinstance(given[0], Mapping) else _by_position(given, ())


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


def _answered(answer: bytes) -> Any:
    """Find the predictions in an answer's body."""
    if answer[:4] == b"\xff\xff\xff\xff":  # how an Arrow stream begins
        columns = _arrow(answer)
        return next(iter(columns.values())) if len(columns) == 1 else _rows(columns)
    body = from_json(answer)
    return body.get("predictions", body) if isinstance(body, Mapping) else body


def _rows(columns: Columns) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _arrow(body: bytes) -> Columns:
    import pyarrow as pa

    with pa.ipc.open_stream(io.BytesIO(body)) as stream:
        table = stream.read_all()
    return {str(name): table.column(n).to_pylist() for n, name in enumerate(table.column_names)}


def _listed(values: Any) -> list[Any]:
    listed = values.tolist() if hasattr(values, "tolist") else values
    if not isinstance(listed, list):
        return [listed]
    return [base64.b64encode(value).decode() if isinstance(value, bytes) else value for value in listed]
