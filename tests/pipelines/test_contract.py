"""What a notebook's tagged cell declares, and what becomes of the values given for it."""

import contextlib
import json
import math
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbmlops.errors import UsageError
from nbmlops.pipelines.contract import Parameter, checked, coerce, declared, effective, injection, spelled

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def only(source: str) -> Parameter:
    (parameter,) = declared(source)
    return parameter


@pytest.mark.parametrize(
    ("source", "type_", "default"),
    [
        ("x = 1", "int", 1),
        ("x = -1.5", "float", -1.5),
        ("x = 'a'", "str", "a"),
        ("x = True", "bool", True),
        ("x = [1, 2]", "list", [1, 2]),
        ("x = {'a': 1}", "dict", {"a": 1}),
        ("x = None", "any", None),
        ("x: float = 1", "float", 1),
        ("x: int | None = None", "int | None", None),
        ("x: Optional[int] = None", "int | None", None),
        ("x: typing.Union[int, str] = 2", "int | str", 2),
        ("x: 'int' = 2", "int", 2),
        ("x: list[int] = []", "list", []),
        ("x: Annotated[int, 'rows'] = 2", "int", 2),
        ("x: pd.Timestamp = 'now'", "any", "now"),
        ("x = date(2013, 1, 31)", "date", date(2013, 1, 31)),
        ("x = datetime.date.fromisoformat('2013-01-31')", "date", date(2013, 1, 31)),
        ("x: date = date.today()", "date", "date.today()"),
        ("x = Path('a') / 'b'", "any", "Path('a') / 'b'"),
    ],
)
def test_type_and_default_come_from_annotation_and_value(source: str, type_: str, default: Any) -> None:
    parameter = only(source)
    assert (parameter.type, parameter.default, parameter.is_required) == (type_, default, False)


def test_an_annotation_without_a_value_is_required() -> None:
    assert only("month: int  # of 2013") == Parameter("month", "int", None, "of 2013", (), True)


def test_literal_gives_choices() -> None:
    assert only("kind: Literal['tree', 'line'] = 'tree'").choices == ("tree", "line")
    assert only("kind: Literal['tree'] | None = None").choices == ("tree", None)


def test_help_is_the_comment_behind_and_not_a_hash_in_text() -> None:
    a, b = declared("a = 'no # help'\nb = [\n    1,\n]  # many lines")
    assert (a.help, b.help) == ("", "many lines")


def test_magics_imports_and_later_values_are_understood() -> None:
    assert [(p.name, p.default) for p in declared("%matplotlib inline\nimport os\na = b = 1\n!ls\na = 2")] == [
        ("a", 2),
        ("b", 1),
    ]


def test_a_cell_that_is_not_python_is_refused_with_its_line() -> None:
    with pytest.raises(UsageError, match="line 2"):
        declared("a = 1\nb = = 2")


@pytest.mark.parametrize(
    ("type_", "given_", "value"),
    [
        ("int", "1_000", 1000),
        ("int", "0123", 123),
        ("int", " -7 ", -7),
        ("int", np.int64(3), 3),
        ("float", "1e3", 1000.0),
        ("float", 2, 2.0),
        ("float", "-inf", -math.inf),
        ("float", "0e0", 0.0),
        ("str", "0123", "0123"),
        ("str | None", "None", "None"),
        ("str | None", None, None),
        ("int | None", "None", None),
        ("int | str", "x", "x"),
        ("bool", "false", False),
        ("bool", "Yes", True),
        ("list", "[1, 2.5, null]", [1, 2.5, None]),
        ("list", "['a', None]", ["a", None]),
        ("list", "1,2", [1, 2]),
        ("list", (1, np.float64(2.0)), [1, 2.0]),
        ("dict", '{"a": [true]}', {"a": [True]}),
        ("date", "2013-01-31", date(2013, 1, 31)),
        ("datetime", "2013-01-31T10:00:00+00:00", datetime(2013, 1, 31, 10, tzinfo=UTC)),
        ("datetime", date(2013, 1, 31), datetime(2013, 1, 31)),  # noqa: DTZ001
        ("any", "0123", "0123"),
    ],
)
def test_a_value_is_read_by_the_declared_type(type_: str, given_: Any, value: Any) -> None:
    read = coerce(Parameter("x", type_), given_)
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("type_", "given_"),
    [
        ("int", "1.0"),
        ("int", 1.0),
        ("int", True),
        ("int", ""),
        ("int", None),
        ("int", "9" * 5000),
        ("float", "1e400"),
        ("float", "1e-400"),
        ("float", "abc"),
        ("float", False),
        ("float", 2**53 + 1),
        ("float", 10**400),
        ("str", 3),
        ("bool", "2"),
        ("bool", 1),
        ("list", "[1e999]"),
        ("list", "('a', 1e999)"),
        ("list", "[{1}]"),
        ("list", "[" * 100_000),
        ("list", [object()]),
        ("dict", "[1]"),
        ("dict", {1: 2}),
        ("date", "31.01.2013"),
        ("date", datetime(2013, 1, 31)),  # noqa: DTZ001
        ("any", object()),
        ("any", np.arange(2)),
    ],
)
def test_a_value_of_another_type_is_refused_by_name_type_and_value(type_: str, given_: Any) -> None:
    with pytest.raises(UsageError, match=f"Parameter rows must be {type_}, not ") as caught:
        coerce(Parameter("rows", type_), given_)
    assert len(caught.value.message) < 150


