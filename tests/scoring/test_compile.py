"""What is compiled answers as scikit-learn does, over the whole table; what is not is refused, with the reason."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn import ensemble, linear_model, neighbors, svm, tree
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
)

from nbmlops.scoring.agreement import agreement, columns_of
from nbmlops.scoring.compile import NotCompilableError, compile_model, supported
from nbmlops.scoring.compiled import Compiled
from nbmlops.scoring.scorer import Scorer
from tests.scoring.conftest import made_table, made_target

NUMBERS = ["distance", "wind", "single", "hour", "weekend"]
TEXTS = ["carrier", "dest"]


def figures(*, dense: bool = True, fills: bool = True) -> ColumnTransformer:
    """The pipeline of most projects."""
    scaled = make_pipeline(SimpleImputer(strategy="median"), StandardScaler()) if fills else StandardScaler()
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=not dense)
    return ColumnTransformer([("figures", scaled, NUMBERS), ("texts", one_hot, TEXTS)], sparse_threshold=1.0)


CLASSIFIERS = [
    LogisticRegression(max_iter=200),
    linear_model.SGDClassifier(random_state=0),
    linear_model.SGDClassifier(loss="log_loss", random_state=0),
    linear_model.RidgeClassifier(),
    svm.LinearSVC(random_state=0),
    tree.DecisionTreeClassifier(random_state=0),
    tree.ExtraTreeClassifier(random_state=0),
    ensemble.RandomForestClassifier(12, random_state=0),
    ensemble.RandomForestClassifier(8, max_depth=3, random_state=0),
    ensemble.ExtraTreesClassifier(12, random_state=0),
    ensemble.GradientBoostingClassifier(n_estimators=12, random_state=0),
    ensemble.GradientBoostingClassifier(n_estimators=5, init="zero", random_state=0),
    ensemble.HistGradientBoostingClassifier(max_iter=12, random_state=0),
    ensemble.HistGradientBoostingClassifier(max_iter=4, max_leaf_nodes=None, min_samples_leaf=2, random_state=0),
]
REGRESSORS = [
    LinearRegression(),
    linear_model.Ridge(),
    linear_model.Lasso(alpha=0.01),
    linear_model.ElasticNet(alpha=0.01),
    linear_model.SGDRegressor(random_state=0),
    svm.LinearSVR(random_state=0),
    linear_model.LassoCV(cv=3),
    linear_model.RidgeCV(),
    linear_model.ElasticNetCV(cv=3),
    linear_model.HuberRegressor(),
    tree.DecisionTreeRegressor(random_state=0),
    tree.ExtraTreeRegressor(random_state=0),
    ensemble.RandomForestRegressor(12, random_state=0),
    ensemble.ExtraTreesRegressor(12, random_state=0),
    *(
        ensemble.GradientBoostingRegressor(loss=loss, n_estimators=12, random_state=0)
        for loss in ("squared_error", "absolute_error", "huber", "quantile")
    ),
    *(
        ensemble.HistGradientBoostingRegressor(loss=loss, max_iter=12, quantile=0.5, random_state=0)
        for loss in ("squared_error", "absolute_error", "gamma", "poisson", "quantile")
    ),
]


def fitted(model, rows, kind):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # too few rounds on purpose
        return clone(model).fit(rows, made_target(made_table(n_rows=len(rows)), kind))


def proven(model, rows, predict_fn="predict", inputs=None):
    """Compile, write, read, and hold against scikit-learn; give the scorer."""
    compiled = Compiled.from_bytes(compile_model(model, predict_fn, inputs=inputs).to_bytes())
    found = agreement(model, compiled, rows)
    assert found.agrees, found.difference
    return Scorer(compiled)


@pytest.mark.parametrize("kind", ["two", "three"])
@pytest.mark.parametrize("model", CLASSIFIERS, ids=lambda model: str(model)[:60])
def test_classifiers_answer_as_scikit_learn_does(model, kind, table):
    dense = kind == "two" or "Hist" in str(model)  # which takes no sparse columns
    pipeline = fitted(Pipeline([("columns", figures(dense=dense)), ("model", model)]), table, kind)
    scorer = proven(pipeline, table, "predict_proba" if hasattr(pipeline, "predict_proba") else "predict")
    assert scorer.has_scores == hasattr(pipeline, "predict_proba")
    labels = Scorer(compile_model(pipeline)).predict(columns_of(table))
    np.testing.assert_array_equal(labels, pipeline.predict(table))


@pytest.mark.parametrize("model", REGRESSORS, ids=lambda model: str(model)[:70])
def test_regressors_answer_as_scikit_learn_does(model, table):
    proven(fitted(make_pipeline(figures(), model), table, "positive"), table)


@pytest.mark.parametrize("model", [*CLASSIFIERS[5:10], *CLASSIFIERS[12:]], ids=lambda model: str(model)[:60])
def test_trees_that_take_missing_figures_send_them_the_same_way(model, table):
    proven(fitted(make_pipeline(figures(fills=False), model), table, "two"), table)


def test_histogram_boosting_knows_its_categories_by_name_and_by_type(table):
    typed = table.assign(carrier=table["carrier"].astype("category"), dest=table["dest"].astype("category"))
    for rounds, leaves in ((15, 31), (5, None)):
        model = ensemble.HistGradientBoostingClassifier(max_iter=rounds, max_leaf_nodes=leaves, min_samples_leaf=3)
        by_name = model.set_params(categorical_features=TEXTS)
        proven(fitted(by_name, table, "three"), table)
        by_type = fitted(model.set_params(categorical_features="from_dtype"), typed, "three")
        proven(by_type, table)


def test_histogram_boosting_on_an_array_with_categorical_positions():
    rng = np.random.default_rng(1)
    rows = np.column_stack([rng.normal(size=400), rng.integers(0, 9, 400), rng.integers(0, 200, 400)]).astype(float)
    rows[::7, 1] = np.nan
    target = (rows[:, 0] + (rows[:, 2] % 3) > 1).astype(int)
    model = ensemble.HistGradientBoostingClassifier(max_iter=20, categorical_features=[1, 2]).fit(rows, target)
    proven(model, rows)


TRANSFORMERS = {
    "scaled": make_pipeline(SimpleImputer(), StandardScaler(with_mean=False)),
    "only centred": make_pipeline(SimpleImputer(strategy="constant", fill_value=-5.0), StandardScaler(with_std=False)),
    "with indicators": make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()),
    "with a mark": make_pipeline(
        SimpleImputer(), SimpleImputer(missing_values=0, strategy="most_frequent", add_indicator=True)
    ),
    "clipped": make_pipeline(SimpleImputer(), MinMaxScaler((-1, 2), clip=True)),
    "largest": make_pipeline(SimpleImputer(), MaxAbsScaler()),
    "robust": make_pipeline(SimpleImputer(strategy="most_frequent"), RobustScaler(quantile_range=(10, 80))),
    "no function": make_pipeline(SimpleImputer(), FunctionTransformer(), FunctionTransformer(validate=True)),
    "nested": make_pipeline(
        ColumnTransformer(
            [("a", SimpleImputer(), ["distance", "single"]), ("b", "passthrough", ["wind"])], remainder=MinMaxScaler()
        ),
        ColumnTransformer([("c", StandardScaler(), [0, 2]), ("d", OrdinalEncoder(), [4])], remainder="passthrough"),
    ),
    "hours looked up": ColumnTransformer(
        [("h", OneHotEncoder(handle_unknown="ignore"), ["hour", "weekend"]), ("x", "drop", ["distance"])],
        remainder=SimpleImputer(),
    ),
    "weighted": ColumnTransformer(
        [("a", SimpleImputer(), ["distance"]), ("b", StandardScaler(), ["wind"])], transformer_weights={"a": 0.5}
    ),
    "by type": ColumnTransformer(
        [("a", SimpleImputer(), make_column_selector(dtype_include="number"))], remainder="drop"
    ),
    "single precision": ColumnTransformer([("s", make_pipeline(StandardScaler(), MinMaxScaler()), ["single"])]),
}


@pytest.mark.parametrize("name", TRANSFORMERS)
@pytest.mark.parametrize("model", [LogisticRegression(), tree.DecisionTreeClassifier(random_state=0)], ids=str)
def test_transformers_of_figures(name, model, table):
    rows = table[NUMBERS]
    proven(fitted(make_pipeline(TRANSFORMERS[name], model), rows, "two"), rows)


ENCODERS = {
    "drop first": OneHotEncoder(drop="first", handle_unknown="ignore"),
    "drop if binary": OneHotEncoder(drop="if_binary"),
    "infrequent": OneHotEncoder(min_frequency=60, handle_unknown="infrequent_if_exist"),
    "at most three": OneHotEncoder(max_categories=3, handle_unknown="ignore", sparse_output=False),
    "given": OneHotEncoder(categories=[["AA", "DL"], ["JFK", "", "no"]], handle_unknown="ignore"),
    "refusing": OneHotEncoder(dtype=np.float32),
    "ordinal": OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2),
    "ordinal refusing": OrdinalEncoder(encoded_missing_value=9),
    "ordinal with nan": OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, dtype=np.float32),
    "filled": make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")),
    "filled with a word": make_pipeline(
        SimpleImputer(strategy="constant", fill_value="gone"), OneHotEncoder(handle_unknown="ignore")
    ),
    "scaled afterwards": make_pipeline(OneHotEncoder(handle_unknown="ignore"), StandardScaler(with_mean=False)),
    "one-hot of ordinal": make_pipeline(
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=7),
        OneHotEncoder(handle_unknown="ignore", sparse_output=False),
    ),
}


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize(
    "model", [LogisticRegression(), ensemble.RandomForestClassifier(7, random_state=0)], ids=["linear", "forest"]
)
def test_encoders_of_text(name, model, table):
    if (name, type(model)) == ("ordinal with nan", LogisticRegression):
        table = table.assign(dest=table["dest"].fillna("none"))
    rows = table[TEXTS]
    proven(fitted(make_pipeline(ENCODERS[name], model), rows, "three"), rows)


def test_selections_by_position_mask_slice_and_function():
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(120, 6))
    target = rows[:, 0] * 2 + rows[:, 5]
    for chosen in ([0, 5], slice(0, 3), [True, False, True, False, False, True], lambda _: [1, 5], [-1], [0, -1]):
        columns = ColumnTransformer([("s", StandardScaler(), chosen)], remainder="passthrough")
        scorer = proven(make_pipeline(columns, LinearRegression()).fit(rows, target), rows)
        assert scorer.inputs == ("0", "1", "2", "3", "4", "5")


def test_an_arrays_columns_may_be_given_names_and_come_in_order():
    rows = np.random.default_rng(0).normal(size=(50, 2))
    model = LinearRegression().fit(rows, rows[:, 0])
    scorer = proven(model, rows, inputs=["a", "b"])
    named = {"a": rows[:, 0], "b": rows[:, 1]}
    expected = model.predict(rows)
    np.testing.assert_allclose(scorer.predict(named), expected)
    np.testing.assert_allclose(scorer.predict({"x": rows[:, 0], "y": rows[:, 1]}), expected)
    np.testing.assert_allclose(scorer.predict({"": rows}), expected)


@pytest.mark.parametrize("labels", [[False, True], ["a", "b"], [1.0, 2.0], [-1, 1]])
def test_labels_keep_their_type(labels):
    rows = np.random.default_rng(0).normal(size=(60, 2))
    target = np.array(labels)[(rows[:, 0] > 0).astype(int)]
    for model in (LogisticRegression(), ensemble.HistGradientBoostingClassifier(max_iter=3)):
        given = proven(model.fit(rows, target), rows).predict(rows)
        assert given.dtype == target.dtype


def test_models_of_single_precision_answer_in_it():
    rows = np.random.default_rng(0).normal(size=(80, 3)).astype(np.float32)
    target = (rows[:, 0] + rows[:, 1]).astype(np.float32)
    scorer = proven(make_pipeline(StandardScaler(), LinearRegression()).fit(rows, target), rows)
    assert scorer.predict(rows).dtype == np.float32
    proven(make_pipeline(StandardScaler(), tree.DecisionTreeRegressor()).fit(rows, target), rows)


def test_figures_on_a_threshold_go_the_same_way():
    rows = np.repeat(np.arange(0, 40, dtype=float), 8)[:, None] / 10
    target = (np.arange(len(rows)) % 5 > 2).astype(int)
    for model in (
        tree.DecisionTreeClassifier(),
        ensemble.RandomForestClassifier(9, random_state=1),
        ensemble.GradientBoostingClassifier(n_estimators=9),
        ensemble.HistGradientBoostingClassifier(max_iter=9, min_samples_leaf=2),
    ):
        model.fit(rows, target)
        compiled = compile_model(model)
        part = model if isinstance(model, tree.DecisionTreeClassifier) else None
        thresholds = compiled.head["threshold"] if part is None else part.tree_.threshold
        around = np.concatenate([np.nextafter(thresholds, -9), thresholds, np.nextafter(thresholds, 9)])[:, None]
        assert agreement(model, compiled, around).agrees


def generated(seed):
    """Make any transformer on any columns, and any model."""
    rng = np.random.default_rng(seed)
    rows = made_table(seed, 200)
    numbers = [name for name in NUMBERS if rng.random() < 0.7] or ["wind"]
    scalers = [
        StandardScaler(),
        MinMaxScaler(),
        RobustScaler(),
        MaxAbsScaler(),
        "passthrough",
        StandardScaler(with_std=False),
    ]
    encoders = [encoder for name, encoder in ENCODERS.items() if "given" not in name and "nan" not in name]
    figured = Pipeline([("fill", SimpleImputer()), ("scale", scalers[rng.integers(len(scalers))])])
    columns = ColumnTransformer(
        [("n", figured, numbers), ("t", encoders[rng.integers(len(encoders))], TEXTS)],
        sparse_threshold=float(rng.integers(0, 2)),
        remainder="drop",
    )
    is_class = rng.random() < 0.6
    models = CLASSIFIERS if is_class else REGRESSORS
    model = models[rng.integers(len(models))]
    if "Hist" in str(model):
        columns.set_params(sparse_threshold=0)
    kind = str(rng.choice(["two", "three"])) if is_class else "positive"
    return fitted(make_pipeline(columns, model), rows, kind), rows


@pytest.mark.parametrize("seed", range(12))
def test_generated_pipelines_answer_as_scikit_learn_does(seed):
    proven(*generated(seed))


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(12, 300))
def test_many_generated_pipelines_answer_as_scikit_learn_does(seed):
    proven(*generated(seed))


def test_one_row_and_many_answer_alike(table):
    model = fitted(make_pipeline(figures(), ensemble.HistGradientBoostingClassifier(max_iter=20)), table, "three")
    scorer = Scorer(compile_model(model))
    columns = columns_of(table)
    together = scorer.scores(columns)
    for row in range(40):
        alone = scorer.scores({name: column[row : row + 1] for name, column in columns.items()})
        np.testing.assert_array_equal(alone[0], together[row])


class Mine(StandardScaler):
    """A type of one's own."""


