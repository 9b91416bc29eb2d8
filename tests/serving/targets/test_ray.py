"""`deploy --to ray`: what is told without a cluster, and a real one on this machine."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from nbmlops.errors import ConflictError, DeployError, StoreError, UsageError
from nbmlops.ledger.database import Ledger
from nbmlops.ledger.endpoints import Endpoints, Variant, Wanted
from nbmlops.ledger.tables import FORMS
from nbmlops.project import Project
from nbmlops.registry.reading import remembered
from nbmlops.registry.verbs import promote, rollback
from nbmlops.serving import deploying, keeping
from nbmlops.serving.target import Place
from nbmlops.serving.targets.ray import Cluster, place
from nbmlops.serving.verbs import deploy, predict, traffic, undeploy
from nbmlops.serving.worker import bind
from nbmlops.validation.verbs import validate
from tests.serving.conftest import served
from tests.serving.crowd import DELAYS, crowd, until, x

START_S = 300.0  # of a cluster, on a machine that others use too


# -------------------------------------------------------------------- without Ray
@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have Ray be found; nothing of it is imported."""
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "__init__.py").write_text("raise AssertionError('nothing here needs it')")
    monkeypatch.syspath_prepend(tmp_path)


def test_without_ray_one_line_names_the_extra(shop: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"Ray Serve needs nbmlops\[ray\]") as failure:
        deploy(shop, "delays/1", as_="there", to="ray")
    assert failure.value.hint == "pip install 'nbmlops[ray]'"
    assert "there" not in shop.open(Endpoints).wanted()


@pytest.mark.usefixtures("found")
def test_a_dry_run_needs_no_cluster(shop: Project) -> None:
    made = deploy(shop, "delays/1", as_="there", to="ray", parameters={"replicas": "2"}, dry_run=True)
    assert made.headline == "Would deploy delays/1 as there"
    assert "there" not in shop.open(Endpoints).wanted()


