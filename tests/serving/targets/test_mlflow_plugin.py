"""The target `nbmlops` of MLflow's own command and client."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from mlflow.deployments import get_deploy_client
from mlflow.exceptions import MlflowException

from nbmlops.project import Project
from nbmlops.registry.loader import load_model, verified_copy
from tests.serving.conftest import served

MLFLOW = Path(sys.executable).with_name("mlflow")


def deployments(shop: Project, *words: str) -> str:
    """Run ``mlflow deployments`` in the project's folder; give what it printed."""
    done = subprocess.run([MLFLOW, "deployments", *words], cwd=shop.root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_mlflows_command_creates_and_predicts(shop: Project, features: pd.DataFrame, tmp_path: Path) -> None:
    created = deployments(
        shop, "create", "-t", "nbmlops", "-m", "models:/delays/2", "--name", "plugged", "-C", "workers=2"
    )
    assert "deployment plugged is created" in created
    assert (served(shop)["plugged"].version, len(served(shop)["plugged"].pids)) == ("2", 2)
    (tmp_path / "rows.json").write_text(features.head(20).to_json())
    answered = ["-I", str(tmp_path / "rows.json"), "-O", str(tmp_path / "answer.json")]
    deployments(shop, "predict", "-t", "nbmlops", "--name", "plugged", *answered)
    native = load_model(verified_copy(shop, "delays/2")).predict(features.head(20))
    assert json.loads((tmp_path / "answer.json").read_text()) == {"predictions": [int(each) for each in native]}
    get_deploy_client(f"nbmlops:{shop.root}").delete_deployment("plugged")
    assert "plugged" not in served(shop)


@pytest.mark.soak
def test_mlflows_command_lists_updates_and_deletes(shop: Project) -> None:
    deployments(shop, "create", "-t", "nbmlops", "-m", "models:/delays/1", "--name", "plugged")
    assert "delays/1" in deployments(shop, "list", "-t", "nbmlops")
    assert "status: answers" in deployments(shop, "get", "-t", "nbmlops", "--name", "plugged")
    deployments(shop, "update", "-t", "nbmlops", "--name", "plugged", "-m", "models:/delays/2")
    assert served(shop)["plugged"].version == "2"
    deployments(shop, "delete", "-t", "nbmlops", "--name", "plugged")
    assert "plugged" not in served(shop)
    assert "workers" in deployments(shop, "help", "-t", "nbmlops")


def test_the_client_does_what_the_command_does(shop: Project, features: pd.DataFrame) -> None:
    client = get_deploy_client(f"nbmlops:{shop.root}")
    made = client.create_deployment("client", "models:/delays/1")
    assert made == {"name": "client", "flavor": "python_function", "model": "delays/1"}
    assert [each["name"] for each in client.list_deployments()] == ["client"]
    client.update_deployment("client", config={"workers": "2"})
    found = client.get_deployment("client")
    assert (found["status"], found["model"]) == ("answers", "delays/1")
    assert len(served(shop)["client"].pids) == 2
    assert len(client.predict("client", features.head(3))["predictions"]) == 3
    client.delete_deployment("client")
    client.delete_deployment("client")
    assert client.list_deployments() == []


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda client: client.create_deployment("x", "runs:/abc/model"), "does not name a model version"),
        (lambda client: client.create_deployment("x", "models:/delays/1", config={"worker": "2"}), "workers"),
        (lambda client: client.create_deployment("x", "models:/delays/1", config={"workers": "two"}), "no int"),
        (lambda client: client.create_deployment("x", "models:/delays/1", flavor="sklearn"), "python_function"),
        (lambda client: client.update_deployment("nowhere"), "no endpoint 'nowhere'"),
        (lambda client: client.get_deployment("nowhere"), "no endpoint 'nowhere'"),
        (lambda client: client.list_deployments(endpoint="y"), "--endpoint"),
    ],
)
def test_what_cannot_be_is_an_error_of_mlflows(shop: Project, call: object, said: str) -> None:
    with pytest.raises(MlflowException, match=said):
        call(get_deploy_client(f"nbmlops:{shop.root}"))  # type: ignore[operator]
    assert served(shop) == {}
    assert os.getcwd() != str(shop.root)
