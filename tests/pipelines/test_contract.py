"""What a notebook's tagged cell declares, and what becomes of the values given for it."""

import contextlib
import json
import math
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbmlops.errors import UsageError
from nbmlops.pipelines.contract import (
    Parameter,
    checked,
    coerce,
    declared,
    effective,
    hints,
    public,
    references,
    secrets_in,
    shown,
)

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
        ("x: list[int] = []", "list[int]", []),
        ("x: List[Any] = []", "list", []),
        ("x: dict[str, float] = {}", "dict[str, float]", {}),
        ("x: tuple[int, ...] = ()", "tuple[int, ...]", ()),
        ("x: tuple[int, str] = (1, 'a')", "tuple[int, str]", (1, "a")),
        ("x = (1, 2)", "tuple", (1, 2)),
        ("x: list[Literal['a', 'b']] = []", "list[Literal['a', 'b']]", []),
        ("x: Literal['auto'] | int = 1", "Literal['auto'] | int", 1),
        ("x: Optional[list[int | None]] = None", "list[int | None] | None", None),
        ("x: Final[int] = 1", "int", 1),
        ("x: Secret = 'env:X'", "Secret", "env:X"),
        ("x: 'nbmlops.Secret | None' = None", "Secret | None", None),
        ("x = time(10, 30)", "time", time(10, 30)),
        ("x = Decimal('0.10')", "Decimal", Decimal("0.10")),
        ("x = pathlib.Path('a')", "Path", Path("a")),
        ("x = -math.inf", "float", -math.inf),
        ("x: Color = Color.RED", "any", "Color.RED"),
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
        ("any", "None", "None"),
        ("any", (1, 2), (1, 2)),
        ("float", "1_000.5", 1000.5),
        ("float | int", 1, 1),
        ("int | str", "5", 5),
        ("list[int]", "['1', 2]", [1, 2]),
        ("list[float]", [1], [1.0]),
        ("list[int | str]", '["5", 5]', ["5", 5]),
        ("list[str]", '["0123"]', ["0123"]),
        ("list[date]", '["2013-01-31"]', [date(2013, 1, 31)]),
        ("list[Decimal]", "[0.10, 3]", [Decimal("0.10"), Decimal(3)]),
        ("list[Literal['a', 1]]", '["a", 1]', ["a", 1]),
        ("Literal['auto'] | int", "auto", "auto"),
        ("Literal['auto'] | int", "3", 3),
        ("dict", "{0: 1, 1: 5}", {0: 1, 1: 5}),
        ("dict[int, float]", '{"0": 1}', {0: 1.0}),
        ("dict[str, list[int]]", {"a": ("1",)}, {"a": [1]}),
        ("tuple", "1, 2", (1, 2)),
        ("tuple[int, str]", [1, "a"], (1, "a")),
        ("tuple[int, ...]", "[]", ()),
        ("time", "10:30", time(10, 30)),
        ("Decimal", "0.10", Decimal("0.10")),
        ("Decimal", "-Infinity", Decimal("-Infinity")),
        ("Decimal", 3, Decimal(3)),
        ("Path", "data/x.csv", Path("data/x.csv")),
        ("datetime", pd.Timestamp("2013-01-31 10:00", tz="UTC"), datetime(2013, 1, 31, 10, tzinfo=UTC)),
        ("datetime", datetime(2013, 1, 1, tzinfo=timezone(timedelta(0), "Z")), datetime(2013, 1, 1, tzinfo=UTC)),
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
        ("dict", {(1,): object()}),
        ("dict", '{"a": 1, "a": 2}'),
        ("dict", "{1: 2, 1: 3}"),
        ("date", "31.01.2013"),
        ("date", datetime(2013, 1, 31)),  # noqa: DTZ001
        ("any", object()),
        ("any", np.arange(2)),
        ("any", np.datetime64(1, "ns")),
        ("any", pd.NaT),
        pytest.param("int", 10**5000, id="int-huge"),
        ("float", str(2**53 + 1)),
        ("list\\[int\\]", "[1.5]"),
        ("list\\[int\\]", "a,b"),
        ("dict\\[int, int\\]", '{"1": 1, "01": 2}'),
        ("tuple\\[int, str\\]", "[1]"),
        ("Decimal", 0.1),
        ("Decimal", "1e1000000000000000000000"),
        ("Decimal", "abc"),
        ("Path", ""),
        ("time", "10:30:00.1234567"),
        ("time", time(10, tzinfo=ZoneInfo("Europe/Vienna"))),
        ("datetime", "2013-01-31T00:00:00.123456789"),
        ("datetime", pd.Timestamp(1)),
        ("datetime", pd.NaT),
    ],
)
def test_a_value_of_another_type_is_refused_by_name_type_and_value(type_: str, given_: Any) -> None:
    with pytest.raises(UsageError, match=f"Parameter rows must be {type_}, not ") as caught:
        coerce(Parameter("rows", type_.replace("\\", "")), given_)
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


def test_a_list_in_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    for kind in ("list", "any", "list | str"):
        with pytest.raises(UsageError, match="not that list"):
            coerce(Parameter("x", kind), endless)


@pytest.mark.parametrize("name", ["month\n", "mo nth", "1month", "", "class", "None", "a.b", "a=1", "__import__('os')"])
def test_a_malformed_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no Python name"):
        checked(declared("month = 1"), {name: "3"})


def test_no_name_of_pythons_own_can_be_set() -> None:
    assert declared("__name__ = 'x'; __builtins__ = None") == ()
    with pytest.raises(UsageError, match="no parameter '__debug__'"):
        checked(declared("month = 1"), {"__debug__": "1"})


