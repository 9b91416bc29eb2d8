"""The Open Inference Protocol: what real clients send is understood, and what they read is what was predicted."""

import base64
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbmlops.serving.protocols.limits import Limits
from nbmlops.serving.protocols.open_inference import HEADER, Served, answer_get, infer_target, read
from nbmlops.serving.protocols.refusals import Answer
from nbmlops.serving.protocols.request import Request
from nbmlops.serving.schema import Schema

JSON = "application/json"
COLUMNS = [{"name": "delay", "type": "double"}, {"name": "carrier", "type": "string"}, {"name": "day", "type": "long"}]
DELAYS = Served("delays", ("1", "2"), Schema.of(json.dumps(COLUMNS)), "INT64")
TENSOR = [{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 2]}}]
MATRIX = Served("matrix", ("1",), Schema.of(json.dumps(TENSOR)))
RECORDED = json.loads((Path(__file__).parent / "recorded_requests.json").read_text())


def tensor(name: str, datatype: str, data: list[Any], shape: list[int] | None = None, **more: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape or [len(data)], "data": data, **more}


ROWS = [tensor("delay", "FP64", [1.5, 2]), tensor("carrier", "BYTES", ["UA", "é"]), tensor("day", "INT64", [1, 2])]


def asked(inputs: list[dict[str, Any]], served: Served = DELAYS, **more: Any) -> Request | Answer:
    return read(json.dumps({"inputs": inputs, **more}).encode(), None, JSON, served)


def lists(request: Request | Answer) -> dict[str, list[Any]]:
    assert isinstance(request, Request), request.body
    return {name: values.tolist() for name, values in request.columns.items()}


# ------------------------------------------------------------------------------------------------------------ reading
@pytest.mark.parametrize("recorded", RECORDED, ids=[each["client"] for each in RECORDED])
def test_what_real_clients_send_is_understood(recorded: dict[str, str]) -> None:
    request = read(base64.b64decode(recorded["body"]), recorded["header_length"], None, DELAYS)
    columns = lists(request)
    assert list(columns) == ["delay", "carrier", "day"]
    assert columns["day"][:2] == [1, 2]
    assert columns["delay"][:2] == [1.5, 2.5]
    assert columns["carrier"][0] == "UA"


def test_columns_come_as_tensors_of_one_or_two_dimensions() -> None:
    wanted = {"delay": [1.5, 2.0], "carrier": ["UA", "é"], "day": [1, 2]}
    assert lists(asked(ROWS)) == wanted
    assert lists(asked([each | {"shape": [2, 1]} for each in reversed(ROWS)])) == wanted
    nested = [each | {"shape": [2, 1], "data": [[value] for value in each["data"]]} for each in ROWS]
    assert lists(asked(nested)) == wanted
    assert lists(asked([*ROWS, tensor("extra", "FP32", [1, 2, 3, 4], [2, 2])])) == wanted


def test_one_tensor_holds_all_columns_or_the_rows_of_an_array() -> None:
    numbers = Served("n", ("1",), Schema.of(json.dumps([COLUMNS[0], COLUMNS[2]])))
    whole = tensor("input-0", "FP64", [1.5, 1, 2.5, 2], [2, 2])
    assert lists(asked([whole], numbers)) == {"delay": [1.5, 2.5], "day": [1, 2]}
    assert lists(asked([whole], MATRIX)) == {"": [[1.5, 1.0], [2.5, 2.0]]}
    assert lists(asked([tensor("a", "FP64", [1, 2]), tensor("b", "INT64", [3, 4])], MATRIX)) == {"": [[1, 3], [2, 4]]}


def test_numbers_are_cast_only_where_none_changes() -> None:
    assert lists(asked([tensor("delay", "INT64", [1, 2]), *ROWS[1:]]))["delay"] == [1.0, 2.0]
    assert lists(asked([*ROWS[:2], tensor("day", "FP32", [1, 2])]))["day"] == [1, 2]
    for day in (
        tensor("day", "FP64", [1.5, 2]),
        tensor("day", "UINT64", [2**63, 1]),
        tensor("day", "BYTES", ["1", "2"]),
    ):
        assert_refused(asked([*ROWS[:2], day]), 422, "Column 'day' takes long")
    assert_refused(asked([tensor("delay", "INT64", [2**53 + 1, 1]), *ROWS[1:]]), 422, "Column 'delay'")


