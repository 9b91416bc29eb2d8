"""A project with a model that is compiled and one that is not, and exported contexts that run as an image would."""

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import psutil
import pytest
from sklearn.neighbors import KNeighborsClassifier

from nbmlops.project import Project
from nbmlops.registry.verbs import register
from nbmlops.serving.worker import bind
from tests.serving.conftest import fitted

TOKEN = "t0ken-of-a-test"
START_S = 90


@pytest.fixture(scope="module")
def neighbours(shop: Project, flights: pd.DataFrame) -> str:
    """A version that cannot be compiled."""
    model = fitted(flights, KNeighborsClassifier())
    made = register(shop, model, "neighbours", input_example=flights.drop(columns="late").head(5))
    return f"{made.name}/{made.version}"


def instructions_of(dockerfile: str) -> list[tuple[str, str]]:
    """Read a Dockerfile: instructions with what follows them, lines that go on joined."""
    lines = [line for line in dockerfile.replace("\\\n", "").splitlines() if line and not line.startswith("#")]
    return [(line.partition(" ")[0], line.partition(" ")[2].strip()) for line in lines]


class Container(NamedTuple):
    """The command of an image, run here in the folder that is its working folder."""

    process: subprocess.Popen[str]
    url: str
    folder: Path

    def post(self, rows: pd.DataFrame, token: str = "") -> tuple[int, Any]:
        body = json.dumps({"dataframe_split": json.loads(rows.to_json(orient="split", index=False))}).encode()
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        request = urllib.request.Request(f"{self.url}/invocations", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as exc:
            with exc:
                return exc.code, json.load(exc)

    def workers(self, n_workers: int) -> list[psutil.Process]:
        """So many workers, once all say that they are ready: the first one answers while others start."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            told = [json.loads(path.read_bytes()) for path in self.folder.glob("nbmlops-*/workers/*/ready.json")]
            if len(told) == n_workers:
                return [psutil.Process(each["pid"]) for each in told]
            time.sleep(0.05)
        raise AssertionError(f"There are not {n_workers} workers.")

    def children(self) -> dict[str, psutil.Process]:
        """The processes that it has started, by their modules."""
        found = psutil.Process(self.process.pid).children()
        return {next(word for word in each.cmdline() if word.startswith("nbmlops.")): each for each in found}


@contextlib.contextmanager
def container(
    context: Path, folder: Path, *more: str, python: str = sys.executable, **environ: str
) -> Iterator[Container]:
    """Run what the Dockerfile of a context says, with its wheel; the port is one that is free here."""
    said = dict(instructions_of((context / "Dockerfile").read_text()))
    with bind("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    told = context / "endpoint" / "instructions.json"
    told.write_text(json.dumps({**json.loads(told.read_text()), "port": port, "address": "127.0.0.1"}))
    words = json.loads(said["ENTRYPOINT"])
    words = [python if word == "python" else word.replace("/srv/", f"{context}/") for word in words]
    own = {"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder), **environ}
    if python == sys.executable:
        own["PYTHONPATH"] = str(next(context.glob("*.whl")))
    with (folder / "said").open("w") as output:
        process = subprocess.Popen(
            [*words, *json.loads(said["CMD"]), *more], cwd=folder, env=own, stdout=output, stderr=output, text=True
        )
        try:
            yield Container(process, f"http://127.0.0.1:{port}", folder)
        finally:
            process.terminate()
            process.wait(60)


def is_ready(running: Container) -> bool:
    """Wait until it answers; false where it ended instead."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and running.process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{running.url}/ready", timeout=2):
            return True
        time.sleep(0.05)
    return False
