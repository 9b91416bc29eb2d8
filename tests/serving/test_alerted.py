"""A bad version on a real endpoint: it is taken back, and whoever is on call hears of it from the agent."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from nbmlops import background
from nbmlops.errors import DeployError
from nbmlops.ledger.alerts import SENT, Alerts
from nbmlops.ledger.database import Ledger
from nbmlops.ledger.endpoints import Endpoints
from nbmlops.project import Project
from nbmlops.serving.keeping import is_level
from nbmlops.serving.verbs import deploy, undeploy
from tests.monitoring.hooks import Hook, hook
from tests.serving.conftest import served
from tests.serving.crowd import crowd, until

X = json.dumps({"dataframe_split": {"columns": ["x"], "data": [[3.0]]}}).encode()
WITHIN_S = 5.0  # from the event to the message
DECLARED = '\n[alerts.oncall]\non = ["slo"]\nto = "webhook:env:HOOK"\nprivate = true\n'


@pytest.fixture
def them(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    with hook() as made:
        monkeypatch.setenv("HOOK", made.url)
        yield made


@pytest.fixture
def agent(shop: Project, them: Hook) -> Iterator["subprocess.Popen[bytes]"]:
    """A real agent of the shop, with an alert declared; it and all endpoints end with the test."""
    path = shop.root / "nbmlops.toml"
    before = path.read_text()
    path.write_text(before + DECLARED)
    words = [sys.executable, "-m", background.MODULE, str(shop.root)]
    with (shop.root / ".nbmlops" / "agent.log").open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, env=dict(os.environ))
    try:
        until(lambda: background.living(shop.root), 30)
        yield process
    finally:
        process.terminate()
        process.wait(30)
        for name in served(shop):
            undeploy(shop, name)
        path.write_text(before)


@pytest.mark.usefixtures("agent")
def test_a_breach_is_heard_within_seconds_with_its_cause(shop: Project, moody: dict[str, str], them: Hook) -> None:
    good, bad = f"moody/{moody['good']}", f"moody/{moody['raises']}"
    url = deploy(shop, good, as_="alarm").url
    with crowd(url, X, n_clients=4):
        deploy(shop, bad, as_="alarm", canary="50,100", bake="60s", slo="err<1%")
        until(lambda: told(shop), 30)
        heard_s = until(lambda: them.calls, WITHIN_S)
    assert heard_s < WITHIN_S
    [event] = told(shop)
    [call] = them.calls
    data = call.content["data"]
    assert (data["kind"], data["event"], data["subject"]) == ("slo", event.seq, "endpoint/alarm")
    assert data["headline"] == f"{bad} was taken back at alarm"
    assert data["cause"] == event.result["rollout"]["reason"]
    assert (data["live"], data["next_step"]) == (f"{good} answers alone", "show alarm")
    until(lambda: [each.state for each in shop.open(Alerts).newest("oncall")] == [SENT], 5)
    until(lambda: is_level(shop, shop.open(Endpoints).wanted()["alarm"]), WITHIN_S)  # what is told becomes so at once
    with crowd(url, X) as after:
        until(lambda: after.n_answered > 50)
    assert set(after.versions) == {good}


def test_a_deployment_that_fails_is_heard_and_what_was_live_goes_on(
    shop: Project, moody: dict[str, str], them: Hook, agent: Any
) -> None:
    good = f"moody/{moody['good']}"
    deploy(shop, good, as_="steady")
    with pytest.raises(DeployError):
        deploy(shop, f"moody/{moody['good']}", as_="steady", port=_taken_port(them))
    until(lambda: them.calls, WITHIN_S)
    [call] = them.calls
    assert call.content["data"]["headline"] == f"{good} could not be deployed as steady"
    assert served(shop)["steady"].status == "answers"


def told(project: Project) -> list[Any]:
    return project.open(Ledger).events(verbs=("rollout",), subject="endpoint/alarm", outcome="DeployError")


def _taken_port(them: Hook) -> int:
    return int(them.url.partition("127.0.0.1:")[2].partition("/")[0])
