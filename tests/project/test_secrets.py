"""References to secrets: what is one, what it stands for, and what happens where it stands for nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nbmlops.errors import UsageError
from nbmlops.scrub import masking, scrub_text
from nbmlops.secrets import LARGEST, Reference, missing, read, resolved


@pytest.mark.parametrize("text", ["env:TOKEN", "file:token.txt", "file:/run/secrets/token", "file:~/token", "env:"])
def test_text_that_begins_like_a_reference_is_one(text: str) -> None:
    assert isinstance(read(text), Reference)
    assert read(f"text:{text}") == text
    assert read(f"text:text:{text}") == f"text:{text}"
    assert type(read(f"text:{text}")) is str


@pytest.mark.parametrize(
    "text", ["", "env", "ENV:TOKEN", " env:TOKEN", "file:///data/x.csv", "text:", "text: a", "a:b"]
)
def test_any_other_text_is_itself(text: str) -> None:
    assert (read(text), type(read(text))) == (text, str)


def test_a_reference_is_read_and_its_value_masked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TOKEN", "s3cr3t-of-env")
    (tmp_path / "token").write_text("s3cr3t-of-file\r\n")
    with masking([]):
        assert resolved("env:TOKEN") == "s3cr3t-of-env"
        for place in ("token", "~/token", f"{tmp_path}/token"):
            assert resolved(f"file:{place}") == "s3cr3t-of-file"
        assert scrub_text("s3cr3t-of-env s3cr3t-of-file") == "*** ***"
        monkeypatch.chdir("/")
        assert resolved("file:token", tmp_path) == "s3cr3t-of-file"
    assert missing(["env:TOKEN", "file:token"], tmp_path) == []


def test_what_stands_for_nothing_is_told_before_and_refused_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMPTY", "")
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    (tmp_path / "large").write_bytes(b"x" * (LARGEST + 1))
    wrong = {
        "env:NOT_SET": "the variable NOT_SET is not set",
        "env:EMPTY": "the variable EMPTY is empty",
        "env:A\0B": "is not set",
        "env:": "no reference",
        "file:": "no reference",
        "hunter2": "no reference",
        "file:nowhere": f"the file {tmp_path / 'nowhere'} is not there",
        "file:.": "is not there",
        "file:/dev/zero": "is not there",
        "file:empty": "is empty",
        "file:bytes": "cannot be read as text",
        "file:large": "larger than 1 MB",
    }
    for reference, why in wrong.items():
        (told,) = missing([reference, reference], tmp_path)
        assert why in told
        assert "hunter2" not in told
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="NOT_SET is not set") as caught:
        resolved("env:NOT_SET")
    assert "text:env:NOT_SET" in caught.value.hint


def test_resolving_loads_nothing_heavy() -> None:
    code = 'import sys; a = __import__("nbmlops.secrets", fromlist=["secrets"]).resolved("env:TOKEN")\n'
    code += "print(a, len(sys.modules), {'mlflow', 'pandas', 'numpy', 'sqlalchemy'} & set(sys.modules))"
    environment = {**os.environ, "TOKEN": "s3cr3t"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    value, n_modules, heavy = done.stdout.split(maxsplit=2)
    assert (value, heavy.strip()) == ("s3cr3t", "set()")
    assert int(n_modules) < 150
