"""MLflow's own protocol, ``POST /invocations``: what its scoring server reads, and what it answers.

Valid bodies mean what they mean to MLflow's server; what is refused besides is told in `nbmlops.serving.schema`, and:

- a body in another encoding than UTF-8, or with half a surrogate pair;
- rows that have not as many values as there are columns, records without a column that others have (in instances),
  columns of one name, tables without rows;
- dataframe_split with other data than a list of rows; CSV with an index column, with dates or bytes, with true or
  false in a column of numbers, or with text after a closing quote.

And this is read otherwise: a whole number beyond 64 bits is a float, in a column of text too; what is in columns that
the model does not take is not looked at; a double in CSV is the nearest one to its digits, which pandas may miss.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import orjson

from nbmlops.errors import DataError, NbmlopsError, UsageError
from nbmlops.serving.protocols import spreadsheet
from nbmlops.serving.protocols.limits import LIMITS, Limits
from nbmlops.serving.protocols.refusals import JSON, Answer, NotTakenError, TooLargeError, refusal
from nbmlops.serving.protocols.request import Request
from nbmlops.serving.schema import ARRAY, FRAME, MISSING, UNNAMED, Form, Schema

CSV = "text/csv"
ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
TAKEN = (JSON, CSV, ARROW, PARQUET)
FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_ONE_OF = f"one of {', '.join(FORMS[:-1])} or {FORMS[-1]}"
_OF_CHATS = frozenset({"messages", "prompt", "input"})  # MLflow hands such a body to the model as it is
_NOT_JSON = (b"NaN", b"Infinity")  # which Python's json reads, and so MLflow does
_BOM = b"\xef\xbb\xbf"
_LISTS = frozenset({list})

Table = tuple[Mapping[Any, Sequence[Any]], int]  # columns, number of rows


# ------------------------------------------------------------------------------------------------------------ reading
def read(body: bytes, content_type: str | None, schema: Schema, limits: Limits = LIMITS) -> Request | Answer:
    """Read a body, and check it against the model's signature.

    Parameters
    ----------
    body, content_type
        As they came; JSON, CSV, an Arrow IPC stream or Parquet.
    schema
        Of the model. Where it is not known, what is sent is checked only for its form.
    limits
        Beyond them the answer is 413, or 400 for what is nested too deeply.

    Returns
    -------
    Request or Answer
        An answer is a refusal: 400 for a body that cannot be read, 413 for one that is too large, 415 for a content
        type that is not taken, 422 for rows that do not fit the model. Nothing is raised.

    Examples
    --------
    >>> schema = Schema.of('[{"name": "delay", "type": "double"}]')
    >>> request = read(b'{"dataframe_split": {"columns": ["delay"], "data": [[2.5], [3]]}}', "application/json", schema)
    >>> request.columns, request.n_rows
    ({'delay': [2.5, 3.0]}, 2)
    >>> request.answer(np.array([0, 1])).body
    b'{"predictions":[0,1]}'
    >>> read(b"{}", "text/plain", schema).status
    415
    """
    try:
        kind = media_type(content_type)
        if len(body) > limits.max_body_bytes:
            most = f"{limits.max_body_bytes / 2**20:g} MB"
            raise TooLargeError(f"The body has {len(body):,} bytes; at most {most} are taken.", "Send fewer rows.")
        if kind == JSON:
            return _of_json(body, content_type or "", schema, limits)
        if kind == CSV:
            return _of_csv(body, content_type or "", schema, limits)
    except NbmlopsError as error:
        return refusal(error)
    from nbmlops.serving.protocols.arrow import read as read_table  # where it is asked for alone: it loads pyarrow

    return read_table(body, schema, limits, is_parquet=kind == PARQUET)


@lru_cache(maxsize=64)
def media_type(content_type: str | None) -> str:
    """Find which of the content types that are taken this is.

    Examples
    --------
    >>> media_type("application/json; charset=UTF-8")
    'application/json'
    """
    kind, *parameters = [part.strip() for part in (content_type or "").split(";")]
    if kind.lower() not in TAKEN:
        raise NotTakenError(
            "The content type is not one that is taken.", f"Send {', '.join(TAKEN[:-1])} or {TAKEN[-1]}."
        )
    if any(parameter.lower().replace('"', "") not in ("charset=utf-8", "") for parameter in parameters):
        raise NotTakenError(
            "The content type has a parameter that is not taken.", "Send UTF-8, and no other parameter."
        )
    return kind.lower()


def loads(body: bytes) -> Any:
    """Parse JSON as MLflow does: with NaN and infinities, but in UTF-8 alone, and with numbers of bounded size.

    Raises
    ------
    UsageError
        It is no JSON.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if not (body.startswith(_BOM) or "infinity" in str(error) or any(token in body for token in _NOT_JSON)):
            raise UsageError(f"The body is no JSON: {_place(error)}.", f"Send an object with {_ONE_OF}.") from None
    try:
        return json.loads(body.decode("utf-8-sig"), parse_int=_whole)
    except RecursionError:
        raise UsageError("The body cannot be read: it is nested too deeply.", "Send plain rows.") from None
    except ValueError:
        raise UsageError("The body is no JSON.", f"Send an object with {_ONE_OF}.") from None


