"""The contract of the journaled store: on every kind of store, each call's result or error is the plain store's own.

One table of calls. Each is made on MLflow's own store and on the journaled one, on a run of its own; what the call
gives or raises, and all that is in the store afterwards, must be the same.
"""

import re
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelInput,
    LoggedModelOutput,
    Metric,
    Param,
    RunStatus,
    RunTag,
    ViewType,
)

from nbmlops.project import patient
from nbmlops.tracking.plugin.stores import JournaledStore
from nbmlops.tracking.store import journaled, open_plain

NOW = 1_700_000_000_000
Call = Callable[[Any, str], Any]  # of a store, with the id of a run
CALLS: dict[str, Call] = {}


def call(act: Call) -> Call:
    CALLS[act.__name__.replace("_", " ").strip()] = act
    return act


def point(value: Any = 0.5, at: Any = NOW, step: Any = 0, key: Any = "m", **extras: Any) -> Metric:
    return Metric(key, value, at, step, **extras)


def data(name: Any = "n", digest: Any = "d", source: Any = "s", tags: Any = (), **more: Any) -> list[DatasetInput]:
    return [DatasetInput(Dataset(name, digest, "t", source, **more), [InputTag(*each) for each in tags])]


# ----------------------------------------------------------------- values, keys, ids
NUMBERS = [1, 0.1, True, float("nan"), float("inf"), -float("inf"), 1e308, 1e-320, "1.5", "a", None, 2**70, [1]]
for number in NUMBERS:
    CALLS[f"metric {number!r}"] = lambda s, r, v=number: s.log_metric(r, point(v))
for when in (0, -1, None, 1.5, "1", 2**63):
    CALLS[f"timestamp {when!r}"] = lambda s, r, v=when: s.log_metric(r, point(at=v))
for step in (-5, None, 1.5, "1", 2**63 - 1, 2**63):
    CALLS[f"step {step!r}"] = lambda s, r, v=step: s.log_metric(r, point(step=v))
KEYS = ["", "a/b", "/a", "a//b", "..", "a b", "é", "a\nb", "k" * 250, "k" * 251, None, 5, "a:b", "a\0b", "\ud800"]
for key in KEYS:
    CALLS[f"metric named {str(key)[:9]!r} {len(str(key))}"] = lambda s, r, k=key: s.log_metric(r, point(key=k))
    CALLS[f"param named {str(key)[:9]!r} {len(str(key))}"] = lambda s, r, k=key: s.log_param(r, Param(k, "v"))
    CALLS[f"tag named {str(key)[:9]!r} {len(str(key))}"] = lambda s, r, k=key: s.set_tag(r, RunTag(k, "v"))
for value in ("", "v" * 6000, "v" * 9000, None, 5, True, 'é\n"\\', "a\0b", "\ud800", [1]):
    name = f"{str(value)[:9]!r} {len(str(value))} {type(value).__name__}"
    CALLS[f"param {name}"] = lambda s, r, v=value: s.log_param(r, Param("p", v))
    CALLS[f"tag {name}"] = lambda s, r, v=value: s.set_tag(r, RunTag("t", v))
    CALLS[f"batch of {name}"] = lambda s, r, v=value: s.log_batch(r, [], [Param("p", v)], [RunTag("t", v)])
for wrong in ("nope", "0" * 32, "", None, 5):
    CALLS[f"metric to {wrong!r}"] = lambda s, _, w=wrong: s.log_metric(w, point())
    CALLS[f"param to {wrong!r}"] = lambda s, _, w=wrong: s.log_param(w, Param("p", "1"))
    CALLS[f"tag to {wrong!r}"] = lambda s, _, w=wrong: s.set_tag(w, RunTag("t", "1"))
    CALLS[f"batch to {wrong!r}"] = lambda s, _, w=wrong: s.log_batch(w, [point()], [], [])
    CALLS[f"nothing to {wrong!r}"] = lambda s, _, w=wrong: s.log_batch(w, [], [], [])
    CALLS[f"inputs to {wrong!r}"] = lambda s, _, w=wrong: s.log_inputs(w, data())
    CALLS[f"end of {wrong!r}"] = lambda s, _, w=wrong: s.update_run_info(w, RunStatus.FINISHED, NOW, None)
    CALLS[f"get {wrong!r}"] = lambda s, _, w=wrong: s.get_run(w)
INPUTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "whole": {"schema": "{}", "profile": "{}", "tags": [("mlflow.data.context", "train")]},
    "without a name": {"name": None},
    "without a digest": {"digest": None},
    "without a source": {"source": None},
    "of a long name": {"name": "n" * 501},
    "of a long digest": {"digest": "d" * 37},
    "of a long source": {"source": "s" * 70_000},
    "with a tag of no value": {"tags": [("k", None)]},
    "with a long tag": {"tags": [("k", "v" * 501)]},
    "with a tag twice": {"tags": [("a", "1"), ("a", "2")]},
}
for name, given in INPUTS.items():
    CALLS[f"inputs {name}"] = lambda s, r, g=given: s.log_inputs(r, data(**g))


# ---------------------------------------------------------------------- several calls
@call
def param_twice(s: Any, r: str) -> None:
    s.log_param(r, Param("p", "1"))
    s.log_param(r, Param("p", "1"))


@call
def param_changed(s: Any, r: str) -> None:
    s.log_param(r, Param("p", "1"))
    s.log_param(r, Param("p", "2"))


@call
def param_changed_by_a_batch(s: Any, r: str) -> None:
    s.log_param(r, Param("p", "1"))
    s.log_batch(r, [point()], [Param("q", "1"), Param("p", "2")], [RunTag("a", "b")])


@call
def param_twice_in_a_batch(s: Any, r: str) -> None:
    s.log_batch(r, [], [Param("p", "1"), Param("p", "1")], [])


@call
def too_many_metrics(s: Any, r: str) -> None:
    s.log_batch(r, [point(step=step) for step in range(1001)], [], [])


@call
def too_many_tags(s: Any, r: str) -> None:
    s.log_batch(r, [], [], [RunTag(f"t{n}", "1") for n in range(101)])


@call
def batch_of_nothing(s: Any, r: str) -> None:
    s.log_batch(r, [], [], [])


@call
def batch_with_one_that_is_wrong(s: Any, r: str) -> None:
    s.log_batch(r, [point(), point("x", key="bad")], [], [])


@call
def the_same_metric_again_and_again(s: Any, r: str) -> None:
    for value in (1.0, 3.0, 2.0, 3.0, float("nan")):
        s.log_metric(r, point(value))


@call
def the_latest_is_of_the_largest_step_then_time_then_value(s: Any, r: str) -> Any:
    for value, at, step in ((1, NOW, 5), (2, NOW + 1, 4), (3, NOW - 1, 5), (4, NOW, 5), (2.5, NOW, 5)):
        s.log_metric(r, point(value, at, step))
    return s.get_run(r).data.metrics


@call
def tag_set_deleted_and_set(s: Any, r: str) -> None:
    s.set_tag(r, RunTag("t", "1"))
    s.delete_tag(r, "t")
    s.set_tag(r, RunTag("t", "2"))


@call
def tag_deleted_that_never_was(s: Any, r: str) -> None:
    s.delete_tag(r, "t")


@call
def name_by_tag(s: Any, r: str) -> None:
    s.set_tag(r, RunTag("mlflow.runName", "other"))
    s.log_batch(r, [], [], [RunTag("mlflow.runName", "another")])


@call
def end(s: Any, r: str) -> Any:
    info = s.update_run_info(r, RunStatus.FAILED, NOW + 5, "renamed")
    return info.status, info.end_time, info.run_name


@call
def end_and_begin_again(s: Any, r: str) -> Any:
    s.update_run_info(r, RunStatus.FAILED, NOW + 5, None)
    info = s.update_run_info(r, RunStatus.RUNNING, None, None)
    return info.status, info.end_time


@call
def log_after_the_end(s: Any, r: str) -> None:
    s.update_run_info(r, RunStatus.FINISHED, NOW + 5, None)
    s.log_metric(r, point())
    s.log_param(r, Param("p", "1"))


