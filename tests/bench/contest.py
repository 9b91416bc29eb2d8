"""What a bench is, how its contenders are measured turn by turn, and the table of what was measured."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

Figures = Mapping[str, float]
Contender = Callable[[], Figures]


@dataclass(frozen=True)
class Bench:
    """Ours beside its peers; each contender gives its figures of one turn, by unit.

    `promise` says what ours should stay within.
    """

    name: str
    ours: Contender
    peers: Mapping[str, Contender]
    promise: str = ""
    turns: int = 5


@dataclass(frozen=True)
class Spread:
    """What one contender needed over all turns, in one unit."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.median:,.4g} ({self.least:,.4g} to {self.most:,.4g})"


def measure(bench: Bench) -> dict[str, dict[str, Spread]]:
    """Let the contenders take turns, so that a slow minute of the machine hits all of them.

    Returns
    -------
    dict
        Contender -> unit -> spread; ours goes by the name ``ours``.

    Examples
    --------
    >>> found = measure(Bench("sum", ours=lambda: {"ms": 1.0}, peers={"loop": lambda: {"ms": 4.0}}))
    >>> found["loop"]["ms"].median
    4.0
    """
    contenders = {"ours": bench.ours, **bench.peers}
    turns: dict[str, list[Figures]] = {name: [] for name in contenders}
    for _ in range(bench.turns):
        for name, contender in contenders.items():
            turns[name].append(contender())
    return {name: _spreads(figures) for name, figures in turns.items()}


def rows(bench: Bench, found: Mapping[str, Mapping[str, Spread]]) -> Iterator[str]:
    """Word a Markdown row for each unit and peer.

    Examples
    --------
    >>> bench = Bench("sum", ours=lambda: {"ms": 1.0}, peers={"loop": lambda: {"ms": 4.0}}, promise="at most 2 ms")
    >>> list(rows(bench, measure(bench)))
    ['| sum | ms | 1 (1 to 1) | loop | 4 (4 to 4) | 0.25 | at most 2 ms |']
    """
    for unit, ours in found["ours"].items():
        if not bench.peers:
            yield f"| {bench.name} | {unit} | {ours} | | | | {bench.promise} |"
        for peer in bench.peers:
            theirs = found[peer][unit]
            ratio = f"{ours.median / theirs.median:.2g}" if theirs.median else ""
            yield f"| {bench.name} | {unit} | {ours} | {peer} | {theirs} | {ratio} | {bench.promise} |"


def _spreads(turns: Sequence[Figures]) -> dict[str, Spread]:
    by_unit = {unit: [figures[unit] for figures in turns] for unit in turns[0]}
    return {unit: Spread(statistics.median(all_), min(all_), max(all_)) for unit, all_ in by_unit.items()}
