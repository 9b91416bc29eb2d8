"""Manifests of Kubernetes for an exported image: Deployment, Service, PodDisruptionBudget; plain data, no YAML."""

from typing import Any

from nbmlops.serving.standalone import STOP_S, TOKEN
from nbmlops.serving.targets.served import PORT, Served

Manifest = dict[str, Any]

REPLICAS = 2
PORT_NAME = "http"
DRAIN_S = 5  # in which a Service stops sending requests to a pod that ends
START_S = 300  # in which a model has been loaded and proven
_COMPILED = {"requests": {"cpu": "500m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
_MODEL = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "4Gi"}}


def manifests(found: Served) -> list[Manifest]:
    """Give the manifests of a service that answers as an endpoint does.

    The pods are those that the Pod Security Standard ``restricted`` asks for; the token is a key of a Secret of the
    service's name.

    Examples
    --------
    >>> from nbmlops.ledger.endpoints import Variant, Wanted
    >>> [each["kind"] for each in manifests(Served(Wanted("delays", "", (Variant("delays", "3", ""),)), ()))]
    ['Deployment', 'Service', 'PodDisruptionBudget']
    """
    chosen = {"app.kubernetes.io/name": found.name}
    head: Manifest = {"name": found.name, "labels": labels(found)}
    return [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": head, "spec": _deployment(found, chosen)},
        {"apiVersion": "v1", "kind": "Service", "metadata": head, "spec": _service(chosen)},
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": head,
            "spec": {"minAvailable": 1, "selector": {"matchLabels": chosen}},
        },
    ]


def labels(found: Served) -> dict[str, str]:
    """Give the labels of all that belongs to it."""
    return {"app.kubernetes.io/name": found.name, "app.kubernetes.io/created-by": "nbmlops"}


def resources(found: Served) -> Manifest:
    """Say what its container asks for: a start, to be set to what it was seen to take."""
    return _COMPILED if found.is_compiled else _MODEL


def token(found: Served) -> Manifest:
    """Give the variable of the token, which is a key of a Secret."""
    return {"name": TOKEN, "valueFrom": {"secretKeyRef": {"name": found.name, "key": TOKEN}}}


def probe(path: str, **more: int) -> Manifest:
    """Ask a path, which needs no token."""
    return {"httpGet": {"path": path, "port": PORT}, "timeoutSeconds": 3, **more}


def unprivileged() -> Manifest:
    """Take from a container what it does not need."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _deployment(found: Served, chosen: dict[str, str]) -> Manifest:
    return {
        "replicas": REPLICAS,
        "selector": {"matchLabels": chosen},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {"metadata": {"labels": labels(found)}, "spec": _pod(found, chosen)},
    }


def _pod(found: Served, chosen: dict[str, str]) -> Manifest:
    return {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": int(DRAIN_S + STOP_S + 5),
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": chosen},
            }
        ],
        "containers": [_container(found)],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }


def _container(found: Served) -> Manifest:
    every_s = 2
    return {
        "name": "endpoint",
        "image": found.image_of(*found.wanted.variants),
        "ports": [{"name": PORT_NAME, "containerPort": PORT, "protocol": "TCP"}],
        "env": [token(found)],
        "resources": resources(found),
        "startupProbe": probe("/ready", periodSeconds=every_s, failureThreshold=START_S // every_s),
        "readinessProbe": probe("/ready", periodSeconds=5, failureThreshold=2),
        "livenessProbe": probe("/health", periodSeconds=10, failureThreshold=3),
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(DRAIN_S)]}}},
        "securityContext": {**unprivileged(), "readOnlyRootFilesystem": True},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108  # a volume of the pod's own
    }


def _service(chosen: dict[str, str]) -> Manifest:
    ports = [{"name": PORT_NAME, "port": 80, "targetPort": PORT_NAME, "protocol": "TCP"}]
    return {"type": "ClusterIP", "selector": chosen, "ports": ports}
