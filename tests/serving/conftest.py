"""Registered models, and a project whose endpoints are gone when its tests are."""

import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from nbmlops.project import Project
from nbmlops.registry.mlflow import Registry
from nbmlops.registry.verbs import register
from nbmlops.serving.endpoints import Endpoint
from nbmlops.serving.processes import MODEL_PROCESS, WORKER, leftovers, running
from nbmlops.serving.verbs import endpoints, undeploy


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
