"""What was executed, and whether the notebook as saved would do the same: pure, no kernel, no files."""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nbmlops.scrub import scrub_text

ALWAYS_SAVED = float("inf")
_MARK = re.compile(r"^# %% \[(\d+)\] (ok|failed|running)(?: ([\w-]+))?(?:  # .*)?$", re.MULTILINE)
_SEEDS = re.compile(r"(?:^|_)(?:seed|random_state)$")
_SEEDING = ("seed", "manual_seed", "manual_seed_all", "set_seed", "default_rng", "RandomState", "seed_everything")


@dataclass(frozen=True)
class Execution:
    """One execution of a cell: its number in the kernel (0: not known), and how it went ("ok", "failed", "running").

    `started_at` is in seconds of the epoch, 0 where it is not known.
    """

    number: int
    source: str
    cell_id: str = ""
    status: str = "ok"
    started_at: float = 0.0
    duration_s: float | None = None
    error: str = ""


@dataclass(frozen=True)
class Cell:
    """A code cell of a notebook as saved; `number` counts all of its cells from 1."""

    number: int
    source: str
    cell_id: str = ""


@dataclass(frozen=True)
class Verdict:
    """Whether the notebook as saved, run from its top, would execute what was executed; if not, the cells that differ.

    `word` is ``linear``, ``out of order``, ``edited since``, ``deleted cells``, or ``not saved since``: then
    cells were executed that the file did not have when it was last saved, which says nothing.
    """

    word: str
    cells: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Word it in a line: the first cells only."""
        more = f", … {len(self.cells) - 6} more" if len(self.cells) > 6 else ""
        return f"{self.word} ({', '.join(self.cells[:6])}{more})" if self.cells else self.word


@dataclass(frozen=True)
class Executed:
    """What a process executed: where its source is saved ("" if nowhere), and the executions in their order.

    `cells` are the notebook's as saved, None for a script; `n_forgotten` executions before
    the first are not kept any more.
    """

    path: str = ""
    executions: tuple[Execution, ...] = ()
    cells: tuple[Cell, ...] | None = None
    saved_at: float = ALWAYS_SAVED
    n_forgotten: int = 0

    @property
    def verdict(self) -> Verdict | None:
        """The verdict; None without a notebook to hold the executions against."""
        if self.cells is None:
            return None
        return judge(self.executions, self.cells, self.saved_at)


# ------------------------------------------------------------------- the verdict
def judge(executions: Sequence[Execution], cells: Sequence[Cell], saved_at: float = ALWAYS_SAVED) -> Verdict:
    """Judge executions against the notebook as saved, the gravest first.

    ``deleted cells``: executed and not there any more. ``edited since``: there, with another source.
    ``out of order``: a cell again or after one below it, or one left out that stands above an executed one.
    A cell that failed and was executed again right after counts once, as it was then; empty cells do not count.

    Parameters
    ----------
    executions
        In the order in which they happened.
    cells
        The code cells as saved, in the notebook's order.
    saved_at
        When it was saved, in seconds of the epoch: what was executed later and differs may be not saved yet.

    Returns
    -------
    Verdict
        Nothing executed is linear. O(n) in executions and cells.

    Examples
    --------
    >>> cells = [Cell(1, "a = 1", "x"), Cell(2, "b = a", "y")]
    >>> print(judge([Execution(1, "a = 1", "x"), Execution(2, "b = a", "y")], cells))
    linear
    >>> print(judge([Execution(1, "a = 1", "x"), Execution(2, "b = a", "y"), Execution(3, "a = 1", "x")], cells))
    out of order (cell 1)
    >>> print(judge([Execution(1, "a = 0", "x")], cells))
    edited since (cell 1)
    """
    shelf = _Shelf(cells)
    fates: dict[str, list[str]] = {"deleted cells": [], "edited since": [], "out of order": [], "not saved since": []}
    places: list[int] = []
    for each in _counted(executions):
        place = shelf.place(each, places[-1] if places else -1)
        is_same = place is not None and cells[place].source.strip() == each.source.strip()
        if not is_same:
            fate = "deleted cells" if place is None else "edited since"
            unsaved = each.started_at > saved_at
            name = f"[{each.number}]" if place is None else f"cell {cells[place].number}"
            fates["not saved since" if unsaved else fate].append(name)
        if place is not None:
            places.append(place)
    fates["out of order"] = [f"cell {cells[place].number}" for place in _disorder(places, cells)]
    return next(
        (Verdict(word, tuple(dict.fromkeys(names))) for word, names in fates.items() if names), Verdict("linear")
    )


def _counted(executions: Sequence[Execution]) -> Iterator[Execution]:
    """Leave out empty cells, and failures that were tried again at once."""
    told = [each for each in executions if each.source.strip()]
    for each, following in zip(told, [*told[1:], None], strict=False):
        again = following is not None and each.cell_id and each.cell_id == following.cell_id
        if not (again and each.status == "failed"):
            yield each


class _Shelf:
    """Finds an execution's cell: by its id, else by its source, the next such one below the last place first."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._by_id = {cell.cell_id: place for place, cell in enumerate(cells) if cell.cell_id}
        self._by_source: dict[str, list[int]] = {}
        for place, cell in enumerate(cells):
            self._by_source.setdefault(cell.source.strip(), []).append(place)

    def place(self, execution: Execution, last: int) -> int | None:
        if execution.cell_id in self._by_id:
            return self._by_id[execution.cell_id]
        same = self._by_source.get(execution.source.strip(), [])
        return next((place for place in same if place > last), same[0] if same else None)