@pytest.mark.usefixtures("found")
@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"port": 5001}, "--port"),
        ({"workers": 2}, "--workers"),
        ({"address": "0.0.0.0", "token": "env:T"}, "--address"),
        ({"certificate": "c.pem", "key": "k.pem"}, "--certificate --key"),
        ({"capture": True}, "--capture"),
        ({"parameters": {"replica": 2}}, "'replica'"),
        ({"parameters": {"replicas": "many"}}, "replicas is 'many'"),
        ({"parameters": {"replicas": 0}}, "replicas must be"),
    ],
)
def test_what_ray_serve_has_no_counterpart_of_is_refused(shop: Project, option: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        deploy(shop, "delays/1", as_="there", to="ray", dry_run=True, **option)


@pytest.mark.usefixtures("found")
def test_an_endpoint_of_a_cluster_that_all_reach_belongs_to_no_machine(shop: Project) -> None:
    everywhere = place({"address": "ray://head:10001"}, deploying.Terms())
    assert (everywhere.host, everywhere.target) == ("", "ray")
    assert place({}, deploying.Terms()).host == socket.gethostname()
    assert Cluster.of({"address": "10.0.0.7:6379"}).host == "10.0.0.7"
    far = replace(Wanted("far", "another-machine", (Variant("delays", "1", ""),)), host="")
    assert deploying.ours(far) is far
    assert keeping.is_ours(far)


@pytest.mark.usefixtures("found")
def test_an_endpoint_stays_where_it_is(shop: Project) -> None:
    endpoints = shop.open(Endpoints)
    there = endpoints.want(Place("", "ray").taken(Wanted("stays", "", (Variant("delays", "1", ""),))))
    try:
        assert served(shop)["stays"].status == "behind"
        with pytest.raises(ConflictError, match="stays is served by ray"):
            deploy(shop, "delays/2", as_="stays", dry_run=True)
        with pytest.raises(StoreError, match="does not answer"):
            predict(shop, "stays", data=str(table_of(shop)))
        deploy(shop, "delays/2", as_="stays", to="ray", dry_run=True)
    finally:
        endpoints.forget(there.name)


def table_of(shop: Project) -> Path:
    path = shop.root / "rows.csv"
    pd.DataFrame({"delay": [0.5, -2.0], "carrier": ["UA", "B6"], "day": [1, 2]}).to_csv(path, index=False)
    return path


# ------------------------------------------------------------------ a real cluster
@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    """A cluster of this test alone; gives the parameters that name it. Nothing of it is left."""
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # short: it holds sockets
    ports = [free_port() for _ in range(2)]
    words = ["start", "--head", "--block", f"--port={ports[0]}", "--num-cpus=2", "--include-dashboard=false"]
    words += ["--object-store-memory=100000000", "--disable-usage-stats", f"--temp-dir={folder}"]
    own = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_raylet_start_wait_time_s": "120", "NBMLOPS_AGENT": "off"}
    ray = Path(sys.executable).with_name("ray")
    with pytest.MonkeyPatch.context() as patch, Path(folder, "said").open("w+") as said:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        process = subprocess.Popen([ray, *words], env=own, stdout=said, stderr=said, start_new_session=True)
        try:
            until(lambda: is_up(process, Path(folder, "said")), START_S)
            yield {"address": f"127.0.0.1:{ports[0]}", "port": str(ports[1]), "cpus": "0.2"}
        finally:
            end_all(process.pid)
            process.wait(30)
            shutil.rmtree(folder, ignore_errors=True)


def is_up(process: "subprocess.Popen[bytes]", said: Path) -> bool:
    assert process.poll() is None, said.read_text()
    return "runtime started" in said.read_text()


def free_port() -> int:
    with bind("127.0.0.1", 0) as free:
        return int(free.getsockname()[1])


def end_all(pid: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        them = psutil.Process(pid).children(recursive=True)
        for each in [*them, psutil.Process(pid)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        psutil.wait_procs(them, 30)


def replicas_of(version: str) -> list[psutil.Process]:
    """The processes that serve a version."""
    titled = [(each, " ".join(each.info["cmdline"] or [])) for each in psutil.process_iter(["cmdline"])]
    return [each for each, title in titled if title.startswith("ray::ServeReplica:nbmlops") and f"/{version}-" in title]


@pytest.fixture
def there(shop: Project, cluster: dict[str, str]) -> Iterator[dict[str, Any]]:
    """What names the cluster to `deploy`; no endpoint is left there."""
    yield {"to": "ray", "parameters": cluster}
    for name in served(shop):
        undeploy(shop, name)


def on_a_cluster(test: Any) -> Any:
    for mark in (pytest.mark.soak, pytest.mark.timeout(1500), pytest.mark.filterwarnings("ignore")):
        test = mark(test)
    return test


@on_a_cluster
def test_the_way_of_versions_on_a_cluster(
    shop: Project, flights: pd.DataFrame, features: pd.DataFrame, there: dict[str, Any]
) -> None:
    toml = '[project]\nname = "flights"\n[gates.default]\ntarget = "late"\nmetrics.roc_auc = { min = 0.5 }\n'
    (shop.root / "nbmlops.toml").write_text(toml)
    holdout = flights.assign(late=flights.late.astype(int))
    for version in ("delays/1", "delays/3"):
        validate(shop, version, data=holdout)
    promote(shop, "delays/1")
    began = time.monotonic()
    first = deploy(shop, "delays@champion", as_="live", **there)
    took("first deploy", began)
    assert (first.form, {check.status for check in first.preflight}) == ("compiled", {"ok"})
    assert [share.headline for share in served(shop)["live"].traffic] == ["1 100% (compiled)"]
    local = deploy(shop, "delays/1", as_="local")
    scored = [predict(shop, name, data=features).predictions for name in ("live", "local")]
    assert scored[0] == scored[1]
    undeploy(shop, local.endpoint)
    with crowd(first.url, DELAYS, n_clients=2, pause_s=0.05) as them:
        began = time.monotonic()
        deploy(shop, "delays/3", as_="live", shadow=True, bake="2s", slo="err<1%,diff<5%", wait=True, **there)
        took("second deploy, a shadow for 2 s", began)
        assert them.versions.keys() == {"delays/1"}
        deploy(shop, "delays/3", as_="live", canary="10,100", bake="60s", slo="err<1%", **there)
        until(lambda: them.versions["delays/3"] > 3, 60)
        began = time.monotonic()
        traffic(shop, "live", {"3": "100"})
        took("traffic", began)
        until(lambda: sum(them.since(began + 1.0).values()) > 50, 30)
        assert them.since(began + 1.0).keys() == {"delays/3"}
        promoted = promote(shop, "delays/3")
        assert promoted.switched == ("live",)
        until(lambda: served(shop)["live"].version == "3", 60)
        began = time.monotonic()
        rollback(shop, "delays")
        until(lambda: served(shop)["live"].status == "answers", 60)
        took("rollback", began)
        until(lambda: sum(them.since(began + 5.0).values()) > 20, 30)
        assert them.since(began + 5.0).keys() == {"delays/1"}
    assert them.failures == []
    assert them.n_answered > 500
    undeploy(shop, "live")
    assert replicas_of("1") == replicas_of("3") == []


@on_a_cluster
def test_a_bad_version_is_taken_back_and_one_that_fails_its_preflight_never_comes(
    shop: Project, moody: dict[str, str], there: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = f"moody/{moody['good']}", f"moody/{moody['raises']}"
    monkeypatch.setenv("SPOKEN", "t0ken-of-a-test")
    there["parameters"] = {**there["parameters"], "replicas": "2"}
    url = deploy(shop, good, as_="tried", token="env:SPOKEN", **there).url
    with crowd(url, x(3.0), n_clients=2, pause_s=0.05, token="t0ken-of-a-test") as them:
        began = time.monotonic()
        with pytest.raises(DeployError, match=r"was rolled back: .*err is"):
            deploy(shop, bad, as_="tried", canary="50,100", bake="60s", slo="err<1%", wait=True, **there)
        took("a bad version deployed, tried and taken back", began)
        began = time.monotonic() + 1.0
        until(lambda: sum(them.since(began).values()) > 20, 60)
        assert them.since(began).keys() == {good}
        assert all("not today" in failure for failure in them.failures)
        assert 0 < len(them.failures) <= 50
        print(f"{len(them.failures)} bad answers")
        n_failed = len(them.failures)
        replicas_of(moody["good"])[0].kill()
        began = time.monotonic()
        until(lambda: sum(them.since(began).values()) > 100, 60)
        assert len(them.failures) - n_failed <= 1
        forge(shop, moody["slow"])
        with pytest.raises(DeployError, match="failed its preflight, so what is live stays: predictions"):
            deploy(shop, f"moody/{moody['slow']}", as_="tried", **there)
        began = time.monotonic()
        until(lambda: sum(them.since(began).values()) > 20, 60)
        assert them.since(began).keys() == {good}
    assert served(shop)["tried"].status == "answers"


def forge(shop: Project, version: str) -> None:
    """Keep that a version said something else when it was registered."""
    digest = remembered(shop, f"moody/{version}").digest
    record = {**(shop.open(Endpoints).form(digest) or {}), "predictions": [7.0, 7.0]}
    with shop.open(Ledger).writing() as connection:
        connection.execute(FORMS.update().where(FORMS.c.digest == digest).values(record=record))


def took(what: str, began: float) -> None:
    """Tell how long something took; read with ``-s``."""
    print(f"{what}: {time.monotonic() - began:.2f} s")
