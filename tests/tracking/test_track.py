"""`track` and `end`: attempts, nesting, autologging and the machine's load for a run, and the card at its end."""

import time
from pathlib import Path

import pytest

import nbmlops
from nbmlops.errors import UsageError
from nbmlops.surfaces.python import Operations
from nbmlops.surfaces.show import text
from nbmlops.tracking import attempts
from nbmlops.tracking.mlflow import Tracking


def test_a_run_again_is_the_next_attempt_linked_to_the_one_before(ops: Operations) -> None:
    first = ops.track("baseline", parameters={"depth": 3})
    nbmlops.log(auc=0.5)
    second = ops.track("baseline", parameters={"depth": 4})  # while the first is open: that ends, nothing is refused
    nbmlops.log(auc=0.75)
    third = ops.track("baseline")
    other = ops.track("another")
    assert [(each.attempt, each.previous_id) for each in (first, second, third, other)] == [
        (1, ""),
        (2, first.run_id),
        (3, second.run_id),
        (1, ""),
    ]
    assert ops.show(first.run_id).status == "FINISHED"


def test_another_process_continues_the_count_and_another_source_has_its_own(
    ops: Operations, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setattr("sys.argv", [str(folder / "train.py")])
    first = ops.track("baseline")
    ops.end()
    monkeypatch.setattr(attempts, "_begun", {})  # as in a process that has just begun
    second = ops.track("baseline")
    assert (second.attempt, second.previous_id) == (2, first.run_id)
    monkeypatch.setattr("sys.argv", [str(folder / "other.py")])
    assert ops.track("baseline").attempt == 1
    ops.end()


def test_every_store_knows_the_newest_run_of_a_name(team: Operations) -> None:
    name = 'Ann\'s "best"'
    tracking = team.project.open(Tracking)
    assert attempts.found(tracking, name, "train.ipynb") is None
    for attempt in (1, 2):
        tags = {"mlflow.source.name": "train.ipynb", "nbmlops.attempt": str(attempt)}
        run = tracking.client.create_run(tracking.experiment_id, run_name=name, tags=tags, start_time=attempt)
    tracking.client.get_run(run.info.run_id)
    assert attempts.found(tracking, name, "train.ipynb") == (run.info.run_id, 2)
    assert attempts.found(tracking, name, "other.ipynb") is None
    assert attempts.found(tracking, "Ann", "train.ipynb") is None


def test_offline_the_attempts_of_this_process_are_counted_and_the_card_says_what_is_unsent(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "nbmlops.toml").write_text('[project]\nname = "away"\n[stores]\ntracking = "http://127.0.0.1:1"\n')
    ops = nbmlops.open(folder)
    first = ops.track("baseline")
    nbmlops.log(auc=0.5)
    since = time.monotonic()
    ended = ops.end()
    assert time.monotonic() - since < 5
    assert ended.metrics == {"auc": 0.5}
    assert f"{ended.unsent:,} records not sent yet" in text(ended)
    second = ops.track("baseline")
    assert (second.attempt, second.previous_id) == (2, first.run_id)
    ops.end()
    assert capsys.readouterr().err.count("out of reach") == 1


def test_the_card_at_the_end_draws_curves_and_tells_what_changed(ops: Operations) -> None:
    for depth in (3, 4):
        ops.track("baseline", parameters={"depth": depth})
        for step in range(5):
            nbmlops.log(loss=1 / (step + depth), step=step)
        ended = ops.end()
    assert len(ended.curves["loss"]) == 5
    assert [each.name for each in ended.changes if each.kind == "param"] == ["depth"]
    assert "changed since attempt 1" in text(ended)


def test_a_nested_run_lies_under_the_open_one_which_goes_on(ops: Operations) -> None:
    outer = ops.track("outer")
    inner = ops.track("inner", nested=True)
    assert inner.parent_id == outer.run_id
    assert ops.end().run_id == inner.run_id
    assert ops.end().run_id == outer.run_id


def test_autologging_lasts_as_long_as_the_run(ops: Operations) -> None:
    from mlflow.utils.autologging_utils import autologging_is_disabled
    from sklearn.linear_model import LinearRegression

    ops.track("auto", auto=True)
    LinearRegression().fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 2.1])
    assert ops.end().params["fit_intercept"] == "True"
    assert autologging_is_disabled("sklearn")


def test_a_short_run_has_some_of_the_machines_load(ops: Operations) -> None:
    ops.track("heavy", system=True)
    assert "system/cpu_utilization_percentage" in ops.end().metrics


def test_what_cannot_be_done_is_refused_before_a_run_begins(ops: Operations) -> None:
    refused = (
        ({"name": "b=2", "parameters": {"a": 1}}, "-p a=1 -p b=2"),
        ({"live": "auc"}, "%%mlops track --live auc"),
    )
    for given, words in refused:
        with pytest.raises(UsageError, match=words):
            ops.track(**given)
    assert ops.project.open(Tracking).mlflow.active_run() is None


def test_a_name_may_tell_a_parameter(ops: Operations) -> None:
    assert ops.track("lr=0.1").name == "lr=0.1"
    ops.end()
