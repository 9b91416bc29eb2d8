"""Drift is found where it is, and alarms are rare where there is none."""

import datetime as dt
import math
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nbmlops.data.columns import ColumnDrift
from nbmlops.data.drift import category_shift, measure, merged_counts, number_shift, psi

N = 4000


def one(reference: object, current: object) -> ColumnDrift:
    frames = (pd.DataFrame({"x": pd.Series(side)}) for side in (reference, current))
    return measure(*frames, ["x"])[0]


# ------------------------------------------------------------------- oracles
def test_numbers_equal_scipys_two_sample_test() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=700), rng.normal(0.1, size=900)
    oracle = stats.ks_2samp(a, b, method="asymp")
    shift = number_shift(a, b)
    assert (shift.effect, shift.p_value) == (oracle.statistic, oracle.pvalue)


def test_categories_equal_scipys_chi_square_and_cramers_v() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.choice(list("abcd"), 1000), rng.choice(list("abcd"), 1000, p=[0.3, 0.3, 0.2, 0.2])
    table = np.array([[np.sum(side == letter) for letter in "abcd"] for side in (a, b)])
    shift = category_shift(list(a), list(b))
    assert shift.p_value == pytest.approx(stats.chi2_contingency(table, correction=False).pvalue)
    assert shift.effect == pytest.approx(stats.contingency.association(table, method="cramer"))


def test_p_values_are_adjusted_over_the_columns() -> None:
    rng = np.random.default_rng(2)
    a, b = (pd.DataFrame(rng.normal(size=(300, 6)), columns=list("abcdef")) for _ in range(2))
    raw = {c: stats.ks_2samp(a[c], b[c], method="asymp").pvalue for c in a}
    wanted = dict(zip(raw, stats.false_discovery_control(list(raw.values())), strict=True))
    assert {row.name: row.p_value for row in measure(a, b, list(a))} == pytest.approx(wanted)


def test_psi_of_a_shift_of_three_tenths_of_a_deviation_is_about_nine_hundredths() -> None:
    rng = np.random.default_rng(3)
    assert number_shift(rng.normal(size=100_000), rng.normal(0.3, size=100_000)).psi == pytest.approx(0.09, abs=0.005)


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=1, max_size=20))
def test_psi_is_symmetric_and_never_negative(pairs: list[tuple[int, int]]) -> None:
    a, b = np.array(pairs).T
    assert psi(a, b) == pytest.approx(psi(b, a))
    assert psi(a, b) >= 0


# ----------------------------------------------------------- power and alarms
def test_a_shift_of_three_tenths_of_a_deviation_is_found_though_its_psi_is_small() -> None:
    rng = np.random.default_rng(4)
    for _ in range(20):
        row = one(rng.normal(size=N), rng.normal(0.3, size=N))
        assert row.drifted
        assert row.psi is not None
        assert row.psi < 0.2


@pytest.mark.parametrize(("n", "m"), [(N, N), (200, 200), (20_000, 300), (300, 20_000)])
def test_false_alarms_are_rare(n: int, m: int) -> None:
    rng = np.random.default_rng(n + m)

    def table(rows: int) -> pd.DataFrame:
        heavy = 1 / np.arange(1, 1001)
        return pd.DataFrame(
            {
                "normal": rng.normal(size=rows),
                "count": rng.poisson(2, rows),
                "flag": rng.random(rows) < 0.02,
                "few": rng.choice(list("abcde"), rows),
                "thirty": rng.integers(0, 30, rows).astype(str),
                "tail": rng.choice(1000, rows, p=heavy / heavy.sum()).astype(str),
                "flat": rng.integers(0, 1000, rows).astype(str),
                "identifier": rng.integers(0, 10**12, rows).astype(str),
                "holes": np.where(rng.random(rows) < 0.01, np.nan, rng.normal(size=rows)),
            }
        )

    alarms: Counter[str] = Counter()
    for _ in range(15):
        a, b = table(n), table(m)
        alarms.update(row.name for row in measure(a, b, list(a)) if row.drifted)
    assert alarms.total() <= 1, alarms


