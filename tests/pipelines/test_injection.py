"""Whatever is given for a parameter, the cell that sets it assigns that very value and holds no other code."""

import ast
import itertools
import json
import math
import os
import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from IPython.core.inputtransformer2 import TransformerManager

from nbmlops import secrets
from nbmlops.errors import UsageError
from nbmlops.pipelines.contract import Parameter, checked, coerce, injection, spelled
from nbmlops.scrub import masking

VIENNA = ZoneInfo("Europe/Vienna")
HOSTILE = [
    "",
    "\n",
    "\r\n",
    "a\nimport os; os.system('touch marker')",
    "'''",
    '"""',
    "'",
    '"',
    "\\",
    "\\'",
    "\\\n",
    "'; import os #",
    "');__import__('os').system('touch marker')#",
    "${HOME}",
    "$(touch marker)",
    "`touch marker`",
    "{{7*7}}",
    "{month}",
    "{0.__class__}",
    "%s%n",
    "%%bash\ntouch marker",
    "%run marker",
    "!touch marker",
    "!!ls",
    "?os",
    "os?",
    "os??",
    ">>> touch",
    "In [1]: touch",
    "...: x",
    "/os.system 'marker'",
    ",touch marker",
    ";touch marker",
    "\0",
    "\x1b[2J",
    "\x0c",
    "\x85",
    "\u2028\u2029",
    "\u202eexe.nimda\u202c",
    "\u2066\u2069\u200b\ufeff",
    "\ud800",
    "\udfff\ud800",
    "\U0010ffff",
    "😀" * 3,
    "ﬁ",
    "#",
    "# -*- coding: utf-7 -*-",
    "</script><script>",
    "__import__('os')",
    "None",
    "0123",
    "x" * 100_000,
    "true",
    "NaN",
]
SCALARS: dict[str, list[Any]] = {
    "int": [0, -1, 10**18, 2**64, -(10**4000), 0x7F],
    "float": [0.0, -0.0, 0.1, 1e308, 5e-324, math.inf, -math.inf, math.nan, 2.0**-1074],
    "bool": [True, False],
    "None": [None],
    "date": [date.min, date.max, date(2013, 1, 31)],
    "datetime": [
        datetime.min,  # noqa: DTZ901
        datetime.max,  # noqa: DTZ901
        datetime(2013, 10, 27, 2, 30, fold=1),  # noqa: DTZ001
        datetime(2013, 10, 27, 2, 30, tzinfo=VIENNA, fold=1),
        datetime(2013, 3, 31, 2, 30, tzinfo=VIENNA),
        datetime(2013, 1, 1, 1, 2, 3, 4, tzinfo=UTC),
        datetime(2013, 1, 1, tzinfo=timezone(timedelta(hours=-3, minutes=-30, seconds=-1, microseconds=-1))),
    ],
    "time": [time.min, time.max, time(2, 30, fold=1), time(1, tzinfo=UTC)],
    "Decimal": [Decimal(text) for text in ("0.10", "-0", "1E+400", "NaN", "-Infinity", "1" * 99 + ".1")],
    "Path": [Path(), Path("/"), Path("a b/'\"\n$x"), Path("~/x")],
    "str": HOSTILE,
}
CONSTRUCTORS = {"float", "fromisoformat", "Decimal", "Path", "ZoneInfo", "replace", "__import__"}
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=40)
    | st.sampled_from(list(itertools.chain(*SCALARS.values())))
    | st.dates()
    | st.datetimes(timezones=st.none() | st.just(UTC) | st.just(VIENNA))
    | st.times()
    | st.decimals(allow_nan=False)
)
KEYS = st.text(max_size=5) | st.integers() | st.booleans() | st.none() | st.dates() | st.sampled_from(HOSTILE[:40])
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.lists(inner, max_size=4).map(tuple) | st.dictionaries(KEYS, inner, max_size=4)
    ),
    max_leaves=12,
)
transformer = TransformerManager()


def made(n: int) -> Iterator[tuple[str, Any]]:
    """Values by declared type: every one of the corpus alone, and in containers drawn from it with a fixed seed."""
    for kind, values in SCALARS.items():
        yield from ((kind, value) for value in values)
        yield from (("any", value) for value in values)
    draw = random.Random(20131027)
    leaves = [value for values in SCALARS.values() for value in values if len(repr(value)) < 500]
    for _ in range(n):
        yield "list", [contained(draw, leaves, 3) for _ in range(draw.randrange(4))]
        yield "tuple", tuple(contained(draw, leaves, 2) for _ in range(draw.randrange(4)))
        yield "dict", {draw.choice(HOSTILE[:50]): contained(draw, leaves, 3) for _ in range(draw.randrange(4))}
        text = "".join(draw.choice(HOSTILE[:50]) for _ in range(draw.randrange(6)))
        yield "str", text
        yield "any", {text: [text, {text: (text,)}]}


def contained(draw: random.Random, leaves: list[Any], depth: int) -> Any:
    kind = draw.randrange(5) if depth else 0
    if kind < 2:
        return draw.choice(leaves)
    inside = [contained(draw, leaves, depth - 1) for _ in range(draw.randrange(3))]
    return inside if kind == 2 else tuple(inside) if kind == 3 else dict(zip(HOSTILE, inside, strict=False))