AFTER: dict[str, Call] = {
    "metric": lambda s, r: s.log_metric(r, point()),
    "param": lambda s, r: s.log_param(r, Param("p", "1")),
    "tag": lambda s, r: s.set_tag(r, RunTag("t", "1")),
    "batch": lambda s, r: s.log_batch(r, [point()], [], []),
    "inputs": lambda s, r: s.log_inputs(r, data()),
    "end": lambda s, r: s.update_run_info(r, RunStatus.FINISHED, NOW, None).status,
    "restored, metric": lambda s, r: (s.restore_run(r), s.log_metric(r, point())),
}
for name, after in AFTER.items():
    CALLS[f"deleted, {name}"] = lambda s, r, a=after: (s.delete_run(r), a(s, r))
    CALLS[f"experiment deleted, {name}"] = lambda s, r, a=after: (
        s.delete_experiment(s.get_run(r).info.experiment_id),
        a(s, r),
    )


@call
def inputs_twice(s: Any, r: str) -> None:
    s.log_inputs(r, data(tags=[("a", "1")]))
    s.log_inputs(r, data(tags=[("a", "2")]))


@call
def an_unknown_model(s: Any, r: str) -> None:
    s.log_metric(r, point(model_id="m-nope"))


@call
def an_unknown_model_as_input(s: Any, r: str) -> None:
    s.log_inputs(r, models=[LoggedModelInput("m-nope")])


@call
def a_models_metrics_and_outputs(s: Any, r: str) -> Any:
    model = s.create_logged_model(s.get_run(r).info.experiment_id, "trees", source_run_id=r)
    s.log_metric(r, point(1.0, model_id=model.model_id))
    s.log_metric(r, point(2.0, step=1, model_id=model.model_id, dataset_name="n", dataset_digest="d"))
    s.log_outputs(r, [LoggedModelOutput(model.model_id, 3)])
    metrics = s.get_logged_model(model.model_id).metrics
    outputs = [each.step for each in s.get_run(r).outputs.model_outputs]
    return [(each.value, each.step, each.dataset_name, each.dataset_digest) for each in metrics], outputs


@call
def search(s: Any, r: str) -> Any:
    s.log_batch(r, [point()], [Param("p", "v")], [RunTag("t", "z")])
    where = "metrics.m > 0.4 and params.p = 'v' and tags.t = 'z'"
    found = s.search_runs([s.get_run(r).info.experiment_id], where, ViewType.ACTIVE_ONLY, 10, ["metrics.m DESC"])
    return [run.info.run_id for run in found]


@call
def a_page_of_a_history(s: Any, r: str) -> Any:
    for step in range(5):
        s.log_metric(r, point(step / 4, step=step))
    return [(each.step, each.value) for each in s.get_metric_history(r, "m", None, None)]


@call
def asynchronous(s: Any, r: str) -> None:
    s.log_batch_async(r, [point()], [Param("p", "1")], [RunTag("t", "1")]).wait()
    s.flush_async_logging()


CREATIONS: dict[str, tuple[Any, ...]] = {
    "plain": ("u", NOW, [], "n"),
    "without a user": (None, NOW, [], "n"),
    "without a time": ("u", None, [], "n"),
    "of two names": ("u", NOW, [RunTag("mlflow.runName", "x")], "y"),
    "with a tag of None": ("u", NOW, [RunTag("a", None)], "n"),
}
for name, given in CREATIONS.items():
    CALLS[f"run {name}"] = lambda s, r, g=given: made(s.create_run(s.get_run(r).info.experiment_id, *g))
CALLS["run in no experiment"] = lambda s, _: made(s.create_run("987654321", "u", NOW, [], "n"))
CALLS["experiment twice"] = lambda s, r: s.create_experiment(s.get_experiment(s.get_run(r).info.experiment_id).name)
CALLS["experiment of no name"] = lambda s, _: s.create_experiment(None)
CALLS["experiment by an unknown name"] = lambda s, _: s.get_experiment_by_name("nope")
CALLS["experiment by an unknown id"] = lambda s, _: s.get_experiment("987654321")


def made(run: Any) -> Any:
    return run.info.user_id, run.info.start_time, run.info.run_name, _own_tags(run)


def _own_tags(run: Any) -> dict[str, Any]:
    """Give a run's tags without the id that makes its creation on a server safe."""
    return {key: value for key, value in sorted(run.data.tags.items()) if key != "nbmlops.id"}


