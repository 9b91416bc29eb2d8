"""Fitted transformers of scikit-learn read into a plan's steps; the precision and the refusals are its own.

Each reader takes a fitted transformer and what reaches it, and gives the steps and what leaves it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np

Op: TypeAlias = dict[str, Any]
_UNKNOWN_TEXT: Final = "\N{SYMBOL FOR SUBSTITUTE}unknown"


class NotCompilableError(Exception):
    """A model cannot be compiled; the message says why, in words for the person who fitted it."""


@dataclass(frozen=True)
class Flow:
    """What goes from one transformer to the next: how many columns, and whether scikit-learn keeps them sparse."""

    n_columns: int
    is_sparse: bool = False


Read: TypeAlias = tuple[list[Op], Flow]
ReadStep: TypeAlias = Callable[[Any, Flow], Read]


def expects(condition: bool, reason: str) -> None:
    """Refuse to compile for `reason` unless the condition holds."""
    if not condition:
        raise NotCompilableError(reason)


def called(model: Any) -> str:
    """Name a model's type."""
    return type(model).__name__


def check_width(model: Any, flow: Flow) -> None:
    """Check that a part was fitted on as many columns as reach it."""
    n_fitted = getattr(model, "n_features_in_", None)
    expects(n_fitted == flow.n_columns, f"{called(model)} is not fitted on the {flow.n_columns} columns that reach it")


def convert(to: str, refuses: str) -> Op:
    """Give the step that makes figures of one precision and refuses what the model refuses."""
    return {"op": "convert", "to": to, "refuses": refuses}


def _arithmetic(ufunc: str, by: Any, *, as_input: bool) -> Op:
    by = np.asarray(by)
    return {
        "op": "arithmetic",
        "ufunc": ufunc,
        "by": by if by.dtype == np.float32 else by.astype(float),
        "as_input": as_input,
    }


def standard_scaler(scaler: Any, flow: Flow) -> Read:
    """Read ``(x - mean) / scale``, with both in the precision of x."""
    steps = [convert("float", "infinite")]
    if scaler.with_mean:
        expects(not flow.is_sparse, "StandardScaler takes a mean from sparse columns")
        steps.append(_arithmetic("subtract", scaler.mean_, as_input=True))
    if scaler.with_std:
        steps.append(_scaled(scaler.scale_, flow, as_input=True))
    return steps, flow


def _scaled(scale: np.ndarray, flow: Flow, *, as_input: bool) -> Op:
    """Divide; sparse columns are multiplied by the reciprocal, as scikit-learn does."""
    if flow.is_sparse:
        return _arithmetic("multiply", 1.0 / scale, as_input=False)
    return _arithmetic("divide", scale, as_input=as_input)


def min_max_scaler(scaler: Any, flow: Flow) -> Read:
    """Read ``x * scale + min``, clipped if it was told to."""
    expects(not flow.is_sparse, "MinMaxScaler gets sparse columns")
    steps = [
        convert("float", "infinite"),
        _arithmetic("multiply", scaler.scale_, as_input=False),
        _arithmetic("add", scaler.min_, as_input=False),
    ]
    if scaler.clip:
        low, high = map(float, scaler.feature_range)
        steps.append({"op": "clip", "low": low, "high": high})
    return steps, flow


def max_abs_scaler(scaler: Any, flow: Flow) -> Read:
    """Read ``x / scale``, clipped to [-1, 1] if it was told to."""
    steps = [convert("float", "infinite"), _scaled(scaler.scale_, flow, as_input=False)]
    clipped = [{"op": "clip", "low": -1.0, "high": 1.0}] if scaler.clip else []
    return steps + clipped, flow


def robust_scaler(scaler: Any, flow: Flow) -> Read:
    """Read ``(x - center) / scale``."""
    steps = [convert("float", "infinite")]
    if scaler.with_centering:
        expects(not flow.is_sparse, "RobustScaler centers sparse columns")
        steps.append(_arithmetic("subtract", scaler.center_, as_input=False))
    if scaler.with_scaling:
        steps.append(_scaled(scaler.scale_, flow, as_input=False))
    return steps, flow


def simple_imputer(imputer: Any, flow: Flow) -> Read:
    """Read what is put where a figure or a text is missing, for each column."""
    expects(not flow.is_sparse, "SimpleImputer gets sparse columns")
    strategies = ("mean", "median", "most_frequent", "constant")
    expects(isinstance(imputer.strategy, str) and imputer.strategy in strategies, "SimpleImputer calls a function")
    if np.dtype(getattr(imputer, "_fit_dtype", object)).kind == "O":
        return _text_imputer(imputer, flow)
    return _number_imputer(imputer, flow)


