"""Deploying, replacing, failing and ending, with real server processes."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from nbmlops.errors import ConflictError, DeployError, NotFoundError, StoreError, UsageError
from nbmlops.ledger.database import Ledger
from nbmlops.ledger.endpoints import Endpoints, Variant, Wanted
from nbmlops.project import Project
from nbmlops.registry.loader import verified_copy
from nbmlops.registry.verbs import register
from nbmlops.serving import processes
from nbmlops.serving.instructions import VARIANTS
from nbmlops.serving.keeping import lock, owned
from nbmlops.serving.verbs import deploy, predict, server_of, traffic, undeploy
from nbmlops.serving.worker import bind
from tests.serving.conftest import served, servers
from tests.serving.crowd import until


class Requests(threading.Thread):
    """A bounded loop of requests beside the test; `failures` holds every one that was not answered with 200."""

    def __init__(self, url: str, body: bytes) -> None:
        super().__init__()
        self.url, self.body = url, body
        self.n_sent, self.failures = 0, []  # type: ignore[var-annotated]
        self.is_over = threading.Event()

    def run(self) -> None:
        while not self.is_over.is_set() and self.n_sent < 50_000:
            request = urllib.request.Request(self.url, self.body, {"Content-Type": "application/json"})
            self.n_sent += 1
            time.sleep(0.003)  # leave the new server something of the processor
            try:
                with urllib.request.urlopen(request, timeout=30) as response:
                    response.read()
            except OSError as exc:
                self.failures.append(exc)


@pytest.fixture
def broken(shop: Project, tmp_path: Path) -> str:
    """A version whose own input example does not fit it."""
    folder = verified_copy(shop, "delays/1", into=tmp_path)
    example = json.dumps({"dataframe_split": {"columns": ["delay"], "data": [[1.5]]}})
    (folder / "serving_input_example.json").write_text(example)
    made = register(shop, str(folder), "broken")
    return f"{made.name}/{made.version}"


def test_the_life_of_an_endpoint(shop: Project, features: Any, broken: str) -> None:
    """One test, because every step needs the server of the step before."""
    # ---- first
    assert deploy(shop, "delays/1", as_="life", dry_run=True).headline == "Would deploy delays/1 as life"
    assert "life" not in served(shop)
    first = deploy(shop, "delays/1", as_="life")
    [worker] = servers(shop, "life")
    with urllib.request.urlopen(f"{first.url}/ping", timeout=10) as answered:
        assert answered.headers["nbmlops-model"] == "delays/1"

    # ---- a new version under a loop of requests: same process and port, none fails
    body = json.dumps({"dataframe_split": features.head(2).to_dict("split")}).encode()
    loop = Requests(f"{first.url}/invocations", body)
    loop.start()
    second = deploy(shop, "delays/2", as_="life")
    loop.is_over.set()
    loop.join()
    assert loop.failures == []
    assert loop.n_sent > 20
    assert (second.url, second.replaced) == (first.url, "delays/1")
    assert servers(shop, "life") == {worker}

    # ---- a model that fails on its own example leaves the old one live
    with pytest.raises(DeployError, match=r"failed its preflight, so what is live stays: .*missing inputs") as failure:
        deploy(shop, broken, as_="life")
    assert failure.value.exit_code == 7
    assert servers(shop, "life") == {worker}
    assert (served(shop)["life"].version, served(shop)["life"].status) == ("2", "answers")
    assert predict(shop, "life", data=features.head(3)).n_rows == 3

    # ---- a port that is taken is refused, and nothing changes
    other = bind("127.0.0.1", 0)
    with other, pytest.raises(DeployError, match=f"Port {other.getsockname()[1]} cannot be had"):
        deploy(shop, "delays/2", as_="life", port=other.getsockname()[1])
    assert servers(shop, "life") == {worker}

    # ---- killed: dead, said so, and deployed again on the same port
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: served(shop)["life"].status == "dead")
    with pytest.raises(StoreError, match="its process is gone") as gone:
        predict(shop, "life", data=features.head(3))
    assert gone.value.hint == "`deploy delays/2 --as life`"
    again = deploy(shop, "delays/2", as_="life")
    assert (again.url, served(shop)["life"].status) == (first.url, "answers")

    # ---- undeployed: nothing is left but the record of what happened
    with pytest.raises(NotFoundError, match="Did you mean life"):
        undeploy(shop, "live")
    assert "Would stop" in undeploy(shop, "life", dry_run=True).headline
    assert undeploy(shop, "life").url == first.url
    assert "life" not in served(shop)
    assert servers(shop, "life") == set()
    assert not (shop.root / ".nbmlops" / "endpoints" / "life").exists()
    events = shop.open(Ledger).events(verbs=("deploy", "undeploy"), limit=3)
    assert [(event.verb, event.outcome) for event in events] == [
        ("undeploy", "ok"),
        ("undeploy", "NotFoundError"),
        ("deploy", "ok"),
    ]


DEPLOY = """
import sys
from nbmlops.project import Project
from nbmlops.serving.verbs import deploy
print(deploy(Project(sys.argv[1]), "delays/1", as_="race").url)
"""


def test_two_deploys_at_once_leave_one_server_and_release_the_callers_pipes(shop: Project) -> None:
    command = [sys.executable, "-c", DEPLOY, str(shop.root)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate(timeout=120) for process in both]  # would wait for the servers if they held the pipes
    assert [process.returncode for process in both] == [0, 0], told
    [left] = servers(shop, "race")
    assert {out.strip() for out, _ in told} == {served(shop)["race"].url}
    assert served(shop)["race"].pids == (left,)
    assert left not in {server.pid for server in processes.leftovers(shop.root, (left,))}


def wait_until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_endpoint_of_another_machine_is_left_alone(shop: Project, features: Any) -> None:
    endpoints = shop.open(Endpoints)
    endpoints.want(Wanted("far", "another-machine", (Variant("delays", "1", ""),)))
    try:
        assert served(shop)["far"].status == "elsewhere"
        with pytest.raises(ConflictError, match="another-machine"):
            undeploy(shop, "far")
        with pytest.raises(ConflictError, match="another-machine"):
            traffic(shop, "far", {"1": "100"})
        with pytest.raises(ConflictError, match="another-machine"):
            deploy(shop, "delays/1", as_="far")
        with pytest.raises(StoreError, match="another-machine"):
            predict(shop, "far", data=features.head(1))
    finally:
        endpoints.forget("far")


def test_the_command_that_starts_a_server_again_can_be_typed(shop: Project) -> None:
    again = [
        server_of(shop, Wanted(name, "here", (Variant(model, "2", ""),)), {}).again
        for name, model in [("late flights", "late flights"), ("shop window", "delays"), ("delays", "delays")]
    ]
    assert again == ["deploy 'late flights/2'", "deploy delays/2 --as 'shop window'", "deploy delays/2"]


def test_a_place_that_cannot_be_written_is_a_store_error(shop: Project) -> None:
    place = shop.root / ".nbmlops" / "endpoints" / "walled"
    place.parent.mkdir(exist_ok=True)
    place.touch()
    with pytest.raises(StoreError, match=r"files of the endpoint in .*walled cannot be kept: Not a directory"):
        deploy(shop, "delays/1", as_="walled")
    place.unlink()
    lock(shop, "walled").unlink()
    lock(shop, "walled").mkdir()
    with pytest.raises(StoreError, match=r"The lock .*walled cannot be held: Is a directory"):
        deploy(shop, "delays/1", as_="walled")
    lock(shop, "walled").rmdir()
    assert "walled" not in served(shop)


def test_names_and_ports_that_cannot_be_are_refused(shop: Project) -> None:
    for name in ("../up", ".hidden", "a/b", ""):
        with pytest.raises(UsageError, match="cannot name an endpoint"):
            deploy(shop, "delays/1", as_=name or "/", dry_run=True)
    with pytest.raises(UsageError, match="no port 70000"):
        deploy(shop, "delays/1", port=70_000)
    with pytest.raises(NotFoundError):
        deploy(shop, "delays/99")


def test_a_server_has_nothing_of_the_run_that_deployed_it(shop: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NBMLOPS_PARAMETER_token", "NBMLOPS_RUN", "NBMLOPS_FENCE_OF_ANOTHER"):
        monkeypatch.setenv(name, "s3cr3t-0815")
    deploy(shop, "delays/1", as_="discreet")
    try:
        (pid,) = servers(shop, "discreet")
        assert b"s3cr3t-0815" not in Path(f"/proc/{pid}/environ").read_bytes()
    finally:
        undeploy(shop, "discreet")


def test_the_first_server_ends_when_the_deploy_that_waits_for_its_proof_is_killed(shop: Project) -> None:
    code = "import sys; from nbmlops.project import Project; from nbmlops.serving.verbs import deploy\n"
    code += "deploy(Project(sys.argv[1]), 'delays/1', as_='orphan')"
    environment = {**os.environ, "NBMLOPS_CRASH_AT": "endpoint-prepared"}
    done = subprocess.run([sys.executable, "-c", code, str(shop.root)], env=environment, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    until(lambda: not servers(shop, "orphan"), 5)
    assert "orphan" not in served(shop)


def test_the_process_that_proves_an_endpoint_s_first_version_goes_on_to_serve_it(shop: Project) -> None:
    deploy(shop, "delays/1", as_="newborn")
    try:
        (pid,) = servers(shop, "newborn")
        assert f"/{VARIANTS}/1-" in psutil.Process(pid).cmdline()[-1]
        assert processes.leftovers(shop.root, owned(shop)) == []
    finally:
        undeploy(shop, "newborn")


def test_deploying_a_compiled_model_loads_neither_mlflow_nor_pandas_nor_scikit_learn(shop: Project) -> None:
    code = "import sys; from nbmlops.project import Project; from nbmlops.serving.verbs import deploy\n"
    code += "deploy(Project(sys.argv[1]), 'delays/1', as_='light')\n"
    code += "print(sorted({'mlflow', 'pandas', 'sklearn', 'scipy', 'pyarrow'} & set(sys.modules)))"
    try:
        done = subprocess.run([sys.executable, "-c", code, str(shop.root)], capture_output=True, text=True, check=True)
        assert done.stdout == "[]\n"
        (pid,) = servers(shop, "light")
        loaded = Path(f"/proc/{pid}/maps").read_text()
        assert "numpy" in loaded
        assert not [name for name in ("/pandas/", "/sklearn/", "/scipy/", "/pyarrow/") if name in loaded]
    finally:
        undeploy(shop, "light")
