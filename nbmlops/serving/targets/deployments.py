"""Model versions at any target that MLflow deploys to (``mlflow.deployments``): SageMaker, or whatever is plugged in.

The target's client does it, with the parameters that were given; here is only what is the same for all of them: the
version is found, its bytes are checked, and errors are told in our words.
"""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nbmlops import secrets
from nbmlops.errors import DeployError, NbmlopsError, UsageError, nearest
from nbmlops.project import Project
from nbmlops.registry.versions import ModelVersion
from nbmlops.scrub import scrub, scrub_text
from nbmlops.serving.target import LOCAL
from nbmlops.verb import Result

REGISTRIES = ("azureml", "databricks", "nbmlops")  # targets that take a version by its name alone, from their registry
DATABRICKS = "databricks"  # its client makes endpoints of registered versions, and no deployments
FLAVOR = "flavor"
LONGEST = 2000  # characters of what a target says


@dataclass(frozen=True)
class TargetDeployment(Result):
    """A model version at a target of MLflow's; `action` is ``create`` or ``update``, `config` what the target was told.

    Secrets stand in `config` as their references.
    """

    deployment: str
    target: str
    model: str
    version: str
    uri: str
    action: str
    flavor: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    dry_run: bool = False

    @property
    def subject(self) -> str:
        """How the ledger files it."""
        return f"endpoint/{self.deployment}"

    @property
    def headline(self) -> str:
        """What is where, in one line."""
        told = ", ".join(f"{name}={value}" for name, value in self.config.items())
        what = f"{self.uri} as {self.deployment} at {self.target}{f' with {told}' if told else ''}"
        if self.dry_run:
            return f"Would {self.action} {what}"
        return f"{self.action.capitalize()}d {what}"


def refuse_local(given: Iterable[Any], target: str) -> None:
    """Refuse options of this machine's endpoints for another target, and parameters of a target for this machine.

    Raises
    ------
    UsageError
        There are some.
    """
    if target == LOCAL:
        raise UsageError("-p is of another target than this machine.", "Name it: --to TARGET")
    if any(value not in (None, False, "") for value in given):
        raise UsageError(
            f"How {target} serves is said in its own words.", "Give -p name=value, and no options of this machine."
        )


def deployed_to(
    project: Project, model: str, name: str, target: str, parameters: Mapping[str, Any], *, dry_run: bool
) -> TargetDeployment:
    """Have a version answer at a target, in place of what is there under that name.

    Parameters
    ----------
    project
        Whose model it is.
    model
        A version, or a reference to one.
    name
        What the deployment is called at the target.
    target
        As ``mlflow.deployments.get_deploy_client`` takes it: ``sagemaker:/eu-central-1``.
    parameters
        Handed on as they are, secrets resolved; ``flavor`` is MLflow's own argument.
    dry_run
        Only ask the target whether it is there already.

    Raises
    ------
    UsageError
        Nothing here deploys to that target, or it needs a package that is not installed.
    ConflictError
        The bytes are not those that were registered.
    DeployError
        The target refused; the message is its own.
    """
    from nbmlops.registry.reading import remembered

    version = remembered(project, model)
    client = _client(project, target)
    with _translated(target):
        look = client.get_endpoint if _scheme(target) == DATABRICKS else client.get_deployment
        action = "update" if _is_there(look, name) else "create"
    plan = TargetDeployment(
        deployment=name,
        target=target,
        model=version.name,
        version=version.version,
        uri=f"models:/{version.label}",
        action=action,
        config=scrub(dict(parameters)),
        dry_run=dry_run,
    )
    return plan if dry_run else _put(project, client, version, plan, parameters)


