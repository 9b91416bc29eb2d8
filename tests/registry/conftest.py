"""Fitted models on scikit-learn's breast cancer data, and one whose transformer lives in a module of the user's."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

RATIOS = """\
from sklearn.base import BaseEstimator, TransformerMixin


class Ratio(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.seen_ = X.shape[1]
        return self

    def transform(self, X):
        return X / (1 + abs(X))
"""


@pytest.fixture(scope="session")
def cancer() -> tuple[pd.DataFrame, pd.Series]:
    return load_breast_cancer(return_X_y=True, as_frame=True)


@pytest.fixture(scope="session")
def features(cancer: tuple[pd.DataFrame, pd.Series]) -> pd.DataFrame:
    return cancer[0]


@pytest.fixture(scope="session")
def linear(cancer: tuple[pd.DataFrame, pd.Series]) -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(*cancer)


@pytest.fixture(scope="session")
def boosting(cancer: tuple[pd.DataFrame, pd.Series]) -> Any:
    return HistGradientBoostingClassifier(max_iter=5).fit(*cancer)


@pytest.fixture
def custom(cancer: tuple[pd.DataFrame, pd.Series], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A pipeline with a class of the user's own, in a module that can be imported."""
    (tmp_path / "ratios.py").write_text(RATIOS)
    monkeypatch.syspath_prepend(str(tmp_path))
    import ratios

    yield make_pipeline(ratios.Ratio(), LogisticRegression(max_iter=1000)).fit(*cancer)
    del sys.modules["ratios"]
