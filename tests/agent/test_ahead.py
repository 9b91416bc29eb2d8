"""What `status` tells of schedules."""

import json

from nbmlops.agent.ahead import attention_of
from nbmlops.agent.cards import Ahead
from nbmlops.project import Project
from nbmlops.surfaces.python import Operations
from tests.pipelines.conftest import as_notebook


def test_status_shows_what_runs_next_and_that_nobody_starts_it(ops: Operations, project: Project) -> None:
    (project.root / "train.ipynb").write_text(json.dumps(as_notebook("1")))
    ops.schedule("train.ipynb", "30 2 * * *", tz="Europe/Vienna")
    told = ops.status()
    (row,) = told.ahead
    assert row.name == "train"
    assert "02:30" in row.next
    assert "no agent of this machine starts what is due" in [each.what for each in told.attention]
    ops.pause("train")
    assert ops.status().ahead[0].next == "paused"


def test_what_went_wrong_needs_a_person(project: Project) -> None:
    rows = (Ahead("a", "", last="LOST"), Ahead("b", "", problem="no such notebook"), Ahead("c", "", last="FINISHED"))
    told = [each.what for each in attention_of(project, rows)]
    assert told == ["b never runs: no such notebook", "the last run of a: LOST"]
