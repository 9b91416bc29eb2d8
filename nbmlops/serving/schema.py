"""A model's signature, and whether data fits it: MLflow's rules of enforcement, without MLflow or pandas.

Data comes as Python lists (`Schema.checked`, once a request; `Schema.arrays`, once a batch) or as numpy arrays
(`Schema.checked_arrays`). What MLflow 3.17's scoring server takes is taken with the same values, casts included; what
it refuses is refused with a `DataError` that names column, row and expected type. The tests compare the two on
thousands of bodies. These are refused on purpose though MLflow takes them, for it changes or guesses what they mean:

- a number outside the range of an integer column (MLflow wraps it round);
- null, NaN and text in a boolean column (there NaN and every text, ``"false"`` too, mean true);
- a list or an object as one value;
- a date in text that is not ISO 8601, or with an offset from UTC.
"""

import base64
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import isnan
from typing import Any, Literal, NamedTuple

import numpy as np
import orjson

from nbmlops.errors import DataError

Form = Literal["frame", "array"]
FRAME: Form = "frame"  # how MLflow reads dataframe_split, dataframe_records and CSV: pandas infers, then casts
ARRAY: Form = "array"  # how it reads inputs and instances: numpy casts
MISSING = float("nan")  # stands where a record has no such key; told from a NaN that was sent by its identity
UNNAMED = ""  # the key of a tensor that has no name

_NULL = type(None)
_LARGEST = {"integer": 2**31, "long": 2**63}
_ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)?")
_WORDS = {str: "text", bool: "true or false", _NULL: "null", dict: "an object", list: "a list", bytes: "bytes"}

Convert = Callable[[Any], Any]


# --------------------------------------------------------- one value of a type; a ValueError says that it does not fit
def _whole(value: Any) -> int:
    """Cut a number, or a number in text, to a whole one, as numpy does."""
    if value is None:
        raise ValueError
    return int(value)


def _number(value: Any) -> float:
    return np.nan if value is None else float(value)


def _truth(value: Any) -> bool:
    if value is None or isinstance(value, str) or value != value:  # noqa: PLR0124 - NaN alone differs from itself
        raise ValueError
    return bool(value)


def _text(value: Any) -> Any:
    """Write a value as text, as numpy does: null becomes ``"None"``; only what no record held stays NaN."""
    return value if value is MISSING else str(value)


def _any(value: Any) -> Any:
    return value


def _decoded(value: Any) -> bytes:
    """Decode base64 as MLflow does: what is no letter of base64 is skipped."""
    return base64.decodebytes(value.encode())


def _ascii(value: Any) -> Any:
    return value if value is MISSING else str(value).encode("ascii")


def _moment(value: Any) -> np.datetime64:
    """Read a time: ISO 8601 without an offset, nanoseconds since 1970, or null."""
    if _is_null(value):
        return np.datetime64("NaT", "ns")
    if type(value) is int or (type(value) is str and _ISO_DATE.fullmatch(value) and "1678" <= value[:4] <= "2261"):
        moment: np.datetime64 = np.datetime64(value, "ns")
        return moment
    raise ValueError


# --------------------------------------------------------------------------------------------------------- the types
class Type(NamedTuple):
    """One of MLflow's types of a column.

    `exact` are the Python types whose values `Schema.arrays` takes as they are; all others go through `convert`
    one by one, which differs between the two forms of data.
    """

    name: str
    dtype: np.dtype[Any]
    exact: frozenset[type]
    convert: Mapping[Form, Convert]
    largest: int = 0  # whole numbers lie in -largest to largest - 1


def _type(name: str, dtype: str, exact: Iterable[type], frame: Convert, array: Convert | None = None) -> Type:
    converts = {FRAME: frame, ARRAY: array or frame}
    return Type(name, np.dtype(dtype), frozenset(exact), converts, _LARGEST.get(name, 0))


TYPES = {
    given.name: given
    for given in (
        _type("boolean", "bool", [bool], _truth),
        _type("integer", "int32", [int], _whole),
        _type("long", "int64", [int], _whole),
        _type("float", "float32", [float, bool, _NULL], _number),
        _type("double", "float64", [float, bool, _NULL], _number),
        _type("string", "object", [str], _any, _text),
        _type("binary", "object", [], _decoded, _ascii),
        _type("datetime", "datetime64[ns]", [], _moment),
    )
}
_TENSOR_TYPES = {"bool": "boolean", "int32": "integer", "int64": "long", "float32": "float", "float64": "double"}


