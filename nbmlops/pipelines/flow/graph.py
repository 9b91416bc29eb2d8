"""The steps of a pipeline as a graph: their order, their levels, what follows from one, and cycles."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

Edges = Mapping[str, Sequence[str]]  # a step's name -> the steps that it needs


def cycle(edges: Edges) -> tuple[str, ...]:
    """Find a cycle; its first name stands at its end again. Empty where there is none. O(steps + needs).

    Examples
    --------
    >>> cycle({"a": ["c"], "b": ["a"], "c": ["b"], "d": []})
    ('a', 'b', 'c', 'a')
    >>> cycle({"a": [], "b": ["a"]})
    ()
    """
    done: set[str] = set()
    for start in edges:
        path: dict[str, Iterator[str]] = {}
        node: str | None = start if start not in done else None
        while node is not None:
            path.setdefault(node, iter(edges.get(node, ())))
            needed = next((each for each in path[node] if each in edges and each not in done), None)
            if needed in path:
                return _as_it_runs([*path][[*path].index(needed) :])
            if needed is None:
                done.add(node)
                del path[node]
                node = next(reversed(path), None)
            else:
                node = needed
    return ()


def _as_it_runs(needs: list[str]) -> tuple[str, ...]:
    """Turn a chain of needs round, so that it reads in the order of running, and close it."""
    first = needs[0]
    return (first, *reversed(needs[1:]), first)


def ordered(edges: Edges) -> tuple[str, ...]:
    """Order steps so that each stands behind those that it needs; else as declared. There must be no cycle.

    Examples
    --------
    >>> ordered({"gate": ["train"], "train": ["extract"], "extract": []})
    ('extract', 'train', 'gate')
    """
    place = levels(edges)
    declared = {name: n for n, name in enumerate(edges)}
    return tuple(sorted(edges, key=lambda name: (place[name], declared[name])))


def levels(edges: Edges) -> dict[str, int]:
    """Give each step's level: 0 needs nothing, else one more than the highest that it needs. There must be no cycle.

    Examples
    --------
    >>> levels({"extract": [], "train": ["extract"], "card": ["extract", "train"]})
    {'extract': 0, 'train': 1, 'card': 2}
    """
    place: dict[str, int] = {}
    for start in edges:
        waiting = [start]
        while waiting:
            name = waiting[-1]
            needs = [need for need in edges[name] if need in edges]
            if missing := [need for need in needs if need not in place]:
                waiting += missing
            else:
                place[name] = 1 + max((place[need] for need in needs), default=-1)
                waiting.pop()
    return {name: place[name] for name in edges}


def following(edges: Edges, names: Iterable[str]) -> set[str]:
    """Collect steps and all that need them, directly or not.

    Examples
    --------
    >>> sorted(following({"a": [], "b": ["a"], "c": ["b"], "d": []}, ["b"]))
    ['b', 'c']
    """
    reached = set(names)
    for name in ordered(edges):
        if reached & set(edges[name]):
            reached.add(name)
    return reached


def direct(edges: Edges) -> dict[str, tuple[str, ...]]:
    """Leave out the needs that follow from other needs: what a picture shows. There must be no cycle.

    Examples
    --------
    >>> direct({"a": [], "b": ["a"], "c": ["a", "b"]})
    {'a': (), 'b': ('a',), 'c': ('b',)}
    """
    above: dict[str, set[str]] = {}
    for name in ordered(edges):
        above[name] = set(edges[name]).union(*(above.get(need, set()) for need in edges[name]))
    return {
        name: tuple(need for need in needs if not any(need in above.get(other, ()) for other in needs if other != need))
        for name, needs in edges.items()
    }
