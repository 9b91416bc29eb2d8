import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbmlops.validation.gates import Check, GateReport, has_passed, judge_champion, judge_threshold, worst_first
from nbmlops.validation.statistics import Interval

NUMBER = st.floats(-10, 10)


@pytest.mark.parametrize(
    ("lower", "upper", "status"), [(-0.005, 0.02, "pass"), (-0.03, -0.02, "fail"), (-0.02, 0.01, "warn")]
)
def test_champion_check_passes_fails_or_is_inconclusive_by_its_interval(
    lower: float, upper: float, status: str
) -> None:
    check = judge_champion("f1", 0.7, 0.71, Interval((lower + upper) / 2, lower, upper), 0.01, 100)
    assert check.status == status


def test_unknown_interval_is_inconclusive_and_does_not_fail_the_gate() -> None:
    check = judge_champion("f1", 0.7, 0.71, Interval(-0.01, math.nan, math.nan), 0.01, 100)
    assert check.status == "warn"
    assert has_passed((check,))


@given(NUMBER, NUMBER, NUMBER)
def test_threshold_check_passes_exactly_within_its_limits(value: float, low: float, high: float) -> None:
    checks = judge_threshold("mae", value, {"min": low, "max": high}, 10)
    assert has_passed(tuple(checks)) == (low <= value <= high)


def test_a_gate_without_a_check_is_not_passed() -> None:
    assert not has_passed(())


def test_nan_meets_no_limit() -> None:
    assert [check.status for check in judge_threshold("r2", math.nan, {"min": 0, "max": 1}, 10)] == ["fail", "fail"]


def test_report_puts_failures_first_and_the_reason_into_its_headline() -> None:
    checks = worst_first(
        [*judge_threshold("f1", 0.9, {"min": 0.5}, 10), *judge_threshold("roc_auc", 0.61, {"min": 0.7}, 10)]
    )
    report = GateReport(False, "delays", "3", "ab", "default", "d", "", 10, checks)
    assert [check.name for check in checks] == ["roc_auc", "f1"]
    assert report.headline == (
        "delays/3 failed gate default on 10 rows: 1 failed, 1 passed; roc_auc 0.61 is below its min 0.7"
    )


def test_order_within_one_status_stays() -> None:
    checks = [Check(name, "min", 1, 0, None, None, None, 1, "pass") for name in "cab"]
    assert [check.name for check in worst_first(checks)] == ["c", "a", "b"]
