"""What a gate is and how it judges: figures in, checks and a verdict out. Pure; it measures nothing itself."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from nbmlops.verb import Result

if TYPE_CHECKING:
    from nbmlops.validation.statistics import Interval

Status = Literal["pass", "fail", "warn", "skip"]
_WORST_FIRST = {"fail": 0, "warn": 1, "skip": 2, "pass": 3}


@dataclass(frozen=True)
class Check:
    """One line of a gate report.

    `condition` is ``min``, ``max`` or ``max_regression``, and `limit` its value. Against a
    champion, `lower` and `upper` bound how much better the candidate is (positive is better).
    """

    name: str
    condition: str
    value: float
    limit: float
    champion: float | None
    lower: float | None
    upper: float | None
    n: int
    status: Status
    note: str = ""


@dataclass(frozen=True)
class GateReport(Result):
    """What a gate found about exactly these bytes; `champion` is the version it was compared with, if any."""

    passed: bool
    model: str
    version: str
    digest: str
    gate: str
    data: str
    champion: str
    n: int
    checks: tuple[Check, ...]
    dry_run: bool = False

    @property
    def subject(self) -> str:
        """How the ledger files it."""
        return f"model/{self.model}/{self.version}"

    @property
    def headline(self) -> str:
        """The verdict in one line, the first failure in it."""
        counts = {status: sum(check.status == status for check in self.checks) for status in _WORST_FIRST}
        told = ", ".join(f"{number} {_COUNTED[status]}" for status, number in counts.items() if number)
        verdict = "passed" if self.passed else "failed"
        reason = "" if self.passed else f"; {self.checks[0].note}"
        return f"{self.model}/{self.version} {verdict} gate {self.gate} on {self.n} rows: {told}{reason}"

    @property
    def next_step(self) -> str:
        """Promote what passed."""
        return f"promote {self.model}/{self.version}" if self.passed and not self.dry_run else ""


_COUNTED = {"fail": "failed", "warn": "inconclusive", "skip": "skipped", "pass": "passed"}


def worst_first(checks: list[Check]) -> tuple[Check, ...]:
    """Sort checks: failures, then warnings, what was skipped, what passed; otherwise as they were."""
    return tuple(sorted(checks, key=lambda check: _WORST_FIRST[check.status]))


def has_passed(checks: tuple[Check, ...]) -> bool:
    """Say whether there is a check and none failed; a warning and a skipped check let a model pass."""
    return bool(checks) and all(check.status != "fail" for check in checks)


def judge_threshold(name: str, value: float, limits: Mapping[str, float], n: int) -> list[Check]:
    """Hold a figure against its ``min`` and ``max``; NaN fails both, the limit itself passes.

    Examples
    --------
    >>> [(check.status, check.note) for check in judge_threshold("roc_auc", 0.61, {"min": 0.7}, 900)]
    [('fail', 'roc_auc 0.61 is below its min 0.7')]
    """
    checks = []
    for condition, limit in limits.items():
        holds = value >= limit if condition == "min" else value <= limit
        relation = "meets" if holds else "is below" if condition == "min" else "is above"
        note = f"{name} {value:.4g} {relation if not math.isnan(value) else 'cannot meet'} its {condition} {limit:g}"
        checks.append(
            Check(name, condition, value, float(limit), None, None, None, n, "pass" if holds else "fail", note)
        )
    return checks


def judge_champion(
    name: str, value: float, champion: float, interval: "Interval", max_regression: float, n: int
) -> Check:
    """Hold a figure against the champion's: ``max_regression`` is how much worse it may be, in the metric's units.

    Passes when the interval of the improvement lies above -max_regression, fails when
    it lies below, warns in between (and for NaN bounds): then the rows are too few to tell.
    """
    status: Status = "warn"
    if interval.lower > -max_regression:
        status = "pass"
    elif interval.upper < -max_regression:
        status = "fail"
    better = f"{interval.difference:+.4g} [{interval.lower:+.4g}, {interval.upper:+.4g}]"
    told = {"pass": "not worse than", "fail": "worse than", "warn": "not known to be as good as"}[status]
    allowed = f"improvement {better}, at least {-max_regression:+g} is asked"
    note = f"{name} {value:.4g} is {told} the champion's {champion:.4g}: {allowed}"
    return Check(
        name, "max_regression", value, max_regression, champion, interval.lower, interval.upper, n, status, note
    )


def skip_champion(name: str, value: float, max_regression: float, n: int, reason: str) -> Check:
    """Leave a comparison out, and say why."""
    return Check(name, "max_regression", value, max_regression, None, None, None, n, "skip", reason)
