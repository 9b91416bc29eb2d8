"""Whether a run was reproduced: its metrics against those of the run again, and what else differs. Pure."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nbmlops.verb import Result, counted

TOLERANCE = 1e-6  # relative: above the noise of sums in another order, below what a figure is quoted to


@dataclass(frozen=True)
class MetricAgain:
    """One metric of the run and of the run again; None where one has none. `gap` is relative, None without both."""

    name: str
    was: float | None
    now: float | None
    gap: float | None
    status: str


@dataclass(frozen=True)
class Reproduction(Result):
    """What came of running a run again.

    `basis` says out of what it was rebuilt, `cause` why it could not be run to its end,
    `notes` what is different around it: packages, data, what could not be rebuilt.
    """

    run_id: str
    name: str
    reproduced: bool | None
    basis: str
    commit: str
    tolerance: float
    metrics: tuple[MetricAgain, ...] = ()
    cause: str = ""
    notes: tuple[str, ...] = ()
    duration_s: float | None = None

    @property
    def subject(self) -> str:
        """How the ledger files it."""
        return f"run/{self.run_id}"

    @property
    def headline(self) -> str:
        """The verdict in one line."""
        which = f"Run {self.name} ({self.run_id[:8]})"
        if self.reproduced is None:
            return f"{which} would be run again from {self.basis}"
        if self.cause:
            return f"{which} was not reproduced: {self.cause}"
        differ = sum(row.status != "ok" for row in self.metrics)
        if differ:
            return f"{which} was not reproduced: {differ} of {counted(len(self.metrics), 'metric')} differ"
        if not self.metrics:
            return f"{which} was reproduced: it ended as before, and has no metrics"
        return f"{which} was reproduced: {counted(len(self.metrics), 'metric')} within the tolerance"

    @property
    def next_step(self) -> str:
        """Look at the run."""
        return f"show {self.run_id[:8]}"


def metrics_again(
    was: Mapping[str, float], now: Mapping[str, float], tolerance: float = TOLERANCE
) -> tuple[MetricAgain, ...]:
    """Compare metrics: ``|now - was| / max(|was|, |now|)`` must be at most the tolerance. Differing ones come first.

    Parameters
    ----------
    was, now
        Name -> last value; NaN equals NaN, and an infinity itself.
    tolerance
        Relative, from 0.

    Returns
    -------
    tuple of MetricAgain
        Every name of either, a missing one ``missing``, one that only the new run has ``new``; both count as differing.

    Examples
    --------
    >>> metrics_again({"auc": 0.5, "n": 10.0}, {"auc": 1.0, "n": 10.0}, 0.01)[0]
    MetricAgain(name='auc', was=0.5, now=1.0, gap=0.5, status='differs')
    """
    rows = [_row(name, was.get(name), now.get(name), tolerance) for name in sorted({*was, *now})]
    return tuple(sorted(rows, key=lambda row: row.status == "ok"))


def _row(name: str, was: float | None, now: float | None, tolerance: float) -> MetricAgain:
    if was is None or now is None:
        return MetricAgain(name, was, now, None, "new" if was is None else "missing")
    gap = _gap(was, now)
    return MetricAgain(name, was, now, gap, "ok" if gap <= tolerance else "differs")


def _gap(was: float, now: float) -> float:
    if was == now or (math.isnan(was) and math.isnan(now)):
        return 0.0
    gap = abs(now - was) / max(abs(was), abs(now))
    return gap if math.isfinite(gap) else math.inf


def packages_that_differ(was: str, now: str) -> list[str]:
    r"""Compare two locks: one line for each distribution that differs.

    Examples
    --------
    >>> packages_that_differ("a==1\nb==1\nc==1\n", "a==1\nb==2\n")
    ['b 1, now 2', 'c 1, now gone']
    """
    before, after = _pinned(was), _pinned(now)
    names = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    return [f"{name} {before.get(name, 'absent')}, now {after.get(name, 'gone')}" for name in names]


def _pinned(lock: str) -> dict[str, str]:
    lines = re.findall(r"^(?:# )?(\S+?)(?:==| @ )(\S+)", lock, re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in lines}


def around(was: Mapping[str, Any], now: Mapping[str, Any], what: str) -> list[str]:
    """Say which of the named things (digests of data, say) are others now; what only one side knows says nothing."""
    return [f"{what} {name} is another now" for name in sorted(was) if name in now and now[name] != was[name]]
