"""The notebook of a rollout, run headlessly: the better model takes over, the broken one is taken back."""

import subprocess
from pathlib import Path

import nbformat
import pytest

from nbmlops.ledger.database import Ledger
from nbmlops.ledger.endpoints import Endpoints
from nbmlops.project import Project
from nbmlops.serving import processes
from tests.notebooks.conftest import COMMAND, cold, example_project

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = example_project(tmp_path_factory.mktemp("rollout") / "flights", "10_rollout.ipynb")
    words = [*COMMAND, "run", "10_rollout.ipynb", "-o", "out.ipynb"]
    run = subprocess.run(words, cwd=folder, env=cold(), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    return folder


def test_the_better_version_takes_over_and_the_broken_one_is_taken_back(executed: Path) -> None:
    project = Project(executed)
    told = [event.result["rollout"] for event in reversed(project.open(Ledger).events(verbs=("rollout",)))]
    ends = [(each["challenger"], each["state"]) for each in told if each["state"] != "running"]
    assert ends == [("trial/2", "done"), ("trial/3", "rolled_back")]
    assert "shift" in told[-1]["reason"]
    project.open(Ledger).close()


def test_nothing_is_left_of_the_endpoint(executed: Path) -> None:
    project = Project(executed)
    assert project.open(Endpoints).wanted() == {}
    assert processes.running(executed) == []
    project.open(Ledger).close()


def test_the_notebook_shows_what_happened(executed: Path) -> None:
    cells = nbformat.read(executed / "out.ipynb", as_version=4).cells
    shown = "\n".join(str(output) for cell in cells for output in cell.get("outputs", ()))
    assert "trial/2 is live" in shown
    assert "was rolled back: shift is" in shown
    assert "trial/3 against trial/2" in shown
