"""Forests in ONNX Runtime: the same answers to the last digit, taken only where that is worth it."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn import ensemble, tree
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from nbmlops.errors import UsageError
from nbmlops.scoring.agreement import columns_of
from nbmlops.scoring.compile import compile_model
from nbmlops.scoring.compiled import Unreadable
from nbmlops.scoring.onnx import faster_onnx, to_onnx, with_onnx
from nbmlops.scoring.scorer import Scorer
from tests.scoring.conftest import made_table, made_target

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

MODELS = [
    ("three", ensemble.RandomForestClassifier(10, random_state=0)),
    ("two", tree.DecisionTreeClassifier(random_state=0)),
    ("positive", ensemble.ExtraTreesRegressor(10, random_state=0)),
    ("two", ensemble.GradientBoostingClassifier(n_estimators=5, random_state=0)),
    ("three", ensemble.HistGradientBoostingClassifier(max_iter=5, random_state=0)),
    ("three", ensemble.HistGradientBoostingClassifier(max_iter=5, categorical_features=["carrier", "dest"])),
    ("positive", tree.DecisionTreeRegressor(max_depth=1, min_samples_leaf=200)),  # a tree that is one leaf
]


def _fitted(kind, model, table):
    rows = table[["distance", "wind", "hour", "carrier", "dest"]]
    rows = rows.assign(distance=rows["distance"].fillna(0)) if "Gradient" in str(model) else rows
    if model.get_params().get("categorical_features") == ["carrier", "dest"]:
        return model.fit(rows, made_target(table, kind)), rows
    columns = ColumnTransformer(
        [("t", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["carrier", "dest"])],
        remainder="passthrough",
    )
    return make_pipeline(columns, model).fit(rows, made_target(table, kind)), rows


@pytest.mark.parametrize(("kind", "model"), MODELS, ids=lambda part: str(part)[:40])
def test_onnx_runtime_gives_numpys_figures(kind, model, table):
    fit, rows = _fitted(kind, model, table)
    compiled = compile_model(fit)
    scorer = with_onnx(compiled, to_onnx(compiled))
    assert scorer.path == "onnxtrees"
    for n_rows in (1, 5, 300):
        columns = columns_of(rows[:n_rows])
        np.testing.assert_array_equal(scorer.predict(columns), Scorer(compiled).predict(columns))
        if scorer.has_scores:
            np.testing.assert_allclose(scorer.scores(columns), Scorer(compiled).scores(columns), rtol=0, atol=1e-12)


def test_it_is_made_for_deep_forests_alone(table):
    rows = made_table(n_rows=4000)[["wind", "single", "hour"]]
    target = made_target(made_table(n_rows=4000), "two")
    columns = columns_of(rows[:200])
    deep = compile_model(ensemble.RandomForestClassifier(60, random_state=0).fit(rows, target))
    small = compile_model(ensemble.RandomForestClassifier(5, max_depth=3, random_state=0).fit(rows, target))
    assert faster_onnx(small, columns) is None
    made = faster_onnx(deep, columns)
    assert made is None or with_onnx(deep, made).path == "onnxtrees"


def test_what_is_no_model_or_another_models_is_refused(table):
    rows = table[["wind", "hour"]]
    compiled = compile_model(tree.DecisionTreeRegressor().fit(rows, made_target(table, "value")))
    other = compile_model(tree.DecisionTreeRegressor().fit(rows[["wind"]], made_target(table, "value")))
    for bad in (b"", b"nothing", to_onnx(other)):
        with pytest.raises(Unreadable):
            with_onnx(compiled, bad)
    with pytest.raises(UsageError, match="ensembles of trees"):
        to_onnx(compile_model(LinearRegression().fit(rows, rows["wind"])))


def test_the_module_imports_neither_onnx_nor_its_runtime():
    code = "import nbmlops.scoring.onnx, sys; print([name for name in ('onnx', 'onnxruntime') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
