"""Triggers: what is new starts one run, what was there starts none, and cooldown and budget hold back."""

import os
import time
from pathlib import Path

import pandas as pd
import pytest

from nbmlops.agent import triggers
from nbmlops.errors import UsageError
from nbmlops.ledger.database import Ledger
from nbmlops.ledger.events import Draft
from nbmlops.ledger.schedules import FINISHED
from nbmlops.pipelines import jobs
from nbmlops.pipelines.scheduled import declared_in
from nbmlops.project import Project
from tests.agent.stage import Stage

LONG_AGO = time.time() - 1000


def write(path: Path, text: str, at: float = LONG_AGO) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    os.utime(path, (at, at))


def on(*names: str, more: str = "") -> str:
    return f'[schedules.watch]\nnotebook = "a.ipynb"\non = {list(names)}\n{more}'


def fired(stage: Stage, n: int) -> list[str]:
    """Look until so many runs have ended; give what pulled each trigger."""
    deadline = time.monotonic() + 30
    while stage.states() != [FINISHED] * n:
        assert time.monotonic() < deadline, (stage.firings(), stage.told)
        stage.look(seconds=1)
        time.sleep(0.05)
    stage.look(seconds=1)
    assert len(stage.firings()) == n
    return [each.occasion.partition("#")[0] for each in stage.firings()]


def test_a_new_and_a_changed_file_start_a_run_each_and_one_that_is_gone_starts_none(stage: Stage) -> None:
    write(stage.root / "in" / "old.csv", "a")
    stage.declare(on("file:in/*.csv"))
    stage.look()
    stage.look(seconds=5)
    assert stage.firings() == []
    write(stage.root / "in" / "new.csv", "b")
    assert fired(stage, 1) == ["file:in/*.csv"]
    write(stage.root / "in" / "old.csv", "aa")
    fired(stage, 2)
    (stage.root / "in" / "old.csv").unlink()
    write(stage.root / "in" / "other.txt", "c")
    fired(stage, 2)


def test_a_file_that_is_being_written_to_is_waited_for(stage: Stage) -> None:
    stage.declare(on("file:*.csv"))
    stage.look()
    write(stage.root / "new.csv", "half of", at=time.time())
    stage.look(seconds=1)
    assert stage.firings() == []
    write(stage.root / "new.csv", "half of it and the rest")
    fired(stage, 1)


def test_data_count_by_their_bytes_and_not_by_their_times(stage: Stage) -> None:
    write(stage.root / "data.csv", "a")
    stage.declare(on("data:data.csv"))
    stage.look()
    write(stage.root / "data.csv", "a", at=LONG_AGO + 5)
    stage.look(seconds=1)
    stage.look(seconds=1)
    assert stage.firings() == []
    write(stage.root / "data.csv", "b", at=LONG_AGO + 5)  # of the same size, at the same time
    write(stage.root / "data.csv", "b", at=LONG_AGO + 6)
    assert fired(stage, 1) == ["data:data.csv"]


def test_a_folder_of_data_that_comes_later_is_news(stage: Stage) -> None:
    stage.declare(on("data:table"))
    stage.look()
    write(stage.root / "table" / "part-0", "a")
    fired(stage, 1)
    write(stage.root / "table" / "part-1", "b")
    fired(stage, 2)


def moved(project: Project, model: str, verb: str = "promote", outcome: str = "ok") -> None:
    project.open(Ledger).append(Draft(verb, f"model/{model}/3", "python", False, outcome))


def test_an_alias_that_moves_starts_a_run(stage: Stage) -> None:
    moved(stage.project, "delays")
    stage.declare(on("alias:delays"))
    stage.look()
    moved(stage.project, "others")
    moved(stage.project, "delays", outcome="GateError")
    moved(stage.project, "delays", verb="validate")
    stage.look(seconds=1)
    assert stage.firings() == []
    moved(stage.project, "delays")
    moved(stage.project, "delays", verb="rollback")
    assert fired(stage, 1) == ["alias:delays"]


def ended(project: Project, name: str, status: str) -> None:
    job = jobs.beginning(job=jobs.new_id(), name=name)
    jobs.put(project, job)
    jobs.put(project, jobs.Job(**{**vars(job), "status": status}))


def test_a_job_that_has_finished_starts_a_run(stage: Stage) -> None:
    ended(stage.project, "extract", "FINISHED")
    stage.declare(on("job:extract"))
    stage.look()
    ended(stage.project, "extract", "FAILED")
    ended(stage.project, "other", "FINISHED")
    stage.look(seconds=1)
    assert stage.firings() == []
    ended(stage.project, "extract", "FINISHED")
    assert fired(stage, 1) == ["job:extract"]


def test_what_comes_while_it_cools_down_starts_one_run_afterwards(stage: Stage) -> None:
    stage.declare(on("job:extract", more='cooldown = "1h"'))
    stage.look()
    for n in range(3):
        ended(stage.project, "extract", "FINISHED")
        fired(stage, 1)
        assert len(stage.firings()) == 1, n
    stage.look(hours=1)
    fired(stage, 2)