def test_a_name_is_the_one_that_python_reads() -> None:
    """Python takes compatibility forms of letters for the letters themselves."""
    fi = declared("\ufb01 = 1")
    assert fi[0].name == "fi"
    assert checked(fi, {"\ufb01": "2"}) == checked(fi, {"fi": "2"}) == {"fi": 2}
    with pytest.raises(UsageError, match="given twice"):
        checked(fi, {"fi": "1", "\ufb01": "2"})
    with pytest.raises(UsageError, match="no parameter"):  # Cyrillic, which only looks so
        checked(declared("a = 1"), {"\u0430": "2"})
    assert checked(declared("größe = 1"), {"gro\u0308ße": "2"}) == {"größe": 2}


# ----------------------------------------------------------------------- secrets
TOKEN = "token: Secret = 'env:TOKEN'\nnote = ''\npin: 'Secret | None' = None\nall: list[Secret] = []"


def test_a_secret_takes_references_alone_and_shows_nothing_else() -> None:
    parameters = declared(TOKEN)
    for name, value in (("token", "hunter2"), ("token", "file:///a"), ("pin", "hunter2"), ("all", '["hunter2"]')):
        with pytest.raises(UsageError, match=f"Parameter {name} takes a reference") as caught:
            checked(parameters, {name: value})
        assert "hunter2" not in str(caught.value)
        assert caught.value.__suppress_context__
        assert f"-p {name}=env:{name.upper()}" in caught.value.hint
    with pytest.raises(UsageError, match="needs a value for token") as caught:
        checked(declared("token: Secret"), {})
    assert caught.value.hint == "Give it with: -p token=env:NAME"


def test_references_are_given_to_secrets_and_to_text() -> None:
    parameters = declared(TOKEN + "\nrows = 1\nx = None\npaths = []\nkind: Literal['env:a'] = 'env:a'")
    values = checked(parameters, {"note": "file:~/a", "pin": "env:PIN", "all": '["env:A"]', "x": "env:X"})
    assert references(values) == ["file:~/a", "env:PIN", "env:A", "env:X", "env:TOKEN"]
    assert values["token"] == "env:TOKEN"
    assert references(checked(parameters, {"paths": ["env:A"], "kind": "env:a", "note": "file:///a"})) == ["env:TOKEN"]
    assert checked(parameters, {"note": "text:env:A"})["note"] == "env:A"
    assert references(checked(parameters, {"pin": "None", "token": "env:OTHER"})) == ["env:OTHER"]
    with pytest.raises(UsageError, match="must be int"):
        checked(parameters, {"rows": "env:ROWS"})


def test_references_are_refused_where_others_give_the_values() -> None:
    parameters = declared(TOKEN)
    with pytest.raises(UsageError, match="not taken from here: note"):
        checked(parameters, {"note": "file:/etc/passwd"}, takes_references=False)
    assert checked(parameters, {"note": "a"}, takes_references=False) == {"note": "a", "token": "env:TOKEN"}


def test_secrets_are_neither_shown_nor_told_as_defaults() -> None:
    values = {"api_key": "hunter2", "at": time(1), "cost": Decimal("0.10"), "pin_secret": 1234, "pair": (1, Path("a"))}
    assert shown(values) == {"api_key": "***", "at": "01:00:00", "cost": "0.10", "pin_secret": "***", "pair": [1, "a"]}
    assert hints(values) == [
        "api_key is a secret. As a reference it stays out of the shell's history: -p api_key=env:API_KEY",
        "pin_secret is a secret. As a reference it stays out of the shell's history: -p pin_secret=env:PIN_SECRET",
    ]
    told = [public(each).default for each in declared("api_key = 'hunter2'\npin: Secret = 'abc'\nx: Secret = 'env:X'")]
    assert told == ["***", "***", "env:X"]


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("%pip install x\napi_key = 'hunter2'", "the value of api_key"),
        ("self.password: str = 'hunter2'", "the value of password"),
        ("os.environ['DB_PASSWORD'] = 'hunter2'", "the value of DB_PASSWORD"),
        ("connect(user='ops', password='hunter2')", "the value of password"),
        ("pin: 'Secret' = 'hunter2'", "the value of pin"),
        ("{'client_secret': 'hunter2'}", "the value of client_secret"),
        ("db = 'postgresql://ops:hunter2@db/x'", "a password in a URL"),
        ("Use AKIAABCDEFGHIJKLMNOP here, it's ours", "an AWS access key"),
        ("!curl -H 'Authorization: Bearer abcdef0123456789abcdef'", "a header that authorises"),
    ],
)
def test_a_secret_in_a_cells_source_is_told_by_its_cell(source: str, what: str) -> None:
    found = secrets_in(["# fine", source, "x = 1"])
    assert (2, what) in found
    assert "hunter2" not in str(found)


@pytest.mark.parametrize(
    "source",
    [
        "api_key = ''",
        "token: Secret = 'env:TOKEN'",
        "password = os.environ['PASSWORD']",
        "password = getpass('Password: ')",
        "password_column = 'pw'",
        "token_pattern = r'\\w+'; tokenizer = 'bert'",
        "secret = f'{user}:{pw}'",
        "url = f'postgresql://{user}:{password}@db/x'",
        "# A heading\nwith a password in prose",
        "if True\n  (",
    ],
)
def test_what_holds_no_secret_is_not_told(source: str) -> None:
    assert secrets_in([source]) == []


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
