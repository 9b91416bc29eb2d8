"""The table of verbs is true, and every verb documents itself and the plain code that it stands for."""

import ast
import builtins
import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest

import nbmlops
from nbmlops.surfaces.parse import OPTIONS, Call, help_text, parse, plain_code
from nbmlops.surfaces.python import Operations
from nbmlops.surfaces.schema import schema
from nbmlops.tracking.mlflow import Tracking
from nbmlops.verb import load, parameters
from nbmlops.vocabulary import VERBS, Entry

PACKAGE = Path(nbmlops.__file__).parent
EVERY_VERB = pytest.mark.parametrize("name", VERBS)


# --------------------------------------------------------------------- the table
def found_in_the_code() -> dict[str, tuple[str, str]]:
    """Read every function decorated with @verb: its target and the first line of its docstring."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and any(ast.unparse(mark) == "verb" for mark in node.decorator_list):
                summary = (ast.get_docstring(node) or "").partition("\n")[0]
                found[node.name.removesuffix("_")] = (f"{module}:{node.name}", summary)
    return found


def corrected_table() -> dict[str, Entry]:
    """The table as the code has it; a verb that is new in it is taken for a read verb of its folder's group."""
    code = found_in_the_code()
    names = [name for name in VERBS if name in code] + [name for name in code if name not in VERBS]
    return {
        name: (
            VERBS[name]._replace(target=code[name][0], summary=code[name][1])
            if name in VERBS
            else Entry(*code[name], "read", code[name][0].split(".")[1])
        )
        for name in names
    }


def test_the_table_agrees_with_the_code() -> None:
    lines = [
        f"    {json.dumps(name)}: Entry({', '.join(json.dumps(part, ensure_ascii=False) for part in entry)}),"
        for name, entry in corrected_table().items()
    ]
    wanted = "\n".join(["VERBS: dict[str, Entry] = {", *lines, "}"])
    text = (PACKAGE / "vocabulary.py").read_text(encoding="utf-8")
    assert wanted in text, f"Paste this into nbmlops/vocabulary.py:\n\n{wanted}\n"


@EVERY_VERB
def test_a_summary_is_one_short_sentence(name: str) -> None:
    summary = VERBS[name].summary
    assert len(summary) <= 80
    assert summary.endswith(".")
    assert not summary[:-1].endswith(".")


@EVERY_VERB
def test_only_what_changes_something_has_a_dry_run(name: str) -> None:
    has_dry_run = "dry_run" in parameters(name)
    assert has_dry_run == (VERBS[name].effect in ("write", "govern"))
    if has_dry_run:
        assert parameters(name)["dry_run"].default is False


# ------------------------------------------------------------------ the docstring
@EVERY_VERB
def test_a_docstring_has_every_section(name: str) -> None:
    doc = inspect.getdoc(load(name)) or ""
    sections = re.findall(r"\n\n(\w[\w ]*)\n-{3,}\n", doc)
    wanted = ["Parameters"] * bool(parameters(name)) + ["Returns", "Examples", "Plain code"]
    assert [section for section in sections if section != "Raises"] == wanted


@EVERY_VERB
def test_every_parameter_is_described_in_the_schema_and_in_the_help(name: str) -> None:
    page = " ".join(re.sub(r"[│╭╮╰╯─]", " ", help_text(name, width=200)).split())
    for key, described in schema(name)["arguments"]["properties"].items():
        text = described.get("description", "")
        assert text, f"{name}: describe {key}"
        assert " ".join(text.replace("``", "`").split())[:60] in page
    for option in OPTIONS:
        assert f"--{option.name.replace('_', '-')}" in page


# ------------------------------------------------------------------ the plain code
def filled(name: str) -> str:
    """A verb's plain code with every argument that it has to be given filled in."""
    required = [key for key, each in parameters(name).items() if each.default is inspect.Parameter.empty]
    return plain_code(Call(name, dict.fromkeys(required, "delays/1"), {}), "sqlite:///mlflow.db", "flights")


@EVERY_VERB
def test_the_plain_code_is_whole_and_speaks_of_no_nbmlops(name: str) -> None:
    code = filled(name)
    tree = ast.parse(code)
    assert "$" not in code
    assert "nbmlops" not in code
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    imported = {
        (alias.asname or alias.name).partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    known = imported | {node.id for node in names if isinstance(node.ctx, ast.Store)} | set(dir(builtins))
    assert {node.id for node in names} - known == set(), "it must import what it uses"


def executed(ops: Operations, line: str) -> dict[str, Any]:
    """Run the plain code of a typed line as a program of its own would; give its variables."""
    name, *words = line.split()
    settings = ops.project.settings
    variables: dict[str, Any] = {}
    exec(plain_code(parse(name, words), settings.tracking.value, settings.name.value), variables)
    return variables


def test_the_plain_code_of_track_log_and_end_leaves_the_same_run(ops: Operations) -> None:
    ops.track("ours", parameters={"depth": 3}, tags={"team": "ops"})
    ops.log({"auc": 0.8}, parameters={"seed": "1"}, step=2)
    ours = ops.end(status="FAILED")
    executed(ops, "track plain -p depth=3 --tags team=ops")
    executed(ops, "log auc=0.8 -p seed=1 --step 2")
    executed(ops, "end --status FAILED")
    plain = ops.show("plain")
    for field in ("status", "metrics", "params", "tags", "experiment"):
        assert getattr(plain, field) == getattr(ours, field), field


def test_the_plain_code_of_runs_and_compare_shows_the_same_runs(
    ops: Operations, capsys: pytest.CaptureFixture[str]
) -> None:
    for depth in (3, 4):
        ops.track(f"depth-{depth}", parameters={"depth": depth})
        ops.log({"auc": depth / 10})
        ops.end()
    executed(ops, "runs --where metrics.auc>0.35")
    (ours,) = ops.runs(where="metrics.auc > 0.35")
    shown = capsys.readouterr().out
    assert ours.run_id in shown or ours.run_id[:8] in shown
    assert ops.show("depth-3").run_id not in shown

    named = ops.compare(["depth-3", "depth-4"])
    executed(ops, f"compare {' '.join(named.runs)}")
    shown = capsys.readouterr().out
    assert all(name in shown for name in named.names)
    assert all(str(value) in shown for row in named.differences for value in row.values)


def test_the_plain_code_names_the_projects_own_store(ops: Operations, capsys: pytest.CaptureFixture[str]) -> None:
    from nbmlops.surfaces.cli import main

    assert main(["runs", "--where", "metrics.auc > 0.5", "--show-code"]) == 0
    code = capsys.readouterr().out
    assert f"set_tracking_uri({ops.project.settings.tracking.value!r})" in code
    assert "experiment_names=['flights']" in code
    assert "metrics.auc > 0.5" in code
    assert ops.project.open(Tracking).client.search_runs(["0"]) == []
