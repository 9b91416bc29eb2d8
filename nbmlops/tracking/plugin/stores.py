"""MLflow's tracking store with a journal in front, under ``nbmlops+sqlite``, ``+postgresql``, ``+http``.

What is logged to a run that is known to be there is written to the journal and delivered later; everything else,
and whatever is in doubt, is asked of MLflow's own store behind, after the journal has been delivered.
"""

import atexit
import functools
import os
import threading
import uuid
from collections.abc import Callable, Iterable
from multiprocessing import util as workers
from pathlib import Path
from typing import Any, TypeVar

from nbmlops.project import patient
from nbmlops.scrub import without_remembered
from nbmlops.tracking import journal, plugin, session
from nbmlops.tracking.journal import ABOVE, Sent
from nbmlops.tracking.journal.delivery import UnreachableError
from nbmlops.tracking.owner import owner_tags
from nbmlops.tracking.plugin import wording
from nbmlops.tracking.plugin.keeping import Keeping
from nbmlops.tracking.plugin.line import ANSWER_S
from nbmlops.tracking.plugin.outbox import FLUSH_S, Outbox
from nbmlops.tracking.plugin.overlay import OFFLINE, PLACE, changed, folded, offline_experiment, offline_run, points_of
from nbmlops.tracking.store import knock, open_plain, plain, quiet_mlflow

TABLES_S = 120.0  # that the first use of an embedded store waits: its tables may have to be made
NO_INTENT_S = 75.0  # that a creation waits which could not be found again: longer than a database does
EXIT_S = 8.0  # that the end of the process waits
LOCK_S = 5.0  # that an embedded store may take to answer: others write too, and nobody's network is slow
_FORGETS = {"delete_run", "restore_run", "delete_experiment", "restore_experiment", "delete_logged_model"}
_FORGETS |= {"_hard_delete_run", "_hard_delete_experiment"}
RUNNING = 1  # MLflow's number of that status
INTENT = "nbmlops.id"  # the tag that a run's creation carries: by it a run is found whose answer was lost
_MODELS = ("create_logged_model", "get_logged_model", "finalize_logged_model")

T = TypeVar("T")


