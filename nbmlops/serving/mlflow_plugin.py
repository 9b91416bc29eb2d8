"""A deployment target of MLflow's (entry point ``mlflow.deployments``): ``mlflow deployments create -t nbmlops``.

It calls the verbs, in the project of the working folder. MLflow loads this module; nothing of ours does.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from mlflow.deployments import BaseDeploymentClient, PredictionsResponse
from mlflow.exceptions import MlflowException

from nbmlops.errors import ConflictError, NbmlopsError, NotFoundError, UsageError, nearest
from nbmlops.project import Project
from nbmlops.serving import verbs
from nbmlops.serving.endpoints import Endpoint
from nbmlops.verb import parameters

_NOT_CONFIG = ("model", "as_", "dry_run", "to", "parameters", "wait")
_CODES = {
    NotFoundError: "RESOURCE_DOES_NOT_EXIST",
    ConflictError: "INVALID_STATE",
    UsageError: "INVALID_PARAMETER_VALUE",
}
_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")


class NbmlopsDeployments(BaseDeploymentClient):  # type: ignore[misc]  # MLflow is not typed
    """The endpoints of a project: that of the working folder, or of the folder in ``nbmlops:/path/to/project``."""

    def __init__(self, target_uri: str) -> None:
        super().__init__(target_uri)
        self._project = Project(Path(target_uri.partition(":")[2] or "."))

    def create_deployment(
        self,
        name: str,
        model_uri: str,
        flavor: str | None = None,
        config: Mapping[str, Any] | None = None,
        endpoint: str | None = None,
    ) -> dict[str, Any]:
        """Deploy a registered version under a name that is not taken yet."""
        with _translated():
            _refuse_other(flavor, endpoint)
            if name in self._endpoints():
                raise ConflictError(f"The endpoint {name} is there already.", "mlflow deployments update")
            return self._deployed(name, model_uri, config)

    def update_deployment(
        self,
        name: str,
        model_uri: str | None = None,
        flavor: str | None = None,
        config: Mapping[str, Any] | None = None,
        endpoint: str | None = None,
    ) -> dict[str, Any]:
        """Deploy another version under a name, or the same one otherwise."""
        with _translated():
            _refuse_other(flavor, endpoint)
            live = self._endpoint(name)
            return self._deployed(name, model_uri or live.follows or f"{live.model}/{live.version}", config)

    def delete_deployment(
        self, name: str, config: Mapping[str, Any] | None = None, endpoint: str | None = None
    ) -> None:
        """Stop an endpoint; one that is not there is no error, as MLflow asks of its targets."""
        with _translated():
            _refuse_other(None, endpoint)
            if config:
                raise UsageError("Nothing is to be said about an end.", "Leave --config out.")
            if name in self._endpoints():
                verbs.undeploy(self._project, name)

    def list_deployments(self, endpoint: str | None = None) -> list[dict[str, Any]]:
        """Describe all endpoints."""
        with _translated():
            _refuse_other(None, endpoint)
            return [_described(each) for each in self._endpoints().values()]

    def get_deployment(self, name: str, endpoint: str | None = None) -> dict[str, Any]:
        """Describe one endpoint."""
        with _translated():
            _refuse_other(None, endpoint)
            return _described(self._endpoint(name))

    def predict(
        self, deployment_name: str | None = None, inputs: Any = None, endpoint: str | None = None
    ) -> PredictionsResponse:
        """Score a table."""
        import pandas as pd

        with _translated():
            frame = inputs if isinstance(inputs, pd.DataFrame) else pd.DataFrame(inputs)
            found = verbs.predict(self._project, deployment_name or endpoint or "", data=frame)
            return PredictionsResponse(predictions=list(found.predictions))

    def _deployed(self, name: str, model_uri: str, config: Mapping[str, Any] | None) -> dict[str, Any]:
        made = verbs.deploy(self._project, model_uri, as_=name, **options(config or {}))
        return {"name": name, "flavor": "python_function", "model": f"{made.model}/{made.version}"}

    def _endpoints(self) -> dict[str, Endpoint]:
        return {each.name: each for each in verbs.endpoints(self._project)}

    def _endpoint(self, name: str) -> Endpoint:
        known = self._endpoints()
        if name not in known:
            raise NotFoundError(f"There is no endpoint {name!r}.", nearest(name, known))
        return known[name]


def run_local(
    target: str,
    name: str,
    model_uri: str,
    flavor: str | None = None,
    config: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Deploy on this machine, which is what this target does anyway."""
    return NbmlopsDeployments(target).create_deployment(name, model_uri, flavor, config)


def target_help() -> str:
    """Say what the target is, and what ``-C`` takes."""
    return (
        "nbmlops serves registered models of the project in the working folder on this machine;\n"
        "-t nbmlops:/path/to/project means another one.\n"
        "-m takes models:/NAME/VERSION or models:/NAME@ALIAS.\n"
        f"-C takes the options of `nbmlops deploy` as name=value: {', '.join(_settings())}."
    )


def options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Read ``-C name=value`` as options of `deploy`.

    Raises
    ------
    UsageError
        There is no such option, or its value cannot be read.

    Examples
    --------
    >>> options({"workers": "2", "capture": "true", "blue-green": "no"})
    {'workers': 2, 'capture': True, 'blue_green': False}
    """
    known = _settings()
    given = {name.replace("-", "_"): value for name, value in config.items()}
    if unknown := [name for name in given if name not in known]:
        raise UsageError(f"`nbmlops deploy` has no option {unknown[0]!r}.", nearest(unknown[0], known))
    return {name: _value(name, value, known[name]) for name, value in given.items()}


def _settings() -> dict[str, Any]:
    found = parameters("deploy").items()
    return {name: parameter.annotation for name, parameter in found if name not in _NOT_CONFIG}


def _value(name: str, value: Any, annotation: Any) -> Any:
    kinds = get_args(annotation) or (annotation,)
    kind = next(each for each in kinds if each is not type(None))
    if not isinstance(value, str):
        return value
    try:
        return _truth(value) if kind is bool else kind(value)
    except ValueError:
        raise UsageError(f"{name} is {value!r}, which is no {kind.__name__}.") from None


def _truth(text: str) -> bool:
    if text.lower() not in (*_TRUE, *_FALSE):
        raise ValueError(text)
    return text.lower() in _TRUE


def _described(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "name": endpoint.name,
        "flavor": "python_function",
        "model": f"{endpoint.model}/{endpoint.version}",
        "url": endpoint.url,
        "status": endpoint.status,
        "traffic": ", ".join(map(str, endpoint.traffic)),
        "follows": endpoint.follows,
        "rollout": endpoint.rollout,
        "since": endpoint.since,
    }


def _refuse_other(flavor: str | None, endpoint: str | None) -> None:
    if flavor not in (None, "python_function"):
        raise UsageError(f"Models are served as python_function, not as {flavor}.", "Leave --flavor out.")
    if endpoint:
        raise UsageError("A deployment is an endpoint here.", "Leave --endpoint out, and give --name.")


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Give our errors as MLflow's, whose callers know no others."""
    try:
        yield
    except NbmlopsError as exc:
        code = next((code for kind, code in _CODES.items() if isinstance(exc, kind)), "INTERNAL_ERROR")
        raise MlflowException(str(exc), error_code=_number(code)) from exc


def _number(code: str) -> int:
    from mlflow.protos import databricks_pb2

    return int(databricks_pb2.ErrorCode.Value(code))
