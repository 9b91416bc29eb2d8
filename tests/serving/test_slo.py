"""Limits as a person writes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbmlops.errors import UsageError
from nbmlops.serving.slo import Limit, Slo


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("err<1%,p99<50ms,shift<0.2", [("err", 0.01), ("p99", 0.05), ("shift", 0.2)]),
        (" ERR <= 0.01 , p50 < 1.5 s", [("err", 0.01), ("p50", 1.5)]),
        ("p99.9<500us", [("p99.9", 0.0005)]),
        ("diff<5%", [("diff", 0.05)]),
        ("p95.0<2s", [("p95", 2.0)]),
        ("", []),
        ("  ", []),
    ],
)
def test_limits_are_read(text: str, limits: list[tuple[str, float]]) -> None:
    assert [(one.name, pytest.approx(one.limit)) for one in Slo.parse(text).limits] == limits


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("err", "'err' is no limit: a name, < and a value were expected"),
        ("err>1%", "'err>1%' is no limit"),
        ("err<1%,", "'' is no limit"),
        ("err<0%", "err must be between 0% and 100%"),
        ("err<100%", "err must be between 0% and 100%"),
        ("err<1", "err must be between 0% and 100%"),
        ("err<1ms", "err must be between 0% and 100%"),
        ("p99<50", "p99 must be a time with a unit, not '50'"),
        ("p99<0ms", "between 10us and 100s"),
        ("p99<200s", "between 10us and 100s"),
        ("p0<5ms", "There is no limit of 'p0'"),
        ("p100<5ms", "There is no limit of 'p100'"),
        ("shift<20%", "shift must be a number between 0 and 10"),
        ("shift<0", "shift must be a number between 0 and 10"),
        ("latency<5ms", "There is no limit of 'latency'"),
        ("err<1%,err<2%", "err has two limits"),
        ("p99<5ms,p99.0<6ms", "p99 has two limits"),
        ("err<٣%", "err must be between"),
    ],
)
def test_what_is_no_limit_is_refused_with_what_was_expected(text: str, told: str) -> None:
    with pytest.raises(UsageError) as refused:
        Slo.parse(text)
    assert told in refused.value.message


def test_a_name_that_is_nearly_right_is_told() -> None:
    with pytest.raises(UsageError) as refused:
        Slo.parse("shfit<0.2")
    assert refused.value.hint == "Did you mean shift?"


limits = st.one_of(
    st.tuples(st.sampled_from(["err", "diff"]), st.integers(1, 999).map(lambda n: n / 1000)),
    st.tuples(st.sampled_from(["p50", "p90", "p99", "p99.9"]), st.integers(1, 9999).map(lambda n: n / 1e4)),
    st.tuples(st.just("shift"), st.integers(1, 1000).map(lambda n: n / 100)),
)


@given(st.lists(limits, max_size=4, unique_by=lambda limit: limit[0]))
def test_limits_survive_being_written_and_read(given_limits: list[tuple[str, float]]) -> None:
    slo = Slo(tuple(Limit(name, limit) for name, limit in given_limits))
    again = Slo.parse(str(slo))
    assert [one.name for one in again.limits] == [one.name for one in slo.limits]
    assert [one.limit for one in again.limits] == pytest.approx([one.limit for one in slo.limits])
    assert str(again) == str(slo)