@dataclass(frozen=True)
class Column:
    """One column of a signature; a tensor of ``(n_rows,)`` or ``(n_rows, width)`` is a column of that `width`."""

    name: str | int
    type: Type
    required: bool = True
    width: int | None = None

    def __str__(self) -> str:
        if self.name == UNNAMED:
            return f"rows of {self.width} {self.type.name} values" if self.width else f"{self.type.name} values"
        return f"{self.name!r}: {self.type.name}{'' if self.required else ' (optional)'}"


# -------------------------------------------------------------------------------------------------------- the schema
@dataclass(frozen=True)
class Schema:
    """The columns that a model takes; without any, nothing is known, and nothing is checked.

    Examples
    --------
    >>> schema = Schema.of('[{"name": "delay", "type": "double"}, {"name": "carrier", "type": "string"}]')
    >>> schema.checked({"carrier": ["UA"], "delay": [3], "tail": ["N1"]})
    {'delay': [3.0], 'carrier': ['UA']}
    >>> schema.arrays({"delay": [3, None], "carrier": ["UA", "B6"]})["delay"]
    array([ 3., nan])
    >>> schema.checked({"carrier": ["UA", "B6"], "delay": [3, "late"]})
    Traceback (most recent call last):
        ...
    nbmlops.errors.DataError: Column 'delay' takes double; row 1 has text that cannot be read as that.
      The model takes 'delay': double, 'carrier': string.
    """

    columns: tuple[Column, ...] = ()

    @classmethod
    def of(cls, inputs_json: str | None) -> "Schema":
        """Read a signature's inputs as MLmodel keeps them.

        Returns
        -------
        Schema
            One that is not `is_known` for no signature, and for one whose data cannot be held in plain columns:
            nested types, named or high-dimensional tensors, columns without names.
        """
        try:
            specs = orjson.loads(inputs_json or "null")
            return cls(_columns(specs)) if specs else cls()
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            return cls()

    @property
    def is_known(self) -> bool:
        """Whether it says what the model takes."""
        return bool(self.columns)

    @property
    def is_tensor(self) -> bool:
        """Whether the model takes one array without a name instead of named columns."""
        return self.is_known and self.columns[0].name == UNNAMED

    @cached_property
    def by_name(self) -> dict[str | int, Column]:
        """The columns by their names."""
        return {column.name: column for column in self.columns}

    @cached_property
    def _plan(self) -> list[tuple[str | int, frozenset[type], int, Column]]:
        """What `checked` asks of each column, within a microsecond."""
        return [(c.name, c.type.exact if c.width is None else frozenset(), c.type.largest, c) for c in self.columns]

    def requiring(self, names: Collection[str | int]) -> "Schema":
        """Make optional columns required, for a model that cannot do without them."""
        return Schema(tuple(replace(c, required=c.required or c.name in names) for c in self.columns))

    def checked(self, columns: Mapping[Any, Sequence[Any]], form: Form = FRAME) -> dict[Any, Sequence[Any]]:
        """Check one request, and make the casts that MLflow makes.

        Parameters
        ----------
        columns
            Name -> values as JSON has them, all of one length, at least one row. Columns that the model does not
            know are dropped; an optional column that is missing stays so.
        form
            In which of MLflow's two forms the data came; they differ in how they cast.

        Returns
        -------
        dict
            The model's columns in its order, with values that `arrays` takes; untouched where nothing is known.

        Raises
        ------
        DataError
            A column is missing, or a value does not fit.
        """
        if not self.columns:
            return dict(columns)
        given: dict[Any, Sequence[Any]] = {}
        for name, exact, largest, column in self._plan:
            values = columns.get(name)
            if values is None:
                if column.required:
                    raise self._missing(columns)
            elif exact.issuperset(map(type, values)) and (
                not largest or (-largest <= min(values) and max(values) < largest)
            ):
                given[name] = values
            else:
                given[name] = self._converted(column, values, form)
        return given

    def arrays(self, lists: Mapping[Any, Sequence[Any]]) -> dict[Any, np.ndarray]:
        """Convert what `checked` gave, or several of them one after the other, to numpy; it does not fail.

        Returns
        -------
        dict
            bool, int32, int64, float32, float64, datetime64[ns] or (text and binary) object arrays ``(n_rows,)``; a
            tensor ``(n_rows, width)``. Null is NaN or NaT; in text it is NaN beside text, and None alone, as in pandas.
        """
        return {name: _array(values, self.by_name[name].type.dtype) for name, values in lists.items()}

    def checked_arrays(self, arrays: Mapping[Any, np.ndarray]) -> dict[Any, np.ndarray]:
        """Check numpy arrays, and make the casts that change no value.

        MLflow, which enforces a schema so on Parquet, refuses by type alone what is cast here where it fits: int64 to
        double, double to float or long.

        Raises
        ------
        DataError
            A column is missing, or its type cannot be had without loss.
        """
        if not self.columns:
            return dict(arrays)
        if missing := [c for c in self.columns if c.required and c.name not in arrays]:
            raise self._missing(arrays, missing)
        return {c.name: self._cast(c, arrays[c.name]) for c in self.columns if c.name in arrays}

    def hint(self) -> str:
        """Say in one line what the model takes."""
        listed = ", ".join(map(str, self.columns[:20]))
        return f"The model takes {listed}{', …' if len(self.columns) > 20 else ''}."[:400] if self.columns else ""

    # ------------------------------------------------------------------------------------------------ what is behind
    def _converted(self, column: Column, values: Sequence[Any], form: Form) -> Sequence[Any]:
        """Convert values one by one; the first that does not fit is refused."""
        if column.width is not None:
            return self._rows(column, values)
        types = set(map(type, values))
        if types & {dict, list, tuple}:
            raise self._unfit(column, values, _any_scalar)
        if form == FRAME:
            if column.type.name == "datetime" and not _are_alike(values):
                raise DataError(
                    f"Column {column.name!r} takes datetime; its values are written in different ways.", self.hint()
                )
            values = _as_pandas_infers(values, types, column.type.name)
        convert = column.type.convert[form]
        try:
            converted = [convert(value) for value in values]
        except (ValueError, TypeError, OverflowError, AttributeError):
            raise self._unfit(column, values, convert) from None
        largest = column.type.largest
        if largest and not (-largest <= min(converted) and max(converted) < largest):
            raise self._unfit(column, values, lambda value: _in_range(convert(value), largest))
        return converted

    @np.errstate(over="ignore")
    def _rows(self, column: Column, rows: Sequence[Any]) -> Sequence[Any]:
        """Check the rows of a tensor, each a list of `width` values, or plain values where that is 0."""
        try:
            shape = np.array(rows, column.type.dtype).shape
        except (ValueError, TypeError, OverflowError):
            raise self._unfit(column, rows, lambda row: np.array(row, column.type.dtype)) from None
        if shape[1:] != ((column.width,) if column.width else ()):
            each = "one value" if len(shape) == 1 else " x ".join(map(str, shape[1:])) + " values"
            raise DataError(f"Each row has {each}; expected were {column}.", self.hint())
        return rows

    def _unfit(self, column: Column, values: Sequence[Any], convert: Convert) -> DataError:
        """Word what does not fit: the column, the first such row, counted from 0, and what was expected."""
        where = f"Column {column.name!r} takes" if column.name != UNNAMED else "The model takes"
        row, found = next(((row, _found(value)) for row, value in enumerate(values) if _fails(convert, value)), (0, ""))
        return DataError(f"{where} {column.type.name}; row {row} has {found} that cannot be read as that.", self.hint())

    def _missing(self, given: Collection[Any], missing: Sequence[Column] = ()) -> DataError:
        lacking = missing or [c for c in self.columns if c.required and c.name not in given]
        if self.is_tensor:
            return DataError(f"The model takes {self.columns[0]} without names of columns.", self.hint())
        names = ", ".join(repr(c.name) for c in lacking[:10])
        return DataError(f"The model is missing inputs [{names}]: the data has no such column.", self.hint())

    def _cast(self, column: Column, given: np.ndarray) -> np.ndarray:
        if given.shape[1:] != ((column.width,) if column.width else ()):
            raise DataError(f"The data has another shape than the model takes: {column}.", self.hint())
        try:
            return _safely_cast(given, column.type)
        except (ValueError, TypeError, OverflowError):
            found = "text" if given.dtype.kind in "OTU" else str(given.dtype)
            said = f"Column {column.name!r} takes {column.type.name}; {found} cannot be read as that without loss."
            raise DataError(said, self.hint()) from None


