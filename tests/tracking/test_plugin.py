"""The store in front of a store: what it journals, what it passes on, and what happens when no answer comes."""

import multiprocessing
import os
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.entities import Dataset, DatasetInput, LoggedModelInput, Metric, Param, RunStatus, RunTag
from mlflow.exceptions import MlflowException

from nbmlops.project import Project
from nbmlops.tracking import journal
from nbmlops.tracking.capture import facts
from nbmlops.tracking.journal.sync import Stores, sweep
from nbmlops.tracking.mlflow import Tracking
from nbmlops.tracking.plugin import stores
from nbmlops.tracking.plugin.line import ASKING
from nbmlops.tracking.plugin.stores import JournaledStore
from nbmlops.tracking.store import journaled, open_plain
from tests.faults.conftest import proxy, steady_server  # noqa: F401  # fixtures
from tests.faults.proxy import Proxy

NOW = 1_700_000_000_000


@pytest.fixture
def sqlite(folder: Path) -> Iterator[JournaledStore]:
    """The journaled store of a project's embedded database."""
    store = JournaledStore(journaled(f"sqlite:///{folder}/.nbmlops/mlflow.db"), (folder / "artifacts").as_uri())
    yield store
    store.outbox.close(8.0)


@pytest.fixture
def http(folder: Path, proxy: Proxy) -> Iterator[JournaledStore]:  # noqa: F811
    """The journaled store of an MLflow server behind a proxy that fails as told."""
    store = JournaledStore(journaled(proxy.url))
    yield store
    proxy.pass_on()
    store.outbox.close(8.0)


def begun(store: JournaledStore) -> str:
    return str(store.create_run("0", "ann", NOW, [RunTag("nbmlops.id", uuid.uuid4().hex)], "night").info.run_id)


def kinds(store: JournaledStore) -> list[str]:
    """List the kinds of records that the journal holds."""
    if not store.outbox.writer.is_open:
        return []
    return [record[0] for _, record in journal.read(store.outbox.writer.path, 0)[0] if record[0] != "header"]


