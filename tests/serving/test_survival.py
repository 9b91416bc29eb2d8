"""What becomes of requests, processes and what is wanted when something is killed or stopped."""

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import psutil
import pytest

from nbmlops import background
from nbmlops.agent.serving import Serving
from nbmlops.ledger.endpoints import Endpoints
from nbmlops.project import Project
from nbmlops.serving import keeping, processes
from nbmlops.serving.verbs import deploy, undeploy
from tests.serving.conftest import model_processes, served, servers
from tests.serving.crowd import Crowd, crowd, until

BACK_S = 2.0  # in which a worker that was killed is there again
ROW = json.dumps({"dataframe_split": {"columns": ["delay", "carrier", "day"], "data": [[0.3, "UA", 2]]}}).encode()


def x(value: float) -> bytes:
    return json.dumps({"dataframe_split": {"columns": ["x"], "data": [[value]]}}).encode()


@contextlib.contextmanager
def looked_after(project: Project) -> Iterator[list[str]]:
    """Do what an agent does for endpoints, beside the test; gives what it tells."""
    told: list[str] = []
    serving = Serving(Project(project.root), told.append, every_s=0.1)
    serving.start()
    try:
        yield told
    finally:
        serving.close()


@pytest.fixture
def ended(shop: Project) -> Iterator[Callable[[str], None]]:
    """Names endpoints that are undeployed when the test is over."""
    names: list[str] = []
    yield names.append
    for name in names:
        if name in served(shop):
            undeploy(shop, name)


# ------------------------------------------------------------------------ workers
def test_a_worker_that_is_killed_costs_each_connection_one_request_and_is_back_in_two_seconds(
    shop: Project, ended: Any
) -> None:
    ended("kill")
    url = deploy(shop, "delays/1", as_="kill", workers=2).url
    with looked_after(shop), crowd(url, ROW) as them:
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
    with crowd(url, ROW) as them:
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


def test_workers_come_and_go_under_load(shop: Project, ended: Any) -> None:
    ended("number")
    url = deploy(shop, "delays/1", as_="number").url
    [first] = servers(shop, "number")
    with crowd(url, ROW) as them:
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


def test_what_was_begun_is_finished_when_an_endpoint_is_undeployed(shop: Project, moody: dict[str, str]) -> None:
    url = deploy(shop, f"moody/{moody['good']}", as_="drain").url
    with crowd(url, x(-4.0), n_clients=4, pause_s=0.0) as them:  # each takes 0.3 s
        until(lambda: them.n_answered >= 4)
        undeploy(shop, "drain")
    lost = [failure for failure in them.failures if "refused" not in failure.lower()]
    assert lost == [], "a request that was taken was not finished"
    assert servers(shop, "drain") == model_processes(shop, "drain") == set()


