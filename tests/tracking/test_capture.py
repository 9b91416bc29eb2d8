"""What a run keeps of its code and environment: short as tags, whole as files, and without secrets."""

import json
import subprocess
from pathlib import Path

import pytest

from nbmlops.tracking.capture import facts, git
from nbmlops.tracking.capture.source import Cell, Executed, Execution


@pytest.fixture
def executed(folder: Path) -> Executed:
    (folder / "notebooks").mkdir()
    source = "connect('postgresql://ops:hunter2@db')\nmodel = Forest(random_state=42)"
    executions = (Execution(1, source, "x", duration_s=0.5), Execution(2, "gone", "y"))
    return Executed(str(folder / "notebooks" / "train.ipynb"), executions, (Cell(1, source, "x"),))


def test_tags_are_short_and_files_are_whole(folder: Path, executed: Executed) -> None:
    who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org")
    for words in (("init", "--quiet", "-b", "main"), ("add", "."), ("commit", "--quiet", "-m", "first")):
        subprocess.run(["git", *who, *words], cwd=folder, check=True)
    (folder / "new.py").write_text("url = 'postgresql://ops:hunter2@db'\n" * 10)
    moment = facts.begin(folder)
    tags = facts.tags(moment, executed)
    assert tags["mlflow.source.git.commit"] == git.head(folder)
    assert (tags["mlflow.source.git.branch"], tags["nbmlops.dirty"]) == ("main", "yes")
    assert tags["nbmlops.order"] == "deleted cells ([2])"
    assert tags["nbmlops.seeds"] == "random_state=42"
    assert all(0 < len(value) < 500 for value in tags.values())
    files = facts.files(moment, executed)
    assert set(files) == {facts.SOURCE, facts.DIFF, facts.LOCK, facts.ENVIRONMENT}
    assert "+url" in files[facts.DIFF]
    assert "mlflow==" in files[facts.LOCK]
    assert json.loads(files[facts.ENVIRONMENT])["seeds"] == {"random_state": 42}
    assert "hunter2" not in "".join([*files.values(), *tags.values()])


def test_outside_a_repository_nothing_is_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    moment = facts.begin(tmp_path)
    tags = facts.tags(moment, Executed())
    assert not {"mlflow.source.git.commit", "nbmlops.dirty", "nbmlops.order", "nbmlops.seeds"} & set(tags)
    assert set(facts.files(moment, Executed())) == {facts.LOCK, facts.ENVIRONMENT}


def test_a_launcher_is_never_the_source(folder: Path, executed: Executed) -> None:
    assert facts.source_tags(folder, executed.path)["mlflow.source.name"] == "notebooks/train.ipynb"
    assert facts.source_tags(folder, "/elsewhere/train.py")["mlflow.source.name"] == "/elsewhere/train.py"
    assert facts.source_tags(folder) == {"mlflow.source.name": "(no file)", "mlflow.source.type": "LOCAL"}
