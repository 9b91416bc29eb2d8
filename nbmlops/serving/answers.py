"""What a registered version says about a table: by its compiled form without MLflow, else by MLflow's own loader."""

import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from nbmlops.errors import DataError
from nbmlops.ledger.endpoints import Endpoints
from nbmlops.project import Project
from nbmlops.registry.forms import COMPILED, Form
from nbmlops.registry.versions import ModelVersion
from nbmlops.serving.schema import UNNAMED, Schema

TENSOR = "inputs"  # how a tensor without a name is captured


def form_of(project: Project, version: ModelVersion) -> Form:
    """Say how a version is served; one that was never looked at is served as it is."""
    record = project.open(Endpoints).form(version.digest)
    return Form.of_record(record) if record else Form("pyfunc")


def columns_of(project: Project, version: ModelVersion) -> tuple[str, ...] | None:
    """List the columns that a version takes, by their names in a capture; None where its signature is not known."""
    schema = Schema.of(form_of(project, version).inputs or None)
    names = tuple(TENSOR if column.name == UNNAMED else str(column.name) for column in schema.columns)
    return names if schema.is_known else None


def answers(project: Project, version: ModelVersion, table: pd.DataFrame) -> np.ndarray:
    """Have a version predict every row of a table.

    Parameters
    ----------
    project
        Whose registry and ledger.
    version
        Compiled: its compiled form is read from the ledger. Any other: a checked copy is loaded into this process.
    table
        With the columns of its signature, others are left out.

    Returns
    -------
    numpy.ndarray
        Shape ``(n_rows,)``.

    Raises
    ------
    DataError
        A column is missing, a value does not fit, the model fails on it, or says several things of each row.
    ConflictError
        The model's bytes are not those that were registered.
    """
    form = form_of(project, version)
    found = (
        _compiled(project, version, form, table) if form.kind == COMPILED else _loaded(project, version, form, table)
    )
    found = found.ravel() if found.ndim == 2 and found.shape[1] == 1 else found
    if found.shape != (len(table),):
        raise DataError(
            f"{version.label} gives {found.shape} values for {len(table)} rows, and one each can be compared."
        )
    return found


def _compiled(project: Project, version: ModelVersion, form: Form, table: pd.DataFrame) -> np.ndarray:
    from nbmlops.scoring.compiled import Compiled
    from nbmlops.scoring.scorer import Scorer

    compiled = Compiled.from_bytes(project.open(Endpoints).compiled(version.digest).compiled)
    schema = Schema.of(form.inputs or None).requiring(compiled.inputs)
    return np.asarray(Scorer(compiled).predict(_arrays(schema, table)))


def _loaded(project: Project, version: ModelVersion, form: Form, table: pd.DataFrame) -> np.ndarray:
    from nbmlops.registry.loader import load_model, verified_copy

    schema = Schema.of(form.inputs or None)
    given: Any = _arrays(schema, table) if schema.is_known else table
    with TemporaryDirectory(prefix="nbmlops-model-") as folder:
        model = load_model(verified_copy(project, version, into=Path(folder)))
        try:
            return np.asarray(model.predict(given[UNNAMED] if schema.is_tensor else pd.DataFrame(given)))
        except Exception as exc:  # the user's model may raise anything
            raise DataError(f"{version.label} fails on this data: {str(exc)[:500]}") from exc


def _arrays(schema: Schema, table: pd.DataFrame) -> dict[Any, np.ndarray]:
    """Give a table's columns with the types of the signature, as the requests had them."""
    names = {TENSOR: UNNAMED} if schema.is_tensor else {str(column.name): column.name for column in schema.columns}
    lists = {name: _values(table[shown]) for shown, name in names.items() if shown in table}
    return schema.arrays(schema.checked(lists))


def _values(column: "pd.Series[Any]") -> list[Any]:
    """Give a column's values as JSON has them: what is missing is None, a time is text."""
    if pd.api.types.is_datetime64_any_dtype(column):
        column = pd.Series(column.dt.strftime("%Y-%m-%dT%H:%M:%S.%f"), dtype=object)
    return [None if _is_missing(value) else value for value in column.tolist()]


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))
