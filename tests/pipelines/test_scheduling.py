"""The verbs of schedules: what they write into nbmlops.toml, what they show, and what they refuse."""

import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from nbmlops.errors import ConflictError, NotFoundError, UsageError
from nbmlops.ledger.database import Ledger
from nbmlops.ledger.schedules import Firing, Schedules, stamp
from nbmlops.pipelines.scheduled import declared_in, recent_firings, upcoming
from nbmlops.pipelines.scheduling import ScheduleCard, pause, schedule, unpause, unschedule
from nbmlops.project import Project

from .conftest import WriteNotebook

TAGGED = "month = 1\nrate: float = 0.5\nday: str = ''\ntoken: 'Secret' = 'env:TOKEN'\nflag = False"
PIPELINE = """
[pipelines.retrain]  # every night, later
[[pipelines.retrain.steps]]
name = "train"
notebook = "notebooks/train.ipynb"
"""


@pytest.fixture
def train(write_notebook: WriteNotebook) -> Path:
    return write_notebook("train.ipynb", "print(month)", tagged=TAGGED)


def content(project: Project) -> dict[str, Any]:
    return tomllib.loads((project.root / "nbmlops.toml").read_text())


def test_a_notebook_gets_a_schedule_and_all_else_in_the_file_stays(project: Project, train: Path) -> None:
    before = "# ours\n" + (project.root / "nbmlops.toml").read_text()
    (project.root / "nbmlops.toml").write_text(before)
    card = schedule(project, "notebooks/train.ipynb", "30 2 * * *", tz="Europe/Vienna", parameters={"month": "4"})
    assert (project.root / "nbmlops.toml").read_text().startswith(before)
    assert content(project)["schedules"] == {
        "train": {
            "notebook": "notebooks/train.ipynb",
            "schedule": "30 2 * * *",
            "timezone": "Europe/Vienna",
            "parameters": {"month": 4},
        }
    }
    assert '+schedule = "30 2 * * *"' in card.difference
    assert '+schedule = "30 2 * * *"' in [change.line for change in card.changes]
    assert all(change.line.startswith("+") for change in card.changes)
    assert card.subject == "schedule/train"


def test_the_next_three_firings_are_shown_in_the_zone_and_in_utc(project: Project, train: Path) -> None:
    card = schedule(project, str(train), "30 2 * * *", tz="Europe/Vienna")
    assert len(card.next) == 3
    assert all(each.local.split()[2] in ("02:30", "03:00") for each in card.next)
    assert all(each.local.endswith(("CET", "CEST")) and each.utc.endswith(("30 UTC", "00 UTC")) for each in card.next)
    times = [each.at.astimezone(UTC) for each in card.next]
    assert datetime.now(UTC) < times[0] < times[1] < times[2]


def test_a_dry_run_shows_the_difference_and_writes_nothing(project: Project, train: Path) -> None:
    before = (project.root / "nbmlops.toml").read_text()
    card = schedule(project, str(train), "@daily", dry_run=True)
    assert "+[schedules.train]" in card.difference
    assert (project.root / "nbmlops.toml").read_text() == before
    assert project.open(Schedules).seen() == {}
    assert project.open(Ledger).events() == []


def test_who_only_looks_at_a_schedule_leaves_no_event(project: Project, train: Path) -> None:
    schedule(project, str(train), "@daily")
    before = project.open(Ledger).events()
    assert schedule(project, "train").headline == "train runs at @daily in UTC"
    assert project.open(Ledger).events() == before


def test_a_pipeline_gets_its_schedule_in_its_own_table(project: Project, train: Path) -> None:
    path = project.root / "nbmlops.toml"
    path.write_text(path.read_text() + PIPELINE)
    schedule(project, "retrain", "@weekly", catchup="all", overlap="queue", on=["job:extract"], cooldown="24h")
    table = content(project)["pipelines"]["retrain"]
    steps = table.pop("steps")
    assert len(steps) == 1
    assert table == {
        "schedule": "@weekly",
        "catchup": "all",
        "overlap": "queue",
        "on": ["job:extract"],
        "cooldown": "24h",
    }
    assert "# every night, later" in path.read_text()
    assert schedule(project, "retrain").headline == "retrain runs at @weekly in UTC and on job:extract"
    unschedule(project, "retrain")
    assert content(project)["pipelines"]["retrain"] == {"steps": steps}