def _number_imputer(imputer: Any, flow: Flow) -> Read:
    missing = imputer.missing_values
    expects(isinstance(missing, int | float | np.number), "SimpleImputer takes something else than a number as missing")
    expects(np.dtype(imputer._fit_dtype).kind == "f", "SimpleImputer was fitted on whole numbers, which it keeps whole")
    is_nan = bool(np.isnan(missing))
    kept = _observed(imputer)
    fills = np.asarray(imputer.statistics_, imputer._fill_dtype).astype(float)[kept]
    figures = convert("float", "infinite" if is_nan else "both")
    fill = [*_keeping(kept, flow), {"op": "fill", "missing": float(missing), "by": fills}]
    if not imputer.add_indicator:
        return [figures, *fill], Flow(len(kept))
    told = [int(place) for place in imputer.indicator_.features_]
    branches = [
        {"columns": list(range(flow.n_columns)), "steps": fill},
        {"columns": told, "steps": [{"op": "tell missing", "missing": float(missing)}]},
    ]
    return [figures, {"op": "split", "branches": branches}], Flow(len(kept) + len(told))


def _text_imputer(imputer: Any, flow: Flow) -> Read:
    missing = imputer.missing_values
    expects(not imputer.add_indicator, "SimpleImputer adds indicator columns to text (add_indicator=True)")
    is_nan = isinstance(missing, float) and np.isnan(missing)
    expects(missing is None or is_nan, "SimpleImputer takes something else than None or NaN as missing text")
    kept = _observed(imputer)
    fills = [imputer.statistics_[place] for place in kept]
    expects(all(isinstance(fill, str) for fill in fills), "SimpleImputer fills columns of mixed types")
    fill = {"op": "fill-text", "missing": "nan" if is_nan else "none", "by": [str(fill) for fill in fills]}
    return [*_keeping(kept, flow), fill], Flow(len(kept))


def _observed(imputer: Any) -> list[int]:
    """List the columns that an imputer keeps: those of which something was seen when it was fitted."""
    if imputer.keep_empty_features:
        return list(range(len(imputer.statistics_)))
    return [place for place, value in enumerate(imputer.statistics_) if value == value]  # noqa: PLR0124 - NaN is not


def _keeping(kept: Sequence[int], flow: Flow) -> list[Op]:
    return [] if len(kept) == flow.n_columns else [{"op": "keep", "columns": list(kept)}]


def one_hot_encoder(encoder: Any, flow: Flow) -> Read:
    """Read the column of each category; options such as ``drop`` are read off the encoder's answers."""
    expects(not flow.is_sparse, "OneHotEncoder gets sparse columns")
    widths = list(map(int, encoder._n_features_outs))
    answers, columns, start = _answers(encoder), [], 0
    for place, (categories, width) in enumerate(zip(encoder.categories_, widths, strict=True)):
        part = answers[place][:, start : start + width].tocoo()
        hot = np.full(len(categories) + 1, -1, np.int64)
        hot[part.row] = part.col
        columns.append({"categories": _plain(categories), "dtype": _code_dtype(encoder), "hot": hot, "width": width})
        start += width
    return [_encode(encoder, columns)], Flow(sum(widths), bool(encoder.sparse_output))


def ordinal_encoder(encoder: Any, flow: Flow) -> Read:
    """Read the number of each category, off the encoder's answers."""
    expects(not flow.is_sparse, "OrdinalEncoder gets sparse columns")
    answers = _answers(encoder)
    columns = [
        {
            "categories": _plain(categories),
            "dtype": _code_dtype(encoder),
            "values": _with_sparse_nans(answers[place], place),
        }
        for place, categories in enumerate(encoder.categories_)
    ]
    return [_encode(encoder, columns)], flow


def _with_sparse_nans(answers: Any, place: int) -> np.ndarray:
    return np.asarray(answers[:, [place]].todense(), dtype=float).ravel()


def _code_dtype(encoder: Any) -> str:
    dtype = np.dtype(encoder.dtype)
    return "<f4" if dtype == np.float32 else "<f8"


def _encode(encoder: Any, columns: list[Op]) -> Op:
    return {"op": "encode", "columns": columns, "refuses_unknown": encoder.handle_unknown == "error"}


def _answers(encoder: Any) -> list[Any]:
    """Ask a fitted encoder for each category of each column, and for one that it does not know.

    Returns
    -------
    list
        For each column a sparse matrix with a row for each category and a last one for an unknown one
        (which stays empty where the encoder refuses it).
    """
    return [_answer(encoder, place) for place in range(len(encoder.categories_))]


