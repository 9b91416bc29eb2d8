"""The notebook of the closed loop, run headlessly while a person answers at a terminal; read with plain MLflow."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import mlflow
import nbformat
import pytest

from nbmlops import background
from nbmlops.errors import NbmlopsError
from nbmlops.ledger.database import Ledger
from nbmlops.pipelines import jobs
from nbmlops.project import Project
from nbmlops.serving import processes
from tests.pipelines.test_warm import start_server

EXAMPLES = Path(__file__).parents[2] / "example_notebooks"
pytestmark = pytest.mark.timeout(400)
NAMES = ("09_closed_loop.ipynb", "09_extract.ipynb", "09_train.ipynb", "flights.py")


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The project's folder after the notebook, which is `out.ipynb` in it; no process of it is left."""
    folder = tmp_path_factory.mktemp("loop") / "flights"
    folder.mkdir()
    (folder / "nbmlops.toml").touch()
    for name in NAMES:
        shutil.copy(EXAMPLES / name, folder)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NBMLOPS_", "MLFLOW_", "CI"))}
    with tempfile.TemporaryDirectory(prefix="nbmlops-", dir="/tmp") as runtime:
        own = {"IPYTHONDIR": str(folder / "ipython"), "XDG_RUNTIME_DIR": runtime, "NBMLOPS_SENDER": "off"}
        server = start_server(kept | own)
        try:
            code, said = run_and_answer(folder, kept | own)
            assert code == 0, said[-3000:]
            assert background.living(folder) is None
            yield folder
        finally:
            background.stop(folder)
            server.kill()
            server.wait()
            Project(folder).open(Ledger).close()


def run_and_answer(folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Run the notebook, and agree at a terminal as soon as it waits for that."""
    line = [sys.executable, "-m", "nbmlops.surfaces.cli"]
    with tempfile.TemporaryFile("w+") as said:
        words = [*line, "run", "09_closed_loop.ipynb", "-o", "out.ipynb"]
        notebook = subprocess.Popen(words, cwd=folder, env=environment, stdout=said, stderr=said)
        try:
            while notebook.poll() is None and not (waiting := waiting_in(folder)):
                time.sleep(0.2)
            if notebook.poll() is None:
                subprocess.run([*line, "approve", waiting], cwd=folder, env=environment, check=True, timeout=60)
            code = notebook.wait(300)
        finally:
            notebook.kill()
        said.seek(0)
        return code, said.read()


def waiting_in(folder: Path) -> str:
    """Name the job that waits for a person, once there is one."""
    project = Project(folder)
    if not (folder / ".nbmlops" / "ledger.db").exists():
        return ""
    try:
        return next((job.job for job in jobs.newest(project, name="retrain") if job.status == "WAITING"), "")
    except NbmlopsError:  # whoever made the ledger is still at it
        return ""
    finally:
        project.open(Ledger).close()


def printed(folder: Path) -> str:
    outputs = [o for cell in nbformat.read(folder / "out.ipynb", 4).cells for o in cell.get("outputs", ())]
    return "\n".join(o.get("text") or o.data.get("text/plain", "") for o in outputs)


def test_december_becomes_the_champion_and_the_broken_february_does_not(executed: Path) -> None:
    store = f"sqlite:///{executed}/.nbmlops/mlflow.db"
    client = mlflow.MlflowClient(store, store)
    aliases = client.get_registered_model("delays").aliases
    assert {alias: int(version) for alias, version in aliases.items()} == {"champion": 2, "challenger": 3}
    told = printed(executed)
    assert "drifted" in told
    assert "An approval is a person's answer" in told
    assert "Step gate: " in told


def test_every_hop_is_an_event_of_whom_it_was(executed: Path) -> None:
    with closing(Project(executed).open(Ledger)) as ledger:
        hops = ("register", "validate", "approve", "deploy", "rollout", "promote")
        events = ledger.events(verbs=hops, limit=100)[::-1]
    told = [(event.verb, event.outcome, event.by_human) for event in events]
    assert ("approve", "ApprovalError", False) in told  # the notebook's own yes, which is a machine's
    assert [each for each in told if each[1] != "ApprovalError"] == [
        *((verb, "ok", False) for verb in ("register", "validate", "promote", "deploy")),  # September
        ("register", "ok", False),
        ("validate", "ok", False),
        ("approve", "ok", True),
        ("rollout", "ok", False),
        ("rollout", "ok", False),
        ("promote", "ok", False),
        ("deploy", "ok", False),  # which had waited for the end
        ("register", "ok", False),
        ("validate", "GateError", False),
    ]


def test_december_was_tried_on_live_requests_before_it_was_champion(executed: Path) -> None:
    with closing(Project(executed).open(Ledger)) as ledger:
        rollouts = [event.result for event in ledger.events(verbs=("rollout",))[::-1]]
        [promotion] = [event for event in ledger.events(verbs=("promote",)) if event.subject == "model/delays/2"]
    assert [(each["rollout"]["step"], each["rollout"]["state"]) for each in rollouts] == [(1, "running"), (1, "done")]
    assert all(check["n"] >= 50 for each in rollouts for check in each["verdict"]["checks"])
    assert promotion.arguments["reason"].startswith("rollout on delays: ")
    assert processes.running(executed) == []
