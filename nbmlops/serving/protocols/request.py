"""What a caller asks, in whatever protocol: checked columns, and how the answer is worded."""

import base64
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import orjson

from nbmlops.serving.protocols.refusals import JSON, Answer

Answering = Callable[[np.ndarray, str, str], Answer]  # predictions, model, version


class Request(NamedTuple):
    """A request that was read and fits the model. A tuple, because one is made for each request: 1 µs less.

    Attributes
    ----------
    columns
        Name -> values, each `n_rows` long; an unnamed tensor has the name ``""``. Numpy arrays if `is_array`,
        else lists that `Schema.arrays` takes. Empty where the model's signature is not known.
    answering
        Words the predictions as this protocol does.
    body, content_type
        As they came.
    is_invocation
        `body` is one that MLflow's scoring server reads.
    """

    columns: Mapping[Any, Any]
    n_rows: int
    answering: Answering
    body: bytes
    content_type: str
    params: Any = None
    is_array: bool = False
    is_invocation: bool = True

    @property
    def names(self) -> tuple[Any, ...]:
        """Names of the columns: requests with the same ones can be scored together."""
        return tuple(self.columns)

    def answer(self, predictions: np.ndarray, model: str = "", version: str = "") -> Answer:
        """Word the predictions, one a row, as the caller's protocol wants them.

        Parameters
        ----------
        predictions
            ``(n_rows,)`` or ``(n_rows, n_outputs)``.
        model, version
            Whose they are; the Open Inference Protocol names them in the answer.
        """
        return self.answering(predictions, model, version)

    def invocation(self) -> tuple[bytes, str]:
        """Word the request as MLflow's scoring server takes it: a body and its content type, for a model's process."""
        if self.is_invocation:
            return self.body, self.content_type
        lists = {name: _plain(np.asarray(column)) for name, column in self.columns.items()}
        if "" in lists:
            return _json({"inputs": lists[""]}), JSON
        split = {"columns": list(lists), "data": list(zip(*lists.values(), strict=True))}
        return _json({"dataframe_split": split}), JSON


def _plain(column: np.ndarray) -> list[Any]:
    """Make a column what JSON can hold; times become text, since as numbers they have no null."""
    values: list[Any] = (np.datetime_as_string(column) if column.dtype.kind == "M" else column).tolist()
    return values


def _json(document: Any) -> bytes:
    """Write JSON; bytes in base64, as MLflow reads them."""
    return orjson.dumps(document, default=lambda value: base64.b64encode(value).decode())
