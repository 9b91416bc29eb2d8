"""The mathematics of a replay, against known answers, scipy, and simulations."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nbmlops.errors import UsageError
from nbmlops.serving.replaying import cost_change, outcome, replayed, wilson

RANDOM = np.random.default_rng(3)
ROWS = pd.DataFrame(
    {
        "carrier": RANDOM.choice(["UA", "B6", "AA"], 6000),
        "delay": RANDOM.normal(size=6000),
        "tail": [f"N{n}" for n in range(6000)],
        "empty": [None] * 6000,
        "rare": np.where(np.arange(6000) < 5, "x", "y"),
    }
)


def test_equal_predictions_flip_nothing_and_no_slice_stands_out() -> None:
    found = replayed(ROWS, ROWS.delay > 0, (ROWS.delay > 0).astype(int), model="delays/2", against="delays/1")
    assert (found.n, found.n_flipped, found.flip_rate, found.lower) == (6000, 0, 0.0, 0.0)
    assert found.slices == found.directions == ()
    assert found.headline == "delays/2 against delays/1 on 6,000 captured rows: flips 0.00% [0.00%, 0.06%]"


def test_a_slice_that_flips_more_stands_out_and_noise_does_not() -> None:
    flips = np.where(ROWS.carrier == "B6", RANDOM.random(6000) < 0.10, RANDOM.random(6000) < 0.03)
    found = replayed(ROWS, np.zeros(6000, int), flips.astype(int))
    assert found.slices[0].name == "carrier = B6"
    assert found.slices[0].status == "higher"
    inside = flips[ROWS.carrier == "B6"]
    assert found.slices[0].n_flipped == inside.sum()
    assert (found.slices[0].lower, found.slices[0].upper) == wilson(int(inside.sum()), len(inside))
    assert {each.column for each in found.slices} == {"carrier"}
    assert found.n_slices >= 8


def test_numbers_are_sliced_by_quantiles_and_missing_values_are_a_slice() -> None:
    delay = ROWS.delay.mask(RANDOM.random(6000) < 0.1)
    flips = (delay > 1) | delay.isna()
    found = replayed(pd.DataFrame({"delay": delay}), np.zeros(6000, int), flips.astype(int))
    higher = [each.name for each in found.slices if each.status == "higher"]
    assert "delay is missing" in higher
    assert any(name.endswith("]") for name in higher), "the last bin"
    assert found.n_slices == 6


def test_slices_of_noise_are_rarely_shown() -> None:
    """Benjamini-Hochberg at 0.05: where nothing stands out, at most about one report in twenty shows anything."""
    random = np.random.default_rng(11)
    shown = 0
    for _ in range(100):
        rows = pd.DataFrame(random.integers(0, 5, (800, 6)), columns=list("abcdef"))
        shown += bool(replayed(rows, np.zeros(800, int), (random.random(800) < 0.1).astype(int)).slices)
    assert shown <= 12


def test_directions_name_what_changes_into_what() -> None:
    found = replayed(ROWS[:5], ["a", "a", "b", "c", "a"], ["b", "b", "a", "c", "a"])
    assert [(each.name, each.n, each.share) for each in found.directions] == [("a -> b", 2, 0.4), ("b -> a", 1, 0.2)]


@pytest.mark.parametrize("written", [[1.0, 0.0, 1.0], [True, False, True], ["1", "0", "1"], pd.array([1, 0, 1])])
def test_labels_are_the_same_however_they_are_written(written: object) -> None:
    assert replayed(ROWS[:3], [1, 0, 1], written).n_flipped == 0


def test_rows_without_a_prediction_do_not_count() -> None:
    found = replayed(ROWS[:4], [1, None, 0, 1], [1, 1, None, 0])
    assert (found.n, found.n_unscored, found.n_flipped) == (2, 2, 1)
    nothing = replayed(ROWS[:1], [None], [1])
    assert (nothing.n, nothing.flip_rate) == (0, None)
    assert "cannot be compared" in nothing.headline


def test_gains_and_losses_are_judged_by_mcnemars_exact_test_on_labelled_rows() -> None:
    truth = [1] * 20 + [None] * 5
    found = replayed(ROWS[:25], [0] * 9 + [1] * 16, [1] * 9 + [0] + [1] * 15, labels=truth).outcome
    assert found is not None
    assert (found.n, found.gained, found.lost) == (20, 9, 1)
    assert found.p_value == pytest.approx(stats.binomtest(9, 10, 0.5).pvalue)
    assert found.change == pytest.approx(found.accuracy_after - found.accuracy_before)
    assert found.status == "better"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80))
def test_an_outcome_turned_round_is_the_opposite(pairs: list[tuple[bool, bool]]) -> None:
    was, now = (np.array(each) for each in zip(*pairs, strict=True))
    ahead, back = outcome(was, now), outcome(now, was)
    assert ahead.change == -back.change
    assert ahead.p_value == back.p_value
    assert ahead.lower <= ahead.change <= ahead.upper
    assert {ahead.status, back.status} in ({"better", "worse"}, {"undecided"})


def test_the_interval_of_a_cost_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(5)
    costs, covered = {("1", "0"): 5.0, ("0", "1"): 1.0}, 0
    for seed in range(200):
        truth = (random.random(400) < 0.3).astype(int)
        before, after = (np.where(random.random(400) < rate, 1 - truth, truth) for rate in (0.2, 0.1))
        texts = (each.astype(str).astype(object) for each in (truth, before, after))
        found = cost_change(*texts, costs, seed=seed)
        covered += found.lower <= -0.1 * (0.3 * 5 + 0.7 * 1) <= found.upper
    assert 180 <= covered <= 199


def test_costs_may_name_labels_as_values_and_pairs_that_are_not_there_cost_nothing() -> None:
    found = replayed(ROWS[:100], [0] * 100, [1] * 50 + [0] * 50, labels=[1] * 100, costs={(1, 0): 2.0}).cost
    assert found is not None
    assert (found.before, found.after, found.change, found.status) == (2.0, 1.0, -1.0, "better")
    assert found.lower < -1.0 < found.upper < 0


def test_numbers_have_differences_and_an_error_where_the_truth_is_known() -> None:
    before = ROWS.delay.to_numpy()
    truth = pd.Series(before).mask(np.arange(6000) % 2 == 0)
    found = replayed(ROWS, before, before + 0.5, labels=truth)
    assert found.n_flipped is None
    assert found.differences is not None
    assert found.error is not None
    assert (found.differences.mean, found.differences.p01, found.differences.largest) == pytest.approx((0.5, 0.5, 0.5))
    assert (found.error.n, found.error.status) == (3000, "worse")
    assert found.error.change == pytest.approx(0.5)
    assert "differs by 0.5 on average; error +0.5, worse" in found.headline


def test_a_threshold_makes_decisions_of_numbers() -> None:
    found = replayed(ROWS[:4], [0.1, 0.6, 0.5, 0.9], [0.6, 0.7, 0.4, 0.9], threshold=0.5)
    assert [each.name for each in found.directions] == ["0 -> 1", "1 -> 0"]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="candidate"):
        replayed(ROWS[:2], [1, 2], [1])
    with pytest.raises(UsageError, match="no column 'carier'"):
        replayed(ROWS[:2], [1, 2], [1, 2], slices=["carier"])
    with pytest.raises(UsageError, match="decisions"):
        replayed(ROWS[:2], [1.5, 2], [1, 2], labels=[1, 2], costs={(1, 2): 1.0})
