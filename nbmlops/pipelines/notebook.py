"""A notebook as plain JSON (nbformat 4): read, made ready for a run, and settled after it; and what a run of one is."""

import copy
import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True)
class CellTiming:
    """How one code cell went; `index` counts the notebook's cells from 1, status is ok, failed or pending."""

    index: int
    source_line: str
    seconds: float
    status: str


@dataclass(frozen=True)
class NotebookRun(Result):
    """One headless run of a notebook; a dry run has status PLANNED and no run."""

    notebook: str
    output: str
    run_id: str
    status: str
    duration_s: float
    parameters: Mapping[str, Any]
    cells: tuple[CellTiming, ...] = ()

    @property
    def headline(self) -> str:
        """The run in one line."""
        if self.status == "PLANNED":
            return f"{self.notebook} would run"
        return f"{self.notebook} {self.status} in {self.duration_s:.1f} s, run {self.run_id[:8]}"

    @property
    def subject(self) -> str:
        """How the ledger files it."""
        return f"notebook/{Path(self.notebook).stem}"

    @property
    def next_step(self) -> str:
        """Look at its run."""
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
        line = scrub_text(lines[0])
        return line if len(line) <= 80 else line[:79] + "…"


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


def prepare(content: Content, values: Mapping[str, Any]) -> Prepared:
    """Put the given parameters behind the tagged cell, and clear what an earlier run left."""
    stale = {ERROR_MARKER, INJECTED}
    kept = [(n, cell) for n, cell in enumerate(content["cells"], start=1) if not stale & _tags(cell)]
    cells = [_cleared(cell) for _, cell in kept]
    numbers = [n for n, _ in kept]
    injection = contract.injection(values)
    ready = {**copy.deepcopy(content), "cells": cells}
    if values:
        place = (_tagged(cells, contract.TAG) or 0) + 1
        cells.insert(place, _code_cell(injection.source, content))
        numbers.insert(place, 0)
        ready.setdefault("metadata", {}).setdefault("papermill", {})["parameters"] = contract.shown(values)
    return Prepared(ready, tuple(numbers), injection.environment)


def broken_off(content: Content, last: int, was_running: bool, reason: str) -> Content:
    """Tell the truth about a kernel that died: papermill calls every cell completed then.

    Parameters
    ----------
    content
        The executed notebook; it is changed.
    last
        Index of the last cell that began, -1 for none; those behind it never ran.
    was_running
        Whether that cell had not ended yet: then it failed.
    reason
        Why, for the reader of the notebook.
    """
    cells = [cell for cell in content["cells"] if ERROR_MARKER not in _tags(cell)]
    for cell in cells[last + 1 :]:
        _notes(cell).update(_PENDING)
    if was_running:
        if _notes(cells[last]).get("status") != "failed":  # else the interrupted cell left its own traceback
            error = {"output_type": "error", "ename": "KernelError", "evalue": reason, "traceback": [reason]}
            cells[last].setdefault("outputs", []).append(error)
        _notes(cells[last]).update(status="failed", exception=True)
    _notes(content)["exception"] = True
    return content


def write(content: Content, path: Path, draft: Path | None = None) -> None:
    """Write a notebook; with a draft it appears under its name at once and whole."""
    target = draft or path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        if draft:
            os.replace(draft, path)
    except OSError as exc:
        raise StoreError(
            f"The notebook {path} cannot be written: {exc.strerror}.", "Check the disk, or give -o."
        ) from exc


def _notes(part: Content) -> Content:
    """Give what papermill notes about a cell or a notebook."""
    notes: Content = part.setdefault("metadata", {}).setdefault("papermill", {})
    return notes


def _tagged(cells: list[Content], tag: str) -> int | None:
    return next((i for i, cell in enumerate(cells) if cell.get("cell_type") == "code" and tag in _tags(cell)), None)


def _tags(cell: Mapping[str, Any]) -> set[str]:
    return set(cell.get("metadata", {}).get("tags", ()))


def _cleared(cell: Content) -> Content:
    fresh = copy.deepcopy(cell)
    return fresh | {"outputs": [], "execution_count": None} if fresh.get("cell_type") == "code" else fresh


def _code_cell(source: str, content: Content) -> Content:
    identity = {"id": uuid.uuid4().hex[:8]} if content.get("nbformat_minor", 0) >= 5 else {}
    return identity | {
        "cell_type": "code",
        "execution_count": None,
        "metadata": {"tags": [INJECTED]},
        "outputs": [],
        "source": source,
    }


_PENDING = {"status": "pending", "exception": None, "start_time": None, "end_time": None, "duration": None}
