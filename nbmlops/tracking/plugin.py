"""MLflow's plug-ins: a tracking store with a journal in front, under ``nbmlops+sqlite``, ``+postgresql``, ``+http``.

What is logged to a run that is known to be there is written to the journal and delivered later; everything else,
and whatever is in doubt, is asked of MLflow's own store behind, after the journal has been delivered.
"""

import atexit
import functools
import inspect
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from nbmlops.errors import NbmlopsError
from nbmlops.project import Project, patient
from nbmlops.tracking import capture, ipython, journal, sender
from nbmlops.tracking.delivery import Target, UnreachableError, Uploads, drain
from nbmlops.tracking.journal import Sent, Writer
from nbmlops.tracking.overlay import OFFLINE, PLACE, changed, folded, offline_experiment, offline_run, points_of
from nbmlops.tracking.owner import owner_tags
from nbmlops.tracking.store import knock, open_plain, plain
from nbmlops.tracking.sync import finish, folder_of, open_target

ANSWER_S = 0.9  # that beginning a run waits for the store
REST_S = 5.0  # that a store which gave no answer is left alone
FLUSH_S = 20.0  # that a read waits for what was logged before it
EXIT_S = 8.0  # that the end of the process waits
SENDER_AFTER_S = 1.0  # a script that is over by then delivers by itself
_UNREACHABLE = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "DEADLINE_EXCEEDED")
_FORGETS = ("delete", "restore", "_hard_delete", "_mark")

T = TypeVar("T")
_stores: list["JournaledStore"] = []


