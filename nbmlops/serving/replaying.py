"""The mathematics of a replay: what was answered, against what a candidate answers to the same requests. Pure."""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from nbmlops.errors import UsageError, nearest
from nbmlops.serving.replays import (
    Change,
    CostChange,
    Differences,
    Direction,
    ErrorChange,
    Outcome,
    Replay,
    SliceFlips,
)

LEVEL = 0.05  # largest p-value after Benjamini-Hochberg at which a slice stands out
FEWEST_ROWS = 30  # of a slice that is looked at
MOST_VALUES = 20  # of a column; of numbers with more there are bins, of other columns the most frequent ones
BINS = 5  # of numbers, by quantiles
RESAMPLES = 10_000
SEED = 20130101
_LEAST_EXPECTED = 5.0  # in each cell of a chi-square table (Cochran); below, Fisher's exact test

Kind = Literal["labels", "numbers"]
Costs = Mapping[tuple[Any, Any], float]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def replayed(
    features: pd.DataFrame,
    baseline: Any,
    candidate: Any,
    *,
    model: str = "",
    against: str = "",
    kind: Kind | None = None,
    threshold: float | None = None,
    labels: Any = None,
    costs: Costs | None = None,
    slices: Sequence[str] | None = None,
    confidence: float = 0.95,
    seed: int = SEED,
) -> Replay:
    """Compare a candidate's predictions on captured features with the ones before.

    Parameters
    ----------
    features
        ``(n_rows, …)``: the captured features.
    baseline, candidate
        ``(n_rows,)`` each: the predictions before, and the candidate's. Rows where one is missing do not count.
    model, against
        What the report is about.
    kind
        ``labels``: decisions, which flip or do not. ``numbers``: values, which differ. None: numbers where any
        prediction has a fraction, labels otherwise.
    threshold
        Makes decisions of numbers: ``1`` from it on, ``0`` below.
    labels
        ``(n_rows,)``: the truth, missing where it is not known (yet).
    costs
        Of a row by truth and prediction: ``{("late", "on time"): 5.0, …}``; pairs that are not there cost 0.
    slices
        Columns by which flips are looked at; None: all.
    confidence
        Of all intervals, in (0, 1).
    seed
        Of the bootstrap.

    Returns
    -------
    Replay
        Share of flipped decisions with Wilson's interval, directions, slices that stand out, and where the truth
        is known gains, losses and costs; for numbers the distribution of differences, and of the error.

    Raises
    ------
    UsageError
        Lengths that differ, costs for numbers, or a slice that is no column.

    Notes
    -----
    A slice stands out when its rate differs from that of all other rows (chi-square, or Fisher's exact test for
    few rows) with a p-value of at most 0.05 after Benjamini-Hochberg over all slices. The interval of a cost is
    the percentile bootstrap's over 10,000 multinomial draws of (truth, before, after).

    References
    ----------
    Wilson (1927), JASA 22. McNemar (1947), Psychometrika 12. Benjamini, Hochberg (1995), JRSS B 57.

    Examples
    --------
    >>> rows = pd.DataFrame({"carrier": ["UA"] * 50 + ["B6"] * 50})
    >>> found = replayed(rows, [0] * 100, [0] * 50 + [1] * 25 + [0] * 25, labels=[0] * 50 + [1] * 50)
    >>> found.n_flipped, round(found.lower, 4), round(found.upper, 4)
    (25, 0.1755, 0.343)
    >>> [(each.name, each.n) for each in found.directions]
    [('0 -> 1', 25)]
    >>> found.outcome.gained, found.outcome.lost, found.outcome.status
    (25, 0, 'better')
    >>> [(each.name, each.status) for each in found.slices]
    [('carrier = B6', 'higher'), ('carrier = UA', 'lower')]
    """
    before, after = _series(baseline), _series(candidate)
    truth = _series(labels if labels is not None else [None] * len(features))
    _check(features, before, after, truth, slices)
    scored = before.notna() & after.notna()
    rows = features.loc[scored.to_numpy()]
    before, after, truth = (each[scored].reset_index(drop=True) for each in (before, after, truth))
    report = Replay(model, against, len(rows), int((~scored).sum()), None, None, None, None, 0)
    if not len(rows):
        return report
    if threshold is None and (kind or _kind(before, after)) == "numbers":
        if costs:
            raise UsageError("Costs are of decisions, and these predictions are numbers.", "Give a threshold too.")
        return _of_numbers(report, before, after, truth, confidence)
    if threshold is not None:
        before, after = (pd.Series((_floats(each) >= threshold).astype(int)) for each in (before, after))
    return _of_labels(report, rows, before, after, truth, costs, slices, confidence, seed)