def _answer(encoder: Any, place: int) -> Any:
    import warnings

    from scipy import sparse

    categories = list(encoder.categories_[place])
    refuses = encoder.handle_unknown == "error"
    probes = categories if refuses else [*categories, _never_seen(categories)]
    table = np.empty((len(probes), len(encoder.categories_)), dtype=object)
    for column, known in enumerate(encoder.categories_):
        table[:, column] = known[0]
    table[:, place] = probes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answered = encoder.transform(_framed(encoder, table))
    answered = sparse.csr_matrix(answered)
    return sparse.vstack([answered, sparse.csr_matrix((1, answered.shape[1]))]).tocsr() if refuses else answered


def _framed(encoder: Any, table: np.ndarray) -> Any:
    """Give a table the form and the types that the encoder was fitted on."""
    import pandas as pd

    names = getattr(encoder, "feature_names_in_", range(table.shape[1]))
    frame = pd.DataFrame(table, columns=list(names), dtype=object)
    for name, categories in zip(list(frame.columns), encoder.categories_, strict=True):
        if categories.dtype.kind in "iuf":
            frame[name] = frame[name].astype(float if categories.dtype.kind != "f" else categories.dtype)
    return frame if hasattr(encoder, "feature_names_in_") else _as_array(frame)


def _as_array(frame: Any) -> np.ndarray:
    kinds = {dtype.kind for dtype in frame.dtypes}
    return np.asarray(frame.to_numpy() if kinds <= set("iuf") else frame.to_numpy(dtype=object))


def _never_seen(categories: Sequence[Any]) -> Any:
    """Give something that is none of the categories, of their type."""
    if any(isinstance(category, str) for category in categories):
        return _UNKNOWN_TEXT
    figures = [float(category) for category in categories if category is not None and category == category]  # noqa: PLR0124
    return max(figures, default=0.0) + 1.5


def _plain(categories: np.ndarray) -> list[Any]:
    """Give categories as Python values that keep their meaning as JSON."""
    listed: list[Any] = categories.tolist()
    plain = all(value is None or type(value) in {str, int, float, bool} for value in listed)
    expects(plain, "a category is neither text nor a number nor missing")
    return listed


def function_transformer(transformer: Any, flow: Flow) -> Read:
    """Read nothing: only the transformer without a function is compiled."""
    expects(transformer.func is None, "FunctionTransformer calls a function of yours")
    return ([convert("float", "both")] if transformer.validate else []), flow


def column_transformer(transformer: Any, flow: Flow) -> Read:
    """Read each branch with the columns that it was resolved to when it was fitted."""
    expects(not flow.is_sparse, "ColumnTransformer gets sparse columns")
    branches, n_columns = [], 0
    for name, part, _ in transformer.transformers_:
        places = _places(transformer, name, flow)
        if part == "drop" or not places:
            continue
        steps, out = read_step(part, Flow(len(places)))
        branches.append({"columns": places, "steps": steps})
        n_columns += _weighted(transformer, name, out, steps)
    return [{"op": "split", "branches": branches}], Flow(n_columns, bool(transformer.sparse_output_))


def _places(transformer: Any, name: str, flow: Flow) -> list[int]:
    places = [int(place) for place in transformer._transformer_to_input_indices.get(name, [])]
    expects(all(0 <= place < flow.n_columns for place in places), "ColumnTransformer takes a column that there is not")
    return places


def _weighted(transformer: Any, name: str, out: Flow, steps: list[Op]) -> int:
    """Multiply a branch by its weight, where it has one."""
    weight = (transformer.transformer_weights or {}).get(name)
    if weight is not None:
        steps += [convert("float", "nothing"), _arithmetic("multiply", np.full(out.n_columns, weight), as_input=True)]
    return out.n_columns


def pipeline(model: Any, flow: Flow) -> Read:
    """Read all steps, one after the other."""
    return read_steps([part for _, part in model.steps], flow)


def read_steps(parts: Sequence[Any], flow: Flow) -> Read:
    """Read transformers that follow each other."""
    steps: list[Op] = []
    for part in parts:
        read, flow = read_step(part, flow)
        steps += read
    return steps, flow


def read_step(part: Any, flow: Flow) -> Read:
    """Read one transformer, ``"passthrough"`` or None."""
    if part is None or (isinstance(part, str) and part == "passthrough"):
        return [], flow
    from nbmlops.scoring.compile import reader_of

    reader = reader_of(part, "transformer")
    if called(part) not in {"Pipeline", "FunctionTransformer"}:
        check_width(part, flow)
    return reader(part, flow)  # type: ignore[no-any-return]
