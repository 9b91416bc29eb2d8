"""How far what one variant predicts lies from what another does: an index, and between what bounds it is. Pure.

The population stability index of two samples is ``Σ (p - q) ln(p / q)`` over their bins. It
is never negative, so that two samples of the very same predictions have an index of about
``(B - 1) (1/n + 1/m)`` in B bins: 0.09 for 200 rows each. That much is taken off here, and
the bounds say what the rest is worth.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbmlops.serving.bins import N_HASHES, NAN_BIN, label_hash
from nbmlops.serving.window import Window

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Counts = npt.NDArray[np.float64]

MAX_BINS = 10
MIN_EXPECTED = 10  # a bin in which the smaller sample would have fewer joins its neighbour, or the rest
SMOOTHING = 0.5
NO_SHIFT = 1e-12  # what is left of a bound at 0


@dataclass(frozen=True)
class Shift:
    """A population stability index: its estimate without bias, and its bounds; all from 0 on.

    By the usual reading, below 0.1 is little and above 0.25 much.
    """

    index: float
    lower: float
    upper: float
    n_bins: int


def shift(challenger: Window, champion: Window, p_error: float = 0.01) -> Shift:
    """Measure how far the challenger's predictions lie from the champion's.

    Rows of one request are not independent of each other, so that a sample counts
    for as many rows as it had requests, where it had fewer of those.

    Parameters
    ----------
    challenger, champion
        What each predicted over the same time, of the same kind of requests.
    p_error
        In (0, 1): the probability with which each of the two bounds may be wrong.

    Returns
    -------
    Shift
        With no index and no certainty (``0, 0, inf``) where one of them has predicted nothing.

    References
    ----------
    Yurdakul, B., Naranjo, J. (2020). Statistical properties of the population stability
    index. Journal of Risk Model Validation 14(4).

    Examples
    --------
    >>> early = Window(n_requests=1000, labels={"late": 300, "on time": 700})
    >>> found = shift(Window(n_requests=1000, labels={"late": 500, "on time": 500}), early)
    >>> round(found.index, 2), round(found.lower, 2), round(found.upper, 2), found.n_bins
    (0.17, 0.09, 0.27, 2)
    """
    ours, theirs = binned(challenger, champion)
    if not ours.sum() or not theirs.sum():
        return Shift(0.0, 0.0, float("inf"), 0)
    return bounded(ours, theirs, p_error)


def bounded(ours: "Counts", theirs: "Counts", p_error: float) -> Shift:
    """Estimate the index of two samples' counts, ``(n_bins,)`` each, with its bounds.

    ``PSI / (1/n + 1/m)`` is about noncentral chi-squared with B - 1 degrees of freedom, and the
    true index over the same is its noncentrality: the bounds are those at which what was
    found has a tail of `p_error`. Good for indices up to about 0.5; above, the bounds
    are narrower than they should be.

    Examples
    --------
    >>> import numpy as np
    >>> bounded(np.array([100.0, 100.0]), np.array([100.0, 100.0]), 0.01).index
    0.0
    """
    from scipy.special import chndtrinc

    freedom = len(ours) - 1
    if not freedom:
        return Shift(0.0, 0.0, 0.0, 1)
    noise, found = _noise(ours, theirs), stability_index(ours, theirs)
    lower, upper = (float(chndtrinc(found / noise, freedom, p)) * noise for p in (1 - p_error, p_error))
    lower = lower if lower > NO_SHIFT else 0.0
    return Shift(unbiased(ours, theirs), lower, upper, len(ours))


def unbiased(ours: "Counts", theirs: "Counts") -> float:
    """Estimate the index of two samples' counts, ``(n_bins,)`` each, less what chance alone would give.

    Examples
    --------
    >>> import numpy as np
    >>> round(unbiased(np.array([400.0, 600.0]), np.array([500.0, 500.0])), 3)
    0.038
    """
    return max(stability_index(ours, theirs) - (len(ours) - 1) * _noise(ours, theirs), 0.0)


def _noise(ours: "Counts", theirs: "Counts") -> float:
    return float(1 / ours.sum() + 1 / theirs.sum())


def stability_index(ours: "Counts", theirs: "Counts") -> float:
    """Compute the population stability index of two samples' counts, half a row added to each bin.

    Examples
    --------
    >>> import numpy as np
    >>> round(stability_index(np.array([400.0, 600.0]), np.array([500.0, 500.0])), 3)
    0.04
    """
    import numpy as np

    p, q = ((counts + SMOOTHING) / (counts.sum() + SMOOTHING * len(counts)) for counts in (ours, theirs))
    return float(np.sum((p - q) * np.log(p / q)))


def binned(challenger: Window, champion: Window) -> tuple["Counts", "Counts"]:
    """Bring two windows' predictions to the same few bins: numbers by their quantiles, labels by name.

    Numbers have up to ten bins of about equal counts (of both together), NaN one of its own.
    Labels and bins that are too sparse for a test become one. Where a window had too
    many labels to count all by name, the labels of both are compared by their hashes.
    """
    import numpy as np

    windows = (challenger, champion)
    numbers = _aligned([_without(window.numbers, NAN_BIN) for window in windows])
    apart = _aligned([_named(window, any(one.others for one in windows)) for window in windows])
    table = np.concatenate([numbers, apart], axis=1)  # (2, n_values)
    rows = table.sum(axis=1)
    if not rows.all():
        return table[0], table[1]
    weights = np.minimum(rows, [max(window.n_requests, 1) for window in windows]) / rows
    table = table * weights[:, None]
    floor = MIN_EXPECTED * table.sum() / table.sum(axis=1).min()
    n_numbers = numbers.shape[1]
    merged = np.concatenate([_in_order(table[:, :n_numbers], floor), _sparse_joined(table[:, n_numbers:], floor)], 1)
    return merged[0], merged[1]


def _in_order(table: "Counts", floor: float) -> "Counts":
    """Join neighbours, ``(2, n_values)``, until each bin has its tenth of all; a frequent value stays alone."""
    import numpy as np

    totals = table.sum(axis=0)
    wanted = max(totals.sum() / MAX_BINS, floor)
    begins, within = [0], 0.0
    for place, total in enumerate(totals.tolist()):
        if within >= wanted or (total >= wanted and within >= floor):
            begins.append(place)
            within = 0.0
        within += total
    if within < floor and len(begins) > 1:
        begins.pop()
    return np.add.reduceat(table, begins, axis=1) if len(totals) else table


def _sparse_joined(table: "Counts", floor: float) -> "Counts":
    """Join all columns of ``(2, n_values)`` that are below the floor."""
    import numpy as np

    is_sparse = table.sum(axis=0) < floor
    rest = table[:, is_sparse].sum(axis=1, keepdims=True)
    return np.concatenate([table[:, ~is_sparse], rest], axis=1) if rest.any() else table[:, ~is_sparse]


def _named(window: Window, by_hash: bool) -> dict[Any, int]:
    """Count what has no order: labels, by name or by hash, and NaN."""
    counts: dict[Any, int] = {"nan": window.numbers.get(NAN_BIN, 0)}
    for label, count in window.labels.items():
        key = label_hash(label) if by_hash else ("label", label)
        counts[key] = counts.get(key, 0) + count
    for place in range(N_HASHES) if by_hash else ():
        counts[place] = counts.get(place, 0) + window.others.get(place, 0)
    return counts


def _without(counts: Mapping[int, int], place: int) -> dict[Any, int]:
    return {key: count for key, count in counts.items() if key != place}


def _aligned(counts: list[dict[Any, int]]) -> "Counts":
    """Put counts by key into one array, ``(2, n_keys)``; keys that are numbers rise."""
    import numpy as np

    keys = sorted({*counts[0], *counts[1]}, key=lambda key: (key, "") if isinstance(key, int) else (-1, str(key)))
    return np.array([[one.get(key, 0) for key in keys] for one in counts], dtype=np.float64).reshape(2, len(keys))
