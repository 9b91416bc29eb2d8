"""What is to be registered, brought into a private folder and judged there, before anything is written anywhere."""

import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbmlops.data.tables import read_table
from nbmlops.errors import UsageError
from nbmlops.project import Project
from nbmlops.registry.audit import judge_types, types_in_folder, types_in_model
from nbmlops.registry.manifest import Manifest, manifest_of
from nbmlops.registry.mlflow import NOTE, Registry, Source, flavors_of


@dataclass(frozen=True)
class Staged:
    """A saved model in a private folder, allowed to be loaded; `source` is None while MLflow does not hold it.

    `example` is the whole table that was given as input example, of which the model keeps some rows.
    """

    folder: Path
    source: Source | None
    manifest: Manifest
    signature: str
    trusted_types: tuple[str, ...]
    consented_types: tuple[str, ...]
    example: Any = None


def stage(project: Project, what: Any, example: Any, consent: Collection[str], command: str, folder: Path) -> Staged:
    """Put a fitted model, or a stored one, under a folder, and judge what loading it would bring to life.

    Parameters
    ----------
    project
        Whose stores and paths.
    what
        A fitted scikit-learn model, or text: a run, a folder, an MLflow URI.
    example
        Input example of a fitted model, as a table or its path; None without one.
    consent
        Types from outside scikit-learn that may be loaded.
    command
        The command that was typed, for hints.
    folder
        A private one, where to put it.

    Raises
    ------
    ApprovalError
        It holds other types, and nobody consented to them.
    """
    source, saved, table = None, folder / "model", None
    if isinstance(what, str | Path):
        source, saved = _copy_stored(project, str(what), example, folder)
    else:
        table = read_table(project, example) if isinstance(example, str | Path) else example
        _save_fitted(project, what, table, consent, command, saved)
    flavors, signature = flavors_of(saved)
    own, foreign = judge_types(types_in_folder(saved, flavors), consent, command)
    return Staged(saved, source, manifest_of(saved), signature, own, foreign, table)


def _copy_stored(project: Project, what: str, example: Any, folder: Path) -> tuple[Source | None, Path]:
    if example is not None:
        raise UsageError(
            "An input example goes with a fitted model in memory.", "A saved model keeps the one it was saved with."
        )
    is_uri = what.startswith(("models:/", "runs:/"))
    if not is_uri and (path := project.path(what)).is_dir():
        flavors_of(path)  # a folder of something else may be large: refuse it before it is copied
        return None, Path(shutil.copytree(path, folder / "model", ignore=shutil.ignore_patterns(NOTE)))
    registry = project.open(Registry)
    source = registry.source(what)
    return source, registry.download(source, folder)


def _save_fitted(
    project: Project, model: Any, table: Any, consent: Collection[str], command: str, folder: Path
) -> None:
    from sklearn.base import BaseEstimator

    if not isinstance(model, BaseEstimator):
        raise UsageError(
            f"A {type(model).__name__} is not a scikit-learn model.",
            "Log it with its own MLflow flavor (mlflow.xgboost, mlflow.pyfunc ...), and register the run.",
        )
    _refuse_unfitted(model)
    own, foreign = judge_types(types_in_model(model), consent, command)
    if here := [name for name in foreign if name.startswith("__main__.")]:
        project.notify(f"{', '.join(here)}: defined here, so no other process can load it; put it in a module.")
    project.open(Registry).save_model(folder, model, table, own + foreign)


def _refuse_unfitted(model: Any) -> None:
    """Refuse a model of scikit-learn's own that was never fitted; what makes another one fitted, only it knows."""
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    if not type(model).__module__.startswith("sklearn."):
        return
    try:
        check_is_fitted(model)
    except NotFittedError as exc:
        raise UsageError(f"This {type(model).__name__} is not fitted.", "Call its fit(X, y) first.") from exc