def _columns(specs: Any) -> tuple[Column, ...]:
    """Read the specifications; a ValueError or KeyError for what plain columns cannot hold."""
    if len(specs) == 1 and specs[0]["type"] == "tensor":
        return (_tensor(specs[0]),)
    columns = tuple(Column(spec["name"], TYPES[spec["type"]], spec.get("required", True) is True) for spec in specs)
    if len({column.name for column in columns}) < len(columns) or any(c.name in (None, UNNAMED) for c in columns):
        raise ValueError
    return columns


def _tensor(spec: Mapping[str, Any]) -> Column:
    shape, dtype = spec["tensor-spec"]["shape"], spec["tensor-spec"]["dtype"]
    if spec.get("name") is not None or shape[0] != -1 or len(shape) > 2 or -1 in shape[1:]:
        raise ValueError
    return Column(UNNAMED, TYPES[_TENSOR_TYPES[dtype]], width=shape[1] if len(shape) == 2 else 0)


def _are_alike(values: Sequence[Any]) -> bool:
    """Whether times are all numbers, or all texts of one format: pandas guesses it from the first."""
    given = [value for value in values if not _is_null(value)]
    texts = [value for value in given if isinstance(value, str)]
    formats = {(len(text[:19]), text[10:11], "." in text) for text in texts}
    return len(formats) <= 1 and len(texts) in (0, len(given))


