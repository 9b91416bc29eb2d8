"""What a notebook shows of a run that goes on, from what its process has journaled."""

from nbmlops.surfaces.live import MOST_POINTS, Values


def test_only_the_runs_own_metric_is_drawn_in_the_order_of_its_steps() -> None:
    values = Values("r1", "auc")
    values.take(
        [["metric", "r1", "auc", 0.3, 1, 2], ["metric", "r1", "auc", "NaN", 1, 1], ["metric", "r2", "auc", 9, 1, 0]]
    )
    values.take(
        [["metric", "r1", "loss", 5.0, 1, 7], ["param", "r1", "depth", "3"], ["metric", "r1", "auc", 0.2, 1, 2]]
    )
    assert str(list(values.curve)) == "[nan, 0.2]"
    assert (values.newest, values.n_values, values.status) == ({"auc": (0.2, 2), "loss": (5.0, 7)}, 4, "RUNNING")


def test_a_long_curve_is_thinned_and_keeps_its_last_value() -> None:
    values = Values("r1", "auc")
    values.take(["metric", "r1", "auc", step, 1, step] for step in range(10_000))
    assert len(values.curve) <= MOST_POINTS + 1
    assert values.curve[-1] == 9_999


def test_the_runs_end_is_seen() -> None:
    values = Values("r1")
    values.take([["update", "r2", {"status": "KILLED"}], ["update", "r1", {"status": "FAILED", "end_time": 3}]])
    assert values.status == "FAILED"
