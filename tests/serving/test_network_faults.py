"""The network and the end of a server: who was taken is answered, who resets does no harm, who is too many waits."""

import contextlib
import json
import os
import random
import resource
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from nbmlops.project import Project
from nbmlops.serving.worker import LAST_CALL_S
from tests.serving.conftest import served
from tests.serving.raw_http import JSON, Reply, asked, connected, deployed, heard, port_of, reply, request

BODY_S = 2.0
ROW = json.dumps({"dataframe_split": {"columns": ["delay", "carrier", "day"], "data": [[0.5, "UA", 2]]}}).encode()
NUMBER = json.dumps({"dataframe_split": {"columns": ["x"], "data": [[1.5]]}}).encode()
SLOW = json.dumps({"dataframe_split": {"columns": ["x"], "data": [[-4.0]]}}).encode()  # takes 0.3 s


class Caller(threading.Thread):
    """One connection in a closed loop, until it is told that the server ends; `lost` are requests without an answer."""

    def __init__(self, port: int, body: bytes) -> None:
        super().__init__()
        self.port, self.body = port, body
        self.n_answered, self.lost = 0, ""
        self.is_told = False

    def run(self) -> None:
        with connected(self.port) as connection, connection.makefile("rb") as stream:
            while not (self.is_told or self.lost):
                try:
                    connection.sendall(request(body=self.body))
                    answer = reply(stream)
                except OSError as exc:
                    self.lost = repr(exc)
                    return
                if answer is None or answer.status != 200:
                    self.lost = f"{answer} after {self.n_answered}"
                    return
                self.n_answered += 1
                self.is_told = answer.headers.get("connection") == "close"


@pytest.mark.parametrize("kind", ["compiled", "foreign"])
def test_sigterm_under_load_loses_nothing_that_was_taken(
    shop: Project,
    moody: dict[str, str],
    kind: str,
) -> None:
    model, body = ("delays/2", ROW) if kind == "compiled" else (f"moody/{moody['good']}", NUMBER)
    with deployed(shop, model, f"ends {kind}".replace(" ", "-"), f'body = "{BODY_S:g}s"') as live:
        port = port_of(live)
        [pid] = served(shop)[live.endpoint].pids
        process = psutil.Process(pid)
        callers = [Caller(port, body) for _ in range(8)]
        for caller in callers:
            caller.start()
        with connected(port) as idle, connected(port) as late, connected(port) as never, connected(port) as busy:
            content = request(body=body)
            idle.sendall(request("/ping"))
            heard(idle, 1)
            for half in (late, never):
                half.sendall(content[:-10])
            time.sleep(0.3)
            busy.sendall(request(body=SLOW if kind == "foreign" else body) + request(body=body))
            os.kill(pid, signal.SIGTERM)
            began = time.monotonic()
            time.sleep(LAST_CALL_S / 2)
            with pytest.raises(ConnectionRefusedError):
                asked(port, "/ping")
            time.sleep(LAST_CALL_S)
            late.sendall(content[-10:])
            assert [(one.status, one.headers["connection"]) for one in heard(late, 2)] == [(200, "close")]
            assert heard(idle, 1) == []
            assert heard(busy, 3)[0].status == 200
            assert [one.status for one in heard(never, 2)] == [408]
        for caller in callers:
            caller.join()
        assert [caller.lost for caller in callers if caller.lost] == []
        assert min(caller.n_answered for caller in callers) > 5
        process.wait(BODY_S + 5)
        assert time.monotonic() - began < BODY_S + 5


@pytest.fixture(scope="module")
def compiled(shop: Project) -> Iterator[tuple[int, psutil.Process]]:
    with deployed(shop, "delays/2", "steady", f'body = "{BODY_S:g}s"') as live:
        yield port_of(live), psutil.Process(served(shop)["steady"].pids[0])


def log_of(shop: Project) -> str:
    return Path(shop.root, ".nbmlops", "endpoints", "steady", "server.log").read_text()


def test_callers_that_reset_their_connections_do_no_harm(
    shop: Project,
    compiled: tuple[int, psutil.Process],
) -> None:
    port, process = compiled
    chance, before = random.Random(9), len(log_of(shop))
    content = request(body=ROW) + request(headers="Transfer-Encoding: chunked\r\n", method="POST") + b"5\r\n12345\r\n"
    for _ in range(400):
        with connected(port) as connection:
            connection.sendall(content[: chance.randrange(len(content) + 1)])
            if chance.random() < 0.3:
                connection.settimeout(0.01)
                with contextlib.suppress(OSError):
                    connection.recv(chance.randrange(1, 100))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # its end is a reset
    assert asked(port, body=ROW).status == 200
    assert b'nbmlops_in_flight{endpoint="steady",version="delays/2"} 0' in asked(port, "/metrics").body
    assert len(process.net_connections()) < 5
    assert log_of(shop)[before:] == ""


def test_a_body_that_ends_too_early_is_not_scored(compiled: tuple[int, psutil.Process]) -> None:
    """A table that was cut off would be a right one, of fewer rows."""
    port, _ = compiled

    def counted() -> list[bytes]:
        text = asked(port, "/metrics").body
        return [line for line in text.splitlines() if line.startswith((b"nbmlops_requests_total", b"nbmlops_rows"))]

    before = counted()
    whole = b"delay,carrier,day\n0.5,UA,2\n0.5,UA,3\n"
    with connected(port) as connection:
        connection.sendall(request(body=whole, kind="text/csv")[:-10])
        time.sleep(0.1)
    with connected(port) as connection:
        head = request(method="POST", headers="Content-Type: text/csv\r\nTransfer-Encoding: chunked\r\n")
        connection.sendall(head + b"1b\r\n" + whole[:27] + b"\r\n")
        time.sleep(0.1)
    assert counted() == before


def test_more_connections_than_may_be_open_wait_and_nothing_spins(compiled: tuple[int, psutil.Process]) -> None:
    port, process = compiled
    before = process.rlimit(resource.RLIMIT_NOFILE)
    with connected(port) as first, first.makefile("rb") as stream:
        first.sendall(request("/ping"))
        assert reply(stream)
        process.rlimit(resource.RLIMIT_NOFILE, (process.num_fds() + 20, before[1]))
        try:
            with contextlib.ExitStack() as all_of_them:
                for _ in range(60):
                    all_of_them.enter_context(connected(port))
                began, spent = time.monotonic(), process.cpu_times().user + process.cpu_times().system
                first.sendall(request(body=ROW))
                answer = reply(stream)
                assert isinstance(answer, Reply)
                assert answer.status == 200
                time.sleep(0.5)
                busy = process.cpu_times().user + process.cpu_times().system - spent
                assert busy < 0.5 * (time.monotonic() - began)
        finally:
            process.rlimit(resource.RLIMIT_NOFILE, before)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError):
            if asked(port, body=ROW, kind=JSON).status == 200:
                return
    raise AssertionError("it takes nobody any more")
