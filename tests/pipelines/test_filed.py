"""Parameters in files: values as the file or the declared type means them; what is wrong is told by its line."""

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from nbmlops.errors import NotFoundError, UsageError
from nbmlops.pipelines.contract import checked, declared, references
from nbmlops.pipelines.filed import from_file

DECLARED = """\
month = 1
code = ""
deep = False
rate = 0.1
cost: Decimal = Decimal(0)
since: date = None
cols: list[str] = []
weights: dict[int, float] = {}
limit: int | None = 3
either: int | str = 0
config = {}
anything = None
token: "Secret" = "env:TOKEN"
"""
WANTED = {
    "month": 3,
    "code": "0123",
    "deep": False,
    "rate": 0.001,
    "cost": Decimal("0.10"),
    "since": date(2013, 1, 31),
    "cols": ["no", "012"],
    "weights": {0: 1.0, 1: 2.5},
    "limit": None,
    "either": "5",
    "config": {"depth": 3, "name": "on", "rate": 0.5, "is": True, "none": None},
    "anything": 3,
    "token": "env:OTHER",
}
JSON = """\
{"month": 3, "code": "0123", "deep": false, "rate": 1e-3, "cost": 0.10, "since": "2013-01-31", "cols": ["no", "012"],
 "weights": {"0": 1, "1": 2.5}, "limit": null, "either": "5", "anything": 3, "token": "env:OTHER",
 "config": {"depth": 3, "name": "on", "rate": 0.5, "is": true, "none": null}}"""
TOML = """\
month = 3
code = "0123"
deep = false
rate = 1e-3
cost = 0.10
since = 2013-01-31
cols = ["no", "012"]
either = "5"
anything = 3
token = "env:OTHER"
weights = { 0 = 1, 1 = 2.5 }
config = { depth = 3, name = "on", rate = 0.5, is = true }
"""
YAML = """\
month: 3
code: 0123
deep: no
rate: 1e-3
cost: 0.10
since: 2013-01-31
cols: [no, 012]
weights:
  0: 1
  1: 2.5
limit: ~
either: "5"
config: {depth: 3, name: on, rate: 0.5, is: true, none: null}
anything: 3
token: env:OTHER
"""


def read(path: Path, name: str, text: str | bytes) -> dict[str, Any]:
    file = path / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return from_file(file)


@pytest.mark.parametrize(("name", "text"), [("p.json", JSON), ("p.toml", TOML), ("p.yaml", YAML), ("p.YML", YAML)])
def test_every_format_gives_the_same_values(tmp_path: Path, name: str, text: str) -> None:
    given = read(tmp_path, name, text)
    wanted = dict(WANTED)
    if name == "p.toml":  # which has no null
        del wanted["limit"]
        wanted["config"] = {key: value for key, value in WANTED["config"].items() if value is not None}
    values = checked(declared(DECLARED), given)
    assert {key: (value, type(value)) for key, value in values.items()} == {
        key: (value, type(values[key]) if key == "token" else type(value)) for key, value in wanted.items()
    }
    assert references(values) == ["env:OTHER"]


def test_types_that_a_file_gives_are_not_changed(tmp_path: Path) -> None:
    for name, text in (("p.json", '{"code": 123}'), ("p.toml", "code = 123"), ("p.toml", "month = 3.0")):
        with pytest.raises(UsageError, match="must be"):
            checked(declared(DECLARED), read(tmp_path, name, text))
    assert checked(declared(DECLARED), read(tmp_path, "p.yaml", "code: 123"))["code"] == "123"


def test_an_empty_value_of_yaml_is_none_where_that_is_declared(tmp_path: Path) -> None:
    assert checked(declared(DECLARED), read(tmp_path, "p.yaml", "limit:\nanything:\n")) == {
        "limit": None,
        "anything": None,
        "token": "env:TOKEN",
    }


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("p.json", '{\n"a": 1,\n}', "p.json, line 3: it is no JSON"),
        ("p.json", '{"a": 1, "a": 2}', "p.json: 'a' is in it twice"),
        ("p.json", '{"a": 1e999}', "p.json: 1e999 is beyond the range of a float"),
        ("p.json", "[" * 100_000, "p.json: it is nested too deeply"),
        ("p.json", "[1]", "p.json must hold parameters by name, not a list"),
        ("p.toml", "a = 1\nb = = 2", "p.toml, line 2: it is no TOML: Invalid value"),
        ("p.toml", "a = 1\na = 2", "p.toml, line 2: it is no TOML: Cannot overwrite a value"),
        ("p.toml", "a = 1e999", "p.toml: 1e999 is beyond the range of a float"),
        ("p.yaml", "a: 1\nb: [1", "p.yaml, line 2: it is no YAML"),
        ("p.yaml", "a: 1\nb: 2\na: 3", "p.yaml, line 3: 'a' is in it twice"),
        ("p.yaml", "a: &x [1]\nb: *x", "p.yaml, line 1: aliases are not read"),
        ("p.yaml", "a: 1\nb: !!python/object/apply:os.system ['touch marker']", "p.yaml, line 2: the tag "),
        ("p.yaml", "a: 1\n? [b]\n: 1", "p.yaml, line 2: a name is text"),
        ("p.yaml", "a: 1\n---\nb: 1", "p.yaml, line 2: it is no YAML"),
        ("p.yaml", "a: \0", "p.yaml: it is no YAML"),
        ("p.yaml", "x: " + "[" * 100 + "]" * 100, "p.yaml, line 1: it is nested too deeply"),
        ("p.yaml", "", "p.yaml must hold parameters by name, not nothing"),
        ("p.yaml", "just text", "p.yaml must hold parameters by name, not a single plain"),
        ("p.json", b"\xff\xfe", "is not UTF-8 text"),
        ("p.csv", "a,b", "holds no parameters by its ending"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_by_its_line(
    tmp_path: Path, name: str, text: str | bytes, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        read(tmp_path, name, text)
    assert told in caught.value.message
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_a_file_that_is_missing_is_told_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "march.yaml").touch()
    with pytest.raises(NotFoundError) as caught:
        from_file(tmp_path / "marhc.yaml")
    assert caught.value.hint == "Did you mean march.yaml?"
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(UsageError, match="cannot be read"):
        from_file(tmp_path / "folder.json")
