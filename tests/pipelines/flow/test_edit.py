"""Schedules written into nbmlops.toml: what is added, changed and taken away, and that all else stays."""

import tomllib

import pytest

from nbmlops.errors import ConflictError, NotFoundError, UsageError
from nbmlops.pipelines.flow.edit import Wish, scheduled, unscheduled
from nbmlops.pipelines.flow.timing import notebook_schedule
from tests.pipelines.flow.conftest import LOOP, WriteProject

COMMENTED = LOOP.replace('schedule = "30 2 * * *"', '# when it runs\nschedule = "30 2 * * *"  # at night')


def changed(difference: str) -> list[str]:
    return [line for line in difference.splitlines()[2:] if line[0] in "+-"]


def test_a_pipelines_schedule_is_changed_in_its_place_and_comments_stay() -> None:
    edit = scheduled(COMMENTED, "retrain", Wish("0 3 * * *", cooldown="", catchup="all"))
    assert changed(edit.difference) == [
        '-schedule = "30 2 * * *"  # at night',
        '+schedule = "0 3 * * *"  # at night',
        '-cooldown = "24h"',
        '+catchup = "all"',
    ]
    assert edit.place == "pipelines.retrain"


def test_a_notebook_gets_a_schedule_of_its_own_that_is_read_back(write_project: WriteProject) -> None:
    wish = Wish("0 3 * * *", timezone="Europe/Vienna", on=("webhook",), parameters={"rows": 3, "day": "${due.date}"})
    edit = scheduled(COMMENTED, "notebooks/a b.ipynb", wish, name="nightly")
    assert edit.text.startswith(COMMENTED)
    schedule = notebook_schedule(write_project(edit.text), "nightly")
    assert (schedule.notebook, schedule.timing.schedule) == ("notebooks/a b.ipynb", "0 3 * * *")
    assert schedule.timing.on == ("webhook",)
    assert schedule.parameters == {"rows": 3, "day": "${due.date}"}


def test_a_second_wish_changes_what_it_names_and_nothing_else() -> None:
    first = scheduled("", "a.ipynb", Wish("0 3 * * *", timezone="Europe/Vienna", parameters={"x": 1}))
    for target in ("a.ipynb", "a"):
        second = scheduled(first.text, target, Wish("0 4 * * *"))
        assert changed(second.difference) == ['-schedule = "0 3 * * *"', '+schedule = "0 4 * * *"']
    assert "parameters" not in scheduled(first.text, "a", Wish(parameters={})).text


def test_the_same_wish_twice_changes_nothing() -> None:
    wish = Wish("0 3 * * *", on=("alias:delays",), parameters={"x": 1})
    once = scheduled(COMMENTED, "a.ipynb", wish)
    assert scheduled(once.text, "a.ipynb", wish).difference == ""


@pytest.mark.parametrize(
    "text",
    [
        "[[pipelines.p.steps]]\nname = 'a'\nverb = 'status'\n[project]\nname = 'x'\n",
        "pipelines.p.steps = [{ name = 'a', verb = 'status' }]\n",
        "[pipelines]\np = { steps = [{ name = 'a', verb = 'status' }] }\n",
        "[pipelines.p]\nsteps = []\n# the end",
        "[ pipelines . 'p' ]\r\nparameters = { x = 1 }\r\n",
    ],
)
def test_every_way_of_writing_toml_is_edited_and_keeps_its_content(text: str) -> None:
    edit = scheduled(text, "p", Wish("0 3 * * *"))
    was, now = tomllib.loads(text), tomllib.loads(edit.text)
    assert now["pipelines"]["p"].pop("schedule") == "0 3 * * *"
    assert now == was


def test_taking_a_schedule_away_leaves_the_pipeline_and_its_timezone() -> None:
    edit = unscheduled(COMMENTED, "retrain")
    kept = tomllib.loads(edit.text)["pipelines"]["retrain"]
    assert set(kept) == {"timezone", "steps"}
    assert "# when it runs" in edit.text


def test_a_notebooks_schedule_goes_as_a_whole() -> None:
    text = scheduled(LOOP, "notebooks/a.ipynb", Wish("0 3 * * *")).text
    for target in ("a", "notebooks/a.ipynb"):
        assert tomllib.loads(unscheduled(text, target).text) == tomllib.loads(LOOP)


def test_what_is_not_there_is_refused_with_the_nearest() -> None:
    with pytest.raises(NotFoundError, match="no pipeline or schedule 'retrian'") as caught:
        scheduled(LOOP, "retrian", Wish("0 3 * * *"))
    assert caught.value.hint == "Did you mean retrain?"
    with pytest.raises(NotFoundError, match="Nothing called 'retrian' has a schedule") as caught:
        unscheduled(LOOP, "retrian")
    assert caught.value.hint == "Did you mean retrain?"
    with pytest.raises(NotFoundError):
        unscheduled(unscheduled(LOOP, "retrain").text, "retrain")


def test_names_that_would_mean_two_things_are_refused() -> None:
    text = scheduled(LOOP, "a/x.ipynb", Wish("0 3 * * *")).text
    with pytest.raises(ConflictError, match=r"x is the schedule of a/x\.ipynb"):
        scheduled(text, "b/x.ipynb", Wish("0 3 * * *"))
    with pytest.raises(ConflictError, match="retrain is a pipeline"):
        scheduled(text, "retrain.ipynb", Wish("0 3 * * *"))
    with pytest.raises(UsageError, match="cannot be a schedule's name"):
        scheduled(text, "1 x.ipynb", Wish("0 3 * * *"))
    twice = scheduled(text, "a/x.ipynb", Wish("0 4 * * *"), name="later").text
    with pytest.raises(UsageError, match="has 2 schedules") as caught:
        unscheduled(twice, "a/x.ipynb")
    assert caught.value.hint == "Name one: x, later"


def test_a_pipelines_schedule_takes_no_parameters_and_bad_toml_is_refused() -> None:
    with pytest.raises(UsageError, match="takes no parameters"):
        scheduled(LOOP, "retrain", Wish("0 3 * * *", parameters={"x": 1}))
    with pytest.raises(UsageError, match="is not valid TOML"):
        scheduled("[project", "retrain", Wish("0 3 * * *"))


def test_what_is_written_is_data_however_it_reads() -> None:
    evil = '0 3 * * *"\n[stores]\ntracking = "http://evil'
    edit = scheduled(LOOP, "a.ipynb", Wish(evil, parameters={'x"] = 1\n': evil}))
    written = tomllib.loads(edit.text)
    assert written["schedules"]["a"]["schedule"] == evil
    assert "stores" not in written
