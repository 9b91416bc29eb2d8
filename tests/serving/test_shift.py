"""The shift of predictions: no false alarms without one, found when there is one, bounds that hold."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbmlops.serving.bins import label_hash, number_bins
from nbmlops.serving.shift import Shift, binned, bounded, shift, stability_index
from nbmlops.serving.window import Window

RUNS = 150
DRAWS = {
    "normal": lambda random, n: random.normal(size=n),
    "probabilities": lambda random, n: random.beta(2, 5, n),
    "far from zero": lambda random, n: 100 + 10 * random.normal(size=n),
    "classes": lambda random, n: random.integers(0, 3, n).astype(float),
    "constant": lambda random, n: np.full(n, 0.3),
}


def window(values: np.ndarray, n_requests: int | None = None) -> Window:
    bins, counts = np.unique(number_bins(values), return_counts=True)
    numbers = dict(zip(bins.tolist(), counts.tolist(), strict=True))
    return Window(n_requests=n_requests or len(values), n_rows=len(values), numbers=numbers)


def shifts(kind: str, n: int, by: float = 0.0, p_error: float = 0.02, runs: int = RUNS) -> list[Shift]:
    random = np.random.default_rng(7)
    draw = DRAWS[kind]
    return [shift(window(draw(random, n) + by), window(draw(random, n)), p_error) for _ in range(runs)]


@pytest.mark.parametrize("n", [200, 2000])
@pytest.mark.parametrize("kind", DRAWS)
def test_the_same_predictions_seldom_raise_an_alarm(kind: str, n: int) -> None:
    found = shifts(kind, n)
    assert np.mean([one.lower > 0 for one in found]) <= 0.02 + 3 * math.sqrt(0.02 * 0.98 / RUNS)
    assert max(one.lower for one in found) < 0.1
    assert np.mean([one.index for one in found]) < 0.5 * 9 * 2 / n  # half of what it would be with its bias


@pytest.mark.parametrize(("n", "power"), [(200, 0.8), (2000, 1.0)])
def test_half_a_standard_deviation_is_found(n: int, power: float) -> None:
    found = shifts("normal", n, 0.5)
    assert np.mean([one.lower > 0 for one in found]) >= power
    assert np.median([one.index for one in found]) == pytest.approx(0.25, abs=0.05)  # 0.5², of two normals


@pytest.mark.parametrize("n", [200, 2000])
@pytest.mark.parametrize("shares", [((0.3, 0.7), (0.516, 0.484)), ((0.05, 0.15, 0.2, 0.6), (0.1, 0.2, 0.3, 0.4))])
def test_the_bounds_hold_the_true_index(n: int, shares: tuple[tuple[float, ...], ...]) -> None:
    random, runs = np.random.default_rng(3), 1000
    p, q = (np.array(one) for one in shares)
    true = float(np.sum((p - q) * np.log(p / q)))
    found = [
        bounded(random.multinomial(n, p).astype(float), random.multinomial(n, q).astype(float), 0.05)
        for _ in range(runs)
    ]
    allowed = 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)
    assert np.mean([one.lower > true for one in found]) <= allowed
    assert np.mean([one.upper < true for one in found]) <= allowed


def test_the_index_is_the_textbook_one() -> None:
    ours, theirs = np.array([20_000.0, 30_000, 50_000]), np.array([30_000.0, 30_000, 40_000])
    expected = sum((p - q) * math.log(p / q) for p, q in ((0.2, 0.3), (0.3, 0.3), (0.5, 0.4)))
    assert stability_index(ours, theirs) == pytest.approx(expected, rel=1e-3)


def test_labels_that_are_rare_become_one() -> None:
    ours = Window(n_requests=1000, labels={"a": 500, "b": 490, "c": 4, "d": 6})
    theirs = Window(n_requests=1000, labels={"a": 500, "b": 480, "e": 20})
    assert binned(ours, theirs)[0].tolist() == [500, 490, 0, 10]
    assert binned(ours, theirs)[1].tolist() == [500, 480, 20, 0]


def test_nan_is_no_number_among_others() -> None:
    values = np.random.default_rng(0).normal(size=1000)
    broken = values.copy()
    broken[:300] = math.nan
    found = shift(window(broken), window(values))
    assert found.lower > 0.5


def test_labels_beyond_those_counted_by_name_are_compared_by_hash() -> None:
    """One worker knew a label by name, the other did not: the same predictions stay the same."""
    labels = {f"label {number}": 40 for number in range(60)}
    by_hash: dict[int, int] = {}
    for label, count in labels.items():
        by_hash[label_hash(label)] = by_hash.get(label_hash(label), 0) + count
    named, hashed = Window(n_requests=2400, labels=labels), Window(n_requests=2400, others=by_hash)
    assert shift(named, hashed).index == 0


def test_rows_of_one_request_count_as_one() -> None:
    random = np.random.default_rng(0)
    few = shift(window(random.normal(0.5, 1, 5000), 100), window(random.normal(size=5000), 100))
    many = shift(window(random.normal(0.5, 1, 5000)), window(random.normal(size=5000)))
    assert few.lower < 0.1 < many.lower


@pytest.mark.parametrize("other", [Window(), Window(n_requests=5)])
def test_without_predictions_nothing_is_certain(other: Window) -> None:
    assert shift(window(np.ones(100)), other) == Shift(0.0, 0.0, math.inf, 0)


samples = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=200).map(np.array)


@given(samples, samples)
def test_the_index_is_symmetric_and_no_row_is_lost(one: np.ndarray, other: np.ndarray) -> None:
    there, back = shift(window(one), window(other)), shift(window(other), window(one))
    assert there.index == pytest.approx(back.index)
    assert 0 <= there.lower <= there.upper
    assert [counts.sum() for counts in binned(window(one), window(other))] == [len(one), len(other)]
