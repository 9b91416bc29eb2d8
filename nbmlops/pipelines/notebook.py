"""A notebook as plain JSON (nbformat 4): read, made ready for a run, and settled after it; and what a run of one is."""

import contextlib
import copy
import json
import re
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbmlops.errors import NotFoundError, StoreError, UsageError, nearest
from nbmlops.pipelines import contract
from nbmlops.scrub import scrub_text
from nbmlops.verb import Result

Content = dict[str, Any]
# Cells that an earlier headless run left in a notebook: the parameters it set, and where it failed.
INJECTED = "injected-parameters"
ERROR_MARKER = "papermill-error-cell-tag"
_SETS = re.compile(r"(?m)environ\s*\[[^\]]*\]\s*=[^=]|environ\.(?:update|setdefault|pop)|putenv|^\s*%(?:set_)?env\b")
_WELL_KNOWN = re.compile(r"(?m)^(?:import|from)\s+((?:mlflow|numpy|pandas|scipy|sklearn)[\w.]*)")
MAY_FAIL = "raises-exception"  # Jupyter's own tag


@dataclass(frozen=True)
class CellTiming:
    """How one code cell went; `index` counts the notebook's cells from 1, status is ok, failed or pending."""

    index: int
    source_line: str
    seconds: float
    status: str


@dataclass(frozen=True)
class Failure:
    """Why a run did not finish: the one cause that exit code, run, notebook, event and message name alike.

    `cause` is raised, exited, died, killed, timeout, interrupted, terminated or broken (of our own making, for instance
    a full disk). `cell` counts the notebook's cells from 1; 0 is the cell of given parameters, None is between cells.
    """

    cause: str
    message: str
    cell: int | None = None
    count: int | None = None  # the prompt's number, In [count]
    line: str = ""  # of source, the first of the cell
    source: str = ""
    ename: str = ""
    traceback: str = ""  # plain text, without colours


@dataclass(frozen=True)
class NotebookRun(Result):
    """One headless run of a notebook; a dry run has status PLANNED and no run.

    `status` is PLANNED, FINISHED, SKIPPED (the notebook said so itself, in `reason`), FAILED or KILLED.
    """

    notebook: str
    output: str
    run_id: str
    status: str
    duration_s: float
    parameters: Mapping[str, Any]
    cells: tuple[CellTiming, ...] = ()
    job: str = ""
    results: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    failure: Failure | None = None

    @property
    def headline(self) -> str:
        """The run in one line."""
        if self.status == "PLANNED":
            return f"{self.notebook} would run"
        told = f"{self.notebook} {self.status} in {self.duration_s:.1f} s, run {self.run_id[:8]}"
        return f"{told}: {self.reason}" if self.status == "SKIPPED" else told

    @property
    def subject(self) -> str:
        """How the ledger files it."""
        return f"notebook/{Path(self.notebook).stem}"

    @property
    def next_step(self) -> str:
        """Look at its run, or go on where it failed."""
        if self.status in ("FAILED", "KILLED"):
            return f"resume {self.job[:8]}"
        return f"show {self.run_id[:8]}" if self.run_id else f"run {self.notebook}"


@dataclass(frozen=True)
class Prepared:
    """A notebook ready to be executed; `numbers` gives each cell's place in the source, 0 for the cell we put in."""

    content: Content
    numbers: tuple[int, ...]
    environment: Mapping[str, str]

    def line(self, index: int) -> str:
        """Give the first line of a cell."""
        lines = source_of(self.content["cells"][index]).strip().splitlines() or [""]
        return shortened(lines[0])

    def imports(self) -> tuple[str, ...]:
        """Name the modules of well-known libraries that the cells import, which takes seconds."""
        if self.sets_environment:
            return ()
        code = "\n".join(cell["source"] for cell in self.content["cells"] if cell.get("cell_type") == "code")
        return tuple(dict.fromkeys(_WELL_KNOWN.findall(code)))

    @property
    def sets_environment(self) -> bool:
        """Whether a cell sets variables of the environment: what it imports then has not been imported before."""
        return any(_SETS.search(source_of(cell)) for cell in self.content["cells"] if cell.get("cell_type") == "code")

    def to_run(self) -> list[dict[str, Any]]:
        """Give the code cells that hold something, as the process that runs them wants them."""
        return [
            {
                "index": index,
                "id": cell.get("id"),
                "source": cell["source"],
                "may_fail": MAY_FAIL in _tags(cell),
            }
            for index, cell in enumerate(self.content["cells"])
            if cell.get("cell_type") == "code"
        ]


def read(path: Path) -> Content:
    """Read a notebook.

    Raises
    ------
    NotFoundError
        There is none; the hint names the nearest of its folder.
    UsageError
        The file is no notebook of format 4.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as exc:
        beside = [each.name for each in path.parent.glob("*.ipynb")]
        raise NotFoundError(f"There is no notebook {path}.", nearest(path.name, beside)) from exc
    except (OSError, ValueError) as exc:
        raise UsageError(f"{path} is not a notebook: {exc}.") from exc
    if not isinstance(content, dict) or content.get("nbformat") != 4 or not isinstance(content.get("cells"), list):
        raise UsageError(f"{path} is not a notebook of format 4.", "Open and save it in JupyterLab to convert it.")
    return content


def source_of(cell: Mapping[str, Any]) -> str:
    """Give a cell's source, which is kept as a text or as lines."""
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(source)


