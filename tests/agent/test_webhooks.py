"""Webhooks: who knows the token starts declared runs with declared parameters; nobody starts or learns more."""

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from nbmlops.agent import webhooks
from nbmlops.agent.webhooks import HOST, LARGEST, Call, Webhooks, answered
from nbmlops.ledger.schedules import FINISHED, QUEUED
from nbmlops.pipelines.scheduled import declared_in
from nbmlops.project import Project
from tests.agent.stage import NOON, Stage

TOKEN = "a-token-of-these-tests-0815"
CELL = "month = 1\nname = 'x'\napi_key = ''\ntoken: 'Secret' = 'env:TOKEN'"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        return int(sock.getsockname()[1])


def policy(port: int, more: str = "") -> str:
    return (
        f'[agent]\nport = {port}\ntoken = "env:HOOK_TOKEN"\n'
        '[schedules.nightly]\nnotebook = "a.ipynb"\nschedule = "@daily"\n'
        f'[schedules.asked]\nnotebook = "a.ipynb"\non = ["webhook"]\n{more}'
    )


@pytest.fixture
def listening(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Stage, str]]:
    """A stage whose project takes webhooks, and their address."""
    monkeypatch.setenv("HOOK_TOKEN", TOKEN)
    cells = [
        {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": CELL, "id": "a", "outputs": []}
        | {"execution_count": None}
    ]
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}
    (stage.root / "a.ipynb").write_text(json.dumps(notebook))
    port = free_port()
    stage.declare(policy(port))
    with closing(Webhooks(stage.project, stage.told.append)) as listener:
        listener.look()
        yield stage, f"http://{HOST}:{port}/hooks/"


def post(address: str, token: str = TOKEN, **more: Any) -> requests.Response:
    headers = {"Authorization": f"Bearer {token}", **more.pop("headers", {})}
    return requests.post(address, headers=headers, timeout=30, **more)


def test_a_call_queues_a_run_which_the_agent_starts_with_the_parameters_given(listening: tuple[Stage, str]) -> None:
    stage, address = listening
    stage.command = "cat .nbmlops/jobs/$NBMLOPS_JOB/parameters.json > told"
    stage.look()
    answer = post(f"{address}asked", json={"parameters": {"month": 4, "name": "text:env:HOME"}})
    assert answer.status_code == 202
    (firing,) = stage.firings()
    assert (firing.job, firing.state) == (answer.json()["job"], QUEUED)
    stage.look()
    stage.wait_for(FINISHED)
    assert json.loads((stage.root / "told").read_text()) == {"month": 4, "name": "text:env:HOME"}


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}, {"Authorization": TOKEN}]
)
def test_without_the_token_nothing_is_learned_and_nothing_done(
    listening: tuple[Stage, str], headers: dict[str, str]
) -> None:
    stage, address = listening
    told = {
        (answer.status_code, answer.text)
        for name in ("asked", "nightly", "nowhere")
        for answer in [requests.post(f"{address}{name}", headers=headers, data=b"{", timeout=30)]
    }
    assert len(told) == 1
    assert next(iter(told))[0] == 401
    assert stage.firings() == []


def test_without_a_token_in_the_environment_nobody_is_let_in(
    listening: tuple[Stage, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, address = listening
    for name in ("", TOKEN):
        monkeypatch.delenv("HOOK_TOKEN", raising=False)
        assert post(f"{address}asked", token=name).status_code == 401


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[1]", 400),
        (b'{"parameters": [1]}', 400),
        (b'{"command": "rm"}', 400),
        (b'{"parameters": {"moth": 1}}', 400),
        (b'{"parameters": {"month": "x"}}', 400),
        (b'{"parameters": {"month": NaN}}', 400),
        (b'{"parameters": {"month": 1, "month": 2}}', 400),
        (b'{"parameters": {"name": "env:HOOK_TOKEN"}}', 400),
        (b'{"parameters": {"name": "file:/etc/passwd"}}', 400),
        (b'{"parameters": {"token": "env:HOOK_TOKEN"}}', 400),
        (b'{"parameters": {"api_key": "s3cr3t-0815-long"}}', 400),
        (b'{"parameters": {"month\\nimport os": 1}}', 400),
        (b"[" * 30_000, 400),
        (b"\xff\xfe", 400),
        (b"x" * (LARGEST + 1), 413),
    ],
)
def test_a_body_that_is_not_right_is_refused_without_an_echo(
    listening: tuple[Stage, str], body: bytes, status: int
) -> None:
    stage, address = listening
    answer = post(f"{address}asked", data=body)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}
    assert TOKEN not in answer.text
    assert "Traceback" not in answer.text
    assert str(stage.root) not in answer.text
    assert stage.firings() == []