def test_a_budget_that_is_spent_waits_for_its_next_period(stage: Stage) -> None:
    stage.declare(on("job:extract", more='budget = "2/day"'))
    stage.look()
    for n in (1, 2, 2):
        ended(stage.project, "extract", "FINISHED")
        fired(stage, n)
    stage.look(hours=25)
    fired(stage, 3)


def test_what_comes_during_a_run_starts_one_afterwards(stage: Stage) -> None:
    stage.command = "while [ ! -e go ]; do sleep 0.05; done"
    stage.declare(on("job:extract"))
    stage.look()
    for _ in range(3):
        ended(stage.project, "extract", "FINISHED")
        stage.look(seconds=1)
    assert len(stage.firings()) == 1
    (stage.root / "go").touch()
    fired(stage, 2)


def test_what_changed_during_a_pause_starts_nothing(stage: Stage) -> None:
    stage.declare(on("job:extract"))
    stage.look()
    stage.ledger.pause("watch", stage.clock.now())
    ended(stage.project, "extract", "FINISHED")
    stage.look(seconds=1)
    stage.ledger.unpause("watch", stage.clock.now())
    stage.look(seconds=1)
    stage.look(seconds=1)
    assert stage.firings() == []
    ended(stage.project, "extract", "FINISHED")
    fired(stage, 1)


def test_two_agents_that_see_the_same_news_start_one_run(stage: Stage) -> None:
    stage.declare(on("job:extract"))
    stage.look()
    with_own = Stage(stage.root)
    with_own.look()
    ended(stage.project, "extract", "FINISHED")
    key = ("watch", "job:extract", "")
    before = stage.ledger.seen()[key]
    stage.look(seconds=1)
    stage.wait_for(FINISHED)
    stage.ledger.see(*key, before)  # as the other one has read it before
    with_own.look(seconds=1)
    assert len(stage.firings()) == 1
    with_own.close()


def test_drift_of_new_data_starts_a_run_and_data_like_the_reference_do_not(stage: Stage) -> None:
    january = pd.DataFrame({"delay": [float(n % 97) for n in range(2000)]})
    for name, table in {"january": january, "now": january, "march": january + 60}.items():
        table.to_csv(stage.root / f"{name}.csv", index=False)
    stage.declare(on("drift:now.csv", more='against = "january.csv"'))
    os.utime(stage.root / "now.csv", (LONG_AGO, LONG_AGO))
    measured(stage)

    def arrives(name: str, at: float) -> None:
        write(stage.root / "now.csv", (stage.root / f"{name}.csv").read_text() + "\n" * int(at - LONG_AGO), at)

    arrives("january", LONG_AGO + 1)
    measured(stage)
    assert stage.firings() == []
    arrives("march", LONG_AGO + 2)
    measured(stage)
    assert fired(stage, 1) == ["drift:now.csv"]
    events = stage.project.open(Ledger).events(verbs=("drift",))
    assert [(event.outcome, event.by_human) for event in events] == [("DriftError", False), *[("ok", False)] * 2]


def test_data_that_have_drifted_before_the_agent_first_looks_start_a_run(stage: Stage) -> None:
    for name, first in {"january": 0, "now": 60}.items():
        write(stage.root / f"{name}.csv", "\n".join(["delay", *(str(first + n % 97) for n in range(2000))]))
    stage.declare(on("drift:now.csv", more='against = "january.csv"'))
    measured(stage)
    assert fired(stage, 1) == ["drift:now.csv"]


def measured(stage: Stage) -> None:
    stage.look(seconds=1)
    for measurement in stage.agent.measuring.going_on.values():
        measurement.process.wait(60)
    stage.look(seconds=1)


def test_drift_that_cannot_be_measured_is_told_once_and_not_tried_again_until_the_data_change(stage: Stage) -> None:
    stage.declare(on("drift:now.csv", more='against = "nowhere.csv"'))
    stage.look()
    write(stage.root / "now.csv", "bb")
    measured(stage)
    stage.look(seconds=1)
    assert sum("cannot be measured" in line for line in stage.told) == 1
    assert not stage.agent.measuring.going_on


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (on("drift:delays.csv"), "needs the reference"),
        (on("job:a"), "would start itself"),
        (on("drfit:delays"), "there is no trigger"),
    ],
)
def test_a_trigger_that_cannot_work_is_refused(stage: Stage, declared: str, message: str) -> None:
    stage.declare(declared)
    found, wrong = declared_in(stage.project.settings)
    assert not found
    assert message in wrong["watch"]


def test_a_pattern_of_far_too_many_files_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triggers, "MOST_FILES", 1)
    for name in ("a.csv", "b.csv"):
        (root / name).touch()
    with pytest.raises(UsageError, match="more than 1"):
        triggers.look(Project(root), "file:*.csv", None)
