"""MLflow's protocol: the same columns as MLflow's own server for what is valid, one clear error for the rest."""

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from nbmlops.serving.protocols.invocations import predicted, read
from nbmlops.serving.protocols.limits import Limits
from nbmlops.serving.protocols.refusals import Answer
from nbmlops.serving.protocols.request import Request
from nbmlops.serving.schema import Schema
from tests.serving.protocols.conftest import COLUMNS, GOOD, Asked, Bodies, cells, csv, same

JSON, CSV = "application/json", "text/csv"
DELAY = json.dumps([{"name": "c", "type": "double"}, {"name": "d", "type": "double", "required": False}])
TENSOR = json.dumps([{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 2]}}])
AskMlflow = Callable[[bytes, str, str], Asked]


# ---------------------------------------------------------------------------------------------- the same as MLflow
@pytest.mark.parametrize("kind", GOOD)
def test_each_type_is_read_as_mlflow_reads_it(ask_mlflow: AskMlflow, kind: str) -> None:
    outcomes = compared(ask_mlflow, [{"name": "c", "type": kind}], n=250, p_odd=0.4)
    assert outcomes["same"] > 40, outcomes


def test_whole_tables_are_read_as_mlflow_reads_them(ask_mlflow: AskMlflow) -> None:
    outcomes = compared(ask_mlflow, COLUMNS, n=1000, p_odd=0.01)
    assert outcomes["same"] > 700, outcomes
    assert outcomes["both refuse"] > 50, outcomes


@pytest.mark.soak
@pytest.mark.parametrize("kind", [*GOOD, "table"])
def test_thousands_of_bodies_are_read_as_mlflow_reads_them(ask_mlflow: AskMlflow, kind: str) -> None:
    columns = COLUMNS if kind == "table" else [{"name": "c", "type": kind}]
    for seed, p_odd in ((11, 0.02), (12, 0.1), (13, 0.5)):
        compared(ask_mlflow, columns, n=2000, p_odd=p_odd, seed=seed)


def test_csv_is_read_as_mlflow_reads_it(ask_mlflow: AskMlflow) -> None:
    bodies, inputs_json, outcomes = Bodies(5, COLUMNS, p_odd=0.02), json.dumps(COLUMNS), Counter[str]()
    schema = Schema.of(inputs_json)
    for _ in range(400):
        names, rows = bodies.table()
        body = csv(names, rows)
        theirs, ours = ask_mlflow(body, CSV, inputs_json), read(body, CSV, schema)
        odd = is_exception({"dataframe_split": {"columns": names, "data": rows}}, COLUMNS)
        truths = any(
            str(value).lower() in ("true", "false")
            for name, *values in zip(names, *rows, strict=True)
            for value in values
            if name != "flag"
        )
        outcomes[judged(body, theirs, ours, schema, on_purpose=odd or truths)] += 1
    assert outcomes["same"] > 150, outcomes


def compared(ask: AskMlflow, columns: list[dict[str, Any]], n: int, p_odd: float, seed: int = 1) -> Counter[str]:
    bodies, inputs_json, outcomes = Bodies(seed, columns, p_odd), json.dumps(columns), Counter[str]()
    schema = Schema.of(inputs_json)
    for _ in range(n):
        document = bodies.document()
        body = json.dumps(document).encode()
        theirs, ours = ask(body, JSON, inputs_json), read(body, JSON, schema)
        outcomes[judged(body, theirs, ours, schema, on_purpose=is_exception(document, columns))] += 1
    return outcomes


def judged(body: bytes, theirs: Asked, ours: Request | Answer, schema: Schema, on_purpose: bool) -> str:
    if isinstance(ours, Answer):
        assert ours.status in (400, 422)
        assert not theirs.accepted or on_purpose, (body, ours.body)
        return "refused on purpose" if theirs.accepted else "both refuse"
    assert theirs.accepted or on_purpose, body
    if theirs.accepted:
        arrays = schema.arrays(ours.columns)
        assert list(arrays) == list(theirs.data.columns), body
        for name, values in arrays.items():
            assert same(values, theirs.data[name]), (body, name, values, theirs.data[name])
    return "same"


