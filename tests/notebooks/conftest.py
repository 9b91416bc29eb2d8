"""The example notebooks run by the command in fresh projects, cold and through a warm server of the tests' own."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.shown import code_cells, outputs
from tests.pipelines.test_warm import Environment, a_home, start_server

EXAMPLES = Path(__file__).parents[2] / "example_notebooks"
COMMAND = [sys.executable, "-m", "nbmlops.surfaces.cli"]
# What a run has for itself: ids and digests, moments (and how long it took, which tables show beside them), how long
# something took otherwise, processes and ports, folders.
OWN = re.compile(
    r"[\d,]+(?= records not delivered)|(?<=records not delivered since ).*"  # whether the server was asked before that
    r"|\b[0-9a-f]{8,64}\b"
    r"|\d{4}-\d\d-\d\d[T ]\d\d:\S*(?: [\d.]+)?|\d{8}T\d{6}Z"
    r"|(?<=seconds )[\d.]+|(?<=\(s\) )[\d.,]+|\d+(?= s\b| microseconds)|[\d.]+(?= ok\b)"
    r"|[\d.]+(?= [mM][sB]\b)"
    r"|(?<=pid )\d+|(?<=127\.0\.0\.1:)\d+"
    r"|/\S+/"
)
PROGRESS = "values logged \u00b7"  # shown of what takes longer than a moment


@pytest.fixture(scope="session")
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """What the commands that are compared have in common."""
    with a_home(tmp_path_factory.mktemp("home")) as environment:
        yield environment


@pytest.fixture(scope="session")
def warm(surroundings: Environment) -> Iterator[Environment]:
    """The same, with a warm server that listens."""
    server = start_server(surroundings)
    yield surroundings
    server.kill()
    server.wait()


def cold() -> Environment:
    """Give an environment in which no warm server is asked or left."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NBMLOPS_", "MLFLOW_", "CI"))}
    return {**kept, "CI": "true"}


def example_project(folder: Path, *names: str) -> Path:
    """Make a project of some of the example notebooks."""
    folder.mkdir()
    (folder / "nbmlops.toml").touch()
    for name in (*names, "flights.py"):
        shutil.copy(EXAMPLES / name, folder)
    return folder


def ran(folder: Path, notebook: str, environment: Environment, output: str = "out.ipynb", *words: str) -> Path:
    """Run a notebook by the command, and give its output."""
    line = [*COMMAND, "run", notebook, "-o", output, *words]
    done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "cold:" not in done.stderr
    return folder / output


def lasting(path: Path) -> list[tuple[str, Any]]:
    """Give each code cell with what it shows, without what every run has for itself."""
    shown = [("".join(cell["source"]), [_words(each) for each in outputs(cell)]) for cell in code_cells(path)]
    return [(source, [each for each in found if PROGRESS not in str(each)]) for source, found in shown]


def _words(shown: Any) -> Any:
    """Give texts and pages as words, each of an own thing a star."""
    if isinstance(shown, dict):
        return {name: _words(each) for name, each in shown.items()}
    if isinstance(shown, list):
        return [_words(each) for each in shown]
    return OWN.sub("*", " ".join(re.sub(r"<[^>]+>", " ", shown).split())) if isinstance(shown, str) else shown
