"""A headless notebook whose tracking server is down, and one that goes through the journal with it up."""

import json
import os
import shutil
import socket
from pathlib import Path

import pytest

from nbmlops.pipelines.verbs import run
from nbmlops.project import Project
from nbmlops.surfaces.python import Operations
from nbmlops.tracking.journal import sync
from nbmlops.tracking.mlflow import Tracking
from tests.tracking.conftest import serving

from .conftest import WriteNotebook

INSIDE = """\
import mlflow
import nbmlops
nbmlops.log(rows=3)
nbmlops.open().track("boosting")
nbmlops.log(auc=0.5)
with mlflow.start_run(run_name="forest", nested=True):
    mlflow.log_metric("auc", 0.25)
nbmlops.open().end()"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_notebook_run_with_its_server_down_is_there_when_the_server_is_back(
    folder: Path, empty_mlflow: Path, write_notebook: WriteNotebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    notebook = write_notebook("train.ipynb", INSIDE, tagged="month = 1")
    project = Project(folder, overrides={"tracking": f"http://127.0.0.1:{port}"})
    monkeypatch.setenv("NBMLOPS_TRACKING", f"http://127.0.0.1:{port}")
    done = run(project, str(notebook), parameters={"month": "3"}, output="out.ipynb")
    assert done.status == "FINISHED"
    assert sync.waiting(sync.folder_of(project)).records > 10

    place = folder / "server"
    place.mkdir()
    shutil.copy(empty_mlflow, place / "mlflow.db")
    with serving(place, port):
        assert Operations(folder).sync().left == 0
        plain = Tracking(f"http://127.0.0.1:{port}", "flights", folder / "artifacts")
        found = {each.info.run_name: each for each in plain.client.search_runs([plain.experiment_id])}
        own = found["train"].info.run_id
        assert {name: each.info.status for name, each in found.items()} == dict.fromkeys(
            ("train", "boosting", "forest"), "FINISHED"
        )
        assert (found["train"].data.params, found["train"].data.metrics) == ({"month": "3"}, {"rows": 3.0})
        assert found["boosting"].data.tags["mlflow.parentRunId"] == own
        assert found["forest"].data.tags["mlflow.parentRunId"] == found["boosting"].info.run_id
        assert {name: each.data.metrics.get("auc") for name, each in found.items()} == {
            "train": None,
            "boosting": 0.5,
            "forest": 0.25,
        }
        assert [each.path for each in plain.client.list_artifacts(own)] == ["nbmlops", "out.html", "out.ipynb"]


def test_a_run_keeps_what_its_kernel_executed(project: Project, write_notebook: WriteNotebook) -> None:
    notebook = write_notebook("train.ipynb", "seed = 7", INSIDE, tagged="month = 1")
    done = run(project, str(notebook), parameters={"month": "3"})
    tracking = project.open(Tracking)
    assert Operations(project.folder).sync().left == 0  # nothing, but on a machine that is very busy
    found = tracking.client.get_run(done.run_id)
    assert found.data.tags["nbmlops.order"] == "linear"
    assert found.data.tags["nbmlops.seeds"] == "seed=7"
    assert found.data.tags["nbmlops.notebook"] == "notebooks/train.ipynb"
    kept = {each.path for each in tracking.client.list_artifacts(done.run_id, "nbmlops")}
    assert kept >= {"nbmlops/source.py", "nbmlops/requirements.lock", "nbmlops/environment.json"}
    source = Path(tracking.client.download_artifacts(done.run_id, "nbmlops/source.py")).read_text()
    assert "seed = 7" in source
    assert "month = 3" in source
    environment = json.loads(
        Path(tracking.client.download_artifacts(done.run_id, "nbmlops/environment.json")).read_text()
    )
    assert environment["source"] == str(notebook)
    assert Operations(project.folder).show("boosting").parent_id == done.run_id
    assert Operations(project.folder).show("boosting").source == "notebooks/train.ipynb"
    assert os.environ.get("NBMLOPS_RUN") is None
