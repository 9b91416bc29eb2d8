"""KServe's InferenceService for exported images: one, or two that follow each other where a version is tried.

Fields as in KServe's custom resource ``serving.kserve.io/v1beta1`` (kserve/kserve,
config/crd/full/serving.kserve.io_inferenceservices.yaml), and in a pod only what Knative takes.
"""

from typing import Any

from nbmlops.errors import UsageError
from nbmlops.ledger.endpoints import Variant
from nbmlops.serving.targets.kubernetes import labels, probe, resources, token, unprivileged
from nbmlops.serving.targets.served import PORT, Served

CONTAINER = "kserve-container"  # the name by which KServe knows the one that answers
TIMEOUT_S = 35  # a little longer than a worker's own


def manifests(found: Served) -> dict[str, dict[str, Any]]:
    """Give the InferenceServices by the names of their files.

    KServe keeps the revision that was applied before, and gives the one that is applied now its share
    (``canaryTrafficPercent``). So an endpoint with two versions is two files, and the order matters.

    Raises
    ------
    UsageError
        Two versions would have the same image.

    Examples
    --------
    >>> from nbmlops.ledger.endpoints import CHALLENGER, Wanted
    >>> two, three = Variant("delays", "2", "", 90.0), Variant("delays", "3", "", 10.0, CHALLENGER)
    >>> for name, content in manifests(Served(Wanted("delays", "", (two, three)), ())).items():
    ...     print(name, content["spec"]["predictor"].get("canaryTrafficPercent"))
    delays.kserve.yaml None
    delays.canary.kserve.yaml 10
    """
    champion, challenger = found.wanted.champion, found.wanted.challenger
    files = {f"{found.name}.kserve.yaml": _service(found, champion, {})}
    if challenger:
        if found.image_of(champion) == found.image_of(challenger):
            raise UsageError(
                f"Both versions would be {found.image}.", "Give --image without a tag: it gets the version as its tag."
            )
        share = {"canaryTrafficPercent": round(challenger.weight)}
        files[f"{found.name}.canary.kserve.yaml"] = _service(found, challenger, share)
    return files


def _service(found: Served, variant: Variant, share: dict[str, int]) -> dict[str, Any]:
    predictor = {**share, "minReplicas": 1, "timeout": TIMEOUT_S, "containers": [_container(found, variant)]}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": found.name, "labels": labels(found)},
        "spec": {"predictor": predictor},
    }


def _container(found: Served, variant: Variant) -> dict[str, Any]:
    return {
        "name": CONTAINER,
        "image": found.image_of(variant),
        "ports": [{"name": "http1", "containerPort": PORT, "protocol": "TCP"}],
        "env": [token(found)],
        "resources": resources(found),
        "readinessProbe": probe("/ready", periodSeconds=5),
        "securityContext": unprivileged(),
    }
