"""`sync`, and what `status` and `doctor` tell of journals: stores that answer, refuse, are silent, and are away."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbmlops.agent.cards import Check
from nbmlops.errors import StoreError
from nbmlops.project import Project
from nbmlops.surfaces.python import Operations
from nbmlops.tracking import journal
from nbmlops.tracking.journal import sync
from nbmlops.tracking.mlflow import Tracking

NOBODY = "http://127.0.0.1:1"


def logged(project: Project | None, run_id: str, target: str, text: bytes = b"") -> None:
    """Journal a metric, and a file, as a process does that has ended since."""
    writer = journal.Writer(sync.folder_of(project), target)
    writer.append(journal.metric(run_id, "auc", 0.5, int((time.time() - 100) * 1000), 0))
    if text:
        writer.append(journal.line("file", run_id, {"place": "", "path": "notes.txt", **writer.copy(text)}))
    writer.close()


def check(ops: Operations, name: str) -> Check:
    found: Check = next(each for each in ops.doctor().checks if each.name == name)
    return found


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own folder."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def silent() -> Iterator[str]:
    """URL of a server that takes connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_every_journal_goes_to_the_store_that_it_names(ops: Operations, tmp_path: Path, empty_mlflow: Path) -> None:
    other = f"sqlite:///{tmp_path}/other.db"
    (tmp_path / "other.db").write_bytes(empty_mlflow.read_bytes())
    here, there = ops.project.open(Tracking), Tracking(other, "Default", tmp_path / "artifacts")
    runs = [each.client.create_run(each.experiment_id).info.run_id for each in (here, there)]
    logged(ops.project, runs[0], here.url, b"late flights")
    logged(ops.project, runs[1], other)
    logged(None, runs[1], other)
    assert ops.sync(dry_run=True).records == 4
    done = ops.sync()
    assert (done.records, done.files, done.rejected, done.left, done.ended) == (4, 1, 0, 0, ())
    assert [each.path for each in here.client.list_artifacts(runs[0])] == ["notes.txt"]
    assert [each.client.get_run(run).data.metrics for each, run in zip((here, there), runs, strict=True)] == [
        {"auc": 0.5}
    ] * 2
    assert ops.sync().records == 0
    assert journal.journals(sync.folder_of(None)) == []


def test_what_a_store_refuses_is_told_of_and_tried_again(ops: Operations) -> None:
    tracking = ops.project.open(Tracking)
    run_id = tracking.client.create_run(tracking.experiment_id).info.run_id
    tracking.client.delete_run(run_id)
    logged(ops.project, run_id, tracking.url)
    done = ops.sync()
    assert (done.rejected, done.left) == (1, 0)
    assert done.refused[0].record == "metric auc 0.5"
    [attention] = ops.status().attention
    assert (attention.what.startswith("journal: 1 rejected"), attention.mend) == (True, "sync --retry")
    assert check(ops, "journal").status == "warn"
    tracking.client.restore_run(run_id)
    assert (ops.sync(retry=True).records, ops.sync().rejected) == (1, 0)
    assert tracking.client.get_run(run_id).data.metrics == {"auc": 0.5}
    assert ops.status().attention == ()


def test_a_store_that_is_away_is_told_of_and_holds_up_no_other(ops: Operations) -> None:
    tracking = ops.project.open(Tracking)
    run_id = tracking.client.create_run(tracking.experiment_id).info.run_id
    logged(ops.project, run_id, NOBODY)
    logged(ops.project, run_id, tracking.url)
    with pytest.raises(StoreError, match=r"1 record sent; 1 left: .*refused") as away:
        ops.sync()
    assert away.value.exit_code == 10
    assert tracking.client.get_run(run_id).data.metrics == {"auc": 0.5}
    [attention] = ops.status().attention
    assert attention.what.startswith("journal: 1 record not delivered since ")
    assert "refused" in attention.what
    assert attention.mend == "sync"
    assert (check(ops, "journal").status, check(ops, "journal").mend) == ("warn", "sync")


def test_a_silent_store_keeps_nobody_waiting(folder: Path, silent: str) -> None:
    ops = Operations(folder, tracking=silent)
    logged(ops.project, "0" * 32, silent)
    began = time.monotonic()
    assert [each.what.split(":")[0] for each in ops.status().attention] == ["tracking", "journal"]
    assert time.monotonic() - began < 15
    began = time.monotonic()
    assert not ops.doctor().passed
    assert time.monotonic() - began < 25


def test_a_journal_that_cannot_be_written_fails_its_check(ops: Operations, folder: Path) -> None:
    (folder / ".nbmlops" / "journal").write_text("in the way")
    assert check(ops, "journal").status == "fail"


KILLED = "import os, nbmlops; nbmlops.open().track('killed'); os._exit(1)"


def test_a_run_whose_process_is_gone_ends(ops: Operations) -> None:
    subprocess.run([sys.executable, "-c", KILLED], env={**os.environ, "CI": "1"}, check=False)
    assert ops.sync(dry_run=True).ended == ("killed",)
    assert ops.sync().ended == ("killed",)
    assert ops.show("killed").status == "FAILED"
    assert ops.sync().ended == ()
