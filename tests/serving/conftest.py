"""Registered models, and a project whose endpoints are gone when its tests are."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import psutil
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from nbmlops.agent.serving import Serving
from nbmlops.errors import NotFoundError
from nbmlops.ledger.database import Ledger
from nbmlops.ledger.endpoints import Endpoints
from nbmlops.ledger.events import Event
from nbmlops.project import Project
from nbmlops.registry.mlflow import Registry
from nbmlops.registry.verbs import register
from nbmlops.serving.endpoints import Endpoint
from nbmlops.serving.processes import MODEL_PROCESS, WORKER, leftovers, running
from nbmlops.serving.verbs import deploy, endpoints, undeploy
from nbmlops.validation.verbs import validate

GATE = '[project]\nname = "flights"\n[gates.default]\ntarget = "late"\nmetrics.roc_auc = { min = 0.5 }\n'


@pytest.fixture(scope="session")
def flights() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"delay": rng.normal(size=500), "carrier": rng.choice(["UA", "B6", "AA"], 500)})
    return frame.assign(day=rng.integers(1, 8, 500), late=frame.delay + rng.normal(0, 0.5, 500) > 0)


@pytest.fixture(scope="session")
def features(flights: pd.DataFrame) -> pd.DataFrame:
    return flights.drop(columns="late")


def fitted(flights: pd.DataFrame, estimator: Any) -> Any:
    encode = make_column_transformer(
        (StandardScaler(), ["delay", "day"]), (OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["carrier"])
    )
    return make_pipeline(encode, estimator).fit(flights.drop(columns="late"), flights.late.astype(int))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path, flights: pd.DataFrame) -> Iterator[Project]:
    """A project with three versions of ``delays``; version 1 is champion. No endpoint outlives it."""
    root = tmp_path_factory.mktemp("shop")
    (root / ".nbmlops").mkdir()
    shutil.copy(empty_mlflow, root / ".nbmlops" / "mlflow.db")
    (root / "nbmlops.toml").write_text('[project]\nname = "flights"\n')
    project = Project(root)
    example = flights.drop(columns="late")
    for estimator in (LogisticRegression(), HistGradientBoostingClassifier(max_iter=5), LogisticRegression(C=0.5)):
        register(project, fitted(flights, estimator), "delays", input_example=example)
    project.open(Registry).set_alias("delays", "champion", "1")
    yield project
    for endpoint in endpoints(project):
        undeploy(project, endpoint.name)
    assert leftovers(root, ()) == []


@pytest.fixture(scope="module")
def judged(shop: Project, flights: pd.DataFrame) -> Project:
    """The shop with a gate, and evidence for versions 1 and 3."""
    (shop.root / "nbmlops.toml").write_text(GATE)
    for version in ("1", "3"):
        validate(shop, f"delays/{version}", data=flights.assign(late=flights.late.astype(int)))
    return shop


@pytest.fixture
def ended(shop: Project) -> Iterator[Callable[[str], None]]:
    """Names endpoints that are undeployed when the test is over."""
    names: list[str] = []
    yield names.append
    for name in names:
        if name in served(shop):
            undeploy(shop, name)


@contextlib.contextmanager
def looked_after(project: Project) -> Iterator[list[str]]:
    """Do what an agent does for endpoints, beside the test; gives what it tells."""
    told: list[str] = []
    serving = Serving(Project(project.root), told.append, every_s=0.1)
    serving.start()
    try:
        yield told
    finally:
        serving.close()


@pytest.fixture
def kept_up(shop: Project) -> Iterator[None]:
    """What an agent does for endpoints; none of them outlives the test, and version 1 is champion again."""
    try:
        with looked_after(shop):
            yield
    finally:
        for name in served(shop):
            undeploy(shop, name)
        for name in ("delays", "moody"):
            with contextlib.suppress(NotFoundError):
                shop.open(Registry).set_alias(name, "champion", "1")


def state_of(project: Project, name: str) -> str:
    """The state of an endpoint's rollout."""
    return str(project.open(Endpoints).wanted()[name].rollout.get("state"))


def rollout_events(project: Project, name: str) -> list[Event]:
    """What the ledger tells of an endpoint's rollouts, oldest first."""
    return project.open(Ledger).events(verbs=("rollout",), subject=f"endpoint/{name}")[::-1]


@pytest.fixture(scope="module")
def moods(shop: Project, moody: dict[str, str]) -> Iterator[str]:
    """An endpoint of the good one with two processes; its URL."""
    yield deploy(shop, f"moody/{moody['good']}", as_="moods", workers=2).url
    undeploy(shop, "moods")


def children(shop: Project) -> list[psutil.Process]:
    """The processes that answer for the model of `moods`."""
    [parent] = model_processes(shop, "moods")
    return psutil.Process(parent).children()


DEPLOY = """
import sys
from nbmlops.project import Project
from nbmlops.serving.verbs import deploy
deploy(Project(sys.argv[1]), sys.argv[2], as_=sys.argv[3])
"""

POINTS = ["endpoint-prepared", "endpoint-wanted", "endpoint-told", "endpoint-made"]


def killed_at(shop: Project, point: str, model: str, name: str) -> None:
    """Deploy in a process that kills itself at a point."""
    environment = {**os.environ, "NBMLOPS_CRASH_AT": point}
    done = subprocess.run(
        [sys.executable, "-c", DEPLOY, str(shop.root), model, name], env=environment, capture_output=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def served(project: Project) -> dict[str, Endpoint]:
    return {endpoint.name: endpoint for endpoint in endpoints(project)}


def servers(project: Project, endpoint: str) -> set[int]:
    """The process ids of an endpoint's workers, all that run."""
    found = running(project.root)
    return {each.pid for each in found if each.module == WORKER and Path(each.folder).name == endpoint}


def model_processes(project: Project, endpoint: str) -> set[int]:
    """The process ids of the parents of an endpoint's models, all that run."""
    found = running(project.root)
    return {each.pid for each in found if each.module == MODEL_PROCESS and f"/{endpoint}/" in each.folder}


@pytest.fixture(scope="module")
def moody(shop: Project, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Versions of a model that no worker can score itself: a good one, one that raises, a slow and a shifted one."""
    places = Path(__file__).parent
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(places)
        from moody import Moody

        example = pd.DataFrame({"x": [1.0, 2.0]})
        made = {}
        for name, settings in {
            "good": {},
            "also good": {"shift": 0.001},
            "raises": {"raises": True},
            "slow": {"pause_s": 0.2},
            "shifted": {"shift": 5.0},
        }.items():
            folder = tmp_path_factory.mktemp("saved") / "model"
            model = Moody(**settings).fit(None, None)  # type: ignore[arg-type]
            signature = mlflow.models.infer_signature(example, np.array([1.0, 2.0]))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # MLflow's own about pickle and pandas
                mlflow.sklearn.save_model(
                    model,
                    str(folder),
                    signature=signature,
                    input_example=example,
                    serialization_format="cloudpickle",
                    code_paths=[str(places / "moody.py")],
                    pip_requirements=[f"numpy=={np.__version__}"],
                )
            made[name] = register(shop, str(folder), "moody", trust=["cloudpickle", "code"]).version
    shop.open(Registry).set_alias("moody", "champion", made["good"])
    return made
