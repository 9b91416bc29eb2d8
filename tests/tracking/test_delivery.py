"""Delivery: in order, within MLflow's limits, exactly once, and never held up by what one record or file meets."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nbmlops.tracking import journal
from nbmlops.tracking.journal import Sent, Writer, delivery, sender, sync
from nbmlops.tracking.journal.delivery import GONE, Batch, UnreachableError, drain
from nbmlops.tracking.journal.sync import Stores, open_target, retry_rejected, sweep, waiting
from nbmlops.tracking.journal.target_http import HttpTarget
from nbmlops.tracking.journal.target_sql import SqlTarget
from nbmlops.tracking.store import open_plain
from tests.faults.proxy import Proxy


@pytest.fixture
def url(folder: Path) -> str:
    return f"sqlite:///{folder}/.nbmlops/mlflow.db"


@pytest.fixture
def mlflow_store(url: str) -> Any:
    return open_plain(url)


@pytest.fixture
def target(mlflow_store: Any) -> SqlTarget:
    return SqlTarget(mlflow_store)


@pytest.fixture
def writer(folder: Path, url: str) -> Iterator[Writer]:
    opened = Writer(folder / ".nbmlops" / "journal", url)
    yield opened
    opened.close()


@pytest.fixture
def proxy(mlflow_server: str) -> Iterator[Proxy]:
    with Proxy(mlflow_server) as before:
        yield before


@pytest.fixture
def remote(folder: Path, proxy: Proxy) -> Iterator[Writer]:
    opened = Writer(folder / ".nbmlops" / "journal", proxy.url)
    yield opened
    opened.close()


@pytest.fixture
def http(proxy: Proxy) -> Iterator[HttpTarget]:
    with closing(HttpTarget(proxy.url, 5.0)) as target:
        yield target


def begun(store: Any) -> str:
    return str(store.create_run("0", "ann", 1, [], "a run").info.run_id)


def wanted(**more: Any) -> dict[str, Any]:
    tags = {"mlflow.runName": "offline"}
    return {
        "experiment_id": "0",
        "experiment": "",
        "user_id": "ann",
        "start_time": 1,
        "run_name": "offline",
        "tags": tags,
        **more,
    }


def metric(run_id: str, step: int, value: float = 0.5, key: str = "loss") -> bytes:
    return journal.metric(run_id, key, value, 1700000000000 + step, step)


def history(store: Any, run_id: str, key: str = "loss") -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in store.get_metric_history(run_id, key)]


# ---------------------------------------------------------------------- batches
kinds = st.lists(
    st.tuples(st.sampled_from(["metric", "param", "tag"]), st.integers(0, 3), st.integers(0, 3)), max_size=400
)


@settings(max_examples=60, deadline=None)
@given(kinds=kinds)
def test_batches_keep_the_order_and_mlflows_limits(kinds: list[tuple[str, int, int]]) -> None:
    batches = [Batch("r")]
    for kind, key, value in kinds:
        record = [kind, "r", f"k{key}", value, 1, 1] if kind == "metric" else [kind, "r", f"k{key}", f"v{value}"]
        if not batches[-1].takes(record):
            batches.append(Batch("r"))
        batches[-1].add(record)
    assert [record[0] for batch in batches for record in batch.records] == [kind for kind, _, _ in kinds]
    for batch in batches:
        for record in batch.records:
            if record[0] == "param":  # a param that changes goes alone, so that the store refuses that one
                assert batch.params[record[2]] == record[3]
    tags: dict[str, str] = {}
    for batch in batches:
        tags |= batch.tags
    assert tags == {f"k{key}": f"v{value}" for kind, key, value in kinds if kind == "tag"}


@pytest.mark.parametrize(("kind", "most"), [("metric", 1000), ("param", 100), ("tag", 100)])
def test_a_batch_takes_no_more_than_mlflow_does(kind: str, most: int) -> None:
    batch = Batch("r")
    for number in range(most):
        record = [kind, "r", f"k{number}", "1", 1, 1]
        assert batch.takes(record)
        batch.add(record)
    assert not batch.takes([kind, "r", "one more", "1", 1, 1])


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_prefix_delivered_twice_is_the_same(
    folder: Path, url: str, mlflow_store: Any, target: SqlTarget, data: st.DataObject
) -> None:
    writer = Writer(folder / ".nbmlops" / "journal", url)
    run_id = begun(mlflow_store)
    values = st.floats(allow_nan=True, allow_infinity=True)
    for step, value in enumerate(data.draw(st.lists(values, min_size=1, max_size=20))):
        writer.append(metric(run_id, step, value))
        writer.append(journal.line("tag", run_id, "t", str(value)) + journal.line("param", run_id, f"p{step}", "x"))
    writer.append(journal.line("update", run_id, {"status": "FAILED", "end_time": 5}))
    whole = writer.path.read_bytes()
    lines = whole.splitlines(keepends=True)
    prefix = b"".join(lines[: data.draw(st.integers(1, len(lines)))])
    for content in (prefix, prefix, whole, whole):  # as after crashes that took what was known of the delivery
        writer.path.write_bytes(content)
        writer.path.with_suffix(".sent").unlink(missing_ok=True)
        assert drain(writer.path, lambda: target).rejected == 0
    run = mlflow_store.get_run(run_id)
    assert len(history(mlflow_store, run_id)) == (len(lines) - 2) // 3
    assert (run.info.status, len(run.data.params)) == ("FAILED", (len(lines) - 2) // 3)
    writer.close()
    journal.discard(writer.path)


def test_numbers_that_are_none_are_kept_as_mlflow_keeps_them(
    writer: Writer, mlflow_store: Any, target: SqlTarget
) -> None:
    run_id = begun(mlflow_store)
    for step, value in enumerate((float("nan"), float("inf"), float("-inf"))):
        writer.append(metric(run_id, step, value))
    assert drain(writer.path, lambda: target).unsent == 0
    nan, high, low = (value for _, value in sorted(history(mlflow_store, run_id)))
    assert nan != nan
    assert (high, low) == (1.7976931348623157e308, -1.7976931348623157e308)


# --------------------------------------------------------------------- refusals
def test_a_refused_record_is_kept_aside_with_its_reason_and_the_rest_goes_on(
    writer: Writer, mlflow_store: Any, target: SqlTarget
) -> None:
    run_id, deleted = begun(mlflow_store), begun(mlflow_store)
    mlflow_store.log_batch(run_id, [], [_param("depth", "3")], [])
    mlflow_store.delete_run(deleted)
    for step in range(300):
        writer.append(metric(run_id, step))
    writer.append(journal.line("param", run_id, "depth", "4"))  # another process has set it meanwhile
    writer.append(journal.line("tag", run_id, "k" * 251, "too long a name"))
    writer.append(journal.line("tag", deleted, "k", "its run is gone") + metric(deleted, 0))
    writer.append(b'["riddle", "r"]\n')
    writer.append(journal.line("tag", run_id, "after", "all"))
    done = drain(writer.path, lambda: target)
    assert (done.rejected, done.unsent, done.error) == (5, 0, "")
    assert len(history(mlflow_store, run_id)) == 300
    assert mlflow_store.get_run(run_id).data.tags["after"] == "all"
    aside = writer.path.with_suffix(".rejected").read_text()
    for reason in (
        "Changing param values is not allowed",
        "exceeds the maximum length",
        "active",
        "no record that this",
    ):
        assert reason in aside
    assert waiting(writer.folder).rejected == 5


def _param(key: str, value: str) -> Any:
    from mlflow.entities import Param

    return Param(key, value)


def test_refused_records_are_tried_again_when_asked_for(
    writer: Writer, mlflow_store: Any, target: SqlTarget, folder: Path
) -> None:
    run_id = begun(mlflow_store)
    mlflow_store.delete_run(run_id)
    writer.append(metric(run_id, 7))
    assert drain(writer.path, lambda: target).rejected == 1
    mlflow_store.restore_run(run_id)
    writer.append(metric(run_id, 8))
    assert retry_rejected(writer.folder) == 1  # while the journal is still written
    assert drain(writer.path, lambda: target).rejected == 0
    assert history(mlflow_store, run_id) == [(7, 0.5), (8, 0.5)]

    mlflow_store.delete_run(run_id)
    writer.append(metric(run_id, 9))
    writer.close()
    with Stores() as stores:
        sweep(writer.folder, stores)
        assert journal.journals(writer.folder) == []  # nothing of it is left but what was refused
        mlflow_store.restore_run(run_id)
        assert retry_rejected(writer.folder) == 1
        sweep(writer.folder, stores)
    assert [step for step, _ in history(mlflow_store, run_id)] == [7, 8, 9]
    assert list(writer.folder.iterdir()) == []


def test_a_record_on_which_the_server_always_stumbles_does_not_block_for_ever(
    remote: Writer, http: HttpTarget, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = http.create_run("0" * 32, wanted())
    remote.append(metric(run_id, 0) + journal.line("inputs", run_id, {"datasets": []}) + metric(run_id, 1))
    proxy.answer(500, path="log-inputs")
    done = drain(remote.path, lambda: http)
    assert (done.rejected, done.unsent) == (0, 2)  # it may be a bad minute
    assert "500" in done.error
    monkeypatch.setattr(delivery, "PATIENCE_S", 0.0)
    for _ in range(3):
        done = drain(remote.path, lambda: http)
    assert (waiting(remote.folder).rejected, done.unsent, done.error) == (1, 0, "")


def test_a_server_that_takes_nothing_for_long_loses_nothing(
    remote: Writer, http: HttpTarget, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = http.create_run("1" * 32, wanted())
    remote.append(metric(run_id, 0) + journal.line("update", run_id, {"status": "FAILED", "end_time": 5}))
    monkeypatch.setattr(delivery, "PATIENCE_S", 0.0)
    proxy.answer(500, path="runs/")  # its database takes no writes; what only asks is answered
    for _ in range(6):
        done = drain(remote.path, lambda: http)
        assert (done.rejected, done.unsent) == (0, 2)
    proxy.pass_on()
    assert drain(remote.path, lambda: http).unsent == 0
    assert http.state(run_id) == ("FAILED", "")


# -------------------------------------------------------------------- artifacts
def kept(writer: Writer, run_id: str, path: str, content: bytes, place: str = "") -> None:
    writer.append(journal.line("file", run_id, {"place": place, "path": path, **writer.copy(content)}))


def test_a_server_that_refuses_uploads_holds_up_nothing_else(remote: Writer, http: HttpTarget, proxy: Proxy) -> None:
    run_id = http.create_run("2" * 32, wanted(experiment_id="", experiment="of the server"))
    kept(remote, run_id, "a.txt", b"a")
    kept(remote, run_id, "b.txt", b"b")
    remote.append(metric(run_id, 0) + journal.line("update", run_id, {"status": "FINISHED", "end_time": 5}))
    proxy.answer(500, path="mlflow-artifacts")
    said: list[str] = []
    done = drain(remote.path, lambda: http, progress=said.append)
    assert (done.error, done.files, done.unsent, done.rejected) == ("", 2, 2, 0)
    assert "500" in done.upload_error
    assert http.state(run_id)[0] == "FINISHED"
    assert said[0] == "uploading a.txt (1 bytes)"
    assert "tried again in 1 s" in said[1]
    asked = sum(proxy.arrived.values())
    drain(remote.path, lambda: http, uploads="due")  # not yet
    assert sum(proxy.arrived.values()) == asked
    proxy.answer(500, times=1, path="b.txt")  # the one fails, and the other gets through
    drain(remote.path, lambda: http)
    assert drain(remote.path, lambda: http).unsent == 0
    assert list(remote.path.with_suffix(".files").iterdir()) == []


def test_an_artifact_whose_copy_has_rotted_is_not_uploaded(
    writer: Writer, mlflow_store: Any, target: SqlTarget, tmp_path: Path
) -> None:
    run_id = begun(mlflow_store)
    kept(writer, run_id, "notes/a.txt", b"good", (tmp_path / "place").as_uri())
    kept(writer, run_id, "notes/b.txt", b"good", (tmp_path / "place").as_uri())
    copies = sorted(writer.path.with_suffix(".files").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    copies[0].write_bytes(b"bad!")
    assert drain(writer.path, lambda: target).rejected == 1
    assert "the hash differs" in writer.path.with_suffix(".rejected").read_text()
    assert [path.name for path in (tmp_path / "place" / "notes").iterdir()] == ["b.txt"]


# ------------------------------------------------------------------------- runs
def test_a_run_begun_offline_is_created_once_whatever_is_lost(remote: Writer, http: HttpTarget, proxy: Proxy) -> None:
    intent = "3" * 32
    remote.append(journal.line("create", intent, wanted()) + metric(intent, 0))
    http.state(http.create_run("4" * 32, wanted()))  # a connection that is kept
    proxy.swallow(times=1, path="runs/create")
    for _ in range(2):
        done = drain(remote.path, lambda: http)
    assert (done.unsent, done.rejected) == (0, 0)
    [run_id] = http.created(intent)
    assert Sent.of(remote.path).ids == {intent: run_id}
    assert proxy.forwarded["/api/2.0/mlflow/runs/create"] == 2


def test_a_request_that_was_slow_and_made_a_second_run_is_undone_and_the_one_with_the_data_stays(
    remote: Writer, http: HttpTarget
) -> None:
    intent = "5" * 32
    remote.append(journal.line("create", intent, wanted()) + metric(intent, 0))
    drain(remote.path, lambda: http)
    [run_id] = http.created(intent)
    for _ in range(4):  # some of them sort before it
        http.create_run(intent, wanted())
    remote.append(journal.line("update", intent, {"status": "FINISHED", "end_time": 5}))
    assert drain(remote.path, lambda: http).unsent == 0
    assert http.created(intent) == [run_id]


def test_when_its_writer_is_killed_the_run_with_the_data_is_the_one_that_stays(
    remote: Writer, http: HttpTarget
) -> None:
    intent = "8" * 32
    remote.append(journal.line("create", intent, wanted()) + metric(intent, 0))
    drain(remote.path, lambda: http)
    [run_id] = http.created(intent)
    for _ in range(4):  # of a request that was slow; some of them sort before it
        http.create_run(intent, wanted())
    remote.close()
    with Stores() as stores:
        sweep(remote.folder, stores)
    assert http.created(intent) == [run_id]
    assert http.state(run_id) == ("FAILED", GONE)


def test_what_another_process_logs_to_a_run_begun_offline_finds_it(
    remote: Writer, http: HttpTarget, folder: Path, proxy: Proxy
) -> None:
    intent = "6" * 32
    child = Writer(folder / ".nbmlops" / "journal", proxy.url)
    remote.append(journal.line("create", intent, wanted()))
    child.append(metric(intent, 3) + journal.line("inputs", intent, {"datasets": []}))
    child.close()
    with Stores() as stores:
        assert [each.rejected for each in sweep(child.folder, stores)] == [0, 0]
    assert http._run(http.created(intent)[0])["data"]["metrics"][0]["step"] == 3


def test_a_run_whose_writer_died_before_it_heard_of_it_is_ended(writer: Writer, mlflow_store: Any) -> None:
    from mlflow.entities import RunTag

    intent = "7" * 32
    writer.append(journal.line("intend", intent))
    run_id = mlflow_store.create_run("0", "ann", 1, [RunTag("nbmlops.id", intent)], "a run").info.run_id
    writer.close()
    with Stores() as stores:
        sweep(writer.folder, stores)
    run = mlflow_store.get_run(run_id)
    assert (run.info.status, run.data.tags["nbmlops.error"]) == ("FAILED", GONE)
    assert journal.journals(writer.folder) == []


def test_a_living_writers_run_shows_so_and_is_running_again_when_it_was_taken_for_dead(
    writer: Writer, mlflow_store: Any, target: SqlTarget, tmp_path: Path
) -> None:
    run_id, by_hand = begun(mlflow_store), begun(mlflow_store)
    writer.append(journal.line("begin", run_id) + journal.line("begin", by_hand) + metric(run_id, 0))
    drain(writer.path, lambda: target)
    target.log_batch(delivery._tagged(run_id, "nbmlops.error", GONE))  # as another machine would
    target.update_run(run_id, {"status": "FAILED", "end_time": 5})
    target.update_run(by_hand, {"status": "KILLED", "end_time": 5})  # and this somebody wanted
    os.utime(writer.path, (1, 1))
    with Stores() as stores:
        sync.beat(writer.folder, stores)
    run = mlflow_store.get_run(run_id)
    assert (run.info.status, "nbmlops.error" in run.data.tags) == ("RUNNING", False)
    assert time.time() - float(run.data.tags["nbmlops.alive_at"]) < 60
    assert time.time() - writer.path.stat().st_mtime < 60
    assert mlflow_store.get_run(by_hand).info.status == "KILLED"
    writer.append(journal.line("update", run_id, {"status": "FINISHED", "end_time": 9}))
    drain(writer.path, lambda: target)
    assert mlflow_store.get_run(run_id).info.status == "FINISHED"


def test_a_run_that_was_taken_for_dead_and_ends_by_itself_has_no_error(
    writer: Writer, mlflow_store: Any, target: SqlTarget
) -> None:
    run_id = begun(mlflow_store)
    writer.append(journal.line("begin", run_id))
    drain(writer.path, lambda: target)
    target.log_batch(delivery._tagged(run_id, "nbmlops.error", GONE))  # as another machine would
    target.update_run(run_id, {"status": "FAILED", "end_time": 5})
    writer.append(journal.line("update", run_id, {"status": "FINISHED", "end_time": 9}))
    drain(writer.path, lambda: target)
    assert target.state(run_id) == ("FINISHED", "")


def test_what_is_refused_before_an_outage_is_kept_aside_once(
    writer: Writer, mlflow_store: Any, target: SqlTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id, log_batch = begun(mlflow_store), target.log_batch

    def away(batch: Batch | str) -> None:
        if batch == run_id or (isinstance(batch, Batch) and batch.run_id == run_id):
            raise UnreachableError("away")
        log_batch(batch)

    writer.append(metric("f" * 32, 0) + metric(run_id, 0))
    with monkeypatch.context() as patch:
        patch.setattr(target, "log_batch", away)
        patch.setattr(target, "probe", away)
        for _ in range(3):
            assert drain(writer.path, lambda: target).error == "away"
    assert drain(writer.path, lambda: target).rejected == 1
    assert len(writer.path.with_suffix(".rejected").read_bytes().splitlines()) == 1
    assert history(mlflow_store, run_id) == [(0, 0.5)]


def test_a_model_whose_creation_had_to_be_tried_again_is_uploaded_once(
    remote: Writer, http: HttpTarget, proxy: Proxy
) -> None:
    run_id = http.create_run("a" * 32, wanted(experiment_id="", experiment="of the server"))
    model = {"id": f"m-{'b' * 32}", "name": "trees", "params": {}, "tags": {}, "files": []}
    remote.append(journal.line("model", run_id, model))
    proxy.answer(500, path="logged-models")
    for _ in range(2):
        assert drain(remote.path, lambda: http).error
    proxy.pass_on()
    drain(remote.path, lambda: http, uploads="none")
    assert len(Sent.of(remote.path).files) == 1
    assert (drain(remote.path, lambda: http).unsent, drain(remote.path, lambda: http).rejected) == (0, 0)


# --------------------------------------------------------------------- journals
def test_journals_of_two_machines_go_into_one_postgres(
    mlflow_postgres: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copied folders, the same names of files among them, the password nowhere at rest."""
    target = open_target(mlflow_postgres)
    run_ids = []
    for machine in ("ann", "bob"):
        monkeypatch.setattr("socket.gethostname", lambda machine=machine: machine)
        place = tmp_path / machine / ".nbmlops" / "journal"
        writer = Writer(place, mlflow_postgres)
        run_ids.append(target.create_run(machine * 8, wanted()))
        writer.append(journal.line("begin", run_ids[-1]) + metric(run_ids[-1], 0) + metric(run_ids[-1], 1))
        writer.close()
    monkeypatch.undo()
    arrived = folder / ".nbmlops" / "journal"
    for machine in ("ann", "bob"):
        shutil.copytree(tmp_path / machine / ".nbmlops" / "journal", arrived, dirs_exist_ok=True)
    with Stores([mlflow_postgres]) as stores:
        assert [each.rejected for each in sweep(arrived, stores)] == [0, 0]
        assert [target.state(run_id)[0] for run_id in run_ids] == ["RUNNING"] * 2  # silent for how long is not known
        for path in journal.journals(arrived):
            os.utime(path, (1, 1))
        sweep(arrived, stores)
    assert [target.state(run_id) for run_id in run_ids] == [("FAILED", GONE)] * 2
    assert journal.journals(arrived) == []
    for machine in ("ann", "bob"):  # replayed once more, by mistake
        shutil.copytree(tmp_path / machine / ".nbmlops" / "journal", arrived, dirs_exist_ok=True)
    with Stores([mlflow_postgres]) as stores:
        sweep(arrived, stores)
    for run_id in run_ids:
        assert history(target._store, run_id) == [(0, 0.5), (1, 0.5)]


