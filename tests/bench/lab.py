"""The extension of a Jupyter server: what it adds to the start, a page of runs, and how soon events arrive."""

import atexit
import contextlib
import functools
import json
import os
import random
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import places
import reading
from contest import Bench, Figures

TOKEN = "bench"
N_PAGES, N_EVENTS = 20, 40


# --------------------------------------------------------------- a Jupyter server
@contextlib.contextmanager
def jupyter(folder: Path, *, extended: bool = True, program: str = "jupyter_server") -> Iterator[tuple[str, int]]:
    """Run a Jupyter server above a folder, with our extension or without; give its URL and id when it answers."""
    home = Path(tempfile.mkdtemp(prefix="nbmlops-bench-"))
    settings = {f"JUPYTER_{name}_DIR": str(home / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, "-m", program, "--no-browser", "--allow-root", f"--ServerApp.port={port}"]
    words += [f"--ServerApp.root_dir={folder}", f"--IdentityProvider.token={TOKEN}"]
    words += ["--LabApp.expose_app_in_browser=True"] if program == "jupyterlab" else []
    words += [f"--ServerApp.jpserver_extensions={{'nbmlops.surfaces.server': {extended}}}"]
    with (home / "log").open("wb") as log:
        environment = {**os.environ, **settings, "NBMLOPS_AGENT": "off"}
        process = subprocess.Popen(words, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}/"
        while True:
            with contextlib.suppress(OSError):
                ask(url, "api/status")
                break
            time.sleep(0.01)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait()


def ask(url: str, path: str, body: Any = None) -> Any:
    """Ask a server, by POST where there is a body."""
    headers = {"Authorization": f"token {TOKEN}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{url}{path}", data, headers), timeout=60) as answer:
        return json.load(answer)


# --------------------------------------------------------------------- the start
def start_with() -> Figures:
    """Start a server with the extension, until it answers."""
    return _started(extended=True)


def start_without() -> Figures:
    """Start a server without it."""
    return _started(extended=False)


def _started(*, extended: bool) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        with jupyter(Path(folder), extended=extended) as (_, pid):
            return {"s": time.perf_counter() - started, "s of a core": cpu_s(pid)}


ADDED = """
import json, time
from jupyter_server.serverapp import ServerApp

app = ServerApp.instance()
words = ["--allow-root", "--ServerApp.jpserver_extensions={'nbmlops': False}"]
app.initialize(words, find_extensions=False, new_httpserver=False)
started = time.perf_counter()
import nbmlops.surfaces.server as extension
extension._load_jupyter_server_extension(app)
print(json.dumps({"ms": (time.perf_counter() - started) * 1000}))
"""
IMPORT = """
import json, time
started = time.perf_counter()
import jupyter_server.serverapp
print(json.dumps({"ms": (time.perf_counter() - started) * 1000}))
"""


def added() -> Figures:
    """Import the extension and link it, as a server does that has loaded its own parts."""
    return _told_by(ADDED)


def their_import() -> Figures:
    """Import the server."""
    return _told_by(IMPORT)


def _told_by(script: str) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        return places.told_by(script, Path(folder))


# ----------------------------------------------------------------- a page of runs
_open = contextlib.ExitStack()  # what serves several benches
atexit.register(_open.close)


@functools.cache
def many() -> Path:
    """Make a project of 10,000 runs."""
    uri, _ = reading.store()
    folder = _open.enter_context(places.project(uri.partition("?")[0]))
    policy = folder / "nbmlops.toml"
    policy.write_text(policy.read_text().replace('name = "bench"', 'name = "many"'))
    (folder / ".nbmlops" / "mlflow.db").unlink()
    (folder / ".nbmlops" / "mlflow.db").symlink_to(uri.removeprefix("sqlite:///").partition("?")[0])
    return folder


@functools.cache
def servers() -> tuple[str, str]:
    """Serve it by a Jupyter server, and its database by an MLflow server."""
    theirs = _open.enter_context(places.server(many()))
    return _open.enter_context(jupyter(many()))[0], theirs


def our_page() -> Figures:
    """Ask our route for 50 runs."""
    url, _ = servers()
    return _paged(lambda: ask(url, "nbmlops/verbs/runs", {"arguments": {"limit": 50}}))


def their_page() -> Figures:
    """Ask MLflow's own server for 50 runs."""
    _, url = servers()
    name = ask(url, "/api/2.0/mlflow/experiments/get-by-name?experiment_name=many")
    question = {"experiment_ids": [name["experiment"]["experiment_id"]], "max_results": 50}
    return _paged(lambda: ask(url, "/api/2.0/mlflow/runs/search", question)["runs"])


