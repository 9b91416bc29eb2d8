"""How long a headless run of a notebook takes, warm and cold, and what writing its outputs costs, beside papermill."""

import atexit
import contextlib
import copy
import functools
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from contest import Bench, Contender, Figures
from places import PEERS, project

CELLS = (
    "month = 1",
    "import numpy as np\nimport pandas as pd",
    "import mlflow\nimport sklearn",
    "from sklearn.datasets import load_iris\nfrom sklearn.linear_model import LogisticRegression",
    "X, y = load_iris(return_X_y=True, as_frame=True)\nX.head()",
    "model = LogisticRegression(max_iter=300).fit(X, y)",
    "model.score(X, y)",
    "print(month)",
    "X.describe()",
    "X.mean()",
)
N_CELLS, PRINTED = 100, 100_000  # of the notebook that prints
BIN = Path(sys.executable).parent
WARM_UP_S = 120.0


@functools.cache
def place() -> Path:
    """Make one project for all turns, with the notebook and the same as a script."""
    always = contextlib.ExitStack()
    atexit.register(always.close)
    folder = always.enter_context(project())
    (folder / "bench.ipynb").write_text(json.dumps(notebook(CELLS)))
    (folder / "bench.py").write_text("\n".join(CELLS))
    return folder


def notebook(sources: tuple[str, ...]) -> dict[str, Any]:
    """Give a notebook whose first cell declares parameters."""
    cells = [
        {
            "cell_type": "code",
            "id": f"cell-{number}",
            "metadata": {"tags": ["parameters"]} if number == 0 else {},
            "outputs": [],
            "execution_count": None,
            "source": source,
        }
        for number, source in enumerate(sources)
    ]
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": spec}, "cells": cells}


def command(*words: str, bin_: Path = BIN, folder: Path | None = None, **environment: str) -> Figures:
    """Time a whole command, from its start to its exit."""
    cwd, env = folder or place(), {**_environment(), **environment}
    started = time.perf_counter()
    done = subprocess.run([bin_ / words[0], *words[1:]], cwd=cwd, env=env, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(done.stderr)
    return {"s": seconds}


def warm() -> Figures:
    """Time the command with a warm server."""
    server()
    return command("nbmlops", "run", "bench.ipynb", "-p", "month=3")


def by_engine() -> Figures:
    """Time papermill's command with our engine, and a warm server."""
    server()
    return command("papermill", "--engine", "nbmlops", "bench.ipynb", "out.ipynb", "-p", "month", "3")


def _environment() -> dict[str, str]:
    return {**os.environ, "XDG_RUNTIME_DIR": str(_runtime())}


@functools.cache
def _runtime() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="nbmlops-bench-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


@functools.cache
def server() -> None:
    """Start a warm server of this bench's own, and wait until it listens."""
    words = [sys.executable, "-P", "-Xfrozen_modules=off", "-m", "nbmlops.surfaces.warm"]
    process = subprocess.Popen(words, cwd="/", env=_environment(), stderr=subprocess.DEVNULL)
    atexit.register(process.wait)
    atexit.register(process.terminate)
    deadline = time.monotonic() + WARM_UP_S
    while not any(each.is_socket() for each in _runtime().glob("nbmlops/*")):
        if time.monotonic() > deadline:
            raise RuntimeError("the warm server does not listen")
        time.sleep(0.1)


# ------------------------------------------------------------------------- writing
def log_and_one_write() -> Figures:
    """Write what 100 cells print: each piece into the log, the notebook once."""
    from nbmlops.pipelines.execution.record import Log, Record, write

    content = notebook(("",) * N_CELLS)
    text = "x" * 99 + "\n"
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        log, record = Log(Path(folder, "log.jsonl"), content, Path(folder, "out.ipynb")), Record(content)
        for index in range(N_CELLS):
            for event in _events(index, text * (PRINTED // len(text))):
                log.append(event)
                record.take(event)
        write(record.settled(), Path(folder, "out.ipynb"))
        seconds = time.perf_counter() - started
        written = sum(each.stat().st_size for each in Path(folder).iterdir())
    return {"s": seconds, "MB": written / 1e6}


def _events(index: int, text: str) -> list[Mapping[str, Any]]:
    cell = {"event": "cell", "cell": index, "at": 0.0}
    printed = {"event": "output", "cell": index, "kind": "stream", "content": {"name": "stdout", "text": text}}
    return [{**cell, "status": "running"}, printed, {**cell, "status": "ok", "count": index + 1, "seconds": 0.0}]


def papermill_writes() -> Figures:
    """Write the same with papermill's own manager, which saves as each cell starts and ends."""
    import nbformat
    from papermill import engines, iorw

    node = nbformat.from_dict(copy.deepcopy(notebook(("",) * N_CELLS)))
    node.metadata["papermill"] = {}
    written = 0
    plain_write = iorw.papermill_io.write

    def counted(text: str, path: str, extensions: Any = None) -> Any:
        nonlocal written
        written += len(text.encode())
        return plain_write(text, path, extensions) if extensions else plain_write(text, path)

    iorw.papermill_io.write = counted
    try:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
            manager = engines.NotebookExecutionManager(node, output_path=f"{folder}/out.ipynb", progress_bar=False)
            started = time.perf_counter()
            manager.notebook_start()
            for index, cell in enumerate(node.cells):
                manager.cell_start(cell, index)
                cell.outputs = [nbformat.v4.new_output("stream", text=("x" * 99 + "\n") * (PRINTED // 100))]
                manager.cell_complete(cell, index)
            manager.notebook_complete()
            seconds = time.perf_counter() - started
    finally:
        iorw.papermill_io.write = plain_write
    return {"s": seconds, "MB": written / 1e6}


PAPERMILL = functools.partial(command, "papermill", "bench.ipynb", "out.ipynb", "-p", "month", "3")
PLOOMBER: dict[str, Contender] = (
    {"ploomber-engine": functools.partial(command, "ploomber-engine", "bench.ipynb", "out.ipynb", bin_=PEERS.parent)}
    if PEERS.with_name("ploomber-engine").exists()
    else {}
)
BENCHES = (
    Bench(
        "a notebook of ten cells (pandas, scikit-learn, MLflow, a small fit), `nbmlops run` warm",
        ours=warm,
        peers={
            "the papermill command": PAPERMILL,
            "`jupyter execute`": functools.partial(command, "jupyter", "execute", "--output=out.ipynb", "bench.ipynb"),
            **PLOOMBER,
            "the same as a plain script": functools.partial(command, "python", "bench.py"),
        },
        promise="at most 1/20 of papermill",
    ),
    Bench(
        "the same, cold",
        ours=functools.partial(command, "nbmlops", "run", "bench.ipynb", "-p", "month=3", NBMLOPS_WARM="off"),
        peers={"the same as a plain script": functools.partial(command, "python", "bench.py")},
        promise="at most 1.25 of the script",
    ),
    Bench(
        "the same by `papermill --engine nbmlops`, warm",
        ours=by_engine,
        peers={"the papermill command": PAPERMILL},
        promise="less",
        turns=3,
    ),
    Bench(
        "writing what 100 cells of 100 kB print",
        ours=log_and_one_write,
        peers={"papermill's manager": papermill_writes},
        promise="at most 1/10",
        turns=3,
    ),
)