def answer(url: str, body: bytes = ROW, timeout_s: float = 30.0) -> tuple[int, Any]:
    request = urllib.request.Request(f"{url}/invocations", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            return response.status, json.load(response)["predictions"]
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, json.load(exc)["error"]["message"]


def processes_free_port() -> int:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


# --------------------------------------------------------------- processes of models
@pytest.fixture(scope="module")
def moods(shop: Project, moody: dict[str, str]) -> Iterator[str]:
    yield deploy(shop, f"moody/{moody['good']}", as_="moods", workers=2).url
    undeploy(shop, "moods")


def children(shop: Project) -> list[psutil.Process]:
    [parent] = model_processes(shop, "moods")
    return psutil.Process(parent).children()


def test_a_model_process_that_is_killed_fails_no_request(shop: Project, moods: str) -> None:
    with crowd(moods, x(3.0)) as them:
        until(lambda: them.n_answered > 100)
        victim = children(shop)[0]
        victim.kill()
        until(lambda: len(children(shop)) == 2 and victim.pid not in [child.pid for child in children(shop)], 5)
        before = them.n_answered
        until(lambda: them.n_answered > before + 100)
    assert them.failures == []


def test_a_request_that_kills_the_model_is_told_so_and_others_go_on(shop: Project, moods: str) -> None:
    status, message = answer(moods, x(-1.0))
    assert (status, "died on this request" in message) == (503, True), message
    assert answer(moods, x(2.0)) == (200, [2.0])


def test_a_model_that_is_killed_again_and_again_comes_back(shop: Project, moods: str) -> None:
    for _ in range(5):
        assert answer(moods, x(-1.0))[0] == 503
    assert answer(moods, x(2.0)) == (200, [2.0])


@pytest.mark.soak
def test_a_model_that_hangs_is_ended_and_comes_back(shop: Project, moods: str) -> None:
    before = {child.pid for child in children(shop)}
    status, message = answer(moods, x(-3.0), timeout_s=60)
    assert (status, "No answer within 30 s" in message) == (504, True), message
    assert answer(moods, x(2.0)) == (200, [2.0])  # the other process is asked
    until(lambda: len({child.pid for child in children(shop)} - before) == 1)


def test_what_a_model_raises_is_told_and_is_no_failure_of_ours(moods: str) -> None:
    status, message = answer(moods, x(-2.0))
    assert (status, message) == (422, "The model cannot predict these rows: not today")


def test_the_parent_of_models_may_die_and_its_children_answer_until_another_is_there(shop: Project, moods: str) -> None:
    [parent] = model_processes(shop, "moods")
    with crowd(moods, x(3.0), n_clients=3) as them:
        until(lambda: them.n_answered > 50)
        os.kill(parent, signal.SIGKILL)
        killed_at = time.monotonic()
        until(lambda: sum(them.since(killed_at).values()) > 50)
        with looked_after(shop):
            until(lambda: len(model_processes(shop, "moods")) == 1 and len(children(shop)) == 2)
            assert parent not in model_processes(shop, "moods")
        began = time.monotonic()
        until(lambda: sum(them.since(began).values()) > 50)
    assert them.failures == []


# ------------------------------------------------------------------------ the agent
AGENT = [sys.executable, "-P", "-m", "nbmlops.agent.loop"]


def agent_of(shop: Project) -> "subprocess.Popen[bytes]":
    environment = {name: value for name, value in os.environ.items() if name != "NBMLOPS_AGENT"}
    process = subprocess.Popen([*AGENT, str(shop.root)], env=environment)
    until(lambda: (agent := background.living(shop.root)) and agent.pid == process.pid)
    return process


def test_serving_outlives_the_agent_and_the_next_one_adopts_it(shop: Project, ended: Any) -> None:
    ended("adopted")
    url = deploy(shop, "delays/1", as_="adopted", workers=2).url
    workers = servers(shop, "adopted")
    with crowd(url, ROW, n_clients=3) as them:
        with agent_of(shop) as agent:
            victim = min(workers)
            os.kill(victim, signal.SIGKILL)
            until(lambda: len(servers(shop, "adopted") - {victim}) == 2)
            agent.kill()
        mine = servers(shop, "adopted")
        until(lambda: them.n_answered > 300)
        with agent_of(shop) as agent:
            log = them.n_answered
            until(lambda: them.n_answered > log + 300)
            assert servers(shop, "adopted") == mine
            agent.terminate()
            assert agent.wait(30) == 0
        assert servers(shop, "adopted") == mine
    assert all(len(client.failures) <= 1 for client in them.clients), them.failures


# --------------------------------------------------------------- a deploy that is killed
DEPLOY = """
import sys
from nbmlops.project import Project
from nbmlops.serving.verbs import deploy
deploy(Project(sys.argv[1]), sys.argv[2], as_=sys.argv[3])
"""
POINTS = ["endpoint-prepared", "endpoint-wanted", "endpoint-told", "endpoint-made"]


def killed_at(shop: Project, point: str, model: str, name: str) -> None:
    environment = {**os.environ, "NBMLOPS_CRASH_AT": point}
    done = subprocess.run(
        [sys.executable, "-c", DEPLOY, str(shop.root), model, name], env=environment, capture_output=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize("point", POINTS)
def test_a_deploy_that_is_killed_leaves_what_was_live_and_the_next_one_sets_it_right(
    shop: Project, ended: Any, point: str
) -> None:
    ended("cut")
    url = deploy(shop, "delays/1", as_="cut").url
    with crowd(url, ROW, n_clients=3) as them:
        killed_at(shop, point, "delays/2", "cut")
        before = them.n_answered
        until(lambda: them.n_answered > before + 50)
        assert deploy(shop, "delays/3", as_="cut").url == url
        asked = time.monotonic() + 0.2
        until(lambda: sum(them.since(asked).values()) > 50)
    assert them.failures == []
    assert them.since(asked).keys() == {"delays/3"}
    assert served(shop)["cut"].status == "answers"


@pytest.mark.parametrize("point", POINTS)
def test_an_agent_finishes_or_undoes_what_a_killed_deploy_has_begun(shop: Project, ended: Any, point: str) -> None:
    ended("begun")
    ended("first")
    deploy(shop, "delays/1", as_="begun")
    killed_at(shop, point, "delays/2", "begun")
    killed_at(shop, point, "delays/1", "first")
    with looked_after(shop):
        until(lambda: all(each.status == "answers" for each in served(shop).values()), 20)
        until(lambda: ("first" in served(shop)) == keeping.folder_of(shop, "first").exists(), 20)
    is_wanted = point != "endpoint-prepared"
    assert served(shop)["begun"].version == ("2" if is_wanted else "1")
    assert ("first" in served(shop)) == is_wanted
    assert processes.leftovers(shop.root, keeping.owned(shop)) == []


@pytest.mark.soak
def test_a_model_process_of_a_killed_deploy_is_ended(shop: Project, moody: dict[str, str], ended: Any) -> None:
    ended("heavy")
    deploy(shop, f"moody/{moody['good']}", as_="heavy")
    killed_at(shop, "endpoint-prepared", f"moody/{moody['also good']}", "heavy")
    assert len(model_processes(shop, "heavy")) == 2
    with looked_after(shop):
        until(lambda: len(model_processes(shop, "heavy")) == 1)
    assert served(shop)["heavy"].traffic[0].version == moody["good"]


@pytest.mark.soak
def test_models_have_as_many_processes_as_there_are_workers(shop: Project, moody: dict[str, str], ended: Any) -> None:
    ended("wide")
    url = deploy(shop, f"moody/{moody['good']}", as_="wide").url
    with crowd(url, x(3.0), n_clients=3) as them:
        for n in (3, 1):
            deploy(shop, f"moody/{moody['good']}", as_="wide", workers=n)
            until(functools.partial(has_processes, shop, n))
            until(functools.partial(has_answered, them, them.n_answered + 50))
    assert them.failures == []


def has_processes(shop: Project, n: int) -> bool:
    parents = model_processes(shop, "wide")
    return len(parents) == 1 and len(psutil.Process(min(parents)).children()) == n


def has_answered(them: Crowd, n: int) -> bool:
    return them.n_answered > n


def test_what_is_live_is_kept_alive_while_what_is_wanted_fails(shop: Project, ended: Any) -> None:
    ended("held")
    url = deploy(shop, "delays/1", as_="held", workers=2).url
    endpoints = shop.open(Endpoints)
    wanted = endpoints.wanted()["held"]
    nobody = replace(wanted.variants[0], version="77", digest="0" * 64)
    endpoints.want(replace(wanted, variants=(nobody,)))
    with looked_after(shop) as told:
        until(lambda: served(shop)["held"].trouble)
        victim = min(servers(shop, "held"))
        os.kill(victim, signal.SIGKILL)
        until(lambda: len(servers(shop, "held") - {victim}) == 2, 10)
    assert answer(url)[0] == 200
    assert served(shop)["held"].status == "behind"
    assert len([line for line in told if "no version 77" in line]) == 1, "it is told once"
    assert deploy(shop, "delays/2", as_="held").url == url
    assert served(shop)["held"].status == "answers"
