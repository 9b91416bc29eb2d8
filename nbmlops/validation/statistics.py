"""How sure a difference between two models on the same rows is: a paired bootstrap. Pure numpy and scipy."""

import warnings
from dataclasses import dataclass

import numpy as np
from scipy import stats
from sklearn import config_context

from nbmlops.validation.metrics import Array, Metric

RESAMPLES = 200
MAX_ROWS = 20_000
SEED = 20130101


@dataclass(frozen=True)
class Interval:
    """How much better the candidate is, in the metric's units, and between what bounds; positive is always better."""

    difference: float
    lower: float
    upper: float


def improvement(
    metric: Metric,
    truth: Array,
    candidate: Array,
    champion: Array,
    confidence: float = 0.95,
    seed: int = SEED,
    *,
    classes: Array | None = None,
) -> Interval:
    """Measure candidate - champion (its sign turned for a metric that is better when lower), with an interval.

    The interval is ``d ± z · se``: ``d`` on all rows, ``se`` the standard deviation of
    ``d`` over 200 paired resamples, ``z`` the two-sided normal quantile.

    Parameters
    ----------
    metric
        What is compared.
    truth, candidate, champion
        ``(n_rows,)`` each: the truth, and what each model predicted for the same rows.
    confidence
        In (0, 1).
    seed
        Of the resampling; the same seed gives the same interval.
    classes
        Of a metric of labels: those it is about; without them, all that the three arrays have.

    Returns
    -------
    Interval
        NaN bounds when the rows are too few to tell; of no width when both models
        predict the same.

    Notes
    -----
    O(200 n log n) up to 20,000 rows. Above, ``se`` comes from m = 20,000 random rows and
    is scaled by √(m / n), so the cost stays the same.

    References
    ----------
    Efron, B., Tibshirani, R. (1993). An Introduction to the Bootstrap, chapter 6.

    Examples
    --------
    >>> from nbmlops.validation.metrics import metric
    >>> truth, worse = np.zeros(400), np.tile([1.0, 3.0], 200)
    >>> found = improvement(metric("mae"), truth, worse - 1, worse)
    >>> found.difference, round(found.lower, 6), round(found.upper, 6)
    (1.0, 1.0, 1.0)
    """
    sign = 1 if metric.higher_is_better else -1
    if classes is None and metric.needs == "labels":
        classes = np.unique(np.concatenate([truth, candidate, champion]))
    ours, theirs = (metric.measure(truth, predicted, None, classes) for predicted in (candidate, champion))
    difference = sign * (ours - theirs)
    error = standard_error(metric, truth, candidate, champion, seed, classes=classes)
    margin = float(stats.norm.ppf((1 + confidence) / 2)) * error
    return Interval(difference, difference - margin, difference + margin)


def standard_error(
    metric: Metric,
    truth: Array,
    candidate: Array,
    champion: Array,
    seed: int = SEED,
    *,
    classes: Array | None = None,
) -> float:
    """Estimate the standard error of candidate - champion by a paired bootstrap.

    A resample is drawn as multinomial weights, the same for both models. Resamples
    in which the metric is undefined (a class without a row) are left out; when they
    are more than one in twenty (a class of fewer than about three rows), the answer is NaN.
    """
    random = np.random.default_rng(seed)
    n_rows = len(truth)
    rows = random.choice(n_rows, MAX_ROWS, replace=False) if n_rows > MAX_ROWS else np.arange(n_rows)
    truth, candidate, champion = truth[rows], candidate[rows], champion[rows]
    drawn = np.empty(RESAMPLES)
    checked_already = config_context(assume_finite=True, skip_parameter_validation=True)
    with checked_already, warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of a class without a row: counted below
        for i in range(RESAMPLES):
            weights = random.multinomial(len(rows), np.full(len(rows), 1 / len(rows)))
            ours = metric.measure(truth, candidate, weights, classes)
            drawn[i] = ours - metric.measure(truth, champion, weights, classes)
    defined = drawn[np.isfinite(drawn)]
    if len(defined) < 0.95 * RESAMPLES:
        return float("nan")
    return float(np.std(defined, ddof=1) * np.sqrt(len(rows) / n_rows))
