"""Fitted scikit-learn models on their way to MLflow: written as MLflow writes them, journaled, made MLflow's own later.

MLflow finds out what a model requires by loading it in another process, which takes seconds; here its
requirements are the environment that it was fitted in.
"""

import functools
import pickle
import uuid
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nbmlops.tracking.capture import environment

_FILES = {"skops": "model.skops", "cloudpickle": "model.pkl"}  # MLflow's names
_OWN = ("sklearn.", "numpy.", "scipy.")
_LONGEST = 6000  # characters of a parameter: MLflow's limit


def keep(run_id: str, model: Any, name: str, signature: Any, params: Mapping[str, Any]) -> str:
    """Log a fitted model to a run; behind a journal it is MLflow's once it is delivered.

    Parameters
    ----------
    run_id
        The run that made it.
    model
        A fitted scikit-learn model.
    name
        Of the logged model.
    signature
        As MLflow infers it; None without one.
    params
        Parameters of the model, by name.

    Returns
    -------
    str
        The logged model's id; behind a journal one that stands for it until it is delivered.

    Raises
    ------
    StoreError
        The journal cannot be written.
    """
    from mlflow.tracking._tracking_service.utils import _get_store

    from nbmlops.tracking.plugin.stores import JournaledStore

    store, worded = _get_store(), {str(key): str(value)[:_LONGEST] for key, value in params.items()}
    if not isinstance(store, JournaledStore):
        return _log(run_id, model, name, signature, worded)
    intent = f"m-{uuid.uuid4().hex}"
    folder = folder_of(model, signature, run_id, intent, f"{intent}/place")
    files = [
        {"path": path, "is_worded": path == "MLmodel", **store.outbox.writer.copy(content)}
        for path, content in folder.items()
    ]
    store.keep_model(run_id, {"id": intent, "name": name, "params": worded, "tags": _tags(), "files": files})
    return intent


def prepare() -> None:
    """Import and compute what the first model would wait for."""
    import mlflow.pyfunc  # noqa: F401
    import skops.io  # noqa: F401

    environment_files()


def folder_of(model: Any, signature: Any, run_id: str, model_id: str, place: str) -> dict[str, bytes]:
    """Write a model as MLflow does, with the environment's lock as its requirements.

    Parameters
    ----------
    model
        A fitted scikit-learn model; without ``predict`` it has no ``python_function`` flavor.
    signature
        As MLflow infers it; None without one.
    run_id, model_id, place
        The run, the logged model, and its artifact place.

    Returns
    -------
    dict of str to bytes
        The files of the model's folder, by name.
    """
    import sklearn
    from mlflow import pyfunc
    from mlflow.models import Model

    kind, data, trusted = dumped(model)
    file, told = _FILES[kind], Model(place, run_id, signature=signature, model_uuid=model_id, model_id=model_id)
    environments = {"conda_env": "conda.yaml", "python_env": "python_env.yaml"}
    if hasattr(model, "predict"):
        pyfunc.add_to_model(told, "mlflow.sklearn", model_path=file, predict_fn="predict", **environments)
    told.add_flavor(
        "sklearn",
        pickled_model=file,
        sklearn_version=sklearn.__version__,
        serialization_format=kind,
        code=None,
        skops_trusted_types=trusted or None,
    )
    told.model_size_bytes = len(data)
    return {file: data, "MLmodel": told.to_yaml().encode(), **environment_files()}


def dumped(model: Any) -> tuple[str, bytes, list[str]]:
    """Give a model's bytes: in the ``skops`` format, with the types that its reader must trust, else ``cloudpickle``.

    skops can neither read what was defined in a notebook nor write a lambda.

    Examples
    --------
    >>> from sklearn.preprocessing import FunctionTransformer, StandardScaler
    >>> kind, data, trusted = dumped(StandardScaler())
    >>> kind, trusted
    ('skops', [])
    >>> dumped(FunctionTransformer(lambda table: table))[0]
    'cloudpickle'
    """
    import cloudpickle
    import skops.io

    try:
        data = skops.io.dumps(model)
        trusted = list(skops.io.get_untrusted_types(data=data))
        if not any(name.startswith("__main__.") for name in trusted):
            if not all(name.startswith(_OWN) for name in trusted):  # what skops knows well need not be tried
                skops.io.loads(data, trusted=trusted)
            return "skops", data, trusted
    except Exception:  # noqa: BLE001, S110  # skops raises whatever the model's own types raise
        pass
    return "cloudpickle", cloudpickle.dumps(model, protocol=pickle.DEFAULT_PROTOCOL), []


@functools.cache
def environment_files() -> dict[str, bytes]:
    """Write what a model needs to be loaded elsewhere, as MLflow does; once a process.

    Examples
    --------
    >>> sorted(environment_files())
    ['conda.yaml', 'python_env.yaml', 'requirements.txt']
    """
    import mlflow
    import yaml
    from mlflow.utils.environment import _PythonEnv

    conda = mlflow.sklearn.get_default_conda_env()
    pip = [line for line in environment.lock().splitlines() if not line.startswith("#")]
    conda["dependencies"] = [each for each in conda["dependencies"] if isinstance(each, str)] + [{"pip": pip}]
    texts = {
        "requirements.txt": environment.lock(),
        "conda.yaml": yaml.safe_dump(conda, default_flow_style=False),
        "python_env.yaml": yaml.safe_dump(_PythonEnv.current().to_dict(), default_flow_style=False, sort_keys=False),
    }
    return {name: text.encode() for name, text in texts.items()}


def _log(run_id: str, model: Any, name: str, signature: Any, params: Mapping[str, str]) -> str:
    """Log a model at once, where there is no journal."""
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModelOutput

    client = MlflowClient()
    experiment = client.get_run(run_id).info.experiment_id
    made = client.create_logged_model(experiment, name, run_id, tags=_tags(), params=dict(params))
    with TemporaryDirectory(prefix="nbmlops-") as folder:
        for path, content in folder_of(model, signature, run_id, made.model_id, made.artifact_location).items():
            Path(folder, path).write_bytes(content)
        client.log_model_artifacts(made.model_id, folder)
    client.log_outputs(run_id, [LoggedModelOutput(made.model_id, step=0)])
    client.finalize_logged_model(made.model_id, "READY")
    return str(made.model_id)


def _tags() -> dict[str, str]:
    """Word who made a model, and where, as MLflow does; the process itself is its run's to tell."""
    from mlflow.tracking.context import registry

    return {key: str(value) for key, value in registry.resolve_tags().items() if key.startswith("mlflow.")}