def _place(error: orjson.JSONDecodeError) -> str:
    if "depth" in error.msg:
        return "it is nested too deeply"
    return f"{error.msg.partition(':')[0]} at line {error.lineno}, column {error.colno}"


def _whole(digits: str) -> float:
    """Read a whole number; one beyond 64 bits as a float, as orjson does, in time linear in its digits."""
    if len(digits) <= 20:
        return int(digits)
    if math.isinf(number := float(digits)):
        raise ValueError
    return number


def _of_json(body: bytes, content_type: str, schema: Schema, limits: Limits) -> Request:
    document = loads(body)
    if type(document) is not dict:
        raise UsageError(f"The body is JSON, but no object with {_ONE_OF}.", "Send the rows in one of these forms.")
    params = document.pop("params", None)
    if not schema.is_known:
        return _unchecked(document, params, body, content_type, limits)
    form = next(iter(document), "") if len(document) == 1 else _only_form(document)
    reader = _READERS.get(form) or _READERS[_only_form(document)]
    columns, n_rows, rules = reader(document[form], schema)
    counted(n_rows, limits)
    return Request(schema.checked(columns, rules), n_rows, predicted, body, content_type, params)


def _only_form(document: Mapping[str, Any]) -> str:
    """Find the one form in an object; what else is in it is not looked at, as MLflow does not."""
    forms = [form for form in FORMS if form in document]
    if len(forms) == 1 and _OF_CHATS.isdisjoint(document):
        return forms[0]
    said = f"The body is an object with {len(forms)} of these: {', '.join(FORMS)}."
    raise UsageError(said, "Send exactly one of them.")


def counted(n_rows: int, limits: Limits) -> None:
    """Refuse a table without rows, and one with too many."""
    if not n_rows:
        raise DataError("The data has no rows.", "Send at least one.")
    if n_rows > limits.max_rows:
        raise TooLargeError(f"The data has {n_rows:,} rows; at most {limits.max_rows:,} are taken.", "Send fewer rows.")


def _unchecked(document: dict[str, Any], params: Any, body: bytes, content_type: str, limits: Limits) -> Request:
    """Pass on what a model without a plain signature is sent: MLflow itself will judge it."""
    _shallow(document, limits.max_depth)
    if not (_OF_CHATS | set(FORMS)) & document.keys():
        raise UsageError(f"The body is an object without {_ONE_OF}.", "Send the rows in one of these forms.")
    content = next((document[form] for form in FORMS if form in document), None)
    rows = content.get("data", ()) if isinstance(content, dict) else content
    n_rows = len(rows) if isinstance(rows, list) else 1
    counted(n_rows, limits)
    return Request({}, n_rows, predicted, body, content_type, params)


