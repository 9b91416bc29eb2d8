"""The compiled form of a fitted model: plain data, and the bytes in which it is kept. Nothing here computes.

The bytes hold no code and no pickle: a mark with the format's version, a SHA-256 of what follows, the length of
a JSON plan, the plan, then the arrays that the plan names, end to end. Reading is parse, then audit, then
construct: every size is compared with what there is before anything is made of it. A change of this layout, or
of what a step of the plan means, needs a new version.
"""

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from nbmlops.errors import DataError

VERSION: Final = 1
MARK: Final = b"nbmlops-model" + bytes([VERSION])
PREDICTS: Final = ("predict", "predict_proba")
_MARK_STEM: Final = MARK[:-1]
_HEAD: Final = struct.Struct("<32sQ")  # digest of the rest, bytes of the plan
_DTYPES: Final = {name: np.dtype(name) for name in ("<f8", "<f4", "<i8", "<i4", "<u4", "|u1", "|b1")}
_ARRAY: Final = "array"


class Unreadable(DataError):  # noqa: N818 - named after what it says
    """What was given is not a compiled model, or not one that this version can score."""


@dataclass(frozen=True, eq=False)
class Compiled:
    """A fitted model as plain data.

    Parameters
    ----------
    inputs
        The columns that the model takes, in its order; of a model fitted on an array, their positions or
        the names that were given to `compile_model`.
    steps
        What happens to the columns, in order; each step is a mapping with ``op`` and its figures.
    head
        What makes predictions of the features: a linear model or an ensemble of trees.
    predict_fn
        ``"predict"`` (labels or values) or ``"predict_proba"``.
    described
        The model in words, such as ``"Pipeline(StandardScaler, LogisticRegression)"``.
    library
        What it was fitted with, such as ``"scikit-learn 1.9.1"``.
    by_position
        Whether it was fitted on an array, so that the order of the columns counts and not their names.

    Examples
    --------
    >>> head = {"kind": "linear", "coef": np.array([[2.0]]), "intercept": np.array([1.0]), "decides": "value"}
    >>> line = Compiled(("x",), [{"op": "convert", "to": "double", "refuses": "both"}], head)
    >>> Compiled.from_bytes(line.to_bytes()).head["coef"]
    array([[2.]])
    """

    inputs: tuple[str, ...]
    steps: list[dict[str, Any]]
    head: dict[str, Any]
    predict_fn: str = "predict"
    described: str = ""
    library: str = ""
    by_position: bool = False

    def to_bytes(self) -> bytes:
        """Write it down; `from_bytes` reads it."""
        arrays: list[np.ndarray] = []
        plan = {name: _without_arrays(getattr(self, name), arrays) for name in self.__dataclass_fields__}
        plan["arrays"] = [[_dtype_name(array), list(array.shape)] for array in arrays]
        text = json.dumps(plan, separators=(",", ":"), ensure_ascii=True).encode()
        body = text + b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
        return MARK + _HEAD.pack(_digest(len(text), body), len(text)) + body

    @classmethod
    def from_bytes(cls, data: bytes) -> "Compiled":
        """Read what `to_bytes` wrote.

        Parameters
        ----------
        data
            The bytes, of any origin: nothing of them is ever executed.

        Raises
        ------
        Unreadable
            They are no compiled model, are of another version, were cut or changed, or hold sizes that do not
            fit together.

        Examples
        --------
        >>> Compiled.from_bytes(b"nothing of ours")
        Traceback (most recent call last):
        nbmlops.scoring.compiled.Unreadable: These bytes are no compiled model.
          Compile the model again.
        """
        text, payload = _parted(data)
        plan = _parsed(text)
        try:
            return cls(**_audited(_with_arrays(plan, _arrays(plan.pop("arrays"), payload))))
        except (KeyError, TypeError, ValueError, RecursionError) as exc:
            raise unreadable(f"its plan does not hold together ({type(exc).__name__})") from exc


def unreadable(reason: str) -> Unreadable:
    """Word why a compiled model cannot be used; `reason` is a clause."""
    return Unreadable(f"The compiled model cannot be read: {reason}.", "Compile the model again.")


def _digest(n_text: int, body: bytes | memoryview) -> bytes:
    return hashlib.sha256(struct.pack("<Q", n_text) + body).digest()


def _dtype_name(array: np.ndarray) -> str:
    name = array.dtype.newbyteorder("<").str
    if name not in _DTYPES:
        raise TypeError(f"An array of {array.dtype} has no place in a compiled model")
    return name


def _without_arrays(value: Any, arrays: list[np.ndarray]) -> Any:
    """Copy `value` with each array replaced by its place in `arrays`."""
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {_ARRAY: len(arrays) - 1}
    if isinstance(value, dict):
        return {name: _without_arrays(part, arrays) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_arrays(part, arrays) for part in value]
    return value


def _with_arrays(value: Any, arrays: list[np.ndarray]) -> Any:
    """Undo `_without_arrays`."""
    if isinstance(value, dict):
        if value.keys() == {_ARRAY}:
            return arrays[_index(value[_ARRAY], len(arrays))]
        return {name: _with_arrays(part, arrays) for name, part in value.items()}
    if isinstance(value, list):
        return [_with_arrays(part, arrays) for part in value]
    return value


def _index(value: Any, size: int) -> int:
    if type(value) is not int or not 0 <= value < size:
        raise ValueError(value)
    return value


def _parted(data: bytes) -> tuple[bytes, memoryview]:
    """Give the plan's text and the arrays' bytes, once the digest is right."""
    start = len(MARK) + _HEAD.size
    if data[: len(_MARK_STEM)] != _MARK_STEM or len(data) < start:
        raise Unreadable("These bytes are no compiled model.", "Compile the model again.")
    if data[: len(MARK)] != MARK:
        raise unreadable(f"it is of version {data[len(MARK) - 1]}, and this is version {VERSION}")
    digest, n_text = _HEAD.unpack_from(data, len(MARK))
    body = memoryview(data)[start:]
    if n_text > len(body) or _digest(n_text, body) != digest:
        raise unreadable("its bytes were cut or changed")
    return bytes(body[:n_text]), body[n_text:]


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        plan = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise unreadable("its plan is no JSON") from exc
    if not isinstance(plan, dict) or plan.keys() != {*Compiled.__dataclass_fields__, "arrays"}:
        raise unreadable("its plan lacks a part or has one too many")
    return plan


def _arrays(listed: Any, payload: memoryview) -> list[np.ndarray]:
    """Cut the arrays out of `payload`, which they fill exactly."""
    arrays, start = [], 0
    for name, shape in listed:
        dtype, sizes = _DTYPES[name], [_index(size, 2**40) for size in shape]
        end = start + dtype.itemsize * math.prod(sizes)
        if end > len(payload) or len(sizes) > 3:
            raise ValueError("an array goes beyond the end")
        arrays.append(np.frombuffer(payload[start:end], dtype).reshape(sizes))
        start = end
    if start != len(payload):
        raise ValueError("bytes are left over")
    return arrays


def _audited(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Check what every reader of the plan relies on; the figures of each step are checked where they are used."""
    inputs, steps, head = plan["inputs"], plan["steps"], plan["head"]
    words = (plan["predict_fn"], plan["described"], plan["library"], *inputs)
    if not all(isinstance(word, str) for word in words) or len(set(inputs)) != len(inputs):
        raise TypeError("names")
    if not (
        isinstance(steps, list)
        and isinstance(head, dict)
        and plan["predict_fn"] in PREDICTS
        and type(plan["by_position"]) is bool
    ):
        raise TypeError("steps or head")
    return {**plan, "inputs": tuple(inputs)}
