"""Whether a challenger keeps what is asked of it, beside its champion: figures in, checks and an outcome out. Pure.

A limit is broken when two things are certain, each but for a probability of `p_false`,
however often one looks: the challenger's share of failed (or too slow) requests is above
what the limit allows, and it is above the champion's over the same time. What is slow or
fails for both is no fault of the challenger's.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from nbmlops.serving.sequential import bounds, log_evidence, log_evidence_worse
from nbmlops.serving.shift import binned, shift, unbiased
from nbmlops.serving.slo import Limit, Slo
from nbmlops.serving.window import Window

Outcome = Literal["breach", "pass", "wait"]
Status = Literal["pass", "fail", "warn", "skip"]
P_FALSE = 0.001
MIN_BAD = 5  # requests fail together, as when a process dies: so many tell of more than one incident
MIN_ROWS = 50  # of predictions, of both, before a shift is judged
MIN_REQUESTS = 50


@dataclass(frozen=True)
class Check:
    """One limit, and what was measured of it; the words are those of a gate's checks.

    `value`, `lower`, `upper`, `limit` and `champion` are shares for ``err`` and ``diff``,
    seconds for a latency, an index for ``shift`` (which has no `champion`: it is about both). `n` are
    requests, or rows for ``shift`` and ``diff``. ``fail`` is a breach, ``warn`` not certain, or no fault of
    the challenger's; ``skip`` has nothing to be judged by.
    """

    name: str
    value: float
    lower: float
    upper: float
    limit: float
    champion: float | None
    n: int
    status: Status
    note: str


@dataclass(frozen=True)
class Verdict:
    """What is to be done, and why; the checks stand worst first."""

    outcome: Outcome
    reasons: tuple[str, ...]
    checks: tuple[Check, ...]


def judged(
    slo: Slo,
    challenger: Window,
    champion: Window | None,
    *,
    bake_left_s: float = 0.0,
    min_requests: int = MIN_REQUESTS,
    p_false: float = P_FALSE,
) -> Verdict:
    """Judge a challenger by what was counted since its step began.

    Parameters
    ----------
    slo
        What is asked of it.
    challenger, champion
        What was counted of each, over the same time. Without a champion to compare with
        the limits alone decide, and a shift is not judged; one that has counted nothing yet is waited for.
    bake_left_s
        Seconds until it may pass; 0 when it has been looked at for long enough.
    min_requests
        With fewer, it cannot pass.
    p_false
        In (0, 1): the probability of a breach, for each limit and over all looks, of a
        challenger that keeps the limit or is no worse than its champion.

    Returns
    -------
    Verdict
        ``breach`` when a limit is certainly broken; ``pass`` when time and requests are enough and
        all figures are within their limits; ``wait`` otherwise.

    Notes
    -----
    By simulation, with ``err<1%`` at `p_false` of about 0.001 and a champion that fails in 0.2 %: a challenger
    that only fails is found after 5 bad answers at a tenth of the traffic or at all of it, 8 (median; 15
    at most) at a half and 15 (39 at most) at nine tenths; one that fails in 3 %, at half of the
    traffic, after 670 of its requests (median), in 5 % after 360, in 10 % after 170.

    Examples
    --------
    >>> bad, good = Window(n_requests=40, n_errors=9), Window(n_requests=360, n_errors=1)
    >>> verdict = judged(Slo.parse("err<1%"), bad, good)
    >>> verdict.outcome, verdict.reasons
    ('breach', ('err is 22.5% of 40 requests [3.818% to 55.87%], above its limit of 1%; the champion has 0.2778%',))
    >>> judged(Slo.parse("err<1%"), Window(n_requests=12), good).reasons
    ('38 more requests are needed (12 of 50)',)
    """
    checks = worst_first(_checked(slo, challenger, champion, p_false))
    broken = tuple(check.note for check in checks if check.status == "fail")
    if broken:
        return Verdict("breach", broken, checks)
    waits = [_requests_left(challenger.n_requests, min_requests), _time_left(bake_left_s)]
    waits += [check.note for check in checks if check.status == "warn"]
    reasons = tuple(reason for reason in waits if reason)
    return Verdict("wait", reasons, checks) if reasons else Verdict("pass", _praise(checks), checks)


def shifted(challenger: Window, champion: Window | None) -> float | None:
    """Measure how far a challenger's predictions lie from its champion's, an index; None with too few of either.

    Examples
    --------
    >>> early = Window(n_requests=1000, labels={"late": 300, "on time": 700})
    >>> round(shifted(Window(n_requests=1000, labels={"late": 500, "on time": 500}), early), 2)
    0.17
    >>> shifted(Window(n_requests=1, labels={"late": 1}), early)
    """
    if champion is None or min(_n_predicted(challenger), _n_predicted(champion)) < MIN_ROWS:
        return None
    return unbiased(*binned(challenger, champion))


def worst_first(checks: tuple[Check, ...]) -> tuple[Check, ...]:
    """Sort checks: failures, then warnings, what was skipped, what passed; otherwise as they were."""
    order = ("fail", "warn", "skip", "pass")
    return tuple(sorted(checks, key=lambda check: order.index(check.status)))


def _checked(slo: Slo, challenger: Window, champion: Window | None, p_false: float) -> tuple[Check, ...]:
    checks = tuple(_measure_of(limit)(limit, challenger, champion, p_false) for limit in slo.limits)
    if challenger.n_compared and not any(limit.name == "diff" for limit in slo.limits):
        return (*checks, _unlimited_differences(challenger, p_false))
    return checks


def _measure_of(limit: Limit) -> Callable[[Limit, Window, Window | None, float], Check]:
    if limit.is_latency:
        return _latency
    return {"err": _errors, "shift": _shift, "diff": _differences}[limit.name]


def _errors(limit: Limit, challenger: Window, champion: Window | None, p_false: float) -> Check:
    n, k = challenger.n_requests, min(challenger.n_errors, challenger.n_requests)
    beside = (min(champion.n_errors, champion.n_requests), champion.n_requests) if champion else None
    lower, upper = bounds(k, n, p_false, limit.p_allowed)
    figures = (_share(k, n), lower, upper)
    return _held(limit, figures, _share(*beside) if beside and beside[1] else None, (k, n), beside, p_false)


def _latency(limit: Limit, challenger: Window, champion: Window | None, p_false: float) -> Check:
    n, k = _n_timed(challenger), challenger.n_slower(limit.limit)
    beside = (champion.n_slower(limit.limit), _n_timed(champion)) if champion else None
    figures = (challenger.quantile_s(limit.quantile), *_quantile_bounds(challenger, limit, p_false))
    theirs = champion.quantile_s(limit.quantile) if champion and beside and beside[1] else None
    return _held(limit, figures, theirs, (k, n), beside, p_false)


def _differences(limit: Limit, challenger: Window, champion: Window | None, p_false: float) -> Check:  # noqa: ARG001
    n, k = challenger.n_compared, min(challenger.n_differing, challenger.n_compared)
    figures = (_share(k, n), *bounds(k, n, p_false, limit.p_allowed))
    return _held(limit, figures, None, (k, n), None, p_false)


def _unlimited_differences(challenger: Window, p_false: float) -> Check:
    n, k = challenger.n_compared, min(challenger.n_differing, challenger.n_compared)
    lower, upper = bounds(k, n, p_false, 0.05)
    note = f"{k} of {n} answers differ from the champion's; no limit was set"
    return Check("diff", _share(k, n), lower, upper, math.nan, None, n, "skip", note)


def _held(
    limit: Limit,
    figures: tuple[float, float, float],
    theirs: float | None,
    ours: tuple[int, int],
    beside: tuple[int, int] | None,
    p_false: float,
) -> Check:
    """Hold (k, n) of the challenger against a limit, and against the champion's, if there is one."""
    status, told = _status(limit, ours, beside, p_false)
    told = told if theirs is None else f"{told}; the champion has {limit.worded(theirs)}"
    note = f"{_told(limit, figures, ours[1])}, {told}" if ours[1] else f"{limit.name}: {told}"
    return Check(limit.name, *figures, limit.limit, theirs, ours[1], status, note)