def is_exception(document: dict[str, Any], columns: list[dict[str, Any]]) -> bool:
    """Whether a body is one of those that `nbmlops.serving.schema` and `invocations` say are judged otherwise."""
    ((form, content),) = document.items()
    given, kinds = cells(document), {column["name"]: column["type"] for column in columns}
    if form == "instances" and isinstance(content, list) and len({frozenset(record) for record in content}) > 1:
        return True
    has_holes = isinstance(content, list) and any(len(values) < len(content) for values in given.values())
    if has_holes and {"float", "boolean"} & set(kinds.values()):
        return True  # MLflow widens a 32-bit column with holes, and then refuses it; true with holes is no boolean
    if not all(given.values()) or any(isinstance(value, list | dict) for values in given.values() for value in values):
        return True
    return any(_is_odd(value, kinds.get(name, "")) for name, values in given.items() for value in values)


def _is_odd(value: Any, kind: str) -> bool:
    if kind == "boolean":
        return value is None or isinstance(value, str) or value != value
    if kind in ("integer", "long"):
        largest = 2**31 if kind == "integer" else 2**63
        return isinstance(value, int | float) and not -largest <= value < largest - (kind == "long") * 1024
    if kind == "datetime":
        return not (value is None or isinstance(value, str)) or (isinstance(value, str) and value not in GOOD[kind])
    return False


# ------------------------------------------------------------------------------------------- otherwise, on purpose
@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("integer", "2147483648"),
        ("long", "9223372036854775808"),
        ("boolean", "null"),
        ("boolean", "NaN"),
        ("boolean", '"false"'),
        ("string", "[1]"),
        ("string", '{"a": 1}'),
        ("datetime", '"2 January 2013"'),
    ],
)
def test_what_mlflow_changes_or_guesses_is_refused(ask_mlflow: AskMlflow, kind: str, values: str) -> None:
    inputs_json = json.dumps([{"name": "c", "type": kind}])
    body = f'{{"dataframe_split": {{"columns": ["c"], "data": [[{values}]]}}}}'.encode()
    assert ask_mlflow(body, JSON, inputs_json).accepted
    assert_refused(read(body, JSON, Schema.of(inputs_json)), 422, "Column 'c'")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (422, '{"dataframe_split": {"columns": ["c"], "data": []}}'),
        (422, '{"dataframe_split": {"columns": ["c", "d"], "data": [[1, 2], [3]]}}'),
        (422, '{"instances": [{"c": 1}, {"c": 2, "d": 3}, {"c": 2}]}'),
        (400, '{"dataframe_split": {"columns": ["c"], "data": {"c": [1]}}}'),
        (400, '{"dataframe_split": {"columns": ["c"], "data": [{"c": 1}]}}'),
    ],
)
def test_tables_that_do_not_say_what_they_are_get_refused(status: int, body: str) -> None:
    assert_refused(read(body.encode(), JSON, Schema.of(DELAY)), status)


def test_a_double_in_csv_is_the_nearest_to_its_digits() -> None:
    values = np.random.default_rng(0).normal(size=200).tolist()
    request = read(("c\n" + "\n".join(map(repr, values))).encode(), CSV, Schema.of(DELAY))
    assert request.columns == {"c": values}  # type: ignore[union-attr]


# ------------------------------------------------------------------------------------------------ forms, one by one
@pytest.mark.parametrize(
    ("body", "columns"),
    [
        ('{"dataframe_split": {"columns": ["x", "c"], "index": [7], "data": [["a", 1.5]]}}', {"c": [1.5]}),
        ('{"dataframe_split": {"columns": ["c"], "data": [1.5, 2.5]}}', {"c": [1.5, 2.5]}),
        ('{"dataframe_split": {"columns": ["c", "x", "x"], "data": [[1.5, 2, 3]]}}', {"c": [1.5]}),
        ('{"dataframe_records": [{"c": 1.5}, {"c": 2.5, "d": 1.0}]}', {"c": [1.5, 2.5], "d": [math.nan, 1.0]}),
        ('{"inputs": {"c": [1.5, 2.5], "d": 3.5}}', {"c": [1.5, 2.5], "d": [3.5, 3.5]}),
        ('{"inputs": {"c": 1.5}}', {"c": [1.5]}),
        ('{"dataframe_split": {"columns": ["c"], "data": [[1.5]]}, "params": {"a": 1}, "x": 5}', {"c": [1.5]}),
        ('\ufeff{"inputs": {"c": [NaN, -Infinity, 1e999]}}', {"c": [math.nan, -math.inf, math.inf]}),
        ('{"inputs": {"c": [1.5], "c": [2.5]}}', {"c": [2.5]}),
    ],
)
def test_valid_forms(ask_mlflow: AskMlflow, body: str, columns: dict[str, list[float]]) -> None:
    request = read(body.encode(), JSON, Schema.of(DELAY))
    assert not isinstance(request, Answer), request.body
    assert request.columns.keys() == columns.keys()
    for name, values in columns.items():
        np.testing.assert_array_equal(request.columns[name], values)
    assert ask_mlflow(body.encode(), JSON, DELAY).data.to_dict("list").keys() == columns.keys()


