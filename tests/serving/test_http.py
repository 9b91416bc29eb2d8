"""A server as its callers have it: MLflow's answers over HTTP, for a compiled model and for one in its own process."""

import json
import re
import shutil
import ssl
import struct
import subprocess
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

from nbmlops.errors import UsageError
from nbmlops.project import Project
from nbmlops.registry.loader import verified_copy
from nbmlops.serving.endpoints import Deployment
from nbmlops.serving.protocols.arrow import STREAM, stream
from nbmlops.serving.verbs import deploy
from tests.serving.conftest import served
from tests.serving.raw_http import (
    JSON,
    Reply,
    asked,
    connected,
    deployed,
    heard,
    judged,
    port_of,
    replies,
    reply,
    request,
)

COLUMNS = ["delay", "carrier", "day"]
PARQUET = "application/vnd.apache.parquet"


@pytest.fixture(scope="module")
def compiled(shop: Project) -> Iterator[int]:
    with deployed(shop, "delays/2", "compiled") as live:
        yield port_of(live)


@pytest.fixture(scope="module")
def foreign(shop: Project, moody: dict[str, str]) -> Iterator[int]:
    """The port of a model that no worker can score: ``x`` is its prediction, and -4 takes 0.3 s."""
    with deployed(shop, f"moody/{moody['good']}", "foreign", 'deadline = "2s", max_waiting = 8') as live:
        yield port_of(live)


@pytest.fixture(scope="module")
def native(shop: Project) -> Any:
    return mlflow.pyfunc.load_model(str(verified_copy(shop, "delays/2")))