def _put(
    project: Project, client: Any, version: ModelVersion, plan: TargetDeployment, parameters: Mapping[str, Any]
) -> TargetDeployment:

    config = {key: _resolved(project, value) for key, value in parameters.items()}
    uri = _checked_uri(project, version, plan)
    if _scheme(plan.target) == DATABRICKS:
        _put_endpoint(client, plan, config)
        return plan
    flavor = config.pop(FLAVOR, None)
    put = client.update_deployment if plan.action == "update" else client.create_deployment
    with _translated(plan.target):
        made = put(plan.deployment, uri, flavor, config=config)
    return replace(plan, flavor=str((made or {}).get(FLAVOR) or flavor or ""))


def _put_endpoint(client: Any, plan: TargetDeployment, config: Mapping[str, Any]) -> None:
    """Have an endpoint of Databricks serve the version alone; parameters are fields of its served entity."""
    entity = {
        "entity_name": plan.model,
        "entity_version": plan.version,
        "workload_size": "Small",
        "scale_to_zero_enabled": True,
        **{name: _typed(value) for name, value in config.items()},
    }
    told = {"served_entities": [entity]}
    with _translated(plan.target):
        if plan.action == "update":
            client.update_endpoint_config(endpoint=plan.deployment, config=told)
        else:
            client.create_endpoint(config={"name": plan.deployment, "config": told})


def _typed(value: Any) -> Any:
    """Read numbers, booleans, lists and objects as JSON has them; all else is text.

    Examples
    --------
    >>> _typed("true"), _typed("3"), _typed("Small"), _typed('{"a": 1}')
    (True, 3, 'Small', {'a': 1})
    """
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _checked_uri(project: Project, version: ModelVersion, plan: TargetDeployment) -> str:
    """Say where the target finds the bytes, which were checked: in our copy, or in the registry that it shares."""
    from nbmlops.registry.loader import verified_copy

    folder = verified_copy(project, version)
    return plan.uri if _scheme(plan.target) in REGISTRIES else str(folder)


def _resolved(project: Project, value: Any) -> Any:
    read = secrets.read(value) if isinstance(value, str) else value
    return secrets.resolved(read, project.root) if isinstance(read, secrets.Reference) else read


def _client(project: Project, target: str) -> Any:
    """Make the target's client, which means this project's MLflow.

    Raises
    ------
    UsageError
        Nothing here deploys there.
    """
    from nbmlops.tracking.mlflow import Tracking

    _ = project.open(Tracking).mlflow
    from mlflow.deployments import get_deploy_client
    from mlflow.deployments.interface import plugin_store

    known = (LOCAL, *sorted({*plugin_store.registry, DATABRICKS}))
    if _scheme(target) not in known:
        raise UsageError(
            f"Nothing here deploys to {target!r}.",
            nearest(target, known) or f"There are {', '.join(known)}; others come with MLflow's plug-ins for them.",
        )
    with _translated(target):
        return get_deploy_client(target)


def _scheme(target: str) -> str:
    return target.partition(":")[0]


def _is_there(look: Callable[[str], Any], name: str) -> bool:
    """Say whether a deployment is there; MLflow's targets tell that in no other way than by an error."""
    try:
        return bool(look(name))
    except (ImportError, NotImplementedError):
        raise
    except Exception:  # noqa: BLE001  # one that is out of reach will say so when something is to be made there
        return False


@contextlib.contextmanager
def _translated(target: str) -> Iterator[None]:
    """Word a plug-in's errors, whatever they are."""
    try:
        yield
    except NbmlopsError:
        raise
    except ImportError as exc:
        raise UsageError(
            f"The target {target} needs {exc.name}, which is not installed here.", f"Install {exc.name}."
        ) from exc
    except NotImplementedError as exc:
        raise UsageError(f"MLflow's client of {target} makes no deployments of a model.", "Use its own tools.") from exc
    except Exception as exc:  # a plug-in may raise anything
        said = scrub_text(str(exc).strip() or type(exc).__name__)[:LONGEST]
        raise DeployError(f"{target} refused: {said}", "What was live there is as the target left it.") from exc
