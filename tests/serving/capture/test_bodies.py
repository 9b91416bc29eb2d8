"""Bodies of every form that is captured as it came give the same columns."""

import io
import json

import pandas as pd
import pyarrow as pa
import pytest

from nbmlops.serving.capture.bodies import features_of, predictions_of
from nbmlops.serving.capture.frames import Record
from nbmlops.serving.capture.places import Place
from nbmlops.serving.capture.reading import captured
from nbmlops.serving.capture.writing import Capture
from nbmlops.serving.protocols import invocations
from nbmlops.serving.protocols.invocations import ARROW, CSV
from nbmlops.serving.protocols.request import Request
from nbmlops.serving.schema import Schema

ROWS = pd.DataFrame({"delay": [4.5, 0.25], "day": [1, 2], "carrier": ["UA", "B6"]})
COLUMNS = ROWS.to_dict("list")
JSON = "application/json; charset=utf-8"


def stream(rows: pd.DataFrame) -> bytes:
    table, sink = pa.Table.from_pandas(rows, preserve_index=False), io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def record(features: bytes, form: str = JSON, answer: bytes = b"", answer_form: str = "body") -> Record:
    return Record("r", 0, "1", "champion", 0.0, 200, form, features, answer_form, answer)


BODIES = {
    "split": (JSON, b'{"dataframe_split": ' + ROWS.to_json(orient="split").encode() + b"}"),
    "records": (JSON, b'{"dataframe_records": ' + ROWS.to_json(orient="records").encode() + b"}"),
    "instances": (JSON, b'{"instances": ' + ROWS.to_json(orient="records").encode() + b"}"),
    "inputs": (JSON, b'{"inputs": {"delay": [4.5, 0.25], "day": [1, 2], "carrier": ["UA", "B6"]}}'),
    "csv": (CSV, ROWS.to_csv(index=False).encode()),
    "arrow": (ARROW, stream(ROWS)),
    "columns": ("columns", b'{"delay": [4.5, 0.25], "day": [1, 2], "carrier": ["UA", "B6"]}'),
}


NAMES = [{"name": name, "type": kind} for name, kind in zip(ROWS, ("double", "long", "string"), strict=True)]
UNNAMED = [{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 2]}}]


@pytest.mark.parametrize("name", BODIES)
def test_every_form_gives_the_same_columns(name: str) -> None:
    form, body = BODIES[name]
    assert features_of(record(body, form), Schema.of(json.dumps(NAMES))) == COLUMNS


@pytest.mark.parametrize("name", [name for name in BODIES if name != "csv"])
def test_a_model_without_a_signature_has_features_too(name: str) -> None:
    form, body = BODIES[name]
    assert features_of(record(body, form), Schema.of(None)) == COLUMNS


def test_rows_that_name_no_columns_are_numbered_or_one_tensor() -> None:
    body = record(b'{"instances": [[1.5, 2], [3, 4]]}')
    assert features_of(body, Schema.of(None)) == {"0": [1.5, 3], "1": [2, 4]}
    assert features_of(body, Schema.of(json.dumps(UNNAMED))) == {"inputs": [[1.5, 2], [3, 4]]}


def test_bytes_and_moments_are_kept_as_text_and_as_times(place: Place) -> None:
    typed = [{"name": "at", "type": "datetime"}, {"name": "raw", "type": "binary"}]
    body = b'{"dataframe_records": [{"at": "2026-03-02T12:00:00", "raw": "aGk="}]}'
    request = invocations.read(body, JSON, Schema.of(json.dumps(typed)))
    assert isinstance(request, Request)
    capture = Capture(place.folder)
    capture.describe("1", json.dumps(typed))
    capture.add("a", 1, "1", "champion", 0.1, body, [1])
    capture.add("b", 2, "1", "champion", 0.1, request.columns, [1])
    capture.close()
    rows = captured(place)
    assert rows["at"].tolist() == [pd.Timestamp("2026-03-02 12:00")] * 2
    assert rows.raw.tolist() == ["aGk="] * 2


ANSWERS = {
    "mlflow": b'{"predictions": [0, 1]}',
    "arrow": stream(pd.DataFrame({"predictions": [0, 1]})),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_every_answer_gives_the_same_predictions(name: str) -> None:
    assert predictions_of(record(b"", "", ANSWERS[name]), 2) == [0, 1]


def test_answers_of_several_outputs_are_objects_and_of_another_length_stand_in_the_first_row() -> None:
    assert predictions_of(record(b"", "", b'{"predictions": [{"a": 1}]}'), 1) == [{"a": 1}]
    both = stream(pd.DataFrame({"a": [1], "b": [2.5]}))
    assert predictions_of(record(b"", "", both), 1) == [{"a": 1, "b": 2.5}]
    assert predictions_of(record(b"", "", b'{"predictions": [1, 2, 3]}'), 2) == [[1, 2, 3], None]


def test_nan_is_read_as_python_writes_it() -> None:
    assert str(features_of(record(b'{"inputs": {"a": [NaN, 1]}}'), Schema.of(None))) == "{'a': [nan, 1]}"
