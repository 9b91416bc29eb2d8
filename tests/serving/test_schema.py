"""A model's signature read from MLmodel's own JSON, batches, and what loading all this costs."""

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nbmlops.errors import DataError
from nbmlops.serving.schema import FRAME, TYPES, Schema

MIXED = [{"name": name, "type": name, "required": name != "double"} for name in TYPES]


@pytest.mark.filterwarnings("ignore:.*integer column:UserWarning")
def test_mlflows_own_signatures_are_read() -> None:
    from mlflow.models import infer_signature

    frame = pd.DataFrame({"a": [1.5, None], "b": ["x", "y"], "c": [1, 2], "d": [True, False]})
    schema = Schema.of(infer_signature(frame).to_dict()["inputs"])
    assert [str(column) for column in schema.columns] == [
        "'a': double (optional)",
        "'b': string",
        "'c': long",
        "'d': boolean",
    ]
    tensor = Schema.of(infer_signature(np.zeros((3, 4))).to_dict()["inputs"])
    assert (tensor.is_tensor, str(tensor.columns[0])) == (True, "rows of 4 double values")
    numbered = Schema.of(infer_signature(pd.DataFrame(np.zeros((2, 2)))).to_dict()["inputs"])
    assert [column.name for column in numbered.columns] == [0, 1]


@pytest.mark.parametrize(
    "inputs_json",
    [
        None,
        "",
        "{",
        "[]",
        "5",
        '[{"type": "double"}]',
        '[{"type": "array", "items": {"type": "double"}, "name": "a"}]',
        '[{"type": "object", "properties": {}, "name": "a"}]',
        '[{"type": "map", "values": {"type": "double"}, "name": "a"}]',
        '[{"type": "any", "name": "a"}]',
        '[{"type": "double", "name": "a"}, {"type": "double", "name": "a"}]',
        '[{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 2]}, "name": "a"}]',
        '[{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [5, 2]}}]',
        '[{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 28, 28]}}]',
        '[{"type": "tensor", "tensor-spec": {"dtype": "object", "shape": [-1]}}]',
    ],
)
def test_what_plain_columns_cannot_hold_is_not_known(inputs_json: str | None) -> None:
    schema = Schema.of(inputs_json)
    assert not schema.is_known
    assert schema.checked({"x": [1]}) == {"x": [1]}
    assert schema.hint() == ""


def test_what_was_checked_can_be_converted_together() -> None:
    schema = Schema.of(json.dumps(MIXED))
    rows: list[dict[str, Any]] = [
        {"boolean": [True], "integer": [1], "long": [2**62], "float": [1], "double": [None], "string": [None],
         "binary": ["AA=="], "datetime": [None]},
        {"boolean": [0], "integer": ["7"], "long": [1.0], "float": [1e300], "double": ["nan"], "string": [5],
         "binary": [""], "datetime": ["2013-01-02"]},
    ]  # fmt: skip
    parts = [schema.checked(row, FRAME) for row in rows]
    joined = {name: [*parts[0][name], *parts[1][name]] for name in parts[0]}
    arrays = schema.arrays(joined)
    assert {name: str(values.dtype) for name, values in arrays.items()} == {
        "boolean": "bool",
        "integer": "int32",
        "long": "int64",
        "float": "float32",
        "double": "float64",
        "string": "object",
        "binary": "object",
        "datetime": "datetime64[ns]",
    }
    assert arrays["float"].tolist() == [1.0, np.inf]
    assert arrays["long"].tolist() == [2**62, 1]
    assert arrays["string"].tolist() == [None, 5]


def test_an_optional_column_stays_away_unless_the_model_cannot_do_without() -> None:
    schema = Schema.of('[{"name": "a", "type": "double"}, {"name": "b", "type": "double", "required": false}]')
    assert schema.checked({"a": [1.0]}) == {"a": [1.0]}
    with pytest.raises(DataError, match=r"missing inputs \['b'\]"):
        schema.requiring(["b"]).checked({"a": [1.0]})
    with pytest.raises(DataError, match=r"missing inputs \['b'\]"):
        schema.requiring(["b"]).checked_arrays({"a": np.zeros(1)})


def test_loading_it_loads_numpy_and_orjson_alone() -> None:
    code = """
import sys
import nbmlops.serving.schema
from nbmlops.serving.protocols import invocations, open_inference, openapi, refusals, request, spreadsheet
heavy = {"pandas", "sklearn", "mlflow", "scipy", "pydantic", "pyarrow", "sqlalchemy", "uvicorn", "rich"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
