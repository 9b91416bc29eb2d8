"""What an agent makes of a deploy that was killed midway, and of one that fails."""

import os
import signal
from dataclasses import replace
from typing import Any

import pytest

from nbmlops.ledger.endpoints import Endpoints
from nbmlops.project import Project
from nbmlops.serving import keeping, processes
from nbmlops.serving.verbs import deploy
from tests.serving.conftest import POINTS, killed_at, looked_after, model_processes, served, servers
from tests.serving.crowd import answer, until


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
