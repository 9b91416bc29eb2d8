"""A challenger's way to all of an endpoint's traffic, step by step, and back. Pure: time and counts are given.

Each step has its weight of the challenger, and bakes for some time. What is counted
meanwhile is judged twice over: since the step began, and since a mark of late, so that a
challenger that turns bad after a million good answers is found as soon as one that
was bad from the start. All steps, limits and looks of a rollout share one probability of a false alarm.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from nbmlops.errors import UsageError
from nbmlops.serving.judgement import MIN_REQUESTS, Verdict, judged
from nbmlops.serving.slo import Slo
from nbmlops.serving.window import Window, minus

Strategy = Literal["canary", "linear", "blue_green", "shadow"]
State = Literal["running", "done", "rolled_back", "aborted"]
Counts = Mapping[str, Window]

BAKE_S = 300.0
P_FALSE = 0.01  # of a rollout, to be rolled back though its challenger is no worse than its champion
MARK_S, MARK_REQUESTS = 10.0, 100  # a mark is moved on when it is older, and the challenger has had more
MARKS = 30  # of a step, that share most of what its marks may spend
SAME_TIME_PERCENT = 10  # with less of the traffic, a champion is known by what it did before the step
PATIENCE = 50  # requests of the challenger, after which a champion without any is no longer waited for


@dataclass(frozen=True)
class Plan:
    """How a challenger gets its traffic: percents that rise to 100, or 0 for a shadow; `bake_s` seconds for each."""

    strategy: Strategy
    steps: tuple[float, ...]
    bake_s: float = BAKE_S

    @classmethod
    def canary(cls, steps: tuple[float, ...] = (10, 50, 100), bake_s: float = BAKE_S) -> "Plan":
        """Give the challenger these percents of the traffic, one after the other.

        Raises
        ------
        UsageError
            The percents do not rise, begin below 0 or do not end at 100; or `bake_s` is negative.
        """
        rising = all(low < high for low, high in zip((0, *steps), steps, strict=False))
        if not steps or not rising or steps[-1] != 100:
            given = ",".join(f"{step:g}" for step in steps)
            raise UsageError(f"A canary's steps must rise and end at 100, not {given!r}.", "Write them as 10,50,100.")
        return cls("canary", tuple(steps), _checked_bake(bake_s))

    @classmethod
    def linear(cls, step: float = 10, bake_s: float = BAKE_S) -> "Plan":
        """Give the challenger as much more at each step.

        Examples
        --------
        >>> Plan.linear(30).steps
        (30, 60, 90, 100)
        """
        if not 1 <= step <= 100:
            raise UsageError(f"A linear step must be 1 to 100 percent, not {step:g}.")
        rising = tuple(number * step for number in range(1, int(100 / step) + 1) if number * step < 100)
        return cls("linear", (*rising, 100), _checked_bake(bake_s))

    @classmethod
    def blue_green(cls, bake_s: float = BAKE_S) -> "Plan":
        """Give the challenger all traffic at once; the champion stays loaded until the bake is over."""
        return cls("blue_green", (100,), _checked_bake(bake_s))

    @classmethod
    def shadow(cls, bake_s: float = BAKE_S) -> "Plan":
        """Give the challenger no traffic, only copies of it: the champion answers."""
        return cls("shadow", (0,), _checked_bake(bake_s))


@dataclass(frozen=True)
class Rollout:
    """A rollout as the ledger keeps it.

    `baseline` is what had been counted when the step began, `mark` the same of late, the
    `n_marks`-th of this step; `reason` says why it is no longer ``running``.
    """

    endpoint: str
    challenger: str
    champion: str
    strategy: Strategy
    steps: tuple[float, ...]
    bake_s: float
    slo: str
    promote: bool
    min_requests: int
    step_began_at: datetime
    marked_at: datetime
    step: int = 0
    state: State = "running"
    reason: str = ""
    n_marks: int = 0
    baseline: Counts = field(default_factory=dict)
    mark: Counts = field(default_factory=dict)

    @property
    def asked(self) -> tuple[str, Plan, str, bool]:
        """What it was begun with: the challenger, the plan, the limits, and whether it promotes."""
        return self.challenger, Plan(self.strategy, tuple(self.steps), self.bake_s), self.slo, self.promote

    @classmethod
    def begun(
        cls,
        plan: Plan,
        *,
        endpoint: str,
        challenger: str,
        champion: str,
        slo: str,
        now: datetime,
        counts: Counts,
        promote: bool = False,
        min_requests: int = MIN_REQUESTS,
    ) -> "Rollout":
        """Begin a rollout with its first step.

        Raises
        ------
        UsageError
            The limits are ill-formed, or have ``diff`` without a shadow; both versions are the same.
        """
        limits = Slo.parse(slo)
        if challenger == champion:
            raise UsageError(f"{challenger} is live already: a rollout needs another version.")
        if plan.strategy != "shadow" and any(limit.name == "diff" for limit in limits.limits):
            raise UsageError("diff compares answers to the same request, so that it needs a shadow.", "Leave it out.")
        return cls(
            endpoint=endpoint,
            challenger=challenger,
            champion=champion,
            strategy=plan.strategy,
            steps=plan.steps,
            bake_s=plan.bake_s,
            slo=str(limits),
            promote=promote,
            min_requests=min_requests,
            step_began_at=now,
            marked_at=now,
        )._counted_from(counts)

    @property
    def weight(self) -> float:
        """The challenger's percent of the traffic, now."""
        if self.state == "running":
            return self.steps[self.step]
        if self.state == "done":
            return 0 if self.strategy == "shadow" and not self.promote else 100
        return 0

    def record(self) -> dict[str, Any]:
        """Give it as JSON has it."""
        given = {one.name: getattr(self, one.name) for one in fields(self)}
        for name in ("step_began_at", "marked_at"):
            given[name] = given[name].isoformat()
        for name in ("baseline", "mark"):
            given[name] = {label: window.record() for label, window in given[name].items()}
        return given | {"steps": list(self.steps)}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Rollout":
        """Read what `record` gave."""
        given = dict(record)
        for name in ("step_began_at", "marked_at"):
            given[name] = datetime.fromisoformat(given[name])
        for name in ("baseline", "mark"):
            given[name] = {label: Window.of(window) for label, window in given[name].items()}
        return cls(**given | {"steps": tuple(given["steps"])})

    def _counted_from(self, counts: Counts) -> "Rollout":
        known = {label: counts[label] for label in (self.champion, self.challenger) if label in counts}
        return replace(self, baseline=known, mark=known, n_marks=0)


