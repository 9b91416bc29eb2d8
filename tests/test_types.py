"""The sidebar's TypeScript types agree with what verbs return; the failure prints the mend."""

import dataclasses
import importlib.util
import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from nbmlops.strict_json import plain
from nbmlops.tracking.runs import Curve, Link, Runs
from nbmlops.verb import Rows, Stream, Text

TOOL = Path(__file__).parents[1] / "tools" / "typescript_types.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("typescript_types", TOOL)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_types_of_the_sidebar_are_fresh() -> None:
    done = subprocess.run([sys.executable, str(TOOL), "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One of many."""

    at: datetime


@dataclasses.dataclass(frozen=True)
class Tree:
    """What holds them."""

    leaves: tuple[Leaf, ...]
    by_name: dict[str, Leaf | None]


def test_nouns_are_found_through_fields_aliases_and_rows(tool: ModuleType) -> None:
    assert tool.nouns([Rows[Tree] | Stream]) == [Tree, Leaf]


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (Rows[Leaf | Tree] | Stream, "readonly (Leaf | Tree)[]"),
        (tuple[Leaf, ...] | None, "readonly Leaf[] | null"),
        (tuple[str, float], "readonly [string, Float]"),
        (Curve, "readonly Float[]"),
        (tuple[Curve, ...], "readonly (readonly Float[])[]"),
        (Link, "string"),
        (Text, "string"),
        (Path | datetime, "string"),
        (dict[str, Any], "Readonly<Record<string, unknown>>"),
    ],
)
def test_types_are_spelled_as_json_has_them(tool: ModuleType, annotation: Any, words: str) -> None:
    assert tool.spelled(annotation, {Leaf: "Leaf", Tree: "Tree"}) == words


def test_a_class_of_rows_is_an_array_of_what_it_holds(tool: ModuleType) -> None:
    assert tool.spelled(Runs, tool.named(tool.nouns([Runs]))) == "readonly Run[]"


def test_what_json_does_not_hold_is_refused(tool: ModuleType) -> None:
    with pytest.raises(TypeError, match="is not known: teach it"):
        tool.spelled(complex, {})


def test_nouns_of_one_name_are_told_apart_by_their_folder(tool: ModuleType) -> None:
    from nbmlops.agent.cards import Check as OfAgent
    from nbmlops.serving.check import Check as OfServing

    assert list(tool.named([OfAgent, OfServing, Leaf]).values()) == ["AgentCheck", "ServingCheck", "Leaf"]


def test_every_field_of_a_result_is_named_as_its_json_has_it(tool: ModuleType) -> None:
    page = tool.page()
    for kind in tool.nouns(tool.results().values()):
        for field in dataclasses.fields(kind):
            assert f"  readonly {field.name}:" in page
    assert json.dumps(plain(Tree((), {}))) == '{"leaves": [], "by_name": {}}'
