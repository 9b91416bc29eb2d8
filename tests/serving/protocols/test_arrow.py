"""Arrow IPC streams and Parquet: columns as pandas would have them, and no stream that breaks the reader."""

import io
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

from nbmlops.serving.protocols.arrow import PARQUET, STREAM
from nbmlops.serving.protocols.invocations import read
from nbmlops.serving.protocols.limits import Limits
from nbmlops.serving.protocols.refusals import Answer
from nbmlops.serving.protocols.request import Request
from nbmlops.serving.schema import Schema
from tests.serving.protocols.conftest import same

COLUMNS = [{"name": "delay", "type": "double"}, {"name": "carrier", "type": "string"}, {"name": "day", "type": "long"}]
SCHEMA = Schema.of(json.dumps(COLUMNS))
TABLE = pa.table({"day": [1, 2, 3], "carrier": ["UA", None, "é"], "delay": [1.5, None, 3.0], "tail": [[1], [2], [3]]})


def streamed(table: Any, **options: Any) -> bytes:
    sink = io.BytesIO()
    with ipc.new_stream(sink, table.schema, options=ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue()


def parqueted(table: Any) -> bytes:
    sink = io.BytesIO()
    parquet.write_table(table, sink)
    return sink.getvalue()


def one(kind: str, values: Any) -> np.ndarray:
    request = read(streamed(pa.table({"c": values})), STREAM, Schema.of(json.dumps([{"name": "c", "type": kind}])))
    assert isinstance(request, Request), request.body
    found: np.ndarray = request.columns["c"]
    return found


def test_streams_and_parquet_give_the_models_columns() -> None:
    for body, kind in ((streamed(TABLE), STREAM), (parqueted(TABLE), PARQUET)):
        request = read(body, kind, SCHEMA)
        assert isinstance(request, Request), request.body
        assert (list(request.columns), request.n_rows, request.is_array) == (["delay", "carrier", "day"], 3, True)
        np.testing.assert_array_equal(request.columns["delay"], [1.5, np.nan, 3.0])
        assert request.columns["carrier"].tolist()[::2] == ["UA", "é"]
        assert np.isnan(request.columns["carrier"][1])
        assert request.columns["day"].tolist() == [1, 2, 3]


def test_many_batches_are_one_table_and_slices_are_respected() -> None:
    request = read(streamed(pa.concat_tables([TABLE, TABLE.slice(1), TABLE.slice(2, 1)])), STREAM, SCHEMA)
    assert request.columns["day"].tolist() == [1, 2, 3, 2, 3, 3]  # type: ignore[union-attr]
    assert request.columns["carrier"].tolist()[3:] == [pytest.approx(np.nan, nan_ok=True), "é", "é"]  # type: ignore[union-attr]


@pytest.mark.parametrize("index", [pa.int8(), pa.uint8(), pa.int64()])
def test_dictionaries_are_unpacked(index: Any) -> None:
    values = pa.array(["a", None, "b", "a"]).dictionary_encode().cast(pa.dictionary(index, pa.string()))
    assert one("string", values).tolist() == ["a", pytest.approx(np.nan, nan_ok=True), "b", "a"]


@pytest.mark.parametrize(
    ("kind", "values", "wanted"),
    [
        ("double", pa.array([1, 2], pa.int8()), [1.0, 2.0]),
        ("double", pa.array([1, None], pa.int64()), [1.0, np.nan]),
        ("float", pa.array([0.5, None], pa.float16()), [0.5, np.nan]),
        ("long", pa.array([1, 2], pa.uint32()), [1, 2]),
        ("integer", pa.array([1.0, 2.0]), [1, 2]),
        ("boolean", pa.array([True, False] * 9), [True, False] * 9),
        ("string", pa.array(["a", "b"], pa.large_string()), ["a", "b"]),
        ("string", pa.array(["a", "b"], pa.string_view()), ["a", "b"]),
        ("binary", pa.array([b"a", b"\xff"]), [b"a", b"\xff"]),
        ("datetime", pa.array([date(2013, 1, 2)]), np.array(["2013-01-02"], "datetime64[ns]")),
        ("datetime", pa.array([datetime(2013, 1, 2), None]), np.array(["2013-01-02", "NaT"], "datetime64[ns]")),  # noqa: DTZ001
    ],
)
def test_types(kind: str, values: Any, wanted: Any) -> None:
    np.testing.assert_array_equal(one(kind, values), wanted)


def test_numbers_without_nulls_are_not_copied() -> None:
    body = streamed(pa.table({"c": np.arange(1000.0)}))
    columns = read(body, STREAM, Schema.of('[{"name": "c", "type": "double"}]')).columns  # type: ignore[union-attr]
    assert not columns["c"].flags.owndata
    assert not columns["c"].flags.writeable


def test_a_model_that_takes_an_array_takes_a_table_of_numbers() -> None:
    tensor = json.dumps([{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 2]}}])
    request = read(streamed(pa.table({"a": [1, 2], "b": [0.5, 1.5]})), STREAM, Schema.of(tensor))
    assert request.columns[""].tolist() == [[1.0, 0.5], [2.0, 1.5]]  # type: ignore[union-attr]
    for table in (pa.table({"a": [1.0]}), pa.table({"a": ["x"], "b": [1.0]})):
        assert refused(read(streamed(table), STREAM, Schema.of(tensor)), 422)


