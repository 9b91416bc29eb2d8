"""Half of scikit-learn's breast cancer data to train on, half as the gate's holdout, and models of known quality."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nbmlops.project import Project


@pytest.fixture(scope="session")
def halves() -> tuple[pd.DataFrame, pd.DataFrame]:
    features, target = load_breast_cancer(return_X_y=True, as_frame=True)
    table = features.assign(late=target).sample(frac=1, random_state=0)
    return table.iloc[::2].reset_index(drop=True), table.iloc[1::2].reset_index(drop=True)


@pytest.fixture(scope="session")
def training(halves: tuple[pd.DataFrame, pd.DataFrame]) -> pd.DataFrame:
    return halves[0]


@pytest.fixture(scope="session")
def good(training: pd.DataFrame) -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(training.drop(columns="late"), training["late"])


@pytest.fixture(scope="session")
def bad(training: pd.DataFrame) -> Any:
    """Fitted on shuffled truth: near chance."""
    truth = np.random.default_rng(1).permutation(training["late"])
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(training.drop(columns="late"), truth)


@pytest.fixture
def holdout(halves: tuple[pd.DataFrame, pd.DataFrame], folder: Path) -> pd.DataFrame:
    halves[1].to_parquet(folder / "holdout.parquet")
    return halves[1]


@pytest.fixture
def features(training: pd.DataFrame) -> pd.DataFrame:
    return training.drop(columns="late")


@pytest.fixture
def gate(project: Project, folder: Path) -> Any:
    """Write another gate into nbmlops.toml: its name, then its lines."""

    def add(name: str, lines: str) -> None:
        path = folder / "nbmlops.toml"
        path.write_text(f"{path.read_text()}\n[gates.{name}]\n{lines}\n")

    return add
