"""The scorer in the process that serves: what it imports, what it refuses and how it says so, and its two walks."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from nbmlops.errors import DataError, UsageError
from nbmlops.scoring import bitmasks
from nbmlops.scoring.agreement import columns_of
from nbmlops.scoring.compile import compile_model
from nbmlops.scoring.scorer import Scorer
from tests.scoring.conftest import made_target


def test_the_scorer_imports_numpy_alone():
    heavy = ["pandas", "sklearn", "scipy", "mlflow", "onnxruntime", "onnx", "pyarrow", "sqlalchemy", "pydantic"]
    code = f"import nbmlops.scoring.scorer, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_scorer_adds_few_modules_to_numpy():
    code = """
import sys, numpy, json, hashlib
import nbmlops.errors
before = set(sys.modules)
import nbmlops.scoring.scorer
print(len(set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) <= 15


@pytest.fixture(scope="module")
def scorer(table):
    columns = ColumnTransformer([("n", StandardScaler(), ["wind", "hour"]), ("t", OneHotEncoder(), ["carrier"])])
    return Scorer(compile_model(make_pipeline(columns, LogisticRegression()).fit(table, made_target(table, "two"))))


@pytest.fixture
def row(scorer, table):
    return columns_of(table[:3])


def test_a_missing_column_is_named(scorer, row):
    row["winds"] = row.pop("wind")
    with pytest.raises(UsageError, match="There is no column 'wind'") as refused:
        scorer.predict(row)
    assert "Did you mean winds?" in refused.value.hint


@pytest.mark.parametrize(("bad", "said"), [(np.nan, "nothing in row 1"), (np.inf, "infinity.* in row 1")])
def test_a_figure_that_the_model_does_not_take_is_named(scorer, row, bad, said):
    row["wind"] = np.array([1.0, bad, 2.0])
    with pytest.raises(DataError, match=f"Column 'wind' has {said}"):
        scorer.predict(row)


def test_an_unknown_category_is_named_with_those_that_are_known(scorer, row):
    row["carrier"] = np.array(["AA", "ZZ", "DL"], dtype=object)
    with pytest.raises(DataError, match="Column 'carrier' has 'ZZ', which the model does not know") as refused:
        scorer.predict(row)
    assert refused.value.hint == "It knows AA, DL, UA, WN."


@pytest.mark.parametrize("bad", [{"a": 1}, ["AA"]])
def test_what_is_no_text_is_refused(scorer, row, bad):
    row["carrier"] = np.array([None, None, "AA"], dtype=object)
    row["carrier"][0] = bad
    with pytest.raises(DataError, match="Column 'carrier'"):
        scorer.predict(row)


def test_text_among_figures_and_no_rows_are_refused(scorer, row):
    with pytest.raises(DataError, match="Column 'wind' has 'strong'"):
        scorer.predict({**row, "wind": np.array([1.0, "strong", 2.0], dtype=object)})
    with pytest.raises(DataError, match="no row"):
        scorer.predict({name: column[:0] for name, column in row.items()})


@pytest.mark.parametrize(
    "model",
    [
        HistGradientBoostingClassifier(max_iter=8, max_leaf_nodes=90, min_samples_leaf=1, categorical_features=[0]),
        RandomForestClassifier(9, random_state=0),
    ],
    ids=["boosting", "forest"],
)
@pytest.mark.parametrize("kind", ["two", "three"])
def test_both_ways_of_walking_give_the_same_figures(model, kind, table, monkeypatch):
    rows = table[["hour", "wind", "distance"]]
    compiled = compile_model(model.fit(rows, made_target(table, kind)))
    masked = Scorer(compiled)
    monkeypatch.setattr(bitmasks, "MAX_TABLE_BYTES", 0)
    walked = Scorer(compiled)
    assert (masked.path, walked.path) == ("bitmasks", "walk")
    for n_rows in (1, 3, 40, 300):
        columns = columns_of(rows[:n_rows])
        np.testing.assert_array_equal(masked.scores(columns), walked.scores(columns))


def test_nothing_among_objects_is_a_missing_figure(table):
    rows = table[["hour", "wind"]]
    scorer = Scorer(compile_model(HistGradientBoostingClassifier(max_iter=5).fit(rows, made_target(table, "two"))))
    objects = np.array([1.5, None, np.nan, 3], dtype=object)
    figures = np.array([1.5, np.nan, np.nan, 3.0])
    hours = np.array([1, 2, 2, 4])
    given = [scorer.scores({"hour": hours, "wind": winds}) for winds in (objects, figures)]
    np.testing.assert_array_equal(*given)