def outcome(act: Callable[[], Any]) -> str:
    try:
        return f"gives {act()!r}"
    except Exception as exc:  # noqa: BLE001  # the error is what is compared
        return f"raises {type(exc).__name__} {getattr(exc, 'error_code', '')}: {exc}"


def state(store: Any, run_id: str) -> dict[str, Any]:
    """Read all that a store has of a run."""
    run = store.get_run(run_id)
    return {
        "info": (run.info.status, run.info.end_time, run.info.run_name, run.info.lifecycle_stage),
        "params": dict(sorted(run.data.params.items())),
        "tags": _own_tags(run),
        "metrics": {
            key: (repr(last), [(each.timestamp, each.step, repr(each.value)) for each in history(store, run_id, key)])
            for key, last in sorted(run.data.metrics.items())
        },
        "inputs": [
            (each.dataset.name, each.dataset.digest, sorted((tag.key, tag.value) for tag in each.tags))
            for each in (run.inputs.dataset_inputs if run.inputs else [])
        ],
    }


def history(store: Any, run_id: str, key: str) -> list[Any]:
    return sorted(store.get_metric_history(run_id, key, None, None), key=lambda each: (each.step, each.timestamp))


def tried(store: Any, plain: Any, experiment: str, act: Call) -> tuple[str, str]:
    """Make a call on a run of its own, and give its outcome and what is in the plain store then, without any ids."""
    run_id = store.create_run(experiment, "u", NOW, [RunTag("mlflow.runName", "n")], None).info.run_id
    answer = outcome(lambda: act(store, run_id))
    store.get_run(run_id)  # whatever was logged is delivered by now
    words = answer, outcome(lambda: state(plain, run_id))
    return tuple(_without_ids(each) for each in words)  # type: ignore[return-value]


def _without_ids(words: str) -> str:
    """Take out ids, times, ports and what else is another one each time."""
    words = re.sub(
        r"m-[0-9a-f]{32}|x?[0-9a-f]{32}|\b1[789]\d{11}\b|http://\S+|(?<=0\.5, )\d+|(?<= from )\S+", "…", words
    )
    return words[:600]


@pytest.fixture
def url(request: pytest.FixtureRequest, store: str, folder: Path) -> str:
    """The plain URL of each kind of store in turn."""
    urls = {"postgres": "mlflow_postgres", "http": "mlflow_server"}
    return str(request.getfixturevalue(urls[store])) if store in urls else f"sqlite:///{folder}/.nbmlops/mlflow.db"


def compared(url: str, folder: Path, calls: Mapping[str, Call]) -> str:
    """Make calls on both stores; word what differs."""
    plain, ours = open_plain(patient(url)), JournaledStore(journaled(url), (folder / "artifacts").as_uri())
    told = []
    shared = [store.create_experiment(f"x{uuid.uuid4().hex}") for store in (plain, ours)]
    for name, act in calls.items():
        if name.startswith("experiment"):  # it may delete it
            shared = [store.create_experiment(f"x{uuid.uuid4().hex}") for store in (plain, ours)]
        expected, found = tried(plain, plain, shared[0], act), tried(ours, plain, shared[1], act)
        if name.startswith("experiment"):
            shared = [store.create_experiment(f"x{uuid.uuid4().hex}") for store in (plain, ours)]
        told += [f"{name}\n  plain {a}\n  ours  {b}" for a, b in zip(expected, found, strict=True) if a != b]
    ours.outbox.close(8.0)
    return "\n".join(told)


def test_calls_do_what_the_plain_store_does(url: str, folder: Path, store: str) -> None:
    """All of them on SQLite, and every third on the others."""
    start, pace = {"sqlite": (0, 1), "postgres": (0, 3), "http": (1, 3)}[store]
    assert compared(url, folder, dict(list(CALLS.items())[start::pace])) == ""


@pytest.mark.soak
@pytest.mark.parametrize("store", ["postgres", "http"], indirect=True)
def test_every_call_does_what_the_plain_store_does(url: str, folder: Path) -> None:
    assert compared(url, folder, CALLS) == ""
