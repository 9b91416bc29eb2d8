"""MLflow's entry points; each is called with the address that MLflow was given."""

from typing import Any

from nbmlops.project import patient
from nbmlops.tracking.plugin.masked import mask_artifacts
from nbmlops.tracking.plugin.stores import JournaledStore, absolute
from nbmlops.tracking.store import open_plain, plain, quiet_mlflow


def tracking_store(store_uri: str, artifact_uri: str | None = None, **_: Any) -> Any:
    """Make the tracking store of a ``nbmlops+…`` URL; a database in this process' memory needs no journal."""
    mask_artifacts()
    if ":memory:" not in store_uri and plain(store_uri) != "sqlite://":
        return JournaledStore(store_uri, artifact_uri)
    from mlflow.tracking._tracking_service.utils import _tracking_store_registry

    return _tracking_store_registry.get_store_builder(plain(store_uri))(plain(store_uri), artifact_uri)


def artifact_repository(artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> Any:
    """Make the repository of an artifact place that a server keeps; its classes need MLflow, which loads this."""
    from nbmlops.tracking.plugin.artifacts import artifact_repository as made

    return made(artifact_uri, tracking_uri, registry_uri)


def registry_store(store_uri: str, **_: Any) -> Any:
    """Make the registry store of a ``nbmlops+…`` URL: MLflow's own, whose creations on a server are made safe."""
    uri = patient(absolute(plain(store_uri)))
    if uri.startswith("http"):
        from nbmlops.tracking.plugin.once import OnceRegistry

        quiet_mlflow()
        return OnceRegistry(uri)
    from mlflow.tracking._model_registry.utils import _get_store_registry

    open_plain(uri)
    # not MLflow's own look-up, which waits for a lock that it holds while it builds this very store
    return _get_store_registry().get_store_builder(uri)(store_uri=uri)
