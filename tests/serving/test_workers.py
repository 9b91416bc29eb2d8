"""What becomes of requests when workers are killed or stopped, come and go, and move."""

import os
import signal
import time
from typing import Any

import psutil
import pytest

from nbmlops.project import Project
from nbmlops.serving.instructions import WORKERS, Ready
from nbmlops.serving.keeping import folder_of
from nbmlops.serving.verbs import deploy
from tests.serving.conftest import looked_after, served, servers
from tests.serving.crowd import DELAYS, answer, crowd, until

BACK_S = 2.0  # in which a worker that was killed is there again


def test_a_worker_that_is_killed_costs_each_connection_one_request_and_is_back_in_two_seconds(
    shop: Project, ended: Any
) -> None:
    ended("kill")
    url = deploy(shop, "delays/1", as_="kill", workers=2).url
    with looked_after(shop), crowd(url, DELAYS) as them:
        until(lambda: them.n_answered > 200)
        victim, other = sorted(servers(shop, "kill"))
        os.kill(victim, signal.SIGKILL)
        killed_at = time.monotonic()
        back_s = until(lambda: len(servers(shop, "kill") - {victim}) == 2 and served(shop)["kill"].status == "answers")
        until(lambda: sum(them.since(killed_at).values()) > 200)
    assert back_s < BACK_S
    assert all(len(client.failures) <= 1 for client in them.clients), them.failures
    assert them.longest_gap_s < 0.5
    assert other in servers(shop, "kill")


def test_a_worker_that_was_stopped_holds_up_no_other_and_goes_on_afterwards(shop: Project, ended: Any) -> None:
    ended("stop")
    url = deploy(shop, "delays/1", as_="stop", workers=2).url
    with crowd(url, DELAYS) as them:
        until(lambda: them.n_answered > 100)
        victim = min(servers(shop, "stop"), key=n_connections)
        os.kill(victim, signal.SIGSTOP)
        try:
            stopped_at = time.monotonic()
            until(lambda: sum(them.since(stopped_at).values()) > 100, 10)
        finally:
            os.kill(victim, signal.SIGCONT)
    assert them.failures == []


def n_connections(pid: int) -> int:
    return len([each for each in psutil.Process(pid).net_connections() if each.status == psutil.CONN_ESTABLISHED])


def test_workers_of_a_first_deploy_share_one_port(shop: Project, ended: Any) -> None:
    ended("crew")
    deploy(shop, "delays/1", as_="crew", workers=3)
    told = [Ready.read(own) for own in (folder_of(shop, "crew") / WORKERS).glob("*")]
    assert len(told) == 3
    assert len({each.port for each in told if each}) == 1


def test_workers_come_and_go_under_load(shop: Project, ended: Any) -> None:
    ended("number")
    url = deploy(shop, "delays/1", as_="number").url
    [first] = servers(shop, "number")
    with crowd(url, DELAYS) as them:
        assert deploy(shop, "delays/1", as_="number", workers=3).url == url
        assert len(servers(shop, "number")) == 3
        until(lambda: them.n_answered > 300)
        deploy(shop, "delays/1", as_="number", workers=1)
        until(lambda: servers(shop, "number") == {first})
    assert them.failures == []


def test_an_endpoint_moves_to_another_port(shop: Project, ended: Any) -> None:
    ended("port")
    before = deploy(shop, "delays/1", as_="port").url
    free = processes_free_port()
    after = deploy(shop, "delays/1", as_="port", port=free).url
    assert after == f"http://127.0.0.1:{free}"
    assert answer(after)[0] == 200
    assert len(servers(shop, "port")) == 1
    with pytest.raises(OSError, match="refused"):
        answer(before)


def processes_free_port() -> int:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
