"""What was executed is told in order, and the verdict on it is true: with a real IPython."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from IPython.core.interactiveshell import InteractiveShell

from nbmlops.tracking.capture import ipython
from nbmlops.tracking.capture.source import (
    Cell,
    Execution,
    cells_of,
    executions_in,
    executions_of,
    judge,
    script,
    seeds,
)

CELLS = [Cell(1, "a = 1", "x"), Cell(3, "b = a", "y"), Cell(4, "c = b", "z")]


def ran(*ids: str, status: str = "ok") -> list[Execution]:
    sources = {cell.cell_id: cell.source for cell in CELLS}
    return [Execution(n, sources.get(each, each), each, status) for n, each in enumerate(ids, start=1)]


def without_ids(executions: list[Execution]) -> list[Execution]:
    return [Execution(each.number, each.source) for each in executions]


@pytest.mark.parametrize(
    ("executions", "told"),
    [
        ([], "linear"),
        (ran("x", "y", "z"), "linear"),
        (ran("x", "y"), "linear"),
        (without_ids(ran("x", "y", "z")), "linear"),
        ([*ran("x", status="failed"), *ran("x", "y")], "linear"),
        ([Execution(1, " \n"), *ran("x")], "linear"),
        (ran("x", "y", "x"), "out of order (cell 1)"),
        (ran("x", "x"), "out of order (cell 1)"),
        (ran("y", "x"), "out of order (cell 1)"),
        (ran("x", "z"), "out of order (cell 3)"),
        (without_ids(ran("z", "y")), "out of order (cell 3, cell 1)"),
        ([Execution(1, "a = 0", "x"), *ran("x", "y")], "edited since (cell 1)"),
        ([*ran("x", "y"), Execution(7, "gone = 1", "w")], "deleted cells ([7])"),
        ([Execution(1, "a = 0", "x"), Execution(2, "gone")], "deleted cells ([2])"),
    ],
)
def test_the_verdict_names_what_differs(executions: list[Execution], told: str) -> None:
    assert str(judge(executions, CELLS)) == told


def test_what_was_executed_since_the_notebook_was_saved_is_not_called_deleted() -> None:
    new = Execution(3, "new = 1", "w", started_at=200.0)
    assert str(judge([*ran("x", "y"), new], CELLS, saved_at=100.0)) == "not saved since ([3])"
    assert judge([*ran("x", "y"), new], CELLS, saved_at=300.0).word == "deleted cells"


letters = st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1, max_size=20)
sources = st.lists(letters.map(lambda each: each.strip("\n")), min_size=1)


@given(sources, st.sampled_from(["ok", "failed", "running"]))
@settings(deadline=None)
def test_the_script_holds_every_source(sources: list[str], status: str) -> None:
    executions = [Execution(n, each, f"id-{n}", status) for n, each in enumerate(sources, start=1)]
    assert executions_of(script(executions)) == executions


def test_secrets_and_errors_reach_the_script_masked_and_on_one_line() -> None:
    error = Execution(2, "connect('postgresql://ops:hunter2@db')", status="failed", error="E: no\npostgresql://o:pw@db")
    text = script([error], n_forgotten=3)
    assert "hunter2" not in text
    assert "pw@" not in text
    assert text.startswith("# 3 executions before these are not kept.\n\n# %% [2] failed  # E: no postgresql://o:***")
    assert executions_of("import os\nos.getpid()\n") == [Execution(1, "import os\nos.getpid()")]


def test_an_executed_notebook_tells_what_was_executed() -> None:
    failed = {"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": []}
    cells = [
        {"cell_type": "markdown", "source": "# Title"},
        {"cell_type": "code", "source": "late", "execution_count": 2, "outputs": [failed], "id": "b"},
        {"cell_type": "code", "source": ["first\n", "line"], "execution_count": 1, "outputs": [], "id": "a"},
        {"cell_type": "code", "source": "never", "execution_count": None, "outputs": []},
    ]
    first, second = executions_in({"cells": cells})
    assert (first.number, first.source, first.status) == (1, "first\nline", "ok")
    assert (second.status, second.error) == ("failed", "ValueError: no")
    assert [cell.number for cell in cells_of({"cells": cells})] == [2, 3, 4]


def test_seeds_are_read_from_whatever_seeds() -> None:
    source = """
%matplotlib inline
import numpy as np, random
random.seed(1); rng = np.random.default_rng(2); torch.manual_seed(3)
split(X, test_size=0.2, random_state=4)
class A:
    seed: int = 5
