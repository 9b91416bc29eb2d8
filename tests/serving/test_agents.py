"""Endpoints with an agent, without one, and when it dies."""

import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from nbmlops import background
from nbmlops.project import Project
from nbmlops.registry.mlflow import Registry
from nbmlops.registry.verbs import promote, rollback
from nbmlops.serving.verbs import deploy, undeploy
from tests.serving.conftest import served, servers
from tests.serving.crowd import DELAYS, crowd, until

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
    with crowd(url, DELAYS, n_clients=3) as them:
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


def test_stopping_the_agent_ends_what_is_served_and_it_comes_back_with_it(
    shop: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nbmlops.agent.control import agent

    url = deploy(shop, "delays/1", as_="resting").url
    monkeypatch.delenv("NBMLOPS_AGENT")
    agent(shop)
    try:
        assert len(servers(shop, "resting")) == 1
        agent(shop, stop=True)
        assert servers(shop, "resting") == set()
        assert served(shop)["resting"].status == "dead"
        agent(shop)
        until(lambda: served(shop)["resting"].status == "answers", 20)
        assert served(shop)["resting"].url == url
    finally:
        background.stop(shop.root)
        undeploy(shop, "resting")


def test_a_promotion_and_a_rollback_switch_endpoints_where_no_agent_runs(judged: Project) -> None:
    judged.open(Registry).set_alias("delays", "champion", "3")
    promote(judged, "delays/1")
    deploy(judged, "delays@champion", as_="goes")
    try:
        assert promote(judged, "delays/3").switched == ("goes",)
        until(lambda: (served(judged)["goes"].status, served(judged)["goes"].version) == ("answers", "3"), 20)
        assert rollback(judged, "delays").switched == ("goes",)
        until(lambda: (served(judged)["goes"].status, served(judged)["goes"].version) == ("answers", "1"), 20)
    finally:
        undeploy(judged, "goes")


def test_it_is_said_when_nobody_goes_on_with_a_rollout(shop: Project) -> None:
    told: list[str] = []
    project = Project(shop.root, notify=told.append)
    deploy(project, "delays/1", as_="alone")
    assert told == []
    deploy(project, "delays/3", as_="alone", canary="10,100")
    assert told == ["No agent is left behind here: nobody goes on with the rollout until `agent --foreground` does."]
    undeploy(project, "alone")
