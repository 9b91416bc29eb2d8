"""The verbs of serving: deploy, endpoints, predict, undeploy."""

import contextlib
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbmlops.data.tables import check_ending, read_table, write_table
from nbmlops.errors import ConflictError, DataError, NotFoundError, StoreError, UsageError, nearest
from nbmlops.project import Project
from nbmlops.serving.endpoints import (
    Deployment,
    Endpoint,
    Predictions,
    Server,
    ServerSpec,
    Undeployment,
    check_endpoint_name,
)
from nbmlops.verb import DataRef, EndpointName, ModelRef, Rows, verb

if TYPE_CHECKING:
    import pandas as pd

    from nbmlops.registry.versions import ModelVersion


@verb
def deploy(
    project: Project,
    model: ModelRef,
    *,
    as_: EndpointName | None = None,
    port: int | None = None,
    dry_run: bool = False,
) -> Deployment:
    """Serve a model version over HTTP on this machine.

    Copies the version's bytes, checks them against their manifest, and starts a
    server process on 127.0.0.1 that answers MLflow's ``/ping`` and
    ``/invocations``. The process first predicts the model's own input example;
    only then it takes the endpoint's port over from the one before, and no
    request is lost. If it fails, what was live stays live.

    Parameters
    ----------
    model
        ``name/version`` or ``name@alias``; a name alone means ``name@champion``.
    as_
        The endpoint's name; the model's name unless given.
    port
        The port to listen on; unless given the endpoint keeps its port, or gets a free one.
    dry_run
        Only tell what would be deployed.

    Returns
    -------
    Deployment
        The version and its URL.

    Raises
    ------
    DeployError
        The new server did not start, or failed on its own input example.
    ConflictError
        The bytes are not those that were registered, or another machine serves that endpoint.
    NotFoundError
        There is no such version.

    Examples
    --------
    ``nbmlops deploy delays@champion --as delays --port 8001``

    Plain code
    ----------
    import os
    import subprocess
    import sys

    model, port = $model, $port or 5001
    uri = f"models:/{model}" if "/" in model or "@" in model else f"models:/{model}@champion"
    serve = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local", "-m", uri, "-p", str(port)]
    subprocess.run(serve, env={**os.environ, "MLFLOW_TRACKING_URI": $tracking})
    """
    from nbmlops.registry.mlflow import Registry
    from nbmlops.serving import processes

    started = time.monotonic()
    if port is not None and not 0 < port < 65536:
        raise UsageError(f"There is no port {port}.", "Give one from 1024 to 65535.")
    version = project.open(Registry).resolve(model)
    name = check_endpoint_name(as_ or version.name)
    if dry_run:
        old = _ours(_servers(project).get(name))
        return Deployment(name, "", version.name, version.version, 0, old.label if old else "", dry_run=True)
    with processes.only_one(lock(project, name)):
        old = _ours(_servers(project).get(name))
        with _started(project, name, version, old, port) as server:
            _ledger(project).put_endpoint(name, asdict(server))
        if old:
            _end(old)
    seconds = time.monotonic() - started
    return Deployment(
        name, server.url, server.model, server.version, server.pid, old.label if old else "", round(seconds, 3)
    )


@verb
def endpoints(project: Project) -> Rows[Endpoint]:
    """List the endpoints and whether they answer.

    Returns
    -------
    Rows of Endpoint
        By name; ``status`` is ``answers``, ``silent`` (the process runs but does not
        answer), ``dead``, or ``elsewhere`` (another machine serves it).

    Examples
    --------
    ``nbmlops endpoints``

    Plain code
    ----------
    import urllib.request

    print(urllib.request.urlopen("http://127.0.0.1:5001/ping", timeout=2).status)
    """
    return Rows(_endpoint(server) for server in _servers(project).values())


@verb
def predict(project: Project, endpoint: EndpointName, *, data: DataRef, output: str | None = None) -> Predictions:
    """Score a table on an endpoint over HTTP.

    Parameters
    ----------
    endpoint
        Its name.
    data
        The table: a path, or a DataFrame in a notebook.
    output
        Also write the table here, with the new column ``prediction``; the ending tells the format.

    Returns
    -------
    Predictions
        One a row, in the table's order, and how long it took.

    Raises
    ------
    NotFoundError
        There is no such endpoint or file; the hint names the nearest.
    DataError
        The table does not fit the model; the message is the server's own.
    StoreError
        The endpoint does not answer.

    Examples
    --------
    ``nbmlops predict delays --data march.parquet -o scored.parquet``

    Plain code
    ----------
    import json
    import urllib.request

    import pandas as pd

    rows = pd.read_parquet($data)
    body = json.dumps({"dataframe_split": json.loads(rows.to_json(orient="split", index=False))}).encode()
    request = urllib.request.Request("http://127.0.0.1:5001/invocations", body, {"Content-Type": "application/json"})
    print(json.load(urllib.request.urlopen(request))["predictions"])
    """
    from nbmlops.serving import client

    server = find_server(project, endpoint)
    frame = read_table(project, data)
    _check_scorable(frame, output)
    _check_reach(server)
    started = time.monotonic()
    found = tuple(value for chunk in client.predictions(server, frame) for value in chunk)
    seconds = time.monotonic() - started
    if output is not None:
        import pandas as pd

        write_table(frame.assign(prediction=pd.Series(found, index=frame.index)), project.output(output))
    rate = round(len(found) / seconds, 1)
    return Predictions(
        server.endpoint, server.model, server.version, len(found), round(seconds, 4), rate, found, output or ""
    )