@pytest.fixture(scope="module")
def mlflows(native: Any) -> Iterator[Any]:
    """MLflow's own scoring server with the same model."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")  # it sets this, and would not take it back
        warnings.simplefilter("ignore")
        from fastapi.testclient import TestClient
        from mlflow.pyfunc import scoring_server

        with TestClient(scoring_server.init(native), raise_server_exceptions=False) as client:
            yield client


# ------------------------------------------------------------------------------------------------------------- answers
def valid(table: pd.DataFrame) -> list[tuple[bytes, str]]:
    """Word a table in every form that MLflow takes."""
    records, split = table.to_dict("records"), table.to_dict("split")
    documents = [
        {"dataframe_split": split},
        {"dataframe_split": {**split, "columns": [*COLUMNS, "more"], "data": [[*row, 1] for row in split["data"]]}},
        {"dataframe_split": {"columns": COLUMNS[::-1], "data": [row[::-1] for row in split["data"]]}},
        {"dataframe_records": records},
        {"instances": records},
        {"inputs": table.to_dict("list")},
        {"inputs": {name: values[:1] for name, values in table.to_dict("list").items()}, "params": {}},
    ]
    return [
        *((json.dumps(document).encode(), kind) for document in documents for kind in (JSON, f"{JSON}; charset=utf-8")),
        (table.to_csv(index=False).encode(), "text/csv"),
        (table.to_parquet(index=False), PARQUET),
    ]


def test_every_valid_request_gets_the_answer_of_mlflows_own_server(
    compiled: int, mlflows: Any, features: pd.DataFrame
) -> None:
    odd = pd.DataFrame({"delay": [1.0, 2.0**40, -7.5], "carrier": ["UA", "", "日本"], "day": [1, 0, -3]})
    for table in (features.head(1), features.head(20), features, odd):
        for body, kind in valid(table):
            theirs = mlflows.post("/invocations", content=body, headers={"Content-Type": kind})
            ours = asked(compiled, body=body, kind=kind)
            assert (ours.status, ours.headers["content-type"]) == (200, JSON), (kind, ours.body[:200])
            assert ours.json == theirs.json(), (kind, body[:100])
    for path in ("/ping", "/health", "/version"):
        assert asked(compiled, path).body == mlflows.get(path).content


def test_a_model_of_its_own_process_answers_alike_through_every_protocol(foreign: int) -> None:
    table = pd.DataFrame({"x": [0.5, 2.25]})
    for body, kind in [
        (json.dumps({"dataframe_split": table.to_dict("split")}).encode(), JSON),
        (json.dumps({"dataframe_records": table.to_dict("records")}).encode(), JSON),
        (json.dumps({"instances": table.to_dict("records")}).encode(), JSON),
        (json.dumps({"inputs": table.to_dict("list")}).encode(), JSON),
        (table.to_csv(index=False).encode(), "text/csv"),
        (table.to_parquet(index=False), PARQUET),
    ]:
        assert asked(foreign, body=body, kind=kind).json == {"predictions": [0.5, 2.25]}, kind
    tensor = {"name": "x", "datatype": "FP64", "shape": [2], "data": [0.5, 2.25]}
    answer = asked(foreign, "/v2/models/moody/infer", json.dumps({"inputs": [tensor]}).encode()).json
    assert answer["outputs"][0]["data"] == [0.5, 2.25]
    arrow = asked(foreign, body=stream({"x": np.array([0.5, 2.25])}), kind=STREAM)
    assert of_arrow(arrow.body) == [0.5, 2.25]


def of_arrow(body: bytes) -> list[Any]:
    from pyarrow import ipc

    return list(ipc.open_stream(body).read_all()["prediction"].to_pylist())


def test_tables_in_bulk(compiled: int, native: Any, features: pd.DataFrame) -> None:
    table = pd.concat([features] * 20, ignore_index=True)
    wanted = native.predict(table).tolist()
    arrays = {name: table[name].to_numpy() for name in COLUMNS}
    assert of_arrow(asked(compiled, body=stream(arrays), kind=STREAM).body) == wanted
    body, length = tensors(table)
    headers = f"Inference-Header-Content-Length: {length}\r\n"
    answer = asked(compiled, "/v2/models/delays/infer", body, "application/octet-stream", headers=headers)
    head = json.loads(answer.body[: int(answer.headers["inference-header-content-length"])])
    assert (answer.status, head["id"], head["outputs"][0]["shape"]) == (200, "bulk", [10_000])
    data = answer.body[int(answer.headers["inference-header-content-length"]) :]
    assert np.frombuffer(data, {"INT64": "<i8", "INT32": "<i4"}[head["outputs"][0]["datatype"]]).tolist() == wanted


def tensors(table: pd.DataFrame) -> tuple[bytes, int]:
    """Word a table in the binary tensor extension; also how long its JSON is."""
    texts = [text.encode() for text in table.carrier]
    parts = {
        "delay": ("FP64", table.delay.to_numpy().tobytes()),
        "carrier": ("BYTES", b"".join(struct.pack("<I", len(text)) + text for text in texts)),
        "day": ("INT64", table.day.to_numpy().tobytes()),
    }
    inputs = [
        {"name": name, "datatype": kind, "shape": [len(table)], "parameters": {"binary_data_size": len(data)}}
        for name, (kind, data) in parts.items()
    ]
    output = {"name": "prediction", "parameters": {"binary_data": True}}
    head = json.dumps({"id": "bulk", "inputs": inputs, "outputs": [output]}).encode()
    return head + b"".join(data for _, data in parts.values()), len(head)


# --------------------------------------------------------------------------------------------------- paths and headers
@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/ping", JSON), ("/health", JSON), ("/ready", JSON), ("/version", "text/plain"), ("/metrics", "text/plain"),
        ("/openapi.json", JSON), ("/docs", "text/html"), ("/v2", JSON), ("/v2/health/live", JSON),
        ("/v2/health/ready", JSON), ("/v2/models/delays", JSON), ("/v2/models/delays/ready", JSON),
        ("/v2/models/delays/versions/2", JSON), ("/v2/models/delays/versions/2/ready", JSON),
    ],
)  # fmt: skip
def test_pages_are_got_looked_at_and_nothing_else(compiled: int, path: str, kind: str) -> None:
    got, looked = asked(compiled, path), asked(compiled, path, method="HEAD")
    assert (got.status, looked.status, looked.body) == (200, 200, b"")
    assert got.headers["content-type"].partition(";")[0] == kind
    same = {"content-type", "nbmlops-model"} | (set() if path == "/metrics" else {"content-length"})
    assert {name: got.headers[name] for name in same} == {name: looked.headers[name] for name in same}
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        refused = asked(compiled, path, b"{}", method=method)
        assert (judged(refused), refused.headers["allow"]) == (405, "GET")


@pytest.mark.parametrize("path", ["/invocations", "/v2/models/delays/infer", "/v2/models/delays/versions/2/infer"])
def test_predictions_are_posted_and_nothing_else(compiled: int, path: str) -> None:
    for method in ("GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"):
        refused = asked(compiled, path, method=method)
        assert (judged(refused), refused.headers["allow"]) == (405, "POST")


def test_paths_that_are_not_there(compiled: int) -> None:
    assert "/invocations" in asked(compiled, "/invocation", b"{}").json["error"]["hint"]
    for path in ("/", "/v2x", "/v2/x", "/v2/models/other", "/v2/models/delays/versions/7", "/v2/models/delays/x"):
        assert judged(asked(compiled, path)) == 404, path
    for path in ("/v2/models/other/infer", "/v2/models/delays/versions/7/infer"):
        assert judged(asked(compiled, path, b"{}")) == 404
    assert isinstance(asked(compiled, "/v2/x").json["error"], str), "the protocol's own shape"
    assert isinstance(asked(compiled, "/v2/models/delays/infer", method="GET").json["error"], str)


def test_each_answer_names_its_model_and_its_request(compiled: int, foreign: int) -> None:
    assert asked(compiled, body=row(0)).headers["nbmlops-model"] == "delays/2"
    assert asked(foreign, body=x(1.0)).headers["nbmlops-model"].startswith("moody/")
    made = [asked(compiled, body=row(0)).headers["nbmlops-request-id"] for _ in range(20)]
    assert len(set(made)) == 20
    for given, back in {"mine-1": "mine-1", "x" * 10_000: "x" * 100, "": None, "a b;\"'<>": "a b;\"'<>"}.items():
        said = asked(compiled, body=row(0), headers=f"nbmlops-request-id: {given}\r\n").headers["nbmlops-request-id"]
        assert said == back if back else re.fullmatch(r"[0-9a-f]{16}-[0-9a-f]+", said)
    odd = asked(compiled, body=row(0), headers="nbmlops-request-id: \udcff\u20ac\r\n")
    assert odd.headers["nbmlops-request-id"].encode("latin-1") == b"\xff" + "€".encode()
    assert asked(compiled, "/x", headers="nbmlops-request-id: lost\r\n").headers["nbmlops-request-id"] == "lost"


def test_metrics_count_what_was_asked(compiled: int) -> None:
    def counted(what: str) -> int:
        text = asked(compiled, "/metrics").body.decode()
        return int(
            re.findall(rf'^nbmlops_{what}_total{{endpoint="compiled",version="delays/2"}} (\d+)$', text, re.MULTILINE)[
                0
            ]
        )

    before = counted("requests"), counted("refusals")
    for body in [row(0)] * 5 + [b"{"]:
        asked(compiled, body=body)
    assert (counted("requests") - before[0], counted("refusals") - before[1]) == (5, 1)


def refusals(port: int) -> Counter[int]:
    """Requests that were refused so far, by status."""
    text = asked(port, "/metrics").body.decode()
    found = re.findall(r'^nbmlops_refused_total{endpoint="\w+",code="(\d+)"} (\d+)$', text, re.MULTILINE)
    return Counter({int(code): int(count) for code, count in found})


def test_what_is_refused_before_a_version_is_asked_is_counted_by_status(compiled: int, shop: Project) -> None:
    def of_version() -> list[str]:
        text = asked(compiled, "/metrics").body.decode()
        return re.findall(r"^nbmlops_(?:requests|errors)_total.*$", text, re.MULTILINE)

    before, of_version_before = refusals(compiled), of_version()
    large = f"Content-Length: {10**9}\r\n"
    contents = [
        (request("/nowhere"), 404),
        (request("/invocations"), 405),
        (request(method="POST", headers=large), 413),
        (request(body=row(0)).replace(b"localhost", b"models.example.com"), 421),
        (request("/ping", headers=f"X: {'y' * 600_000}\r\n"), 431),
        (b"no HTTP\r\n\r\n", 400),
        (request(body=b"{"), 400),
    ]
    for content, status in contents:
        [answer] = replies(compiled, content)
        assert judged(answer) == status
    assert refusals(compiled) - before == Counter([status for _, status in contents])
    assert of_version() == of_version_before
    with connected(compiled) as cut:  # nobody is there to be refused
        cut.sendall(request(body=row(0))[:-10])
    assert asked(compiled, body=row(0)).status == 200
    assert (refusals(compiled) - before).total() == len(contents)
    assert served(shop)["compiled"].refused["431"] >= 1


def row(number: int, carrier: str = "UA") -> bytes:
    return json.dumps({"dataframe_split": {"columns": COLUMNS, "data": [[number / 7 - 4, carrier, 2]]}}).encode()


def x(*values: float) -> bytes:
    return json.dumps({"dataframe_split": {"columns": ["x"], "data": [[value] for value in values]}}).encode()


# ------------------------------------------------------------------------------------------------------- many at once
def crowd(port: int, bodies: list[bytes], n_connections: int) -> list[Reply]:
    """Send bodies at the same time over connections that stay open; answers in the order of the bodies."""
    barrier = threading.Barrier(n_connections)

    def caller(mine: list[bytes]) -> list[Reply]:
        with connected(port) as connection, connection.makefile("rb") as stream_:
            barrier.wait()
            found = []
            for body in mine:
                connection.sendall(request(body=body))
                answer = reply(stream_)
                assert answer is not None
                found.append(answer)
            return found

    with ThreadPoolExecutor(n_connections) as pool:
        given = list(pool.map(caller, [bodies[i::n_connections] for i in range(n_connections)]))
    return [given[i % n_connections][i // n_connections] for i in range(len(bodies))]


def test_64_at_once_each_get_their_own_answer_beside_bad_rows_and_bulk(
    compiled: int, native: Any, features: pd.DataFrame
) -> None:
    table = features.sample(960, replace=True, random_state=1).reset_index(drop=True)
    wanted = native.predict(table).tolist()
    bulk = json.dumps({"dataframe_split": features.to_dict("split")}).encode()
    bulk_wanted = native.predict(features).tolist()
    bodies, expected = [], []
    for i in range(len(table)):
        kind = i % 16
        if kind == 5:
            bodies.append(row(i).replace(b"2]]", b'"soon"]]'))
        elif kind == 9:
            bodies.append(b'{"dataframe_split"')
        elif kind == 12:
            bodies.append(bulk)
        else:
            bodies.append(json.dumps({"dataframe_split": table.iloc[[i]].to_dict("split")}).encode())
        expected.append({5: 422, 9: 400, 12: bulk_wanted}.get(kind, wanted[i : i + 1]))
    given = crowd(compiled, bodies, 64)
    for answer, want in zip(given, expected, strict=True):
        assert (answer.json["predictions"] if judged(answer) == 200 else answer.status) == want


def test_at_once_from_a_model_of_its_own_process_each_get_their_own_answer(foreign: int) -> None:
    values = [round(i * 1.25 + 0.5, 3) for i in range(240)]
    bodies = [
        x(v) if i % 10 else b'{"dataframe_split": {"columns": ["x"], "data": [["soon"]]}}' for i, v in enumerate(values)
    ]
    for i, (answer, value) in enumerate(zip(crowd(foreign, bodies, 8), values, strict=True)):
        assert (answer.json["predictions"] if judged(answer) == 200 else answer.status) == ([value] if i % 10 else 422)


def test_more_than_may_wait_are_told_to_come_again(foreign: int) -> None:
    before = refusals(foreign)
    given = crowd(foreign, [x(-4.0)] * 40, 40)
    statuses = Counter(judged(answer) for answer in given)
    assert statuses.keys() == {200, 429}
    assert statuses[200] >= 8
    assert {answer.headers.get("retry-after") for answer in given if answer.status == 429} == {"1"}
    assert refusals(foreign) - before == Counter({429: statuses[429]})
    assert asked(foreign, body=x(1.0)).json == {"predictions": [1.0]}


def test_who_waits_too_long_is_told_so(foreign: int) -> None:
    before, began = refusals(foreign), time.monotonic()
    given = crowd(foreign, [x(*[-4.0] * (1 + i)) for i in range(8)] * 2, 8)
    assert {answer.status for answer in given} <= {200, 504}
    for answer in given:
        if answer.status == 504:
            assert answer.headers["retry-after"] == "1"
            assert "No answer within 2 s" in answer.json["error"]["message"]
    assert time.monotonic() - began < 10
    assert refusals(foreign) - before == Counter(answer.status for answer in given if answer.status == 504)


# ------------------------------------------------------------------------------------------------------ token and TLS
@pytest.fixture(scope="module")
def guarded(shop: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Deployment, ssl.SSLContext]]:
    """An endpoint with a token and TLS."""
    if not shutil.which("openssl"):
        pytest.skip("openssl makes the certificate")
    folder = tmp_path_factory.mktemp("tls")
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DELAYS_TOKEN", "s3cret-t\u00f6ken")
        terms = {"certificate": str(folder / "certificate.pem"), "key": str(folder / "key.pem")}
        with deployed(shop, "delays/1", "guarded", token="env:DELAYS_TOKEN", **terms) as live:
            yield live, ssl.create_default_context(cafile=str(folder / "certificate.pem"))


def over_tls(guarded: tuple[Deployment, ssl.SSLContext], *contents: bytes) -> list[Reply]:
    live, tls = guarded
    with connected(port_of(live), tls=tls) as connection:
        connection.sendall(b"".join(contents))
        return heard(connection, len(contents))


def test_a_token_is_asked_for_everywhere_but_on_health_paths(guarded: tuple[Deployment, ssl.SSLContext]) -> None:
    right = "Authorization: Bearer s3cret-t\u00f6ken\r\n"
    wrong = ["", "Authorization: Bearer s3cret\r\n", "Authorization: Basic s3cret-t\u00f6ken\r\n", "Authorization:\r\n",
             "Authorization: Bearer\r\n", "Authorization: Bearer \udcff\r\n", "Authorization: s3cret-t\u00f6ken\r\n",
             f"Authorization: Bearer {'x' * 50_000}\r\n"]  # fmt: skip
    for headers in wrong:
        for path, body in [("/invocations", row(0)), ("/metrics", None), ("/docs", None), ("/openapi.json", None),
                           ("/version", None), ("/v2", None), ("/v2/models/delays", None)]:  # fmt: skip
            [answer] = over_tls(guarded, request(path, body, headers=headers))
            assert (judged(answer), answer.headers["www-authenticate"]) == (401, "Bearer")
    text = over_tls(guarded, request("/metrics", headers=right))[0].body.decode()
    assert f'nbmlops_refused_total{{endpoint="guarded",code="401"}} {7 * len(wrong)}' in text
    given = over_tls(
        guarded, *(request(p) for p in ("/ping", "/health", "/ready", "/v2/health/live", "/v2/health/ready"))
    )
    assert {answer.status for answer in given} == {200}
    given = over_tls(guarded, request(body=row(0), headers=right), request("/docs", headers=right.replace("B", "b", 1)))
    assert [answer.status for answer in given] == [200, 200]
    [answer] = over_tls(guarded, request(body=row(0), headers=right).replace(b"localhost", b"models.example.com"))
    assert answer.status == 200


def test_who_speaks_no_tls_gets_nothing(guarded: tuple[Deployment, ssl.SSLContext], shop: Project) -> None:
    live, _ = guarded
    assert live.url.startswith("https://")
    with connected(port_of(live)) as plain:
        plain.sendall(request("/ping"))
        assert b"200" not in plain.recv(1000)
    told = "".join(path.read_text() for path in (shop.root / ".nbmlops" / "endpoints" / "guarded").glob("*.json"))
    assert "s3cret" not in told
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's, about versions that are no longer to be used
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(OSError), connected(port_of(live), tls=old):  # noqa: PT011 - what is raised differs by library
        pass


def test_an_endpoint_that_others_could_reach_needs_a_token(shop: Project) -> None:
    for address in ("0.0.0.0", "::", "192.168.1.5"):
        with pytest.raises(UsageError, match="it asks for no token"):
            deploy(shop, "delays/1", as_="open", address=address)


# ------------------------------------------------------------------------------------------------------------- capture
def test_what_is_captured_is_what_was_asked_and_answered(shop: Project, native: Any, features: pd.DataFrame) -> None:
    from nbmlops.serving import policy
    from nbmlops.serving.capture.reading import captured

    table = features.head(50).reset_index(drop=True)
    wanted = native.predict(table).tolist()
    with deployed(shop, "delays/2", "kept", capture=True) as live:
        port = port_of(live)
        for i in range(30):
            body = json.dumps({"dataframe_split": table.iloc[[i]].to_dict("split")}).encode()
            asked(port, body=body, headers=f"nbmlops-request-id: row-{i}\r\n")
        asked(port, body=b"{", headers="nbmlops-request-id: bad\r\n")
        arrays = {name: table[name].to_numpy() for name in COLUMNS}
        asked(port, body=stream(arrays), kind=STREAM, headers="nbmlops-request-id: arrow\r\n")
        body, length = tensors(table)
        headers = f"Inference-Header-Content-Length: {length}\r\nnbmlops-request-id: v2\r\n"
        asked(port, "/v2/models/delays/infer", body, "application/octet-stream", headers=headers)
    found = captured(policy.place_of(shop, "kept"))
    assert set(found["nbmlops.request_id"]) == {*(f"row-{i}" for i in range(30)), "arrow", "v2"}
    for name, rows in [*((f"row-{i}", [i]) for i in range(30)), ("arrow", range(50)), ("v2", range(50))]:
        mine = found[found["nbmlops.request_id"] == name]
        assert mine["nbmlops.prediction"].tolist() == [wanted[i] for i in rows], name
        pd.testing.assert_frame_equal(
            mine[COLUMNS].reset_index(drop=True), table.iloc[list(rows)].reset_index(drop=True), check_dtype=False
        )
