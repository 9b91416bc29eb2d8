"""The closed loop to its end: data drift, the agent retrains, a gate judges, and live requests decide on the alias."""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from nbmlops import background
from nbmlops.ledger.database import Ledger
from nbmlops.ledger.endpoints import Endpoints
from nbmlops.ledger.schedules import FINISHED
from nbmlops.pipelines import jobs
from nbmlops.registry.mlflow import Registry
from nbmlops.serving import processes
from nbmlops.surfaces.python import Operations
from tests.agent.test_closed_loop import COLUMNS, Loop, flights, loop
from tests.pipelines.test_warm import start_server
from tests.serving.crowd import crowd

__all__ = ["loop"]

pytestmark = pytest.mark.timeout(300)
OTHERWISE = ("NBMLOPS_", "MLFLOW_", "CI", "PYTEST_CURRENT_TEST")  # variables that a warm server has not, or not so
TOML = """\
[project]
name = "flights"

[gates.default]
target = "late"
data = "data/holdout.csv"
metrics.roc_auc = { min = 0.7 }

[pipelines.retrain]
on = ["drift:data/arrived.csv"]
against = "data/reference.csv"

[[pipelines.retrain.steps]]
name = "train"
function = "steps:train"
parameters = { arrived = "data/arrived.csv" }

[[pipelines.retrain.steps]]
name = "register"
verb = "register ${train.model} delays"

[[pipelines.retrain.steps]]
name = "gate"
verb = "validate delays/${register.version}"

[[pipelines.retrain.steps]]
name = "rollout"
verb = "deploy delays/${register.version} --canary 50,100 --bake 1s --slo 'err<1%' --promote --wait"
needs = ["gate"]
"""
STEPS = """\
import shutil


def train(arrived: str) -> dict:
    shutil.copy(arrived, "data/holdout.csv")
    return {"model": "models/challenger"}
"""
# One flight of two whose weather is not known: no table that a gate looks at has such a row.
REQUEST = json.dumps(
    {"dataframe_split": {"columns": COLUMNS, "data": [[12.0, 0.5], [14.0, None]]}, "params": {}}
).encode()


def with_gaps() -> Any:
    return make_pipeline(SimpleImputer(), LogisticRegression())


@pytest.fixture(scope="module")
def surroundings() -> Iterator[dict[str, str]]:
    """Variables by which commands find a warm server: what the steps import takes longer than all else here."""
    with tempfile.TemporaryDirectory(prefix="nbmlops-", dir="/tmp") as runtime:
        own = dict.fromkeys(
            ("XDG_RUNTIME_DIR", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "XDG_STATE_HOME"), runtime
        )
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OTHERWISE)}
        server = start_server(kept | own | {"NBMLOPS_SENDER": "off"})
        yield own
        server.kill()
        server.wait()


@pytest.fixture
def live(loop: Loop, surroundings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    """A project whose champion is live, and which nobody looks after yet; no process outlives it."""
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NBMLOPS_WARM")
    monkeypatch.setenv("NBMLOPS_AGENT", "off")
    root, ops = loop.project.root, Operations(loop.project.folder)
    (root / "nbmlops.toml").write_text(TOML)
    (root / "steps.py").write_text(STEPS)
    known = flights(1, 0.0)
    ops.register(with_gaps().fit(known[COLUMNS], known["late"]), "delays", input_example=known[COLUMNS][:100])
    ops.validate("delays", data=known)
    ops.promote("delays")
    ops.deploy("delays@champion")
    try:
        yield loop
    finally:
        ops.undeploy("delays")
        background.stop(root)
    assert processes.running(root) == []


def challenge(live: Loop, model: Any) -> None:
    """Have a model be what is learned from the data that have drifted, and let them arrive."""
    december: pd.DataFrame = flights(3, 4.0)
    fitted = model.fit(december[COLUMNS], december["late"])
    place = live.project.root / "models" / "challenger"
    live.project.open(Registry).save_model(place, fitted, december[COLUMNS][:100], ("numpy.dtype",))
    live.arrives(december)


def begins(live: Loop, challenger: str) -> None:
    """Wait until a version is tried beside the champion."""
    endpoints = live.project.open(Endpoints)
    live.until(lambda: endpoints.wanted()["delays"].rollout.get("challenger") == challenger)


def url_of(live: Loop) -> str:
    [endpoint] = Operations(live.project.folder).endpoints()
    return str(endpoint.url)


def answering(url: str) -> str:
    """Ask the endpoint for its version, as any program would."""
    asked = urllib.request.Request(f"{url}/invocations", REQUEST, {"Content-Type": "application/json"})
    with closing(urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=30)) as answer:
        assert np.isfinite(json.load(answer)["predictions"]).all()
        return str(answer.headers["nbmlops-model"])


def ends(live: Loop) -> list[tuple[str, str, str]]:
    """How each version fared with live requests."""
    told = [event.result["rollout"] for event in live.project.open(Ledger).events(verbs=("rollout",))[::-1]]
    return [(each["challenger"], each["state"], each["reason"]) for each in told if each["state"] != "running"]


def test_data_that_drift_end_in_a_version_that_live_requests_have_proven(
    live: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = url_of(live)
    assert answering(url) == "delays/1"
    monkeypatch.delenv("NBMLOPS_AGENT")
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    live.arrives(flights(2, 0.0))
    live.act("agent")
    challenge(live, with_gaps())
    begins(live, "delays/2")
    time.sleep(2.0)
    assert (live.champion(), live.is_newest("RUNNING"), ends(live)) == ("1", True, [])  # nobody asks, so it waits
    with crowd(url, REQUEST, n_clients=2) as passengers:
        live.until(lambda: live.is_newest("FINISHED"))
    assert passengers.failures == []
    assert (live.champion(), answering(url), url_of(live)) == ("2", "delays/2", url)
    [(challenger, state, _)] = ends(live)
    assert (challenger, state) == ("delays/2", "done")
    live.until(lambda: live.states("drift") == [FINISHED])
    hops = [told for told in live.told() if told[0] in ("register", "validate", "rollout", "promote", "deploy", "run")]
    assert hops[4:] == [
        (verb, "ok", False) for verb in ("register", "validate", *["rollout"] * 2, "promote", "deploy", "run")
    ]


def test_a_version_that_fails_live_is_taken_back_and_fails_the_job(live: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    url = url_of(live)
    challenge(live, LogisticRegression())  # which cannot do with what is missing
    line = [sys.executable, "-m", "nbmlops.surfaces.cli", "run", "retrain", "--quiet"]
    with subprocess.Popen(line, cwd=live.project.root, stderr=subprocess.PIPE) as run:
        begins(live, "delays/2")
        with crowd(url, REQUEST, n_clients=2):
            _, said = run.communicate(timeout=60)
    assert run.returncode == 7, said
    [job] = jobs.newest(live.project, name="retrain")
    assert (job.status, job.exit_code) == ("FAILED", 7)
    assert job.message.startswith("Step rollout: The rollout at delays was rolled back: err is ")
    assert [(challenger, state) for challenger, state, _ in ends(live)] == [("delays/2", "rolled_back")]
    assert (live.champion(), answering(url)) == ("1", "delays/1")
    assert ("deploy", "DeployError", False) in live.told()
