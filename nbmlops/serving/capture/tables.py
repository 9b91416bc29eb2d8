"""Records made into tables of rows: our own columns, then each feature in its own, with the signature's type.

Our own columns begin with ``nbmlops.``; a feature that begins so too is named ``feature.nbmlops.…``.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, NamedTuple, Self

import orjson
import pyarrow as pa

from nbmlops.errors import NbmlopsError
from nbmlops.serving.capture.bodies import Columns, features_of, predictions_of
from nbmlops.serving.capture.frames import COLUMNS, NOTHING, Record
from nbmlops.serving.schema import Schema

OURS = "nbmlops."
AT, LOG, REQUEST_ID, ROLE, ROW = (f"{OURS}{name}" for name in ("at", "log", "request_id", "role", "row"))
PREDICTION = f"{OURS}prediction"
_REFUSED = f"{OURS}body"  # of refused requests, where the settings keep them
_OWN: dict[str, pa.DataType] = {
    REQUEST_ID: pa.string(),
    AT: pa.timestamp("ns", tz="UTC"),
    f"{OURS}version": pa.string(),
    ROLE: pa.string(),
    f"{OURS}latency_ms": pa.float64(),
    f"{OURS}status": pa.int32(),
    ROW: pa.int32(),
}
MOST_COLUMNS = 2000  # of features in one segment: a client without a schema to hold it could name a million
MAX_AT_NS = 4102444800 * 10**9  # 2100: a time beyond it is damage

# MLflow's column types; datetime is read from text below, any other is taken as it comes
_TYPES = {
    "boolean": pa.bool_(),
    "integer": pa.int64(),
    "long": pa.int64(),
    "float": pa.float64(),
    "double": pa.float64(),
    "string": pa.string(),
    "datetime": pa.timestamp("us"),
}


class Rows:
    """Rows of one day in the making."""

    def __init__(self, log: str) -> None:
        self._log = log
        self._own: dict[str, list[Any]] = {name: [] for name in (*_OWN, PREDICTION, _REFUSED)}
        self._features: Columns = {}
        self._types: dict[str, pa.DataType | None] = {}
        self.n = 0

    def add(self, record: Record, columns: Columns, predictions: Sequence[Any], types: Mapping[str, Any]) -> None:
        """Take a record's rows; one without features is one row."""
        n = len(predictions)
        values = record.request_id, record.at_ns, record.version, record.role, record.latency_s * 1e3, record.status
        for name, value in zip(_OWN, values, strict=False):
            self._own[name] += [value] * n
        self._own[ROW] += range(n)
        self._own[PREDICTION] += predictions
        self._own[_REFUSED] += [_text(record.features) if _is_refused(record) else None] * n
        for name, added in columns.items():
            self._extend(f"feature.{name}" if name.startswith(OURS) else name, added, types.get(name))
        self.n += n

    def _extend(self, name: str, values: list[Any], kind: Any) -> None:
        if name not in self._features:
            if len(self._features) >= MOST_COLUMNS:
                return
            self._features[name], self._types[name] = [], kind
        have = self._features[name]
        have += [None] * (self.n - len(have))
        have += values
        if self._types[name] != kind:  # two versions disagree
            self._types[name] = None

    def table(self) -> pa.Table:
        """Give the table."""
        own = {name: pa.array(self._own[name], kind) for name, kind in _OWN.items()}
        own[PREDICTION] = column(self._own[PREDICTION], None)
        if any(body is not None for body in self._own[_REFUSED]):
            own[_REFUSED] = pa.array(self._own[_REFUSED], pa.string())
        own[LOG] = pa.array([self._log] * self.n, pa.string())
        features = {
            name: column(values + [None] * (self.n - len(values)), self._types[name])
            for name, values in self._features.items()
        }
        return pa.table({**own, **features})