def _shallow(document: Any, max_depth: int) -> None:
    """Refuse what is nested too deeply for those who read it after us, level by level."""
    level = [document]
    for _ in range(max_depth):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise UsageError("The body cannot be read: it is nested too deeply.", f"At most {max_depth} levels are taken.")


# ----------------------------------------------------------------------------------------------------- the four forms
Read = tuple[Mapping[Any, Sequence[Any]], int, Form]


def _split(content: Any, schema: Schema) -> Read:
    if type(content) is not dict or "data" not in content or not content.keys() <= {"columns", "data", "index"}:
        raise UsageError(
            "dataframe_split is no object with 'columns' and 'data'.", 'Send {"columns": [...], "data": [[...]]}.'
        )
    names, rows = content.get("columns"), content["data"]
    if type(rows) is not list or not (names is None or type(names) is list):
        raise UsageError(
            "In dataframe_split 'columns' and 'data' are not both lists.", 'Send {"columns": [...], "data": [[...]]}.'
        )
    if "index" in content:
        _check_index(content["index"], len(rows))
    if not rows:
        return {}, 0, FRAME
    if not _LISTS.issuperset(map(type, rows)):
        rows = _single(rows, names)
    if schema.is_tensor:
        return _matrix(rows, names, schema), len(rows), FRAME
    names = names or ()
    if set(map(len, rows)) != {len(names)}:
        raise _uneven(rows, names, schema)
    return _named(names, rows, schema), len(rows), FRAME


def _named(names: Sequence[Any], rows: Sequence[Sequence[Any]], schema: Schema) -> Mapping[Any, Sequence[Any]]:
    try:
        columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    except TypeError:  # a list or an object is no name
        raise UsageError(
            "In dataframe_split a name of a column is a list or an object.", "Send names in text."
        ) from None
    if len(columns) < len(names):
        unique(names, schema)
    return columns


def unique(names: Sequence[Any], schema: Schema) -> None:
    """Refuse two columns of one name, if it is one of the model's."""
    times = Counter(names)
    for column in schema.columns:
        if times[column.name] > 1:
            raise DataError(f"The data has column {column.name!r} more than once.", schema.hint())


def _check_index(index: Any, n_rows: int) -> None:
    if index is not None and (type(index) is not list or len(index) != n_rows):
        raise UsageError("In dataframe_split 'index' is no list as long as 'data'.", "Leave it out: it is not used.")


def _single(rows: list[Any], names: list[Any] | None) -> list[list[Any]]:
    """Take plain values as rows of one column."""
    if not (set(map(type, rows)) & {list, dict}) and (names is None or len(names) == 1):
        return [[value] for value in rows]
    raise UsageError("In dataframe_split 'data' is no list of rows.", "Send each row as a list of values.")


def _uneven(rows: Sequence[Sequence[Any]], names: Sequence[Any], schema: Schema) -> NbmlopsError:
    row, found = next((row, len(values)) for row, values in enumerate(rows) if len(values) != len(names))
    return DataError(f"Row {row} has {found:,} values, and there are {len(names):,} columns.", schema.hint())


def _matrix(rows: Sequence[Any], names: Sequence[Any] | None, schema: Schema) -> Mapping[Any, Sequence[Any]]:
    """Hand rows to a model that takes an array without names."""
    if names is not None and set(map(len, rows)) != {len(names)}:
        raise _uneven(rows, names, schema)
    if schema.columns[0].width == 0 and set(map(len, rows)) == {1}:
        return {UNNAMED: [row[0] for row in rows]}
    return {UNNAMED: rows}


def _records(content: Any, schema: Schema) -> Read:
    if type(content) is not list:
        raise UsageError("dataframe_records is no list of objects.", 'Send [{"column": value, ...}, ...].')
    kinds = set(map(type, content))
    if schema.is_tensor and content:
        rows = content if kinds == {list} else _unnamed(content, kinds)
        return _matrix(rows, None, schema), len(content), FRAME
    if not kinds <= {dict}:
        raise DataError("dataframe_records has rows that are no objects.", schema.hint())
    return _by_column(content, schema), len(content), FRAME


