"""What a run is, and what differs between runs: pure, no MLflow."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from nbmlops.verb import MACHINE_ONLY, Result

STATUSES = ("RUNNING", "FINISHED", "FAILED", "KILLED", "SCHEDULED")

# Every MLflow tag that nbmlops writes; a name that ends in a point stands for all that begin with it.
TAGS = {
    "nbmlops.id": "the intent that made the run: asked for again, it finds the run instead of making another",
    "nbmlops.host": "machine whose process owns the run",
    "nbmlops.boot": "which start of that machine",
    "nbmlops.pid": "that process",
    "nbmlops.pid_started": "when that process started, in seconds of the epoch",
    "nbmlops.alive_at": "when that process was last known to live; another machine waits until this is long ago",
    "nbmlops.attempt": "which attempt at the run this is, counted from 1",
    "nbmlops.previous": "run id of the attempt before",
    "nbmlops.notebook": "the notebook that the run executes, or was tracked in",
    "nbmlops.dirty": "yes or no: whether the source had changes that no commit holds",
    "nbmlops.order": "whether the cells ran linearly, out of order, were edited since, or deleted",
    "nbmlops.data.": "digest of a dataset that the run used, by the dataset's name",
    "nbmlops.environment": "digest of the environment's lock",
    "nbmlops.reproduced": "yes or no: what the last `reproduce` found",
    "nbmlops.error": "the error that ended the run",
    "nbmlops.cell": "the cell whose error ended the run",
    "nbmlops.digest": "SHA-256 over the manifest of a model version's files",
    "nbmlops.trusted_types": "types outside scikit-learn that somebody consented to load",
}
MLFLOWS_INFINITY = 1.7976931348623157e308  # what MLflow's databases hold in its place


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
    user: str = ""
    branch: str = ""
    is_dirty: bool | None = None  # None: not known
    attempt: int = 1
    previous_id: str = ""
    order: str = ""
    error: str = ""
    cell: str = ""
    reproduced: str = ""
    data: Mapping[str, str] = field(default_factory=dict)  # digests, by the datasets' names
    environment: str = ""
    url: str = ""

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


def run_from(
    run_id: str,
    name: str | None,
    status: str,
    times_ms: tuple[int | None, int | None],
    data: tuple[Mapping[str, float], Mapping[str, str], Mapping[str, str]],
    *,
    experiment: str = "",
    url: str = "",
) -> Run:
    """Read a run from what MLflow holds of it.

    Parameters
    ----------
    run_id, name, status
        As MLflow has them; a run without a name goes by the beginning of its id.
    times_ms
        Start and end, in milliseconds of the epoch; None: not yet.
    data
        Metrics (the last value of each), params and tags.
    experiment, url
        The experiment's name; where MLflow's own pages show the run.

    Examples
    --------
    >>> run_from("ab12cd34ef", None, "FINISHED", (1000, 3500), ({}, {}, {"mlflow.user": "ann"})).headline
    'Run ab12cd34 (ab12cd34) FINISHED in 2.5 s'
    """
    (start, end), (metrics, params, tags) = times_ms, data
    return Run(
        run_id=run_id,
        name=name or tags.get("mlflow.runName") or run_id[:8],
        status=status,
        started_at=datetime.fromtimestamp(start / 1000, UTC) if start else None,
        duration_s=(end - start) / 1000 if start and end else None,
        metrics={key: finite_or_infinite(metrics[key]) for key in sorted(metrics)},
        params=dict(sorted(params.items())),
        experiment=experiment,
        url=url,
        **told_by_tags(tags),
    )


def told_by_tags(tags: Mapping[str, str]) -> dict[str, Any]:
    """Read what MLflow's and nbmlops' tags tell of a run, as fields of `Run`.

    Examples
    --------
    >>> told = told_by_tags({"nbmlops.attempt": "2", "nbmlops.dirty": "no", "nbmlops.data.late": "9f86", "team": "a"})
    >>> told["attempt"], told["is_dirty"], told["data"], told["tags"]
    (2, False, {'late': '9f86'}, {'team': 'a'})
    """
    attempt = tags.get("nbmlops.attempt", "")
    data = {key.removeprefix("nbmlops.data."): tags[key] for key in sorted(tags) if key.startswith("nbmlops.data.")}
    return {
        "tags": {key: tags[key] for key in sorted(tags) if not key.startswith(("mlflow.", "nbmlops."))},
        "source": tags.get("nbmlops.notebook") or tags.get("mlflow.source.name", ""),
        "commit": tags.get("mlflow.source.git.commit", ""),
        "branch": tags.get("mlflow.source.git.branch", ""),
        "is_dirty": {"yes": True, "no": False}.get(tags.get("nbmlops.dirty", "")),
        "parent_id": tags.get("mlflow.parentRunId", ""),
        "user": tags.get("mlflow.user", ""),
        "attempt": int(attempt) if attempt.isdecimal() else 1,
        "previous_id": tags.get("nbmlops.previous", ""),
        "order": tags.get("nbmlops.order", ""),
        "error": tags.get("nbmlops.error", ""),
        "cell": tags.get("nbmlops.cell", ""),
        "reproduced": tags.get("nbmlops.reproduced", ""),
        "environment": tags.get("nbmlops.environment", ""),
        "data": data,
    }


def finite_or_infinite(value: float) -> float:
    """Give a stored metric back its infinity, in whose place MLflow's databases hold the largest float.

    Examples
    --------
    >>> finite_or_infinite(-1.7976931348623157e308), finite_or_infinite(0.5)
    (-inf, 0.5)
    """
    return math.copysign(math.inf, value) if abs(value) == MLFLOWS_INFINITY else value


def link(uri: str, experiment_id: str, run_id: str) -> str:
    """Give the address of a run in MLflow's own pages; empty for a store that has none.

    Examples
    --------
    >>> link("http://127.0.0.1:5000/", "1", "ab12")
    'http://127.0.0.1:5000/#/experiments/1/runs/ab12'
    """
    plain = uri.removeprefix("nbmlops+")
    return f"{plain.rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}" if plain.startswith("http") else ""


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