def tables(log: str, records: Iterable[Record], inputs: Mapping[str, str]) -> tuple[dict[date, pa.Table], int]:
    """Make the rows of records, by UTC day.

    Parameters
    ----------
    log
        The log's name, which each row keeps.
    records
        Of that log.
    inputs
        The signatures of versions, as JSON.

    Returns
    -------
    tables by day, and how many records could not be read whole
        These keep a row without features, or without a prediction.
    """
    known = {version: _Signature.of(text) for version, text in inputs.items()}
    days: dict[date, Rows] = {}
    bad = 0
    for record in records:
        signature = known.get(record.version) or _UNKNOWN
        columns, predictions, is_bad = _read(record, signature)
        at_ns = min(max(record.at_ns, 0), MAX_AT_NS)
        day = datetime.fromtimestamp(at_ns // 10**9, UTC).date()
        days.setdefault(day, Rows(log)).add(record._replace(at_ns=at_ns), columns, predictions, signature.types)
        bad += is_bad or at_ns != record.at_ns
    return {day: rows.table() for day, rows in sorted(days.items())}, bad


def empty() -> pa.Table:
    """Give a table of no rows, with our columns."""
    return Rows("").table()


def types_of(inputs: str) -> dict[str, Any]:
    """Read the types of a signature's named columns from its JSON; a tensor has none.

    Examples
    --------
    >>> types_of('[{"type": "double", "name": "delay"}, {"type": "string", "name": "carrier"}]')
    {'delay': DataType(double), 'carrier': DataType(string)}
    >>> types_of("")
    {}
    """
    try:
        listed = json.loads(inputs or "[]")
        return {str(each["name"]): _TYPES.get(each["type"]) for each in listed if each["type"] != "tensor"}
    except (ValueError, TypeError, KeyError):
        return {}


class _Signature(NamedTuple):
    """What is known of a version's features."""

    schema: Schema
    types: Mapping[str, Any]

    @classmethod
    def of(cls, inputs: str) -> Self:
        """Read it from its JSON; what makes no sense tells nothing."""
        try:
            return cls(Schema.of(inputs or None), types_of(inputs))
        except (ValueError, TypeError, KeyError, AttributeError, NbmlopsError):
            return cls(Schema.of(None), {})


_UNKNOWN = _Signature.of("")


def _read(record: Record, signature: _Signature) -> tuple[Columns, list[Any], bool]:
    """Read a record's columns and predictions, as far as that can be done."""
    is_bad, columns, predictions = False, {}, None
    try:
        found = {} if _is_refused(record) else features_of(record, signature.schema)
        columns = {name: values for name, values in found.items() if not signature.types or name in signature.types}
    except ValueError:
        is_bad = True
    n_rows = max((len(values) for values in columns.values()), default=1)
    try:
        predictions = [None] if _is_refused(record) else predictions_of(record, n_rows)
    except ValueError:
        is_bad = True
    return columns, predictions or [None] * n_rows, is_bad


def column(values: list[Any], kind: pa.DataType | None) -> pa.Array:
    """Make a column of the type that the signature names, else of the one that the values have; text for mixed ones.

    Examples
    --------
    >>> column([1, 2.5, None], None).type, column([1, "a"], None).to_pylist()
    (DataType(double), ['1', 'a'])
    >>> column([1, "a"], pa.float64()).to_pylist()
    [1.0, None]
    """
    if kind is not None:
        return _typed(values, kind)
    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeError, TypeError):
        pass
    if all(isinstance(value, int | float | None) and not isinstance(value, bool) for value in values):
        return pa.array([None if value is None else _number(value) for value in values], pa.float64())
    return pa.array([None if value is None else _as_text(value) for value in values], pa.string())


def _typed(values: list[Any], kind: pa.DataType) -> pa.Array:
    """Bring values to a type; one that cannot be is missing, and costs the others nothing."""
    try:
        found = pa.array(values, from_pandas=True)
        return found if found.type == kind else found.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, UnicodeError, TypeError):
        return pa.array([_one(value, kind) for value in values], kind)


def _one(value: Any, kind: pa.DataType) -> Any:
    try:
        return pa.scalar(_sound(value) if isinstance(value, str) else value).cast(kind).as_py()
    except (pa.ArrowException, ValueError, OverflowError, TypeError):
        return None


def _number(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _as_text(value: Any) -> str:
    """Give text as it is, anything else as JSON."""
    if isinstance(value, str):
        return _sound(value)
    try:
        return orjson.dumps(value, str).decode()
    except TypeError:
        return _sound(json.dumps(value, default=str))


def _sound(text: str) -> str:
    """Put a mark in the place of lone surrogates, which are no text."""
    return text.encode("utf-8", "replace").decode()


def _text(body: bytes) -> str:
    return body.decode("utf-8", "replace")


def _is_refused(record: Record) -> bool:
    return record.status >= 400 and record.form not in (NOTHING, COLUMNS)
