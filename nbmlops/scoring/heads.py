"""Fitted estimators of scikit-learn read into a plan's head: its figures, the decision, the link to probabilities.

Each reader takes a fitted estimator and what reaches it, and gives the steps that precede the head, and the head.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import numpy as np

from nbmlops.scoring.steps import Flow, Op, called, convert, expects, ordinal_encoder
from nbmlops.scoring.trees import N_CATEGORIES

Head: TypeAlias = tuple[list[Op], Op]
ReadHead: TypeAlias = Callable[[Any, Flow], Head]
_LABEL_KINDS: Final = {"<i8", "<i4", "<i2", "|i1", "|u1", "<u4", "<f8", "<f4", "|b1"}


def _classes(model: Any) -> Op:
    """Give the labels with their type."""
    classes = model.classes_
    expects(isinstance(classes, np.ndarray) and classes.ndim == 1, f"{called(model)} predicts more than one output")
    kind = {"O": "object", "U": "text"}.get(classes.dtype.kind, classes.dtype.newbyteorder("<").str)
    expects(kind in {"object", "text"} | _LABEL_KINDS, f"the labels are of type {classes.dtype}")
    plain = all(type(value) in {str, int, float, bool} for value in classes.tolist())
    expects(plain and len(classes) > 1, "the labels are neither text nor numbers, or only one was seen")
    return {"dtype": kind, "values": classes.tolist()}


def _linear(model: Any) -> Op:
    coef = model.coef_
    expects(isinstance(coef, np.ndarray), f"{called(model)} has sparse coefficients (sparsify was called)")
    coef = np.atleast_2d(coef)
    intercept = np.broadcast_to(np.asarray(model.intercept_, coef.dtype), (len(coef),))
    return {"kind": "linear", "coef": coef, "intercept": np.array(intercept)}


def linear_regressor(model: Any, _: Flow) -> Head:
    """Read ``x @ coef + intercept``."""
    expects(np.ndim(model.coef_) == 1 and np.size(model.intercept_) == 1, f"{called(model)} predicts several outputs")
    return [convert("float", "both")], _linear(model) | {"decides": "value"}


def linear_classifier(model: Any, _: Flow) -> Head:
    """Read the sign of the decision, or the highest of many; no probabilities."""
    head = _linear(model) | {"classes": _classes(model)}
    return [convert("float", "both")], head | {"decides": "above zero" if len(head["coef"]) == 1 else "highest"}


def logistic_regression(model: Any, flow: Flow) -> Head:
    """Read a linear classifier with the logistic link, or with softmax for many classes."""
    steps, head = linear_classifier(model, flow)
    return steps, head | {"link": "logistic" if len(head["coef"]) == 1 else "softmax"}


def sgd_classifier(model: Any, flow: Flow) -> Head:
    """Read a linear classifier; probabilities with the losses that have them."""
    steps, head = linear_classifier(model, flow)
    link = {"log_loss": "logistic", "modified_huber": "huber"}.get(model.loss, "none")
    expects(link != "huber" or len(head["coef"]) == 1, "SGDClassifier with modified_huber has more than two classes")
    return steps, head | {"link": link}


def tree(model: Any, flow: Flow) -> Head:
    """Read a single tree."""
    return _voted(model, [model], flow)


def forest(model: Any, flow: Flow) -> Head:
    """Read the mean of many trees."""
    return _voted(model, model.estimators_, flow)


def _voted(model: Any, trees: Sequence[Any], flow: Flow) -> Head:
    expects(model.n_outputs_ == 1, f"{called(model)} predicts more than one output")
    takes_missing = bool(trees[0]._support_missing_values(np.empty((0, 0)))) and not flow.is_sparse
    made = _Made()
    for part in trees:
        made.add_fitted(part.tree_, part.tree_.value[:, 0, :])
    head = made.head() | {"divisor": float(len(trees))}
    steps = [convert("single", "infinite" if takes_missing else "both"), convert("double", "nothing")]
    if not hasattr(model, "classes_"):
        return steps, head | {"decides": "value"}
    head["values"] = np.ascontiguousarray(head["values"][:, : model.n_classes_])
    return steps, head | {"classes": _classes(model), "decides": "highest", "link": "as they are"}


def gradient_boosting(model: Any, _: Flow) -> Head:
    """Read a start and the sum of small trees."""
    from sklearn.dummy import DummyClassifier, DummyRegressor

    zero = isinstance(model.init_, str) and model.init_ == "zero"
    expects(zero or type(model.init_) in {DummyClassifier, DummyRegressor}, f"{called(model)} starts from a model")
    made = _Made(n_classes_a_round=model.estimators_.shape[1])
    for part in model.estimators_.ravel():
        made.add_fitted(part.tree_, model.learning_rate * part.tree_.value[:, 0, :])
    made.begin_with(model._raw_predict_init(np.zeros((1, model.n_features_in_), np.float32))[0])
    steps = [convert("single", "both"), convert("double", "nothing")]
    if not hasattr(model, "classes_"):
        return steps, made.head() | {"decides": "value"}
    links = {"log_loss": "logistic", "exponential": "twice logistic"}
    many = made.n_classes_a_round > 1
    decision = {"decides": "highest", "link": "softmax"} if many else {"decides": "at least zero"}
    expects(many or model.loss in links, f"{called(model)} has the loss {model.loss!r}")
    return steps, made.head() | {"classes": _classes(model), "link": links.get(model.loss)} | decision


def hist_gradient_boosting(model: Any, flow: Flow) -> Head:
    """Read a baseline and the sum of trees that know missing figures and categories."""
    made = _Made(n_classes_a_round=model.n_trees_per_iteration_)
    for part in (predictor for round_ in model._predictors for predictor in round_):
        made.add_binned(part.nodes, part.raw_left_cat_bitsets)
    made.begin_with(model._baseline_prediction.ravel())
    steps = _own_encoder(model, flow)
    if not hasattr(model, "classes_"):
        losses = {"squared_error": "value", "absolute_error": "value", "quantile": "value"}
        losses |= {"gamma": "exponential", "poisson": "exponential"}
        expects(model.loss in losses, f"{called(model)} has a loss of your own")
        return steps, made.head() | {"decides": losses[model.loss]}
    expects(model.loss == "log_loss", f"{called(model)} has a loss of your own")
    many = made.n_classes_a_round > 1
    decision = {"decides": "highest", "link": "softmax"} if many else {"decides": "above zero", "link": "logistic"}
    return steps, made.head() | {"classes": _classes(model)} | decision


def _own_encoder(model: Any, flow: Flow) -> list[Op]:
    """Read the encoder that a model with categorical features keeps within itself: categories first, then figures."""
    plain = [convert("double", "nothing")]
    if model._preprocessor is None:
        return plain
    categorical = np.flatnonzero(model.is_categorical_).tolist()
    others = np.flatnonzero(~model.is_categorical_).tolist()
    encode, _ = ordinal_encoder(model._preprocessor.named_transformers_["encoder"], Flow(len(categorical)))
    branches = [{"columns": categorical, "steps": encode}, {"columns": others, "steps": plain}]
    expects(len(categorical) + len(others) == flow.n_columns, f"{called(model)} was fitted on other columns")
    return [{"op": "split", "branches": [branch for branch in branches if branch["columns"]]}, *plain]


class _Made:
    """Trees laid out as `nbmlops.scoring.trees` wants them, added one by one."""

    def __init__(self, n_classes_a_round: int = 1) -> None:
        self.n_classes_a_round = int(n_classes_a_round)
        self._parts: dict[str, list[np.ndarray]] = {}
        self._roots: list[int] = []
        self._n_nodes = self._n_leaves = self._n_bits = 0

    def add_fitted(self, fitted: Any, values: np.ndarray) -> None:
        """Add a tree of scikit-learn's ``tree`` module; `values` (n_nodes, n_outputs)."""
        self._add(
            fitted.children_left < 0,
            fitted.children_left,
            fitted.children_right,
            values,
            feature=fitted.feature,
            threshold=fitted.threshold,
            missing_left=fitted.missing_go_to_left,
        )

    def add_binned(self, nodes: np.ndarray, bitsets: np.ndarray) -> None:
        """Add a tree of histogram boosting."""
        inner = nodes["is_leaf"] == 0
        categorical = (nodes["is_categorical"] != 0) & inner
        bits = np.unpackbits(bitsets.astype("<u4").view(np.uint8), bitorder="little").reshape(-1, N_CATEGORIES)
        self._add(
            ~inner,
            nodes["left"],
            nodes["right"],
            nodes["value"][:, None],
            feature=nodes["feature_idx"],
            threshold=nodes["num_threshold"],
            missing_left=nodes["missing_go_to_left"],
            bits=bits.astype(bool),
            bits_of=np.where(categorical, nodes["bitset_idx"].astype(np.int64) + self._n_bits, -1),
        )
        self._n_bits += len(bits)

    def _add(
        self, is_leaf: np.ndarray, left: np.ndarray, right: np.ndarray, values: np.ndarray, **node: np.ndarray
    ) -> None:
        """Count internal nodes in their own order and leaves from left to right."""
        order = _in_order(is_leaf, left, right)
        leaves = order[is_leaf[order]]
        number = np.empty(len(is_leaf), np.int64)
        number[leaves] = ~(np.arange(len(leaves)) + self._n_leaves)
        inner = order[~is_leaf[order]]
        number[inner] = np.arange(len(inner)) + self._n_nodes
        node = {"bits_of": np.full(len(is_leaf), -1)} | node
        self._keep("bits", node.pop("bits", np.empty((0, N_CATEGORIES), bool)))
        for name, array in node.items():
            self._keep(name, array[inner])
        self._keep("left", number[left[inner]])
        self._keep("right", number[right[inner]])
        self._keep("values", np.asarray(values, float)[leaves])
        self._roots.append(int(number[0]))
        self._n_nodes += len(inner)
        self._n_leaves += len(leaves)

    def _keep(self, name: str, array: np.ndarray) -> None:
        self._parts.setdefault(name, []).append(array)

    def begin_with(self, start: np.ndarray) -> None:
        """Add the start of the sum to the leaves of the first round: the first addition that scikit-learn does."""
        turns = self.n_classes_a_round
        if not self._roots:
            self._parts |= {name: [np.empty(0)] for name in ("feature", "threshold", "missing_left", "left", "right")}
            self._parts |= {"bits_of": [np.empty(0)], "bits": [np.empty((0, N_CATEGORIES))]}
            self._parts["values"], self._roots = [np.asarray(start, float)[:, None]], [~turn for turn in range(turns)]
            return
        for turn in range(turns):
            self._parts["values"][turn] = start[turn] + self._parts["values"][turn]

    def head(self) -> Op:
        """Give the head's arrays, each in the smallest type that holds it."""
        expects(max(self._n_nodes, self._n_leaves) < 2**31, "it has more than two thousand million nodes")
        dtypes = {"threshold": np.float64, "values": np.float64, "missing_left": bool, "bits": bool}
        arrays = {name: np.concatenate(parts) for name, parts in self._parts.items()}
        return {
            "kind": "trees",
            **{name: array.astype(dtypes.get(name, np.int32)) for name, array in arrays.items()},
            "roots": np.array(self._roots, np.int32),
            "n_classes_a_round": self.n_classes_a_round,
        }


def _in_order(is_leaf: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """List the nodes of a tree, each before its left part, and that before its right part."""
    order, waiting = [], [0]
    leaf, lefts, rights = is_leaf.tolist(), left.tolist(), right.tolist()
    while waiting:
        node = waiting.pop()
        order.append(node)
        if not leaf[node]:
            waiting += [rights[node], lefts[node]]
    return np.array(order, np.int64)
