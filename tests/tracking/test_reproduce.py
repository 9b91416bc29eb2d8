"""A run is rebuilt from what it kept and run again: a real repository, real kernels, a real store."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from nbmlops.errors import ConflictError, GateError
from nbmlops.project import Project
from nbmlops.tracking.capture import facts
from nbmlops.tracking.capture.reproduce import reproduce
from nbmlops.tracking.capture.reproduction import metrics_again, packages_that_differ
from nbmlops.tracking.capture.source import Executed, Execution
from nbmlops.tracking.mlflow import Tracking

CELLS = [
    ("month = 1\ncarrier = 'UA'", ["parameters"]),
    ("import random\nimport pathlib\nimport rates\n%load_ext nbmlops", []),
    ("data = float(pathlib.Path('../data/delay.txt').read_text())\nrandom.seed(7)", []),
    ("auc = data * rates.RATE * month + random.random() + len(carrier)\n%mlops log auc=auc n=3", []),
    ("%mlops track inner\n%mlops log loss=month\n%mlops end", []),
]


def do(folder: Path, *words: str) -> None:
    who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org")
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(project: Project) -> Path:
    """The project in a repository: a notebook, a module of its own, and data that git ignores."""
    folder = project.folder
    (folder / "notebooks").mkdir()
    cells = [
        {"cell_type": "code", "metadata": {"tags": tags}, "source": source, "id": f"c{n}", "outputs": []}
        | {"execution_count": None}
        for n, (source, tags) in enumerate(CELLS)
    ]
    content = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}
    (folder / "notebooks" / "train.ipynb").write_text(json.dumps(content, indent=1))
    (folder / "notebooks" / "rates.py").write_text("RATE = 1.0\n")
    (folder / ".gitignore").write_text(".nbmlops/\ndata/\n")
    (folder / "data").mkdir()
    (folder / "data" / "delay.txt").write_text("0.25")
    do(folder, "init", "--quiet", "-b", "main")
    do(folder, "add", ".")
    do(folder, "commit", "--quiet", "-m", "first")
    return folder


def keep(project: Project, run_id: str, executed: Executed, moment: facts.Moment) -> None:
    """Give a run what a run keeps."""
    client = project.open(Tracking).client
    for name, value in facts.tags(moment, executed).items():
        client.set_tag(run_id, name, value)
    for name, text in facts.files(moment, executed).items():
        client.log_text(run_id, text, name)


def worktrees(folder: Path) -> int:
    told = subprocess.run(["git", "worktree", "list"], cwd=folder, capture_output=True, text=True, check=True)
    return len(told.stdout.splitlines())


def test_a_headless_run_is_reproduced_and_a_change_of_its_data_shows(project: Project, repository: Path) -> None:
    from nbmlops.pipelines.verbs import run

    rates = repository / "notebooks" / "rates.py"
    rates.write_text("RATE = 2.0\n")  # which no commit holds
    moment = facts.begin(repository)
    moment.result()
    made = run(project, "notebooks/train.ipynb", parameters={"month": 3, "carrier": "B6 US"})
    keep(project, made.run_id, Executed(), moment)
    rates.write_text("RATE = 9.0\n")  # and now another: the run's own counts
    told = reproduce(project, made.run_id, tolerance=0)
    assert told.reproduced, told.metrics
    assert [row.name for row in told.metrics] == ["auc", "n", "run 1 below: loss"]
    assert told.basis.startswith("the notebook at commit")
    assert (rates.read_text(), worktrees(repository)) == ("RATE = 9.0\n", 1)
    tracking = project.open(Tracking)
    assert tracking.find(made.run_id).reproduced == "yes"
    assert len(tracking.newest(10)) == 2  # the run and the one below it: nothing of the run again
    (repository / "data" / "delay.txt").write_text("0.5")
    with pytest.raises(GateError, match="1 of 3 metrics differ") as refused:
        reproduce(project, made.run_id)
    assert [row.name for row in refused.value.report.metrics if row.status != "ok"] == ["auc"]
    assert tracking.find(made.run_id).reproduced == "no"


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_the_environment_is_rebuilt_from_the_lock(project: Project, repository: Path) -> None:
    from nbmlops.pipelines.verbs import run

    told = []
    project = Project(project.folder, notify=told.append)
    made = run(project, "notebooks/train.ipynb", parameters={"month": 3, "carrier": "B6 US"})
    assert reproduce(project, made.run_id, env=True).reproduced
    assert any(line.startswith("installing ") for line in told)


@pytest.fixture
def tracked(project: Project) -> Any:
    """Makes a finished run with a metric, as the cells of a kernel did."""

    def make(*sources: str, failed: str = "", status: str = "FINISHED") -> str:
        tracking = project.open(Tracking)
        made = tracking.client.create_run(tracking.experiment_id, run_name="baseline")
        tracking.log(made.info.run_id, {"auc": 0.5}, {}, {}, 0, [])
        cells = [Execution(n, source) for n, source in enumerate(sources, start=1)]
        executed = Executed(executions=(*cells, Execution(9, failed, status="failed")) if failed else tuple(cells))
        keep(project, made.info.run_id, executed, facts.begin(project.folder))
        tracking.client.set_terminated(made.info.run_id, status)
        return str(made.info.run_id)

    return make


def test_cells_of_a_kernel_are_run_again_in_their_order(
    project: Project, tracked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(project.folder.parent))
    (project.folder / "delay.txt").write_text("0.5")
    cell = "%mlops track baseline\n%mlops log auc=delay\n%mlops end"
    run_id = tracked("%load_ext nbmlops", "delay = float(open('delay.txt').read())", cell, failed="1 / 0")
    planned = reproduce(project, run_id, dry_run=True)
    assert (planned.reproduced, planned.basis) == (None, "the executed cells, no commit")
    told = reproduce(project, run_id)
    assert told.reproduced
    assert [(row.name, row.now) for row in told.metrics] == [("auc", 0.5)]


def test_a_notebook_that_fails_now_is_a_no_with_its_cause(project: Project, tracked: Any) -> None:
    run_id = tracked("boom = 1 / 0")
    with pytest.raises(GateError, match="ZeroDivisionError") as refused:
        reproduce(project, run_id)
    assert not refused.value.report.reproduced
    assert "cell 1" in refused.value.report.cause
    assert project.open(Tracking).find(run_id).reproduced == "no"


def test_a_run_that_did_not_finish_or_keeps_nothing_cannot_be_reproduced(project: Project, tracked: Any) -> None:
    with pytest.raises(ConflictError, match="is FAILED"):
        reproduce(project, tracked("a = 1", status="FAILED"))
    tracking = project.open(Tracking)
    bare = tracking.client.create_run(tracking.experiment_id).info.run_id
    tracking.client.set_terminated(bare)
    with pytest.raises(ConflictError, match="keeps no source"):
        reproduce(project, bare)


def test_metrics_are_compared_by_their_relative_gap() -> None:
    nan, inf = float("nan"), float("inf")
    was = {"a": 1.0, "b": nan, "c": inf, "d": 0.0, "e": 1.0, "f": 0.0}
    now = {"a": 1.001, "b": nan, "c": inf, "d": 0.0, "f": 1e-9, "g": 1.0}
    told = {row.name: row.status for row in metrics_again(was, now, 0.01)}
    assert told == {"a": "ok", "b": "ok", "c": "ok", "d": "ok", "e": "missing", "f": "differs", "g": "new"}
    assert [row.gap for row in metrics_again({"a": inf}, {"a": 1.0})] == [inf]
    assert [row.gap for row in metrics_again({"a": 1.0}, {"a": nan})] == [inf]


def test_packages_that_differ_are_told_with_both_versions() -> None:
    was = "# Python 3.11.7 on linux\nA_b==1\nc @ https://example.org/c.zip\n# d==1 comes from file:///d\n"
    assert packages_that_differ(was, was.replace("A_b", "a-b")) == []
    assert packages_that_differ(was, "a-b==2\nd==1\ne==1\n") == [
        "a-b 1, now 2",
        "c https://example.org/c.zip, now gone",
        "e absent, now 1",
    ]
