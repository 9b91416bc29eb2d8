"""The command in processes of its own: exit codes, what goes to stdout, signals, settings, and its weight."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import nbmlops
from nbmlops import __version__, errors
from nbmlops.surfaces.cli import main
from nbmlops.vocabulary import VERBS, Entry

from .conftest import as_notebook

COMMAND = [sys.executable, "-m", "nbmlops.surfaces.cli"]
HEAVY = (
    "mlflow",
    "pandas",
    "numpy",
    "sklearn",
    "papermill",
    "nbformat",
    "pyarrow",
    "sqlalchemy",
    "pydantic",
    "IPython",
)


@pytest.fixture(autouse=True)
def own_handler() -> Iterator[None]:
    """The command handles SIGTERM; the tests' own process must not keep that."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


# -------------------------------------------------------------- result and exit code
def test_the_result_goes_to_stdout_and_progress_to_stderr(lived: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "delays/1", "--json"]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out)["passed"] is True
    assert "scoring delays/1 on 600 rows" in err


def test_quiet_says_nothing_and_still_exits_by_cause(lived: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "delays/1", "--quiet"]) == 0
    assert capfd.readouterr() == ("", "")
    assert main(["validate", "delays/1", "--gate", "hopeless", "--quiet"]) == 4


@pytest.mark.parametrize(
    ("line", "exit_code", "words"),
    [
        ("promot delays/1", 2, "Did you mean promote?"),
        ("help promot", 2, "Did you mean promote?"),
        ("promote delays/1 --gat x", 2, "--gate"),
        ("promote", 2, "promote needs MODEL"),
        ("promote delays/1 shadow", 2, "shadow"),
        ("runs --limit many", 2, "limit"),
        ("runs --where nonsense", 2, "filter"),
        ("run train.ipynb -p mnth=3", 2, "Did you mean month?"),
        ("run train.ipynb -p month", 2, "name=value"),
        ("--projct . runs", 2, "Did you mean project?"),
        ("--project", 2, "needs a value"),
        ("run fails.ipynb", 3, "ZeroDivisionError"),
        ("validate delays/1 --gate hopeless", 4, "roc_auc"),
        ("validate delays/1 --data five.parquet", 5, "late"),
        ("drift march.parquet --against january.parquet --exit-code", 6, "delay"),
        ("run train.ipynb --timeout 0.01", 8, "longer"),
        ("--tracking http://127.0.0.1:1 runs", 10, "out of reach"),
        ("--ledger sqlite:////proc/no/ledger.db history delays", 10, "out of reach"),
        ("promote delay/1", 11, "Did you mean delays?"),
        ("--project .. runs", 11, "nbmlops init"),
        ("log auc=1", 12, "--run ID"),
    ],
)
def test_the_exit_code_and_the_message_tell_the_cause(
    line: str, exit_code: int, words: str, lived: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (lived / "fails.ipynb").write_text(json.dumps(as_notebook("1 / 0")))
    assert main(line.split()) == exit_code
    out, err = capfd.readouterr()
    assert out == ""
    assert words in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("line", "exit_code"),
    [
        ("promot delays/1", 2),
        ("promote", 2),
        ("validate delays/1 --gate hopeless", 4),
        ("drift march.parquet --against january.parquet --exit-code", 6),
        ("promote delay/1", 11),
        ("log auc=1", 12),
    ],
)
def test_a_failure_is_json_too_with_its_report(
    line: str, exit_code: int, lived: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([*line.split(), "--json"]) == exit_code
    told = json.loads(capfd.readouterr().out)["error"]
    kind = getattr(errors, told["type"])
    assert (told["exit_code"], kind.exit_code) == (exit_code, exit_code)
    assert set(told) == {"type", "message", "hint", "exit_code", *kind.detail_fields}
    assert told.get("report", True)


def test_a_bug_exits_1_without_a_traceback_unless_asked_for(
    lived: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setitem(VERBS, "faulty", Entry("faults:faulty", "Fail as a bug does.", "read", "project"))
    assert main(["faulty"]) == 1
    out, err = capfd.readouterr()
    assert (out, "Traceback" in err, "hunter2" in err) == ("", False, False)
    assert "This is a bug in nbmlops" in err
    assert main(["faulty", "--traceback"]) == 1
    err = capfd.readouterr().err
    assert "Traceback" in err
    assert "faults.py" in err


# ------------------------------------------------------------------ help and version
def test_the_version_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capfd.readouterr().out == f"nbmlops {__version__}\n"


@pytest.mark.parametrize("words", [[], ["help"], ["--help"], ["-h"]])
def test_bare_it_lists_the_verbs(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    page = capfd.readouterr().out
    assert all(entry.summary in page for entry in VERBS.values())


@pytest.mark.parametrize("words", [["help", "run"], ["run", "--help"], ["run", "train.ipynb", "-h"]])
def test_help_tells_about_one_verb(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    page = capfd.readouterr().out
    assert page.startswith("Usage: nbmlops run")
    for word in ("--parameters", "-p", "--output", "-o", "--timeout", "--dry-run", "--json", "--quiet"):
        assert word in page


LIGHTER = (*HEAVY, "cyclopts", "rich")


@pytest.mark.parametrize(
    ("words", "unwanted"), [(["--help"], LIGHTER), (["--version"], LIGHTER), (["help", "run"], HEAVY)]
)
def test_help_loads_nothing_heavy(words: list[str], unwanted: tuple[str, ...]) -> None:
    code = f"import sys; from nbmlops.surfaces.cli import main; main({words!r}); "
    code += f"print('loaded:', *sorted({set(unwanted)!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded:"


# -------------------------------------------------------------------------- settings
def test_what_stands_before_the_verb_wins_over_everything(
    lived: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    given = [f"--tracking=sqlite:///{tmp_path}/t.db", "--ledger", f"sqlite:///{tmp_path}/l.db", "--project", str(lived)]
    monkeypatch.setenv("NBMLOPS_TRACKING", "sqlite:////elsewhere/mlflow.db")
    monkeypatch.setenv("NBMLOPS_LEDGER", "sqlite:////elsewhere/ledger.db")
    monkeypatch.setenv("NBMLOPS_PROJECT", "/elsewhere")
    monkeypatch.chdir("/")
    assert main([*given, "status", "--json"]) == 0
    settings = {row["name"]: row for row in json.loads(capfd.readouterr().out)["settings"]}
    for name, file in (("tracking", "t.db"), ("ledger", "l.db")):
        assert (settings[name]["value"], settings[name]["source"]) == (f"sqlite:///{tmp_path}/{file}", "argument")
        assert (tmp_path / file).exists()


# --------------------------------------------------------------------------- signals
@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_running_notebook_and_the_command(number: int, exit_code: int, lived: Path) -> None:
    source = "import pathlib, time\npathlib.Path('at-work').write_text('')\ntime.sleep(600)"
    (lived / "long.ipynb").write_text(json.dumps(as_notebook(source)))
    command = [*COMMAND, "run", "long.ipynb", "-o", "out.ipynb", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        _wait_for(lived / "at-work", process)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (exit_code, "")
    assert "Traceback" not in err
    assert (lived / "out.ipynb").exists()
    assert nbmlops.open(lived).show("long").status == "KILLED"


def test_a_reader_that_goes_away_is_no_error_of_ours() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run([*COMMAND, "help", "runs"], stdout=writing, stderr=subprocess.PIPE, text=True)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def _wait_for(path: Path, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
