"""The closed loop by the command line: data drift, the agent retrains, a gate judges, a person answers."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

from nbmlops import background
from nbmlops.agent.launching import Launcher
from nbmlops.ledger.database import Ledger
from nbmlops.ledger.schedules import FAILED, FINISHED, Firing, Schedules
from nbmlops.pipelines import jobs
from nbmlops.project import STATE, Project
from nbmlops.registry.mlflow import Registry
from nbmlops.surfaces.python import Operations
from tests.agent.stage import Hands, Stage

pytestmark = pytest.mark.timeout(300)
PATIENCE_S = 120.0
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
cooldown = "24h"

[[pipelines.retrain.steps]]
name = "extract"
function = "steps:extract"
parameters = { arrived = "data/arrived.csv" }

[[pipelines.retrain.steps]]
name = "train"
function = "steps:train"
parameters = { holdout = "${extract.holdout}" }
matrix = { kind = ["logistic", "bayes"] }
pick = "max:roc_auc"

[[pipelines.retrain.steps]]
name = "register"
verb = "register ${train.model} delays"

[[pipelines.retrain.steps]]
name = "gate"
verb = "validate delays/${register.version}"

[[pipelines.retrain.steps]]
name = "ask"
approval = "Shall version ${register.version} be the champion?"
needs = ["gate"]

[[pipelines.retrain.steps]]
name = "promote"
verb = "promote delays/${register.version} --gate default"
needs = ["ask"]
"""
# Every step leaves a line, so that the test sees how often it was executed. What it could learn is there already:
# importing what fits a model takes longer than all else here.
STEPS = """\
import time
from pathlib import Path


def _note(text):
    with open("notes.txt", "a") as file:
        file.write(text + "\\n")


def extract(arrived: str) -> dict:
    _note("extract")
    head, *rows = Path(arrived).read_text().splitlines()
    Path("data/holdout.csv").write_text("\\n".join([head, *rows[len(rows) // 2 :]]))
    return {"holdout": "data/holdout.csv"}


def train(holdout: str, kind: str) -> dict:
    _note(f"train-{kind}")
    while Path("hold").exists():
        time.sleep(0.05)
    return {"model": f"models/{kind}", "roc_auc": 0.8 if kind == "logistic" else 0.7}
"""
COLUMNS = ["wind", "rain"]


def flights(seed: int, wind: float, *, mixed_up: bool = False) -> pd.DataFrame:
    """Flights of a month with so much more wind; with the delays in the wrong rows, as after a join gone wrong."""
    random, n = np.random.default_rng(seed), 1500
    table = pd.DataFrame({"wind": random.normal(10 + wind, 3, n), "rain": random.exponential(1 + wind / 5, n)})
    score = (table["wind"] - 10 - wind) / 3 + table["rain"] + random.normal(0, 0.5, n)
    late = (score > score.median()).astype(int)
    return table.round(3).assign(late=late.sample(frac=1, random_state=0).to_numpy() if mixed_up else late)


