"""Firings of a pipeline that a person has started: treated as its schedule says of runs that overlap."""

import os
import time
from dataclasses import replace

import pytest

from nbmlops.ledger.schedules import FINISHED, QUEUED, SKIPPED
from nbmlops.pipelines import jobs
from tests.agent.stage import Stage

PIPELINE = """
[pipelines.nightly]
schedule = "0 * * * *"
{}
[[pipelines.nightly.steps]]
name = "a"
verb = "status"
"""
BY_HAND = "b" * 12


def begin(stage: Stage, more: str = "") -> None:
    """Have the pipeline heeded, and running by hand."""
    stage.declare(PIPELINE.format(more))
    stage.look()
    jobs.put(stage.project, jobs.beginning(job=BY_HAND, name="nightly"))


def end(stage: Stage) -> None:
    jobs.put(stage.project, replace(jobs.find(stage.project, BY_HAND), status="FINISHED"))


def test_a_due_time_is_skipped_and_the_next_one_runs(stage: Stage) -> None:
    begin(stage)
    stage.look(hours=1)
    (firing,) = stage.firings()
    assert (firing.state, firing.reason) == (SKIPPED, f"the run of job {BY_HAND} goes on")
    end(stage)
    stage.look(hours=1)
    stage.wait_for(SKIPPED, FINISHED)


def test_a_due_time_is_queued_and_runs_afterwards(stage: Stage) -> None:
    begin(stage, 'overlap = "queue"')
    stage.look(hours=1)
    stage.look(seconds=5)
    assert stage.states() == [QUEUED]
    end(stage)
    stage.look(seconds=5)
    stage.wait_for(FINISHED)


def test_what_a_trigger_sees_meanwhile_starts_one_run_afterwards(stage: Stage) -> None:
    begin(stage, 'on = ["file:*.csv"]')
    (stage.root / "new.csv").write_text("a\n1\n")
    os.utime(stage.root / "new.csv", (time.time() - 60,) * 2)  # a file is heeded once nobody writes it
    stage.look(seconds=5)
    assert stage.firings() == []
    end(stage)
    stage.look(seconds=5)
    stage.wait_for(FINISHED)
    assert stage.firings()[0].occasion.startswith("file:*.csv#")


@pytest.mark.parametrize(("overlap", "state"), [("skip", SKIPPED), ("queue", QUEUED)])
def test_a_run_that_loses_the_race_against_a_person_has_not_failed(stage: Stage, overlap: str, state: str) -> None:
    stage.declare(PIPELINE.format(f'overlap = "{overlap}"'))
    stage.look()
    stage.command = "echo nightly runs already >&2; exit 12"
    stage.look(hours=1)
    stage.wait_for(state)
    (firing,) = stage.firings()
    assert (firing.exit_code, firing.reason) == (None, "nightly runs already")
    if state == QUEUED:
        stage.command = "true"
        stage.look(seconds=5)
        stage.wait_for(FINISHED)


def test_a_notebook_runs_beside_one_of_its_name(stage: Stage) -> None:
    stage.declare('[schedules.hourly]\nnotebook = "a.ipynb"\nschedule = "0 * * * *"\n')
    stage.look()
    jobs.put(stage.project, jobs.beginning(job=BY_HAND, name="a", notebook="a.ipynb"))
    stage.look(hours=1)
    stage.wait_for(FINISHED)