def assert_sets_exactly(value: Any, source: str, name: str = "x") -> None:
    """The source is a comment and one line, that line one assignment of the value, and IPython leaves it as it is."""
    comment, line = source.split("\n")
    assert comment == "# Parameters"
    assert line.isprintable()
    line.encode()
    assert transformer.transform_cell(source) == f"{source}\n"
    (assignment,) = ast.parse(source).body
    assert isinstance(assignment, ast.Assign)
    (target,) = assignment.targets
    assert isinstance(target, ast.Name)
    assert target.id == name
    assert_only_constructs(assignment.value)
    scope: dict[str, Any] = {}
    exec(source, scope)
    assert repr(scope[name]) == repr(value)
    assert type(scope[name]) is type(value)


def assert_only_constructs(expression: ast.expr) -> None:
    allowed = (
        *(ast.Constant, ast.List, ast.Tuple, ast.Dict, ast.Call, ast.Attribute, ast.Name, ast.Load),
        *(ast.UnaryOp, ast.USub, ast.keyword),
    )
    for node in ast.walk(expression):
        assert isinstance(node, allowed), ast.dump(node)
        if isinstance(node, ast.Name):
            assert node.id in ("float", "__import__")
        if isinstance(node, ast.Call):
            called = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func).rpartition(".")[2]
            assert called in CONSTRUCTORS
            if called == "__import__":
                assert ast.literal_eval(node.args[0]) in ("datetime", "decimal", "pathlib", "zoneinfo")


def test_a_corpus_of_hostile_values_is_set_exactly_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    n_cases = 0
    for kind, value in made(250):
        n_cases += 1
        read = coerce(Parameter("x", kind), value)
        assert repr(read) == repr(value), kind
        assert_sets_exactly(value, injection({"x": read}).source)
    assert n_cases >= 1000
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=300)
@given(VALUES)
def test_any_value_is_set_exactly(value: Any) -> None:
    read = coerce(Parameter("x", "any"), value)
    assert_sets_exactly(value, injection({"x": read}).source)


@given(VALUES)
def test_a_spelled_value_means_itself_and_is_one_line(value: Any) -> None:
    source = spelled(value)
    assert "\n" not in source
    assert repr(eval(source, {})) == repr(value)


@given(st.text(), st.text())
def test_a_name_is_refused_or_set_and_nothing_else(name: str, value: str) -> None:
    try:
        values = checked([Parameter("month", "str")], {name: value})
    except UsageError:
        return
    assert set(values) == {"month"}


@pytest.mark.parametrize("name", HOSTILE[:50])
def test_a_hostile_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        checked([Parameter("month", "str"), Parameter("fi", "str")], {f"month{name or ' '}": "3"})


def test_what_no_source_could_hold_is_refused() -> None:
    deep: Any = 1
    for _ in range(61):
        deep = [deep]
    for value in (deep, 10**4400, json.dumps(deep)):
        with pytest.raises(UsageError):
            coerce(Parameter("x", "list | int"), value)
    assert_sets_exactly(deep[0], injection({"x": coerce(Parameter("x", "list"), deep[0])}).source)


# ----------------------------------------------------------------------- secrets
def executed(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the cell sets where its variables are; they are gone then."""
    cell = injection(values)
    for variable, handed in cell.environment.items():
        monkeypatch.setenv(variable, handed)
    scope: dict[str, Any] = {}
    exec(cell.source, scope)
    assert not any(variable in os.environ for variable in cell.environment)
    exec(cell.source, scope)  # and again: the process keeps them
    return scope


def test_a_secret_is_taken_from_the_environment_and_never_written(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "api_key": "hunter2\ud800'\n",
        "store": {"url": "postgresql://ops:hunter2@db/x", "port": (5432, date(2013, 1, 1)), "password": 12345},
        "secret_path": Path("/hunter2"),
        "private_keys": ["hunter2", "hunter3"],
        "month": 3,
    }
    cell = injection(values)
    for hidden in ("hunter2", "hunter3", "12345"):
        assert hidden not in cell.source
    assert "date.fromisoformat('2013-01-01')" in cell.source
    assert len(ast.parse(cell.source).body) == 5
    assert transformer.transform_cell(cell.source) == f"{cell.source}\n"
    with masking([]):
        scope = executed(values, monkeypatch)
    assert {name: scope[name] for name in values} == values


def test_a_secret_that_was_given_to_another_process_is_asked_for_anew() -> None:
    scope: dict[str, Any] = {}
    with pytest.raises(UsageError, match="The value of pwd_of_another_run is a secret") as caught:
        exec(injection({"pwd_of_another_run": "hunter2"}).source, scope)
    assert "-p pwd_of_another_run=env:" in caught.value.hint


def test_a_reference_is_resolved_where_the_cell_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("s3cr3t-of-file\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOKEN'\"", "s3cr3t")
    parameters = [Parameter("token", "Secret"), Parameter("all", "list[Secret]"), Parameter("note", "str")]
    values = checked(parameters, {"token": "env:TOKEN'\"", "all": ["file:key"], "note": "text:env:X"})
    cell = injection(values)
    assert cell.environment == {}
    assert "s3cr3t" not in cell.source
    with masking([]):
        scope = executed(values, monkeypatch)
    assert (scope["token"], scope["all"], scope["note"]) == ("s3cr3t", ["s3cr3t-of-file"], "env:X")
    assert type(scope["token"]) is str
    assert secrets.missing(["env:NOT_THERE", "env:TOKEN'\""]) == ["env:NOT_THERE: the variable NOT_THERE is not set."]
