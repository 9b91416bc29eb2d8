"""What a saved model would bring to life when it is loaded, judged without loading it: skops files and flavors."""

import importlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from nbmlops.errors import ApprovalError, UsageError

RUNS_CODE = frozenset(("pickle", "cloudpickle", "mlflow.pyfunc.model"))  # consents to formats that run what is in them
_TESTING = {"tests", "conftest", "_testing"}
# Functions of scikit-learn that only compute; others fetch, write or run what they are given.
_COMPUTING = ("sklearn.metrics.", "sklearn.feature_selection.", "sklearn.preprocessing.")
# What MLflow writes of a scikit-learn model; another key (`data`) could lead its loader to a file not judged here.
_KEYS = {
    "python_function": {"code", "env", "loader_module", "model_path", "predict_fn", "python_version"},
    "sklearn": {
        "code",
        "extra_files",
        "pickled_model",
        "serialization_format",
        "skops_trusted_types",
        "sklearn_version",
    },
}


def types_in_model(model: Any) -> list[str]:
    """List the types in a fitted model that skops does not trust by itself.

    Raises
    ------
    UsageError
        skops cannot save the model, for instance because it holds a lambda.
    """
    import skops.io

    try:
        return list(skops.io.get_untrusted_types(data=skops.io.dumps(model)))
    except Exception as exc:  # skops raises whatever the model's own types raise
        raise UsageError(
            f"{type(model).__name__} cannot be saved in the skops format: {exc}",
            "Use classes and functions that can be imported, no lambdas; or log it with MLflow and register the run.",
        ) from exc


def types_in_folder(folder: Path, flavors: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """List what loading a saved model needs trust for.

    Parameters
    ----------
    folder
        The saved model.
    flavors
        As its ``MLmodel`` file has them; what that file says about trust is not believed.

    Returns
    -------
    list of str
        Types inside a skops file that skops does not trust by itself, the format of a pickled
        model (``pickle``, ``cloudpickle``), the module that loads any flavor but scikit-learn's,
        and ``code`` for a model that brings its own.

    Raises
    ------
    UsageError
        It has no ``python_function`` flavor, or a path that leaves the folder; or a scikit-learn
        model's flavor has a key that MLflow does not write.
    """
    if "python_function" not in flavors:
        raise UsageError("The model has no python_function flavor, so nothing here can call it.")
    function, sklearn = flavors["python_function"], flavors.get("sklearn", {})
    if function["loader_module"] == "mlflow.sklearn":
        _check_keys(flavors)
    found = {str(function["loader_module"])} - {"mlflow.sklearn"}
    found |= {"code" for flavor in flavors.values() if flavor.get("code")}
    files = {function.get("model_path"), sklearn.get("pickled_model")} - {None}
    if sklearn.get("serialization_format", "pickle") == "skops":
        return sorted(found.union(*(_types_in_file(folder, str(file)) for file in files)))
    if sklearn or "mlflow.sklearn" in function["loader_module"]:
        found.add(str(sklearn.get("serialization_format", "pickle")))
    return sorted(found)


def judge_types(
    found: Collection[str], consent: Collection[str], command: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Part what needs trust into scikit-learn's own types and those somebody consented to.

    Parameters
    ----------
    found
        What needs trust.
    consent
        What was consented to by name.
    command
        The command that was typed, for the hint.

    Returns
    -------
    tuple of (tuple of str, tuple of str)
        scikit-learn's own types, then the others.

    Raises
    ------
    ApprovalError
        There was no consent to one of the others.
    """
    own = tuple(name for name in found if is_sklearns_own(name))
    foreign = tuple(name for name in found if name not in own)
    if missing := [name for name in foreign if name not in consent]:
        trust = " ".join(f"--trust {name}" for name in foreign)
        raise ApprovalError(
            f"Loading this model runs code from outside scikit-learn: {', '.join(missing)}.",
            f"If you trust it, say so: `{command} {trust}`",
            rule="untrusted types",
        )
    return own, foreign


def is_sklearns_own(name: str) -> bool:
    """Say whether a type's name means a class of scikit-learn's, or a function of its that only computes.

    What scikit-learn's modules merely import from elsewhere is not its own. One type
    of numpy's counts too: a ``dtype``, which ``SimpleImputer`` keeps, holds no code.

    Examples
    --------
    >>> is_sklearns_own("numpy.dtype")
    True
    >>> is_sklearns_own("sklearn.tree._tree.Tree")
    True
    >>> is_sklearns_own("sklearn.utils.parallel.partial")
    False
    """
    if name == "numpy.dtype":
        return True
    module, _, attribute = name.rpartition(".")
    if not module.startswith("sklearn.") or _TESTING & set(module.split(".")):
        return False
    try:
        thing = getattr(importlib.import_module(module), attribute, None)
    except ImportError:
        return False
    lives_in = str(getattr(thing, "__module__", ""))
    return lives_in.startswith("sklearn." if isinstance(thing, type) else _COMPUTING)


def _check_keys(flavors: Mapping[str, Mapping[str, Any]]) -> None:
    for flavor, keys in _KEYS.items():
        if unknown := sorted(set(flavors.get(flavor, {})) - keys):
            raise UsageError(
                f"The model's MLmodel file has keys that MLflow does not write for scikit-learn: "
                f"{', '.join(f'{flavor}.{key}' for key in unknown)}.",
                "Save the model again with mlflow.sklearn, or register the fitted model itself.",
            )


def _types_in_file(folder: Path, file: str) -> list[str]:
    import skops.io

    path = (folder / file).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise UsageError(f"The model's MLmodel file names {file!r}, which is not a file of its folder.")
    return list(skops.io.get_untrusted_types(file=path))