def _status(limit: Limit, ours: tuple[int, int], beside: tuple[int, int] | None, p_false: float) -> tuple[Status, str]:
    (k, n), allowed, needed = ours, limit.p_allowed, -math.log(p_false)
    bound = limit.worded(limit.limit)
    if not n:
        return "warn", "nothing was counted yet"
    if k <= allowed * n:
        return "pass", f"within its limit of {bound}"
    if k < MIN_BAD or log_evidence(k, n, allowed, allowed) < needed:
        return "warn", f"above its limit of {bound}, which may be chance"
    if beside and log_evidence_worse(k, n, *beside, allowed) < needed and not _is_broken(ours, beside, needed):
        return "warn", f"above its limit of {bound}, but not certainly worse than the champion"
    return "fail", f"above its limit of {bound}"


def _is_broken(ours: tuple[int, int], beside: tuple[int, int], needed: float) -> bool:
    """Say whether the challenger fails in certainly most of its answers, and the champion, by all one sees, does not.

    A challenger with nearly all of the traffic would otherwise fail on until the champion
    had enough of it to be compared with.
    """
    (k, n), (k_other, n_other) = ours, beside
    is_sound = n_other > 0 and 2 * k_other * n <= k * n_other
    return is_sound and 2 * k > n and log_evidence(k, n, 0.5, 0.5) >= needed


