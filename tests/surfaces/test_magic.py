"""The magic in a real IPython: results, variables, errors in one clean line, and the user's own left alone."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

import nbmlops
from nbmlops.errors import ConflictError, GateError, NotFoundError, UsageError
from nbmlops.verb import Rows
from nbmlops.vocabulary import VERBS

from .conftest import as_notebook, flights

HEAVY = ("mlflow", "pandas", "sklearn", "papermill", "nbformat", "pyarrow")


def run(shell: InteractiveShell, cell: str) -> Any:
    """Run a cell that must succeed; give the value of its last line."""
    done = shell.run_cell(cell, store_history=True)
    done.raise_error()
    return done.result


def fail(shell: InteractiveShell, cell: str) -> BaseException:
    """Run a cell that must raise; give what it raised."""
    done = shell.run_cell(cell, store_history=True)
    assert done.error_in_exec is not None
    return done.error_in_exec


# ----------------------------------------------------------------------- results
def test_an_assignment_keeps_the_result(shell: InteractiveShell, lived: Path) -> None:
    run(shell, "found = %mlops runs --sort auc --limit 2")
    assert isinstance(shell.user_ns["found"], Rows)
    assert [each.name for each in shell.user_ns["found"]] == ["open", "second"]


def test_into_gives_a_cells_run_to_a_variable(
    shell: InteractiveShell, lived: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = "import nbmlops\nnbmlops.log(auc=0.75)\nprint('in the cell')\n6 * 7"
    run(shell, f"%%mlops track baseline -p depth=3 --into done\n{cell}")
    done = shell.user_ns["done"]
    assert (done.name, done.status, done.metrics, done.params) == (
        "baseline",
        "FINISHED",
        {"auc": 0.75},
        {"depth": "3"},
    )
    shown = capsys.readouterr().out
    assert "in the cell\nOut[1]: 42\n" in shown
    assert "baseline" not in shown


def test_a_cells_names_are_the_notebooks(shell: InteractiveShell, lived: Path) -> None:
    run(shell, "%%mlops track --quiet\nhere = %pwd\ndef twice(x):\n    return 2 * x")
    assert run(shell, "twice(21)") == 42
    assert shell.user_ns["here"] == str(lived)


def test_results_are_shown_as_text_and_as_html(
    shell: InteractiveShell, lived: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(shell, "%mlops models")
    assert "delays" in capsys.readouterr().out
    shapes, _ = shell.display_formatter.format(result)
    assert shapes["text/html"].startswith("<div")
    assert "delays" in shapes["text/plain"]
    assert json.dumps(shapes)


def test_quiet_shows_nothing(shell: InteractiveShell, lived: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(shell, "%mlops models --quiet")
    assert capsys.readouterr() == ("", "")


# --------------------------------------------------------------------- variables
def test_a_variable_stands_for_a_table(shell: InteractiveShell, lived: Path) -> None:
    shell.user_ns |= {"df": flights(5, shift=0.5), "ref": flights(1)}
    report = run(shell, "%mlops drift df --against ref")
    assert (report.drifted, report.current, report.n_current) == (True, "df", 600)
    same = run(shell, "%mlops drift january.parquet --against ref")
    assert same.drifted is False


def test_a_variable_stands_for_a_model(shell: InteractiveShell, lived: Path) -> None:
    run(shell, "from sklearn.linear_model import LogisticRegression\nfrom sklearn.datasets import load_iris")
    run(shell, "X, y = load_iris(return_X_y=True, as_frame=True)\nmodel = LogisticRegression(max_iter=500).fit(X, y)")
    made = run(shell, "%mlops register model irises --input-example X")
    assert (made.name, made.version) == ("irises", "1")


def test_a_variable_stands_for_a_number(shell: InteractiveShell, lived: Path) -> None:
    import numpy as np

    shell.user_ns |= {"score": np.float64(0.75), "n": 3}
    logged = run(shell, "%mlops track\n%mlops log auc=score rows=n loss=1e-3")
    assert logged.metrics == 3
    assert run(shell, "%mlops end").metrics == {"auc": 0.75, "loss": 0.001, "rows": 3.0}


def test_a_variable_of_another_kind_is_not_meant(shell: InteractiveShell, lived: Path) -> None:
    shell.user_ns |= {"score": "high", "january": 3}
    run(shell, "%mlops track")
    assert "auc must be a number, not 'score'" in str(fail(shell, "%mlops log auc=score"))
    assert "january is of type int" in str(fail(shell, "%mlops drift january --against january.parquet"))


def test_nothing_is_expanded_in_a_line(shell: InteractiveShell, lived: Path) -> None:
    shell.user_ns |= {"depth": 5, "due": 7}
    begun = run(shell, "%mlops track -p a={depth} -p b=$depth -p c=${due}")
    assert begun.params == {"a": "{depth}", "b": "$depth", "c": "${due}"}


# ------------------------------------------------------------------------ errors
@pytest.mark.parametrize(
    ("line", "kind", "words"),
    [
        ("promot delays/1", UsageError, "Did you mean promote?"),
        ("help promot", UsageError, "Did you mean promote?"),
        ("promote delays/1 --gat x", UsageError, "--gate"),
        ("--projct . runs", UsageError, "Did you mean project?"),
        ("promote", UsageError, "promote needs MODEL"),
        ("runs --limit many", UsageError, "limit"),
        ("end --status DONE", UsageError, "FINISHED"),
        ("runs 'a", UsageError, "quotation"),
        ("verify delay/1", NotFoundError, "Did you mean delays?"),
        ("log auc=1", ConflictError, "%mlops track"),
    ],
)
def test_an_error_is_one_clean_message_that_says_what_to_type(
    line: str,
    kind: type[Exception],
    words: str,
    shell: InteractiveShell,
    lived: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    raised = fail(shell, f"%mlops {line}")
    shown = "".join(capsys.readouterr())
    assert type(raised) is kind
    assert words in shown
    assert "Traceback" not in shown
    assert shown.strip().startswith(kind.__name__)
    assert len(shown.strip().splitlines()) <= 2


def test_a_failed_gate_shows_its_report_above_the_message(
    shell: InteractiveShell, lived: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert isinstance(fail(shell, "%mlops validate delays/1 --gate hopeless"), GateError)
    shown = capsys.readouterr().out
    assert shown.index("roc_auc") < shown.index("GateError")


def test_a_traceback_shows_on_request_with_the_real_cause(
    shell: InteractiveShell, lived: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (lived / "nbmlops.toml").write_text("not toml")
    asked = "%mlops runs --traceback", "%config NbmlopsMagics.traceback = True\n%mlops runs"
    for cell in asked:
        assert isinstance(fail(shell, cell).__cause__, ValueError)
        shown = capsys.readouterr().out
        assert "TOMLDecodeError" in shown
        assert "Traceback" in shown
    run(shell, "%config NbmlopsMagics.traceback = False")
    fail(shell, "%mlops runs")
    assert "Traceback" not in capsys.readouterr().out


def test_a_bug_is_one_line_too_and_hides_secrets(
    shell: InteractiveShell, lived: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from nbmlops.vocabulary import Entry

    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setitem(VERBS, "faulty", Entry("faults:faulty", "Fail as a bug does.", "read", "project"))
    assert isinstance(fail(shell, "%mlops faulty").__cause__, ZeroDivisionError)
    shown = capsys.readouterr().out
    assert "This is a bug in nbmlops" in shown
    assert "hunter2" not in shown
    assert "Traceback" not in shown


def test_without_a_project_the_command_that_makes_one_is_told(
    shell: InteractiveShell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(fail(shell, "%mlops runs"), NotFoundError)
    assert "%mlops init" in capsys.readouterr().out


# -------------------------------------------------------------------------- help
@pytest.mark.parametrize("line", ["", "help", "--help"])
def test_bare_it_lists_the_verbs(line: str, shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    run(shell, f"%mlops {line}")
    shown = capsys.readouterr().out
    assert all(entry.summary in shown for entry in VERBS.values())


@pytest.mark.parametrize("line", ["help promote", "promote --help", "promote delays/1 -h"])
def test_help_tells_about_one_verb(line: str, shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    run(shell, f"%mlops {line}")
    shown = capsys.readouterr().out
    assert shown.startswith("Usage: %mlops promote")
    for word in ("--gate", "--dry-run", "--into", "--json", VERBS["promote"].summary):
        assert word in shown


def test_show_code_prints_what_the_verb_stands_for_and_does_nothing(
    shell: InteractiveShell, lived: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(shell, "%%mlops track baseline --show-code\nran = True")
    code = capsys.readouterr().out
    assert "mlflow.start_run(run_name='baseline', nested=False" in code
    assert "ran" not in shell.user_ns
    assert nbmlops.open().runs(name="baseline") == ()


# -------------------------------------------------------------- a cell's own end
FAILING = """\
%%mlops track baseline
def divide(a, b):
    return a / b
