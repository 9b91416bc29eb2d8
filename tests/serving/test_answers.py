"""A server's answers: MLflow's own for what is valid, one clear error for what is not. One real server for all."""

import http.client
import json
import socket
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

from nbmlops.errors import ConflictError, DataError, NotFoundError, UsageError
from nbmlops.project import Project
from nbmlops.registry.loader import verified_copy
from nbmlops.serving.endpoints import Deployment
from nbmlops.serving.verbs import deploy, predict
from tests.serving.conftest import served

JSON = "application/json"
ROW = '{"dataframe_split": {"columns": ["delay", "carrier", "day"], "data": [[%s]]}}'


@pytest.fixture(scope="module")
def live(shop: Project) -> Deployment:
    return deploy(shop, "delays")


@pytest.fixture(scope="module")
def model(shop: Project) -> Any:
    return mlflow.pyfunc.load_model(str(verified_copy(shop, "delays/1")))


def ask(
    live: Deployment, path: str, body: bytes | str | None = None, content_type: str | None = JSON, method: str = ""
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", int(live.url.rpartition(":")[2]), timeout=30)
    headers = {"Content-Type": content_type} if content_type else {}
    try:
        connection.request(method or ("GET" if body is None else "POST"), path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


# --------------------------------------------------------------------- valid
def test_a_bare_name_deploys_its_champion(live: Deployment, shop: Project) -> None:
    assert (live.endpoint, live.model, live.version, live.replaced) == ("delays", "delays", "1", "")
    endpoint = served(shop)["delays"]
    assert (endpoint.status, endpoint.url, len(endpoint.pids)) == ("answers", live.url, 1)


def test_health_and_version_are_mlflows(live: Deployment) -> None:
    assert ask(live, "/ping") == (200, b"\n")
    assert ask(live, "/health") == (200, b"\n")
    assert ask(live, "/version") == (200, mlflow.__version__.encode())
    assert ask(live, "/ping", method="HEAD") == (200, b"")


def test_every_form_gives_the_predictions_of_pyfunc(live: Deployment, model: Any, features: pd.DataFrame) -> None:
    rows = features.head(20)
    wanted = model.predict(rows).tolist()
    parquet = rows.to_parquet(index=False)
    requests = [
        (json.dumps({"dataframe_split": rows.to_dict("split")}), JSON),
        (json.dumps({"dataframe_split": rows.to_dict("split")}), f"{JSON}; charset=utf-8"),
        (json.dumps({"dataframe_records": rows.to_dict("records")}), JSON),
        (json.dumps({"instances": rows.to_dict("records")}), JSON),
        (json.dumps({"inputs": rows.to_dict("list")}), JSON),
        (rows.to_csv(index=False), "text/csv"),
        (parquet, "application/vnd.apache.parquet"),
    ]
    for body, content_type in requests:
        status, answer = ask(live, "/invocations", body, content_type)
        assert (status, json.loads(answer)) == (200, {"predictions": wanted}), content_type


# ------------------------------------------------------------------- refused
@pytest.mark.parametrize(
    ("status", "body", "content_type"),
    [
        (400, "", JSON),
        (400, "{", JSON),
        (400, "[]", JSON),
        (400, "5", JSON),
        (400, "null", JSON),
        (400, "{}", JSON),
        (400, b"\xff\xfe", JSON),
        (400, '{"dataframe_split": 5}', JSON),
        (400, '{"dataframe_split": {}}', JSON),
        (400, '{"dataframe_records": 3}', JSON),
        (400, '{"inputs": 1, "instances": 1}', JSON),
        (400, "[" * 100_000, JSON),
        (400, '{"inputs":' * 100_000, JSON),
        (422, '{"instances":' + "[" * 900 + "]" * 900 + "}", JSON),
        (400, ROW % f'1, "UA", {"9" * 5000}', JSON),
        (400, ROW % f'1, "UA", {"9" * 400}', JSON),
        (422, ROW % '{"a": 1}, ["UA"], 1', JSON),
        (422, ROW % '"soon", "UA", 1', JSON),
        (400, "", "text/csv"),
        (400, b"\xff", "text/csv"),
        (422, "delay,carrier,day\n1,UA,x", "text/csv"),
        (400, "PAR1", "application/vnd.apache.parquet"),
        (415, "{}", "text/plain"),
        (415, "{}", None),
        (415, "{}", "application/json; charset=latin-1"),
        (415, "{}", "application/json; x=1"),
        (422, '{"dataframe_split": {"columns": ["delay"], "data": [[1]]}}', JSON),
        (422, '{"dataframe_split": {"columns": ["delay", "carrier", "day"], "data": []}}', JSON),
        (422, '{"dataframe_records": []}', JSON),
        (422, '{"dataframe_records": [1, 2]}', JSON),
        (422, '{"inputs": null}', JSON),
        (422, '{"instances": {"a": [1, 2], "b": [1]}}', JSON),
        (400, '{"messages": []}', JSON),
        (422, ROW % 'NaN, "UA", 1', JSON),
        (422, ROW % 'null, "UA", 1', JSON),
        (422, ROW % 'Infinity, "UA", 1', JSON),
        (422, "a,b\n1,2", "text/csv"),
    ],
)
def test_a_bad_body_gets_one_clear_error(
    live: Deployment, status: int, body: str | bytes, content_type: str | None
) -> None:
    got, answer = ask(live, "/invocations", body, content_type)
    assert got == status, answer
    assert_is_our_error(answer)


def test_wrong_paths_and_methods_get_the_same_error_shape(live: Deployment) -> None:
    for status, path, method in [
        (404, "/invocation", "POST"),
        (404, "/", "GET"),
        (405, "/invocations", "GET"),
        (405, "/ping", "POST"),
    ]:
        got, answer = ask(live, path, "{}" if method == "POST" else None, method=method)
        assert got == status
        assert_is_our_error(answer)


def test_a_body_over_the_limit_is_refused_whether_its_length_is_declared_or_not(live: Deployment) -> None:
    large = b" " * (17 * 2**20)
    for body in (large, iter([large[: 2**20]] * 17)):
        got, answer = ask(live, "/invocations", body)  # type: ignore[arg-type]
        assert got == 413
        assert_is_our_error(answer)


def test_a_client_that_goes_away_midway_does_no_harm(live: Deployment) -> None:
    with socket.create_connection(("127.0.0.1", int(live.url.rpartition(":")[2]))) as connection:
        connection.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    assert ask(live, "/ping")[0] == 200


def assert_is_our_error(answer: bytes) -> None:
    error = json.loads(answer)["error"]
    assert {"type", "message", "hint", "exit_code"} <= error.keys()
    for leak in ("Traceback", "/tmp", "site-packages", ".py"):
        assert leak not in json.dumps(error)
    assert len(error["message"]) < 600


# ------------------------------------------------------------------- predict
def test_predict_gives_what_pyfunc_gives_to_the_last_digit(
    live: Deployment, shop: Project, model: Any, features: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    table = pd.concat([features] * 50, ignore_index=True)
    scored = predict(shop, "delays", data=table)
    assert scored.n_rows == len(table) == 25_000
    assert list(scored.predictions) == model.predict(table).tolist()
    assert scored.rows_per_s > 0


def test_predict_keeps_the_table_with_its_predictions(
    live: Deployment, shop: Project, model: Any, flights: pd.DataFrame
) -> None:
    flights.to_parquet(shop.root / "march.parquet")
    for output in ("scored.parquet", "scored.csv"):
        scored = predict(shop, "delays", data="march.parquet", output=output)
        kept = (pd.read_parquet if output.endswith("parquet") else pd.read_csv)(shop.root / output)
        assert kept.prediction.tolist() == list(scored.predictions)
        assert list(kept.columns) == [*flights.columns, "prediction"]
    below = Project(shop.root / ".nbmlops")
    predict(below, "delays", data=str(shop.root / "march.parquet"), output="scored.csv")
    assert (below.folder / "scored.csv").exists()  # not the one above


def test_predict_repeats_the_servers_own_words(live: Deployment, shop: Project, features: pd.DataFrame) -> None:
    with pytest.raises(DataError, match=r"missing inputs \['carrier'\]") as failure:
        predict(shop, "delays", data=features.drop(columns="carrier"))
    assert "'carrier': string" in failure.value.hint
    with pytest.raises(DataError, match="Column 'delay' has nothing in row 0"):
        predict(shop, "delays", data=features.assign(delay=np.nan))


def test_predict_refuses_before_it_sends(live: Deployment, shop: Project, features: pd.DataFrame) -> None:
    with pytest.raises(NotFoundError, match="Did you mean delays"):
        predict(shop, "delay", data=features)
    with pytest.raises(DataError, match="no rows"):
        predict(shop, "delays", data=features.head(0))
    with pytest.raises(UsageError, match="ending"):
        predict(shop, "delays", data=features, output="scored.xlsx")
    with pytest.raises(ConflictError, match="'prediction' already"):
        predict(shop, "delays", data=features.assign(prediction=1), output="scored.csv")


def test_the_server_shares_no_file_or_pipe_with_its_caller(live: Deployment, shop: Project) -> None:
    def open_in(pid: int | str) -> set[str]:
        return {str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()}

    [pid] = served(shop)["delays"].pids
    shared = (open_in(pid) & open_in("self")) - {"/dev/null", "anon_inode:[eventpoll]", "anon_inode:[eventfd]"}
    assert shared == set()
    assert {Path(file).name for file in open_in(pid) if file.startswith("/")} >= {"null", "server.log"}
