"""How a run ends when its process does: real processes, and a real kernel."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import start_new_kernel

from nbmlops.surfaces.python import Operations
from nbmlops.tracking.journal import sync
from nbmlops.tracking.mlflow import Tracking

# Each ending is a script of its own: a process that tracks, does that, and leaves. They are forked
# once MLflow is imported, because each import takes seconds.
FORKS = """
import json, os, sys
import mlflow.store.tracking.sqlalchemy_store
import nbmlops

started = {}
for name, ending in json.loads(sys.argv[1]).items():
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        ops = nbmlops.open()
        ops.track(name)
        exec(ending)
        break
    started[pid] = name
else:
    codes = {started[pid]: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in started}
    print(json.dumps(codes))
"""
# what the script does after `ops.track()`: its exit code, the run's end, and the error that is told of
ENDINGS: dict[str, tuple[int, str, str | None]] = {
    "nbmlops.log(auc=0.5)": (0, "FINISHED", None),
    "raise ValueError('no flights')": (1, "FAILED", "ValueError: no flights"),
    "sys.exit()": (0, "FINISHED", None),
    "sys.exit(0)": (0, "FINISHED", None),
    "sys.exit(3)": (3, "FAILED", "SystemExit: 3"),
    "sys.exit('no flights')": (1, "FAILED", "SystemExit: no flights"),
    "import signal; os.kill(os.getpid(), signal.SIGINT); signal.pause()": (-2, "KILLED", "KeyboardInterrupt"),
    "ops.end(); raise ValueError('later')": (1, "FINISHED", None),
    "try: sys.exit(3)\nexcept SystemExit: ops.end()": (0, "FINISHED", None),
    "try: sys.exit(3)\nexcept SystemExit: ops.track('the next')": (0, "FAILED", "SystemExit: 3"),
    "import mlflow; mlflow.end_run('KILLED'); raise ValueError('later')": (1, "KILLED", None),
    "os.kill(os.getpid(), 9)": (-9, "FAILED", "its process is gone"),
    "os._exit(4)": (4, "FAILED", "its process is gone"),
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> tuple[Operations, dict[str, int], str]:
    """The project after all of them, each one's exit code, and what they wrote to stderr."""
    root = tmp_path_factory.mktemp("endings")
    (root / "nbmlops.toml").write_text('[stores]\ntracking = "sqlite:///mlflow.db"\n')
    (root / "mlflow.db").write_bytes(empty_mlflow.read_bytes())
    ops = Operations(root)
    assert ops.project.open(Tracking).experiment_id
    command = [sys.executable, "-c", FORKS, json.dumps(dict(zip(ENDINGS, ENDINGS, strict=True)))]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    sync.sweep(ops.project.state("journal"), sync.Stores())
    return ops, json.loads(done.stdout.splitlines()[-1]), done.stderr


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_runs_end_is_the_processs(ended: tuple[Operations, dict[str, int], str], ending: str) -> None:
    ops, codes, _ = ended
    tracking = ops.project.open(Tracking)
    run = tracking.client.get_run(tracking.find(ending).run_id)
    code, status, error = ENDINGS[ending]
    assert (codes[ending], run.info.status, run.data.tags.get("nbmlops.error")) == (code, status, error)


def test_a_run_left_open_is_settled_by_the_next(ended: tuple[Operations, dict[str, int], str]) -> None:
    assert ended[0].runs(name="the next")[0].status == "FINISHED"


def test_an_error_is_still_shown_as_python_shows_it(ended: tuple[Operations, dict[str, int], str]) -> None:
    assert "Traceback (most recent call last):" in ended[2]
    assert "ValueError: no flights" in ended[2]


# ----------------------------------------------------------------- in this process
def test_a_run_left_open_is_ended_by_the_next_as_finished(ops: Operations) -> None:
    first, second = ops.track("first"), ops.track("second")
    assert ops.show(first.run_id).status == "FINISHED"
    assert ops.show(second.run_id).status == "RUNNING"
    assert ops.show(second.run_id).parent_id == ""
    ops.end()