def test_only_what_listens_to_webhooks_is_found_and_only_by_post(listening: tuple[Stage, str]) -> None:
    stage, address = listening
    for name in ("nightly", "nowhere", "../asked", "asked/", "asked?x=1", ""):
        assert post(f"{address}{name}").status_code == 404, name
    headers = {"Authorization": f"Bearer {TOKEN}"}
    for method in ("GET", "PUT", "DELETE", "OPTIONS"):
        answer = requests.request(method, f"{address}asked", headers=headers, timeout=30)
        assert answer.status_code == 501
        assert "Python" not in answer.headers["Server"] + answer.text
    assert stage.firings() == []


def test_a_call_that_is_repeated_starts_one_run(listening: tuple[Stage, str]) -> None:
    stage, address = listening
    with ThreadPoolExecutor(4) as pool:
        keys = ["delivery-1"] * 6 + ["delivery-2"]
        answers = list(pool.map(lambda key: post(f"{address}asked", headers={"Idempotency-Key": key}), keys))
    assert {answer.status_code for answer in answers} == {202}, stage.told
    assert len({answer.json()["job"] for answer in answers}) == len(stage.firings()) == 2


def test_why_the_ledger_is_out_of_reach_stands_in_the_agents_log_alone(listening: tuple[Stage, str]) -> None:
    stage, address = listening
    ledger = stage.root / ".nbmlops" / "ledger.db"
    ledger.write_bytes(b"no database" * 100)
    answer = post(f"{address}asked")
    ledger.unlink()
    assert (answer.status_code, answer.json()) == (503, {"error": "The ledger is out of reach."})
    assert "file is not a database" in stage.told[-1]


def test_cooldown_budget_pause_and_a_full_queue_hold_callers_back(
    listening: tuple[Stage, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, address = listening
    port = int(address.split(":")[2].split("/")[0])
    stage.declare(policy(port, 'budget = "2/day"'))
    assert [post(f"{address}asked").status_code for _ in range(3)] == [202, 202, 429]
    stage.declare(policy(port, 'cooldown = "1h"'))
    assert "cools down" in post(f"{address}asked").json()["error"]
    stage.declare(policy(port))
    monkeypatch.setattr(webhooks, "LONGEST_QUEUE", 3)
    assert [post(f"{address}asked").status_code for _ in range(2)] == [202, 429]
    stage.ledger.pause("asked", NOON)
    assert "paused" in post(f"{address}asked").json()["error"]


def test_callers_who_never_finish_keep_nobody_else_waiting(
    listening: tuple[Stage, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, address = listening
    monkeypatch.setattr(webhooks.Handler, "timeout", 1.0)
    monkeypatch.setattr(webhooks, "READ_S", 1.0)
    port = int(address.split(":")[2].split("/")[0])
    slow = [socket.create_connection((HOST, port)) for _ in range(webhooks.MOST_AT_ONCE + 4)]
    for each in slow:
        each.sendall(b"POST /hooks/asked HTTP/1.1\r\nContent-Length: 100\r\n\r\nx")
    time.sleep(2.5)
    assert post(f"{address}asked").status_code == 202
    for each in slow:
        each.close()


def test_it_listens_on_this_machine_alone_and_only_as_long_as_it_is_asked_for(listening: tuple[Stage, str]) -> None:
    stage, _ = listening
    listener = Webhooks(stage.project, stage.told.append)
    listener.look()
    assert listener.server is None, "the port is taken"
    assert "cannot be listened to" in stage.told[-1]
    stage.declare(policy(free_port()))
    listener.look()
    assert listener.server
    assert listener.server.server_address[0] == "127.0.0.1"
    stage.declare("")
    listener.look()
    assert listener.server is None


@pytest.mark.parametrize(
    ("agent", "message"),
    [
        ("", "needs a token"),
        (f'[agent]\nport = 8377\ntoken = "{TOKEN}"\n', "as a reference"),
        ('[agent]\ntoken = "env:HOOK_TOKEN"\n', "needs a port"),
    ],
)
def test_a_door_without_a_lock_is_refused(stage: Stage, agent: str, message: str) -> None:
    stage.declare(f'{agent}[schedules.asked]\nnotebook = "a.ipynb"\non = ["webhook"]\n')
    found, wrong = declared_in(stage.project.settings)
    assert not found
    assert message in wrong["asked"]
    assert TOKEN not in wrong["asked"]


def test_no_body_at_all_makes_anything_but_a_clear_answer(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, listening: tuple[Stage, str]
) -> None:
    project = Project(stage.root)

    @given(
        st.binary(max_size=200)
        | st.recursive(
            st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=8),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["month", "name", "x"]), inner),
            max_leaves=6,
        ).map(lambda value: json.dumps({"parameters": value}).encode())
    )
    def judged(body: bytes) -> None:
        answer = answered(project, Call("asked", f"Bearer {TOKEN}", "one", body), NOON)
        assert answer.status in (202, 400)
        json.dumps(answer.content, allow_nan=False)

    judged()


def test_the_token_stands_nowhere(listening: tuple[Stage, str]) -> None:
    stage, address = listening
    post(f"{address}asked")
    post(f"{address}asked", data=TOKEN)
    held = [path for path in Path(stage.root).rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    assert held == []
    assert not any(TOKEN in line for line in stage.told)
