"""What a run keeps of its code and environment: short as tags, whole as files, and without secrets."""

import json
import subprocess
from pathlib import Path

import pytest

from nbmlops.tracking import capture, git
from nbmlops.tracking.source import Cell, Executed, Execution


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
    moment = capture.begin(folder)
    tags = capture.facts(moment, executed, {"january": "abc"})
    assert tags["mlflow.source.git.commit"] == git.head(folder)
    assert (tags["mlflow.source.git.branch"], tags["nbmlops.dirty"]) == ("main", "yes")
    assert tags["nbmlops.order"] == "deleted cells ([2])"
    assert (tags["nbmlops.seeds"], tags["nbmlops.data.january"]) == ("random_state=42", "abc")
    assert all(0 < len(value) < 500 for value in tags.values())
    files = capture.files(moment, executed)
    assert set(files) == {capture.SOURCE, capture.DIFF, capture.LOCK, capture.ENVIRONMENT}
    assert "+url" in files[capture.DIFF]
    assert "mlflow==" in files[capture.LOCK]
    assert json.loads(files[capture.ENVIRONMENT])["seeds"] == {"random_state": 42}
    assert "hunter2" not in "".join([*files.values(), *tags.values()])


def test_outside_a_repository_nothing_is_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    moment = capture.begin(tmp_path)
    tags = capture.facts(moment, Executed())
    assert not {"mlflow.source.git.commit", "nbmlops.dirty", "nbmlops.order", "nbmlops.seeds"} & set(tags)
    assert set(capture.files(moment, Executed())) == {capture.LOCK, capture.ENVIRONMENT}


def test_a_launcher_is_never_the_source(folder: Path, executed: Executed) -> None:
    assert capture.source_tags(folder, executed.path)["mlflow.source.name"] == "notebooks/train.ipynb"
    assert capture.source_tags(folder, "/elsewhere/train.py")["mlflow.source.name"] == "/elsewhere/train.py"
    assert capture.source_tags(folder) == {"mlflow.source.name": "(no file)", "mlflow.source.type": "LOCAL"}
