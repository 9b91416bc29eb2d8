"""The instances of a matrix step: one for each combination of its values, and the one that is picked; pure."""

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nbmlops.errors import UsageError
from nbmlops.pipelines.flow.declared import Pick, Step
from nbmlops.pipelines.flow.ingredients import Results, sha
from nbmlops.pipelines.flow.references import as_text
from nbmlops.strict_json import plain

LONGEST_LABEL = 40  # characters of a matrix value in an instance's name
_PLAIN = re.compile(r"[\[\],=\s\x00-\x1f]")  # what would make an instance's name hard to read back


@dataclass(frozen=True)
class Instance:
    """One execution of a step: a combination of its matrix."""

    name: str
    step: Step
    values: Mapping[str, Any] = field(default_factory=dict)


def instances_of(step: Step) -> tuple[Instance, ...]:
    """Give a step's instances, in matrix order: the last name changes fastest.

    Examples
    --------
    >>> step = Step("train", "notebook", "t.ipynb", matrix={"kind": ("a", "b"), "depth": (1, 2)})
    >>> [each.name for each in instances_of(step)][:2]
    ['train[kind=a,depth=1]', 'train[kind=a,depth=2]']
    """
    if not step.matrix:
        return (Instance(step.name, step),)
    axes = [zip(_labels(values), values, strict=True) for values in step.matrix.values()]
    found = []
    for combination in itertools.product(*axes):
        told = ",".join(f"{name}={label}" for name, (label, _) in zip(step.matrix, combination, strict=True))
        values = {name: value for name, (_, value) in zip(step.matrix, combination, strict=True)}
        found.append(Instance(f"{step.name}[{told}]", step, values))
    return tuple(found)


def _labels(values: Sequence[Any]) -> list[str]:
    """Word matrix values shortly; what is long, alike or holds brackets gets some digits of its digest."""
    short = [_PLAIN.sub("_", as_text(value)) for value in values]
    return [
        text
        if text == as_text(value) and len(text) <= LONGEST_LABEL and short.count(text) == 1
        else _marked(text, value)
        for text, value in zip(short, values, strict=True)
    ]


def _marked(text: str, value: Any) -> str:
    return f"{text[: LONGEST_LABEL - 9]}~{sha([type(value).__name__, plain(value)])[:8]}"


def picked(pick: Pick, results: Sequence[Results]) -> int:
    """Choose the best of several results: its place; the first of equals. Without a number there is no best.

    Raises
    ------
    UsageError
        None has that number.

    Examples
    --------
    >>> picked(Pick("max", "auc"), [{"auc": 0.7}, {"auc": float("nan")}, {"auc": 0.8}, {}])
    2
    """
    real: list[tuple[int, Any]] = [(n, row[pick.key]) for n, row in enumerate(results) if _is_real(row.get(pick.key))]
    if not real:
        raise UsageError(f"pick = {str(pick)!r} has nothing to choose from: no instance gave a number {pick.key!r}.")
    best = (max if pick.better == "max" else min)(value for _, value in real)
    return next(n for n, value in real if value == best)


def _is_real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
