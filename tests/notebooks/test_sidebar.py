"""The notebook that is read beside the sidebar, run headlessly: its views leave cards, and open nothing."""

import subprocess
from pathlib import Path

import nbformat
import pytest

from tests.notebooks.conftest import COMMAND, cold, example_project

pytestmark = pytest.mark.timeout(300)


def test_views_are_cards_where_nobody_can_use_them(tmp_path: Path) -> None:
    folder = example_project(tmp_path / "flights", "11_sidebar.ipynb")
    words = [*COMMAND, "run", "11_sidebar.ipynb", "-o", "out.ipynb", "-p", "depths=[1,3]"]
    run = subprocess.run(words, cwd=folder, env=cold(), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    notebook = nbformat.read(folder / "out.ipynb", as_version=4)
    shown = {cell.source: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    for line in ("%mlops runs --sort roc_auc --widget", "%mlops compare --widget"):
        (output,) = shown[line]
        assert set(output.data) == {"text/plain", "text/html"}
        assert "depth 3" in output.data["text/plain"]
