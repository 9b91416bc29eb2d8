"""Who answers: shares that are the weights', and keys that stay where they are."""

import subprocess
import sys
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nbmlops.errors import UsageError
from nbmlops.serving.routing import Router

KEYS = [b"customer-%d" % number for number in range(20_000)]
SPLITS = [{"2": 90, "3": 10}, {"1": 50, "2": 30, "3": 15, "4": 5}, {str(number): 1 for number in range(16)}]


def p_of_shares(found: Counter[str], weights: dict[str, float]) -> float:
    n, total = found.total(), sum(weights.values())
    return float(stats.chisquare([found[label] for label in weights], [n * w / total for w in weights.values()]).pvalue)


@pytest.mark.parametrize("weights", SPLITS)
def test_shares_by_key_are_the_weights(weights: dict[str, float]) -> None:
    router = Router(weights)
    assert p_of_shares(Counter(map(router.choose, KEYS)), weights) > 1e-4


@pytest.mark.parametrize("weights", SPLITS)
def test_shares_without_a_key_are_the_weights(weights: dict[str, float]) -> None:
    router = Router(weights)
    assert p_of_shares(Counter(router.choose() for _ in KEYS), weights) > 1e-4


def test_the_same_key_finds_the_same_variant_in_another_process() -> None:
    ours = [Router({"2": 50, "3": 50}).choose(key) for key in KEYS[:50]]
    code = "from nbmlops.serving.routing import Router\nrouter = Router({'3': 1, '2': 1})\n"
    code += "print([router.choose(b'customer-%d' % number) for number in range(50)])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.strip() == str(ours)


def test_as_a_canary_grows_keys_move_to_it_alone() -> None:
    routers = [Router({"2": 100 - percent, "3": percent}) for percent in (1, 10, 50, 90, 100)]
    for before, after in pairwise(routers):
        moves = Counter((before.choose(key), after.choose(key)) for key in KEYS)
        assert moves["3", "2"] == 0
        assert moves["2", "3"] > 0


def test_as_one_of_several_grows_against_all_others_keys_move_to_it_alone() -> None:
    before, after = Router({"1": 4, "2": 4, "3": 2}), Router({"1": 4, "2": 4, "3": 5})
    moved = {(before.choose(key), after.choose(key)) for key in KEYS}
    assert {(one, other) for one, other in moved if one != other} == {("1", "3"), ("2", "3")}


def test_a_variant_that_goes_leaves_only_its_own_keys() -> None:
    before, after = Router({"1": 4, "2": 4, "3": 2}), Router({"1": 4, "2": 4, "3": 0})
    assert all(before.choose(key) in (after.choose(key), "3") for key in KEYS)


@given(st.binary(max_size=100))
def test_a_shadow_is_never_chosen(key: bytes) -> None:
    assert {Router({"2": 1e-9, "3": 0}).choose(key), Router({"2": 1e-9, "3": 0}).choose()} == {"2"}


@given(st.dictionaries(st.text(max_size=4), st.floats(1e-6, 1e6), min_size=1, max_size=5), st.none() | st.binary())
def test_whoever_is_chosen_has_a_weight(weights: dict[str, float], key: bytes | None) -> None:
    assert Router(weights).choose(key) in weights


@pytest.mark.parametrize("weights", [{}, {"2": 0}, {"2": -1, "3": 5}, {"2": float("nan")}, {"2": float("inf")}])
def test_weights_that_are_none_are_refused(weights: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="weight"):
        Router(weights)