class JournaledStore:
    """MLflow's tracking store for a URL, behind a journal. What is not defined here is the plain store's own.

    Parameters
    ----------
    store_uri
        The plain URL with ``nbmlops+`` in front.
    artifact_uri
        Passed on to the plain store.
    """

    def __init__(self, store_uri: str, artifact_uri: str | None = None) -> None:
        self.uri = patient(absolute(plain(store_uri)))
        self._artifact_uri = artifact_uri
        self.outbox = Outbox(self.uri, lambda: self.inner)
        self.kept = Keeping(self.outbox)
        self._params: dict[str, dict[str, str]] = {}  # of the runs that are known to take what is logged
        self._models: set[str] = set()  # logged models that are known to be there
        self.begun: dict[str, Any] = {}  # the runs of this process, as they were when created
        self._inner: Any = None
        self._opening = threading.RLock()
        plugin.opened.append(self)
        os.register_at_fork(after_in_child=self._forked)
        workers.register_after_fork(self, _deliver_at_the_workers_end)

    def _forked(self) -> None:
        """Leave the parent its connections, and what its runs keep when they end."""
        self._opening = threading.RLock()  # it may be held by a thread that the child does not have
        self.outbox.begin_anew()
        self.kept.forget_all()
        for engine in (getattr(self._inner, name, None) for name in ("engine", "read_engine")):
            if engine is not None:
                engine.dispose(close=False)

    @property
    def inner(self) -> Any:
        """MLflow's own store."""
        if self._inner is None:
            with self._opening:
                self._inner = self._inner or self._open()
        return self._inner

    def _open(self) -> Any:
        if self.uri.startswith("http"):
            from nbmlops.tracking.plugin.once import OnceTracking

            quiet_mlflow()
            return OnceTracking(self.uri)
        if self.uri.startswith("postgresql"):
            self.outbox.line.ask(lambda: knock(self.uri, 2), 3.0)
        return open_plain(self.uri, self._artifact_uri)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "inner":  # an error in there would ask for it for ever
            raise AttributeError(name)
        found = getattr(self.inner, name)
        return functools.partial(self._pass_on, name) if callable(found) else found

    def _pass_on(self, call: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call the plain store, once it has all that was logged before."""
        if not self.outbox.flush(is_urgent=True) and self.outbox.line.is_cut:
            raise _away(f"{call} needs its answer. What is logged to runs meanwhile is kept in the journal.")
        args, kwargs = tuple(map(self._real, args)), {name: self._real(value) for name, value in kwargs.items()}
        try:
            answer = getattr(self.inner, call)(*args, **kwargs)
        except UnreachableError as exc:
            raise _away(str(exc)) from exc
        if call in _FORGETS:
            self._forget({*args, *kwargs.values()})
        if call in _MODELS:
            self._models.add(answer.model_id)
        return answer

    def _forget(self, ids: set[Any]) -> None:
        """Forget runs and models that may be gone, so that the store is asked about them."""
        self._params.clear()
        self._models -= ids
        gone = [key for key, run in self.begun.items() if key in ids or run.info.experiment_id in ids]
        for run_id in gone:
            self.kept.forget(run_id)
            del self.begun[run_id]

    def _real(self, argument: Any) -> Any:
        """Give the store's id of what began offline."""
        if isinstance(argument, list):
            return [self._real(each) for each in argument]
        if not isinstance(argument, str):
            return argument
        if argument.startswith(OFFLINE):
            return self._created_experiment(argument)
        return self.outbox.ids.get(argument, argument)

    # ------------------------------------------------------------------- logging
    def log_metric(self, run_id: str, metric: Any) -> None:
        """Log a metric."""
        line = self._worded(lambda: wording.metric_line(run_id, metric, self._models))
        if line is None or self.params_of(run_id) is None:
            self._pass_on("log_metric", run_id, metric)
        else:
            self.outbox.write(line)

    def log_param(self, run_id: str, param: Any) -> None:
        """Log a parameter; one that would change is MLflow's to refuse."""
        kept = self._worded(lambda: wording.param(param))
        if kept is None or not self._takes_params(run_id, [kept]):
            self._pass_on("log_param", run_id, param)
        else:
            self._write_params(run_id, [kept])

    def set_tag(self, run_id: str, tag: Any) -> None:
        """Set a tag; a new name of the run is MLflow's to give."""
        kept = self._worded(lambda: wording.tag(tag))
        if kept is None or self._renames([kept]) or self.params_of(run_id) is None:
            self._pass_on("set_tag", run_id, tag)
        else:
            self.outbox.write(wording.tag_line(run_id, kept))

    def log_batch(self, run_id: str, metrics: Any, params: Any, tags: Any) -> None:
        """Log many at once: one write, so a crash keeps the first lines of it or all."""
        worded = self._worded(lambda: wording.batch(run_id, metrics, params, tags, self._models))
        if worded is None or self._renames(worded[2]) or not self._takes_params(run_id, worded[1]):
            self._pass_on("log_batch", run_id, metrics, params, tags)
        else:
            lines = worded[0] + [wording.tag_line(run_id, each) for each in worded[2]]
            self._write_params(run_id, worded[1], b"".join(lines))

    def log_batch_async(self, run_id: str, metrics: Any, params: Any, tags: Any) -> Any:
        """Log many at once: the journal never makes anybody wait, so this is the same call."""
        from mlflow.utils.async_logging.run_operations import RunOperations

        self.log_batch(run_id, metrics, params, tags)
        return RunOperations([])

    def log_metric_async(self, run_id: str, metric: Any) -> Any:
        """Log a metric."""
        return self.log_batch_async(run_id, [metric], [], [])

    def log_param_async(self, run_id: str, param: Any) -> Any:
        """Log a parameter."""
        return self.log_batch_async(run_id, [], [param], [])

    def set_tag_async(self, run_id: str, tag: Any) -> Any:
        """Set a tag."""
        return self.log_batch_async(run_id, [], [], [tag])

    def flush_async_logging(self) -> None:
        """Deliver what is journaled."""
        self.outbox.flush()

    def shut_down_async_logging(self) -> None:
        """Do nothing, as runs end: nothing waits in memory, and the sender delivers."""

    end_async_logging = shut_down_async_logging

    def log_inputs(self, run_id: str, datasets: Any = None, models: Any = None) -> None:
        """Log inputs to a run: datasets, and models that are known."""
        line = self._worded(lambda: wording.inputs_line(run_id, datasets, models, self._models))
        if line is None or self.params_of(run_id) is None:
            self._pass_on("log_inputs", run_id, datasets=datasets, models=models)
        else:
            self.outbox.write(line)

    def _worded(self, word: Callable[[], T | None]) -> T | None:
        """Word something for the journal; what MLflow refuses, its store words, unless it cannot be asked."""
        from mlflow.exceptions import MlflowException

        try:
            return word()
        except MlflowException:
            if self.outbox.line.is_cut:
                raise
            return None

    def _renames(self, tags: Iterable[Any]) -> bool:
        """Say whether a tag is the run's name, which is in the run's own record too; offline, the tag must do."""
        from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME

        return not self.outbox.line.is_cut and any(tag.key == MLFLOW_RUN_NAME for tag in tags)

    def _takes_params(self, run_id: str, params: Iterable[Any]) -> bool:
        """Say whether a run takes params: it is there, and none of them would change."""
        known = self.params_of(run_id)
        return known is not None and all(known.get(each.key, each.value) == each.value for each in params)

    def _write_params(self, run_id: str, params: Iterable[Any], others: bytes = b"") -> None:
        lines = b"".join(wording.param_line(run_id, each) for each in params) + others
        if lines:
            self.outbox.write(lines)
            self._params.setdefault(run_id, {}).update((each.key, each.value) for each in params)

    def params_of(self, run_id: Any) -> dict[str, str] | None:
        """Give the parameters of a run that takes what is logged; None for one that does not, which MLflow refuses."""
        from mlflow.exceptions import MlflowException

        if not isinstance(run_id, str):
            return None
        if run_id in self._params:
            return self._params[run_id]
        try:
            run = self.outbox.line.ask(lambda: self.inner.get_run(self._real(run_id)), FLUSH_S)
        except MlflowException:
            return None
        except UnreachableError as exc:
            self.outbox.tell(str(exc))
            return {}  # should it be gone, its records will be kept aside
        return self._params.setdefault(run_id, dict(run.data.params)) if run.info.lifecycle_stage == "active" else None

    # --------------------------------------------------------------- runs, begun and ended
    def create_run(self, experiment_id: str, user_id: str, start_time: int, tags: Any, run_name: str | None) -> Any:
        """Create a run in the store when it answers at once, else in the journal."""
        from mlflow.entities import RunTag

        has_intent = self.uri.startswith("http") or any(tag.key == INTENT for tag in tags or [])
        intent = uuid.uuid4().hex if has_intent else ""
        others = [tag for tag in tags or [] if tag.key != INTENT]  # another run may have the same tags
        tags = [wording.masked_tag(tag) for tag in others]
        run_name = run_name and without_remembered(run_name)
        if intent:  # an answer that is lost on the way must not make a second run
            tags.append(RunTag(INTENT, intent))
        patience_s = self.patience_s() if intent else NO_INTENT_S
        if intent and any(tag.key == "nbmlops.pid" for tag in tags):  # should this process not live to hear of it
            self.outbox.write(journal.line("intend", intent))
        try:
            run = self.outbox.line.ask(
                lambda: self._created_run(experiment_id, user_id, start_time, tags, run_name),
                patience_s,
                late=lambda run: self._undo(intent, run.info.run_id),
            )
        except UnreachableError as exc:
            self.outbox.tell(str(exc))
            run = self._begin_offline(intent or uuid.uuid4().hex, experiment_id, user_id, start_time, tags, run_name)
        self._params[run.info.run_id] = {}
        self._own(run)
        return run

    def _created_run(self, experiment_id: str, user_id: str, start_time: int, tags: Any, run_name: str | None) -> Any:
        from mlflow.entities import RunTag

        offline = {os.environ.get(ABOVE), *(run_id for run_id, run in self.begun.items() if _is_offline(run))}
        is_under_one = any(tag.value in offline for tag in tags)
        if is_under_one and not self.outbox.flush(ANSWER_S):  # that must come first
            raise UnreachableError("the run above it is not delivered yet")
        real = [RunTag(tag.key, self._real(tag.value)) for tag in tags]
        return self.inner.create_run(self._real(experiment_id), user_id, start_time, real, run_name)

    def _undo(self, intent: str, run_id: str) -> None:
        """Delete a run whose creation nobody waited for, if another has been delivered in its place meanwhile.

        One that comes before the delivery is taken by that, one before the run's end goes at the end.
        """
        instead = Sent.of(self.outbox.writer.path).ids.get(intent, run_id)
        if instead != run_id:
            self.inner.delete_run(run_id)

    def _own(self, run: Any) -> None:
        """Take a run that this process began, or goes on with: what is logged to it, and its end, are journaled."""
        run_id, tags = run.info.run_id, run.data.tags
        self.begun[run_id] = run
        if "nbmlops.pid" in tags:
            self.outbox.write(journal.line("begin", run_id, tags.get("nbmlops.id", "")))
            self.kept.begin(run_id, is_on_top=tags.get("mlflow.parentRunId") not in self.begun)
            session.began(run_id)

    def keep_model(self, run_id: str, model: dict[str, Any]) -> None:
        """Journal a logged model, with the copies of its files; its id stands for the store's until it is delivered."""
        self.outbox.write(journal.line("model", run_id, model))
        self._models.add(model["id"])

    def patience_s(self) -> float:
        """Give a database the time to make its tables at its first use."""
        if self.uri.startswith("http"):
            _ = self.inner  # imports, which nobody should count as the server's silence
        if self._inner is None:
            return TABLES_S
        return LOCK_S if self.uri.startswith("sqlite") else ANSWER_S

    def _begin_offline(self, run_id: str, experiment: str, user: str, at_ms: int, tags: Any, name: str | None) -> Any:
        run = offline_run(run_id, str(experiment), user, at_ms, tags, name)
        is_name = str(experiment).startswith(OFFLINE)
        wanted = {
            "experiment_id": "" if is_name else str(experiment),
            "experiment": str(experiment).removeprefix(OFFLINE),
            "user_id": user,
            "start_time": at_ms,
            "run_name": run.info.run_name,
            "tags": run.data.tags,
        }
        self.outbox.write(journal.line("create", run_id, wanted))
        return run

    def update_run_info(self, run_id: str, run_status: Any, end_time: Any, run_name: str | None) -> Any:
        """Set a run's status, end and name; an end while an exception passes is the one that tells the truth."""
        try:
            if end_time is not None and run_status != RUNNING:
                self.kept.end(run_id)
        finally:  # the end is the run's, whatever of it could not be kept
            info = self._updated(run_id, run_status, end_time, run_name)
        return info

    def _updated(self, run_id: str, run_status: Any, end_time: Any, run_name: str | None) -> Any:
        change = wording.change(run_status, end_time, run_name)
        if run_id == os.environ.get("NBMLOPS_RUN"):  # of the process above, which tells its end
            return self._visited(run_id).info
        if run_id not in self.begun or change is None or (run_name and not self.outbox.line.is_cut):
            info = self._pass_on("update_run_info", run_id, run_status, end_time, run_name)
            self._go_on(run_id, run_status)
            return info
        why = session.tell(change)
        lines = [journal.line("tag", run_id, key, value) for key, value in why.items()]
        self.outbox.write(b"".join([*lines, journal.line("update", run_id, change)]))
        run = self.begun[run_id] = changed(self.begun[run_id], change)
        if run_status == RUNNING:  # this process has ended it, and goes on with it
            self._own(run)
        return run.info

    def _visited(self, run_id: str) -> Any:
        """Go on with the run of the process above: it stays that one's, but what it keeps of the code is known here."""
        if run_id not in self.begun:
            run = self.begun[run_id] = self._pass_on("get_run", run_id)
            self.kept.begin(run_id, is_on_top=run.data.tags.get("mlflow.parentRunId") not in self.begun)
        return self.begun[run_id]

    def _go_on(self, run_id: str, status: Any) -> None:
        """Own a run that another process began and this one goes on with, as ``mlflow.start_run(run_id)`` does."""
        if status == RUNNING and run_id not in self.begun:
            run = self._pass_on("get_run", run_id)
            if "nbmlops.pid" in run.data.tags:
                self.outbox.write(b"".join(journal.line("tag", run_id, *tag) for tag in owner_tags().items()))
                self._own(run)

    def get_run(self, run_id: str) -> Any:
        """Give a run with all that was logged to it; offline, as far as this process knows it."""
        if run_id not in self.begun:
            return self._pass_on("get_run", run_id)
        try:
            if self.outbox.flush():
                return self.outbox.line.ask(lambda: self.inner.get_run(self._real(run_id)), FLUSH_S)
        except UnreachableError as exc:
            self.outbox.tell(str(exc))
        return folded(self.begun[run_id], self.outbox.records(run_id))

    def get_metric_history(self, run_id: str, metric_key: str, *args: Any, **kwargs: Any) -> Any:
        """Give a metric's points; offline, those that this process has logged."""
        if self.outbox.flush() or run_id not in self.begun:
            return self._pass_on("get_metric_history", run_id, metric_key, *args, **kwargs)
        from mlflow.store.entities.paged_list import PagedList

        return PagedList(points_of(self.outbox.records(run_id), metric_key), None)

    # --------------------------------------------------------------- experiments
    def get_experiment_by_name(self, experiment_name: str) -> Any:
        """Give an experiment by its name; offline, one that stands for it until the store is back."""
        try:
            return self.outbox.line.ask(lambda: self.inner.get_experiment_by_name(experiment_name), self.patience_s())
        except UnreachableError as exc:
            self.outbox.tell(str(exc))
            return offline_experiment(experiment_name)

    def get_experiment(self, experiment_id: str) -> Any:
        """Give an experiment by its id."""
        try:
            return self.inner.get_experiment(self._real(experiment_id))
        except UnreachableError as exc:
            if str(experiment_id).startswith(OFFLINE):
                return offline_experiment(str(experiment_id).removeprefix(OFFLINE))
            raise _away(str(exc)) from exc

    def _created_experiment(self, offline_id: str) -> str:
        """Give the id of an experiment that was asked for by name while the store was away."""
        name = offline_id.removeprefix(OFFLINE)
        found = self.outbox.line.ask(lambda: self.inner.get_experiment_by_name(name))
        return str(found.experiment_id if found else self.inner.create_experiment(name, None, []))


# before MLflow registers its own hook, so it runs after that has ended every run
atexit.register(plugin.close_all, EXIT_S)


def _deliver_at_the_workers_end(store: JournaledStore) -> None:
    """Have a worker of ``multiprocessing``, which passes by all other hooks, deliver when it ends."""
    workers.Finalize(store, store.outbox.close, (EXIT_S,), exitpriority=0)


def _is_offline(run: Any) -> bool:
    return bool(run.info.artifact_uri.startswith(PLACE))


def _away(why: str) -> Any:
    """Word, as an error of MLflow's, that the store is out of reach."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

    return MlflowException(f"The tracking store is out of reach: {why}", TEMPORARILY_UNAVAILABLE)


def absolute(url: str) -> str:
    """Make an embedded store's path absolute: the working folder may change, and a sender has another."""
    path, sep, options = url.removeprefix("sqlite:///").partition("?")
    return f"sqlite:///{Path(path).absolute()}{sep}{options}" if url.startswith("sqlite:///") else url
