"""A project in the middle of its life to copy, a real Jupyter server above the copies, and a real IPython."""

import atexit
import contextlib
import itertools
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import requests
from IPython.core.interactiveshell import InteractiveShell
from sklearn.linear_model import LogisticRegression
from traitlets.config import Config

from conftest import end_tracking
from nbmlops.ledger.steps import Steps
from nbmlops.pipelines import jobs
from nbmlops.pipelines.execution.record import Log
from nbmlops.project import Project
from nbmlops.registry.verbs import promote, register
from nbmlops.serving.processes import leftovers, stop
from nbmlops.tracking.mlflow import Tracking
from nbmlops.validation.verbs import validate

TOKEN = "a-token-of-these-tests"
POLICY = """\
[project]
name = "flights"

[gates.default]
target = "late"
data = "holdout.parquet"
metrics.roc_auc = { min = 0.6 }

[gates.hopeless]
target = "late"
data = "holdout.parquet"
metrics.roc_auc = { min = 1.0 }
"""
# Read by the Jupyter server as its configuration: two verbs more, which no user has.
FAULTS = f"""\
import sys
from nbmlops.vocabulary import VERBS, Entry
sys.path.insert(0, {str(Path(__file__).parent)!r})
VERBS["faulty"] = Entry("faults:faulty", "Fail as a bug does.", "read", "project")
VERBS["slow"] = Entry("faults:slow", "Read a file, however long that takes.", "read", "project")
"""
PARAMETERS = "month = 3  # of 2013\nrate = 0.1"
Copy = Callable[[], Path]


def as_notebook(*sources: str, tagged: str = "") -> dict[str, Any]:
    """A notebook of code cells, the first one tagged ``parameters`` if given."""
    cells = [
        {
            "cell_type": "code",
            "execution_count": None,
            "id": f"cell-{number}",
            "metadata": {"tags": ["parameters"]} if tagged and number == 0 else {},
            "outputs": [],
            "source": source,
        }
        for number, source in enumerate([tagged, *sources] if tagged else sources)
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel}, "cells": cells}


# ------------------------------------------------------------------ a project
def flights(seed: int, shift: float = 0.0) -> pd.DataFrame:
    """Made-up departures whose lateness follows their delay."""
    rng = np.random.default_rng(seed)
    delay = rng.normal(shift, 1, 600)
    return pd.DataFrame({"delay": delay, "hour": rng.uniform(5, 23, 600), "late": delay + rng.normal(0, 0.4, 600) > 0})


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> Path:
    """A project with two finished runs, an open one, a champion and the version before it, data and a notebook."""
    root = tmp_path_factory.mktemp("template") / "flights"
    (root / ".nbmlops").mkdir(parents=True)
    shutil.copy(empty_mlflow, root / ".nbmlops" / "mlflow.db")
    (root / "nbmlops.toml").write_text(POLICY)
    (root / ".gitignore").write_text(".nbmlops/\n")
    for name, table in {"january": flights(1), "march": flights(2, shift=0.5), "holdout": flights(3)}.items():
        table.to_parquet(root / f"{name}.parquet")
    flights(4).drop(columns="late").head(5).to_parquet(root / "five.parquet")
    (root / "train.ipynb").write_text(json.dumps(as_notebook("print(month * rate)", tagged=PARAMETERS)))
    with _untouched_environment():
        _live(Project(root))
        end_tracking()  # all of it delivered: a copy's journal would have no writer
    return root


def _live(project: Project) -> None:
    january = flights(1)
    features, truth = january.drop(columns="late"), january["late"].astype(int)
    for version, strength in enumerate((0.01, 1.0), start=1):
        register(project, LogisticRegression(C=strength).fit(features, truth), "delays", input_example=features)
        validate(project, f"delays/{version}")
        promote(project, f"delays/{version}")
    tracking = project.open(Tracking)
    for name, depth, auc in (("first", 3, 0.7), ("second", 4, 0.8), ("open", 5, 0.9)):
        run_id = tracking.client.create_run(tracking.experiment_id, run_name=name).info.run_id
        tracking.log(run_id, {"auc": auc}, {"depth": depth}, {"team": "ops"}, 0, [])
        tracking.client.log_text(run_id, "# %% [1] ok\nauc = 0.7\n", "nbmlops/source.py")
        if name != "open":
            tracking.client.set_terminated(run_id)
    job = jobs.beginning(job="a" * 12, name="train", notebook="train.ipynb", given={"month": 4})
    jobs.put(project, job)
    jobs.put(project, replace(job, status="FAILED", cell="cell 2", message="ValueError: no flights"))
    jobs.put(project, jobs.beginning(job="b" * 12, name="train", notebook="train.ipynb", given={"month": 5}))
    asked = jobs.beginning(job="c" * 12, name="retrain", given={})
    jobs.put(project, asked)
    jobs.put(project, replace(asked, status="WAITING"))
    project.open(Steps).claim("retrain", "look", job="c" * 12, key="k", status="WAITING")
    log = Log(
        project.state("jobs", "a" * 12, "log.jsonl"), as_notebook("print(month * rate)"), project.root / "out.ipynb"
    )
    log.append({"event": "cell", "cell": 0, "status": "running", "at": 0.0})
    log.append({"event": "output", "cell": 0, "kind": "stream", "content": {"name": "stdout", "text": "0.4\n"}})
    log.close()


