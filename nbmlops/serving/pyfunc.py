"""What a model says through MLflow's python function: requests answered as MLflow's own scoring server does.

Requests that look alike (the same form, columns and types) are put together into one table, where that is known to
give the same answers; all others, and those of a table that the model refuses, are answered one by one.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from nbmlops.errors import DataError, NbmlopsError, UsageError
from nbmlops.serving.protocols.refusals import Answer, brief, refused

JSON = "application/json"
FORMS = "dataframe_split, dataframe_records, instances or inputs"
FAILED = NbmlopsError("The server failed on this request.", "Its server.log says why.")
_SCALARS = frozenset((int, float, str, bool, type(None)))
_LONGEST_HINT = 400

Asked = tuple[bytes, str]  # a request's body, and its content type


def answers(model: Any, asked: Sequence[Asked], *, is_batchable: bool) -> list[Answer]:
    """Answer requests, in their order.

    Parameters
    ----------
    model
        A loaded ``mlflow.pyfunc.PyFuncModel``.
    asked
        The bodies and content types.
    is_batchable
        Whether the model is known to give each row the same prediction, whatever rows are beside it.

    Returns
    -------
    list of Answer
        200 with ``{"predictions": [...]}``; 400 for a body that cannot be read, 415 for a content type that is
        not taken, 422 for rows that do not fit the model, 500 where the model gave what cannot be written.
    """
    given: dict[int, Answer] = {}
    for places, rows in _alike(asked) if is_batchable and len(asked) > 1 else ():
        given |= zip(places, _together(model, rows), strict=False)
    return [given.get(place) or answer(model, *each) for place, each in enumerate(asked)]


def answer(model: Any, body: bytes, content_type: str) -> Answer:
    """Answer one request by MLflow's own scoring function: it parses, predicts and writes."""
    from mlflow.pyfunc.scoring_server import invocations

    watched = Watched(model)
    try:
        given = invocations(body, content_type, watched, watched.metadata.get_input_schema())
    except Exception as exc:  # noqa: BLE001  # what it raises on bodies that it cannot cope with is no fixed set
        return _refusal(watched, exc)
    if given.status != 200:
        hint = f"Send {JSON}, text/csv or Parquet, in UTF-8."
        return refused(given.status, UsageError(brief(given.response), hint))
    return Answer(200, given.response.encode())


def _refusal(watched: "Watched", exc: Exception) -> Answer:
    if watched.refusal:
        return refused(422, DataError(watched.refusal, _columns_hint(watched.metadata)))
    if watched.was_reached:
        return refused(500, FAILED)
    hint = f"Send JSON with one of {FORMS}; or CSV or Parquet with its content type."
    return refused(400, UsageError(f"The body cannot be read: {_reading_error(exc)}", hint))


class Watched:
    """A model that remembers whether a request got as far as predicting, and what the model said against it."""

    def __init__(self, model: Any) -> None:
        self.metadata = model.metadata
        self.was_reached = False
        self.refusal = ""
        self._model = model

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        """Predict; whatever the model raises about these rows is kept as one brief line."""
        self.was_reached = True
        try:
            return self._model.predict(data, params=params)
        except Exception as exc:
            self.refusal = f"The model cannot predict these rows: {_schema_error(exc)}"
            raise


# ------------------------------------------------------------------ put together
@dataclass(frozen=True)
class _Rows:
    """One request's rows, as plain values."""

    columns: tuple[str, ...]
    types: tuple[type, ...]
    data: list[Any]


def _alike(asked: Sequence[Asked]) -> list[tuple[list[int], list[_Rows]]]:
    """Group the requests that may stand in one table; those that are alone, or unusual, are in no group."""
    groups: dict[Any, list[tuple[int, _Rows]]] = defaultdict(list)
    for place, (body, content_type) in enumerate(asked):
        if content_type == JSON and (rows := _rows(body)):
            groups[rows.columns, rows.types].append((place, rows))
    return [([place for place, _ in group], [rows for _, rows in group]) for group in groups.values() if len(group) > 1]


def _rows(body: bytes) -> _Rows | None:
    """Read a body's rows where they are plain: text columns, scalar values, one type in each column."""
    try:
        ((form, content),) = orjson.loads(body).items()
        columns, data = _split(form, content)
        types = tuple(map(type, data[0]))
        is_plain = _SCALARS.issuperset(types) and all(tuple(map(type, row)) == types for row in data)
        return _Rows(tuple(columns), types, data) if is_plain and len(types) == len(columns) else None
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return None  # MLflow's own function will say what is wrong, or can be read after all


def _split(form: str, content: Any) -> tuple[list[str], list[Any]]:
    if form == "dataframe_split" and content.keys() == {"columns", "data"}:
        columns, data = content["columns"], content["data"]
    elif form == "dataframe_records":
        columns = list(content[0])
        data = [[row[name] for name in columns] for row in content if len(row) == len(columns)]
        if len(data) != len(content):
            raise ValueError("The rows differ in their columns.")
    else:
        raise ValueError("These forms are read by MLflow alone.")
    if len(set(columns)) != len(columns):
        raise ValueError("A column is there twice.")
    return columns, data


def _together(model: Any, group: list[_Rows]) -> list[Answer]:
    """Answer requests by one prediction; none where the model refuses, so that each is asked alone."""
    from mlflow.pyfunc.scoring_server import NumpyEncoder, _get_jsonable_obj
    from mlflow.utils.proto_json_utils import dataframe_from_parsed_json

    told = {"columns": list(group[0].columns), "data": [row for rows in group for row in rows.data]}
    try:
        table = dataframe_from_parsed_json(told, pandas_orient="split", schema=model.metadata.get_input_schema())
        found = _get_jsonable_obj(model.predict(table), pandas_orient="records")
        if len(found) != len(told["data"]):
            return []
        texts, begin = [], 0
        for rows in group:
            end = begin + len(rows.data)
            texts.append(json.dumps({"predictions": found[begin:end]}, cls=NumpyEncoder))
            begin = end
    except Exception:  # noqa: BLE001  # whatever a model raises: the answer to each alone says what it is
        return []
    return [Answer(200, text.encode()) for text in texts]


def rows_stand_alone(model: Any, example: str) -> bool:
    """Find out whether a model gives each row of its input example the same prediction alone as beside others."""
    rows = _rows(example.encode())
    if rows is None:
        return False
    data = rows.data if len(rows.data) > 1 else rows.data * 2
    alone = [_Rows(rows.columns, rows.types, [row]) for row in data]
    beside = _together(model, alone)
    singly = [answer(model, _body(rows.columns, row), JSON) for row in data]
    return bool(beside) and [each.body for each in beside] == [each.body for each in singly]


def _body(columns: tuple[str, ...], row: Any) -> bytes:
    return orjson.dumps({"dataframe_split": {"columns": columns, "data": [row]}})


# ---------------------------------------------------------------------- wording
def _schema_error(exc: Exception) -> str:
    """Find what MLflow says against the data: at the end, after the data and the schema themselves."""
    return brief(str(exc).rpartition("Error: ")[2]) or type(exc).__name__


def _reading_error(exc: Exception) -> str:
    """Say why a body cannot be read, without repeating it."""
    cause = exc.__cause__ or exc.__context__ or exc
    if RecursionError in (type(exc), type(cause)):
        return "it is nested too deeply."
    return brief(str(cause)) or type(cause).__name__


def _columns_hint(metadata: Any) -> str:
    schema = metadata.get_input_schema()
    if schema is None or not schema.has_input_names():
        return ""
    return f"The model takes {', '.join(str(column) for column in schema.inputs)}."[:_LONGEST_HINT]
