"""Many processes at once on one project that nobody has used before."""

import json
import subprocess
import sys
from pathlib import Path

from nbmlops.ledger.database import Ledger
from nbmlops.project import Project
from nbmlops.surfaces.python import Operations
from nbmlops.tracking.mlflow import Tracking

PROCESSES, POINTS = 8, 30
NOTEBOOK = f"""
import sys
import nbmlops

ops = nbmlops.open()
ops.track(sys.argv[1])
for step in range({POINTS}):
    nbmlops.log(loss=step / 7, step=step)
    if step % 10 == 0:
        ops.init()  # leaves an event
ops.end()
"""


def run_at_once(commands: list[list[str]], folder: Path) -> list[tuple[int, str]]:
    """Start commands together; give each one's exit code and what it said."""
    started = [
        subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for command in commands
    ]
    said = [process.communicate(timeout=200)[0] for process in started]
    return [(process.returncode, words) for process, words in zip(started, said, strict=True)]


def test_eight_notebooks_at_once_on_embedded_stores_lose_nothing(tmp_path: Path) -> None:
    """Cold: they also race to make both databases and the experiment."""
    (tmp_path / "nbmlops.toml").write_text('[project]\nname = "crowd"\n')
    ends = run_at_once([[sys.executable, "-c", NOTEBOOK, f"run {n}"] for n in range(PROCESSES)], tmp_path)
    assert [code for code, _ in ends] == [0] * PROCESSES, "\n".join(said for _, said in ends)
    assert "locked" not in "".join(said for _, said in ends)

    project = Project(tmp_path)
    tracking = project.open(Tracking)
    found = tracking.newest(1000)
    assert sorted(run.name for run in found) == [f"run {n}" for n in range(PROCESSES)]
    assert {run.status for run in found} == {"FINISHED"}
    for run in found:
        history = tracking.client.get_metric_history(run.run_id, "loss")
        assert sorted((point.step, point.value) for point in history) == [(n, n / 7) for n in range(POINTS)]
    assert [each.name for each in tracking.client.search_experiments()].count("crowd") == 1
    assert project.open(Ledger).check_chain() == PROCESSES * POINTS // 10


def test_two_inits_at_once_make_one_project(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nbmlops.surfaces.cli", "init", "flights", "--json"]
    ends = run_at_once([command, command], tmp_path)
    assert [code for code, _ in ends] == [0, 0], ends
    told = [json.loads(said[said.index("{") :]) for _, said in ends]
    assert {each["name"] for each in told} == {"flights"}
    assert sorted(path.name for path in tmp_path.iterdir()) == [".gitignore", ".nbmlops", "nbmlops.toml"]
    assert (tmp_path / "nbmlops.toml").read_text().count("[project]") == 1
    assert Operations(tmp_path).doctor().passed
    assert Project(tmp_path).open(Ledger).check_chain() == 2
    assert Project(tmp_path).open(Tracking).newest(1) == []


def test_two_inits_at_once_of_other_names_make_one_project_and_refuse_the_other(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nbmlops.surfaces.cli", "init"]
    ends = run_at_once([[*command, "flights"], [*command, "trains"]], tmp_path)
    assert sorted(code for code, _ in ends) == [0, 12], ends
    [winner] = [name for name, (code, _) in zip(("flights", "trains"), ends, strict=True) if code == 0]
    [refused] = [said for code, said in ends if code]
    assert f"exists and has name = '{winner}'; init never overwrites it" in refused
    assert Project(tmp_path).settings.name.value == winner
    assert Operations(tmp_path).status().attention == ()