# ----------------------------------------------------------------------- decisions
def _of_labels(
    report: Replay,
    rows: pd.DataFrame,
    before: "pd.Series[Any]",
    after: "pd.Series[Any]",
    truth: "pd.Series[Any]",
    costs: Costs | None,
    slices: Sequence[str] | None,
    confidence: float,
    seed: int,
) -> Replay:
    was, now, true = _names(before), _names(after), _names(truth)
    flipped = was != now
    lower, upper = wilson(int(flipped.sum()), len(flipped), confidence)
    looked_at = list(_slices(rows, slices))
    known = truth.notna().to_numpy()
    labelled = true[known], was[known], now[known]
    return replace(
        report,
        n_flipped=int(flipped.sum()),
        flip_rate=float(flipped.mean()),
        lower=lower,
        upper=upper,
        n_slices=len(looked_at),
        slices=standing_out(flipped, looked_at, confidence),
        directions=directions(was, now),
        outcome=outcome(labelled[1] == labelled[0], labelled[2] == labelled[0], confidence) if known.any() else None,
        cost=cost_change(true[known], was[known], now[known], costs, confidence, seed)
        if costs and known.any()
        else None,
    )


def wilson(count: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Bound a share by Wilson's score interval.

    Examples
    --------
    >>> [round(bound, 4) for bound in wilson(0, 10)]
    [0.0, 0.2775]
    """
    bounds = stats.binomtest(count, n).proportion_ci(confidence, method="wilson")
    return float(bounds.low), float(bounds.high)


def directions(before: npt.NDArray[Any], after: npt.NDArray[Any]) -> tuple[Direction, ...]:
    """Count the flips by what they change from and to, the most frequent first."""
    flipped = before != after
    counts = Counter(zip(before[flipped].tolist(), after[flipped].tolist(), strict=True))
    return tuple(Direction(f"{was} -> {now}", was, now, n, n / len(before)) for (was, now), n in counts.most_common())


def outcome(was_right: Flags, is_right: Flags, confidence: float = 0.95) -> Outcome:
    """Compare how many decisions are right: McNemar's exact test, and the paired difference's interval.

    The interval is ``d ± z √(b + c - (b - c)² / n) / n`` with b gained and c lost rows, ``d = (b - c) / n``.

    Examples
    --------
    >>> found = outcome(np.array([True, False] * 20), np.ones(40, dtype=bool))
    >>> found.gained, found.lost, found.change, round(found.p_value, 7)
    (20, 0, 0.5, 1.9e-06)
    """
    n = len(was_right)
    gained, lost = int((is_right & ~was_right).sum()), int((was_right & ~is_right).sum())
    p_value = float(stats.binomtest(gained, gained + lost, 0.5).pvalue) if gained + lost else 1.0
    change = (gained - lost) / n
    margin = _z(confidence) * float(np.sqrt(max(gained + lost - (gained - lost) ** 2 / n, 0))) / n
    status: Change = "undecided"
    if p_value <= 1 - confidence:
        status = "better" if gained > lost else "worse"
    accuracies = float(was_right.mean()), float(is_right.mean())
    return Outcome(n, *accuracies, gained, lost, change, change - margin, change + margin, p_value, status)


def cost_change(
    truth: npt.NDArray[Any],
    before: npt.NDArray[Any],
    after: npt.NDArray[Any],
    costs: Costs,
    confidence: float = 0.95,
    seed: int = SEED,
) -> CostChange:
    """Measure how the mean cost of a row changes, with the percentile bootstrap's interval.

    A resample of rows is a multinomial draw of the distinct (truth, before, after), so it costs their number only.

    Examples
    --------
    >>> truth, before = np.array(["1"] * 100), np.array(["1"] * 60 + ["0"] * 40)
    >>> found = cost_change(truth, before, truth, {("1", "0"): 5.0})
    >>> found.before, found.after, found.change, found.status
    (2.0, 0.0, -2.0, 'better')
    """
    prices = {(_name(true), _name(predicted)): float(cost) for (true, predicted), cost in costs.items()}
    counted = Counter(zip(truth.tolist(), before.tolist(), after.tolist(), strict=True))
    cells, counts = list(counted), np.array(list(counted.values()))
    was = np.array([prices.get((true, old), 0.0) for true, old, _ in cells])
    now = np.array([prices.get((true, new), 0.0) for true, _, new in cells])
    n, shares = int(counts.sum()), counts / counts.sum()
    drawn = np.random.default_rng(seed).multinomial(n, shares, RESAMPLES) @ (now - was) / n
    lower, upper = (float(bound) for bound in np.quantile(drawn, _tails(confidence)))
    means = float(shares @ was), float(shares @ now)
    return CostChange(n, *means, means[1] - means[0], lower, upper, _lower_is_better(lower, upper))


# ------------------------------------------------------------------------- slices
def standing_out(
    flipped: Flags, slices: Sequence[tuple[str, str, Flags]], confidence: float = 0.95
) -> tuple[SliceFlips, ...]:
    """Test each slice against all other rows; keep those that stand out, the highest rate first.

    Parameters
    ----------
    flipped
        ``(n_rows,)``.
    slices
        Column, name and rows ``(n_rows,)`` of each.
    confidence
        Of each slice's interval.
    """
    if not slices:
        return ()
    tables = [_table(flipped, inside) for _, _, inside in slices]
    adjusted = stats.false_discovery_control([_p_value(table) for table in tables], method="bh")
    found = [
        _slice(column, name, table, float(p), confidence)
        for (column, name, _), table, p in zip(slices, tables, adjusted, strict=True)
        if p <= LEVEL
    ]
    return tuple(sorted(found, key=lambda each: -each.rate))


def _slice(column: str, name: str, table: npt.NDArray[np.int64], p: float, confidence: float) -> SliceFlips:
    (n_flipped, n_same), (others_flipped, others_same) = table.tolist()
    n = n_flipped + n_same
    rate, elsewhere = n_flipped / n, others_flipped / (others_flipped + others_same)
    status: Literal["higher", "lower"] = "higher" if rate > elsewhere else "lower"
    return SliceFlips(name, column, n, n_flipped, rate, *wilson(n_flipped, n, confidence), p, status)


def _table(flipped: Flags, inside: Flags) -> npt.NDArray[np.int64]:
    """Count (flipped, same) inside and outside of a slice: ``(2, 2)``."""
    n, n_flipped = int(inside.sum()), int((flipped & inside).sum())
    others = int(flipped.sum()) - n_flipped
    return np.array([[n_flipped, n - n_flipped], [others, len(flipped) - n - others]])


def _p_value(table: npt.NDArray[np.int64]) -> float:
    sums = table.sum(axis=1, keepdims=True), table.sum(axis=0, keepdims=True)
    if min(sums[0].min(), sums[1].min()) == 0:
        return 1.0
    if (sums[0] * sums[1] / table.sum()).min() < _LEAST_EXPECTED:
        return float(stats.fisher_exact(table).pvalue)
    return float(stats.chi2_contingency(table, correction=False).pvalue)


def _slices(rows: pd.DataFrame, columns: Sequence[str] | None) -> Iterator[tuple[str, str, Flags]]:
    """Divide rows by each column; slices of few rows, and of all rows, are left out."""
    for column in rows.columns if columns is None else columns:
        for name, inside in _divided(rows[column]):
            if FEWEST_ROWS <= inside.sum() < len(rows):
                yield str(column), f"{column} {name}", inside


def _divided(values: "pd.Series[Any]") -> Iterator[tuple[str, Flags]]:
    missing = values.isna().to_numpy()
    yield "is missing", missing
    known = values[~missing]
    if pd.api.types.is_numeric_dtype(known) and not pd.api.types.is_bool_dtype(known) and known.nunique() > MOST_VALUES:
        yield from _bins(values.to_numpy(dtype=np.float64, na_value=np.nan))
        return
    names = _names(values)
    for name in pd.Series(names[~missing], dtype=object).value_counts().index[:MOST_VALUES]:
        yield f"= {name}", (names == name) & ~missing


def _bins(values: Floats) -> Iterator[tuple[str, Flags]]:
    """Divide numbers at their quantiles; the last bin has its upper bound too."""
    finite = values[np.isfinite(values)]
    edges = np.unique(np.quantile(finite, np.linspace(0, 1, BINS + 1))) if len(finite) else np.array([])
    for n, (low, high) in enumerate(itertools.pairwise(edges), start=2):
        is_last = n == len(edges)
        inside = (values >= low) & ((values <= high) if is_last else (values < high))
        yield f"in [{low:.4g}, {high:.4g}{']' if is_last else ')'}", inside


# ------------------------------------------------------------------------ numbers
def _of_numbers(
    report: Replay, before: "pd.Series[Any]", after: "pd.Series[Any]", truth: "pd.Series[Any]", confidence: float
) -> Replay:
    was, now, true = _floats(before), _floats(after), _floats(truth)
    known = ~np.isnan(true)
    error = error_change(true[known], was[known], now[known], confidence) if known.any() else None
    return replace(report, differences=differences(was, now), error=error)


def differences(before: Floats, after: Floats) -> Differences:
    """Describe candidate - before; `largest` is the one furthest from 0, with its sign.

    Examples
    --------
    >>> found = differences(np.zeros(101), np.linspace(-1, 1, 101))
    >>> round(found.mean, 6), found.p50, round(found.p95, 6), found.largest
    (0.0, 0.0, 0.9, -1.0)
    """
    gaps = after - before
    p01, p05, p50, p95, p99 = (float(each) for each in np.quantile(gaps, [0.01, 0.05, 0.5, 0.95, 0.99]))
    largest = float(gaps[np.argmax(np.abs(gaps))])
    deviation = float(gaps.std(ddof=1)) if len(gaps) > 1 else 0.0
    return Differences(
        len(gaps), float(gaps.mean()), float(np.abs(gaps).mean()), deviation, p01, p05, p50, p95, p99, largest
    )


def error_change(truth: Floats, before: Floats, after: Floats, confidence: float = 0.95) -> ErrorChange:
    """Measure how the mean absolute error changes: ``d ± z · s / √n`` of the paired differences.

    Examples
    --------
    >>> found = error_change(np.zeros(100), np.tile([1.0, 3.0], 50), np.tile([0.5, 1.0], 50))
    >>> found.before, found.after, found.change, found.status
    (2.0, 0.75, -1.25, 'better')
    """
    was, now = np.abs(before - truth), np.abs(after - truth)
    gaps = now - was
    change, n = float(gaps.mean()), len(gaps)
    margin = _z(confidence) * float(gaps.std(ddof=1)) / np.sqrt(n) if n > 1 else float("inf")
    lower, upper = change - float(margin), change + float(margin)
    return ErrorChange(n, float(was.mean()), float(now.mean()), change, lower, upper, _lower_is_better(lower, upper))


# ------------------------------------------------------------------------- values
def _check(
    features: pd.DataFrame,
    before: "pd.Series[Any]",
    after: "pd.Series[Any]",
    truth: "pd.Series[Any]",
    slices: Sequence[str] | None,
) -> None:
    lengths = {"baseline": len(before), "candidate": len(after), "labels": len(truth)}
    for name, n in lengths.items():
        if n != len(features):
            raise UsageError(f"There are {len(features)} rows and {n} values of {name}.", "Give one for each row.")
    if unknown := [name for name in slices or () if name not in features]:
        raise UsageError(f"There is no column {unknown[0]!r} to slice by.", nearest(unknown[0], map(str, features)))


def _series(values: Any) -> "pd.Series[Any]":
    return pd.Series(values).reset_index(drop=True) if isinstance(values, pd.Series) else pd.Series(list(values))


def _kind(before: "pd.Series[Any]", after: "pd.Series[Any]") -> Kind:
    """Take predictions for numbers where any of them has a fraction."""
    for each in (before, after):
        if pd.api.types.is_float_dtype(each) and not (each.dropna() % 1 == 0).all():
            return "numbers"
    return "labels"


def _names(values: "pd.Series[Any]") -> npt.NDArray[Any]:
    """Name each value as text, so that 1, 1.0, True and "1" are one label, whichever way a model writes it."""
    return np.array([_name(value) for value in values.tolist()], dtype=object)


def _name(value: Any) -> str:
    """Name a label.

    Examples
    --------
    >>> [_name(value) for value in (1, 1.0, True, np.float64(1), "1", 0.5, "late")]
    ['1', '1', '1', '1', '1', '0.5', 'late']
    """
    if isinstance(value, bool | np.bool_):
        return str(int(value))
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _floats(values: "pd.Series[Any]") -> Floats:
    return np.asarray(pd.to_numeric(values, errors="coerce"), dtype=np.float64)


def _z(confidence: float) -> float:
    return float(stats.norm.ppf((1 + confidence) / 2))


def _tails(confidence: float) -> tuple[float, float]:
    return (1 - confidence) / 2, (1 + confidence) / 2


def _lower_is_better(lower: float, upper: float) -> Change:
    if upper < 0:
        return "better"
    return "worse" if lower > 0 else "undecided"
