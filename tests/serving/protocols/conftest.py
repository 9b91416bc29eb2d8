"""MLflow's own scoring function with a model that keeps what it is given, and bodies made at random from a seed."""

import json
import logging
import math
import random
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

COLUMNS = [
    {"name": "flag", "type": "boolean", "required": True},
    {"name": "small", "type": "integer", "required": True},
    {"name": "large", "type": "long", "required": True},
    {"name": "single", "type": "float", "required": True},
    {"name": "wide", "type": "double", "required": True},
    {"name": "word", "type": "string", "required": True},
    {"name": "spare", "type": "double", "required": False},
    {"name": "note", "type": "string", "required": False},
]
GOOD: dict[str, list[Any]] = {
    "boolean": [True, False],
    "integer": [0, 1, -7, 2**31 - 1, -(2**31)],
    "long": [0, 1, -7, 2**53 + 1, 2**63 - 1, -(2**63)],
    "float": [0.1, 1.5, -2.25e10, 1, 0, 3.0],
    "double": [0.1, 1.5, -2.25e10, 1, 0, 3.0, 1e300, 12345678901234567890],
    "string": ["UA", "", "é€", "None", "nan", "1"],
    "binary": ["aGVsbG8=", "", "AAEC"],
    "datetime": ["2013-01-02", "2014-12-31", "2013-01-02T03:04:05", "2013-01-02 03:04:05.123456", None],
}
ODD: list[Any] = [
    None, True, False, 0, 1, -1, 2, 2**31, -(2**40), 2**53 + 1, 2**63, 0.0, 1.0, 1.5, -2.5, 1e18, 1e300,
    math.nan, math.inf, -math.inf, "", "x", "5", " 5 ", "1.5", "1e3", "1_0", "nan", "inf", "true", "False", "None",
    "2013-01-02", "2013-01-02T03:04:05Z", "aGVsbG8=", "é", [], [1], [1, 2], {}, {"a": 1}, ["x"],
]  # fmt: skip


class Asked(NamedTuple):
    """What MLflow did: what the model was given, or nothing if it was refused."""

    accepted: bool
    data: Any = None


@pytest.fixture(scope="session")
def ask_mlflow() -> Callable[[bytes, str, str], Asked]:
    from mlflow.models import Model, ModelSignature
    from mlflow.pyfunc import PyFuncModel
    from mlflow.pyfunc.scoring_server import invocations
    from mlflow.types import Schema

    class Keeps:
        given: Any = None

        def predict(self, data: Any, params: Any = None) -> Any:
            self.given = data
            return np.zeros(1)

    models: dict[str, Any] = {}

    def ask(body: bytes, content_type: str, inputs_json: str) -> Asked:
        if inputs_json not in models:
            kept = Keeps()
            signature = ModelSignature(inputs=Schema.from_json(inputs_json))
            meta = Model(signature=signature, flavors={"python_function": {"loader_module": "none"}})
            models[inputs_json] = kept, PyFuncModel(meta, kept)
        kept, model = models[inputs_json]
        kept.given = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)
            try:
                answer = invocations(body, content_type, model, model.metadata.get_input_schema())
            except Exception:  # noqa: BLE001 - whatever it cannot cope with, it does not accept
                return Asked(False)
            finally:
                logging.disable(logging.NOTSET)
        return Asked(answer.status == 200, kept.given)

    return ask


def same(ours: np.ndarray, theirs: Any) -> bool:
    """Whether two columns hold the same values of the same types; None and NaN differ, as they do to a model."""
    theirs = theirs.to_numpy(dtype=object) if isinstance(theirs, pd.Series) and theirs.dtype.kind in "OTU" else theirs
    theirs = np.asarray(theirs)
    if ours.dtype.kind == "O":
        return len(ours) == len(theirs) and all(map(_alike, ours.tolist(), theirs.tolist()))
    return ours.dtype == theirs.dtype and ours.shape == theirs.shape and bool(_equal(ours, theirs).all())


def _equal(a: np.ndarray, b: np.ndarray) -> Any:
    return (a == b) | ((a != a) & (b != b))


def _alike(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (a != a and b != b)
    if isinstance(a, bytes):
        return isinstance(b, bytes) and a == b  # also where MLflow has numpy's kind
    return type(a) is type(b) and a == b


class Bodies:
    """Request bodies, valid and broken, from a seed."""

    def __init__(self, seed: int, columns: list[dict[str, Any]] = COLUMNS, p_odd: float = 0.03) -> None:
        self.random = random.Random(seed)
        self.columns = columns
        self.p_odd = p_odd

    def value(self, kind: str) -> Any:
        if self.random.random() < self.p_odd:
            return self.random.choice(ODD)
        return self.random.choice(GOOD[kind])

    def table(self) -> tuple[list[str], list[list[Any]]]:
        chosen = [c for c in self.columns if c.get("required", True) or self.random.random() < 0.5]
        if self.random.random() < 0.05:
            chosen = self.random.sample(chosen, len(chosen) - 1)
        if self.random.random() < 0.3:
            self.random.shuffle(chosen)
        names, kinds = [c["name"] for c in chosen], [c["type"] for c in chosen]
        if self.random.random() < 0.2:
            names, kinds = [*names, "extra"], [*kinds, "string"]
        return names, [[self.value(kind) for kind in kinds] for _ in range(self.random.choice([1, 1, 1, 2, 3, 5]))]

    def document(self) -> dict[str, Any]:
        names, rows = self.table()
        records = [dict(zip(names, row, strict=True)) for row in rows]
        if self.random.random() < 0.05 and names:
            records[-1].popitem()
        form = self.random.choice(["split", "split", "records", "instances", "inputs", "inputs records", "scalars"])
        if form == "split":
            return {"dataframe_split": {"columns": names, "data": rows}}
        if form == "records":
            return {"dataframe_records": records}
        if form == "instances":
            return {"instances": records}
        if form == "inputs records":
            return {"inputs": records}
        if form == "scalars":
            return {self.random.choice(["inputs", "instances"]): records[0]}
        lists: dict[str, Any] = {name: [row[i] for row in rows] for i, name in enumerate(names)}
        if self.random.random() < 0.1 and names:
            lists[names[0]] = lists[names[0]][0]
        return {self.random.choice(["inputs", "instances"]): lists}

    def body(self) -> bytes:
        return json.dumps(self.document()).encode()


def csv(names: list[str], rows: list[list[Any]]) -> bytes:
    lines = [names, *([_written(value) for value in row] for row in rows)]
    return "\n".join(",".join(line) for line in lines).encode()


def _written(value: Any) -> str:
    if isinstance(value, list | dict):
        return "x"
    return "" if value is None else str(value)


def cells(document: dict[str, Any]) -> dict[str, list[Any]]:
    """The values of a body, by column, whatever its form."""
    ((form, content),) = document.items()
    if form == "dataframe_split":
        return {name: [row[i] for row in content["data"]] for i, name in enumerate(content["columns"])}
    if isinstance(content, list):
        names = {name for record in content for name in record}
        return {name: [record[name] for record in content if name in record] for name in names}
    return {name: values if isinstance(values, list) else [values] for name, values in content.items()}