@pytest.mark.parametrize(
    "predictions",
    [np.array([1, 2]), np.array([0.5]), np.array([True, False, True] * 5), np.array(["late", "é"]), np.eye(2)],
)
def test_the_answer_is_a_stream_with_one_column(predictions: np.ndarray) -> None:
    request = read(streamed(TABLE), STREAM, SCHEMA)
    answer = request.answer(predictions, "delays", "1")  # type: ignore[union-attr]
    assert answer.content_type == STREAM
    read_back = ipc.open_stream(answer.body).read_all()
    read_back.validate(full=True)
    assert read_back.to_pydict() == {"prediction": predictions.tolist()}
    assert json.loads(read(parqueted(TABLE), PARQUET, SCHEMA).answer(np.array([1])).body) == {"predictions": [1]}  # type: ignore[union-attr]


def test_a_model_process_is_sent_an_invocation() -> None:
    body, _ = read(streamed(TABLE), STREAM, SCHEMA).invocation()  # type: ignore[union-attr]
    assert json.loads(body)["dataframe_split"]["data"] == [[1.5, "UA", 1], [None, None, 2], [3.0, "é", 3]]


def test_what_a_model_process_is_sent_means_the_same(ask_mlflow: Callable[[bytes, str, str], Any]) -> None:
    columns = json.dumps([{"name": "b", "type": "binary"}, {"name": "t", "type": "datetime"}, *COLUMNS[:2]])
    moments = pa.array([datetime(2013, 1, 2, 3, 4, 5, 6), None, datetime(2014, 1, 1)])  # noqa: DTZ001
    table = TABLE.append_column("b", pa.array([b"\xff", b"", b"a"])).append_column("t", moments)
    request = read(streamed(table), STREAM, Schema.of(columns))
    theirs = ask_mlflow(*request.invocation(), columns).data  # type: ignore[union-attr]
    for name, values in request.columns.items():  # type: ignore[union-attr]
        assert same(values, theirs[name])


# ------------------------------------------------------------------------------------------------------------ refused
@pytest.mark.parametrize(
    ("status", "table", "options"),
    [
        (422, TABLE.drop_columns(["day"]), {}),
        (422, TABLE.select(["tail"]), {}),
        (422, TABLE.slice(0, 0), {}),
        (422, TABLE.set_column(0, "day", pa.array([1, None, 3])), {}),
        (422, TABLE.set_column(0, "day", pa.array(["1", "2", "3"])), {}),
        (422, TABLE.set_column(0, "day", pa.array([[1], [2], [3]])), {}),
        (422, TABLE.set_column(0, "day", pa.nulls(3)), {}),
        (422, TABLE.append_column("day", pa.array([1, 2, 3])), {}),
        (422, TABLE, {"compression": "zstd"}),
        (422, TABLE, {"compression": "lz4"}),
        (413, pa.table({"day": np.zeros(2000)}), {}),
    ],
)
def test_tables_that_do_not_fit_are_refused(status: int, table: Any, options: dict[str, Any]) -> None:
    assert refused(read(streamed(table, **options), STREAM, SCHEMA, Limits(max_rows=1000)), status)


