"""A database as the delivery needs it: through MLflow's own store, whose rules hold."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nbmlops.scrub import scrub_text
from nbmlops.tracking.journal.delivery import Batch, RejectedError, UnreachableError
from nbmlops.tracking.journal.target_http import upload_by_client

_REFUSED = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE")
_GONE = ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND")


class SqlTarget:
    """A tracking database behind MLflow's store.

    Parameters
    ----------
    store
        MLflow's own store for the database.
    """

    def __init__(self, store: Any) -> None:
        self._store = store

    def probe(self, run_id: str) -> None:
        """Write something small to a run, or only look."""
        from mlflow.entities import RunTag

        with contextlib.suppress(RejectedError), _translated():
            if run_id:
                self._store.set_tag(run_id, RunTag("nbmlops.alive_at", str(int(time.time()))))
            else:
                self._store.search_experiments(max_results=1)

    def created(self, intent: str) -> list[str]:
        """List the runs that carry an intent's id; the first by id is kept, whoever asks."""
        from mlflow.entities import ViewType

        from nbmlops.tracking import sql

        with _translated():
            if (known := sql.tagged(self._store.engine, "nbmlops.id", intent)) is not None:
                return known
            experiments = self._experiments()
            condition = f"tags.`nbmlops.id` = '{intent}'"
            found = self._store.search_runs(experiments, condition, ViewType.ACTIVE_ONLY, max_results=10)
        return sorted(run.info.run_id for run in found)

    def create_run(self, intent: str, wanted: Mapping[str, Any]) -> str:
        """Create a run in the experiment of an id, or else of a name, which is made where it is missing."""
        from mlflow.entities import RunTag

        tags = [RunTag(key, value) for key, value in {**wanted["tags"], "nbmlops.id": intent}.items()]
        with _translated():
            experiment = wanted["experiment_id"] or self._experiment_id(wanted["experiment"])
            run = self._store.create_run(experiment, wanted["user_id"], wanted["start_time"], tags, wanted["run_name"])
        return str(run.info.run_id)

    def delete_run(self, run_id: str) -> None:
        """Delete a doubled run."""
        with _translated():
            self._store.delete_run(run_id)

    def log_batch(self, batch: Batch) -> None:
        """Log metrics, params and tags in one call."""
        from mlflow.entities import Metric, Param, RunTag

        metrics = [
            Metric(key, float(value), at_ms, step, **(extras[0] if extras else {}))
            for _, _, key, value, at_ms, step, *extras in batch.metrics
        ]
        params = [Param(key, value) for key, value in batch.params.items()]
        tags = [RunTag(key, value) for key, value in batch.tags.items()]
        with _translated():
            self._store.log_batch(batch.run_id, metrics, params, tags)

    def update_run(self, run_id: str, change: Mapping[str, Any]) -> None:
        """Set status, end time or name."""
        from mlflow.entities import RunStatus

        status = RunStatus.from_string(change["status"]) if change.get("status") else None
        with _translated():
            self._store.update_run_info(run_id, status, change.get("end_time"), change.get("run_name"))

    def log_inputs(self, run_id: str, inputs: Mapping[str, Any]) -> None:
        """Log dataset and model inputs, which are worded as MLflow's protocol words them."""
        from mlflow.entities import DatasetInput, LoggedModelInput
        from mlflow.protos.service_pb2 import LogInputs
        from mlflow.utils.proto_json_utils import parse_dict

        message = LogInputs()
        parse_dict(dict(inputs), message)
        with _translated():
            self._store.log_inputs(
                run_id,
                [DatasetInput.from_proto(each) for each in message.datasets],
                [LoggedModelInput.from_proto(each) for each in message.models],
            )

    def created_model(self, run_id: str, intent: str) -> tuple[str, str] | None:
        """Find the logged model of an intent."""
        with _translated():
            experiment = self._store.get_run(run_id).info.experiment_id
            found = self._store.search_logged_models([experiment], f"tags.`nbmlops.id` = '{intent}'")
        return next(((model.model_id, model.artifact_location) for model in found), None)

    def create_model(self, run_id: str, model: Mapping[str, Any]) -> tuple[str, str]:
        """Create a logged model in the experiment of its run."""
        from mlflow.entities import LoggedModelParameter, LoggedModelTag

        tags = [LoggedModelTag(key, value) for key, value in {**model["tags"], "nbmlops.id": model["id"]}.items()]
        params = [LoggedModelParameter(key, value) for key, value in model["params"].items()]
        with _translated():
            experiment = self._store.get_run(run_id).info.experiment_id
            made = self._store.create_logged_model(experiment, model["name"], run_id, tags, params)
        return made.model_id, made.artifact_location

    def finish_model(self, run_id: str, model_id: str) -> None:
        """Call a logged model ready, and an output of its run unless it is one."""
        from mlflow.entities import LoggedModelOutput, LoggedModelStatus

        with _translated():
            outputs = self._store.get_run(run_id).outputs
            if all(output.model_id != model_id for output in (outputs.model_outputs if outputs else [])):
                self._store.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
            self._store.finalize_logged_model(model_id, LoggedModelStatus.READY)

    def upload(self, place: str, path: str, copy: Path) -> None:
        """Put a file where MLflow's client would."""
        upload_by_client(place, path, copy)

    def place_of(self, run_id: str) -> str:
        """Give the artifact place of a run."""
        with _translated():
            return str(self._store.get_run(run_id).info.artifact_uri)

    def state(self, run_id: str) -> tuple[str, str]:
        """Give a run's status, and its error if it has one."""
        from nbmlops.tracking import sql

        with _translated():
            if known := sql.state(self._store.engine, run_id, "nbmlops.error"):
                return known
            run = self._store.get_run(run_id)
        return str(run.info.status), str(run.data.tags.get("nbmlops.error", ""))

    def delete_tag(self, run_id: str, key: str) -> None:
        """Take a tag away."""
        with _translated():
            self._store.delete_tag(run_id, key)

    def close(self) -> None:
        """Leave MLflow its store, which others use too."""

    def _experiments(self) -> list[str]:
        found: list[str] = []
        token = None
        while True:
            page = self._store.search_experiments(max_results=1000, page_token=token)
            found += [each.experiment_id for each in page]
            if not (token := page.token):
                return found

    def _experiment_id(self, name: str) -> str:
        found = self._store.get_experiment_by_name(name)
        return str(found.experiment_id if found else self._store.create_experiment(name, None, []))


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as exc:
        reason = scrub_text(str(exc)).partition("\n")[0][:500]
        if exc.error_code in _GONE or "must be in the 'active' state" in reason:
            raise RejectedError(reason, is_gone=True) from exc
        if exc.error_code in _REFUSED:
            raise RejectedError(reason) from exc
        raise UnreachableError(reason) from exc
    except Exception as exc:  # whatever a database or its driver throws
        raise UnreachableError(scrub_text(f"{type(exc).__name__}: {exc}").partition("\n")[0][:500]) from exc