@pytest.mark.parametrize(
    "body",
    [
        '{"inputs": [[1, 2], [3, "4"]]}',
        '{"instances": [[1, 2], [3, null]]}',
        '{"dataframe_split": {"data": [[1, 2]]}}',
        '{"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2]]}}',
        '{"dataframe_records": [{"a": 1, "b": 2}, {"b": 4, "a": 3}]}',
        '{"dataframe_records": [[1, 2]]}',
        '{"inputs": [1, 2]}',
        '{"inputs": {"a": [1, 2]}}',
        '{"instances": [{"a": 1, "b": 2}]}',
        '{"dataframe_split": {"columns": ["a"], "data": [[1]]}}',
        '{"inputs": [[1, 2], [3]]}',
        '{"inputs": [[[1, 2]]]}',
        '{"inputs": 5}',
    ],
)
def test_arrays_without_names_are_read_as_mlflow_reads_them(ask_mlflow: AskMlflow, body: str) -> None:
    schema = Schema.of(TENSOR)
    theirs, ours = ask_mlflow(body.encode(), JSON, TENSOR), read(body.encode(), JSON, schema)
    assert theirs.accepted != isinstance(ours, Answer)
    if theirs.accepted:
        np.testing.assert_array_equal(schema.arrays(ours.columns)[""], theirs.data)  # type: ignore[union-attr]


def test_params_and_the_body_are_kept_for_the_models_own_process() -> None:
    body = b'{"inputs": {"c": [1.5]}, "params": {"p": 0.5}}'
    request = read(body, JSON, Schema.of(DELAY))
    assert (request.params, request.invocation()) == ({"p": 0.5}, (body, JSON))  # type: ignore[union-attr]


# ----------------------------------------------------------------------------------------------------------- refused
@pytest.mark.parametrize(
    ("status", "body", "content_type"),
    [
        (400, "", JSON),
        (400, "{", JSON),
        (400, "[]", JSON),
        (400, "null", JSON),
        (400, "{}", JSON),
        (400, b"\xff\xfe", JSON),
        (400, '{"inputs": {"c": ["\\ud800"]}}', JSON),
        (400, '{"inputs": 1, "instances": 1}', JSON),
        (400, '{"inputs": {"c": [1]}, "messages": []}', JSON),
        (400, '{"dataframe_split": 5}', JSON),
        (400, '{"dataframe_split": {"columns": ["c"], "data": [[1]], "x": 1}}', JSON),
        (400, '{"dataframe_split": {"columns": "c", "data": [[1]]}}', JSON),
        (400, '{"dataframe_split": {"columns": [["c"]], "data": [[1]]}}', JSON),
        (400, '{"dataframe_split": {"columns": ["c"], "index": [1, 2], "data": [[1]]}}', JSON),
        (400, '{"dataframe_records": 3}', JSON),
        (400, "[" * 100_000, JSON),
        (400, '{"inputs":' * 100_000, JSON),
        (400, "[NaN" + "[" * 100_000, JSON),
        (400, '{"inputs": {"c": [%s]}}' % ("9" * 5000), JSON),
        (400, "", CSV),
        (400, b"\xff", CSV),
        (400, 'c,d\n1,"', CSV),
        (413, '{"inputs": {"c": [1, 2, 3, 4]}}', JSON),
        (413, "c\n" + "1\n" * 5, CSV),
        (413, " " * 2000, JSON),
        (415, "{}", "text/plain"),
        (415, "{}", None),
        (415, "{}", ""),
        (415, "{}", "application/json; charset=latin-1"),
        (415, "{}", "application/json; x=1"),
        (422, '{"dataframe_split": {"columns": ["x"], "data": [[1]]}}', JSON),
        (422, '{"dataframe_split": {"columns": ["c", "c"], "data": [[1, 2]]}}', JSON),
        (422, '{"dataframe_split": {"columns": ["c"], "data": [["soon"]]}}', JSON),
        (422, '{"dataframe_records": []}', JSON),
        (422, '{"dataframe_records": [1, 2]}', JSON),
        (422, '{"inputs": null}', JSON),
        (422, '{"inputs": []}', JSON),
        (422, '{"inputs": {"c": [1, 2], "d": [1]}}', JSON),
        (422, '{"instances": [{"c": 1}, 5]}', JSON),
        (422, "c\n", CSV),
        (422, "c,c\n1,2", CSV),
        (422, "c\nsoon", CSV),
        (422, "c\n1_0", CSV),
        (422, "c\n1,2", CSV),
        (422, "x\n1", CSV),
    ],
)
def test_a_bad_body_gets_one_clear_error(status: int, body: str | bytes, content_type: str | None) -> None:
    raw = body if isinstance(body, bytes) else body.encode()
    limits = Limits(max_body_bytes=1000, max_rows=3) if status == 413 else Limits()
    assert_refused(read(raw, content_type, Schema.of(DELAY), limits), status)


