"""The means of fault injection do what they say: a proxy that lies would prove nothing."""

import contextlib
import http.client
import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.death import Killing, is_alive
from tests.faults.proxy import Proxy

SEARCH = "/api/2.0/mlflow/experiments/search"


def ask(proxy: Proxy, timeout_s: float = 5, path: str = "/health") -> bytes:
    with urllib.request.urlopen(proxy.url + path, timeout=timeout_s) as response:
        return bytes(response.read())


def search(proxy: Proxy) -> bytes:
    request = urllib.request.Request(
        proxy.url + SEARCH, data=b'{"max_results": 5}', headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=5) as response:
        return bytes(response.read())


def test_a_good_proxy_changes_nothing(proxy: Proxy, steady_server: str) -> None:
    with urllib.request.urlopen(steady_server + "/") as plain:
        assert ask(proxy, path="/") == plain.read()
    assert b'"experiment_id": "0"' in search(proxy)
    assert proxy.arrived == proxy.forwarded == {"/": 1, SEARCH: 1}


def test_a_connection_is_kept_for_further_requests(proxy: Proxy) -> None:
    connection = http.client.HTTPConnection(*proxy.url.removeprefix("http://").split(":"))
    for _ in range(3):
        connection.request("GET", "/health")
        sock = connection.sock
        assert connection.getresponse().read() == b"OK"
        assert connection.sock is sock
    proxy.answer(500)  # also what is already open meets the fault
    connection.request("GET", "/health")
    assert connection.getresponse().status == 500
    connection.close()


def test_a_body_sent_in_chunks_arrives(proxy: Proxy) -> None:
    path = "/api/2.0/mlflow-artifacts/artifacts/chunks.txt"
    connection = http.client.HTTPConnection(*proxy.url.removeprefix("http://").split(":"))
    with contextlib.closing(connection):
        connection.request("PUT", path, (chunk for chunk in (b"hel", b"lo")), encode_chunked=True)
        assert connection.getresponse().read() == b""
        connection.request("GET", path)
        assert connection.getresponse().read() == b"hello"


def test_refusing(proxy: Proxy) -> None:
    proxy.refuse()
    for _ in range(2):
        with pytest.raises(urllib.error.URLError, match="refused"):
            ask(proxy)
    proxy.pass_on()
    assert ask(proxy) == b"OK"


def test_refusing_resets_what_is_open(proxy: Proxy) -> None:
    with socket.create_connection(("127.0.0.1", int(proxy.url.rpartition(":")[2]))) as open_one:
        open_one.sendall(b"GET /health HTTP/1.1\r\nHost: here\r\n\r\n")
        assert open_one.recv(10_000).endswith(b"OK")
        proxy.refuse()
        with pytest.raises(ConnectionResetError):
            open_one.recv(1)


def test_hanging(proxy: Proxy) -> None:
    proxy.hang()
    with pytest.raises(TimeoutError):
        ask(proxy, timeout_s=0.3)
    proxy.pass_on()
    assert ask(proxy) == b"OK"
    assert (proxy.arrived["/health"], proxy.forwarded["/health"]) == (2, 1)


@pytest.mark.parametrize(
    ("fault", "failure", "forwarded"),
    [(Proxy.reset, ConnectionResetError, 0), (Proxy.swallow, http.client.RemoteDisconnected, 1)],
)
def test_an_answer_that_never_comes(
    proxy: Proxy, fault: Callable[..., None], failure: type[Exception], forwarded: int
) -> None:
    fault(proxy, times=1, path=SEARCH)
    assert ask(proxy) == b"OK"  # another path
    with pytest.raises(failure):
        search(proxy)
    assert proxy.forwarded[SEARCH] == forwarded
    assert search(proxy)
    assert (proxy.arrived[SEARCH], proxy.forwarded[SEARCH]) == (2, forwarded + 1)


@pytest.mark.parametrize("status", [500, 503])
def test_answering_with_an_error(proxy: Proxy, status: int) -> None:
    proxy.answer(status, times=2)
    for _ in range(2):
        with pytest.raises(urllib.error.HTTPError) as refused:
            search(proxy)
        assert refused.value.code == status
        assert b"error_code" in refused.value.read()
    assert search(proxy)
    assert proxy.forwarded[SEARCH] == 1