def _as_pandas_infers(values: Sequence[Any], types: set[type], wanted: str) -> Sequence[Any]:
    """Make of a list what a pandas column makes of it: whole numbers beside others become floats, null becomes NaN."""
    if wanted == "string" and str in types:
        is_text_alone = types <= {str, _NULL} or (types <= {str, float, _NULL} and not any(map(_is_real, values)))
        return [MISSING if _is_null(value) else value for value in values] if is_text_alone else values
    if float in types and int in types and types <= {int, float, _NULL} and wanted != "datetime":
        return [value if value is None else float(value) for value in values]
    if wanted == "string" and types & {int, float} and types <= {int, float, _NULL}:
        return [MISSING if value is None else float(value) for value in values] if types != {int} else values
    return values


def _is_null(value: Any) -> bool:
    return value is None or (type(value) is float and isnan(value))


def _is_real(value: Any) -> bool:
    return type(value) is float and not isnan(value)


def _any_scalar(value: Any) -> Any:
    if isinstance(value, dict | list | tuple):
        raise ValueError
    return value


def _in_range(value: int, largest: int) -> int:
    if not -largest <= value < largest:
        raise ValueError
    return value


def _fails(convert: Convert, value: Any) -> bool:
    try:
        convert(value)
    except (ValueError, TypeError, OverflowError, AttributeError):
        return True
    return False


def _found(value: Any) -> str:
    """Say of what kind a value is; never what it is."""
    if isinstance(value, float):
        return "NaN" if isnan(value) else "a number"
    return _WORDS.get(type(value), "a number")


def _array(values: Sequence[Any], dtype: np.dtype[Any]) -> np.ndarray:
    if dtype.kind == "O":
        array = np.empty(len(values), object)
        array[:] = values
        return array
    if dtype == np.float32:
        with np.errstate(over="ignore"):  # a double beyond a float's range is infinite, in MLflow too
            return np.array(values, dtype)
    return np.array(values, dtype)


def _safely_cast(given: np.ndarray, wanted: Type) -> np.ndarray:
    """Cast an array as MLflow's enforcement does, and besides where no value of it changes."""
    dtype, kind = wanted.dtype, given.dtype.kind
    if wanted.name in ("string", "binary"):
        if kind not in ("OTUS" if wanted.name == "binary" else "OTU"):
            raise ValueError
        return given.astype(object)
    if given.dtype == dtype:
        return given
    if dtype.kind == "M" and kind in "MO":
        return given.astype(dtype) if kind == "M" else np.array([_moment(value) for value in given.tolist()], dtype)
    if kind not in "iuf" or dtype.kind not in "if":
        raise ValueError
    with np.errstate(all="ignore"):
        cast = given.astype(dtype)
        returned = cast.astype(given.dtype)
    has_wrapped = kind == "u" and dtype.kind == "i" and (cast < 0).any()
    if has_wrapped or not np.array_equal(returned, given, equal_nan=kind == "f"):
        raise ValueError
    return cast
