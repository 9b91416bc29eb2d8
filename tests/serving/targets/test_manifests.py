"""Manifests of Kubernetes and KServe, held against their published schemas."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from nbmlops.agent.verbs import export
from nbmlops.errors import ConflictError, UsageError
from nbmlops.ledger.endpoints import CHALLENGER, SHADOW, Endpoints, Variant, Wanted
from nbmlops.project import Project
from nbmlops.registry.reading import remembered
from nbmlops.serving.deploying import variant_of
from nbmlops.serving.targets import kserve, kubernetes
from nbmlops.serving.targets.served import Served, served
from tests.pipelines.orchestrators.test_loaders import environment

# The fields of serving.kserve.io/v1beta1 that are written, with the types that KServe's own custom resource gives them
# (kserve/kserve, config/crd/full/serving.kserve.io_inferenceservices.yaml); what a container may be is Kubernetes'.
KSERVE: dict[str, Any] = {
    "type": "object",
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "additionalProperties": False,
    "properties": {
        "apiVersion": {"const": "serving.kserve.io/v1beta1"},
        "kind": {"const": "InferenceService"},
        "metadata": {"type": "object", "required": ["name"]},
        "spec": {
            "type": "object",
            "required": ["predictor"],
            "additionalProperties": False,
            "properties": {
                "predictor": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "canaryTrafficPercent": {"type": "integer", "minimum": 0, "maximum": 100},
                        "minReplicas": {"type": "integer"},
                        "timeout": {"type": "integer"},
                        "containers": {"type": "array", "items": {"type": "object", "required": ["name"]}},
                    },
                }
            },
        },
    },
}
VALIDATE = """
import sys, yaml
import kubernetes_validate as validator
for path in sys.argv[1:]:
    for document in yaml.safe_load_all(open(path)):
        validator.validate(document, validator.latest_version(), strict=True)
