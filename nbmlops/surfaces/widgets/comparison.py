"""Runs beside one another, as a table to sort and filter: what it shows, from the results of `runs` and `compare`."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nbmlops.errors import UsageError
from nbmlops.surfaces.show import cell
from nbmlops.tracking.comparison import Comparison
from nbmlops.tracking.runs import Run

MOST_COLUMNS = 60  # that can be picked
MOST_SHOWN = 6  # of them to begin with
MOST_LETTERS = 120  # of a cell


@dataclass(frozen=True)
class Column:
    """One column: its name, what kind of thing it is, whether it is shown at first, and each run's value."""

    name: str
    kind: str
    values: Sequence[Any]
    is_shown: bool = True

    def state(self) -> dict[str, Any]:
        """Give it as the page takes it: texts to show, and the numbers by which it is sorted."""
        return {
            "name": clipped(cell(self.name)),
            "kind": self.kind,
            "isShown": self.is_shown,
            "texts": [clipped(cell(value)) for value in self.values],
            "numbers": [_number(value) for value in self.values],
        }


class ComparisonView:
    """Runs as rows; metrics and params are picked as columns."""

    source = "comparison.js"
    every_s = 0.0

    def __init__(self, result: "Comparison | Sequence[Run]") -> None:
        columns = _of_comparison(result) if isinstance(result, Comparison) else _of_runs(result)
        self._state = {"columns": [column.state() for column in columns]}

    def state(self) -> dict[str, Any]:
        """Give what is shown; it does not change."""
        return self._state

    def words(self, asked: Mapping[str, Any]) -> list[str]:  # noqa: ARG002  # there is nothing to ask for
        """Do nothing: the page sorts and filters by itself."""
        raise UsageError("There is nothing to do here.")


def _of_runs(runs: Sequence[Run]) -> list[Column]:
    metrics = _by_frequency([run.metrics for run in runs])
    params = _by_frequency([run.params for run in runs])
    differing = {name for name in params if len({run.params.get(name) for run in runs}) > 1}
    first = getattr(runs, "metric", "")
    metrics.sort(key=lambda name: name != first)
    shown = {*metrics[:MOST_SHOWN], *[name for name in params if name in differing][: MOST_SHOWN // 2]}
    picked = [Column(name, "metric", [run.metrics.get(name) for run in runs], name in shown) for name in metrics]
    picked += [Column(name, "param", [run.params.get(name) for run in runs], name in shown) for name in params]
    return [
        Column("name", "run", [run.name for run in runs]),
        Column("id", "run", [run.run_id[:8] for run in runs]),
        Column("status", "run", [run.status for run in runs]),
        *picked[:MOST_COLUMNS],
        Column("started", "run", [run.started_at for run in runs]),
        Column("took (s)", "run", [run.duration_s for run in runs]),
        Column("source", "run", [run.source for run in runs], is_shown=False),
        Column("user", "run", [run.user for run in runs], is_shown=False),
    ]


def _of_comparison(found: Comparison) -> list[Column]:
    """Turn it round: what differs is picked as columns, so that runs can be sorted by it."""
    return [
        Column("name", "run", found.names),
        Column("id", "run", [run_id[:8] for run_id in found.runs]),
        *(
            Column(row.name, row.kind, row.values, number < 2 * MOST_SHOWN)
            for number, row in enumerate(found.differences[:MOST_COLUMNS])
        ),
    ]


def _by_frequency(tables: Sequence[Mapping[str, Any]]) -> list[str]:
    """List names, those that most of the tables have first."""
    counts = Counter(name for table in tables for name in table)
    return sorted(counts, key=lambda name: (-counts[name], name))


def _number(value: Any) -> float | None:
    """Give the number by which a value is sorted: a time's seconds, a param's value; none for a text.

    Examples
    --------
    >>> _number(0.5), _number("3"), _number("deep"), _number(None), _number(float("nan"))
    (0.5, 3.0, None, None, None)
    """
    try:
        number = value.timestamp() if hasattr(value, "timestamp") else float(value)
    except (TypeError, ValueError):
        return None
    return None if math.isnan(number) else number


def clipped(words: str, most: int = MOST_LETTERS) -> str:
    """Keep a text that a page shows short."""
    return words if len(words) <= most else f"{words[: most - 1]}…"