def _paged(page: Any) -> Figures:
    page()  # what is loaded once
    took = []
    for _ in range(N_PAGES):
        started = time.perf_counter()
        assert len(page()) == 50
        took.append((time.perf_counter() - started) * 1000)
    return {"ms": statistics.median(took)}


# ------------------------------------------------------------------------- events
def events() -> Figures:
    """Change the runs' store from outside, until the event is there on a browser's socket."""
    import websocket

    with places.project() as folder, jupyter(folder) as (url, _):
        ask(url, "nbmlops/watch", {"folder": ""})
        address = f"{url.replace('http', 'ws', 1)}api/events/subscribe"
        ear = websocket.create_connection(address, header=[f"Authorization: token {TOKEN}"], suppress_origin=True)
        with contextlib.closing(ear):
            return _waited(folder, lambda _: _hear(ear, 10), lambda: _hush(ear))


def polled() -> Figures:
    """Ask the same server each second whether anything has changed."""
    with places.project() as folder, jupyter(folder) as (url, _):

        def stamp() -> Any:
            return ask(url, "nbmlops/watch", {"folder": ""})["stamps"]["runs"]

        def poll(before: Any) -> None:
            while stamp() == before:
                time.sleep(1)

        return _waited(folder, poll, stamp, n=N_EVENTS // 4)


def _waited(folder: Path, come: Callable[[Any], object], before: Callable[[], Any], n: int = N_EVENTS) -> Figures:
    """Change the store at moments that no look foresees; wait each time until that has come."""
    took = []
    with contextlib.closing(sqlite3.connect(folder / ".nbmlops" / "mlflow.db")) as store:
        for number in range(n):
            time.sleep(0.3 + random.random())
            seen = before()
            with store:
                store.execute("UPDATE experiments SET last_update_time = ?", [number])
            changed = time.perf_counter()
            come(seen)
            took.append((time.perf_counter() - changed) * 1000)
    return {"ms, median": statistics.median(took), "ms, p95": statistics.quantiles(took, n=20)[-1]}


def _hear(ear: Any, patience_s: float) -> None:
    ear.settimeout(patience_s)
    while json.loads(ear.recv())["schema_id"] != "https://nbmlops/changed":
        pass


def _hush(ear: Any) -> None:
    """Hear what is still to come of the change before."""
    with contextlib.suppress(Exception):
        while True:
            _hear(ear, 0.01)


def watching() -> Figures:
    """Watch a quiet project for some seconds, and read how much of a core that takes."""
    with places.project() as folder, jupyter(folder) as (url, pid):
        ask(url, "nbmlops/watch", {"folder": ""})
        ask(url, "nbmlops/verbs/models", {})  # loads what else would be loaded in the background meanwhile
        return _used(pid)


def idling() -> Figures:
    """Read the same of a server that nobody has asked to watch."""
    with places.project() as folder, jupyter(folder) as (url, pid):
        ask(url, "nbmlops/verbs/models", {})
        return _used(pid)


def _used(pid: int) -> Figures:
    time.sleep(2)
    before, began = cpu_s(pid), time.perf_counter()
    time.sleep(5)
    return {"% of a core": 100 * (cpu_s(pid) - before) / (time.perf_counter() - began)}


def cpu_s(pid: int) -> float:
    """Read how long a process has computed."""
    import psutil

    used = psutil.Process(pid).cpu_times()
    return float(used.user + used.system)


BENCHES = (
    Bench(
        "the start of a Jupyter server",
        ours=start_with,
        peers={"without the extension": start_without},
        promise="at most 0.2 s more",
        turns=11,  # one differs from the next by more than the extension takes
    ),
    Bench(
        "the extension's part of that start",
        ours=added,
        peers={"the import of the Jupyter server": their_import},
        promise="at most 200 ms",
    ),
    Bench(
        "a page of 50 of 10,000 runs over REST",
        ours=our_page,
        peers={"`runs/search` of an MLflow server": their_page},
        promise="at most 100 ms",
    ),
    Bench(
        "from a store's change to the event",
        ours=events,
        peers={"polling each second": polled},
        promise="median at most 200 ms",
        turns=1,
    ),
    Bench(
        "watching a quiet project",
        ours=watching,
        peers={"nobody watches": idling},
        promise="at most 2 % of a core",
        turns=3,
    ),
)