class Line:
    """Whether the store answers: asked in bounded time, and left alone for a while when it did not."""

    def __init__(self) -> None:
        self._again_at = 0.0

    @property
    def is_cut(self) -> bool:
        """Whether the store gave no answer a moment ago."""
        return time.monotonic() < self._again_at

    def cut(self) -> None:
        """Leave the store alone for a while."""
        self._again_at = time.monotonic() + REST_S

    def ask(self, act: Callable[[], T], patience_s: float = ANSWER_S) -> T:
        """Ask in a thread of its own, for no library call can be trusted to give up in time.

        Raises
        ------
        UnreachableError
            No answer, or none that is the store's own.
        """
        if self.is_cut:
            raise UnreachableError("it gave no answer a moment ago")
        answers: list[T] = []
        errors: list[BaseException] = []

        def asking() -> None:
            try:
                answers.append(act())
            except BaseException as exc:  # noqa: BLE001  # raised again in the caller's thread
                errors.append(exc)

        thread = threading.Thread(target=asking, daemon=True)
        thread.start()
        thread.join(patience_s)
        if answers:
            return answers[0]
        if errors and not is_unreachable(errors[0]):
            raise errors[0]
        self.cut()
        raise UnreachableError(str(errors[0]) if errors else f"no answer in {patience_s:g} s")


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
        self.uri = patient(plain(store_uri))
        self._artifact_uri = artifact_uri
        project = Project()
        durability = project.settings.journal.value if project.exists else "page-cache"
        self.writer = Writer(folder_of(project), self.uri, "page-cache" if durability == "off" else durability)
        self.line = Line()
        self._params: dict[str, dict[str, str]] = {}  # of the runs that are known to take what is logged
        self._begun: dict[str, Any] = {}  # the runs of this process, as they were when created
        self._ids: dict[str, str] = {}  # of runs begun offline, as far as they are delivered
        self._moments: dict[str, capture.Moment] = {}  # the code, as it was when each run began
        self.data: dict[str, dict[str, str]] = {}  # run id -> name -> digest of the tables it used
        self._has_told = False
        self._alone()
        _stores.append(self)
        os.register_at_fork(after_in_child=self._alone)

    def _alone(self) -> None:
        """Begin a journal of one's own, in a new process and in one that was forked."""
        self._sent = 0
        self._has_called = False
        self._lock = threading.RLock()

    @functools.cached_property
    def inner(self) -> Any:
        """MLflow's own store."""
        with self._lock:
            if self.uri.startswith("postgresql"):
                self.line.ask(lambda: knock(self.uri, 2))
            return open_plain(self.uri, self._artifact_uri)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = getattr(self.inner, name)
        return functools.partial(self._pass_on, name) if callable(found) else found

    def _pass_on(self, call: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call the plain store, once it has all that was logged before."""
        self.flush()
        try:
            return getattr(self.inner, call)(*map(self._real, args), **{k: self._real(v) for k, v in kwargs.items()})
        finally:
            if call.startswith(_FORGETS):
                self._params.clear()
                self._begun = {run_id: run for run_id, run in self._begun.items() if run_id not in args}

    def _real(self, argument: Any) -> Any:
        """Give the store's id of a run that began offline."""
        if not self._ids:
            return argument
        if isinstance(argument, list):
            return [self._real(each) for each in argument]
        return self._ids.get(argument, argument) if isinstance(argument, str) else argument

    # ------------------------------------------------------------------- logging
    def log_metric(self, run_id: str, metric: Any) -> None:
        """Log a metric: checked by MLflow's rules, then journaled."""
        from mlflow.utils.validation import _validate_metric

        _validate_metric(metric.key, metric.value, metric.timestamp, metric.step)
        if self._params_of(run_id) is None:
            return self._pass_on("log_metric", run_id, metric)
        return self.write(_metric_line(run_id, metric))

    def log_param(self, run_id: str, param: Any) -> None:
        """Log a parameter; one that would change is MLflow's to refuse."""
        from mlflow.utils.validation import _validate_param

        checked = _validate_param(param.key, param.value)
        known = self._params_of(run_id)
        if known is None or known.get(checked.key, checked.value) != checked.value:
            return self._pass_on("log_param", run_id, param)
        return self._take_params(run_id, [checked])

    def set_tag(self, run_id: str, tag: Any) -> None:
        """Set a tag; a new name of the run is MLflow's to give."""
        from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME
        from mlflow.utils.validation import _validate_tag

        checked = _validate_tag(tag.key, tag.value)
        if self._params_of(run_id) is None or (tag.key == MLFLOW_RUN_NAME and not self.line.is_cut):
            return self._pass_on("set_tag", run_id, tag)
        return self.write(journal.line("tag", run_id, checked.key, str(checked.value)))

    def log_batch(self, run_id: str, metrics: Any, params: Any, tags: Any) -> None:
        """Log many at once: one write, so a crash keeps the first lines of it or all."""
        from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME
        from mlflow.utils.validation import (
            _validate_batch_log_data,
            _validate_batch_log_limits,
            _validate_param_keys_unique,
            _validate_run_id,
        )

        _validate_run_id(run_id)
        metrics, params, tags = _validate_batch_log_data(metrics, params, tags)
        _validate_batch_log_limits(metrics, params, tags)
        _validate_param_keys_unique(params)
        known = self._params_of(run_id)
        changes_one = known is None or any(known.get(each.key, each.value) != each.value for each in params)
        if (changes_one or any(tag.key == MLFLOW_RUN_NAME for tag in tags)) and not self.line.is_cut:
            return self._pass_on("log_batch", run_id, metrics, params, tags)
        self._take_params(run_id, params)
        lines = [_metric_line(run_id, each) for each in metrics]
        lines += [journal.line("tag", run_id, each.key, str(each.value)) for each in tags]
        if lines:
            self.write(b"".join(lines))
        return None

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
        self.flush()

    def shut_down_async_logging(self) -> None:
        """Do nothing, as runs end: nothing waits in memory, and the sender delivers."""

    end_async_logging = shut_down_async_logging

    def log_inputs(self, run_id: str, datasets: Any = None, models: Any = None) -> None:
        """Log dataset inputs to a run of this process; to another, MLflow's store does it."""
        if run_id not in self._begun:
            return self._pass_on("log_inputs", run_id, datasets=datasets, models=models)
        from mlflow.protos.service_pb2 import LogInputs
        from mlflow.utils.proto_json_utils import message_to_json

        message = LogInputs(
            run_id=run_id,
            datasets=[each.to_proto() for each in datasets or []],
            models=[each.to_proto() for each in models or []],
        )
        self.write(journal.line("inputs", run_id, _loads(message_to_json(message))))
        return None

    def write(self, lines: bytes) -> None:
        """Journal lines, and see to it that a sender comes for them."""
        self.writer.append(lines)
        if not self._has_called:
            self._has_called = True
            timer = threading.Timer(SENDER_AFTER_S, self._call_sender)
            timer.daemon = True
            timer.start()

    def _call_sender(self) -> None:
        try:
            sender.start(self.writer.folder, [self.uri])
        except OSError as exc:
            self._tell(f"its sender cannot be started: {exc}")

    def _take_params(self, run_id: str, params: Iterable[Any]) -> None:
        lines = [journal.line("param", run_id, each.key, str(each.value)) for each in params]
        if lines:
            self.write(b"".join(lines))
            self._params.setdefault(run_id, {}).update((each.key, each.value) for each in params)

    def _params_of(self, run_id: str) -> dict[str, str] | None:
        """Give the parameters of a run that takes what is logged; None for one that does not, which MLflow refuses."""
        if run_id in self._params:
            return self._params[run_id]
        try:
            run = self.line.ask(lambda: self.inner.get_run(self._real(run_id)), FLUSH_S)
        except UnreachableError as exc:
            self._tell(str(exc))
            return {}  # should it be gone, its records will be kept aside
        if run.info.lifecycle_stage != "active":
            return None
        return self._params.setdefault(run_id, dict(run.data.params))

    # --------------------------------------------------------------- runs, begun and ended
    def create_run(self, experiment_id: str, user_id: str, start_time: int, tags: Any, run_name: str | None) -> Any:
        """Create a run in the store when it answers at once, else in the journal."""
        from mlflow.entities import RunTag

        if any(run.info.artifact_uri.startswith(PLACE) for run in self._begun.values()):
            self.flush(ANSWER_S)  # the run above may have begun offline; any other is in the store already
        tags = [RunTag(tag.key, self._real(tag.value)) for tag in tags or []]
        intent = next((tag.value for tag in tags if tag.key == "nbmlops.id"), "")
        if not intent and self.uri.startswith("http"):  # an answer that is lost on the way must not make a second run
            tags.append(RunTag("nbmlops.id", intent := uuid.uuid4().hex))
        try:
            if str(experiment_id).startswith(OFFLINE):
                experiment_id = self._created_experiment(str(experiment_id))
            run = self.line.ask(
                lambda: self.inner.create_run(experiment_id, user_id, start_time, tags, run_name), self._patience()
            )
        except UnreachableError as exc:
            self._tell(str(exc))
            run = self._begin_offline(intent or uuid.uuid4().hex, experiment_id, user_id, start_time, tags, run_name)
        self._params[run.info.run_id] = {}
        self._own(run)
        return run

    def _own(self, run: Any) -> None:
        """Take a run that this process began, or goes on with: what is logged to it, and its end, are journaled."""
        run_id, tags = run.info.run_id, run.data.tags
        self._begun[run_id] = run
        if "nbmlops.pid" in tags:
            intent = tags.get("nbmlops.id", "") if self.uri.startswith("http") else ""
            self.write(journal.line("begin", run_id, intent))
            self._moments[run_id] = capture.begin(Path.cwd())

    def _keep_captured(self, run_id: str) -> None:
        """Log what the run keeps of its code and environment; the files of it once, with the run above."""
        if (moment := self._moments.pop(run_id, None)) is None:
            return
        executed = ipython.executed()
        facts = capture.facts(moment, executed, self.data.pop(run_id, {}))
        self.write(b"".join(journal.line("tag", run_id, key, value) for key, value in facts.items()))
        if self._begun[run_id].data.tags.get("mlflow.parentRunId") not in self._begun:
            for name, text in capture.files(moment, executed).items():
                self.keep_file(run_id, "", name, text.encode())

    def keep_file(self, run_id: str, place: str, path: str, content: Path | bytes) -> None:
        """Journal an artifact: its copy, then the record that names the copy and its hash.

        Parameters
        ----------
        run_id
            The run it belongs to.
        place
            The artifact place it belongs under; the run's own when empty.
        path
            Its path there.
        content
            The file, or its bytes.
        """
        self.write(journal.line("file", run_id, {"place": place, "path": path, **self.writer.copy(content)}))

    def _patience(self) -> float:
        """Give an embedded store the time to make its tables at its first use."""
        return ANSWER_S if "inner" in vars(self) or not self.uri.startswith("sqlite") else 120.0

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
            "is_doubtful": True,
        }
        self.write(journal.line("create", run_id, wanted))
        return run

    def update_run_info(self, run_id: str, run_status: Any, end_time: Any, run_name: str | None) -> Any:
        """Set a run's status, end and name; an end in the course of an interrupt is KILLED, whoever calls it FAILED."""
        from mlflow.entities import RunStatus

        if run_id not in self._begun or (run_name and not self.line.is_cut):
            info = self._pass_on("update_run_info", run_id, run_status, end_time, run_name)
            self._go_on(run_id, run_status)
            return info
        if isinstance(sys.exception(), KeyboardInterrupt) and run_status == RunStatus.FAILED:
            run_status = RunStatus.KILLED
        change = {
            "status": RunStatus.to_string(run_status) if run_status is not None else None,
            "end_time": end_time,
            "run_name": run_name,
        }
        change = {key: value for key, value in change.items() if value is not None}
        if "end_time" in change:
            self._keep_captured(run_id)
        self.write(journal.line("update", run_id, change))
        self._begun[run_id] = changed(self._begun[run_id], change)
        return self._begun[run_id].info

    def _go_on(self, run_id: str, status: Any) -> None:
        """Own a run that another process began and this one goes on with, as ``mlflow.start_run(run_id)`` does."""
        from mlflow.entities import RunStatus

        if status == RunStatus.RUNNING and run_id not in self._begun:
            run = self._pass_on("get_run", run_id)
            if "nbmlops.pid" in run.data.tags:
                self.write(b"".join(journal.line("tag", run_id, *tag) for tag in owner_tags().items()))
                self._own(run)

    def get_run(self, run_id: str) -> Any:
        """Give a run with all that was logged to it; offline, as far as this process knows it."""
        if run_id not in self._begun:
            return self._pass_on("get_run", run_id)
        try:
            if self.flush():
                return self.line.ask(lambda: self.inner.get_run(self._real(run_id)), FLUSH_S)
        except UnreachableError as exc:
            self._tell(str(exc))
        return folded(self._begun[run_id], self._own_records(run_id))

    def get_metric_history(self, run_id: str, metric_key: str, *args: Any, **kwargs: Any) -> Any:
        """Give a metric's points; offline, those that this process has logged."""
        if self.flush() or run_id not in self._begun:
            return self._pass_on("get_metric_history", run_id, metric_key, *args, **kwargs)
        from mlflow.store.entities.paged_list import PagedList

        return PagedList(points_of(self._own_records(run_id), metric_key), None)

    def _own_records(self, run_id: str) -> Iterable[journal.Record]:
        offset = 0
        while self.writer.is_open:
            records, offset = journal.read(self.writer.path, offset)
            if not records:
                return
            yield from (record for _, record in records if record[1] == run_id)

    # --------------------------------------------------------------- experiments
    def get_experiment_by_name(self, experiment_name: str) -> Any:
        """Give an experiment by its name; offline, one that stands for it until the store is back."""
        try:
            return self.line.ask(lambda: self.inner.get_experiment_by_name(experiment_name), self._patience())
        except UnreachableError as exc:
            self._tell(str(exc))
            return offline_experiment(experiment_name)

    def get_experiment(self, experiment_id: str) -> Any:
        """Give an experiment by its id."""
        if str(experiment_id).startswith(OFFLINE):
            return offline_experiment(str(experiment_id).removeprefix(OFFLINE))
        return self.inner.get_experiment(experiment_id)

    def _created_experiment(self, offline_id: str) -> str:
        """Give the id of an experiment that was asked for by name while the store was away."""
        name = offline_id.removeprefix(OFFLINE)
        found = self.line.ask(lambda: self.inner.get_experiment_by_name(name))
        return str(found.experiment_id if found else self.inner.create_experiment(name, None, []))

    # ------------------------------------------------------------------ delivery
    def flush(self, patience_s: float = FLUSH_S, uploads: Uploads = "none") -> bool:
        """Deliver what this process has journaled; False when the store is out of reach or too slow.

        Artifacts are left to the sender, unless `uploads` says otherwise.
        """
        if not self.writer.is_open or (self._sent >= self.writer.size and uploads == "none"):
            return True
        if self.line.is_cut:
            return False
        wanted, deadline = self.writer.size, time.monotonic() + patience_s
        done = drain(self.writer.path, self._target, patience_s=patience_s, deadline=deadline, uploads=uploads)
        sent = Sent.of(self.writer.path)
        self._sent, self._ids = sent.offset, sent.ids
        if done.error:
            self.line.cut()
            self._tell(done.error)
        return self._sent >= wanted and (uploads == "none" or not done.files)

    @functools.cached_property
    def _server(self) -> Target:
        return open_target(self.uri, timeout_s=5.0)

    def _target(self) -> Target:
        if self.uri.startswith("http"):
            return self._server
        from nbmlops.tracking.target_sql import SqlTarget

        return SqlTarget(self.inner)

    def close(self, patience_s: float = EXIT_S) -> None:
        """Deliver what is left in bounded time, and let the journal go; what remains, the next process delivers."""
        try:
            if self.flush(patience_s, "all") and self.writer.is_open:
                path = self.writer.path
                self.writer.close()
                finish(path, self._target)
        except (NbmlopsError, OSError) as exc:  # nobody is left to raise to, and the journal keeps all
            self._tell(str(exc))
        self.writer.close()
        if "_server" in vars(self):
            self._server.close()

    def _tell(self, why: str) -> None:
        """Say once that the store is away, and where everything is kept meanwhile."""
        if not self._has_told:
            self._has_told = True
            where = journal.portable(self.uri, self.writer.folder)
            sys.stderr.write(
                f"nbmlops: the tracking store {where} is out of reach ({why}). "
                f"What is logged is kept in {self.writer.folder} and sent when it is back; `nbmlops sync` sends it.\n"
            )