# ------------------------------------------------------------------ what is an outage
def test_a_callers_mistake_is_no_outage(sqlite: JournaledStore, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(MlflowException, match="user_id cannot be None") as caught:
        sqlite.create_run("0", None, NOW, [], "night")
    assert caught.value.error_code == "INTERNAL_ERROR"
    assert not sqlite.outbox.line.is_cut
    assert "out of reach" not in capfd.readouterr().err


def test_a_locked_database_is_an_outage_and_the_run_begins_all_the_same(
    sqlite: JournaledStore, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    begun(sqlite)
    with sqlite3.connect(folder / ".nbmlops" / "mlflow.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        started = time.monotonic()
        run_id = begun(sqlite)
        sqlite.log_metric(run_id, Metric("auc", 0.5, NOW, 0))
        assert time.monotonic() - started < 8
        other.execute("ROLLBACK")
    assert "out of reach" in capfd.readouterr().err
    assert sqlite.outbox.flush(is_urgent=True)
    assert sqlite.get_run(run_id).data.metrics == {"auc": 0.5}
    sqlite.update_run_info(run_id, RunStatus.FINISHED, NOW, None)
    assert sqlite.outbox.flush()
    for thread in threading.enumerate():
        if thread.name == ASKING:  # the request that was slow: it may still make its run, and undoes that then
            thread.join(60)
            assert not thread.is_alive()
    assert len(open_plain(sqlite.uri).search_runs(["0"], "", 1)) == 2  # no third one of it


def test_a_creation_that_comes_after_all_is_undone_though_the_run_has_ended(
    sqlite: JournaledStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(sqlite)
    waits, create = threading.Event(), sqlite.inner.create_run
    calls: list[str] = []

    def first_one_waits(*args: Any) -> Any:
        calls.append("")
        if len(calls) == 1:
            waits.wait(60)
        made = create(*args)
        calls.append(made.info.run_id)
        return made

    monkeypatch.setattr(stores, "LOCK_S", 0.1)
    monkeypatch.setattr(sqlite.inner, "create_run", first_one_waits)
    run_id = begun(sqlite)
    assert sqlite.outbox.flush(is_urgent=True)
    sqlite.update_run_info(run_id, RunStatus.FINISHED, NOW, None)
    assert sqlite.outbox.flush()
    waits.set()
    deadline = time.monotonic() + 60
    while len(open_plain(sqlite.uri).search_runs(["0"], "", 1)) != 2 or len(calls) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert open_plain(sqlite.uri).get_run(calls[-1]).info.lifecycle_stage == "deleted"


def test_errors_of_a_server_and_of_connections_are_outages(http: JournaledStore, proxy: Proxy) -> None:  # noqa: F811
    begun(http)
    for fail in (lambda: proxy.answer(500), lambda: proxy.answer(503), proxy.refuse, proxy.reset):
        fail()
        http.outbox.line.mend()
        assert http.create_run("0", "ann", NOW, [], "night").info.artifact_uri.startswith("nbmlops-journal:/")
        proxy.pass_on()


# ---------------------------------------------------------------- what is journaled
ODD: dict[str, Any] = {
    "a timestamp of a fraction": lambda s, r: s.log_metric(r, Metric("m", 1.0, NOW + 0.5, 0)),
    "a timestamp beyond 64 bits": lambda s, r: s.log_metric(r, Metric("m", 1.0, 2**63, 0)),
    "a step of a fraction": lambda s, r: s.log_metric(r, Metric("m", 1.0, NOW, 1.5)),
    "a step beyond 64 bits": lambda s, r: s.log_metric(r, Metric("m", 1.0, NOW, 2**63)),
    "a param that is None": lambda s, r: s.log_param(r, Param("p", None)),
    "a param that is a list": lambda s, r: s.log_param(r, Param("p", [1])),
    "a param that is no UTF-8": lambda s, r: s.log_param(r, Param("p", "\ud800")),
    "a tag that is None": lambda s, r: s.set_tag(r, RunTag("t", None)),
    "a tag whose key is a number": lambda s, r: s.set_tag(r, RunTag(5, "v")),
    "a batch with a None": lambda s, r: s.log_batch(r, [], [Param("p", None)], [RunTag("t", "v")]),
    "a metric of an unknown model": lambda s, r: s.log_metric(r, Metric("m", 1.0, NOW, 0, model_id="m-nope")),
    "an input that is too long": lambda s, r: s.log_inputs(r, [DatasetInput(Dataset("n", "d" * 37, "t", "s"), [])]),
    "an input without a source": lambda s, r: s.log_inputs(r, [DatasetInput(Dataset("n", "d", "t", None), [])]),
    "an unknown model as input": lambda s, r: s.log_inputs(r, models=[LoggedModelInput("m-nope")]),
}


@pytest.mark.parametrize("what", ODD)
def test_what_is_unusual_is_not_journaled_but_judged_by_mlflows_store(sqlite: JournaledStore, what: str) -> None:
    def outcome(store: Any) -> str:
        run_id = open_plain(sqlite.uri).create_run("0", "ann", NOW, [], "night").info.run_id
        try:
            return str(ODD[what](store, run_id))
        except Exception as exc:  # noqa: BLE001
            return f"{type(exc).__name__} {getattr(exc, 'error_code', '')} {exc}".replace(run_id, "")[:60]

    assert outcome(sqlite) == outcome(open_plain(sqlite.uri))
    assert kinds(sqlite) == []


def test_metrics_of_a_known_model_are_journaled(sqlite: JournaledStore) -> None:
    run_id = begun(sqlite)
    model = sqlite.create_logged_model("0", "trees", source_run_id=run_id)
    sqlite.log_metric(run_id, Metric("auc", 0.5, NOW, 0, model_id=model.model_id))
    sqlite.log_inputs(run_id, models=[LoggedModelInput(model.model_id)])
    assert kinds(sqlite)[-2:] == ["metric", "inputs"]
    assert [point.value for point in sqlite.get_logged_model(model.model_id).metrics] == [0.5]


def test_a_deleted_run_takes_nothing(sqlite: JournaledStore) -> None:
    run_id = begun(sqlite)
    sqlite.log_metric(run_id, Metric("auc", 0.5, NOW, 0))
    sqlite.delete_run(run_id)
    for act in (
        lambda: sqlite.log_metric(run_id, Metric("auc", 0.5, NOW, 1)),
        lambda: sqlite.log_inputs(run_id, [DatasetInput(Dataset("n", "d", "t", "s"), [])]),
        lambda: sqlite.update_run_info(run_id, RunStatus.FINISHED, NOW, None),
        lambda: sqlite.update_run_info(run_id, RunStatus.RUNNING, None, None),
    ):
        with pytest.raises(MlflowException, match="must be in the 'active' state"):
            act()
    sqlite.restore_run(run_id)
    sqlite.log_metric(run_id, Metric("auc", 0.6, NOW, 1))
    assert kinds(sqlite)[-1] == "metric"
    assert sqlite.get_run(run_id).data.metrics == {"auc": 0.6}


def test_deleting_a_tag_leaves_the_run_as_it_is(sqlite: JournaledStore) -> None:
    run_id = begun(sqlite)
    sqlite.set_tag(run_id, RunTag("note", "good"))
    sqlite.delete_tag(run_id, "note")
    sqlite.update_run_info(run_id, RunStatus.FINISHED, NOW, None)
    assert kinds(sqlite)[-1] == "update"


def test_a_database_in_memory_has_no_journal(folder: Path) -> None:
    from nbmlops.tracking.plugin.entry_points import tracking_store

    assert not isinstance(tracking_store("nbmlops+sqlite:///:memory:"), JournaledStore)


# ------------------------------------------------------------------- lost answers
def test_a_model_version_whose_answer_is_lost_is_created_once(http: JournaledStore, proxy: Proxy) -> None:  # noqa: F811
    client = mlflow.MlflowClient(journaled(proxy.url), journaled(proxy.url))
    name = f"model {uuid.uuid4().hex[:8]}'s"
    for fault in (proxy.swallow, proxy.reset):
        fault(times=1, path="registered-models/create")
        assert client.create_registered_model(f"{name} {fault.__name__}").name.startswith(name)
    model = f"{name} swallow"
    for _ in range(3):
        proxy.swallow(times=1, path="model-versions/create")
        client.create_model_version(model, "s3://bucket/model")
        proxy.reset(times=1, path="model-versions/create")
        client.create_model_version(model, "s3://bucket/model")
    found = [int(version.version) for version in client.search_model_versions(f'name = "{model}"')]
    assert sorted(found) == [1, 2, 3, 4, 5, 6]
    with pytest.raises(MlflowException) as caught:
        client.create_registered_model(model)
    assert caught.value.error_code == "RESOURCE_ALREADY_EXISTS"


def test_a_run_or_an_experiment_whose_answer_is_lost_is_created_once(
    http: JournaledStore,
    proxy: Proxy,  # noqa: F811
) -> None:
    plain = open_plain(proxy.url)
    name = uuid.uuid4().hex
    proxy.swallow(times=1, path="experiments/create")
    experiment = http.create_experiment(name)
    assert plain.get_experiment_by_name(name).experiment_id == experiment
    proxy.swallow(times=1, path="runs/create")
    run = http.create_run(experiment, "ann", NOW, [], "night")
    http.log_metric(run.info.run_id, Metric("auc", 0.5, NOW, 0))
    assert http.outbox.flush(is_urgent=True)
    [found] = plain.search_runs([experiment], "", 1)
    assert found.data.metrics == {"auc": 0.5}


@pytest.mark.parametrize("fault", ["refuse", "hang", "reset"])
def test_what_needs_an_answer_says_so_at_once_while_the_server_is_away(
    http: JournaledStore,
    proxy: Proxy,  # noqa: F811
    fault: str,
) -> None:
    run_id = begun(http)
    getattr(proxy, fault)()
    http.log_metric(run_id, Metric("auc", 0.5, NOW, 0))
    started = time.monotonic()
    with pytest.raises(MlflowException, match="out of reach: create_logged_model needs its answer") as caught:
        http.create_logged_model("0", "trees", source_run_id=run_id)
    assert caught.value.error_code == "TEMPORARILY_UNAVAILABLE"
    assert time.monotonic() - started < 20
    http.log_metric(run_id, Metric("auc", 0.6, NOW, 1))
    proxy.pass_on()
    assert [point.value for point in http.get_metric_history(run_id, "auc")] == [0.5, 0.6]


# ------------------------------------------------------- threads, forks and folders
def _log_from(run_id: str, place: int) -> int:
    for step in range(5):
        mlflow.MlflowClient().log_metric(run_id, f"worker {place}", step / 4, NOW, step)
    return os.getpid()


@pytest.fixture
def run_id(folder: Path) -> Iterator[str]:
    """The id of a run that is active in this process, in a project's embedded database behind its journal."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(journaled(f"sqlite:///{folder}/.nbmlops/mlflow.db"))
    with mlflow.start_run() as run:
        yield run.info.run_id
    mlflow.set_tracking_uri(before)


def logged(folder: Path, run_id: str) -> dict[str, float]:
    from mlflow.tracking._tracking_service.utils import _get_store

    assert _get_store().outbox.flush()
    with sqlite3.connect(folder / ".nbmlops" / "mlflow.db") as connection:
        rows = connection.execute("SELECT key, COUNT(*) FROM metrics WHERE run_uuid = ? GROUP BY key", [run_id])
        return dict(rows.fetchall())


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.soak)])
def test_what_workers_log_arrives_and_the_run_goes_on(folder: Path, run_id: str, method: str) -> None:
    mlflow.log_metric("before", 1.0)
    with multiprocessing.get_context(method).Pool(2) as pool:
        workers = set(pool.starmap(_log_from, [(run_id, place) for place in range(4)]))
        pool.close()
        pool.join()
    assert os.getpid() not in workers
    mlflow.log_metric("after", 1.0)
    assert logged(folder, run_id) == {f"worker {place}": 5 for place in range(4)} | {"before": 1, "after": 1}
    assert mlflow.get_run(run_id).info.status == "RUNNING"


def test_what_joblibs_workers_log_arrives(folder: Path, run_id: str) -> None:
    from joblib import Parallel, delayed
    from joblib.externals.loky import get_reusable_executor

    Parallel(n_jobs=2)(delayed(_log_from)(run_id, place) for place in range(2))
    get_reusable_executor().shutdown(wait=True)
    with Stores() as stores:  # a worker's end is bounded: on a busy machine it leaves its journal to the next
        sweep(folder / ".nbmlops" / "journal", stores)
    assert logged(folder, run_id) == {"worker 0": 5, "worker 1": 5}


def test_what_threads_log_arrives(folder: Path, run_id: str) -> None:
    threads = [threading.Thread(target=_log_from, args=(run_id, place)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert logged(folder, run_id) == {f"worker {place}": 5 for place in range(4)}


def test_code_and_environment_are_kept_while_the_run_is_open_and_once(folder: Path, run_id: str) -> None:
    from mlflow.tracking._tracking_service.utils import _get_store

    store = _get_store()

    def kept() -> list[str]:
        told = {"tag": lambda rest: rest[0], "file": lambda rest: rest[0]["path"]}
        return [told[kind](rest) for kind, _, *rest in store.outbox.records(run_id) if kind in told]

    deadline = time.monotonic() + 60
    while facts.LOCK not in kept():  # the process may be killed any time
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert {"nbmlops.environment", "nbmlops.python", "nbmlops.machine"} <= set(kept())
    assert facts.ENVIRONMENT not in kept()
    mlflow.end_run()
    assert [kept().count(name) for name in (facts.LOCK, facts.ENVIRONMENT, "nbmlops.environment")] == [1, 1, 1]


def test_a_run_that_goes_on_after_its_end_is_this_process_own_again(run_id: str) -> None:
    from mlflow.tracking._tracking_service.utils import _get_store

    mlflow.end_run()
    mlflow.start_run(run_id=run_id)
    assert _get_store().outbox.flush()
    assert run_id in journal.Sent.of(_get_store().outbox.writer.path).open
    assert mlflow.get_run(run_id).info.status == "RUNNING"
    mlflow.end_run("KILLED")
    assert mlflow.get_run(run_id).info.status == "KILLED"


def test_a_run_ends_as_it_did_whatever_of_it_could_not_be_kept(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> dict[str, str]:
        raise OSError("No space left on device")

    monkeypatch.setattr(facts, "run_files", refused)
    with pytest.raises(OSError, match="No space left"):
        mlflow.end_run()
    assert mlflow.get_run(run_id).info.status == "FINISHED"


def test_a_child_that_ends_does_not_end_its_parents_run(folder: Path) -> None:
    code = """
import os, sys, mlflow
run = mlflow.start_run()
if (child := os.fork()) == 0:
    mlflow.MlflowClient().log_metric(run.info.run_id, "in the child", 1.0)
    sys.exit()
os.waitpid(child, 0)
print(mlflow.get_run(run.info.run_id).info.status)
"""
    address = journaled(f"sqlite:///{folder}/.nbmlops/mlflow.db")
    environment = {**os.environ, "MLFLOW_TRACKING_URI": address}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "RUNNING\n", done.stderr
    [run] = open_plain(address.removeprefix("nbmlops+")).search_runs(["0"], "", 1)
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"in the child": 1.0})


def test_a_folder_that_is_left_makes_no_difference(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = JournaledStore("nbmlops+sqlite:///.nbmlops/mlflow.db", (folder / "artifacts").as_uri())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run_id = begun(store)
    store.log_metric(run_id, Metric("auc", 0.5, NOW, 0))
    assert store.outbox.writer.path.parent == folder / ".nbmlops" / "journal"
    store.outbox.close(8.0)
    assert open_plain(f"sqlite:///{folder}/.nbmlops/mlflow.db").get_run(run_id).data.metrics == {"auc": 0.5}
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_project_on_a_server_keeps_its_journal_when_the_folder_is_left(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    proxy: Proxy,  # noqa: F811
) -> None:
    (folder / "nbmlops.toml").write_text(f'[project]\nname = "far"\n[stores]\ntracking = "{proxy.url}"\n')
    monkeypatch.chdir(tmp_path)
    uri = Project(folder).open(Tracking).uri
    assert JournaledStore(uri).outbox.writer.folder == folder / ".nbmlops" / "journal"
