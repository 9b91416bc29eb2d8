"""What differs between runs: pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nbmlops.tracking.runs import Difference, Run
from nbmlops.verb import Result


class Beside(tuple[Difference, ...]):
    """Differences in a table whose columns go by the runs' `names`."""

    names: Sequence[str] = ()


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

    def shown(self) -> dict[str, Any]:
        """Choose what a card shows: a column for each run; runs of one name are told apart by their ids."""
        table = Beside(self.differences)
        is_unique = len(set(self.names)) == len(self.names)
        pairs = zip(self.names, self.runs, strict=True)
        table.names = self.names if is_unique else [f"{name} ({run_id[:8]})" for name, run_id in pairs]
        return {"differences": table}


def compare_runs(runs: Sequence[Run]) -> Comparison:
    """Collect what differs between runs: metrics (widest relative gap first), params, data, code, environment, tags.

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
    tables = [table_of(run) for run in runs]
    kinds = {kind: _rows(kind, [table[kind] for table in tables]) for kind in tables[0]}
    kinds["metric"].sort(key=_relative_gap, reverse=True)
    every = [row for rows in kinds.values() for row in rows]
    differing = tuple(row for row in every if any(not _same(value, row.values[0]) for value in row.values))
    return Comparison(
        runs=tuple(run.run_id for run in runs),
        names=tuple(run.name for run in runs),
        differences=differing,
        equal=len(every) - len(differing),
    )


def table_of(run: Run) -> dict[str, Mapping[str, Any]]:
    """Give everything that is compared of a run, by kind; what it lacks is left out."""
    code = {"source": run.source, "commit": run.code_state, "executed": run.code[:12]}
    facts = {"status": run.status, "order": run.order, "user": run.user}
    return {
        "metric": run.metrics,
        "param": run.params,
        "data": run.data,
        "code": _present(code),
        "environment": _present({"lock": run.environment[:12]}),
        "tag": run.tags,
        "fact": _present(facts),
    }


def _present(values: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}


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
