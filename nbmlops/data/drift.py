"""Drift of a table's columns: two-sample tests, effect sizes, and false-discovery control. No files, no stores."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from nbmlops.data.columns import ColumnDrift

LEVEL = 0.01  # largest p-value after Benjamini-Hochberg at which a column drifted
SMALLEST_EFFECT = 0.05  # KS distance, Cramér's V or change of the missing share that matters at all
FEWEST_VALUES = 50  # on both sides; with fewer no test is made
MOST_CATEGORIES = 50
LEAST_EXPECTED = 5.0  # in each cell of a chi-square table (Cochran)
PSI_BINS = 10
OTHER = "(other)"

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Shift:
    """One test of one column: its method, effect size in [0, 1], p-value, PSI, and where it shows."""

    method: str
    effect: float
    p_value: float
    psi: float
    summary: str
    reference: float | str | None
    current: float | str | None


def measure(reference: pd.DataFrame, current: pd.DataFrame, columns: Sequence[str]) -> list[ColumnDrift]:
    """Measure the drift of columns that both tables have, worst first.

    Numbers, times and durations are compared by the Kolmogorov-Smirnov test, all
    else as categories by the chi-square test. When a side has missing values
    their share is tested too, and the column's p-value is
    ``min(1, 2 min(p, p_missing))``, which Benjamini-Hochberg adjusts over the
    columns. A column ``drifted`` when the same sum over those tests alone whose
    effect is above 0.05 (KS distance, Cramér's V, or change of the missing share)
    gives at most 0.01; a test with a smaller effect counts there as p = 1, so that
    its p-value never speaks for the other test's effect.

    Parameters
    ----------
    reference, current
        Tables whose column labels are text; rows in any order and any number.
    columns
        Which columns; each occurs once in both tables.

    Returns
    -------
    list of ColumnDrift
        Drifted ones first, then by effect. Fewer than 50 values on a side: no
        test of the values, which `note` says; fewer than 50 rows: no test at all.
        Constant columns test as equal or different like all others; ``inf``
        counts as a value, NaN, None and NaT as missing. A number or time column
        against a text column is compared as text, which `note` says. Where nearly every value is distinct, as
        in an identifier, categories say nothing and none drifts.

    Examples
    --------
    >>> before = pd.DataFrame({"delay": range(400), "carrier": ["UA", "B6"] * 200})
    >>> after = pd.DataFrame({"delay": range(100, 500), "carrier": ["UA", "B6"] * 200})
    >>> [(row.name, row.drifted, row.method) for row in measure(before, after, ["carrier", "delay"])]
    [('delay', True, 'ks'), ('carrier', False, 'chi2')]
    """
    measured = [_column(name, reference[name], current[name]) for name in columns]
    shown = _adjusted([p for _, p, _ in measured])
    deciding = _adjusted([p for _, _, p in measured])
    rows = [
        replace(row, p_value=p, drifted=decides is not None and decides <= LEVEL)
        for (row, _, _), p, decides in zip(measured, shown, deciding, strict=True)
    ]
    return sorted(rows, key=lambda row: (not row.drifted, -_effect(row)))


def _adjusted(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust p-values by Benjamini-Hochberg; None, where no test was made, does not count."""
    tested = [p for p in p_values if p is not None]
    adjusted: Iterator[float] = iter(stats.false_discovery_control(tested, method="bh") if tested else [])
    return [None if p is None else float(next(adjusted)) for p in p_values]


def _column(name: str, reference: pd.Series, current: pd.Series) -> tuple[ColumnDrift, float | None, float | None]:
    """Test one column: its row, its p-value before adjustment, and that of the tests whose effect matters."""
    n, m = len(reference), len(current)
    missing = int(reference.isna().sum()), int(current.isna().sum())
    shares = missing[0] / n if n else 0.0, missing[1] / m if m else 0.0
    row = ColumnDrift(name, False, "", None, None, None, *shares)
    if min(n, m) < FEWEST_VALUES:
        return replace(row, note=f"too few rows: {min(n, m)}"), None, None
    tests: list[tuple[float, float]] = []
    if min(n - missing[0], m - missing[1]) < FEWEST_VALUES:
        row = replace(row, note=f"too few values: {min(n - missing[0], m - missing[1])}")
    else:
        shift = _shift(reference, current)
        row = replace(
            row,
            method=shift.method,
            statistic=shift.effect,
            psi=shift.psi,
            summary=shift.summary,
            reference=shift.reference,
            current=shift.current,
            note=_mismatch(reference, current),
        )
        tests.append((shift.p_value, shift.effect))
    if any(missing):
        table = np.array([[missing[0], n - missing[0]], [missing[1], m - missing[1]]])
        tests.append((_independence(table), abs(shares[0] - shares[1])))
    if not tests:
        return row, None, None
    smallest = min(p for p, _ in tests)
    deciding = min((p for p, effect in tests if effect > SMALLEST_EFFECT), default=1.0)
    return row, min(1.0, len(tests) * smallest), min(1.0, len(tests) * deciding)


def _effect(row: ColumnDrift) -> float:
    return max(row.statistic or 0.0, abs(row.missing_current - row.missing_reference))


# -------------------------------------------------------------------- kinds
def kind(reference: pd.Series, current: pd.Series) -> str:
    """Tell how a column is compared: ``number``, ``time`` or ``category``.

    Both sides must agree; truth values count as numbers beside numbers, and a side
    without values agrees with anything.

    Examples
    --------
    >>> kind(pd.Series([1, 2]), pd.Series([0.5, None]))
    'number'
    >>> kind(pd.Series([1, 2]), pd.Series(["a", 2]))
    'category'
    """
    kinds = {_kind_of(reference), _kind_of(current)} - {"empty"}
    if kinds == {"number", "truth"}:
        return "number"
    return kinds.pop() if len(kinds) == 1 and not kinds & {"truth"} else "category"


def _mismatch(reference: pd.Series, current: pd.Series) -> str:
    """Say that two sides are of different kinds, so that they are compared as text; empty when they agree."""
    kinds = {_kind_of(reference), _kind_of(current)} - {"empty"}
    if len(kinds) < 2 or kinds == {"number", "truth"}:
        return ""
    return f"types differ: {_type_of(reference)} against {_type_of(current)}"


def _type_of(series: pd.Series) -> str:
    return pd.api.types.infer_dtype(series, skipna=True)


def _kind_of(series: pd.Series) -> str:
    match _type_of(series):
        case "integer" | "floating" | "mixed-integer-float" | "decimal" | "timedelta" | "timedelta64":
            return "number"
        case "boolean":
            return "truth"
        case "datetime" | "datetime64" | "date":
            return "time"
        case "empty":
            return "empty"
    return "category"


def _shift(reference: pd.Series, current: pd.Series) -> Shift:
    match kind(reference, current):
        case "number":
            return number_shift(_numbers(reference), _numbers(current))
        case "time":
            moved = number_shift(_seconds(reference), _seconds(current))
            middle = [str(pd.to_datetime(side, utc=True, errors="coerce").median()) for side in (reference, current)]
            return replace(moved, summary="median time", reference=middle[0], current=middle[1])
    return category_shift(_texts(reference), _texts(current))


def _numbers(series: pd.Series) -> Floats:
    if _type_of(series).startswith("timedelta"):
        series = pd.to_timedelta(series).dt.total_seconds()
    return np.asarray(series.dropna(), dtype=np.float64)


def _seconds(series: pd.Series) -> Floats:
    times = pd.to_datetime(series, utc=True, errors="coerce").dropna()
    return np.asarray((times - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1), dtype=np.float64)


def _texts(series: pd.Series) -> list[str]:
    return [_text(value) for value in series.dropna()]


def _text(value: Any) -> str:
    """Word a value so that 1, 1.0 and "1" are one category."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


# ------------------------------------------------------------------ numbers
def number_shift(reference: Floats, current: Floats) -> Shift:
    """Compare two samples of numbers by the two-sample Kolmogorov-Smirnov test.

    Parameters
    ----------
    reference, current
        Shapes ``(n,)`` and ``(m,)``, without NaN; ``inf`` is fine. Neither is empty.

    Returns
    -------
    Shift
        The effect is the largest distance of the two distribution functions; the
        p-value is asymptotic, and cautious where many values are equal.
    """
    found = stats.ks_2samp(reference, current, method="asymp")
    return Shift(
        method="ks",
        effect=float(found.statistic),
        p_value=float(found.pvalue),
        psi=psi(*_bin_counts(reference, current)),
        summary="mean",
        reference=_finite_mean(reference),
        current=_finite_mean(current),
    )


def _finite_mean(values: Floats) -> float | None:
    finite = values[np.isfinite(values)]
    with np.errstate(over="ignore"):
        return float(finite.mean()) if len(finite) else None


def _bin_counts(reference: Floats, current: Floats) -> tuple[Counts, Counts]:
    """Count both samples in ten quantile bins of the reference; few distinct values are a bin each."""
    edges = np.unique(reference)
    own_bins = len(edges) <= PSI_BINS
    if not own_bins:
        inner = np.linspace(0, 1, PSI_BINS + 1)[1:-1]
        edges = np.unique(np.quantile(reference, inner, method="inverted_cdf"))

    def counts(values: Floats) -> Counts:
        place = np.searchsorted(edges, values)
        if own_bins:
            place = place + np.searchsorted(edges, values, side="right")
        return np.bincount(place, minlength=2 * PSI_BINS + 1)

    return counts(reference), counts(current)


# --------------------------------------------------------------- categories
def category_shift(reference: Sequence[str], current: Sequence[str]) -> Shift:
    """Compare two samples of categories by the chi-square test on their 2 x k table.

    Categories beyond the 50 most frequent, and those expected fewer than 5 times
    on a side, count together as one; if these are few still, the rarest of the
    others join them. The effect is Cramér's V of the shares,
    ``sqrt(sum((p - q)² / (2 (p + q))))``: what the table would give if both samples
    were of one size, so that a large reference does not hide a small table's drift.

    Parameters
    ----------
    reference, current
        The values; neither is empty.

    Returns
    -------
    Shift
        ``summary`` names the category whose share moved most.

    Examples
    --------
    >>> shift = category_shift(["UA"] * 60 + ["B6"] * 40, ["UA"] * 40 + ["B6"] * 60)
    >>> shift.summary, shift.reference, shift.current, round(shift.effect, 3), round(shift.p_value, 4)
    ('share of B6', 0.4, 0.6, 0.2, 0.0047)
    """
    names, table = merged_counts(Counter(reference), Counter(current))
    shares = table / table.sum(axis=1, keepdims=True)
    gaps = shares[0] - shares[1]
    widest = int(np.argmax(np.abs(gaps)))
    return Shift(
        method="chi2",
        effect=math.sqrt(float(np.sum(gaps**2 / (2 * shares.sum(axis=0))))),
        p_value=_independence(table),
        psi=psi(table[0], table[1]),
        summary=f"share of {names[widest]}",
        reference=float(shares[0, widest]),
        current=float(shares[1, widest]),
    )


def merged_counts(reference: Counter[str], current: Counter[str]) -> tuple[list[str], Counts]:
    """Count categories in both samples, the rare ones together as ``(other)``.

    Returns
    -------
    names : list of str
    table : array
        Shape ``(2, len(names))``; no column is empty. What is rare is decided on
        both samples together, so that a test on the table stays honest.

    Examples
    --------
    >>> merged_counts(Counter(a=90, b=8, c=2), Counter(a=95, d=5))
    (['a', '(other)'], array([[90, 10],
           [95,  5]]))
    """
    total = reference + current
    smaller_share = min(reference.total(), current.total()) / total.total()
    ranked = sorted(total, key=lambda name: (-total[name], name))
    kept = [name for name in ranked if total[name] * smaller_share >= LEAST_EXPECTED]
    if len(kept) > MOST_CATEGORIES:
        kept = kept[: MOST_CATEGORIES - 1]
    rest = total.total() - sum(total[name] for name in kept)
    while kept and 0 < rest * smaller_share < LEAST_EXPECTED:
        rest += total[kept.pop()]
    columns = [[side[name] for name in kept] for side in (reference, current)]
    if rest:
        columns = [
            [*column, side.total() - sum(column)] for column, side in zip(columns, (reference, current), strict=True)
        ]
    return [*kept, OTHER] if rest else kept, np.array(columns)


def _independence(table: Counts) -> float:
    """Give the chi-square p-value of a 2 x k table (Fisher's, if 2 x 2 and scarce); 1 if one column has all."""
    filled = table[:, table.sum(axis=0) > 0]
    if filled.shape[1] < 2:
        return 1.0
    if filled.shape[1] == 2 and stats.contingency.expected_freq(filled).min() < LEAST_EXPECTED:
        return float(stats.fisher_exact(filled).pvalue)
    return float(stats.chi2_contingency(filled, correction=False).pvalue)


def psi(reference: Counts, current: Counts) -> float:
    """Compute the population stability index, ``sum((q - p) ln(q / p))`` over the bins' shares.

    Half a count is added to every bin, so that an empty one costs much but not
    infinity. Below 0.1 is called stable by custom, above 0.25 shifted.

    Parameters
    ----------
    reference, current
        Counts per bin, shape ``(k,)``; bins empty on both sides are left out.

    Examples
    --------
    >>> round(psi(np.array([500, 500]), np.array([400, 600])), 3)
    0.04
    """
    filled = (reference + current) > 0
    p, q = ((side[filled] + 0.5) / (side[filled] + 0.5).sum() for side in (reference, current))
    return float(np.sum((q - p) * np.log(q / p)))