def test_a_tiny_change_of_the_missing_share_does_not_vouch_for_a_chance_shift_of_the_values() -> None:
    rng = np.random.default_rng(10)

    def table(missing: float) -> pd.DataFrame:
        return pd.DataFrame(np.where(rng.random((20_000, 10)) < missing, np.nan, rng.normal(size=(20_000, 10))))

    tables = [(table(0.985), table(0.980)) for _ in range(60)]
    assert [row.name for a, b in tables for row in measure(a, b, list(a)) if row.drifted] == []


def test_a_tiny_effect_in_many_rows_is_no_drift() -> None:
    rng = np.random.default_rng(5)
    row = one(rng.normal(size=200_000), rng.normal(0.03, size=200_000))
    assert row.p_value is not None
    assert row.p_value < 1e-6
    assert not row.drifted


def test_a_small_table_drifts_against_a_large_reference() -> None:
    rng = np.random.default_rng(6)
    row = one(rng.choice(list("abcd"), 300_000), rng.choice(list("abcd"), 1000, p=[0.4, 0.2, 0.2, 0.2]))
    assert row.drifted
    assert row.summary == "share of a"
    assert row.reference == pytest.approx(0.25, abs=0.01)
    assert row.current == pytest.approx(0.4, abs=0.05)


def test_new_categories_are_drift() -> None:
    assert one(["a", "b"] * 500, ["a", "b", "c", "d"] * 250).drifted
    months = [f"2013-01-{day:02d}" for day in range(1, 32)]
    assert one(months * 40, [m.replace("-01-", "-02-") for m in months] * 40).statistic == pytest.approx(1)


def test_drifted_columns_come_first_then_the_wider() -> None:
    rng = np.random.default_rng(7)
    a = pd.DataFrame({c: rng.normal(size=1000) for c in "abc"})
    b = pd.DataFrame({"a": rng.normal(size=1000), "b": rng.normal(0.4, size=1000), "c": rng.normal(2, size=1000)})
    assert [(row.name, row.drifted) for row in measure(a, b, list(a))] == [("c", True), ("b", True), ("a", False)]


# ------------------------------------------------------------------- missing
def test_more_missing_values_are_drift_though_the_values_are_alike() -> None:
    rng = np.random.default_rng(8)
    values = rng.normal(size=N)
    row = one(values, np.where(rng.random(N) < 0.2, np.nan, values))
    assert row.drifted
    assert row.missing_reference == 0
    assert row.missing_current == pytest.approx(0.2, abs=0.03)


def test_a_column_that_becomes_all_missing_is_drift_though_no_value_can_be_tested() -> None:
    row = one(np.arange(200.0), np.full(200, np.nan))
    assert row.drifted
    assert row.method == ""
    assert row.note == "too few values: 0"


def test_the_p_value_of_a_column_with_missing_values_pays_for_two_tests() -> None:
    rng = np.random.default_rng(9)
    a, b = rng.normal(size=500), rng.normal(0.2, size=500)
    b[:5] = np.nan
    values = stats.ks_2samp(a, b[5:], method="asymp").pvalue
    missing = stats.fisher_exact([[0, 500], [5, 495]]).pvalue
    assert one(a, b).p_value == pytest.approx(min(1, 2 * min(values, missing)))