def test_trickling(proxy: Proxy) -> None:
    proxy.trickle(seconds=0.002)
    began = time.monotonic()
    assert ask(proxy) == b"OK"
    assert time.monotonic() - began > 0.2  # a head has more than 100 bytes
    proxy.trickle(seconds=30)
    with pytest.raises(TimeoutError):
        ask(proxy, timeout_s=0.3)


def test_stalling_in_mid_body(proxy: Proxy) -> None:
    proxy.stall(seconds=0.3)
    began = time.monotonic()
    assert ask(proxy) == b"OK"
    assert time.monotonic() - began >= 0.3
    proxy.stall(seconds=30)
    with urllib.request.urlopen(proxy.url + "/health", timeout=0.3) as response:
        assert response.read(1) == b"O"
        with pytest.raises(TimeoutError):
            response.read(1)


def test_cutting_in_mid_body(proxy: Proxy) -> None:
    proxy.cut()
    with urllib.request.urlopen(proxy.url + "/health") as response:
        assert response.status == 200
        with pytest.raises(ConnectionResetError):
            response.read()


def test_a_server_that_is_not_there() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with Proxy(f"http://127.0.0.1:{closed.getsockname()[1]}") as proxy, pytest.raises(ConnectionResetError):
            ask(proxy)


def test_nothing_is_left_of_a_proxy(steady_server: str) -> None:
    with Proxy(steady_server) as proxy:
        assert ask(proxy) == b"OK"
        proxy.hang()
        waiting = socket.create_connection(("127.0.0.1", int(proxy.url.rpartition(":")[2])))
        waiting.sendall(b"GET /health HTTP/1.1\r\nHost: here\r\n\r\n")
    with waiting, pytest.raises(ConnectionResetError):
        waiting.recv(1)
    with pytest.raises(urllib.error.URLError, match="refused"):
        ask(proxy)


def test_a_small_disk_is_full_when_that_much_is_written(small_disk: Path) -> None:
    (small_disk / "fits").write_bytes(bytes(900_000))
    with pytest.raises(OSError, match="No space left on device"):
        (small_disk / "too much").write_bytes(bytes(200_000))


@pytest.mark.parametrize("small_disk", [64 << 10], indirect=True)
def test_a_small_disk_of_another_size(small_disk: Path) -> None:
    assert os.statvfs(small_disk).f_blocks * os.statvfs(small_disk).f_frsize == 64 << 10


COUNTING = """
import itertools
for n in itertools.count():
    print(n)
"""


def test_a_child_is_killed_at_a_line(killing: Killing) -> None:
    said = killing(COUNTING, at=100)
    assert len(said) >= 100
    assert said == [str(n) for n in range(len(said))]


def test_a_child_is_killed_at_moments_of_its_seed(killing: Killing, capsys: pytest.CaptureFixture[str]) -> None:
    said = [killing(COUNTING, within_s=0.05) for _ in range(3)]
    assert all(lines == [str(n) for n in range(len(lines))] and lines for lines in said)
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith(f"seed {killing.seed}: kill")]
    assert len(set(told)) == 3
    again = Killing(killing.seed)
    again(COUNTING, within_s=0.05)
    assert capsys.readouterr().out.strip() == told[0]


def test_a_child_that_ends_by_itself_is_no_killed_one(killing: Killing) -> None:
    with pytest.raises(AssertionError, match="ended by itself, with 3"):
        killing("print('done'); raise SystemExit(3)", at=2)


def test_arguments_and_folder_reach_the_child(killing: Killing, tmp_path: Path) -> None:
    script = "import os, sys, time; print(os.getcwd(), *sys.argv[1:]); time.sleep(60)"
    assert killing(script, "a", "b", at=1, folder=tmp_path) == [f"{tmp_path} a b"]


# A grandchild in a session of its own, which holds the pipe open.
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
print(child.pid)
time.sleep(60)
"""


@pytest.mark.parametrize("family", [False, True])
def test_what_a_child_has_started_lives_on_until_the_test_ends(killing: Killing, family: bool) -> None:
    [pid] = killing(PARENT, at=1, family=family)
    assert is_alive(int(pid)) is not family
    killing.clear()
    until = time.monotonic() + 5
    while is_alive(int(pid)):
        assert time.monotonic() < until
        time.sleep(0.01)