@atexit.register  # before MLflow registers its own hook, so it runs after that has ended every run
def close_all(patience_s: float = EXIT_S) -> None:
    """Deliver what every store of this process has journaled, in bounded time."""
    for store in _stores:
        store.close(patience_s)


def _metric_line(run_id: str, metric: Any) -> bytes:
    extras = {
        name: value
        for name in ("model_id", "dataset_name", "dataset_digest")
        if (value := getattr(metric, name)) is not None
    }
    return journal.metric(run_id, metric.key, float(metric.value), int(metric.timestamp), int(metric.step), extras)


def _loads(text: str) -> Any:
    import json

    return json.loads(text)


def is_unreachable(exc: BaseException) -> bool:
    """Say whether an error tells of the way to the store, and not of what was asked."""
    code = getattr(exc, "error_code", None)
    if code is not None:
        return code in _UNREACHABLE
    return isinstance(exc, OSError | UnreachableError) or type(exc).__module__.split(".")[0] in (
        "sqlalchemy",
        "requests",
        "urllib3",
        "psycopg",
        "sqlite3",
    )


# --------------------------------------------------------------------- entry points
def tracking_store(store_uri: str, artifact_uri: str | None = None, **_: Any) -> JournaledStore:
    """Make the tracking store of a ``nbmlops+…`` URL."""
    return JournaledStore(store_uri, artifact_uri)


def registry_store(store_uri: str, tracking_uri: str | None = None, **_: Any) -> Any:
    """Make the registry store of a ``nbmlops+…`` URL: the plain store's own."""
    from mlflow.tracking._model_registry.utils import _get_store_registry

    uri = patient(plain(store_uri))
    if uri.startswith("sqlite"):
        open_plain(uri)
    # not MLflow's own look-up, which waits for a lock that it holds while it builds this very store
    builder = _get_store_registry().get_store_builder(uri)
    takes_tracking = "tracking_uri" in inspect.signature(builder).parameters
    return builder(store_uri=uri, **({"tracking_uri": plain(tracking_uri)} if takes_tracking and tracking_uri else {}))