def parameters_of(content: Content) -> tuple[contract.Parameter, ...]:
    """Read the parameters that a notebook declares; without a tagged cell, none."""
    place = _tagged(content["cells"], contract.TAG)
    return () if place is None else contract.declared(source_of(content["cells"][place]))


def prepare(content: Content, values: Mapping[str, Any], *, keeps_injected: bool = False) -> Prepared:
    """Put the given parameters behind the tagged cell, and clear what an earlier run left."""
    stale = {ERROR_MARKER} if keeps_injected else {ERROR_MARKER, INJECTED}
    kept = [(n, cell) for n, cell in enumerate(content["cells"], start=1) if not stale & _tags(cell)]
    cells = [_whole(cell, content) for _, cell in kept]
    numbers = [n for n, _ in kept]
    injection = contract.injection(values)
    ready = {**copy.deepcopy({key: value for key, value in content.items() if key != "cells"}), "cells": cells}
    ready.setdefault("nbformat_minor", 4)
    ready.setdefault("metadata", {}).pop("widgets", None)
    if values:
        place = (_tagged(cells, contract.TAG) or 0) + 1
        cells.insert(place, _code_cell(injection.source, content))
        numbers.insert(place, 0)
        ready.setdefault("metadata", {}).setdefault("papermill", {})["parameters"] = contract.shown(values)
    return Prepared(ready, tuple(numbers), injection.environment)


def shortened(line: str) -> str:
    """Give a line as messages and tables show it: without secrets, 80 characters at most."""
    line = scrub_text(line)
    return line if len(line) <= 80 else line[:79] + "…"


def cell_named(number: int, line: str, count: int | None = None) -> str:
    """Name a cell by its place in the source, 0 for the one that we put in; `count` is its prompt's number.

    Examples
    --------
    >>> cell_named(4, "x / 0", 3)
    'cell 4 [In 3]: x / 0'
    """
    name = f"cell {number}" if number else "the cell of given parameters"
    return f"{name}{f' [In {count}]' if count else ''}: {line}"


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Word what may go wrong when a notebook, or the log of its run, is written."""
    try:
        yield
    except OSError as exc:
        what = "notebook" if path.suffix == ".ipynb" else "file"
        raise StoreError(
            f"The {what} {path} cannot be written: {exc.strerror}.", "Check the disk, or give -o."
        ) from exc


def banner(failure: Failure, content: Content) -> Content:
    """Make the cell that tells, at the top of an executed notebook, where and why it failed."""
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", failure.message)), default=0))
    told = f"**This run did not finish.**\n\n{fence}text\n{failure.message}\n{fence}"
    return _identity(content) | {"cell_type": "markdown", "metadata": {"tags": [ERROR_MARKER]}, "source": told}


def kernel_of(content: Content) -> str:
    """Name the kernel that a notebook needs, where it is installed and not this very interpreter; else empty."""
    name = str(content["metadata"].get("kernelspec", {}).get("name", ""))
    if name in ("", "python3"):  # this interpreter, whatever a user's folder calls python3
        return ""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    try:
        spec = KernelSpecManager().get_kernel_spec(name)
    except NoSuchKernel:
        return ""
    is_own = Path(spec.argv[0]) in (Path(sys.executable), Path("python")) and "ipykernel_launcher" in spec.argv
    return "" if is_own and not spec.env else name


def _tagged(cells: list[Content], tag: str) -> int | None:
    return next((i for i, cell in enumerate(cells) if cell.get("cell_type") == "code" and tag in _tags(cell)), None)


def _tags(cell: Mapping[str, Any]) -> set[str]:
    return set(cell.get("metadata", {}).get("tags", ()))


def _whole(cell: Content, content: Content) -> Content:
    """Give a copy of a cell with every field that the format asks for, and no output."""
    fresh = copy.deepcopy(cell)
    fresh["source"] = source_of(cell)
    fresh.setdefault("metadata", {})
    if _has_ids(content):
        fresh.setdefault("id", uuid.uuid4().hex[:8])
    if fresh.get("cell_type") == "code":
        fresh |= {"outputs": [], "execution_count": None}
        fresh["metadata"].pop("papermill", None)
    return fresh


def _code_cell(source: str, content: Content) -> Content:
    return _identity(content) | {
        "cell_type": "code",
        "execution_count": None,
        "metadata": {"tags": [INJECTED]},
        "outputs": [],
        "source": source,
    }


def _identity(content: Content) -> Content:
    return {"id": uuid.uuid4().hex[:8]} if _has_ids(content) else {}


def _has_ids(content: Content) -> bool:
    return bool(content.get("nbformat_minor", 0) >= 5)
