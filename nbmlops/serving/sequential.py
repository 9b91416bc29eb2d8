"""Shares that are looked at again and again: bounds that hold at every look at once. Pure.

A test that is right 99 times in 100 when it is made once is wrong sooner or later when it
is made twice a second. The bounds here come from mixture martingales: the probability that
they are ever wrong, however often and whenever one looks, is at most the stated one
(Ville's inequality). Requests are taken as independent of each other, given the share.

References
----------
Robbins, H. (1970). Statistical methods related to the law of the iterated logarithm.
Howard, S., Ramdas, A., McAuliffe, J., Sekhon, J. (2021). Time-uniform, nonparametric,
nonasymptotic confidence sequences. Annals of Statistics 49(2).
Wasserman, L., Ramdas, A., Balakrishnan, S. (2020). Universal inference. PNAS 117(29).
"""

import math
from collections.abc import Callable

HALVINGS = 50


def log_evidence(k: int, n: int, p: float, p_typical: float) -> float:
    """Give the log of the evidence against a share of `p`, after `k` of `n`.

    ``∫ x^k (1-x)^(n-k) dF(x) / (p^k (1-p)^(n-k))``, F half Beta(1, 1) and half
    Beta(1, 1 / 4 p_typical): a martingale of mean 1 when `p` is true, so that it ever
    exceeds ``1 / a`` with probability `a` at most.

    Parameters
    ----------
    k, n
        How many of how many; 0 ≤ k ≤ n.
    p
        The share that is doubted, in (0, 1).
    p_typical
        In which order of magnitude shares are expected, in (0, 1): what is some times larger is found soonest.

    Examples
    --------
    >>> round(log_evidence(5, 5, 0.01, 0.01), 1), round(log_evidence(1, 100, 0.01, 0.01), 1)
    (20.5, -1.5)
    >>> log_evidence(0, 0, 0.01, 0.01)
    0.0
    """
    return _log_mixture(k, n, p_typical) - _log_likelihood(k, n, p)


def bounds(k: int, n: int, p_error: float, p_typical: float) -> tuple[float, float]:
    """Bound a share after `k` of `n`: both bounds hold at all looks at once, but for a probability of `p_error`.

    Examples
    --------
    >>> lower, upper = bounds(30, 1000, 0.001, 0.01)
    >>> round(lower, 4), round(upper, 4)
    (0.0122, 0.0594)
    >>> bounds(0, 0, 0.001, 0.01)
    (0.0, 1.0)
    """
    mixture, needed = _log_mixture(k, n, p_typical), -math.log(p_error)
    share = k / n if n else 0.5

    def is_doubted(p: float) -> bool:
        return mixture - _log_likelihood(k, n, p) >= needed

    return _edge(is_doubted, 0.0, share), _edge(is_doubted, 1.0, share)


def log_evidence_worse(k: int, n: int, k_other: int, n_other: int, p_typical: float) -> float:
    """Give the log of the evidence that one share is above another, after `k` of `n` and `k_other` of `n_other`.

    Both mixtures over the largest likelihood that equal shares, or the contrary, could
    have: at most a martingale whenever that is the truth, in whatever order requests come.
    At most 0 while ``k / n`` is not above the other.

    Examples
    --------
    >>> round(log_evidence_worse(10, 10, 0, 90, 0.01), 1), log_evidence_worse(1, 100, 1, 90, 0.01)
    (27.2, 0.0)
    """
    if not n or not n_other or k * n_other <= k_other * n:
        return 0.0
    both = _log_mixture(k, n, p_typical) + _log_mixture(k_other, n_other, p_typical)
    pooled = (k + k_other) / (n + n_other)
    return both - _log_likelihood(k, n, pooled) - _log_likelihood(k_other, n_other, pooled)


def _log_mixture(k: int, n: int, p_typical: float) -> float:
    """Give the log of the likelihood's mean over the mixture: half Beta(1, 1), half Beta(1, 1 / 4 p_typical)."""
    wide, narrow = (_log_beta(1 + k, b + n - k) - _log_beta(1, b) for b in (1.0, max(0.25 / p_typical, 1.0)))
    larger = max(wide, narrow)
    return larger + math.log((math.exp(wide - larger) + math.exp(narrow - larger)) / 2)


def _log_likelihood(k: int, n: int, p: float) -> float:
    """Give the log of ``p^k (1-p)^(n-k)``, with 0⁰ = 1."""
    hits = k * (math.log(p) if p > 0 else -math.inf) if k else 0.0
    return hits + ((n - k) * (math.log1p(-p) if p < 1 else -math.inf) if n > k else 0.0)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _edge(is_doubted: Callable[[float], bool], outside: float, inside: float) -> float:
    """Find where doubt ends on the way from `outside` to `inside`, by halves; on the doubted side."""
    if not is_doubted(outside):
        return outside
    for _ in range(HALVINGS):
        middle = (outside + inside) / 2
        outside, inside = (middle, inside) if is_doubted(middle) else (outside, middle)
    return outside