# --------------------------------------------------------------- odd columns
@pytest.mark.parametrize(
    ("reference", "current", "drifted"),
    [
        ([], [], False),
        ([1.0] * 49, [2.0] * 4000, False),
        ([5] * 100, [5] * 100, False),
        ([5] * 100, [6] * 100, True),
        (["a"] * 100, ["a"] * 100, False),
        ([np.nan] * 100, [np.nan] * 100, False),
        ([None] * 100, [None] * 100, False),
        ([None] * 100, ["a"] * 100, True),
        ([np.inf, -np.inf, 1.0, 2.0] * 50, [np.inf, -np.inf, 1.0, 2.0] * 50, False),
        ([np.inf] * 100, [1.0] * 100, True),
        ([1, "a", None, 2.5] * 50, [1, "a", None, 2.5] * 50, False),
        ([1, "a"] * 100, [2, "b"] * 100, True),
        ([1, 2] * 100, ["1", "2"] * 100, False),
        ([True, False] * 100, [1, 0] * 100, False),
        ([True, False] * 100, [True, True] * 100, True),
        ([[1], {"a": 2}] * 100, [[1], {"a": 2}] * 100, False),
        ([dt.date(2013, 1, d) for d in range(1, 26)] * 8, [dt.date(2013, 2, d) for d in range(1, 26)] * 8, True),
        (pd.Series([1, 2, None] * 50, dtype="Int64"), pd.Series([1, 2, None] * 50, dtype="Int64"), False),
        (pd.Series(["a", "b"] * 50, dtype="category"), pd.Series(["a", "b"] * 50), False),
        (pd.to_timedelta(range(100), unit="s"), pd.to_timedelta(range(100, 200), unit="s"), True),
        (pd.Series(pd.to_timedelta(range(100), unit="s"), dtype=object), pd.to_timedelta(range(100), unit="s"), False),
    ],
)
def test_odd_columns_are_judged_without_a_warning(reference: object, current: object, drifted: bool) -> None:
    row = one(reference, current)
    assert row.drifted is drifted
    for figure in (row.statistic, row.p_value, row.psi):
        assert figure is None or math.isfinite(figure)


def test_times_are_compared_whatever_their_zone_and_resolution() -> None:
    hours = pd.date_range("2013-01-01", periods=500, freq="h", unit="s")
    same = hours.tz_localize("UTC").tz_convert("America/New_York").as_unit("ns")
    row = one(hours, same)
    assert (row.statistic, row.drifted) == (0.0, False)
    later = one(hours, hours + pd.Timedelta(days=10))
    assert later.drifted
    assert later.summary == "median time"
    assert str(later.reference).startswith("2013-01-11")


def test_columns_of_different_types_are_told_of() -> None:
    hours = pd.Series(pd.date_range("2013-01-01", periods=500, freq="h"))
    assert one(hours, hours.dt.strftime("%Y-%m-%d %H:%M")).note == "types differ: datetime64 against string"
    assert one([1, 2] * 100, ["1", "2"] * 100).note == "types differ: integer against string"
    assert [one([True, False] * 100, [1, 0] * 100).note, one([None] * 100, ["a"] * 100).note] == [
        "",
        "too few values: 0",
    ]


def test_too_few_rows_are_said_and_never_drift() -> None:
    row = one([0.0] * 49, [100.0] * 4000)
    assert (row.drifted, row.p_value, row.note) == (False, None, "too few rows: 49")


# ---------------------------------------------------------------- invariance
counts = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 400), min_size=1, max_size=8).map(Counter)


@settings(max_examples=60)
@given(counts, counts)
def test_merging_loses_no_row_and_leaves_no_scarce_cell(a: Counter[str], b: Counter[str]) -> None:
    _, table = merged_counts(a, b)
    assert table.sum(axis=1).tolist() == [a.total(), b.total()]
    if table.shape[1] > 1:
        assert stats.contingency.expected_freq(table).min() >= 5 - 1e-9


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(allow_nan=False), min_size=50, max_size=80),
    st.lists(st.floats(allow_nan=False), min_size=50, max_size=80),
)
def test_effects_stay_within_bounds_and_do_not_depend_on_the_direction(a: list[float], b: list[float]) -> None:
    there, back = one(a, b), one(b, a)
    assert there.statistic is not None
    assert 0 <= there.statistic <= 1
    assert there.statistic == pytest.approx(back.statistic)
    assert there.drifted == back.drifted
