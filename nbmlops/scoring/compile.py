"""Fitted models of scikit-learn made into plain data, or the reason why not. Needs scikit-learn; scores nothing.

Types are compared exactly: a subclass may do anything, so that it is served as it is. The table below is what is
compiled, and the documentation's table is made from it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from nbmlops.scoring import heads, steps
from nbmlops.scoring.compiled import PREDICTS, Compiled, Unreadable
from nbmlops.scoring.steps import Flow, NotCompilableError, Op, called, check_width, expects

__all__ = ["NotCompilableError", "compile_model", "supported"]


@dataclass(frozen=True)
class Row:
    """A type that is compiled.

    Parameters
    ----------
    module, name
        Where scikit-learn publishes it.
    kind
        ``"transformer"``, ``"classifier"`` or ``"regressor"``.
    conditions
        With which options; empty where with all.
    """

    module: str
    name: str
    kind: str
    conditions: str
    read: Callable[[Any, Flow], Any]


_ONE_OUTPUT: Final = "one output"
_TABLE: Final = (
    Row("sklearn.pipeline", "Pipeline", "transformer", "also nested", steps.pipeline),
    Row("sklearn.compose", "ColumnTransformer", "transformer", "also nested, any selection", steps.column_transformer),
    Row("sklearn.preprocessing", "StandardScaler", "transformer", "", steps.standard_scaler),
    Row("sklearn.preprocessing", "MinMaxScaler", "transformer", "", steps.min_max_scaler),
    Row("sklearn.preprocessing", "MaxAbsScaler", "transformer", "", steps.max_abs_scaler),
    Row("sklearn.preprocessing", "RobustScaler", "transformer", "", steps.robust_scaler),
    Row(
        "sklearn.impute",
        "SimpleImputer",
        "transformer",
        "numbers or text, not both in one; no function; indicator columns for numbers",
        steps.simple_imputer,
    ),
    Row("sklearn.preprocessing", "OneHotEncoder", "transformer", "", steps.one_hot_encoder),
    Row("sklearn.preprocessing", "OrdinalEncoder", "transformer", "", steps.ordinal_encoder),
    Row("sklearn.preprocessing", "FunctionTransformer", "transformer", "no function", steps.function_transformer),
    *(
        Row("sklearn.linear_model", name, "regressor", _ONE_OUTPUT, heads.linear_regressor)
        for name in (
            *("LinearRegression", "Ridge", "RidgeCV", "Lasso", "LassoCV", "ElasticNet", "ElasticNetCV"),
            *("BayesianRidge", "HuberRegressor", "SGDRegressor"),
        )
    ),
    Row("sklearn.svm", "LinearSVR", "regressor", "", heads.linear_regressor),
    Row("sklearn.linear_model", "LogisticRegression", "classifier", "", heads.logistic_regression),
    Row("sklearn.linear_model", "LogisticRegressionCV", "classifier", "", heads.logistic_regression),
    Row("sklearn.linear_model", "SGDClassifier", "classifier", "modified_huber with two classes", heads.sgd_classifier),
    Row("sklearn.linear_model", "RidgeClassifier", "classifier", _ONE_OUTPUT, heads.linear_classifier),
    Row("sklearn.svm", "LinearSVC", "classifier", "", heads.linear_classifier),
    *(
        Row(module, name + kind.capitalize(), kind, on, read)
        for module, name, on, read in (
            ("sklearn.tree", "DecisionTree", _ONE_OUTPUT, heads.tree),
            ("sklearn.tree", "ExtraTree", _ONE_OUTPUT, heads.tree),
            ("sklearn.ensemble", "RandomForest", _ONE_OUTPUT, heads.forest),
            ("sklearn.ensemble", "ExtraTrees", _ONE_OUTPUT, heads.forest),
            ("sklearn.ensemble", "GradientBoosting", "no model as init", heads.gradient_boosting),
            ("sklearn.ensemble", "HistGradientBoosting", "no loss of your own", heads.hist_gradient_boosting),
        )
        for kind in ("classifier", "regressor")
    ),
)


def supported() -> tuple[Row, ...]:
    """List what is compiled, in the order of the documentation's table.

    Examples
    --------
    >>> [row.name for row in supported() if row.kind == "regressor"][:3]
    ['LinearRegression', 'Ridge', 'RidgeCV']
    """
    return _TABLE


def compile_model(model: Any, predict_fn: str = "predict", *, inputs: Sequence[str] | None = None) -> Compiled:
    """Make plain data of a fitted model; `nbmlops.scoring.agreement` proves that it answers alike.

    Parameters
    ----------
    model
        A fitted estimator of scikit-learn, or a fitted Pipeline that ends in one.
    predict_fn
        What is called to score: ``"predict"`` or ``"predict_proba"``.
    inputs
        Names for the columns of a model that was fitted on an array; ``"0"``, ``"1"``, … if not given.
        A model that was fitted on a table has the names of its columns.

    Returns
    -------
    Compiled
        Its data; score with `nbmlops.scoring.scorer.Scorer`.

    Raises
    ------
    NotCompilableError
        A part, or an option of it, is not compiled; the message says which.

    Examples
    --------
    >>> from sklearn.linear_model import LinearRegression
    >>> compile_model(LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0])).described
    'LinearRegression'
    >>> compile_model(print)
    Traceback (most recent call last):
    nbmlops.scoring.steps.NotCompilableError: builtin_function_or_method is not compiled
    """
    import sklearn

    expects(predict_fn in PREDICTS, f"it is scored by {predict_fn}, and only {' and '.join(PREDICTS)} are compiled")
    *before, estimator = _flat(model)
    names = _names(model, inputs)
    try:
        ahead, flow = steps.read_steps(before, Flow(len(names)))
        read = reader_of(estimator, "estimator")
        check_width(estimator, flow)
        own, head = read(estimator, flow)
    except (AttributeError, TypeError, ValueError, LookupError) as exc:
        raise NotCompilableError(f"a part of it is not fitted, or by another version: {exc}") from exc
    by_position = not hasattr(model, "feature_names_in_")
    names, plan = (names, ahead + own) if by_position else _without_dropped(names, ahead + own)
    compiled = Compiled(
        tuple(names),
        plan,
        head,
        predict_fn,
        described(model),
        f"scikit-learn {sklearn.__version__}",
        by_position=by_position,
    )
    _check(compiled)
    return compiled


def _without_dropped(names: list[str], plan: list[Op]) -> tuple[list[str], list[Op]]:
    """Leave out the columns that a ColumnTransformer drops at once: it asks no request for them either."""
    if not plan or plan[0]["op"] != "split":
        return names, plan
    used = sorted({place for branch in plan[0]["branches"] for place in branch["columns"]})
    moved = {place: at for at, place in enumerate(used)}
    branches = [{**branch, "columns": [moved[place] for place in branch["columns"]]} for branch in plan[0]["branches"]]
    return [names[place] for place in used], [{**plan[0], "branches": branches}, *plan[1:]]


def _check(compiled: Compiled) -> None:
    """See that what was made can be written, read and scored with."""
    from nbmlops.scoring.scorer import Scorer

    try:
        scorer = Scorer(Compiled.from_bytes(compiled.to_bytes()))
    except (Unreadable, TypeError, ValueError) as exc:
        raise NotCompilableError(str(exc).partition("\n")[0]) from exc
    has_answer = compiled.predict_fn == "predict" or scorer.has_scores
    expects(has_answer, f"{compiled.described} gives no probabilities")


def _flat(model: Any) -> list[Any]:
    """List the parts of a pipeline of pipelines, the estimator last."""
    from sklearn.pipeline import Pipeline

    if type(model) is not Pipeline:
        return [model]
    parts = [part for _, part in model.steps]
    return [*parts[:-1], *_flat(parts[-1])]


def _names(model: Any, inputs: Sequence[str] | None) -> list[str]:
    n_inputs = getattr(model, "n_features_in_", None)
    expects(isinstance(n_inputs, int), f"{called(model)} is not compiled")
    fitted = getattr(model, "feature_names_in_", inputs)
    names = [str(place) for place in range(int(n_inputs or 0))] if fitted is None else [str(name) for name in fitted]
    expects(len(names) == n_inputs, f"it takes {n_inputs} columns, and {len(names)} names were given")
    expects(len(set(names)) == len(names), "two of its columns have the same name")
    return names


def described(model: Any) -> str:
    """Name a model by its parts, such as ``Pipeline(StandardScaler, LogisticRegression)``."""
    parts = [part if isinstance(part, str) else described(part) for _, part, *_ in _parts(model)]
    return f"{called(model)}({', '.join(parts)})" if parts else called(model)


def _parts(model: Any) -> Sequence[Any]:
    parts = getattr(model, "transformers_", None) or getattr(model, "steps", None)
    return parts if isinstance(parts, list) else []


def reader_of(model: Any, kind: str) -> Callable[[Any, Flow], Any]:
    """Find how a part is read; `kind` is ``"transformer"`` or ``"estimator"``."""
    for row in _TABLE:
        if row.name == called(model) and (row.kind == "transformer") == (kind == "transformer"):
            expects(getattr(import_module(row.module), row.name) is type(model), f"{row.name} is a type of your own")
            return row.read
    raise NotCompilableError(_why_not(model, kind))


def _why_not(model: Any, kind: str) -> str:
    parents = {parent.__name__ for parent in type(model).__mro__[1:]}
    known = next((row.name for row in _TABLE if row.name in parents), "")
    if known:
        return f"{called(model)} is a type of your own made from {known}, and may do anything"
    if any(row.name == called(model) for row in _TABLE):
        return f"the pipeline has {called(model)} where {kind}s are expected"
    return f"{called(model)} is not compiled"
