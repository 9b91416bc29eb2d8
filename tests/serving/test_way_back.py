"""The way back of a model that is not compiled: it needs neither MLflow nor the artifact store."""

import contextlib
from collections.abc import Iterator

import pandas as pd
import pytest
from sklearn.neighbors import KNeighborsClassifier

from nbmlops.agent.serving import Serving
from nbmlops.ledger.endpoints import Endpoints
from nbmlops.project import Project
from nbmlops.registry.mlflow import Registry
from nbmlops.registry.verbs import promote, register, rollback
from nbmlops.serving import deploying, keeping
from nbmlops.serving.verbs import deploy, undeploy
from nbmlops.validation.verbs import validate
from tests.serving.conftest import GATE, model_processes, served, servers
from tests.serving.crowd import crowd, until

ROW = b'{"dataframe_split": {"columns": ["delay", "day"], "data": [[0.3, 2]]}}'


@pytest.fixture(scope="module")
def near(shop: Project, flights: pd.DataFrame) -> Project:
    """The shop with four versions of a model that no worker can score, the first two of which may be promoted."""
    (shop.root / "nbmlops.toml").write_text(GATE)
    table, late = flights[["delay", "day"]], flights.late.astype(int)
    for n_neighbors in (3, 5, 7, 9):
        register(shop, KNeighborsClassifier(n_neighbors).fit(table, late), "near", input_example=table[:5])
    for version in ("1", "2"):
        validate(shop, f"near/{version}", data=table.assign(late=late))
    return shop


@pytest.fixture
def away(near: Project) -> Iterator[Project]:
    """The same project where no MLflow answers."""
    yield Project(near.root, overrides={"tracking": "http://127.0.0.1:9"})
    for name in served(near):
        undeploy(near, name)


@contextlib.contextmanager
def without_mlflow(away: Project) -> Iterator[list[str]]:
    """Move the artifact store away, and look after the endpoints as an agent does that cannot reach MLflow."""
    artifacts, told = away.root / ".nbmlops" / "artifacts", list[str]()
    elsewhere = artifacts.rename(artifacts.with_name("elsewhere"))
    serving = Serving(away, told.append, every_s=0.1)
    serving.start()
    try:
        yield told
    finally:
        serving.close()
        elsewhere.rename(artifacts)


@pytest.fixture
def ways(near: Project, away: Project) -> str:
    """An endpoint that has followed its alias from version 1 to 2; its URL."""
    near.open(Registry).set_alias("near", "champion", "2")
    promote(near, "near/1")
    url = deploy(near, "near@champion", as_="ways").url
    promote(near, "near/2")
    kept(near, "ways")
    assert served(near)["ways"].version == "2"
    return url


def kept(project: Project, name: str) -> None:
    """See to an endpoint once, as an agent does."""
    deploying.keep(project, project.open(Endpoints).wanted()[name], waits=True)


def test_a_rollback_after_other_versions_were_tried_fails_no_request(near: Project, away: Project, ways: str) -> None:
    for version in ("3", "4"):
        deploy(near, f"near/{version}", as_="ways", canary="10,100", bake="1h")
        assert rollback(near, "near").ended == ("ways",)
    kept(near, "ways")
    with without_mlflow(away) as told, crowd(ways, ROW, n_clients=3) as them:
        until(lambda: them.n_answered > 50)
        back = rollback(away, "near")
        assert (back.version, back.previous, back.switched, back.mlflow_is_told) == ("1", "2", ("ways",), False)
        until(lambda: (served(near)["ways"].version, served(near)["ways"].status) == ("1", "answers"))
        before = them.n_answered
        until(lambda: them.n_answered > before + 50)
    assert (them.failures, told) == ([], [])


@pytest.mark.soak
def test_processes_that_are_gone_come_back(near: Project, away: Project, ways: str) -> None:
    keeping.rested(near, "ways")
    assert servers(near, "ways") == model_processes(near, "ways") == set()
    with without_mlflow(away) as told:
        until(lambda: served(near)["ways"].status == "answers")
    assert (served(near)["ways"].url, told) == (ways, [])


@pytest.mark.soak
def test_a_version_that_was_never_here_is_told_of_and_what_is_live_goes_on(near: Project, away: Project) -> None:
    near.open(Registry).set_alias("near", "champion", "2")
    promote(near, "near/1")
    promote(near, "near/2")
    url = deploy(near, "near@champion", as_="fresh").url
    with without_mlflow(away) as told, crowd(url, ROW, n_clients=2) as them:
        rollback(away, "near")
        until(lambda: served(near)["fresh"].trouble)
        before = them.n_answered
        until(lambda: them.n_answered > before + 20)
    assert them.failures == []
    assert served(near)["fresh"].status == "behind"
    assert len(told) == 1
    serving = Serving(near, every_s=0.1)
    serving.start()
    try:
        until(lambda: (served(near)["fresh"].version, served(near)["fresh"].status) == ("1", "answers"))
    finally:
        serving.close()