def test_times_with_a_zone_are_refused() -> None:
    table = pa.table({"c": pa.array([datetime(2013, 1, 1, tzinfo=UTC)])})
    assert refused(read(streamed(table), STREAM, Schema.of('[{"name": "c", "type": "datetime"}]')), 422)


def test_little_that_stands_for_much_is_refused_or_stays_little() -> None:
    long = "x" * 1_000_000
    schema = Schema.of('[{"name": "c", "type": "string"}]')
    repeated = pa.DictionaryArray.from_arrays(pa.array(np.zeros(10_000, np.int8)), pa.array([long]))
    values = read(streamed(pa.table({"c": repeated})), STREAM, schema).columns["c"]  # type: ignore[union-attr]
    assert values[0] is values[-1]  # one text, 10,000 times
    assert read(parqueted(pa.table({"c": repeated})), PARQUET, schema).n_rows == 10_000  # type: ignore[union-attr]
    view = np.array([len(long), int.from_bytes(b"xxxx", "little"), 0, 0], np.int32)
    buffers = [None, pa.py_buffer(np.tile(view, 10_000)), pa.py_buffer(long.encode())]
    views = pa.Array.from_buffers(pa.string_view(), 10_000, buffers)
    assert refused(read(streamed(pa.table({"c": views})), STREAM, schema), 422)
    assert refused(read(streamed(pa.table({"c": pa.nulls(10**9)})), STREAM, schema), 413)


@pytest.mark.parametrize("body", [b"", b"\xff" * 8, b"ARROW1", b"PAR1", b"\xff\xff\xff\xff\xff\xff\xff\x7f", b"{}"])
def test_what_is_no_table_is_refused(body: bytes) -> None:
    assert refused(read(body, STREAM, SCHEMA), 400)
    assert refused(read(body, PARQUET, SCHEMA), 400)


@pytest.mark.parametrize("n", [400, pytest.param(10_000, marks=pytest.mark.soak)])
@pytest.mark.parametrize("kind", [STREAM, PARQUET])
def test_truncated_and_changed_bytes_are_refused_or_read(kind: str, n: int) -> None:
    encoded = TABLE.set_column(1, "carrier", TABLE["carrier"].dictionary_encode())
    bodies = [write(t) for t in (TABLE, encoded) for write in [streamed if kind == STREAM else parqueted]]
    chance, outcomes = random.Random(7), Counter[int]()
    for _ in range(n):
        body = bytearray(chance.choice(bodies))
        if chance.random() < 0.3:
            del body[chance.randrange(len(body)) :]
        for _ in range(chance.randrange(1, 5)):
            if body:
                body[chance.randrange(len(body))] = chance.choice([0, 127, 128, 255, chance.randrange(256)])
        answer = read(bytes(body), kind, SCHEMA, Limits(max_rows=1000))
        outcomes[answer.status if isinstance(answer, Answer) else 200] += 1
    assert outcomes.keys() <= {200, 400, 413, 422}, outcomes
    assert outcomes[400] > n / 4


def test_reading_and_answering_load_no_pandas() -> None:
    code = f"""
import sys
import numpy as np
from nbmlops.serving.protocols.invocations import read
from nbmlops.serving.schema import Schema
assert not {{"pyarrow", "pandas"}} & set(sys.modules)
for body, kind in (({streamed(TABLE)!r}, {STREAM!r}), ({parqueted(TABLE)!r}, {PARQUET!r})):
    request = read(body, kind, Schema.of({json.dumps(COLUMNS)!r}))
    for predictions in (np.array([1.5]), np.array(["a"]), np.eye(2)):
        request.answer(predictions)
    request.invocation()
assert "pandas" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def refused(answer: Any, status: int) -> bool:
    assert isinstance(answer, Answer), answer
    assert answer.status == status, answer.body
    error = json.loads(answer.body)["error"]
    return {"type", "message", "hint", "exit_code"} <= error.keys() and len(error["message"]) < 600
