"""What a run is, what of it a person is shown, and which runs are meant: pure, no MLflow."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from nbmlops.verb import MACHINE_ONLY, Result, Rows, counted

if TYPE_CHECKING:
    import pandas as pd

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
    "nbmlops.code": "digest of the source that was executed",
    "nbmlops.environment": "digest of the environment's lock",
    "nbmlops.reproduced": "yes or no: what the last `reproduce` found",
    "nbmlops.error": "the error that ended the run",
    "nbmlops.cell": "the cell whose error ended the run",
    "nbmlops.digest": "SHA-256 over the manifest of a model version's files",
    "nbmlops.trusted_types": "types outside scikit-learn that somebody consented to load",
}
MLFLOWS_INFINITY = 1.7976931348623157e308  # what MLflow's databases hold in its place


class Link(str):
    """An address that nbmlops made itself, so that a page may link to it."""


class Curve(tuple[float, ...]):
    """A metric's values over its steps, to be drawn."""


@dataclass(frozen=True)
class Difference:
    """One metric, param, tag or fact in which runs differ; `gap` is last minus first, for numbers."""

    kind: str
    name: str
    values: tuple[Any, ...]
    gap: float | None = None

    @staticmethod
    def listed(rows: "Sequence[Difference]") -> list[tuple[str, list[Any]]]:
        """Give each run a column of its own, under its name where the rows know it."""
        names = getattr(rows, "names", ()) or [f"run {i + 1}" for i in range(len(rows[0].values))]
        return [
            ("kind", [row.kind for row in rows]),
            ("name", [row.name for row in rows]),
            *((name, [row.values[i] for row in rows]) for i, name in enumerate(names)),
            ("gap", [row.gap for row in rows]),
        ]


@dataclass(frozen=True)
class MetricLine:
    """A metric on a run's card: its last value, what it was in the attempt before, and the way there."""

    name: str
    value: float
    before: float | None = None
    gap: float | None = None
    curve: Curve | None = None


@dataclass(frozen=True)
class ChangeLine:
    """What else is not as it was in the attempt before."""

    kind: str
    name: str
    before: Any
    now: Any


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
    code: str = ""  # digest of the executed source
    environment: str = ""  # digest of the lock
    url: str = ""
    curves: Mapping[str, Curve] = field(default_factory=dict)
    steps: Mapping[str, tuple[int, ...]] = field(default_factory=dict, metadata=MACHINE_ONLY)  # of a curve's values
    changes: tuple[Difference, ...] = ()  # since the attempt before
    unsent: int = 0  # records that the journal has and the store has not

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
        """Look at it beside the others, or again while it goes on."""
        return f"show {self.run_id[:8]}" if self.status == "RUNNING" else "runs"

    @property
    def code_state(self) -> str:
        """The commit, and whether the source was as the commit has it.

        Examples
        --------
        >>> Run("1", "a", "FINISHED", None, None, commit="6dbf956e0000", branch="main", is_dirty=True).code_state
        '6dbf956e on main, dirty'
        """
        if not self.commit:
            return ""
        on = f" on {self.branch}" if self.branch else ""
        return f"{self.commit[:8]}{on}{_CLEANNESS[self.is_dirty]}"

    def shown(self) -> dict[str, Any]:
        """Choose and word what a card shows, worst first."""
        return {
            "status": self.status,
            "journal": f"keeps {counted(self.unsent, 'record')} not sent yet" if self.unsent else "",
            "error": self.error,
            "cell": self.cell,
            "attempt": f"{self.attempt}, after {self.previous_id[:8]}" if self.previous_id else "",
            "started": self.started_at,
            "order": self.order,
            "commit": self.code_state,
            "source": self.source,
            "user": self.user,
            "under": self.parent_id[:8],
            "reproduced": self.reproduced,
            "MLflow": Link(self.url),
            "metrics": self._metric_lines() if self.curves or self.changes else self.metrics,
            f"changed since attempt {self.attempt - 1}": tuple(
                ChangeLine(each.kind, each.name, *each.values) for each in self.changes if each.kind != "metric"
            ),
            "params": self.params,
            "data": self.data,
            "tags": self.tags,
        }

    def _metric_lines(self) -> tuple[MetricLine, ...]:
        before = {each.name: (each.values[0], each.gap) for each in self.changes if each.kind == "metric"}
        return tuple(
            MetricLine(name, value, *before.get(name, (None, None)), self.curves.get(name))
            for name, value in self.metrics.items()
        )

    @staticmethod
    def listed(runs: "Sequence[Run]") -> list[tuple[str, list[Any]]]:
        """Choose the columns of a list: what tells these runs apart, and little else."""
        metrics = _most_common([run.metrics for run in runs], first=getattr(runs, "metric", ""))
        curves = _most_common([run.curves for run in runs], first=getattr(runs, "metric", ""), most=1)
        params = _most_common([run.params for run in runs], only_differing=True)
        columns: list[tuple[str, list[Any]]] = [
            ("id", [run.run_id[:8] for run in runs]),
            ("name", [run.name for run in runs]),
            ("status", [run.status for run in runs]),
            *((name, [run.metrics.get(name) for run in runs]) for name in metrics),
            *((f"{name} curve", [run.curves.get(name) for run in runs]) for name in curves),
            *((name, [run.params.get(name) for run in runs]) for name in params),
            ("started", [run.started_at for run in runs]),
            ("took (s)", [run.duration_s for run in runs]),
        ]
        often_same: dict[str, list[Any]] = {
            "attempt": [run.attempt for run in runs],
            "source": [PurePath(run.source).name for run in runs],
            "user": [run.user for run in runs],
        }
        return columns + [(name, values) for name, values in often_same.items() if len(set(values)) > 1]