def _by_column(records: Sequence[Mapping[str, Any]], schema: Schema) -> dict[Any, Sequence[Any]]:
    columns: dict[Any, Sequence[Any]] = {}
    for column in schema.columns:
        name: Any = column.name
        try:
            columns[name] = [record[name] for record in records]
        except KeyError:
            if any(name in record for record in records):
                columns[name] = [record.get(name, MISSING) for record in records]
    return columns


def _unnamed(records: Sequence[Any], kinds: set[type]) -> list[list[Any]]:
    if kinds != {dict}:
        raise UsageError("dataframe_records is no list of objects.", 'Send [{"column": value, ...}, ...].')
    names = dict.fromkeys(name for record in records for name in record)
    return [[record.get(name, MISSING) for name in names] for record in records]


def _inputs(content: Any, schema: Schema) -> Read:
    if type(content) is dict and not schema.is_tensor:
        return _by_name(content, schema)
    if type(content) is not list:
        raise DataError("inputs and instances take columns by name, or a list.", schema.hint())
    if schema.is_tensor:
        return {UNNAMED: content}, len(content), ARRAY
    if set(map(type, content)) == {dict}:
        return _by_column(content, schema), len(content), ARRAY
    if len(schema.columns) == 1 and dict not in map(type, content):
        return {schema.columns[0].name: content}, len(content), ARRAY
    if not content:
        return {}, 0, ARRAY
    raise DataError("The values have no names of columns.", schema.hint())


def _instances(content: Any, schema: Schema) -> Read:
    if type(content) is list and content and type(content[0]) is dict and not schema.is_tensor:
        keys = content[0].keys()
        for row, record in enumerate(content):
            if type(record) is not dict or record.keys() != keys:
                raise DataError(f"Row {row} of instances has not the names that row 0 has.", schema.hint())
    return _inputs(content, schema)


def _by_name(content: Mapping[str, Any], schema: Schema) -> Read:
    """Read columns by name: lists of one length; a single value stands for as many rows as the lists have."""
    lengths = {len(values) for values in content.values() if type(values) is list}
    if len(lengths) > 1:
        raise DataError("The columns are of different lengths.", schema.hint())
    if not lengths and content.keys() - schema.by_name.keys():
        raise DataError("One row of single values has a column that the model does not take.", schema.hint())
    n_rows = lengths.pop() if lengths else 1
    return {name: v if type(v) is list else [v] * n_rows for name, v in content.items()}, n_rows, ARRAY


_READERS: dict[str, Callable[[Any, Schema], Read]] = {
    "dataframe_split": _split,
    "dataframe_records": _records,
    "instances": _instances,
    "inputs": _inputs,
}


def _of_csv(body: bytes, content_type: str, schema: Schema, limits: Limits) -> Request:
    columns, n_rows = spreadsheet.read(body, schema, limits.max_rows)
    counted(n_rows, limits)
    return Request(schema.checked(columns), n_rows, predicted, body, content_type)


# ---------------------------------------------------------------------------------------------------------- answering
def predicted(predictions: np.ndarray, model: str = "", version: str = "") -> Answer:  # noqa: ARG001 - not told here
    """Word predictions as MLflow does: ``{"predictions": [...]}``, a list for each row of a 2-D output.

    NaN is written as ``NaN``, as MLflow does, which is no strict JSON.

    Examples
    --------
    >>> predicted(np.array([[0.25, 0.75]])).body
    b'{"predictions":[[0.25,0.75]]}'
    """
    values = np.asarray(predictions)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        return Answer(200, json.dumps({"predictions": values.tolist()}).encode())
    if values.dtype.kind == "O":
        return Answer(200, json.dumps({"predictions": values.tolist()}, default=_plain).encode())
    return Answer(200, orjson.dumps({"predictions": values.tolist()}, default=_plain))


def _plain(value: Any) -> Any:
    """Write what JSON has no word for, as MLflow does."""
    import base64

    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, bytes):
        return base64.encodebytes(value).decode("ascii")
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
