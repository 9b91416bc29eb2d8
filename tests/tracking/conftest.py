"""Every store that runs can live in: SQLite, a real Postgres, a real `mlflow server`."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import end_tracking
from nbmlops.surfaces.python import Operations
from nbmlops.tracking.mlflow import Tracking

STORES = ("sqlite", "postgres", "http")


@contextlib.contextmanager
def serving(folder: Path, port: int = 0) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """Run an MLflow server on a folder that has an ``mlflow.db``; give its URL and process; nothing of it is left."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        port = probe.getsockname()[1]
    stores = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "files")]
    place = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *stores, *place],
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}", process, folder / "server.log")
        yield f"http://127.0.0.1:{port}", process
    finally:
        end_server(process)


def wait_until_healthy(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until the server answers; one that ends instead fails with its log."""
    for _ in range(1800):
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=1) as response:
            assert response.status == 200
            return
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def end_server(process: "subprocess.Popen[bytes]") -> None:
    """End a server and its worker, as a machine that fails does."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> Iterator[str]:
    """URL of an MLflow server of this test process alone."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_mlflow, folder / "mlflow.db")
    with serving(folder) as (url, _):
        yield url


@pytest.fixture(scope="session")
def mlflow_postgres(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a Postgres database with MLflow's schema, which takes seconds to make."""
    import psycopg

    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute("CREATE DATABASE mlflow")
        url = postgres_server.replace("/postgres?", "/mlflow?")
        Tracking(url, "Default", tmp_path_factory.mktemp("artifacts"))
        yield url
        connection.execute("DROP DATABASE mlflow WITH (FORCE)")


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> str:
    """The kind of store."""
    return str(request.param)


@pytest.fixture
def team(request: pytest.FixtureRequest, store: str, folder: Path) -> Iterator[Operations]:
    """The verbs on a project of its own name, whose runs live in each kind of store in turn."""
    urls = {"postgres": "mlflow_postgres", "http": "mlflow_server"}
    tracking = request.getfixturevalue(urls[store]) if store in urls else "sqlite:///.nbmlops/mlflow.db"
    name = f"team-{uuid.uuid4().hex[:8]}"
    (folder / "nbmlops.toml").write_text(f'[project]\nname = "{name}"\n[stores]\ntracking = "{tracking}"\n')
    yield Operations(folder)
    end_tracking()