def test_null_is_missing_where_numbers_or_text_are_taken() -> None:
    columns = lists(asked([tensor("delay", "FP64", [None, 1]), tensor("carrier", "BYTES", [None, "x"]), ROWS[2]]))
    assert np.isnan(columns["delay"][0])
    assert np.isnan(columns["carrier"][0])


def test_a_model_process_is_sent_an_invocation() -> None:
    request = asked(ROWS)
    body, content_type = request.invocation()  # type: ignore[union-attr]
    split = json.loads(body)["dataframe_split"]
    assert (split["columns"], split["data"]) == (["delay", "carrier", "day"], [[1.5, "UA", 1], [2.0, "é", 2]])
    assert content_type == JSON


# ----------------------------------------------------------------------------------------------------------- answers
@pytest.mark.parametrize(
    ("predictions", "datatype"),
    [
        (np.array([1, 0]), "INT64"),
        (np.array([0.5, 1.5]), "FP64"),
        (np.array([0.5, 1.5], np.float32), "FP32"),
        (np.array([True, False]), "BOOL"),
        (np.array(["late", "é"]), "BYTES"),
        (np.array([[0.25, 0.75], [1, 0]]), "FP64"),
    ],
)
def test_predictions_are_one_tensor_in_json_or_in_bytes(predictions: np.ndarray, datatype: str) -> None:
    plain = asked(ROWS, id="7").answer(predictions, "delays", "2")  # type: ignore[union-attr]
    told = json.loads(plain.body)
    output = told["outputs"][0]
    assert (told["id"], told["model_name"], told["model_version"]) == ("7", "delays", "2")
    assert (output["name"], output["datatype"], output["shape"]) == ("prediction", datatype, list(predictions.shape))
    assert output["data"] == predictions.ravel().tolist()
    for asking in ({"outputs": [{"name": "prediction", "parameters": {"binary_data": True}}]}, BINARY_ALL):
        packed = asked(ROWS, **asking).answer(predictions, "delays", "2")  # type: ignore[union-attr]
        assert (packed.status, packed.content_type) == (200, "application/octet-stream")
        length = int(dict(packed.headers)[HEADER])
        head, data = json.loads(packed.body[:length]), packed.body[length:]
        assert head["outputs"][0]["parameters"]["binary_data_size"] == len(data)
        if datatype != "BYTES":
            assert data == predictions.tobytes()
        else:
            assert data == b"".join(struct.pack("<I", len(t.encode())) + t.encode() for t in predictions.tolist())


BINARY_ALL = {"parameters": {"binary_data_output": True}}


# ------------------------------------------------------------------------------------------------- metadata and paths
def test_server_and_model_are_described() -> None:
    assert json.loads(get("/v2").body)["extensions"] == ["binary_tensor_data"]
    assert get("/v2/health/live") == Answer(200, b'{"live":true}')
    assert get("/v2/health/ready") == Answer(200, b'{"ready":true}')
    assert get("/v2/models/delays/ready").status == 200
    assert answer_get("/v2/health/ready", DELAYS, is_ready=False).status == 503  # type: ignore[union-attr]
    for path in ("/v2/models/delays", "/v2/models/delays/versions/2"):
        told = json.loads(get(path).body)
        assert (told["name"], told["versions"]) == ("delays", ["1", "2"])
        assert told["inputs"][1] == {"name": "carrier", "datatype": "BYTES", "shape": [-1]}
        assert told["outputs"] == [{"name": "prediction", "datatype": "INT64", "shape": [-1]}]
    told = json.loads(answer_get("/v2/models/matrix", MATRIX).body)  # type: ignore[union-attr]
    assert told["inputs"] == [{"name": "input", "datatype": "FP64", "shape": [-1, 2]}]


def test_unknown_models_versions_and_paths() -> None:
    for path in ("/v2/models/x", "/v2/models/delays/versions/3", "/v2/models/x/ready"):
        assert_refused(get(path), 404, "There is")
    for path in ("/", "/v2/x", "/v2/models", "/v2/models/delays/x", "/v2/health", "/invocations", "/v2/models/a/infer"):
        assert answer_get(path, DELAYS) is None
    assert infer_target("/v2/models/delays/versions") is None
    assert infer_target("/v2/models/delays") is None


def get(path: str) -> Answer:
    answer = answer_get(path, DELAYS)
    assert answer is not None
    return answer