def test_choices_admit_their_own_values_alone() -> None:
    depth = Parameter("depth", "int | str", choices=(1, 2, "all"))
    assert [coerce(depth, each) for each in ("1", 2, "all")] == [1, 2, "all"]
    with pytest.raises(UsageError, match="one of 1, 2, 'all', not 'al'") as caught:
        coerce(depth, "al")
    assert "all" in caught.value.hint
    with pytest.raises(UsageError):
        coerce(depth, True)


def test_a_refused_secret_is_not_shown() -> None:
    with pytest.raises(UsageError) as caught:
        coerce(Parameter("api_key", "int"), "hunter2")
    assert "hunter2" not in str(caught.value)


def test_unknown_malformed_and_missing_names_are_refused() -> None:
    parameters = declared("month = 1\nsince: date")
    with pytest.raises(UsageError, match="no parameter 'mnth'") as caught:
        checked(parameters, {"mnth": "3", "since": "2013-01-01"}, "train.ipynb")
    assert caught.value.hint == "Did you mean month?"
    with pytest.raises(UsageError, match="no Python name"):
        checked(parameters, {"month\nimport os": "3"})
    with pytest.raises(UsageError, match="needs a value for since"):
        checked(parameters, {"month": 3})
    with pytest.raises(UsageError, match="declares no parameters"):
        checked((), {"month": 3})


def test_what_is_not_given_keeps_its_default() -> None:
    assert effective(declared("a = 1\nb = 2"), {"b": 3}) == {"a": 1, "b": 3}


@given(st.integers())
def test_every_int_survives_text(value: int) -> None:
    assert coerce(Parameter("x", "int"), str(value)) == value


@given(st.floats(allow_nan=False))
def test_every_float_survives_text(value: float) -> None:
    assert coerce(Parameter("x", "float"), repr(value)) == value


@given(st.text())
def test_text_stays_text(value: str) -> None:
    assert coerce(Parameter("x", "str"), value) == value


@given(st.lists(JSON))
def test_every_json_list_survives_text(value: list[Any]) -> None:
    assert repr(coerce(Parameter("x", "list"), json.dumps(value))) == repr(value)


@given(st.text(), st.sampled_from(["int", "float", "bool", "list", "dict", "date", "datetime", "None"]))
def test_any_text_is_read_or_refused(text: str, type_: str) -> None:
    with contextlib.suppress(UsageError):
        coerce(Parameter("x", type_), text)


@given(JSON | st.dates() | st.datetimes().map(lambda at: at.replace(fold=0)))
def test_a_spelled_value_means_itself_and_is_one_line(value: Any) -> None:
    source = spelled(value)
    assert "\n" not in source
    assert repr(eval(source, {})) == repr(value)


@given(st.text())
def test_text_never_becomes_code(text: str) -> None:
    scope: dict[str, Any] = {}
    exec(injection({"x": text}).source, scope)
    assert scope["x"] == text


def test_a_secret_is_read_from_the_environment_and_never_written(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = injection({"api_key": "hunter2", "store": "postgresql://ops:hunter2@db/x", "token": "env:TOKEN"})
    assert "hunter2" not in cell.source
    for name, value in cell.environment.items():
        monkeypatch.setenv(name, value)
    scope: dict[str, Any] = {}
    exec(cell.source, scope)
    assert (scope["api_key"], scope["store"], scope["token"]) == (
        "hunter2",
        "postgresql://ops:hunter2@db/x",
        "env:TOKEN",
    )
