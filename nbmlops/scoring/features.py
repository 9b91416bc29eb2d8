"""Features followed through a plan's steps: each is a function of a single input column. Nothing is scored here.

Every transformer that is compiled works column by column, so that a feature is either

- a `Column`: figures of one input and the arithmetic done to them, in the model's own precision, or
- `Coded`: one input looked up among known categories, and a figure for each of them. What later steps do to it is
  done once, here, to those figures.

Precision follows scikit-learn's: columns handed to a transformer together take their common type; single
precision stays where all of them have it, everything else becomes double.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import numpy as np

from nbmlops.scoring.compiled import unreadable

DOUBLE: Final = np.dtype(np.float64)
SINGLE: Final = np.dtype(np.float32)
OBJECT: Final = np.dtype(object)
UFUNCS: Final = {"subtract": np.subtract, "divide": np.divide, "multiply": np.multiply, "add": np.add}
REFUSES: Final = ("nothing", "infinite", "both")
Step: TypeAlias = tuple[Any, ...]  # a name, then its figures
Op: TypeAlias = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Column:
    """Figures (or texts) of the input number `source`, after `steps`."""

    source: int
    dtype: np.dtype
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, eq=False)
class Lookup:
    """A column looked up among categories: code i for category i, ``len(categories)`` for all others."""

    source: Column
    categories: list[Any]
    refuses_unknown: bool


@dataclass(frozen=True, eq=False)
class Coded:
    """A figure for each code of a lookup.

    ``figures[selected]`` has one figure a code; ``refused`` tells which figures the model does not take.
    A one-hot feature has two figures, for elsewhere and for where `hot` equals `place`.
    """

    lookup: Lookup
    figures: np.ndarray
    refused: np.ndarray
    hot: np.ndarray | None = None
    place: int = 0

    @property
    def dtype(self) -> np.dtype:
        """The type of its figures."""
        return self.figures.dtype

    @property
    def selected(self) -> np.ndarray:
        """Which figure each code has, (n_codes,)."""
        if self.hot is None:
            return np.arange(len(self.figures))
        return np.asarray(self.hot == self.place, np.intp)


Feature: TypeAlias = Column | Coded


def features_of(steps: Sequence[Op], dtypes: Sequence[np.dtype]) -> list[Feature]:
    """Follow inputs of these types through the steps.

    Raises
    ------
    Unreadable
        A step is unknown or does not fit what it gets.
    """
    inputs: list[Feature] = [Column(place, np.dtype(dtype)) for place, dtype in enumerate(dtypes)]
    with np.errstate(all="ignore"):
        return _followed(inputs, steps)


def _followed(features: list[Feature], steps: Sequence[Op]) -> list[Feature]:
    for step in steps:
        features = _STEPS[step["op"]](features, step)
    return features


def common_dtype(features: Sequence[Feature]) -> np.dtype:
    """Give the type that columns take together."""
    kinds = {feature.dtype for feature in features}
    return OBJECT if OBJECT in kinds else np.result_type(*kinds) if kinds else DOUBLE


def _split(features: list[Feature], step: Op) -> list[Feature]:
    """Let each branch have its columns, then put their results side by side."""
    joined: list[Feature] = []
    for branch in step["branches"]:
        joined += _followed(_kept(features, branch), branch["steps"])
    return _cast(joined, common_dtype(joined))


def _kept(features: list[Feature], step: Op) -> list[Feature]:
    if not all(type(place) is int and 0 <= place < len(features) for place in step["columns"]):
        raise unreadable("a step takes a column that there is not")
    return [features[place] for place in step["columns"]]


def _cast(features: list[Feature], dtype: np.dtype) -> list[Feature]:
    return [feature if feature.dtype == dtype else _as_type(feature, dtype) for feature in features]


def _as_type(feature: Feature, dtype: np.dtype) -> Feature:
    if isinstance(feature, Coded):
        return replace(feature, figures=feature.figures.astype(dtype))
    steps = feature.steps
    if dtype != OBJECT and (not steps or steps[-1] != ("to", dtype.str)):
        steps = (*steps, ("to", dtype.str))
    return replace(feature, dtype=dtype, steps=steps)


def _convert(features: list[Feature], step: Op) -> list[Feature]:
    """Give figures of one floating type, and refuse what the model refuses."""
    if any(isinstance(f, Column) and any(s[0] == "fill-text" for s in f.steps) for f in features):
        raise unreadable("text is used as figures")
    dtype = _TARGETS[step["to"]](common_dtype(features))
    refuses = REFUSES.index(step["refuses"])
    return [_guarded(_as_type(feature, dtype), refuses) for feature in features]


_TARGETS: Final[dict[str, Callable[[np.dtype], np.dtype]]] = {
    "float": lambda dtype: SINGLE if dtype in (SINGLE, np.float16) else DOUBLE,
    "single": lambda _: SINGLE,
    "double": lambda _: DOUBLE,
}


def _guarded(feature: Feature, refuses: int) -> Feature:
    if not refuses:
        return feature
    if isinstance(feature, Coded):
        bad = ~np.isfinite(feature.figures) if refuses == 2 else np.isinf(feature.figures)
        return replace(feature, refused=feature.refused | bad)
    step = ("refuse", REFUSES[refuses])
    return feature if feature.steps[-1] == step else replace(feature, steps=(*feature.steps, step))


def _arithmetic(features: list[Feature], step: Op) -> list[Feature]:
    """Do one operation with a figure for each feature, in place, as the transformers do."""
    name, by = step["ufunc"], _one_each(features, step["by"])
    return [_operated(feature, name, by[place], step["as_input"]) for place, feature in enumerate(features)]


def _one_each(features: list[Feature], figures: Any) -> Any:
    if not isinstance(figures, np.ndarray | list) or np.shape(figures) != (len(features),):
        raise unreadable("a step has not one figure for each feature")
    return figures


def _operated(feature: Feature, name: str, by: Any, as_input: bool) -> Feature:
    if feature.dtype not in (SINGLE, DOUBLE) or not isinstance(by, np.floating):
        raise unreadable("arithmetic is done to what are no figures")
    by = by.astype(feature.dtype) if as_input else by
    if isinstance(feature, Coded):
        figures = feature.figures.copy()
        UFUNCS[name](figures, by, out=figures, casting="same_kind")
        return replace(feature, figures=figures)
    return replace(feature, steps=(*feature.steps, (_known(name), by)))


def _known(ufunc: str) -> str:
    if ufunc not in UFUNCS:
        raise unreadable(f"no operation is called {ufunc!r}")
    return ufunc


def _clip(features: list[Feature], step: Op) -> list[Feature]:
    low, high = float(step["low"]), float(step["high"])
    return [
        replace(feature, figures=feature.figures.clip(low, high).astype(feature.dtype))
        if isinstance(feature, Coded)
        else replace(feature, steps=(*feature.steps, ("clip", low, high)))
        for feature in features
    ]


def _fill(features: list[Feature], step: Op) -> list[Feature]:
    """Put a figure for each feature where one is missing."""
    fills, missing = _one_each(features, step["by"]), float(step["missing"])
    return [_filled(feature, missing, fills[place]) for place, feature in enumerate(features)]


def _filled(feature: Feature, missing: float, fill: Any) -> Feature:
    if not isinstance(fill, np.floating):
        raise unreadable("a missing figure would be filled with something else")
    fill = fill.astype(feature.dtype)
    if isinstance(feature, Coded):
        where = is_missing(feature.figures, missing)
        return replace(feature, figures=np.where(where, fill, feature.figures))
    return replace(feature, steps=(*feature.steps, ("fill", missing, fill)))


def _tell_missing(features: list[Feature], step: Op) -> list[Feature]:
    """Give 1 where a figure is missing, else 0."""
    missing = float(step["missing"])
    return [
        replace(feature, figures=is_missing(feature.figures, missing).astype(feature.dtype))
        if isinstance(feature, Coded)
        else replace(feature, steps=(*feature.steps, ("tell missing", missing)))
        for feature in features
    ]


def is_missing(figures: np.ndarray, missing: float) -> np.ndarray:
    """Tell where the mark for a missing figure stands, which may be NaN."""
    return np.isnan(figures) if np.isnan(missing) else np.asarray(figures == missing)


def _fill_text(features: list[Feature], step: Op) -> list[Feature]:
    """Put a text for each feature where one is missing: None or NaN, whichever the model takes as missing."""
    fills, missing = _one_each(features, step["by"]), step["missing"]
    if not all(isinstance(fill, str) for fill in fills) or missing not in {"none", "nan"}:
        raise unreadable("a missing text would be filled with something else")
    columns = map(_only_column, features)
    return [
        replace(column, dtype=OBJECT, steps=(*column.steps, ("fill-text", missing, fills[place])))
        for place, column in enumerate(columns)
    ]


def _only_column(feature: Feature) -> Column:
    if isinstance(feature, Coded) or any(step[0] != "fill-text" for step in feature.steps):
        raise unreadable("text is expected where figures are")
    return feature


def _encode(features: list[Feature], step: Op) -> list[Feature]:
    """Look each feature up among its categories."""
    if len(step["columns"]) != len(features):
        raise unreadable("a step has not one list of categories for each feature")
    made: list[Feature] = []
    for feature, column in zip(features, step["columns"], strict=True):
        made += _encoded(feature, column, bool(step["refuses_unknown"]))
    return made


def _encoded(feature: Feature, column: dict[str, Any], refuses_unknown: bool) -> list[Feature]:
    categories = column["categories"]
    if not all(isinstance(category, str | int | float | bool | None) for category in categories):
        raise unreadable("a category is neither text nor figure")
    if isinstance(feature, Coded):
        return _encoded_again(feature, column, refuses_unknown)
    lookup = Lookup(feature, categories, refuses_unknown)
    n_codes = len(categories) + 1  # the lookup itself refuses what is unknown
    return _figures_of(lookup, column, np.arange(n_codes), np.zeros(n_codes, bool))


def _figures_of(lookup: Lookup, column: dict[str, Any], codes: np.ndarray, refused: np.ndarray) -> list[Feature]:
    """Give the features of a column whose code c is code ``codes[c]`` of the step's categories."""
    n_codes, dtype = len(column["categories"]) + 1, np.dtype(column["dtype"])
    if dtype not in (SINGLE, DOUBLE):
        raise unreadable("codes become something else than figures")
    if "values" in column:
        values = _of_length(column["values"], n_codes).astype(dtype)
        return [Coded(lookup, values[codes], refused)]
    hot, width = _of_length(column["hot"], n_codes)[codes], column["width"]
    if type(width) is not int or not 0 <= width < n_codes:
        raise unreadable("a column has more categories than it knows")
    if refused.any():  # one figure for each code, so that each can be refused by itself
        return [Coded(lookup, (hot == place).astype(dtype), refused) for place in range(width)]
    pair, taken = np.array([0, 1], dtype), np.zeros(2, bool)
    return [Coded(lookup, pair, taken, hot, place) for place in range(width)]


def _of_length(array: Any, size: int) -> np.ndarray:
    if not isinstance(array, np.ndarray) or array.shape != (size,):
        raise unreadable("a step has not one figure for each category")
    return array


def _encoded_again(feature: Coded, column: dict[str, Any], refuses_unknown: bool) -> list[Feature]:
    if feature.hot is not None:
        raise unreadable("one-hot columns are encoded once more")
    find = {category: code for code, category in enumerate(column["categories"])}
    nan = next((code for value, code in find.items() if value != value), len(find))  # noqa: PLR0124
    codes = np.array([find.get(v, nan if v != v else len(find)) for v in feature.figures.tolist()], np.intp)  # noqa: PLR0124
    refused = feature.refused | (refuses_unknown & (codes == len(find)))
    return _figures_of(feature.lookup, column, codes, refused)


_STEPS: Final[dict[str, Callable[[list[Feature], Op], list[Feature]]]] = {
    "split": _split,
    "keep": _kept,
    "convert": _convert,
    "arithmetic": _arithmetic,
    "clip": _clip,
    "fill": _fill,
    "fill-text": _fill_text,
    "tell missing": _tell_missing,
    "encode": _encode,
}
