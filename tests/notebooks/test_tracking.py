"""The notebook of tracking, run headlessly in a fresh project; its runs read with plain MLflow."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import nbformat
import pytest

from tests.pipelines.test_warm import Environment

from .conftest import cold, example_project, lasting, ran

pytestmark = pytest.mark.timeout(300)


@dataclass
class Day:
    """The project after its day: its folder, the executed notebook's texts, and MLflow's own client."""

    folder: Path
    printed: str
    client: mlflow.MlflowClient

    def runs(self, name: str) -> list[Any]:
        """Runs of a name, oldest first."""
        experiment = self.client.get_experiment_by_name("flights")
        return list(
            self.client.search_runs(
                [experiment.experiment_id], f"attributes.run_name = '{name}'", order_by=["attributes.start_time ASC"]
            )
        )


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Day:
    folder = example_project(tmp_path_factory.mktemp("tracking") / "flights", "06_tracking.ipynb")
    ran(folder, "06_tracking.ipynb", cold() | {"IPYTHONDIR": str(folder / "ipython")})
    store = f"sqlite:///{folder}/.nbmlops/mlflow.db"
    return Day(folder, _printed(folder / "out.ipynb"), mlflow.MlflowClient(store, store))


def _printed(path: Path) -> str:
    outputs = [each for cell in nbformat.read(path, as_version=4).cells for each in cell.get("outputs", ())]
    return "\n".join(each.get("text") or each.get("data", {}).get("text/plain", "") for each in outputs)


def test_its_cells_are_runs_with_what_they_logged(day: Day) -> None:
    first, second = day.runs("trees")
    assert [run.data.params["min_samples_leaf"] for run in (first, second)] == ["5", "100"]
    assert [run.info.status for run in (first, second)] == ["FINISHED", "FINISHED"]
    assert 0.5 < first.data.metrics["roc_auc"] < second.data.metrics["roc_auc"] < 1
    points = day.client.get_metric_history(second.info.run_id, "log_loss")
    assert [point.step for point in points] == list(range(1, 10))


def test_the_second_attempt_is_linked_to_the_first(day: Day) -> None:
    first, second = day.runs("trees")
    assert second.data.tags["nbmlops.attempt"] == "2"
    assert second.data.tags["nbmlops.previous"] == first.info.run_id


def test_its_figure_and_table_are_uploaded(day: Day) -> None:
    [run] = day.runs("picture")
    assert {"roc.png", "by_origin.json"} <= {each.path for each in day.client.list_artifacts(run.info.run_id)}


def test_the_killed_process_lost_nothing_and_its_run_says_so(day: Day) -> None:
    [run] = day.runs("killed")
    points = day.client.get_metric_history(run.info.run_id, "loss")
    assert [point.step for point in points] == list(range(1000))
    assert run.info.status == "FAILED"
    assert re.search(r"1000 values of 1000 steps; Run killed .* FAILED", day.printed)


def test_the_store_that_is_away_is_told_of_and_nobody_waits(day: Day) -> None:
    assert "the tracking store http://127.0.0.1:9 is out of reach" in day.printed
    assert re.search(r"1,\d{3} records not delivered", day.printed)
    [microseconds] = re.findall(r"(\d+) microseconds a call", day.printed)
    assert int(microseconds) < 5_000


def test_it_leaves_no_journal_and_small_outputs(day: Day) -> None:
    assert list((day.folder / ".nbmlops" / "journal").glob("*.jsonl")) == []
    assert (day.folder / "out.ipynb").stat().st_size < 100_000


@pytest.mark.skipif(sys.platform != "linux", reason="a warm server is for Linux")
def test_it_shows_the_same_through_a_warm_server(day: Day, warm: Environment, tmp_path: Path) -> None:
    folder = example_project(tmp_path / "flights", "06_tracking.ipynb")
    assert lasting(ran(folder, "06_tracking.ipynb", warm)) == lasting(day.folder / "out.ipynb")