_CLEANNESS = {True: ", dirty", False: ", clean", None: ""}


def _most_common(
    tables: Sequence[Mapping[str, Any]], *, first: str = "", only_differing: bool = False, most: int = 3
) -> list[str]:
    """Choose names that half of the tables have, or more; by how many, then in alphabetical order."""
    counts = Counter(name for table in tables for name in table)
    told = [name for name, count in counts.items() if name == first or count * 2 >= len(tables)]
    if only_differing:
        told = [name for name in told if len({table.get(name) for table in tables}) > 1]
    return sorted(told, key=lambda name: (name != first, -counts[name], name))[:most]


class Runs(Rows[Run]):
    """Runs in a list; `metric` is the one that they are sorted by."""

    metric = ""

    def to_frame(self) -> "pd.DataFrame":
        """Give the list as a DataFrame: a row a run, a column for each metric, param and tag as MLflow names them.

        Examples
        --------
        >>> Runs([Run("1", "a", "FINISHED", None, None, metrics={"auc": 0.5})]).to_frame()["metrics.auc"].tolist()
        [0.5]
        """
        import pandas as pd

        plain = ("run_id", "name", "status", "started_at", "duration_s", "attempt", "source", "commit", "user")
        kinds = ("metrics", "params", "tags")
        return pd.DataFrame(
            {name: getattr(run, name) for name in plain}
            | {f"{kind}.{key}": value for kind in kinds for key, value in getattr(run, kind).items()}
            for run in self
        )


@dataclass(frozen=True)
class Selection:
    """Which runs of an experiment are meant, and in which order; what is empty does not matter.

    `sources` are spellings of one notebook's path, of which one must be the run's. `since` is an
    aware time. With a `metric` the best comes first, without one the newest; of these `offset` are left
    out, and at most `limit` chosen, 1 or more.
    """

    status: str = ""
    name: str = ""
    user: str = ""
    sources: tuple[str, ...] = ()
    since: datetime | None = None
    metric: str = ""
    lowest_first: bool = False
    limit: int = 20
    offset: int = 0


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
        "code": tags.get("nbmlops.code", ""),
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


def equals(what: str, value: str) -> str:
    r"""Word MLflow's filter for what is a text, for instance ``attributes.run_name``.

    MLflow's quotation marks know no escape: the kind that the text lacks goes around it. A text
    with both kinds is looked for with any character in their place, so compare what is found.

    Examples
    --------
    >>> print(equals("attributes.run_name", "Ann's"))
    attributes.run_name = "Ann's"
    >>> print(equals("attributes.run_name", 'Ann\'s "best"'))
    attributes.run_name LIKE 'Ann_s "best"'
    """
    if "'" not in value:
        return f"{what} = '{value}'"
    if '"' not in value:
        return f'{what} = "{value}"'
    pattern = value.replace("'", "_")
    return f"{what} LIKE '{pattern}'"