REFUSED = [
    (neighbors.KNeighborsClassifier(), "KNeighborsClassifier is not compiled"),
    (make_pipeline(Mine(), LogisticRegression()), "Mine is a type of your own made from StandardScaler"),
    (make_pipeline(PolynomialFeatures(), LogisticRegression()), "PolynomialFeatures is not compiled"),
    (make_pipeline(FunctionTransformer(np.abs), LogisticRegression()), "calls a function of yours"),
    (make_pipeline(LogisticRegression()), ""),
    (ensemble.GradientBoostingClassifier(n_estimators=2, init=LogisticRegression()), "starts from a model"),
    (make_pipeline(StandardScaler(), StandardScaler()), "has StandardScaler where estimators are expected"),
]


@pytest.mark.parametrize(("model", "reason"), REFUSED, ids=lambda part: str(part)[:50])
def test_what_is_not_compiled_is_refused_with_the_reason(model, reason):
    rows = np.random.default_rng(0).normal(size=(40, 2))
    model.fit(rows, (rows[:, 0] > 0).astype(int))
    if not reason:
        assert compile_model(model)
        return
    with pytest.raises(NotCompilableError, match=reason):
        compile_model(model)


def test_several_outputs_are_refused():
    rows = np.random.default_rng(0).normal(size=(40, 2))
    for model in (LinearRegression(), tree.DecisionTreeRegressor(), ensemble.RandomForestRegressor(3)):
        with pytest.raises(NotCompilableError, match="output"):
            compile_model(model.fit(rows, rows))