def weights(rollout: Rollout) -> dict[str, float]:
    """Give each version's percent of the traffic, zeros too.

    Examples
    --------
    >>> from datetime import UTC
    >>> begun = Rollout.begun(Plan.canary(), endpoint="delays", challenger="3", champion="2", slo="err<1%",
    ...                       now=datetime(2026, 1, 1, tzinfo=UTC), counts={})
    >>> weights(begun), weights(aborted(begun, "by hand"))
    ({'2': 90, '3': 10}, {'2': 100, '3': 0})
    """
    return {rollout.champion: 100 - rollout.weight, rollout.challenger: rollout.weight}


def assessed(rollout: Rollout, counts: Counts, now: datetime) -> Verdict:
    """Judge a rollout's step by what is counted up to now.

    The champion is compared over the same time, as long as it has a tenth of the traffic;
    with less, by all that was counted of it before the step. When it has done nothing at
    all, the limits alone decide.

    Parameters
    ----------
    rollout
        One that runs.
    counts
        All that was ever counted, by version, of all workers together.
    now
        Aware.
    """
    slo, p_false = Slo.parse(rollout.slo), _p_each(rollout)
    since_mark = minus(counts, rollout.mark)
    left_s = rollout.bake_s - (now - rollout.step_began_at).total_seconds()
    whole = judged(
        slo,
        *compared(rollout, counts),
        bake_left_s=left_s,
        min_requests=rollout.min_requests,
        p_false=p_false / 2,
    )
    if whole.outcome == "breach" or not rollout.n_marks:
        return whole
    part = p_false / 2 * MARKS / ((rollout.n_marks + MARKS) * (rollout.n_marks + MARKS - 1))  # these sum to the half
    late = judged(slo, since_mark.get(rollout.challenger, Window()), _beside(rollout, since_mark), p_false=part)
    if late.outcome != "breach":
        return whole
    span_s = (now - rollout.marked_at).total_seconds()
    return replace(late, reasons=tuple(f"in the last {span_s:.0f} s, {reason}" for reason in late.reasons))


def compared(rollout: Rollout, counts: Counts) -> tuple[Window, Window | None]:
    """Give what is judged at a step: what the challenger has done since it began, and what it is compared with."""
    since_step = minus(counts, rollout.baseline)
    return since_step.get(rollout.challenger, Window()), _beside(rollout, since_step)


def advanced(rollout: Rollout, verdict: Verdict, now: datetime, counts: Counts) -> Rollout:
    """Take a rollout on: to its next step, to its end, or back; the same object when nothing changes.

    A breach rolls back from any step, the last too. While a step waits, its mark is
    moved on when ten seconds have passed and the challenger has had 100 requests.
    """
    if rollout.state != "running":
        return rollout
    told = "; ".join(verdict.reasons)
    if verdict.outcome == "breach":
        return replace(rollout, state="rolled_back", reason=told)
    if verdict.outcome == "wait":
        return _marked(rollout, now, counts)
    if rollout.step + 1 == len(rollout.steps):
        return replace(rollout, state="done", reason=told)
    onward = replace(rollout, step=rollout.step + 1, step_began_at=now, marked_at=now)
    return onward._counted_from(counts)


def aborted(rollout: Rollout, reason: str) -> Rollout:
    """End a rollout that runs, with all traffic back at the champion; one that has ended stays as it is."""
    return replace(rollout, state="aborted", reason=reason) if rollout.state == "running" else rollout


def _marked(rollout: Rollout, now: datetime, counts: Counts) -> Rollout:
    served = counts.get(rollout.challenger, Window()).minus(rollout.mark.get(rollout.challenger, Window())).n_requests
    if served < MARK_REQUESTS or now - rollout.marked_at < timedelta(seconds=MARK_S):
        return rollout
    return replace(rollout._counted_from(counts), baseline=rollout.baseline, marked_at=now, n_marks=rollout.n_marks + 1)


def _p_each(rollout: Rollout) -> float:
    """Give each limit at each step its part of the probability of a false alarm."""
    return P_FALSE / (len(rollout.steps) * max(len(Slo.parse(rollout.slo).limits), 1))


def _beside(rollout: Rollout, window: Counts) -> Window | None:
    """Choose what the challenger is compared with: the champion over the same time, or before."""
    champion = window.get(rollout.champion, Window())
    challenger = window.get(rollout.challenger, Window())
    is_waited_for = champion.n_requests or challenger.n_requests < PATIENCE
    if 100 - rollout.weight >= SAME_TIME_PERCENT and is_waited_for:
        return champion
    before = rollout.baseline.get(rollout.champion, Window())
    return before if before.n_requests else champion if champion.n_requests else None


def _checked_bake(bake_s: float) -> float:
    if not bake_s >= 0:
        raise UsageError(f"A bake must be a time from 0 s on, not {bake_s} s.")
    return float(bake_s)
