"""MLflow's clients of a server, made safe against answers that are lost: what they create is created once.

MLflow's own clients ask again when no answer comes, and the server then creates a second run or version. These
ask for a creation once, and look for what it has made, by an id of their own, before they ask again.
"""

import json
import time
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from mlflow.entities.model_registry import ModelVersionTag, RegisteredModelTag
from mlflow.exceptions import MlflowException
from mlflow.protos.model_registry_pb2 import CreateModelVersion, CreateRegisteredModel
from mlflow.protos.service_pb2 import CreateExperiment, CreateLoggedModel, CreateRun
from mlflow.store.model_registry import rest_store as registry
from mlflow.store.tracking import rest_store as tracking
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.proto_json_utils import parse_dict
from mlflow.utils.rest_utils import http_request, verify_rest_response

from nbmlops.tracking.plugin.line import Line

INTENT = "nbmlops.id"
PAUSES_S = (0.2, 0.5, 1.0, 2.0)  # between attempts

T = TypeVar("T")


class OnceTracking(tracking.RestStore):  # type: ignore[misc]  # MLflow has no types
    """MLflow's tracking client of a server.

    A run that is in doubt is the journal's concern; it gives each run an id to look for.
    """

    def __init__(self, url: str) -> None:
        super().__init__(partial(get_default_host_creds, url))

    def _call_endpoint(self, api: Any, json_body: Any = None, *args: Any, **kwargs: Any) -> Any:
        if api not in (CreateRun, CreateExperiment, CreateLoggedModel):
            return super()._call_endpoint(api, json_body, *args, **kwargs)
        self._validate_workspace_support_if_specified()
        return _asked_once(self, self._METHOD_TO_INFO[api], json_body, api.Response())

    def create_experiment(self, name: str, artifact_location: str | None = None, tags: Any = None) -> str:
        """Create an experiment; one of that name which is there after a lost answer is the one that was asked for."""

        def found() -> str | None:
            there = self.get_experiment_by_name(name)
            return str(there.experiment_id) if there else None

        return _once(lambda: str(super(OnceTracking, self).create_experiment(name, artifact_location, tags)), found)


class OnceRegistry(registry.RestStore):  # type: ignore[misc]
    """MLflow's registry client of a server: each model and version is created once, and carries the id it is found by.

    Parameters
    ----------
    url
        The server's plain URL.
    """

    def __init__(self, url: str) -> None:
        super().__init__(partial(get_default_host_creds, url))

    def _call_endpoint(self, api: Any, json_body: Any, *args: Any, **kwargs: Any) -> Any:
        if api not in (CreateModelVersion, CreateRegisteredModel):
            return super()._call_endpoint(api, json_body, *args, **kwargs)
        self._validate_workspace_support_if_specified()
        return _asked_once(self, self._get_endpoint_from_method(api), json_body, api.Response())

    def create_registered_model(self, name: str, tags: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Create a registered model."""
        intent = RegisteredModelTag(INTENT, uuid.uuid4().hex)
        create = partial(super().create_registered_model, name, [*(tags or []), intent], *args, **kwargs)

        def found() -> Any:
            there = self.search_registered_models(f"tags.`{INTENT}` = '{intent.value}'")
            return next(iter(there), None)

        return _once(create, found)

    def create_model_version(
        self, name: str, source: str, run_id: str | None = None, tags: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Create a model version."""
        intent = ModelVersionTag(INTENT, uuid.uuid4().hex)
        create = partial(super().create_model_version, name, source, run_id, [*(tags or []), intent], *args, **kwargs)

        def found() -> Any:
            return next(iter(self.search_model_versions(f"tags.`{INTENT}` = '{intent.value}'")), None)

        return _once(create, found)


def _once(create: Callable[[], T], found: Callable[[], T | None]) -> T:
    """Create; when the answer is lost, see whether it was done, and only when it was not, ask again."""
    line = Line("http")
    try:
        return create()
    except MlflowException as exc:
        lost = exc
    for pause in PAUSES_S:
        if not line.is_to_blame(lost):
            raise lost
        time.sleep(pause)
        try:
            there = found()
            return create() if there is None else there
        except MlflowException as exc:
            lost = exc
    raise lost


def _asked_once(store: Any, endpoint: tuple[str, str], body: str, answer: Any) -> Any:
    """Ask a server without asking again, which MLflow's own call would."""
    path, method = endpoint
    response = http_request(store.get_host_creds(), path, method, max_retries=0, json=json.loads(body))
    parse_dict(verify_rest_response(response, path).json(), answer)
    return answer
