"""Bounds that hold at all looks at once: known answers, and what simulation says."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nbmlops.serving.sequential import bounds, log_evidence, log_evidence_worse


def exceeded(p: float, p_doubted: float, alpha: float, n: int, runs: int, seed: int = 0) -> float:
    """The share of runs in which a look after every request finds evidence, at some look."""
    random = np.random.default_rng(seed)
    n_found = 0
    for _ in range(runs):
        hits = np.cumsum(random.random(n) < p)
        places = np.unique(np.concatenate([np.arange(0, 60), np.flatnonzero(np.diff(hits, prepend=0)), [n - 1]]))
        n_found += any(
            log_evidence(int(hits[place]), int(place) + 1, p_doubted, p_doubted) >= -math.log(alpha)
            for place in places.tolist()
        )
    return n_found / runs


@pytest.mark.parametrize("p", [0.01, 0.05, 0.5])
def test_a_true_share_is_seldom_doubted_however_often_one_looks(p: float) -> None:
    runs = 200
    found = exceeded(p, p, 0.1, 1000, runs)
    assert found <= 0.1 + 2 * math.sqrt(0.1 * 0.9 / runs)


def test_looking_often_at_an_ordinary_bound_would_have_been_wrong() -> None:
    random = np.random.default_rng(0)
    wrong = 0
    for _ in range(300):
        hits = np.cumsum(random.random(2000) < 0.05)[49:]
        n = np.arange(50, 2001)
        wrong += bool((stats.binom.sf(hits - 1, n, 0.05) < 0.01).any())
    assert wrong / 300 > 0.03


def test_evidence_is_the_mean_likelihood_over_the_mixture() -> None:
    k, n, p, typical = 4, 90, 0.02, 0.01
    shares = np.linspace(0, 1, 200_001)[1:-1]
    density = (stats.beta.pdf(shares, 1, 1) + stats.beta.pdf(shares, 1, 25)) / 2
    mean = np.mean(stats.binom.pmf(k, n, shares) * density)
    assert log_evidence(k, n, p, typical) == pytest.approx(math.log(mean / stats.binom.pmf(k, n, p)), abs=1e-3)


counts = st.tuples(st.integers(0, 500), st.integers(0, 500)).map(lambda pair: (min(pair), max(pair)))


@given(counts, st.floats(1e-6, 0.2), st.sampled_from([0.001, 0.01, 0.5]))
def test_bounds_hold_the_share_and_widen_with_certainty(pair: tuple[int, int], p_error: float, typical: float) -> None:
    k, n = pair
    lower, upper = bounds(k, n, p_error, typical)
    wider = bounds(k, n, p_error / 10, typical)
    assert 0 <= wider[0] <= lower <= (k / n if n else 0.5) <= upper <= wider[1] <= 1
    if lower > 0:
        assert log_evidence(k, n, lower, typical) == pytest.approx(-math.log(p_error), abs=1e-3)


@given(counts, counts)
def test_two_shares_cannot_both_be_worse(one: tuple[int, int], other: tuple[int, int]) -> None:
    there, back = log_evidence_worse(*one, *other, 0.01), log_evidence_worse(*other, *one, 0.01)
    assert min(there, back) <= 0
    assert log_evidence_worse(*one, *one, 0.01) == 0


@pytest.mark.parametrize("p", [0.005, 0.2])
def test_an_equal_share_is_seldom_called_worse(p: float) -> None:
    random = np.random.default_rng(1)
    runs, n_found = 200, 0
    for _ in range(runs):
        ours, theirs = (np.cumsum(random.random(600) < p).tolist() for _ in range(2))
        looks = range(0, 600, 3)
        n_found += any(log_evidence_worse(ours[i], i + 1, theirs[i], i + 1, 0.01) >= -math.log(0.1) for i in looks)
    assert n_found / runs <= 0.1
