"""Making a folder a project: what is written, what is kept, and what is left when it fails."""

import contextlib
import tomllib
from pathlib import Path

import pytest

from nbmlops.errors import ConflictError, NbmlopsError, StoreError, UsageError
from nbmlops.ledger.database import Ledger
from nbmlops.project import Project
from nbmlops.surfaces.python import Operations
from nbmlops.tracking.mlflow import Tracking

NEARBY = "sqlite:///../mlflow.db"
NOBODY = "http://127.0.0.1:1"


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_becomes_a_project_that_answers(bare: Path) -> None:
    made = Operations(bare).init("flights")
    assert made.made == ("nbmlops.toml", ".gitignore")
    assert files(bare) == [".gitignore", ".nbmlops", "nbmlops.toml"]
    assert (bare / ".gitignore").read_text() == ".nbmlops/\n"
    assert tomllib.loads((bare / "nbmlops.toml").read_text()) == {"project": {"name": "flights"}, "stores": {}}
    project = Project(bare)
    tracking = project.open(Tracking)
    assert tracking.client.get_experiment(tracking.experiment_id).name == "flights"
    [event] = project.open(Ledger).events()
    assert (event.verb, event.subject, event.outcome) == ("init", "project/flights", "ok")
    assert f"{bare} is the project flights" in made.headline


@pytest.mark.parametrize("name", ['Ann\'s "best" flights', "back\\slash", "naïve 🎉", "a\ttab", "[table]\n# comment"])
def test_any_name_is_written_so_that_it_is_read_again(ready: Path, name: str) -> None:
    assert Operations(ready).init(name, tracking=NEARBY).name == name
    assert Project(ready).settings.name.value == name


def test_without_a_name_it_is_the_folders(ready: Path) -> None:
    assert Operations(ready).init(tracking=NEARBY).name == "bare"


def test_twice_is_fine_and_changes_nothing(ready: Path) -> None:
    first = Operations(ready).init("flights", tracking=NEARBY)
    before = {path: path.read_bytes() for path in (ready / "nbmlops.toml", ready / ".gitignore")}
    for again in (Operations(ready).init(), Operations(ready).init("flights", tracking=NEARBY)):
        assert (again.made, again.kept) == ((), ("nbmlops.toml", ".gitignore"))
        assert (again.name, again.tracking, again.ledger) == (first.name, first.tracking, first.ledger)
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"name": "trains"}, "has name = 'flights'"),
        ({"tracking": "sqlite:///other.db"}, "has tracking = "),
        ({"ledger": "postgresql://db/ledger"}, "has ledger = "),
    ],
)
def test_another_project_in_its_place_is_refused(folder: Path, asked: dict[str, str], said: str) -> None:
    before = (folder / "nbmlops.toml").read_text()
    with pytest.raises(ConflictError, match=f"{said}.*never overwrites"):
        Operations(folder).init(**asked)
    assert (folder / "nbmlops.toml").read_text() == before


def test_an_ignore_file_is_added_to_and_its_lines_are_kept(ready: Path) -> None:
    (ready / ".gitignore").write_text("data/")
    assert Operations(ready).init(tracking=NEARBY).made == ("nbmlops.toml", ".gitignore")
    assert (ready / ".gitignore").read_text() == "data/\n.nbmlops/\n"


def test_a_dry_run_writes_nothing(bare: Path) -> None:
    told = Operations(bare).init("flights", dry_run=True)
    assert told.made == ("nbmlops.toml", ".gitignore")
    assert "would be the project flights" in told.headline
    assert files(bare) == []


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"tracking": NOBODY}, StoreError),
        ({"tracking": NEARBY, "ledger": "postgresql://127.0.0.1:1/ledger"}, StoreError),
        ({"tracking": NEARBY, "ledger": "sqlite:///../mlflow.db/ledger.db"}, StoreError),
        ({"tracking": "env:NOT_SET"}, UsageError),
        ({"tracking": "ftp://127.0.0.1/runs"}, NbmlopsError),
    ],
)
def test_when_a_store_is_out_of_reach_nothing_is_left_behind(
    ready: Path, options: dict[str, str], error: type[NbmlopsError]
) -> None:
    with pytest.raises(error):
        Operations(ready).init("flights", **options)
    assert files(ready) == []


def test_a_project_whose_store_is_out_of_reach_keeps_its_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBMLOPS_TRACKING", NOBODY)
    with pytest.raises(StoreError):
        Operations(folder).init()
    assert (folder / "nbmlops.toml").exists()
    assert (folder / ".nbmlops" / "mlflow.db").exists()


def test_a_password_is_refused_and_never_written(ready: Path) -> None:
    with pytest.raises(UsageError, match="--ledger holds a password") as refused:
        Operations(ready).init(tracking=NEARBY, ledger="postgresql://ops:hunter2@db/ledger")
    assert "hunter2" not in str(refused.value)
    assert "--ledger env:NAME" in refused.value.hint
    assert files(ready) == []


def test_a_store_can_be_named_by_a_variable_whose_value_stays_out_of_the_file(
    ready: Path, monkeypatch: pytest.MonkeyPatch, postgres_url: str
) -> None:
    monkeypatch.setenv("LEDGER_URL", postgres_url)
    ops = Operations(ready)
    ops.init(tracking=NEARBY, ledger="env:LEDGER_URL")
    assert 'ledger = "env:LEDGER_URL"' in (ready / "nbmlops.toml").read_text()
    assert not list(ready.glob("**/ledger.db"))
    with contextlib.closing(ops.project.open(Ledger)) as ledger:
        assert [event.verb for event in ledger.events()] == ["init"]


def test_a_subfolder_of_a_project_becomes_a_project_of_its_own(folder: Path) -> None:
    inner = folder / "inner"
    inner.mkdir()
    assert Project(inner).root == folder
    tracking = f"sqlite:///{folder}/.nbmlops/mlflow.db"
    assert Operations(inner).init("trains", tracking=tracking).made == ("nbmlops.toml", ".gitignore")
    assert Project(inner).root == inner
    assert Project(inner).settings.name.value == "trains"
    assert Project(folder).settings.name.value == "flights"
    assert [event.subject for event in Project(inner).open(Ledger).events()] == ["project/trains"]
    assert not (folder / ".nbmlops" / "ledger.db").exists()