config.seed = 6
random_state = None
other = 7
"""
    expected = {"random.seed": 1, "np.random.default_rng": 2, "torch.manual_seed": 3, "random_state": 4, "seed": 5}
    assert seeds([Execution(1, source), Execution(2, "not ( python")]) == expected | {"config.seed": 6}
    assert seeds([Execution(1, "seed = 1"), Execution(2, "seed = 2")]) == {"seed": 2}


# ------------------------------------------------------------------------ IPython
@pytest.fixture
def shell() -> Iterator[Any]:
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(user_ns={})
    shell.history_manager.enabled = False
    yield shell
    ipython.stop(shell)
    shell.run_line_magic("reset", "-f")
    InteractiveShell.clear_instance()
    sys.excepthook = sys.__excepthook__


def test_a_shell_records_what_it_executes(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    shell.run_cell("before = 1", store_history=True)
    recorder = ipython.record(shell)
    assert ipython.record(shell) is recorder
    shell.run_cell("a = 1", store_history=True, cell_id="x")
    shell.run_cell("silent = 1", store_history=False)
    shell.run_cell("1 / 0", store_history=True, cell_id="vscode-notebook-cell:/p/n.ipynb#W0sZm==")
    shell.run_cell("not python (", store_history=True)
    shell.run_cell("seen = get_ipython().events", store_history=True)
    told = [(each.number, each.source, each.cell_id, each.status) for each in recorder.executions][1:4]
    assert told == [(2, "a = 1", "x", "ok"), (3, "1 / 0", "W0sZm", "failed"), (4, "not python (", "", "failed")]
    assert recorder.executions[2].error == "ZeroDivisionError: division by zero"
    assert recorder.executions[0].source == "before = 1"
    capsys.readouterr()


def test_the_cell_that_asks_is_told_as_running(shell: Any) -> None:
    recorder = ipython.record(shell)
    shell.user_ns["look"] = lambda: [(each.number, each.status) for each in recorder.executions]
    shell.run_cell("a = 1", store_history=True)
    shell.run_cell("seen = look()", store_history=True)
    assert shell.user_ns["seen"] == [(1, "ok"), (2, "running")]


def test_a_kernel_of_a_jupyter_server_knows_its_notebook_and_its_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jupyter_client.manager import KernelManager

    sources = {
        "a": "from nbmlops.tracking.capture import ipython\nrecorder = ipython.record(get_ipython())",
        "b": "n = 1",
    }
    sources["c"] = (
        "told = ipython.executed()\nprint(told.path, told.verdict, [each.cell_id for each in told.executions])"
    )
    cells = [{"cell_type": "code", "id": each, "source": source} for each, source in sources.items()]
    (tmp_path / "train.ipynb").write_text(json.dumps({"cells": cells}))
    monkeypatch.setenv("JPY_SESSION_NAME", str(tmp_path / "train.ipynb"))
    manager = KernelManager(kernel_name="python3", transport="ipc", connection_file=str(tmp_path / "kernel.json"))
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        said = [execute(client, sources[each], each) for each in "abcbc"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()
    path = tmp_path / "train.ipynb"
    assert said[2] == f"{path} linear ['', 'b', 'c']\n"
    assert said[4] == f"{path} out of order (cell 2, cell 3) ['', 'b', 'c', 'b', 'c']\n"


def execute(client: Any, source: str, cell_id: str) -> str:
    """Execute a cell as a front end asks for it; give what it printed."""
    content = {"code": source, "silent": False, "store_history": True, "allow_stdin": False}
    asked = client.session.msg("execute_request", content, metadata={"cellId": cell_id})
    client.shell_channel.send(asked)
    said = ""
    while True:
        message = client.get_iopub_msg(timeout=60)
        if message["parent_header"].get("msg_id") == asked["header"]["msg_id"]:
            if message["msg_type"] == "stream":
                said += message["content"]["text"]
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                return said


def test_the_memory_of_a_long_kernel_is_bounded(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ipython, "MOST_EXECUTIONS", 3)
    monkeypatch.setattr(ipython, "MOST_CHARACTERS", 40)
    recorder = ipython.record(shell)
    for number in range(6):
        shell.run_cell(f"x = {number}", store_history=True)
    shell.run_cell(f"x = '{'y' * 50}'", store_history=True)
    assert (len(recorder.executions), recorder.n_forgotten) == (1, 6)


@pytest.mark.parametrize(
    "place", ["PAPERMILL_INPUT_PATH", "__vsc_ipynb_file__", "JPY_SESSION_NAME", "NBMLOPS_NOTEBOOK"]
)
def test_the_notebook_is_found_wherever_it_is_named(
    shell: Any, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "train.ipynb"
    path.write_text('{"cells": [{"cell_type": "code", "source": "a = 1", "id": "x"}]}')
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    assert ipython.notebook_path(shell) == ""
    if place.isupper() and place != "PAPERMILL_INPUT_PATH":
        monkeypatch.setenv(place, str(path))
    else:
        shell.user_ns[place] = str(path)
    ipython.record(shell)
    shell.run_cell("a = 1", store_history=True)
    told = ipython.executed()
    assert told.path == str(path)
    assert str(told.verdict) == ("None" if place == "NBMLOPS_NOTEBOOK" else "linear")


def test_a_console_of_a_server_is_no_notebook_and_a_bare_name_is_looked_for_here(
    shell: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", "console-1-8c2f")
    assert ipython.notebook_path(shell) == ""
    (folder / "train.ipynb").write_text("{}")
    monkeypatch.setenv("JPY_SESSION_NAME", "below/the/server/train.ipynb")
    assert ipython.notebook_path(shell) == str(folder / "train.ipynb")


def test_a_script_is_what_it_executes_and_a_launcher_is_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    InteractiveShell.clear_instance()
    script = tmp_path / "train.py"
    script.write_text("a = 1\n")
    monkeypatch.setattr(sys, "argv", [str(script)])
    told = ipython.executed()
    assert (told.path, told.executions[0].source, told.verdict) == (str(script), "a = 1\n", None)
    monkeypatch.setattr(sys, "argv", ["/x/ipykernel_launcher.py"])
    assert ipython.executed().path == ""