def test_a_run_of_a_headless_notebook_lies_under_the_notebooks_own(
    ops: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking = ops.project.open(Tracking)
    notebook = tracking.client.create_run(tracking.experiment_id, run_name="train").info.run_id
    monkeypatch.setenv("NBMLOPS_RUN", notebook)
    ops.log({"rows": 3})  # with no run of its own open it is the notebook's that is meant
    ops.track("boosting")
    ops.log({"auc": 0.5})
    ended = ops.end()
    assert ended.parent_id == notebook
    assert ended.metrics == {"auc": 0.5}
    assert ops.show(notebook).metrics == {"rows": 3}
    assert ops.show(notebook).status == "RUNNING"


def test_another_run_is_logged_to_and_ended_by_name(ops: Operations) -> None:
    tracking = ops.project.open(Tracking)
    other = tracking.client.create_run(tracking.experiment_id, run_name="on another machine").info.run_id
    ops.track("mine")
    ops.log({"auc": 0.5}, run="on another machine")
    assert ops.end(run=other[:12], status="KILLED").metrics == {"auc": 0.5}
    mine = ops.end()
    assert (mine.name, mine.status, mine.metrics) == ("mine", "FINISHED", {})


def test_autolog_logs_a_fit_to_the_projects_store_until_it_is_off(ops: Operations) -> None:
    from sklearn.linear_model import LinearRegression

    assert ops.autolog().is_on
    try:
        LinearRegression().fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 2.1])
    finally:
        assert not ops.autolog(off=True).is_on
    LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0])
    [run] = ops.runs()
    assert run.status == "FINISHED"
    assert run.params["fit_intercept"] == "True"
    assert run.metrics["training_r2_score"] > 0.9


# -------------------------------------------------------------------- in a kernel
class Cells:
    """A real kernel that a test runs cells in."""

    def __init__(self, folder: Path) -> None:
        self._manager, self._client = start_new_kernel(kernel_name="python3", cwd=str(folder))

    def run(self, cell: str) -> str:
        """Run a cell; give its error's class, empty if it raised none."""
        shown: list[dict[str, Any]] = []
        reply = self._client.execute_interactive(cell, timeout=60, output_hook=shown.append)
        return str(reply["content"].get("ename", ""))

    def end(self) -> None:
        """Shut the kernel down as JupyterLab does; once it is, this does nothing."""
        if self._manager.has_kernel:
            self._client.stop_channels()
            self._manager.shutdown_kernel()


@pytest.fixture
def kernel(folder: Path) -> Iterator[Cells]:
    cells = Cells(folder)
    yield cells
    cells.end()


def test_runs_of_a_notebook_end_as_its_cells_did(folder: Path, kernel: Cells) -> None:
    """One kernel for all of it, as it takes seconds to start."""
    for cell, error in {
        "%load_ext nbmlops": "",
        "import mlflow": "",
        "%%mlops track plain\nmlflow.log_metric('auc', 0.5)\nwith mlflow.start_run(nested=True): pass": "",
        "%%mlops track broken\n1 / 0": "ZeroDivisionError",
        "%%mlops track sound -p depth=3\nresult = 7": "",
        "assert result == 7": "",
        "%mlops track over": "",
        "1 / 0 ": "ZeroDivisionError",
        "%mlops track mended": "",
        "1 / 0  ": "ZeroDivisionError",
        "%mlops end": "",
        "mlflow.start_run(run_name='plain MLflow'); mlflow.end_run()": "",
        "%mlops track open": "",
        "1 / 0   ": "ZeroDivisionError",
    }.items():
        assert kernel.run(cell) == error, cell
    kernel.end()

    ops = Operations(folder)
    client = ops.project.open(Tracking).client
    found = {run.name: client.get_run(run.run_id) for run in ops.runs()}
    ends = {name: (run.info.status, run.data.tags.get("nbmlops.error")) for name, run in found.items()}
    zero = "ZeroDivisionError: division by zero"
    wanted = {
        "plain": ("FINISHED", None),
        "broken": ("FAILED", zero),
        "sound": ("FINISHED", None),  # what failed before it began is not its failure
        "over": ("FAILED", zero),  # settled by the next
        "mended": ("FINISHED", None),  # somebody says so
        "plain MLflow": ("FINISHED", None),
        "open": ("FAILED", zero),  # the kernel ended
    }
    assert {name: ends[name] for name in wanted} == wanted
    [nested] = set(found) - set(wanted)
    assert found["plain"].data.metrics == {"auc": 0.5}
    assert found[nested].data.tags["mlflow.parentRunId"] == found["plain"].info.run_id
    assert found["sound"].data.params == {"depth": "3"}
