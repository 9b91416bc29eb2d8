"""Fits of scikit-learn that log themselves: MLflow's own autologging, with a quick way to keep the fitted model."""

from typing import Any

from nbmlops.project import Project
from nbmlops.tracking.mlflow import Tracking, translated


def on(project: Project, *, models: bool = True) -> None:
    """Log every fit of this process to the project: parameters, metrics, pictures and, with `models`, the model."""
    tracking = project.open(Tracking)
    with translated("Autologging"):
        mlflow: Any = tracking.mlflow
        mlflow.set_experiment(experiment_id=tracking.experiment_id)
        mlflow.sklearn.autolog(log_models=models, log_datasets=False, silent=True)


def off() -> None:
    """Stop it."""
    import mlflow

    with translated("Autologging"):
        mlflow.sklearn.autolog(disable=True, silent=True)