@contextlib.contextmanager
def _untouched_environment() -> Iterator[None]:
    """What MLflow writes into the environment while a session's fixture is made must reach no test."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith(("NBMLOPS_", "MLFLOW_"))]:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def copy_project(source: Path, target: Path) -> Path:
    """Copy a project with its stores; MLflow keeps absolute paths, so these are written anew."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.db*", "ledger-heads"))
    for store in ("mlflow.db", "ledger.db"):
        with contextlib.closing(sqlite3.connect(source / ".nbmlops" / store)) as connection:
            connection.execute("VACUUM INTO ?", [str(target / ".nbmlops" / store)])
    with contextlib.closing(sqlite3.connect(target / ".nbmlops" / "mlflow.db")) as connection, connection:
        for table, column in _PLACES:
            connection.execute(f"UPDATE {table} SET {column} = REPLACE({column}, ?, ?)", [str(source), str(target)])
    return target


_PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


@pytest.fixture(scope="session")
def below(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which copies are made: the Jupyter server's root."""
    return tmp_path_factory.mktemp("below")


@pytest.fixture
def copied(template: Path, below: Path) -> Iterator[Copy]:
    """Makes a copy of the project in the middle of its life; no server of any copy outlives the test."""
    made: list[Path] = []

    def make() -> Path:
        number = next(_numbers)
        made.append(copy_project(template, below / f"flights-{number}"))
        return made[-1]

    yield make
    for root in made:
        for left in leftovers(root, ()) if (root / ".nbmlops" / "endpoints").exists() else ():
            stop(left.pid, left.pid_started)


_numbers = itertools.count(1)


@pytest.fixture
def lived(copied: Copy, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project in the middle of its life, which is also the working folder."""
    root = copied()
    monkeypatch.chdir(root)
    return root


# ------------------------------------------------------------ a Jupyter server
@dataclass(frozen=True)
class JupyterServer:
    """A running server: where it listens, and the folder above all that it may touch."""

    url: str
    root: Path
    log: Path

    def ask(self, method: str, path: str, *, token: str = TOKEN, **more: Any) -> requests.Response:
        """Send one request with the token in its header."""
        headers = {"Authorization": f"token {token}"} if token else {}
        headers |= more.pop("headers", {})
        return requests.request(method, f"{self.url}{path}", headers=headers, timeout=120, **more)

    def perform(self, verb: str, arguments: dict[str, Any], folder: Path | None = None) -> requests.Response:
        """Post one verb."""
        body = {"arguments": arguments, "folder": str((folder or self.root).relative_to(self.root))}
        return self.ask("POST", f"nbmlops/verbs/{verb}", json=body)


@pytest.fixture(scope="session")
def server(below: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    """A real Jupyter server in a process of its own, with our extension as the package's own file switches it on."""
    with jupyter_server(tmp_path_factory.mktemp("jupyter"), below, FAULTS) as made:
        yield made


@contextlib.contextmanager
def jupyter_server(home: Path, below: Path, configuration: str) -> Iterator[JupyterServer]:
    """Run a Jupyter server above a folder, with settings and files of its own in `home`."""
    log = home / "log"
    (home / "config").mkdir()
    (home / "config" / "jupyter_server_config.py").write_text(configuration)
    environment = own_jupyter(home)
    command = [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"]
    command += [f"--ServerApp.root_dir={below}", f"--IdentityProvider.token={TOKEN}", "--ServerApp.port=18888"]
    command += ["--ServerApp.port_retries=500", "--ServerApp.jpserver_extensions={'nbmlops': True}"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        yield JupyterServer(wait_for_url(process, home / "runtime", log), below, log)
    finally:
        process.terminate()
        process.wait(30)


def own_jupyter(home: Path) -> dict[str, str]:
    """The environment of a Jupyter of its own, with nothing of the caller's settings."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("NBMLOPS_", "MLFLOW_", "JUPYTER"))
    }
    kept.pop("CI", None)
    kept["NBMLOPS_AGENT"] = "off"
    places = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime"}
    return kept | {name: str(home / folder) for name, folder in {**places, "IPYTHONDIR": "ipython"}.items()}


def wait_for_url(process: subprocess.Popen[bytes], runtime: Path, log: Path) -> str:
    """Wait until a Jupyter server listens and has told where."""
    told = runtime / f"jpserver-{process.pid}.json"
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError, ValueError, requests.ConnectionError):
            url = str(json.loads(told.read_text())["url"])
            requests.get(f"{url}api", timeout=60)  # it tells where before it listens there
            return url
        time.sleep(0.05)
    raise AssertionError(f"The Jupyter server did not start:\n{log.read_text()}")


# ------------------------------------------------------------------ an IPython
@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    """A real IPython with the extension loaded; it is the process's own while the test runs."""
    InteractiveShell.clear_instance()
    made = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    before = dict(os.environ)
    made.run_line_magic("load_ext", "nbmlops")
    yield made
    os.environ.clear()
    os.environ.update(before)
    import mlflow

    while mlflow.active_run():
        mlflow.end_run()
    atexit.unregister(made.atexit_operations)
    InteractiveShell.clear_instance()
