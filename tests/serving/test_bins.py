"""The bins of latencies and numbers: everything has one, in order."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbmlops.serving.bins import latency_bin, latency_edge_s, number_bin, number_bins

NAN = math.nan


@given(st.floats(2e-5, 99))
def test_a_latency_lies_between_the_edges_of_its_bin(latency_s: float) -> None:
    place = latency_bin(latency_s)
    assert latency_edge_s(place) <= latency_s * (1 + 1e-9)
    assert latency_s <= latency_edge_s(place + 1) * (1 + 1e-9)


@pytest.mark.parametrize("latency_s", [0.0, -1.0, NAN, 1e-6])
def test_what_is_no_latency_is_the_quickest(latency_s: float) -> None:
    assert latency_bin(latency_s) == 0


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True) | st.integers(-100, 100).map(float), max_size=40))
def test_many_numbers_find_the_bins_of_each(values: list[float]) -> None:
    assert number_bins(np.array(values, dtype=float)).tolist() == [number_bin(value) for value in values]


@given(st.floats(1e-6, 1e12), st.floats(1e-6, 1e12), st.sampled_from([1, -1]))
def test_numbers_apart_by_more_than_a_bin_have_bins_in_their_order(one: float, other: float, sign: int) -> None:
    low, high = sorted([one, other])
    if high > low * 1.04:
        assert (number_bin(sign * low) < number_bin(sign * high)) == (sign > 0)
        assert number_bin(low) != number_bin(high)


def test_whole_numbers_below_64_have_a_bin_each() -> None:
    assert len({number_bin(float(number)) for number in range(-63, 64)}) == 127