def test_what_is_not_given_stays_and_the_clock_goes_on_from_where_it_was(project: Project, train: Path) -> None:
    schedule(project, str(train), "@daily")
    ledger = project.open(Schedules)
    (key, seen), *_ = ledger.seen().items()
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    ledger.see(*key, type(seen)(long_ago))
    schedule(project, "train", overlap="queue")
    assert declared_in(project.settings)[0]["train"].timing.schedule == "@daily"
    assert ledger.seen()[key].since == long_ago
    schedule(project, "train", "@hourly")
    assert ledger.seen()["train", "@hourly UTC", ""].since > datetime.now(UTC) - timedelta(minutes=1)


def test_the_traffic_of_an_endpoint_is_a_trigger_that_needs_no_reference(project: Project, train: Path) -> None:
    assert schedule(project, str(train), on=["drift:delays"]).triggers == ("drift:delays",)
    assert declared_in(project.settings)[1] == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"expression": "0 0 30 2 *"}, "never fires"),
        ({"expression": "61 * * * *"}, "minute of a schedule must be from 0 to 59"),
        ({"expression": "@daily", "tz": "Europe/Viena"}, "no timezone"),
        ({"on": ["drift:delays.csv"]}, "needs the reference"),
        ({"on": ["job:train"]}, "would start itself"),
        ({"on": ["mail:me"]}, "no trigger"),
        ({"expression": "@daily", "parameters": {"moth": 1}}, "no parameter 'moth'"),
        ({"expression": "@daily", "parameters": {"month": "x"}}, "month"),
        ({"expression": "@daily", "parameters": {"token": "s3cr3t-0815"}}, "env:|Secret|secret"),
        ({"expression": "@daily", "budget": "3/week"}, "budget is of triggers"),
        ({"on": ["webhook"], "catchup": "all"}, "catchup is of a schedule"),
    ],
)
def test_what_is_wrong_is_told_at_once_and_nothing_is_written(
    project: Project, train: Path, arguments: dict[str, Any], message: str
) -> None:
    before = (project.root / "nbmlops.toml").read_text()
    with pytest.raises(UsageError, match=message):
        schedule(project, str(train), **arguments)
    assert (project.root / "nbmlops.toml").read_text() == before


def test_a_pipeline_with_a_fault_cannot_be_scheduled(project: Project) -> None:
    path = project.root / "nbmlops.toml"
    path.write_text(path.read_text() + PIPELINE)
    with pytest.raises((UsageError, NotFoundError), match=r"train\.ipynb"):
        schedule(project, "retrain", "@weekly")


def test_a_value_may_be_the_due_time_or_a_reference_to_a_secret(project: Project, train: Path) -> None:
    schedule(project, str(train), "@daily", parameters={"day": "${due.date}", "token": "env:OTHER", "flag": "true"})
    assert content(project)["schedules"]["train"]["parameters"] == {
        "day": "${due.date}",
        "token": "env:OTHER",
        "flag": True,
    }


def test_a_notebook_outside_of_the_project_or_that_is_not_there_is_refused(project: Project, tmp_path: Path) -> None:
    (tmp_path / "out.ipynb").write_text("{}")
    with pytest.raises(UsageError, match="outside"):
        schedule(project, str(tmp_path / "out.ipynb"), "@daily")
    with pytest.raises(NotFoundError):
        schedule(project, "nowhere.ipynb", "@daily")
    with pytest.raises(NotFoundError, match="no pipeline or schedule"):
        schedule(project, "retrian", "@daily")


def test_two_schedules_of_one_notebook_need_two_names(project: Project, train: Path) -> None:
    schedule(project, str(train), "@daily")
    schedule(project, str(train), "@hourly", name="often")
    with pytest.raises(UsageError, match="2 schedules"):
        pause(project, str(train))
    pause(project, "often")
    assert [each.paused for each in upcoming(project)] == [False, True]
    (project.root / "other.ipynb").write_text(train.read_text())
    with pytest.raises(ConflictError):
        schedule(project, "other.ipynb", "@daily", name="often")