def _shift(limit: Limit, challenger: Window, champion: Window | None, p_false: float) -> Check:
    n = _n_predicted(challenger)
    beside = _n_predicted(champion) if champion else 0
    if champion is None:
        note = "shift: the champion has predicted nothing to compare with"
        return Check("shift", math.nan, 0.0, math.inf, limit.limit, None, n, "skip", note)
    if min(n, beside) < MIN_ROWS:
        left = f"{n} of {MIN_ROWS}" if n < MIN_ROWS else f"{beside} of {MIN_ROWS} of the champion's"
        note = f"shift: more predictions are needed ({left})"
        return Check("shift", math.nan, 0.0, math.inf, limit.limit, None, n, "warn", note)
    found = shift(challenger, champion, _p_at(min(n, beside), p_false))
    status: Status = "fail" if found.lower > limit.limit else "pass" if found.index <= limit.limit else "warn"
    told = {"fail": "above", "pass": "within", "warn": "perhaps above"}[status]
    figures = (found.index, found.lower, found.upper)
    note = f"{_told(limit, figures, n)}, {told} its limit of {limit.worded(limit.limit)}"
    return Check("shift", *figures, limit.limit, None, n, status, note)


def _p_at(n: int, p_false: float) -> float:
    """Spend `p_false` over the looks: each doubling of the rows has its own part, a quarter of it for each look.

    The parts ``1 / (i + 1)(i + 2)`` sum to 1. Within a doubling, looks are so alike that
    simulated rollouts with a look after every few rows stay below the part.
    """
    doubling = int(math.log2(n / MIN_ROWS))
    return p_false / (4 * (doubling + 1) * (doubling + 2))


def _quantile_bounds(window: Window, limit: Limit, p_false: float) -> tuple[float, float]:
    """Bound a quantile of the latency: those at which the share of slower requests is not doubted."""
    n, allowed, needed = _n_timed(window), limit.p_allowed, -math.log(p_false)
    expected = int(allowed * n)

    def is_doubted(n_slower: int) -> bool:
        return log_evidence(n_slower, n, allowed, allowed) >= needed

    most = _furthest(expected, n, is_doubted)
    fewest = _furthest(expected, 0, is_doubted)
    lower = window.slowest_s(most) if most < n else 0.0
    upper = window.slowest_s(fewest - 1) if fewest > 0 else math.inf
    return lower, upper


def _furthest(inside: int, outside: int, is_doubted: Callable[[int], bool]) -> int:
    """Find the last number on the way to `outside` that is not doubted, by halves."""
    if not is_doubted(outside):
        return outside
    while abs(outside - inside) > 1:
        middle = (outside + inside) // 2
        inside, outside = (inside, middle) if is_doubted(middle) else (middle, outside)
    return inside


def _told(limit: Limit, figures: tuple[float, float, float], n: int) -> str:
    value, lower, upper = (limit.worded(figure) for figure in figures)
    within = f"{lower} to {upper}" if math.isfinite(figures[2]) else f"{lower} or more"
    of = {"diff": "answers", "shift": "predictions"}.get(limit.name, "requests")
    return f"{limit.name} is {value} of {n} {of} [{within}]"


def _requests_left(n: int, min_requests: int) -> str:
    left = min_requests - n
    plural = "s are" if left > 1 else " is"
    return f"{left} more request{plural} needed ({n} of {min_requests})" if left > 0 else ""


def _time_left(bake_left_s: float) -> str:
    return f"it bakes for {math.ceil(bake_left_s)} s more" if bake_left_s > 0 else ""


def _praise(checks: tuple[Check, ...]) -> tuple[str, ...]:
    return tuple(check.note for check in checks) or ("nothing was asked of it",)


def _share(k: int, n: int) -> float:
    return k / n if n else math.nan


def _n_timed(window: Window) -> int:
    return sum(window.latencies.values())


def _n_predicted(window: Window) -> int:
    return sum(sum(counts.values()) for counts in (window.numbers, window.labels, window.others))
