"""Runs whose process does not get as far as the first cell."""

from pathlib import Path

import pytest

from nbmlops.errors import KernelError
from nbmlops.pipelines.verbs import run
from nbmlops.project import Project

from .conftest import WriteNotebook


def test_a_process_that_cannot_begin_says_why(
    project: Project, write_notebook: WriteNotebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "shadow" / "ipykernel"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise RuntimeError('no kernel today')")
    monkeypatch.setenv("PYTHONPATH", str(broken.parent))
    with pytest.raises(KernelError, match="exited with code 1: RuntimeError: no kernel today"):
        run(project, str(write_notebook("train.ipynb", "1")), output="out.ipynb")