def test_a_model_that_is_not_fitted_and_other_functions_are_refused():
    with pytest.raises(NotCompilableError):
        compile_model(LogisticRegression())
    fit = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    with pytest.raises(NotCompilableError, match="only predict and predict_proba"):
        compile_model(fit, "decision_function")
    with pytest.raises(NotCompilableError, match="no probabilities"):
        compile_model(svm.LinearSVC().fit([[0.0], [1.0]], [0, 1]), "predict_proba")


def test_the_proof_finds_what_differs():
    rows = np.random.default_rng(0).normal(size=(60, 2))
    model = LogisticRegression().fit(rows, (rows[:, 0] > 0).astype(int))
    compiled = compile_model(model)
    assert agreement(model, compiled, rows).headline.startswith("answers agree on ")
    model.coef_ = model.coef_ * 1.001
    found = agreement(model, compiled, rows)
    assert not found.agrees
    assert "apart" in found.difference


def test_every_type_of_the_table_is_one_of_scikit_learn():
    import importlib

    for row in supported():
        assert getattr(importlib.import_module(row.module), row.name).__name__ == row.name


def test_nullable_text_comes_as_none_or_nan(table):
    """What pandas calls missing is NaN; requests may bring None: both are one thing to no model unless it says so."""
    rows = table[TEXTS].astype(object)
    rows.loc[::9, "carrier"] = None
    model = fitted(make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression()), rows, "two")
    proven(model, rows)
    assert pd.isna(rows["dest"]).any()


def test_columns_that_are_dropped_are_not_asked_for(table):
    columns = ColumnTransformer([("n", StandardScaler(), ["wind"]), ("t", OneHotEncoder(), ["carrier"])])
    model = make_pipeline(columns, LogisticRegression()).fit(table, made_target(table, "two"))
    scorer = proven(model, table)
    assert scorer.inputs == ("wind", "carrier")
