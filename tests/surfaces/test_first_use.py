"""The magic without ``%load_ext``: its first use is as good as any other, and nothing is loaded before."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell

from nbmlops import first_use
from nbmlops.pipelines.verbs import run
from nbmlops.project import Project

from .conftest import as_notebook


@pytest.fixture
def offered(shell: InteractiveShell) -> InteractiveShell:
    """A real IPython as it is after its start: the magic is offered, the extension is not loaded."""
    shell.run_line_magic("unload_ext", "nbmlops")
    first_use.offer(shell)
    return shell


def is_loaded(shell: InteractiveShell) -> bool:
    return "nbmlops" in shell.extension_manager.loaded


def test_a_tracked_cell_may_be_the_first_use(
    offered: InteractiveShell, lived: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = "%%mlops track baseline --into done\nscore = 0.75\n%mlops log auc=score\nscore * 2"
    result = offered.run_cell(cell, store_history=True)
    result.raise_error()
    assert result.result == 1.5, "the cell's code is the notebook's own"
    done = offered.user_ns["done"]
    assert (done.status, done.metrics) == ("FINISHED", {"auc": 0.75})


def test_a_tracked_cell_that_fails_at_the_first_use_shows_its_error_once(
    offered: InteractiveShell, lived: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = offered.run_cell("%%mlops track baseline\n1 / 0", store_history=True)
    assert isinstance(result.error_in_exec, ZeroDivisionError)
    assert capsys.readouterr().out.count(": division by zero") == 1
    offered.run_cell("found = %mlops runs --limit 1").raise_error()
    assert [(each.name, each.status) for each in offered.user_ns["found"]] == [("baseline", "FAILED")]


def test_a_line_may_be_the_first_use(offered: InteractiveShell, lived: Path) -> None:
    offered.run_cell("n = 2\nfound = %mlops runs --limit 2").raise_error()
    assert len(offered.user_ns["found"]) == 2


def test_the_first_line_is_completed(offered: InteractiveShell, lived: Path) -> None:
    with provisionalcompleter():
        found = {each.text for each in offered.Completer.completions("%mlops pro", len("%mlops pro"))}
    assert "promote" in found
    assert is_loaded(offered)


@pytest.mark.parametrize("cell", ["1 + 1", "%time 1", "'%mlops'", "# %mlops runs", "mlops = 1"])
def test_other_cells_load_nothing(offered: InteractiveShell, cell: str) -> None:
    offered.run_cell(cell).raise_error()
    with provisionalcompleter():
        list(offered.Completer.completions(cell, len(cell)))
    assert not is_loaded(offered)


def test_load_ext_still_works_and_says_nothing(
    offered: InteractiveShell, lived: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    offered.run_cell("%load_ext nbmlops\nfound = %mlops runs").raise_error()
    assert "already loaded" not in capsys.readouterr().out
    assert is_loaded(offered)


def test_a_notebook_without_load_ext_runs_headlessly(lived: Path) -> None:
    notebook = as_notebook("%%mlops track headless\nscore = 0.75\n%mlops log auc=score", "print(score)")
    nbformat.write(nbformat.from_dict(notebook), lived / "lazy.ipynb")
    run(Project(lived), "lazy.ipynb", output="out.ipynb")
    shown = nbformat.read(lived / "out.ipynb", as_version=4).cells[-1].outputs[0]["text"]
    assert shown == "0.75\n"


def test_the_variable_leaves_an_ipython_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
from IPython.core.interactiveshell import InteractiveShell
from nbmlops.first_use import offer
shell = InteractiveShell.instance()
offer(shell)
print("mlops" in shell.magics_manager.magics["line"], len(shell.Completer.custom_matchers))
"""
    for setting, told in (("", "True 1"), ("off", "False 0")):
        monkeypatch.setenv("NBMLOPS_MAGIC", setting)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == told
