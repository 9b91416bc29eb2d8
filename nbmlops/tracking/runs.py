"""What a run is, and what differs between runs: pure, no MLflow."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from nbmlops.verb import MACHINE_ONLY, Result

STATUSES = ("RUNNING", "FINISHED", "FAILED", "KILLED", "SCHEDULED")

# Every MLflow tag that nbmlops writes.
TAGS = {
    "nbmlops.host": "machine whose process owns the run",
    "nbmlops.pid": "that process",
    "nbmlops.pid_started": "when that process started, in seconds of the epoch",
    "nbmlops.notebook": "the notebook that the run executes",
    "nbmlops.error": "the error that ended the run",
    "nbmlops.cell": "the cell whose error ended the run",
    "nbmlops.digest": "SHA-256 over the manifest of a model version's files",
    "nbmlops.trusted_types": "types outside scikit-learn that somebody consented to load",
}


@dataclass(frozen=True)
class Run(Result):
    """One run of MLflow's, as nbmlops shows it."""

    run_id: str
    name: str
    status: str
    started_at: datetime | None
    duration_s: float | None
    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    experiment: str = field(default="", metadata=MACHINE_ONLY)
    source: str = ""
    commit: str = ""
    parent_id: str = ""

    @property
    def subject(self) -> str:
        """How the ledger files it."""
        return f"run/{self.run_id}"

    @property
    def headline(self) -> str:
        """The run in one line."""
        lasted = "" if self.duration_s is None else f" in {self.duration_s:.1f} s"
        return f"Run {self.name} ({self.run_id[:8]}) {self.status}{lasted}"

    @property
    def next_step(self) -> str:
        """Look at it beside the others."""
        return "runs" if self.status == "FINISHED" else f"show {self.run_id[:8]}"


@dataclass(frozen=True)
class Difference:
    """One metric, param, tag or fact in which runs differ; `gap` is last minus first, for numbers."""

    kind: str
    name: str
    values: tuple[Any, ...]
    gap: float | None = None


@dataclass(frozen=True)
class Comparison(Result):
    """What differs between runs, in the order in which they were named; what is equal is left out."""

    runs: tuple[str, ...]
    names: tuple[str, ...]
    differences: tuple[Difference, ...]
    equal: int

    @property
    def headline(self) -> str:
        """How much differs."""
        return f"{' → '.join(self.names)}: {len(self.differences)} differ, {self.equal} are equal"


def compare_runs(runs: Sequence[Run]) -> Comparison:
    """Collect what differs between runs: metrics first (widest relative gap first), then params, tags, facts.

    Parameters
    ----------
    runs
        Two or more runs.

    Returns
    -------
    Comparison
        A value that a run lacks is None; a metric's gap is None when a run lacks it.

    Examples
    --------
    >>> a = Run("1", "a", "FINISHED", None, None, metrics={"auc": 0.5}, params={"depth": "3"})
    >>> b = Run("2", "b", "FINISHED", None, None, metrics={"auc": 0.75}, params={"depth": "3"})
    >>> compare_runs([a, b]).differences
    (Difference(kind='metric', name='auc', values=(0.5, 0.75), gap=0.25),)
    """
    metrics = _rows("metric", [run.metrics for run in runs])
    params = _rows("param", [run.params for run in runs])
    tags = _rows("tag", [run.tags for run in runs])
    facts = _rows("fact", [{"status": run.status, "source": run.source, "commit": run.commit} for run in runs])
    every = [*sorted(metrics, key=_relative_gap, reverse=True), *params, *tags, *facts]
    differing = tuple(row for row in every if any(not _same(value, row.values[0]) for value in row.values))
    return Comparison(
        runs=tuple(run.run_id for run in runs),
        names=tuple(run.name for run in runs),
        differences=differing,
        equal=len(every) - len(differing),
    )


def name_condition(name: str) -> str:
    r"""Word MLflow's filter for runs of a name.

    MLflow's quotation marks know no escape: the kind that the name lacks goes around it. A name
    with both kinds is looked for with any character in their place, so compare what is found.

    Examples
    --------
    >>> print(name_condition("Ann's"))
    attributes.run_name = "Ann's"
    >>> print(name_condition('Ann\'s "best"'))
    attributes.run_name LIKE 'Ann_s "best"'
    """
    if "'" not in name:
        return f"attributes.run_name = '{name}'"
    if '"' not in name:
        return f'attributes.run_name = "{name}"'
    pattern = name.replace("'", "_")
    return f"attributes.run_name LIKE '{pattern}'"


def _rows(kind: str, tables: Sequence[Mapping[str, Any]]) -> list[Difference]:
    names = sorted(set().union(*tables))
    return [_row(kind, name, tuple(table.get(name) for table in tables)) for name in names]


def _row(kind: str, name: str, values: tuple[Any, ...]) -> Difference:
    numeric = kind == "metric" and None not in (values[0], values[-1])
    return Difference(kind, name, values, values[-1] - values[0] if numeric else None)


def _same(a: Any, b: Any) -> bool:
    both_nan = isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b)
    return both_nan or a == b


def _relative_gap(row: Difference) -> float:
    if row.gap is None or not math.isfinite(row.gap):
        return math.inf
    return abs(row.gap) / (abs(row.values[0]) or 1.0)