@dataclass
class Loop:
    """A project whose pipeline closes the loop: its commands, and what its ledger tells."""

    project: Project

    def act(self, *words: str) -> Any:
        """Type a command, as a person does; give what it prints as JSON."""
        line = [sys.executable, "-m", "nbmlops.surfaces.cli", *words, "--json"]
        done = subprocess.run(line, cwd=self.project.root, capture_output=True, text=True, timeout=PATIENCE_S)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def arrives(self, table: pd.DataFrame) -> None:
        """Put a table where the drift of what arrives is measured, at once and whole."""
        data = self.project.root / "data"
        table.to_csv(data / "new.csv", index=False)
        os.replace(data / "new.csv", data / "arrived.csv")

    def until(self, is_so: Callable[[], Any]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not is_so():
            assert time.monotonic() < deadline, (self.jobs(), self.firings(), self.log())
            time.sleep(0.1)

    def jobs(self) -> list[tuple[str, str]]:
        return [(job.status, job.message) for job in jobs.newest(self.project, name="retrain")]

    def is_newest(self, status: str) -> bool:
        newest = next(iter(self.jobs()), ("", ""))
        assert newest[0] in (status, "", "RUNNING"), newest
        return newest[0] == status

    def firings(self) -> list[Firing]:
        return self.project.open(Schedules).newest()[::-1]

    def states(self, cause: str) -> list[str]:
        """The states of the firings that have a cause."""
        return [firing.state for firing in self.firings() if firing.occasion.startswith(cause)]

    def told(self) -> list[tuple[str, str, bool]]:
        """Every event: verb, outcome, and whether a person acted; oldest first."""
        events = self.project.open(Ledger).events(limit=100)[::-1]
        return [(event.verb, event.outcome, event.by_human) for event in events]

    def champion(self) -> str:
        return "".join(model.aliases.get("champion", "") for model in Operations(self.project.folder).models())

    def notes(self) -> list[str]:
        path = self.project.root / "notes.txt"
        return sorted(path.read_text().split()) if path.exists() else []

    def log(self) -> str:
        return (self.project.root / STATE / "agent.log").read_text()


@pytest.fixture
def loop(folder: Path, project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    """A project that may have an agent, which does not outlive the test."""
    monkeypatch.delenv("NBMLOPS_AGENT")
    (folder / "data").mkdir()
    (folder / "nbmlops.toml").write_text(TOML)
    (folder / "steps.py").write_text(STEPS)
    flights(1, 0.0).to_csv(folder / "data" / "reference.csv", index=False)
    december = flights(5, 4.0)
    features = december[COLUMNS]
    for name, model in {"logistic": LogisticRegression(), "bayes": GaussianNB()}.items():
        fitted = model.fit(features, december["late"])
        project.open(Registry).save_model(folder / "models" / name, fitted, features[:5], ())
    yield Loop(project)
    background.stop(folder)


def test_data_that_drift_become_a_champion_once_a_person_agrees_and_none_where_the_gate_says_no(loop: Loop) -> None:
    loop.arrives(flights(2, 0.0))
    hold = loop.project.root / "hold"
    hold.touch()
    first = loop.act("agent")
    loop.arrives(flights(3, 4.0))

    loop.until(lambda: {"train-bayes", "train-logistic"} <= {*loop.notes()})
    os.kill(first["pid"], signal.SIGKILL)  # the agent dies in the middle of the run
    loop.until(lambda: not background.living(loop.project.root))
    assert loop.act("agent")["pid"] != first["pid"]
    hold.unlink()
    loop.until(lambda: loop.is_newest("WAITING"))
    assert loop.champion() == ""

    loop.arrives(flights(4, 8.0, mixed_up=True))  # another alarm, which has to wait for the cooldown's end
    (waiting,) = jobs.newest(loop.project, name="retrain")
    assert loop.act("approve", waiting.job, "--reason", "plausible")["agent_goes_on"]
    loop.until(lambda: loop.states("answer") == [FINISHED])
    assert loop.is_newest("FINISHED")
    assert loop.champion() == "1"
    assert loop.notes() == ["extract", "train-bayes", "train-logistic"]  # nothing was executed twice
    hops = [told for told in loop.told() if told[0] not in ("agent", "drift")]
    assert hops == [
        (verb, "ok", verb == "approve") for verb in ("register", "validate", "run", "approve", "promote", "resume")
    ]
    assert ("drift", "DriftError", False) in loop.told()[:4]  # the alarm comes before them
    assert [entry.verb for entry in Operations(loop.project.folder).history("delays")] == [
        "promote",
        "validate",
        "register",
    ]

    assert background.stop(loop.project.root)
    clock = Hands(datetime.now(UTC))
    with closing(Stage(loop.project.root, clock=clock)) as stage:  # an agent of this process, whose clock is ours
        stage.agent.launcher = Launcher(stage.project)
        for _ in range(3):
            stage.look()
        assert loop.states("drift") == [FINISHED]
        stage.clock.time += timedelta(hours=25)
        loop.until(lambda: stage.look() or FAILED in loop.states("drift"))
    (status, message), *_ = loop.jobs()
    assert (status, message.partition(":")[0]) == ("FAILED", "Step gate")
    assert "roc_auc" in message
    assert [firing.exit_code for firing in loop.firings() if firing.state == FAILED] == [4]
    assert loop.champion() == "1"