def _disorder(places: Sequence[int], cells: Sequence[Cell]) -> list[int]:
    """Give the places that were executed again or too late, then those that were left out."""
    late, furthest = [], -1
    for place in places:
        if place <= furthest:
            late.append(place)
        furthest = max(furthest, place)
    executed = set(places)
    skipped = [place for place in range(furthest) if place not in executed and cells[place].source.strip()]
    return late + skipped


# ------------------------------------------------------------------ as one script
def script(executions: Sequence[Execution], n_forgotten: int = 0) -> str:
    r"""Write the executed sources as one text, each below its mark ``# %% [number] status id``; secrets are masked.

    It is the cells' own text, magics and all; editors know the marks as cells.

    Examples
    --------
    >>> print(script([Execution(1, "a = 1", "x"), Execution(3, "a / 0", status="failed", error="ZeroDivisionError")]))
    # %% [1] ok x
    a = 1
    <BLANKLINE>
    # %% [3] failed  # ZeroDivisionError
    a / 0
    <BLANKLINE>
    """
    head = f"# {n_forgotten} executions before these are not kept.\n\n" if n_forgotten else ""
    return head + "\n".join(f"{_mark(each)}\n{scrub_text(each.source).strip(chr(10))}\n" for each in executions)


def _mark(execution: Execution) -> str:
    error = f"  # {' '.join(scrub_text(execution.error).split())}" if execution.error else ""
    return f"# %% [{execution.number}] {execution.status} {execution.cell_id}".rstrip() + error


def executions_of(text: str) -> list[Execution]:
    """Read a text that `script` wrote; what has no mark, as any other script, is one execution.

    Examples
    --------
    >>> executions_of(script([Execution(1, "a = 1", "x"), Execution(2, "b = a", "y")]))[1].source
    'b = a'
    """
    _, *parts = _MARK.split(text)
    if not parts:
        return [Execution(1, text.strip("\n"))]
    fields = zip(parts[::4], parts[1::4], parts[2::4], parts[3::4], strict=True)
    return [Execution(int(n), body.strip("\n"), cell_id or "", status) for n, status, cell_id, body in fields]


# -------------------------------------------------------------------- notebooks
def cells_of(content: Mapping[str, Any]) -> tuple[Cell, ...]:
    r"""Give the code cells of a notebook of format 4.

    Examples
    --------
    >>> cells_of({"cells": [{"cell_type": "markdown"}, {"cell_type": "code", "source": ["a = 1\n", "b"], "id": "x"}]})
    (Cell(number=2, source='a = 1\nb', cell_id='x'),)
    """
    return tuple(
        Cell(number, _text(cell.get("source", "")), str(cell.get("id", "")))
        for number, cell in enumerate(content.get("cells", ()), start=1)
        if cell.get("cell_type") == "code"
    )


def executions_in(content: Mapping[str, Any]) -> tuple[Execution, ...]:
    """Read from an executed notebook which of its cells were executed, by the counts that stand beside them."""
    numbered = [(cell.get("execution_count"), cell) for cell in content.get("cells", ())]
    executed = sorted((count, place) for place, (count, _) in enumerate(numbered) if isinstance(count, int))
    return tuple(_execution(count, content["cells"][place]) for count, place in executed)


def _execution(count: int, cell: Mapping[str, Any]) -> Execution:
    error = next((each for each in cell.get("outputs", ()) if each.get("output_type") == "error"), None)
    said = f"{error.get('ename')}: {error.get('evalue')}"[:200] if error else ""
    status = "failed" if error else "ok"
    return Execution(count, _text(cell.get("source", "")), str(cell.get("id", "")), status, error=said)


def _text(source: str | list[str]) -> str:
    return source if isinstance(source, str) else "".join(source)


# ------------------------------------------------------------------------- seeds
def seeds(executions: Sequence[Execution]) -> dict[str, int]:
    r"""Find the random seeds that stand in executed source as numbers; the last of a name counts.

    Arguments and variables named ``seed`` or ``random_state`` (or ending so), and calls that seed a generator.

    Examples
    --------
    >>> seeds([Execution(1, "np.random.seed(0)\nSEED = 7\nmodel = Forest(random_state=42)")])
    {'SEED': 7, 'np.random.seed': 0, 'random_state': 42}
    """
    found: dict[str, int] = {}
    for each in executions:
        if "seed" in each.source.lower() or "rng" in each.source or "andom" in each.source:  # parsing is slow
            found |= dict(_seeds_in(each.source))
    return found


def _seeds_in(source: str) -> Iterator[tuple[str, int]]:
    python = re.sub(r"^[ \t]*[%!].*$", "", source, flags=re.MULTILINE)  # magics
    try:
        nodes = list(ast.walk(ast.parse(python)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in nodes:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                yield from _seed(ast.unparse(target), node.value)
        elif isinstance(node, ast.AnnAssign) and node.value:
            yield from _seed(ast.unparse(node.target), node.value)
        elif isinstance(node, ast.Call):
            for keyword in node.keywords:
                yield from _seed(keyword.arg or "", keyword.value)
            name = ast.unparse(node.func)
            if name.rpartition(".")[2] in _SEEDING and node.args:
                yield from _number(name, node.args[0])


def _seed(name: str, value: ast.expr) -> Iterator[tuple[str, int]]:
    if _SEEDS.search(name.rpartition(".")[2].lower()):
        yield from _number(name, value)


def _number(name: str, value: ast.expr) -> Iterator[tuple[str, int]]:
    if isinstance(value, ast.Constant) and type(value.value) is int:
        yield name, value.value
