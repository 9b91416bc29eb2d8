"""`deploy --to`: targets of mlflow.deployments, SageMaker at an emulator of its API."""

import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from nbmlops.errors import ConflictError, DeployError, NotFoundError, UsageError
from nbmlops.ledger.database import Ledger
from nbmlops.project import Project
from nbmlops.registry.loader import verified_copy
from nbmlops.serving.verbs import deploy, undeploy
from nbmlops.serving.worker import bind
from tests.pipelines.orchestrators.test_loaders import environment
from tests.serving.conftest import served

SAGEMAKER = "sagemaker:/us-east-1"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/mlflow-pyfunc:3"


# -------------------------------------------------------------------- what is refused
def test_an_unknown_target_is_told_with_the_nearest(shop: Project) -> None:
    with pytest.raises(UsageError, match="sagemaker"):
        deploy(shop, "delays/1", to="sagemakr")


def test_options_of_this_machine_are_none_of_a_target(shop: Project) -> None:
    with pytest.raises(UsageError, match="in its own words"):
        deploy(shop, "delays/1", to=SAGEMAKER, port=5001)
    with pytest.raises(UsageError, match="Name it: --to"):
        deploy(shop, "delays/1", parameters={"instance_count": "2"})


def test_a_version_that_is_not_there_is_told(shop: Project) -> None:
    with pytest.raises(NotFoundError):
        deploy(shop, "delays/99", to="nbmlops")


@pytest.mark.skipif("boto3" in sys.modules, reason="it is here")
def test_a_package_that_a_target_needs_is_named(shop: Project) -> None:
    with pytest.raises(UsageError, match="needs boto3"):
        deploy(shop, "delays/1", to=SAGEMAKER)


# ------------------------------------------------------ a target that is always here
def test_a_target_is_created_and_updated(shop: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shop.root)
    monkeypatch.setenv("ENDPOINT_TOKEN", "s3cr3t-of-a-test")
    told = {"workers": "1", "token": "env:ENDPOINT_TOKEN"}
    plan = deploy(shop, "delays/1", to="nbmlops", as_="target", parameters=told, dry_run=True)
    assert (plan.action, plan.uri, plan.config, plan.dry_run) == ("create", "models:/delays/1", told, True)
    assert served(shop) == {}
    made = deploy(shop, "delays/1", to="nbmlops", as_="target", parameters={"workers": "1"})
    try:
        assert made.headline == "Created models:/delays/1 as target at nbmlops with workers=1"
        assert deploy(shop, "delays/2", to="nbmlops", as_="target").action == "update"
        assert served(shop)["target"].version == "2"
        event = shop.open(Ledger).events(verbs=("deploy",), subject="endpoint/target", limit=1)[0]
        assert event.outcome == "ok"
        with pytest.raises(DeployError, match="no option 'worker'"):
            deploy(shop, "delays/2", to="nbmlops", as_="target", parameters={"worker": "1"})
    finally:
        undeploy(shop, "target")


