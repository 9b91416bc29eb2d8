"""How a registered model is served, found out when it is registered: compiled where that is proven, else as it is.

The facts are kept in the ledger beside the compiled form, so that serving a compiled model needs no MLflow.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import pandas as pd

COMPILED, PYFUNC = "compiled", "pyfunc"
EXAMPLE_FILE = "serving_input_example.json"
MOST_PROOF_ROWS = 10_000


@dataclass(frozen=True)
class Form:
    """How a model's bytes are served, and what they said when they were registered.

    `kind` is ``compiled`` or ``pyfunc``, `why` the reason for the latter. `inputs` and `outputs` are the signature's
    JSON as MLflow keeps it, `example` the input example as a request's body, `predictions` what the model said of it.
    `proof` tells how closely compiled and native answers agree: rows, largest difference, tolerance.
    """

    kind: str
    why: str = ""
    inputs: str = ""
    outputs: str = ""
    example: str = ""
    predictions: Sequence[Any] = ()
    requirements: Sequence[str] = ()
    proof: Mapping[str, Any] = field(default_factory=dict)
    mlflow_version: str = ""
    sha256: str = ""

    def record(self) -> dict[str, Any]:
        """Give it as JSON has it."""
        return asdict(self)

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Self:
        """Read it back."""
        return cls(**record)


def form_of(folder: Path, table: "pd.DataFrame | None") -> tuple[Form, bytes | None]:
    """Find out how a saved model is served; gives its compiled form too, where there is one.

    Parameters
    ----------
    folder
        A saved MLflow model that may be loaded: what is in it was judged, and consented to.
    table
        Rows that the compiled form is proven on, beside the model's own input example.
    """
    import mlflow
    from mlflow.models import Model

    saved = Model.load(str(folder))
    known = Form(
        kind=PYFUNC,
        inputs=saved.signature.inputs.to_json() if saved.signature and saved.signature.inputs else "",
        outputs=saved.signature.outputs.to_json() if saved.signature and saved.signature.outputs else "",
        example=_example(folder),
        requirements=_requirements(folder),
        mlflow_version=mlflow.__version__,
    )
    try:
        return _looked_at(known, folder, saved, table)
    except Exception as exc:  # noqa: BLE001  # what a model raises here it will tell again when it is deployed
        return Form(**{**asdict(known), "why": f"it could not be loaded: {str(exc)[:300]}"}), None


def _looked_at(known: Form, folder: Path, saved: Any, table: Any) -> tuple[Form, bytes | None]:
    from nbmlops.registry.loader import load_model
    from nbmlops.scoring.compile import NotCompilableError, compile_model

    model = load_model(folder)
    predictions = _predicted(model, known.example) if known.example else ()
    facts: dict[str, Any] = {"predictions": predictions}
    compiled = None
    try:
        native, predict_fn = _native(model, saved)
        form = compile_model(native, predict_fn)
        facts["proof"] = _proven(native, form, saved.load_input_example(str(folder)) if table is None else table)
        compiled = form.to_bytes()
        facts["kind"] = COMPILED
    except NotCompilableError as exc:
        facts["why"] = str(exc)
    return Form(**{**asdict(known), **facts}), compiled


def _native(model: Any, saved: Any) -> tuple[Any, str]:
    """Take out the scikit-learn model, and the name of the method that MLflow calls."""
    from nbmlops.scoring.compile import NotCompilableError

    flavor = saved.flavors.get("sklearn")
    if flavor is None:
        raise NotCompilableError("it is not a scikit-learn model.")
    if saved.signature is None or saved.signature.inputs is None:
        raise NotCompilableError("it has no signature: register it with --input-example.")
    if saved.signature.params:
        raise NotCompilableError("its signature has parameters for each request.")
    return model.get_raw_model(), saved.flavors["python_function"].get("predict_fn", "predict")


def _proven(native: Any, compiled: Any, rows: "pd.DataFrame | None") -> dict[str, Any]:
    """Hold the compiled answers against the native ones; raises where they differ, or nothing can be compared."""
    from nbmlops.scoring.agreement import agreement
    from nbmlops.scoring.compile import NotCompilableError

    if rows is None or not len(rows):
        raise NotCompilableError("there are no rows to prove it on: register it with --input-example.")
    found = agreement(native, compiled, rows[:MOST_PROOF_ROWS])
    if not found.agrees:
        raise NotCompilableError(found.headline)
    return {"rows": found.n_rows, "largest": found.largest, "tolerance": found.tolerance}


def _example(folder: Path) -> str:
    path = folder / EXAMPLE_FILE
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _requirements(folder: Path) -> tuple[str, ...]:
    path = folder / "requirements.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return tuple(line.strip() for line in lines if "==" in line and not line.startswith(("#", "-")))


def _predicted(model: Any, example: str) -> list[Any]:
    """Answer the input example the way MLflow's scoring server does."""
    from mlflow.pyfunc.scoring_server import invocations

    given = invocations(example, "application/json", model, model.metadata.get_input_schema())
    return list(json.loads(given.response)["predictions"])
