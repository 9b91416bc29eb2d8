"""Notebooks written from the sources of their cells."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import small_disk

__all__ = ["small_disk"]

WriteNotebook = Callable[..., Path]


def as_notebook(*sources: str, tagged: str | None = None) -> dict[str, Any]:
    """A notebook of a heading, the tagged cell if any, and code cells."""
    cells: list[dict[str, Any]] = [{"cell_type": "markdown", "metadata": {}, "source": "# A notebook", "id": "heading"}]
    for number, source in enumerate([tagged, *sources]):
        if source is not None:
            tags = {"tags": ["parameters"]} if number == 0 else {}
            code = {"metadata": tags, "source": source.splitlines(keepends=True), "id": f"cell-{number}"}
            cells.append({"cell_type": "code", "execution_count": None, "outputs": [], **code})
    spec = {"name": "a-kernel-of-another-machine", "display_name": "Elsewhere", "language": "python"}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": spec}, "cells": cells}


@pytest.fixture
def write_notebook(folder: Path) -> WriteNotebook:
    """Write a notebook into the project's subfolder of notebooks."""

    def write(name: str, *sources: str, tagged: str | None = None) -> Path:
        path = folder / "notebooks" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(as_notebook(*sources, tagged=tagged)))
        return path

    return write
