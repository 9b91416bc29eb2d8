"""A notebook's parameters as JSON Schema: valid, and agreeing with what a run takes."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from nbmlops.errors import UsageError
from nbmlops.pipelines import describing
from nbmlops.pipelines.contract import checked, declared
from nbmlops.pipelines.describing import schema
from nbmlops.pipelines.verbs import params
from nbmlops.project import Project
from nbmlops.surfaces import show
from nbmlops.surfaces.cli import main

from .conftest import WriteNotebook

DECLARED = """\
month: int  # of 2013
rate = 0.1
worst = math.nan
deep = False
kind: Literal["tree", "line", None] = "tree"
mixed: Literal["auto"] | int = "auto"
months: list[int] = [1, 2]
pair: tuple[int, str] = (1, "a")
many: tuple[float, ...] = ()
weights: dict[int, float] = {0: 1.0}
config = {"a": [1, None]}
since: date = date(2013, 1, 1)
until: datetime | None = None
at = time(10, 30)
cost = Decimal("0.10")
data = Path("data/x.csv")
here = Path.cwd()
code = "0123"
anything = None
token: "Secret" = "env:TOKEN"
pin: "Secret" = "hunter2"
api_key = "hunter2"
"""
SCHEMA = schema(declared(DECLARED), "train.ipynb")
TYPES = SCHEMA["properties"]


def test_it_is_a_valid_schema_of_draft_2020_12_as_strict_json() -> None:
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA, allow_nan=False)) == SCHEMA
    assert (SCHEMA["title"], SCHEMA["required"], SCHEMA["additionalProperties"]) == ("train.ipynb", ["month"], False)
    assert list(TYPES) == [each.name for each in declared(DECLARED)]


def test_every_type_is_described() -> None:
    assert TYPES["month"] == {"type": "integer", "description": "of 2013"}
    assert TYPES["kind"] == {"enum": ["tree", "line", None], "default": "tree"}
    assert TYPES["mixed"] == {"anyOf": [{"enum": ["auto"]}, {"type": "integer"}], "default": "auto"}
    assert TYPES["months"] == {"type": "array", "items": {"type": "integer"}, "default": [1, 2]}
    assert TYPES["since"] == {"type": "string", "format": "date", "default": "2013-01-01"}
    assert TYPES["until"] == {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}], "default": None}
    assert TYPES["cost"]["default"] == "0.10"
    assert TYPES["data"] == {"type": "string", "format": "path", "minLength": 1, "default": "data/x.csv"}
    assert TYPES["token"] == {
        "type": "string",
        "writeOnly": True,
        "pattern": "^(env|file):",
        "default": "env:TOKEN",
    }
    assert TYPES["anything"] == {"default": None}


def test_a_default_is_left_out_that_is_no_json_no_literal_or_a_secret() -> None:
    assert not {"worst", "here", "pin", "api_key"} & {name for name, each in TYPES.items() if "default" in each}
    assert TYPES["api_key"]["writeOnly"]
    assert "hunter2" not in json.dumps(SCHEMA)


def test_every_default_is_valid() -> None:
    for name, described in TYPES.items():
        if "default" in described:
            assert Draft202012Validator(described).is_valid(described["default"]), name


@pytest.mark.parametrize(
    "values",
    [
        {"month": 3},
        {"month": 3, "months": [4], "pair": [2, "b"], "many": [1.5], "weights": {"1": 2}, "kind": None},
        {"month": 3, "since": "2014-02-03", "at": "11:00", "cost": "1.50", "data": "y.csv", "token": "file:a"},
        {"month": 3, "mixed": 5, "config": {"b": {}}, "code": "x", "deep": True, "rate": 1},
    ],
)
def test_what_it_takes_a_run_takes(values: dict[str, Any]) -> None:
    assert Draft202012Validator(SCHEMA).is_valid(values)
    assert checked(declared(DECLARED), values)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"month": "March"},
        {"month": 3, "unknown": 1},
        {"month": 3, "kind": "bush"},
        {"month": 3, "mixed": "manual"},
        {"month": 3, "pair": [1]},
        {"month": 3, "pair": [1, "a", 2]},
        {"month": 3, "months": [1.5]},
        {"month": 3, "weights": {"a": 1}},
        {"month": 3, "token": "hunter2"},
        {"month": 3, "code": 123},
        {"month": 3, "data": ""},
    ],
)
def test_what_it_refuses_a_run_refuses(values: dict[str, Any]) -> None:
    assert not Draft202012Validator(SCHEMA).is_valid(values)
    with pytest.raises(UsageError):
        checked(declared(DECLARED), values)


def test_the_command_prints_the_schema_and_nothing_else(
    write_notebook: WriteNotebook, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_notebook("train.ipynb", tagged=DECLARED)
    for more in ([], ["--json"]):
        assert main(["params", "notebooks/train.ipynb", "--schema", *more]) == 0
        assert json.loads(capsys.readouterr().out) == SCHEMA
    shown = show.text(params(Project(folder), "notebooks/train.ipynb"))
    assert "dict[int, float]" in shown
    assert "hunter2" not in shown


def test_a_notebook_without_parameters_takes_none() -> None:
    empty = schema((), "train.ipynb")
    assert Draft202012Validator(empty).is_valid({})
    assert not Draft202012Validator(empty).is_valid({"a": 1})


KINDS = {
    "month": "whole number",
    "rate": "number",
    "deep": "true/false",
    "kind": "choice",
    "mixed": "any",
    "months": "list",
    "pair": "list",
    "weights": "names and values",
    "since": "date",
    "until": "date and time",
    "at": "time",
    "cost": "number",
    "data": "path",
    "code": "text",
    "anything": "any",
    "token": "secret",
    "api_key": "text",
}


def test_the_kind_of_each_parameter_is_told() -> None:
    told = {each.name: describing.described(each) for each in declared(DECLARED)}
    assert {name: told[name].kind for name in KINDS} == KINDS
    assert {name for name, each in told.items() if each.is_secret} == {"token", "pin", "api_key"}


def test_a_pipelines_own_parameters_are_shown_as_a_notebooks(tmp_path: Path) -> None:
    declaration = """
    [project]
    name = "flights"
    [pipelines.retrain]
    parameters = { rows = 10, rate = 0.5, kind = "tree", api_key = "hunter2", since = 2013-01-01 }
    [[pipelines.retrain.steps]]
    name = "train"
    notebook = "train.ipynb"
    [pipelines.bare]
    [[pipelines.bare.steps]]
    name = "train"
    notebook = "train.ipynb"
    """
    (tmp_path / "nbmlops.toml").write_text(declaration)
    shown = params(Project(tmp_path), "retrain")
    assert [(each.name, each.type, each.default, each.kind) for each in shown] == [
        ("rows", "int", 10, "whole number"),
        ("rate", "float", 0.5, "number"),
        ("kind", "str", "tree", "text"),
        ("api_key", "str", "***", "text"),
        ("since", "date", date(2013, 1, 1), "date"),
    ]
    assert [each.is_secret for each in shown] == [False, False, False, True, False]
    described = params(Project(tmp_path), "retrain", schema=True)
    assert (described["title"], list(described["properties"])) == ("retrain", [each.name for each in shown])
    assert params(Project(tmp_path), "bare") == ()
    assert "kind" not in show.text(shown).splitlines()[1]
    with pytest.raises(UsageError, match="no pipeline 'retrian'"):
        params(Project(tmp_path), "retrian")
