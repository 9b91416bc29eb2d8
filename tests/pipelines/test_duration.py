"""Durations: what is read, what is refused, and that what is worded is read back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbmlops.duration import LONGEST_S, duration_s, spoken
from nbmlops.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *[("5s", 5), ("10m", 600), ("24h", 86400), ("3d", 259200), ("2w", 1209600), ("500ms", 0.5), ("1h30m", 5400)],
        *[("90", 90), ("1.5h", 5400), (" 5 S ", 5), (7, 7), (0, 0), ("0", 0)],
    ],
)
def test_a_duration_is_read_by_its_unit(text: str | float, seconds: float) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "5x", "-5s", -5, "nan", float("nan"), float("inf"), "1e3", "s", "5s!", True, "99999999w", "\u0665s"]
)
def test_anything_else_is_refused(text: str | float) -> None:
    with pytest.raises(UsageError, match="timeout must be a duration, not"):
        duration_s(text, "timeout")


@given(st.integers(0, int(LONGEST_S)))
def test_a_worded_duration_is_read_back_as_near_as_its_two_units_allow(seconds: int) -> None:
    assert abs(duration_s(spoken(seconds)) - seconds) <= seconds / 24