try:
    int("x")
except ValueError as exc:
    raise RuntimeError("no luck") from exc
"""


def test_a_failing_cell_ends_its_run_failed_and_raises_the_users_own_error(
    shell: InteractiveShell, lived: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raised = fail(shell, "%%mlops track baseline\ndef divide(a, b):\n    return a / b\ndivide(1, 0)")
    shown = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    assert type(raised) is ZeroDivisionError
    assert "return a / b" in shown
    assert "divide(1, 0)" in shown
    assert "nbmlops/" not in shown
    (found,) = nbmlops.open().runs(name="baseline")
    assert found.status == "FAILED"


def test_the_users_error_keeps_its_cause(
    shell: InteractiveShell, lived: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raised = fail(shell, FAILING)
    assert isinstance(raised.__cause__, ValueError)
    shown = capsys.readouterr().out
    assert "direct cause" in shown
    assert "_CellRaisedError" not in shown


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("raise KeyboardInterrupt", "KILLED"),
        ("raise SystemExit(3)", "FAILED"),
        ("x = 1", "FINISHED"),
    ],
)
@pytest.mark.filterwarnings("ignore:To exit")
def test_a_run_ends_as_its_cell_does(source: str, status: str, shell: InteractiveShell, lived: Path) -> None:
    shell.run_cell(f"%%mlops track baseline\n{source}", store_history=True)
    (found,) = nbmlops.open().runs(name="baseline")
    assert found.status == status
    assert nbmlops.open().project.open(_tracking()).mlflow.active_run() is None


def test_a_cell_that_python_cannot_read_begins_no_run(shell: InteractiveShell, lived: Path) -> None:
    done = shell.run_cell("%%mlops track baseline\n1 +", store_history=True)
    assert isinstance(done.error_before_exec, SyntaxError)
    assert nbmlops.open().runs(name="baseline") == ()


def test_a_tracked_cell_is_a_cell_like_any_other(
    shell: InteractiveShell, lived: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may await, use magics, execute cells of its own, leave a run open; an interrupt of the one before is past."""
    fail(shell, "raise KeyboardInterrupt")
    inner = "get_ipython().run_cell('inside = 1', store_history=False)"
    body = f"import asyncio\nawait asyncio.sleep(0)\n{inner}\nchild = %mlops track child --nested\ninside + 1"
    run(shell, f"%%mlops track baseline --into done\n{body}")
    assert "Out[2]: 2" in capsys.readouterr().out
    (child,) = nbmlops.open().runs(name="child")
    assert (shell.user_ns["done"].status, child.status) == ("FINISHED", "FINISHED")
    assert child.parent_id == shell.user_ns["done"].run_id


