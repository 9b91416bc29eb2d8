"""The example notebooks as files: valid, empty of outputs, and with parameters that are understood."""

from pathlib import Path
from typing import Any

import nbformat
import pytest

from nbmlops.surfaces.python import Operations

EXAMPLES = Path(__file__).parents[2] / "example_notebooks"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
PARAMETERS: dict[str, list[tuple[str, str, Any]]] = {
    "01_extract": [("train_months", "list[int]", [1, 2]), ("holdout_month", "int", 3)],
    "02_train": [("name", "str", "delays"), ("max_iter", "int", 100)],
    "03_promote": [("name", "str", "delays")],
    "04_deploy": [("name", "str", "delays")],
    "05_drift": [("months", "list[int]", [3, 6, 9])],
    "06_tracking": [("month", "int", 1), ("deepest", "int", 9)],
    "07_month": [("month", "int", 1), ("origin", "str", "JFK"), ("least", "int", 100)],
    "08_headless": [("month", "int", 2), ("months", "list[int]", [6, 7])],
    "09_closed_loop": [("patience", "int", 300)],
    "09_extract": [("arrived", "str", "data/arrived.parquet")],
    "09_train": [("kind", "str", "logistic"), ("train", "str", "data/train.parquet")],
    "10_rollout": [("name", "str", "trial"), ("bake", "str", "2s"), ("slo", "str", "err<1%,p99<500ms,shift<0.5")],
    "11_sidebar": [("depths", "list[int]", [2, 4, 6]), ("name", "str", "sidebar")],
}


def test_there_is_one_for_each_stage() -> None:
    assert [path.stem for path in NOTEBOOKS] == list(PARAMETERS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_a_valid_notebook_without_outputs_of_its_own(path: Path) -> None:
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [(cell.outputs, cell.execution_count) for cell in code] == [([], None)] * len(code)
    assert notebook.metadata.kernelspec.name == "python3"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_its_parameters_are_understood_and_explained(path: Path) -> None:
    found = Operations(EXAMPLES).params(str(path))
    assert [(each.name, each.type, each.default) for each in found] == PARAMETERS[path.stem]
    assert all(each.help for each in found)