def test_a_journal_moved_into_another_project_speaks_of_that_projects_store(
    writer: Writer, mlflow_store: Any, empty_mlflow: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other" / ".nbmlops"
    other.mkdir(parents=True)
    shutil.copy(empty_mlflow, other / "mlflow.db")
    there = open_plain(f"sqlite:///{other}/mlflow.db")
    run_id = begun(there)
    writer.append(metric(run_id, 0))
    writer.close()
    shutil.move(writer.folder, other / "journal")
    with Stores() as stores:
        sweep(other / "journal", stores)
    assert history(there, run_id) == [(0, 0.5)]


def test_a_password_is_never_at_rest(folder: Path) -> None:
    url = "postgresql://ann:s3cr3t@127.0.0.1:1/db"
    writer = Writer(folder / ".nbmlops" / "journal", url)
    writer.append(metric("r" * 32, 0))
    with Stores([url]) as stores:
        [done] = sweep(writer.folder, stores)
    assert "refused" in done.error
    writer.close()
    for path in writer.folder.iterdir():
        assert b"s3cr3t" not in path.read_bytes()


def test_a_store_out_of_reach_keeps_the_others_waiting_only_once(writer: Writer) -> None:
    patience = sender.Patience()
    failed = delivery.Delivered(writer.path, 0, 0, 1, "refused")
    patience.heard(failed)
    assert not patience.is_due(writer.path)
    assert patience.is_due(writer.path.with_name("other.jsonl"))
    patience.heard(delivery.Delivered(writer.path, 1, 0, 0))
    assert patience.is_due(writer.path)


def test_delivery_over_http_imports_no_mlflow(mlflow_server: str, folder: Path) -> None:
    code = """
import sys
from pathlib import Path
from nbmlops.tracking import journal
from nbmlops.tracking.journal.sender import Stores, sweep
from nbmlops.tracking.journal.target_http import HttpTarget

url, folder = sys.argv[1], Path(sys.argv[2])
target = HttpTarget(url)
wanted = {"experiment_id": "", "experiment": "of it", "user_id": "", "run_name": "", "start_time": 1, "tags": {}}
run_id = target.create_run("8" * 32, wanted)
target.close()
writer = journal.Writer(folder, url)
writer.append(journal.line("begin", run_id) + journal.metric(run_id, "loss", 0.5, 1, 0))
writer.append(journal.line("file", run_id, {"place": "", "path": "a.txt", **writer.copy(b"a")}))
writer.close()
with Stores() as stores:
    assert [each.unsent for each in sweep(folder, stores)] == [0]
assert not journal.journals(folder)
print([name for name in ("mlflow", "pandas", "sqlalchemy", "numpy") if name in sys.modules])
"""
    command = [sys.executable, "-W", "error", "-c", code, mlflow_server, str(folder / ".nbmlops" / "journal")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