"""


@pytest.fixture
def tried(shop: Project) -> Iterator[str]:
    """An endpoint on which version 2 is tried beside version 1; nothing runs there."""
    champion, challenger = (variant_of(remembered(shop, f"delays/{number}")) for number in (1, 2))
    variants = (
        Variant(champion.model, champion.version, champion.digest, 90.0),
        Variant(challenger.model, challenger.version, challenger.digest, 10.0, CHALLENGER),
    )
    shop.open(Endpoints).want(Wanted("tried", "another-machine", variants))
    yield "tried"
    shop.open(Endpoints).forget("tried")


def written(shop: Project, what: str, to: str, folder: Path, **more: Any) -> list[list[dict[str, Any]]]:
    made = export(shop, what, to=to, output=str(folder / "out.yaml"), **more)
    return [list(yaml.safe_load_all(Path(path).read_text())) for path in (made.path, *made.others)]


def test_a_version_is_a_deployment_a_service_and_a_budget(shop: Project, tmp_path: Path) -> None:
    ((deployment, service, budget),) = written(shop, "delays/2", "k8s", tmp_path)
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    chosen = {"app.kubernetes.io/name": "delays"}
    assert deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"] == chosen
    assert (
        budget["spec"]["selector"]["matchLabels"].items()
        <= deployment["spec"]["template"]["metadata"]["labels"].items()
    )
    assert (deployment["spec"]["replicas"], budget["spec"]["minAvailable"]) == (2, 1)
    assert container["image"] == "delays:2"
    assert container["env"][0]["valueFrom"] == {"secretKeyRef": {"name": "delays", "key": "NBMLOPS_TOKEN"}}
    security = container["securityContext"]
    assert security["runAsNonRoot"]
    assert security["readOnlyRootFilesystem"]
    assert not security["allowPrivilegeEscalation"]
    assert service["spec"]["ports"][0]["targetPort"] == container["ports"][0]["name"]
    assert {each: container[each]["httpGet"]["path"] for each in container if each.endswith("Probe")} == {
        "startupProbe": "/ready",
        "readinessProbe": "/ready",
        "livenessProbe": "/health",
    }


def test_a_model_that_is_not_compiled_gets_more_memory(shop: Project, neighbours: str) -> None:
    slow, quick = (kubernetes.resources(served(shop, name)) for name in (neighbours, "delays/2"))
    assert slow["requests"]["memory"] == "1Gi"
    assert quick["requests"]["memory"] == "128Mi"


def test_an_endpoint_with_two_versions_is_one_image_on_kubernetes(shop: Project, tried: str, tmp_path: Path) -> None:
    ((deployment, *_),) = written(shop, tried, "k8s", tmp_path, image="ghcr.io/team/delays")
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == "ghcr.io/team/delays:1-2"


def test_an_endpoint_with_two_versions_is_two_revisions_of_kserve(shop: Project, tried: str, tmp_path: Path) -> None:
    files = written(shop, tried, "kserve", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.canary.yaml", "out.yaml"]
    ((before,), (now,)) = files
    for content in (before, now):
        jsonschema.validate(content, KSERVE)
    assert before["metadata"] == now["metadata"]
    assert before["spec"]["predictor"]["containers"][0]["image"] == "tried:1"
    assert now["spec"]["predictor"]["containers"][0]["image"] == "tried:2"
    assert "canaryTrafficPercent" not in before["spec"]["predictor"]
    assert now["spec"]["predictor"]["canaryTrafficPercent"] == 10
    with pytest.raises(UsageError, match="Both versions would be x:1"):
        export(shop, tried, to="kserve", output=str(tmp_path / "b.yaml"), image="x:1")


def test_a_shadow_answers_nobody_and_is_left_out() -> None:
    variants = (Variant("delays", "1", ""), Variant("delays", "2", "", 0.0, SHADOW))
    from nbmlops.registry.forms import Form
    from nbmlops.serving.targets.served import without_shadow

    found = without_shadow(Served(Wanted("delays", "", variants), (Form("compiled"), Form("pyfunc"))))
    assert (found.versions, found.is_compiled) == (("delays/1",), True)
    assert list(kserve.manifests(found)) == ["delays.kserve.yaml"]


def test_a_manifest_that_differs_stays_unless_told(shop: Project, tmp_path: Path) -> None:
    export(shop, "delays/1", to="k8s", output=str(tmp_path / "a.yaml"))
    with pytest.raises(ConflictError, match="differs"):
        export(shop, "delays/2", to="k8s", output=str(tmp_path / "a.yaml"))
    made = export(shop, "delays/2", to="k8s", output=str(tmp_path / "a.yaml"), force=True)
    assert made.headline == f"delays/2 for k8s: {tmp_path / 'a.yaml'}"
    assert any("kubectl apply -f" in note for note in made.notes)


@pytest.mark.parametrize("name", ['x"\n: {}', "no", "1e3", "Überall", "a" * 200])
def test_no_name_breaks_the_yaml(name: str) -> None:
    from nbmlops.agent.exported_models import _yaml

    found = Served(Wanted(name, "", (Variant(name, "1", ""),)), ())
    contents = [*kubernetes.manifests(found), *kserve.manifests(found).values()]
    assert list(yaml.safe_load_all(_yaml(*contents))) == contents
    assert all(len(each["metadata"]["name"]) <= 63 for each in contents)


@pytest.mark.soak
def test_manifests_are_what_kubernetes_schemas_allow(
    shop: Project, tried: str, neighbours: str, tmp_path: Path
) -> None:
    python = environment(tmp_path / "venv", "kubernetes-validate>=1.33", "setuptools")
    paths = []
    for what in ("delays/1", neighbours, tried):
        paths.append(tmp_path / f"{what.replace('/', '-')}.yaml")
        export(shop, what, to="k8s", output=str(paths[-1]))
        for place, content in enumerate(kserve.manifests(served(shop, what)).values()):
            # what KServe hands on to Kubernetes: a pod of these containers
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": content["metadata"]}
            paths.append(tmp_path / f"{paths[-1].name}.{place}.json")
            paths[-1].write_text(
                json.dumps({**pod, "spec": {"containers": content["spec"]["predictor"]["containers"]}})
            )
    done = subprocess.run([python, "-c", VALIDATE, *map(str, paths)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    broken = paths[0].read_text().replace('"runAsNonRoot"', '"runAsNobody"').replace("runAsNonRoot:", "runAsNobody:")
    paths[0].write_text(broken)
    done = subprocess.run([python, "-c", VALIDATE, str(paths[0])], capture_output=True, text=True)
    assert "runAsNobody" in done.stderr