# ------------------------------------------------------------------------------------------------------------ refused
@pytest.mark.parametrize(
    ("status", "inputs", "more"),
    [
        (400, [], {}),
        (400, 5, {}),
        (400, [5], {}),
        (400, [{"name": "delay"}], {}),
        (400, [tensor("delay", "BF16", [1])], {}),
        (400, [tensor("delay", "FP64", [1]) | {"shape": [1, 1, 1]}], {}),
        (400, [tensor("delay", "FP64", [1]) | {"shape": [-1]}], {}),
        (400, [tensor("delay", "FP64", [1]) | {"shape": [True]}], {}),
        (400, [tensor("delay", "FP64", [1]) | {"data": 5}], {}),
        (400, [tensor("delay", "FP64", [1], parameters={"binary_data_size": 8})], {}),
        (400, [tensor("delay", "FP64", [1], parameters=5)], {}),
        (400, ROWS, {"outputs": [{"name": "probability"}]}),
        (400, ROWS, {"outputs": 5}),
        (400, ROWS, {"id": 5}),
        (400, ROWS, {"parameters": []}),
        (400, ROWS, {"outputs": [{"name": "prediction", "parameters": {"classification": 2}}]}),
        (413, [tensor("delay", "FP64", [1]) | {"shape": [10**9]}], {}),
        (413, [tensor("delay", "FP64", [1]) | {"shape": [10**6, 10**6]}], {}),
        (422, [tensor("delay", "FP64", [1]) | {"shape": [0]}], {}),
        (422, [tensor("delay", "FP64", [1, 2]) | {"shape": [3]}], {}),
        (422, [tensor("delay", "FP64", ["1"])], {}),
        (422, [tensor("delay", "INT64", [1.5])], {}),
        (422, [tensor("delay", "INT8", [300])], {}),
        (422, [tensor("delay", "UINT8", [-1])], {}),
        (422, [tensor("delay", "BOOL", [1])], {}),
        (422, [tensor("delay", "FP64", [[[1]]])], {}),
        (422, ROWS[:2], {}),
        (422, [*ROWS, ROWS[0]], {}),
        (422, [*ROWS[:2], tensor("day", "INT64", [1])], {}),
        (422, [tensor("all", "FP64", [1, 2], [1, 2])], {}),
        (422, [tensor("delay", "FP64", [1, 2], [1, 2]), *ROWS[1:]], {}),
    ],
)
def test_what_is_not_of_the_protocol_is_refused(status: int, inputs: Any, more: dict[str, Any]) -> None:
    assert_refused(asked(inputs, **more), status)


@pytest.mark.parametrize(
    ("length", "tail"),
    [
        ("x", b""),
        ("-1", b""),
        ("0", b""),
        ("999999", b""),
        ("9" * 5000, b""),
        ("²", b""),
        (None, b"12345678"),
        ("auto", b"1234567"),
        ("auto", b"123456789"),
        ("auto", b""),
    ],
)
def test_bytes_that_do_not_match_what_is_said_of_them_are_refused(length: str | None, tail: bytes) -> None:
    given = {"name": "delay", "datatype": "FP64", "shape": [1], "parameters": {"binary_data_size": 8}}
    head = json.dumps({"inputs": [given]}).encode()
    answer = read(head + tail, str(len(head)) if length == "auto" else length, None, DELAYS)
    assert_refused(answer, 400)


@pytest.mark.parametrize("data", [b"\x05\0\0\0ab", b"\xff\xff\xff\xffab", b"\x01\0\0\0\xff", b"\x01\0", b""])
def test_broken_elements_of_text_are_refused(data: bytes) -> None:
    given = {"name": "carrier", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [given]}).encode()
    assert_refused(read(head + data, str(len(head)), None, DELAYS), 422)


def test_limits_and_content_types() -> None:
    body = json.dumps({"inputs": ROWS}).encode()
    assert_refused(read(body, None, "text/csv", DELAYS), 415)
    assert_refused(read(body, None, JSON, DELAYS, Limits(max_body_bytes=10)), 413)
    assert_refused(read(body, None, JSON, DELAYS, Limits(max_rows=1)), 413)


def assert_refused(answer: Any, status: int, said: str = "") -> None:
    assert isinstance(answer, Answer), answer
    assert answer.status == status, answer.body
    told = json.loads(answer.body)
    assert list(told) == ["error"]
    assert said in told["error"]
