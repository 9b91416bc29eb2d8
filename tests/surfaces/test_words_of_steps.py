"""The words of steps that are verbs: what is wrong is told before anything runs, however the run is asked for."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

import nbmlops
from nbmlops.errors import UsageError
from nbmlops.surfaces.cli import main

FIRST = "[[pipelines.p.steps]]\nname = 'first'\nfunction = 'steps:first'\n"
GATE = "[[pipelines.p.steps]]\nname = 'gate'\nneeds = ['first']\nverb = '{}'\n"


@pytest.fixture(autouse=True)
def own_handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose first step would leave a file."""
    (tmp_path / "steps.py").write_text("def first():\n    open('ran', 'w').close()\n    return {'n': 1}\n")
    declare(tmp_path, "validate delays --gaet default")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def declare(root: Path, words: str) -> None:
    (root / "nbmlops.toml").write_text(FIRST + GATE.format(words))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("validate delays --gaet default", "Did you mean --gate?"),
        ("valdate delays", "Did you mean validate?"),
        ("validate", "validate needs MODEL."),
        ("validate delays --json --quiet", "With --quiet there is no result to read."),
        ("schedule x --overlap quee", "--overlap"),
        ("predict live --data ${first.n} --dta 4", "Did you mean --data?"),
    ],
)
@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_a_command_is_refused_with_pipeline_step_and_the_nearest(
    root: Path, words: str, told: str, options: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    declare(root, words)
    assert main(["run", "p", *options]) == 2
    said = capfd.readouterr().err
    assert all(each in said for each in ("Pipeline p", "step gate", told)), said
    assert not (root / "ran").exists()


def test_python_the_magic_and_a_schedule_refuse_them_too(
    root: Path, shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    for act in (
        lambda: nbmlops.open(root).run("p"),
        lambda: nbmlops.open(root).schedule("p", "@daily"),
        lambda: shell.run_cell("%mlops run p").raise_error(),
    ):
        with pytest.raises(UsageError, match=r"(?s)Pipeline p, .*step gate: .*Did you mean --gate"):
            act()
    assert not (root / "ran").exists()


def test_words_that_references_fill_are_no_fault_as_long_as_something_could_be_right(root: Path) -> None:
    for words in ("promote ${first.n} --to ${first.n}", "runs --limit ${first.n}", "schedule x --overlap ${first.n}"):
        declare(root, words)
        assert nbmlops.open(root).run("p", dry_run=True).status == "PLANNED"
