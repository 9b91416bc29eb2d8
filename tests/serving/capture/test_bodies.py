"""Bodies of every form that is captured as it came give the same columns."""

import io

import pandas as pd
import pyarrow as pa
import pytest

from nbmlops.serving.capture.bodies import ARROW, CSV, features_of, predictions_of
from nbmlops.serving.capture.frames import Record

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
    "instances by position": (JSON, b'{"instances": ' + ROWS.to_json(orient="values").encode() + b"}"),
    "inputs": (JSON, b'{"inputs": {"delay": [4.5, 0.25], "day": [1, 2], "carrier": ["UA", "B6"]}}'),
    "tensors": (
        JSON,
        (
            b'{"inputs": [{"name": "delay", "shape": [2], "datatype": "FP64", "data": [4.5, 0.25]},'
            b' {"name": "day", "shape": [2, 1], "datatype": "INT64", "data": [1, 2]},'
            b' {"name": "carrier", "shape": [2, 1], "datatype": "BYTES", "data": [["UA"], ["B6"]]}]}'
        ),
    ),
    "csv": (CSV, ROWS.to_csv(index=False).encode()),
    "arrow": (ARROW, stream(ROWS)),
    "columns": ("columns", b'{"delay": [4.5, 0.25], "day": [1, 2], "carrier": ["UA", "B6"]}'),
}


@pytest.mark.parametrize("name", BODIES)
def test_every_form_gives_the_same_columns(name: str) -> None:
    form, body = BODIES[name]
    assert features_of(record(body, form), list(COLUMNS)) == COLUMNS


ANSWERS = {
    "mlflow": b'{"predictions": [0, 1]}',
    "tensor": b'{"outputs": [{"name": "output-0", "shape": [2], "datatype": "INT64", "data": [0, 1]}]}',
    "arrow": stream(pd.DataFrame({"predictions": [0, 1]})),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_every_answer_gives_the_same_predictions(name: str) -> None:
    assert predictions_of(record(b"", "", ANSWERS[name]), 2) == [0, 1]


def test_answers_of_several_outputs_are_objects_and_of_another_length_stand_in_the_first_row() -> None:
    assert predictions_of(record(b"", "", b'{"predictions": [{"a": 1}]}'), 1) == [{"a": 1}]
    several = b'{"outputs": [{"name": "a", "shape": [1], "data": [1]}, {"name": "b", "shape": [1, 2], "data": [2, 3]}]}'
    assert predictions_of(record(b"", "", several), 1) == [{"a": 1, "b": [2, 3]}]
    assert predictions_of(record(b"", "", b'{"predictions": [1, 2, 3]}'), 2) == [[1, 2, 3], None]


def test_nan_is_read_as_python_writes_it() -> None:
    assert str(features_of(record(b'{"inputs": {"a": [NaN, 1]}}'))) == "{'a': [nan, 1]}"
