"""The life cycle's example notebooks, run cold and through a warm server: they show the same."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipelines.test_warm import Environment

from .conftest import COMMAND, EXAMPLES, example_project, lasting, ran

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="a warm server is for Linux"),
    pytest.mark.timeout(300),
]
# In the order in which each needs those before it, with its parameters.
RUNS: dict[str, list[str]] = {
    "01_extract": [],
    "02_train": [],
    "03_promote": [],
    "04_deploy": [],
    "05_drift": [],
    "07_month": [],
    "09_extract": ["-p", "arrived=data/score.parquet"],
    "09_train": [],
}
FEW = ("01_extract", "07_month")
ELSEWHERE = {
    "06_tracking": "compared in test_tracking.py",
    "08_headless": "compared in test_headless.py",
    "11_sidebar": "shows views of what was measured, whose times differ; run in test_sidebar.py",
    "10_rollout": "shows an endpoint under requests, whose figures differ from run to run; run in test_rollout.py",
    "09_closed_loop": "shows an agent at work in the background, and waits for a person; its notebooks are here",
}
GATE = """
[gates.default]
target = "late"
data = "data/holdout.parquet"
metrics.roc_auc = { min = 0.6 }
"""


# One process runs all, which saves half a minute; the cells of each have a process of their own, which is started anew.
COLD = """\
import json, sys
from nbmlops.surfaces.terminal import here
runs = json.loads(sys.argv[1])
sys.exit(max(here(["run", f"{name}.ipynb", "-o", f"out/{name}.ipynb", *words]) for name, words in runs.items()))"""


@contextlib.contextmanager
def life_cycle(folder: Path, environment: Environment, runs: dict[str, list[str]]) -> Iterator[Path]:
    """Give a project with a gate, whose endpoint is taken down afterwards."""
    example_project(folder, *(f"{name}.ipynb" for name in runs))
    (folder / "nbmlops.toml").write_text(GATE)
    try:
        yield folder
    finally:
        subprocess.run([*COMMAND, "undeploy", "delays"], cwd=folder, env=environment, capture_output=True)


def both(folder: Path, warm: Environment, runs: dict[str, list[str]]) -> dict[str, Path]:
    """Give two projects in which notebooks were run, cold and warm."""
    off = warm | {"NBMLOPS_WARM": "off"}
    with life_cycle(folder / "cold", off, runs) as cold:
        line = [sys.executable, "-c", COLD, json.dumps(runs)]
        done = subprocess.run(line, cwd=cold, env=off, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    with life_cycle(folder / "warm", warm, runs) as warmed:
        for name, words in runs.items():
            ran(warmed, f"{name}.ipynb", warm, f"out/{name}.ipynb", *words)
    return {"cold": cold, "warm": warmed}


def test_every_example_is_compared_or_left_out_for_a_reason() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.ipynb")} == {*RUNS, *ELSEWHERE}


@pytest.mark.parametrize("names", [FEW, pytest.param(tuple(RUNS), marks=pytest.mark.soak)], ids=["few", "all"])
def test_examples_show_the_same_cold_and_warm(tmp_path: Path, warm: Environment, names: tuple[str, ...]) -> None:
    folders = both(tmp_path, warm, {name: RUNS[name] for name in names})
    for name in names:
        cold, warmed = (lasting(folders[mode] / "out" / f"{name}.ipynb") for mode in ("cold", "warm"))
        assert any(shown for _, shown in cold) or name == "09_extract"  # which shows nothing but its results
        assert warmed == cold, name
