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

    from nbmlops.ledger.endpoints import Parts

COMPILED, PYFUNC = "compiled", "pyfunc"
EXAMPLE_FILE = "serving_input_example.json"
MOST_PROOF_ROWS, MOST_TIMED_ROWS = 10_000, 1000


@dataclass(frozen=True)
class Form:
    """How a model's bytes are served, and what they said when they were registered.

    `kind` is ``compiled`` or ``pyfunc``, `why` the reason for the latter, `engine` what scores a compiled one:
    ``numpy`` or ``onnx``. `inputs` and `outputs` are the signature's
    JSON as MLflow keeps it, `example` the input example as a request's body, `predictions` what the model said of it.
    `proof` tells how closely compiled and native answers agree: rows, largest difference, tolerance.
    """

    kind: str
    why: str = ""
    engine: str = ""
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


def form_of(folder: Path, table: "pd.DataFrame | None", *, may_load: bool = True) -> "tuple[Form, Parts | None]":
    """Find out how a saved model is served; gives its compiled form too, where there is one.

    Parameters
    ----------
    folder
        A saved MLflow model that may be loaded: what is in it was judged, and consented to.
    table
        Rows that the compiled form is proven on; without them the model's own input example.
    may_load
        Whether the model may be brought to life here: not one that is pickled, whatever was consented to.
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
    if not may_load:
        return Form(**{**asdict(known), "why": "it is pickled, and loaded only where it is served."}), None
    try:
        return _looked_at(known, folder, saved, table)
    except Exception as exc:  # noqa: BLE001  # what a model raises here it will tell again when it is deployed
        return Form(**{**asdict(known), "why": f"it could not be loaded: {str(exc)[:300]}"}), None


def _looked_at(known: Form, folder: Path, saved: Any, table: Any) -> "tuple[Form, Parts | None]":
    from nbmlops.ledger.endpoints import Parts
    from nbmlops.registry.loader import load_model
    from nbmlops.scoring.compile import NotCompilableError, compile_model

    model = load_model(folder)
    predictions = _predicted(model, known.example) if known.example else ()
    facts: dict[str, Any] = {"predictions": predictions}
    parts = None
    rows = saved.load_input_example(str(folder)) if table is None else table
    try:
        native, predict_fn = _native(model, saved)
        compiled = compile_model(native, predict_fn, inputs=_names(native, saved.signature.inputs))
        facts["proof"] = _proven(native, compiled, rows)
        parts = Parts(compiled.to_bytes(), _in_onnx(compiled, rows))
        facts |= {"kind": COMPILED, "engine": "onnx" if parts.onnx else "numpy"}
    except NotCompilableError as exc:
        facts["why"] = str(exc)
    return Form(**{**asdict(known), **facts}), parts


def _names(native: Any, inputs: Any) -> list[str] | None:
    """Name the columns of a model that was fitted on an array, as its signature does; others know their own."""
    has_own = hasattr(native, "feature_names_in_")
    return None if has_own or not inputs.has_input_names() else list(inputs.input_names())


def _in_onnx(compiled: Any, rows: Any) -> bytes | None:
    """Give the model's trees for ONNX Runtime, where that is installed here, agrees and is faster."""
    from nbmlops.scoring.agreement import columns_of
    from nbmlops.scoring.onnx import faster_onnx

    if not hasattr(rows, "columns"):
        return None
    return faster_onnx(compiled, columns_of(rows[list(compiled.inputs)][:MOST_TIMED_ROWS]))


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