# ----------------------------------------------------------------------------- Databricks
class Workspace(BaseHTTPRequestHandler):
    """What MLflow's client asks of a workspace: endpoints are kept as they were told (Serving endpoints API 2.0)."""

    endpoints: ClassVar[dict[str, Any]] = {}
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        found = self.endpoints.get(self.path.rpartition("/")[2])
        self._say(200, found) if found else self._say(404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no"})

    def do_POST(self) -> None:
        told = self._told()
        self.endpoints[told["name"]] = told
        self._say(200, told)

    def do_PUT(self) -> None:
        self.endpoints[self.path.split("/")[-2]]["config"] = self._told()
        self._say(200, {})

    def _told(self) -> Any:
        self.asked.append(f"{self.command} {self.path}")
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def _say(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def workspace(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Workspace]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Workspace)
    threading.Thread(target=server.serve_forever).start()
    monkeypatch.setenv("DATABRICKS_HOST", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("DATABRICKS_TOKEN", "s3cr3t-of-a-test")
    yield Workspace
    server.shutdown()
    server.server_close()


def test_databricks_is_told_of_a_version_of_its_registry(shop: Project, workspace: type[Workspace]) -> None:
    assert deploy(shop, "delays/1", to="databricks", dry_run=True).action == "create"
    assert workspace.endpoints == {}
    told = {"workload_size": "Medium", "scale_to_zero_enabled": "false"}
    assert deploy(shop, "delays/1", to="databricks", as_="late", parameters=told).action == "create"
    entity = {"entity_name": "delays", "entity_version": "1", "workload_size": "Medium", "scale_to_zero_enabled": False}
    assert workspace.endpoints["late"] == {"name": "late", "config": {"served_entities": [entity]}}
    assert deploy(shop, "delays/2", to="databricks", as_="late").action == "update"
    (entity,) = workspace.endpoints["late"]["config"]["served_entities"]
    assert (entity["entity_version"], entity["scale_to_zero_enabled"]) == ("2", True)
    assert [each.partition(" ")[0] for each in workspace.asked] == ["POST", "PUT"]


# ----------------------------------------------------------------------------- SageMaker
@pytest.fixture(scope="module")
def amazon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An emulator of Amazon's API, in an environment of its own, and boto3 for this process; gives the URL."""
    folder = tmp_path_factory.mktemp("amazon")
    python = environment(folder / "venv", "moto[server]>=5.1", "boto3")
    with bind("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [str(Path(python).with_name("moto_server")), "-H", "127.0.0.1", "-p", str(port)]
    packages = subprocess.run(
        [python, "-c", "import boto3; print(boto3.__path__[0])"], capture_output=True, text=True, check=True
    ).stdout.strip()
    with (folder / "log").open("w") as log, pytest.MonkeyPatch.context() as patch:
        sys.path.append(str(Path(packages).parent))  # last: what is here already stays
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "of-a-test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", url)
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        emulator = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _await(url)
            yield url
        finally:
            sys.path.remove(str(Path(packages).parent))
            emulator.terminate()
            emulator.wait(30)


def _await(url: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/moto-api/", timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("The emulator does not answer.")


@pytest.fixture
def sagemaker(amazon: str) -> Any:
    import boto3

    return boto3.client("sagemaker")


@pytest.fixture
def role(amazon: str) -> str:
    import boto3

    iam = boto3.client("iam")
    try:
        return str(iam.create_role(RoleName="server", AssumeRolePolicyDocument="{}")["Role"]["Arn"])
    except iam.exceptions.EntityAlreadyExistsException:
        return str(iam.get_role(RoleName="server")["Role"]["Arn"])


@pytest.mark.soak
@pytest.mark.timeout(600)
class TestSageMaker:
    """Against the emulator: what is there is asked of its API, not of us."""

    def test_a_dry_run_makes_nothing(self, shop: Project, sagemaker: Any, role: str) -> None:
        told = {"execution_role_arn": role, "image_url": IMAGE, "env": "env:AWS_SECRET_ACCESS_KEY"}
        plan = deploy(shop, "delays/2", to=SAGEMAKER, as_="planned", parameters=told, dry_run=True)
        assert (plan.action, plan.uri, plan.config["env"]) == (
            "create",
            "models:/delays/2",
            "env:AWS_SECRET_ACCESS_KEY",
        )
        assert "of-a-test" not in str(plan)
        assert [each["EndpointName"] for each in sagemaker.list_endpoints()["Endpoints"]] == []

    def test_an_endpoint_is_created_described_and_deleted(
        self, shop: Project, sagemaker: Any, role: str, tmp_path: Path
    ) -> None:
        import tarfile

        import boto3
        from mlflow.deployments import get_deploy_client

        told = {"execution_role_arn": role, "image_url": IMAGE, "instance_type": "ml.m5.large", "instance_count": "2"}
        made = deploy(shop, "delays/2", to=SAGEMAKER, as_="late", parameters=told)
        assert (made.action, made.flavor) == ("create", "python_function")
        there = sagemaker.describe_endpoint(EndpointName="late")
        assert there["EndpointStatus"] == "InService"
        config = sagemaker.describe_endpoint_config(EndpointConfigName=there["EndpointConfigName"])
        (variant,) = config["ProductionVariants"]
        assert (variant["InstanceType"], variant["InitialInstanceCount"]) == ("ml.m5.large", 2)
        container = sagemaker.describe_model(ModelName=variant["ModelName"])["PrimaryContainer"]
        assert container["Image"] == IMAGE
        bucket, _, key = container["ModelDataUrl"].removeprefix("s3://").partition("/")
        boto3.client("s3").download_file(bucket, key, str(tmp_path / "model.tar.gz"))
        with tarfile.open(tmp_path / "model.tar.gz") as archive:
            names = {name.removeprefix("./") for name in archive.getnames()}
        copy = verified_copy(shop, "delays/2")
        assert {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()} <= names
        client = get_deploy_client(SAGEMAKER)
        assert client.get_deployment("late")["EndpointName"] == "late"
        client.delete_deployment("late")
        assert sagemaker.list_endpoints()["Endpoints"] == []

    def test_what_the_target_says_is_told_once(self, shop: Project, sagemaker: Any, role: str) -> None:
        told = {"execution_role_arn": role, "image_url": IMAGE, "archive": "False", "synchronous": "False"}
        with pytest.raises(DeployError, match="sagemaker:/us-east-1 refused: Resources must be archived"):
            deploy(shop, "delays/2", to=SAGEMAKER, as_="never", parameters=told)
        assert sagemaker.list_endpoints()["Endpoints"] == []

    def test_bytes_that_were_changed_go_nowhere(self, shop: Project, sagemaker: Any, role: str) -> None:
        from nbmlops.registry.mlflow import Registry

        version = shop.open(Registry).resolve("delays/1")
        stored = next(Path(shop.root).rglob(f"{version.source.rpartition('/')[2]}/**/MLmodel"))
        before = stored.read_bytes()
        stored.write_bytes(before + b"\n")
        try:
            with pytest.raises(ConflictError, match="not what was registered"):
                deploy(shop, "delays/1", to=SAGEMAKER, as_="changed", parameters={"execution_role_arn": role})
        finally:
            stored.write_bytes(before)
        assert sagemaker.list_endpoints()["Endpoints"] == []