def test_the_error_names_column_row_and_expected_type_and_repeats_nothing() -> None:
    body = b'{"dataframe_records": [{"c": 1}, {"c": "4111 1111 1111 1111"}]}'
    answer = read(body, JSON, Schema.of(DELAY))
    assert_refused(answer, 422, "Column 'c' takes double; row 1 has text")
    assert b"4111" not in answer.body
    missing = read(b'{"inputs": {"secret-name": [1]}}', JSON, Schema.of(DELAY))
    assert_refused(missing, 422, "missing inputs ['c']")
    assert b"secret" not in missing.body


def test_nan_is_taken_where_there_are_doubles_and_refused_elsewhere() -> None:
    for kind, taken in {"double": True, "float": True, "long": False, "integer": False, "boolean": False}.items():
        schema = Schema.of(json.dumps([{"name": "c", "type": kind}]))
        for value in ("NaN", "Infinity"):
            answer = read(b'{"inputs": {"c": [%s]}}' % value.encode(), JSON, schema)
            is_taken = taken or (kind == "boolean" and value == "Infinity")
            assert isinstance(answer, Answer) is not is_taken, (kind, value)


def test_a_model_of_which_nothing_is_known_gets_what_was_sent_within_limits() -> None:
    body = b'{"messages": [{"role": "user"}]}'
    request = read(body, JSON, Schema())
    assert (request.columns, request.invocation()) == ({}, (body, JSON))  # type: ignore[union-attr]
    assert read(b'{"inputs": {"a": [[1, 2], [3]]}}', JSON, Schema()).n_rows == 1  # type: ignore[union-attr]
    assert_refused(read(b'{"inputs":' + b"[" * 100 + b"]" * 100 + b"}", JSON, Schema()), 400, "deeply")
    assert_refused(read(b'{"dataframe_records": [1, 2, 3]}', JSON, Schema(), Limits(max_rows=2)), 413)
    assert_refused(read(b"{}", JSON, Schema()), 400)


def assert_refused(answer: Any, status: int, said: str = "") -> None:
    assert isinstance(answer, Answer), answer
    assert answer.status == status, answer.body
    error = json.loads(answer.body)["error"]
    assert {"type", "message", "hint", "exit_code"} <= error.keys()
    assert said in error["message"]
    assert len(error["message"]) < 600
    for leak in ("Traceback", "site-packages", ".py"):
        assert leak not in json.dumps(error)


# ----------------------------------------------------------------------------------------------------------- answers
@pytest.mark.parametrize(
    "predictions",
    [
        np.array([1, 2, 3]),
        np.array([0.1, 1e-300, 1 / 3]),
        np.array([0.1, 2.5], np.float32),
        np.array([True, False]),
        np.array(["UA", "é"]),
        np.array(["UA", None, 3, 1.5], object),
        np.array([[0.25, 0.75], [1, 0]]),
        np.array([np.nan, np.inf]),
        np.array([b"ab"], object),
        np.array(["2013-01-02"], "datetime64[ns]"),
    ],
)
def test_predictions_are_written_as_mlflow_writes_them(predictions: np.ndarray) -> None:
    from io import StringIO

    from mlflow.pyfunc.scoring_server import predictions_to_json

    text = StringIO()
    predictions_to_json(predictions, text)
    answer = predicted(predictions)
    assert repr(json.loads(answer.body)) == repr(json.loads(text.getvalue()))
    assert (answer.status, answer.content_type) == (200, JSON)


def test_the_compared_rules_are_those_of_the_mlflow_that_is_installed() -> None:
    said = Path(read.__code__.co_filename).parents[1].joinpath("schema.py").read_text()
    assert "MLflow 3." in said
    assert mlflow.__version__.startswith("3.")