def test_a_paused_schedule_has_no_next_time_until_it_goes_on(project: Project, train: Path) -> None:
    schedule(project, str(train), "@daily")
    paused = pause(project, "train")
    assert paused.paused
    assert paused.headline.endswith("and is paused")
    assert pause(project, "train").paused
    (row,) = upcoming(project)
    assert (row.paused, row.next_at) == (True, None)
    assert not unpause(project, "train").paused
    (row,) = upcoming(project)
    assert row.next_at is not None
    assert row.next_at.utcoffset() is not None


def test_what_is_unscheduled_is_forgotten_with_its_pause(project: Project, train: Path) -> None:
    schedule(project, str(train), "@daily")
    pause(project, "train")
    card = unschedule(project, str(train))
    assert "-[schedules.train]" in card.difference
    assert "schedules" not in content(project)
    schedule(project, str(train), "@daily")
    assert not upcoming(project)[0].paused


def test_verbs_name_the_nearest_of_what_is_scheduled(project: Project, train: Path) -> None:
    schedule(project, str(train), "@daily")
    for change in (pause, unpause, unschedule):
        with pytest.raises(NotFoundError, match="trian") as caught:
            change(project, "trian")
        assert "Did you mean train?" in caught.value.hint


def test_schedules_written_at_once_by_many_processes_are_all_there(project: Project, train: Path) -> None:
    words = [sys.executable, "-m", "nbmlops.surfaces.cli", "schedule", "notebooks/train.ipynb", "@daily", "--quiet"]
    made = [subprocess.Popen([*words, "--name", f"n{n}"], cwd=project.root) for n in range(4)]
    assert [each.wait(120) for each in made] == [0, 0, 0, 0]
    assert set(content(project)["schedules"]) == {"n0", "n1", "n2", "n3"}


@pytest.mark.parametrize(
    ("verb", "more"), [(schedule, {"overlap": "queue"}), (pause, {}), (unpause, {}), (unschedule, {})]
)
def test_a_dry_run_changes_nothing(
    project: Project, train: Path, verb: Callable[..., ScheduleCard], more: dict[str, Any]
) -> None:
    schedule(project, str(train), "@daily")
    before = (project.root / "nbmlops.toml").read_text()
    n_events = len(project.open(Ledger).events())
    assert verb(project, "train", **more, dry_run=True).dry_run
    assert (project.root / "nbmlops.toml").read_text() == before
    assert project.open(Schedules).paused() == {}
    assert len(project.open(Ledger).events()) == n_events


def test_upcoming_lists_what_comes_next_first_and_triggers_last(project: Project, train: Path) -> None:
    assert upcoming(project) == ()
    schedule(project, str(train), "@yearly", name="rarely")
    schedule(project, str(train), "* * * * *", name="often")
    schedule(project, str(train), name="asked", on=["file:*.csv"])
    assert [each.name for each in upcoming(project)] == ["often", "rarely", "asked"]
    assert json.loads(json.dumps([each.triggers for each in upcoming(project)])) == [[], [], ["file:*.csv"]]


def test_what_is_declared_badly_is_listed_with_the_reason(project: Project, train: Path) -> None:
    path = project.root / "nbmlops.toml"
    path.write_text(path.read_text() + '[schedules.bad]\nnotebook = "a.ipynb"\nschedule = "0 0 30 2 *"\n')
    schedule(project, str(train), "@daily")
    good, bad = upcoming(project)
    assert (good.name, good.problem) == ("train", "")
    assert (bad.name, bad.next_at) == ("bad", None)
    assert "never fires" in bad.problem


def test_firings_are_listed_with_what_caused_them(project: Project) -> None:
    noon = datetime(2026, 7, 1, 12, tzinfo=UTC)
    for name, occasion in (("nightly", stamp(noon)), ("watch", "file:*.csv#1f")):
        project.open(Schedules).claim(Firing(name, occasion, stamp(noon), "", 1, {}, "j", stamp(noon)))
    rows = recent_firings(project)
    assert {(row.schedule, row.cause, row.state) for row in rows} == {
        ("nightly", "clock", "CLAIMED"),
        ("watch", "file:*.csv", "CLAIMED"),
    }
    assert recent_firings(project, name="watch")[0].due_at == noon
