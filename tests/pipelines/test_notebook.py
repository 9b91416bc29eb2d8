"""A notebook as JSON: read, made ready, and told the truth about."""

from pathlib import Path

import pytest

from nbmlops.errors import NotFoundError, StoreError, UsageError
from nbmlops.pipelines import notebook as nb
from nbmlops.pipelines.execution.record import write

from .conftest import as_notebook


def test_parameters_are_put_behind_the_tagged_cell_and_cells_keep_their_numbers() -> None:
    source = as_notebook("print(month)", tagged="month = 1")
    ready = nb.prepare(source, {"month": 3})
    assert [nb.source_of(cell) for cell in ready.content["cells"]][1:] == [
        "month = 1",
        "# Parameters\nmonth = 3",
        "print(month)",
    ]
    assert ready.numbers == (1, 2, 0, 3)
    assert len(source["cells"]) == 3


def test_an_executed_notebook_can_be_run_again() -> None:
    once = nb.prepare(as_notebook("print(month)", tagged="month = 1"), {"month": 3}).content
    once["cells"].insert(0, {"cell_type": "markdown", "metadata": {"tags": [nb.ERROR_MARKER]}, "source": "It failed"})
    again = nb.prepare(once, {"month": 4})
    assert [nb.source_of(cell) for cell in again.content["cells"]].count("# Parameters\nmonth = 4") == 1
    assert again.numbers == (2, 3, 0, 5)


def test_an_executed_notebook_run_without_parameters_has_its_defaults_again() -> None:
    once = nb.prepare(as_notebook("print(month)", tagged="month = 1"), {"month": 3}).content
    again = nb.prepare(once, {})
    assert [nb.source_of(cell) for cell in again.content["cells"]][1:] == ["month = 1", "print(month)"]
    assert again.numbers == (1, 2, 4)


def test_what_is_no_notebook_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.ipynb").write_text("[]")
    with pytest.raises(UsageError, match="format 4"):
        nb.read(tmp_path / "train.ipynb")
    (tmp_path / "train.ipynb").write_text("{")
    with pytest.raises(UsageError, match="not a notebook"):
        nb.read(tmp_path / "train.ipynb")
    with pytest.raises(UsageError, match="not a notebook"):
        nb.read(tmp_path)
    with pytest.raises(NotFoundError) as caught:
        nb.read(tmp_path / "trian.ipynb")
    assert "train.ipynb" in caught.value.hint


def test_a_notebook_that_cannot_be_written_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):  # noqa: SIM117
        with nb.writing(tmp_path / "file" / "out.ipynb"):
            write({}, tmp_path / "file" / "out.ipynb")