@verb
def undeploy(project: Project, endpoint: EndpointName, *, dry_run: bool = False) -> Undeployment:
    """Stop an endpoint.

    Its server finishes the requests it has, then ends; the model's copy and the log go.

    Parameters
    ----------
    endpoint
        Its name.
    dry_run
        Only tell what would be stopped.

    Returns
    -------
    Undeployment
        What was served where.

    Raises
    ------
    NotFoundError
        There is no such endpoint; the hint names the nearest.
    ConflictError
        Another machine serves it.

    Examples
    --------
    ``nbmlops undeploy delays``

    Plain code
    ----------
    import psutil

    for process in psutil.process_iter(["cmdline"]):
        if "mlflow.pyfunc.scoring_server.app:app" in (process.info["cmdline"] or []):
            process.terminate()
    """
    from nbmlops.serving import processes

    find_server(project, endpoint)
    with processes.only_one(lock(project, endpoint)):
        server = find_server(project, endpoint)
        _ours(server)
        if not dry_run:
            _end(server)
            _ledger(project).remove_endpoint(endpoint)
            shutil.rmtree(_folder(project, endpoint), ignore_errors=True)
    return Undeployment(endpoint, server.url, server.model, server.version, dry_run)


def find_server(project: Project, endpoint: str) -> Server:
    """Find the server behind an endpoint.

    Raises
    ------
    NotFoundError
        There is no such endpoint; the hint names the nearest.
    """
    known = _servers(project)
    if endpoint not in known:
        raise NotFoundError(
            f"There is no endpoint {endpoint!r}.", nearest(endpoint, known) or "Make one: `deploy MODEL`"
        )
    return known[endpoint]


def _check_scorable(frame: "pd.DataFrame", output: str | None) -> None:
    """Refuse, before anything is sent, what could not be scored or kept."""
    if frame.empty:
        raise DataError("The table has no rows to score.")
    if output is not None:
        check_ending(Path(output))
        if "prediction" in frame.columns:
            raise ConflictError("The table has a column 'prediction' already.", "Rename it, or leave --output out.")


def _check_reach(server: Server) -> None:
    from nbmlops.serving import client, processes

    if server.host != socket.gethostname():
        where = f"{server.endpoint} is served by {server.host}, on that machine alone."
        raise StoreError(where, f"Run this on {server.host}.")
    if not processes.is_alive(server.pid, server.pid_started):
        raise client.unreachable(server, "its process is gone")


@contextlib.contextmanager
def _started(
    project: Project, name: str, version: "ModelVersion", old: Server | None, port: int | None
) -> Iterator[Server]:
    """Start a new server from a verified copy; what goes wrong from here on ends it and removes its folder."""
    from nbmlops.registry.loader import verified_copy
    from nbmlops.serving import processes

    folder = _folder(project, name) / f"{version.version}-{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True, mode=0o700)
        (folder / "model").mkdir(mode=0o700)
        copied = verified_copy(project, version, into=folder / "model")
        project.notify(f"Starting a server for {version.label} …")
        ready = processes.start(folder, _spec(name, version, copied, old, port), folder.parent / "server.log")
    except BaseException as exc:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(exc, OSError):
            raise StoreError(f"No server can be started in {folder}: {exc.strerror}.", "Check the disk.") from exc
        raise
    server = Server(
        endpoint=name,
        model=version.name,
        version=version.version,
        host=socket.gethostname(),
        port=ready.port,
        pid=ready.pid,
        pid_started=ready.pid_started,
        since=datetime.now(UTC).isoformat(timespec="seconds"),
        folder=str(folder),
    )
    try:
        yield server
    except BaseException:
        _end(server)
        raise


def _spec(name: str, version: "ModelVersion", copied: Path, old: Server | None, port: int | None) -> ServerSpec:
    from nbmlops.serving import processes

    keeps_port = old is not None and port in (None, old.port)
    can_hand_over = old is not None and keeps_port and processes.is_alive(old.pid, old.pid_started)
    return ServerSpec(
        endpoint=name,
        model=version.label,
        path=str(copied),
        port=port or (old.port if old else 0),
        port_is_required=port is not None,
        door=f"../{Path(old.folder).name}/door" if old and can_hand_over else "",
        starter=os.getpid(),
    )


def _end(server: Server) -> None:
    from nbmlops.serving import processes

    processes.stop(server.pid, server.pid_started)
    shutil.rmtree(server.folder, ignore_errors=True)


def _servers(project: Project) -> dict[str, Server]:
    return {record["endpoint"]: Server(**record) for record in _ledger(project).endpoints()}


def _ours(server: Server | None) -> Server | None:
    """Give a server back when this machine may act on it."""
    if server is not None and server.host != socket.gethostname():
        raise ConflictError(
            f"{server.host} serves the endpoint {server.endpoint}; only that machine can change it.",
            f"Run this on {server.host}, or choose another name: --as NAME",
        )
    return server


def _endpoint(server: Server) -> Endpoint:
    return Endpoint(
        server.endpoint, server.url, server.model, server.version, _status(server), server.pid, server.since
    )


def _status(server: Server) -> str:
    from nbmlops.serving import client, processes

    if server.host != socket.gethostname():
        return "elsewhere"
    if not processes.is_alive(server.pid, server.pid_started):
        return "dead"
    return "answers" if client.answers(server) else "silent"


def _folder(project: Project, name: str) -> Path:
    return project.state("endpoints", name)


def lock(project: Project, name: str) -> Path:
    """Name the lock that a change of an endpoint holds."""
    return project.state("endpoint-locks", name)


def _ledger(project: Project) -> Any:
    from nbmlops.ledger.database import Ledger

    return project.open(Ledger)