def test_a_tracked_cell_may_be_timed(shell: InteractiveShell, lived: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(shell, "%%time\n%%mlops track baseline\nx = 1")
    assert "Wall time" in capsys.readouterr().out
    assert nbmlops.open().runs(name="baseline")[0].status == "FINISHED"


def test_a_cell_as_text_of_an_exported_notebook_is_tracked_too(shell: InteractiveShell, lived: Path) -> None:
    run(shell, "get_ipython().run_cell_magic('mlops', 'track baseline', 'x = 1\\n')")
    (found,) = nbmlops.open().runs(name="baseline")
    assert (found.status, shell.user_ns["x"]) == ("FINISHED", 1)


def test_a_name_that_is_a_pair_is_refused(shell: InteractiveShell, lived: Path) -> None:
    assert "-p a=1 -p b=2" in str(fail(shell, "%mlops track -p a=1 b=2"))
    assert "-p a=1 -p b=2" in str(fail(shell, "%mlops track baseline -p a=1 b=2"))


def test_figures_and_tables_are_variables(shell: InteractiveShell, lived: Path) -> None:
    from matplotlib.figure import Figure

    shell.user_ns |= {"df": flights(5), "roc": Figure(), "n": 3}
    logged = run(shell, "%mlops track\n%mlops log --tables df --figures roc --figures again=roc --text note='so so'")
    assert (logged.tables, logged.figures, logged.texts) == (1, 2, 1)
    assert "n is of type int" in str(fail(shell, "%mlops log --tables n"))
    assert "n is of type int" in str(fail(shell, "%mlops log --figures n"))
    assert list(run(shell, "%mlops end").data) == ["df"]


def _tracking() -> Any:
    from nbmlops.tracking.mlflow import Tracking

    return Tracking


def test_a_run_over_many_cells_that_a_failure_left_open_ends_failed(shell: InteractiveShell, lived: Path) -> None:
    run(shell, "%mlops track baseline")
    fail(shell, "1 / 0")
    run(shell, "%mlops track again")
    (found,) = nbmlops.open().runs(name="baseline")
    assert found.status == "FAILED"


def test_a_verb_that_takes_no_cell_says_so(shell: InteractiveShell, lived: Path) -> None:
    assert "%mlops runs" in str(fail(shell, "%%mlops runs\nx = 1"))
    assert "x" not in shell.user_ns


# ------------------------------------------------------------------- the extension
def test_the_extension_can_be_unloaded_and_loaded_again(shell: InteractiveShell, lived: Path) -> None:
    run(shell, "%unload_ext nbmlops")
    assert "mlops" not in shell.magics_manager.magics["line"]
    run(shell, "%load_ext nbmlops")
    assert run(shell, "%mlops runs --limit 1")[0].name == "open"


# --------------------------------------------------------------------- completion
def completions(shell: InteractiveShell, text: str) -> list[str]:
    """The last word as each completion leaves it, found the way in which a kernel does; nothing but ours is offered."""
    with provisionalcompleter():
        found = list(shell.Completer.completions(text, len(text)))
    assert {each._origin for each in found} == {"nbmlops"}
    return [f"{text[: each.start]}{each.text}".rpartition(" ")[2] for each in found]


@pytest.mark.parametrize(
    ("text", "offered"),
    [
        ("%mlops pro", {"promote"}),
        ("found = %mlops ru", {"runs", "run"}),
        ("%%mlops tra", {"track"}),
        ("%mlops help ver", {"verify"}),
        ("%mlops promote --", {"--to", "--gate", "--dry-run", "--json", "--show-code"}),
        ("%mlops end --status ", {"FINISHED", "FAILED", "KILLED"}),
        ("%mlops compare ", {"first", "second", "open"}),
        ("%mlops compare first sec", {"second"}),
        ("%mlops promote ", {"delays", "delays@champion", "delays@challenger", "delays/1", "delays/2"}),
        ("%mlops promote delays/1 --to ", {"champion", "challenger"}),
        ("%mlops history ", {"delays"}),
        ("%mlops validate delays/1 --gate ", {"default", "hopeless"}),
        ("%mlops undeploy ", {"live"}),
        ("%mlops traffic ", {"live"}),
        ("%mlops show ", {"first", "delays/1", "live"}),
        ("%mlops run ", {"train.ipynb"}),
        ("%mlops drift ", {"frame", "january.parquet", "march.parquet"}),
        ("%mlops drift frame --against fr", {"frame"}),
        ("%mlops register fit", {"fitted"}),
    ],
)
def test_completion_offers_what_exists(text: str, offered: set[str], shell: InteractiveShell, lived: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    from nbmlops.ledger.endpoints import Endpoints, Variant, Wanted

    shell.user_ns |= {"frame": flights(1), "fitted": LogisticRegression(), "number": 3}
    live = Wanted("live", "somewhere", (Variant("delays", "1", ""),))
    nbmlops.open(lived).project.open(Endpoints).want(live)
    found = completions(shell, text)
    assert offered <= set(found)
    assert len(found) == len(set(found))
    assert all(word.startswith(text.rpartition(" ")[2]) for word in found)
    assert "number" not in found


@pytest.mark.parametrize("name", ["a\nimport os.ipynb", "a\u2028b.ipynb", "a\u202ebpynb.ipynb", f"{'M' * 240}.ipynb"])
def test_completion_offers_no_name_that_would_bring_code_with_it_or_hides_a_part(
    name: str, shell: InteractiveShell, lived: Path
) -> None:
    (lived / name).touch()
    assert completions(shell, "%mlops run ") == ["train.ipynb"]


COMPLETE = """
import sys
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "nbmlops")
lines = {lines!r}
with provisionalcompleter():
    found = [{{each.text for each in shell.Completer.completions(line, len(line))}} for line in lines]
assert {{"promote"}} <= found[0] and {{"delays/1"}} <= found[1] and {{"first"}} <= found[2], found
assert {{"january.parquet"}} <= found[3] and {{"hopeless"}} <= found[4] and {{"train.ipynb"}} <= found[5], found
print(*sorted({heavy!r} & sys.modules.keys()))
"""


def test_completion_loads_none_of_the_heavy_libraries(lived: Path) -> None:
    lines = ["pro", "promote ", "compare ", "drift ", "validate delays/1 --gate ", "run ", "undeploy ", "show "]
    code = COMPLETE.format(lines=[f"%mlops {line}" for line in lines], heavy=set(HEAVY))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stdout + done.stderr


def test_completion_without_a_project_still_knows_the_verbs(
    shell: InteractiveShell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "promote" in completions(shell, "%mlops pro")
    assert "--gate" in completions(shell, "%mlops promote delays --g")


# ------------------------------------------------------------------ a real kernel
DRAWN = """\
%%mlops track drawn --live auc
import time
for step in range(25):
    mlflow.log_metric("auc", step / 50, step=step)
    time.sleep(0.1)
"""
CELLS = (
    "%load_ext nbmlops",
    "import mlflow\nwith mlflow.start_run(run_name='plain'):\n    mlflow.log_metric('auc', 0.25)",
    "%%mlops track baseline -p month={month}\n%mlops log auc=0.5",
    DRAWN,
    "%mlops runs --limit 1 --name baseline",
    "%mlops promote delays/9",
)


def test_a_headless_notebook_keeps_cards_and_a_real_error(lived: Path) -> None:
    notebook = nbformat.from_dict(as_notebook(*CELLS))
    client = NotebookClient(notebook, kernel_name="python3", timeout=120, resources={"metadata": {"path": str(lived)}})
    with pytest.raises(CellExecutionError) as caught:
        client.execute()
    assert (caught.value.ename, caught.value.evalue.split("\n")[0]) == ("NotFoundError", "delays has no version 9.")
    picture, _ = [output for output in notebook.cells[3].outputs if output.output_type == "display_data"]
    assert picture.data["text/plain"].startswith("auc 0.48 at step 24 · drawn FINISHED")
    assert "<svg" in picture.data["text/html"]
    (card,) = [output for output in notebook.cells[4].outputs if output.output_type == "execute_result"]
    assert "baseline" in card.data["text/html"]
    assert "baseline" in card.data["text/plain"]
    (error,) = [output for output in notebook.cells[5].outputs if output.output_type == "error"]
    assert error.ename == "NotFoundError"
    assert error.traceback[0] == "NotFoundError: delays has no version 9."
    assert "File" not in "".join(error.traceback)
    (plain,) = nbmlops.open(lived).runs(name="plain")
    assert (plain.metrics, plain.experiment) == ({"auc": 0.25}, "flights")
    (found,) = nbmlops.open(lived).runs(name="baseline")
    assert (found.metrics, found.params, found.status) == ({"auc": 0.5}, {"month": "{month}"}, "FINISHED")


def test_a_comment_may_follow_a_line(shell: InteractiveShell, lived: Path) -> None:
    assert len(run(shell, "%mlops runs --limit 1     # any verb's result can be kept")) == 1


def test_a_value_may_begin_with_a_hyphen(shell: InteractiveShell, lived: Path) -> None:
    assert "Did you mean" not in str(run(shell, "%mlops runs --sort -auc"))


def test_shown_code_names_a_variable_and_does_not_print_it(
    shell: InteractiveShell, lived: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.user_ns |= {"df": flights(5)}
    run(shell, "%mlops drift df --against january.parquet --show-code")
    assert "read_parquet(df)" in capsys.readouterr().out
