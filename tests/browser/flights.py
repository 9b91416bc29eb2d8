"""Projects about flights for a browser to show: one at its beginning, and one in the middle of its life."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from conftest import end_tracking
from nbmlops.errors import NbmlopsError
from nbmlops.serving.processes import leftovers, stop
from nbmlops.surfaces.python import Operations

POLICY = """\
[project]
name = "flights"

[gates.default]
target = "late"
data = "holdout.parquet"
metrics.roc_auc = { min = 0.6 }
champion.roc_auc = { max_regression = 0.05, confidence = 0.95 }

[pipelines.retrain]
[[pipelines.retrain.steps]]
name = "look"
verb = "models"
[[pipelines.retrain.steps]]
name = "agree"
approval = "Shall the newest version be looked at again?"
needs = ["look"]
[[pipelines.retrain.steps]]
name = "check"
verb = "runs"
needs = ["agree"]
"""
PARAMETERS = (
    "month: int = 3  # of 2013\nrate: float = 0.1  # of learning\ncarriers: list[str] = []  # all of them, unless named"
)
WAIT = """\
import time
from pathlib import Path
print("month", month, "begins")
deadline = time.monotonic() + 120
while not Path("go").exists():
    assert time.monotonic() < deadline
    time.sleep(0.05)"""
MONTH = (WAIT, "if month > 12:\n    raise ValueError(f'there is no month {month}')", "print('rate', rate, 'is done')")
FEATURES = ("dep_delay", "distance", "hour", "temp")


def notebook(*sources: str, parameters: str = "") -> dict[str, Any]:
    """A notebook of code cells, the first one tagged ``parameters`` if given."""
    cells = [
        {
            "cell_type": "code",
            "execution_count": None,
            "id": f"cell-{n}",
            "metadata": {"tags": ["parameters"]} if parameters and n == 0 else {},
            "outputs": [],
            "source": source,
        }
        for n, source in enumerate((parameters, *sources) if parameters else sources)
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel}, "cells": cells}


def departures(seed: int, moved: float = 0.0) -> pd.DataFrame:
    """Made-up flights, late where their departure was; the later the month the more they have `moved`."""
    rng = np.random.default_rng(seed)
    delay = rng.normal(moved, 1, 600)
    table = {
        "dep_delay": delay,
        "distance": rng.gamma(2, 500, 600),
        "hour": rng.uniform(5, 23, 600),
        "temp": rng.normal(40 + 15 * moved, 10, 600),
    }
    return pd.DataFrame({**table, "late": delay + rng.normal(0, 0.7, 600) > 0.2})


def begin(root: Path, empty_mlflow: Path, *cells: str) -> None:
    """Make a project with data, a pipeline, a notebook with parameters, and one of the cells given."""
    (root / ".nbmlops").mkdir(parents=True)
    shutil.copy(empty_mlflow, root / ".nbmlops" / "mlflow.db")
    (root / "nbmlops.toml").write_text(POLICY)
    for name, moved in {"january": 0.0, "holdout": 0.1, "march": 0.3, "june": 1.0}.items():
        departures(len(name), moved).to_parquet(root / f"{name}.parquet")
    (root / "month.ipynb").write_text(json.dumps(notebook(*MONTH, parameters=PARAMETERS)))
    (root / "work.ipynb").write_text(json.dumps(notebook(*cells or ("1 + 1",))))


def live(root: Path) -> None:
    """Go through a project's life: runs, versions, a champion, an endpoint that is rolled out, drift, jobs."""
    with own_process(root):
        ops = Operations(root)
        _runs(ops)
        january = pd.read_parquet(root / "january.parquet")
        features, late = january[list(FEATURES)], january["late"].astype(int)
        for strength in (0.001, 0.1, 1.0):
            ops.register(LogisticRegression(C=strength).fit(features, late), "delays", input_example=features)
        ops.validate("delays/1")
        ops.promote("delays/1", reason="the first one")
        ops.validate("delays/2")
        ops.promote("delays/2", reason="learns more of the distance")
        ops.deploy("delays@champion")
        ops.validate("delays/3")
        ops.deploy("delays/3", as_="delays", canary="20,50,100", bake="1h", slo="err<1%")
        ops.drift("march.parquet", against="january.parquet")
        for moved in (0.5, 0.7, 1.0):
            departures(4, moved).to_parquet(root / "june.parquet")
            ops.drift("june.parquet", against="january.parquet")
        (root / "go").touch()
        ops.run("month.ipynb", parameters={"month": 4})
        with contextlib.suppress(NbmlopsError):
            ops.run("month.ipynb", parameters={"month": 13})
        ops.run("retrain")
        ops.schedule("month.ipynb", "30 6 * * 1")
        end_tracking()


def _runs(ops: Operations) -> None:
    for name, depth, rate in (("logistic", 1, 0.1), ("boosting", 3, 0.3), ("forest", 6, 0.2)):
        ops.track(name, parameters={"depth": depth, "rate": rate})
        for step in range(20):
            ops.log({"loss": 0.3 + np.exp(-rate * step) / depth, "auc": 0.85 - np.exp(-rate * step) / 4}, step=step)
        ops.end()


@contextlib.contextmanager
def own_process(root: Path) -> Iterator[None]:
    """Have the verbs of this process leave nothing behind: no variable, no working folder, no server besides."""
    before, folder = dict(os.environ), Path.cwd()
    for name in [name for name in os.environ if name.startswith(("NBMLOPS_", "MLFLOW_"))]:
        del os.environ[name]
    os.environ |= {"NBMLOPS_AGENT": "off", "NBMLOPS_SENDER": "off", "NBMLOPS_WARM": "off"}
    os.chdir(root)
    try:
        yield
    finally:
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(before)


def end_endpoints(root: Path) -> None:
    """Stop what a project still serves."""
    for left in leftovers(root, ()) if (root / ".nbmlops" / "endpoints").exists() else ():
        stop(left.pid, left.pid_started)
