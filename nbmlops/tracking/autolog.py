"""Fits of scikit-learn that log themselves: MLflow's own autologging, but for what it does after a fit.

MLflow's own saves the model, finds out its requirements and draws with a plotting library while the cell
waits. Here the cell waits for the model's bytes alone: it is journaled, and MLflow's by the next delivery.
"""

import contextlib
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from nbmlops.project import Project
from nbmlops.tracking import pictures
from nbmlops.tracking.mlflow import Tracking, translated
from nbmlops.tracking.plugin import models as kept

MAX_MODELS = 10  # of one run: a search by hand fits hundreds
_EXAMPLE_ROWS = 5
_AFTER_FIT = "_log_estimator_content"  # MLflow's own, which its patched fit calls


def on(project: Project, *, models: bool = True) -> None:
    """Log every fit of this process to the project: parameters, metrics, pictures and, with `models`, the model.

    A fit outside of a run begins one of its own. Of a run's models the first 10 are kept.
    """
    tracking = project.open(Tracking)
    with translated("Autologging"):
        mlflow: Any = tracking.mlflow
        if tracking.experiment_id:  # made where it is missing; by its name it is known offline too
            mlflow.set_experiment(tracking.experiment)
        with _instead_of_mlflows(AfterFit(models)) as is_ours:
            mlflow.sklearn.autolog(log_models=models and not is_ours, log_datasets=False, silent=True)
        if models:
            kept.prepare()  # here, so that no fit waits for it


def off() -> None:
    """Stop it."""
    import mlflow

    with translated("Autologging"):
        mlflow.sklearn.autolog(disable=True, silent=True)


@contextlib.contextmanager
def _instead_of_mlflows(content: "AfterFit") -> Iterator[bool]:
    """Have MLflow take up `content` where it takes up its own function; False when this MLflow has no such place.

    MLflow looks that up as autologging is switched on, so a user who switches it on by hand gets MLflow's own.
    """
    from mlflow.sklearn import utils

    theirs = getattr(utils, _AFTER_FIT, None)
    if theirs is None:
        yield False
        return
    setattr(utils, _AFTER_FIT, content)
    try:
        yield True
    finally:
        setattr(utils, _AFTER_FIT, theirs)


@dataclass(frozen=True)
class AfterFit:
    """What is logged once a model is fitted; MLflow calls it with its own arguments. What fails is told, and left."""

    keeps_models: bool
    _kept: Counter[str] = field(default_factory=Counter)

    def __call__(
        self,
        autologging_client: Any,
        estimator: Any,
        run_id: str,
        prefix: str,
        X: Any,  # noqa: N803  # MLflow's names, here and below
        y_true: Any = None,
        sample_weight: Any = None,
        pos_label: Any = None,
        model_id: str | None = None,
        dataset: Any = None,
    ) -> dict[str, float]:
        """Keep the model, then its metrics, which name it, the data's digests and pictures; give the metrics."""
        metrics: dict[str, float] = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what MLflow and scikit-learn have to settle between them
            if self.keeps_models:
                with _told("model"):
                    model_id = self._keep_models(run_id, estimator, X) or model_id
            with _told("metrics"):
                metrics = measured(estimator, prefix, X, y_true, sample_weight, pos_label)
            autologging_client.log_metrics(run_id=run_id, metrics=metrics, model_id=model_id, dataset=dataset)
            with _told("data's digests"):
                autologging_client.set_tags(run_id, digests({f"{prefix}features": X, f"{prefix}target": y_true}))
            with _told("pictures"):
                for name, text in drawn(estimator, prefix, X, y_true, sample_weight).items():
                    _keep_text(run_id, name, text)
        return metrics

    def _keep_models(self, run_id: str, estimator: Any, X: Any) -> str | None:  # noqa: N803
        """Keep a fitted model, and the best one of a search; give the first one's id."""
        self._kept[run_id] += 1
        if self._kept[run_id] > MAX_MODELS:
            if self._kept[run_id] == MAX_MODELS + 1:
                sys.stderr.write(f"nbmlops: this run has {MAX_MODELS} models; of further fits only metrics are kept.\n")
            return None
        from mlflow.sklearn import _AUTOLOGGING_METRICS_MANAGER

        best = getattr(estimator, "best_estimator_", None)
        signature = _signature(estimator, X)
        chosen = {f"best_{name}": value for name, value in getattr(estimator, "best_params_", {}).items()}
        params = {**estimator.get_params(deep=best is None), **chosen}
        model_id = kept.keep(run_id, estimator, "model", signature, params)
        _AUTOLOGGING_METRICS_MANAGER.record_model_id(estimator, model_id)  # for metrics of later predictions
        if best is not None:
            kept.keep(run_id, best, "best_estimator", signature, best.get_params(deep=True))
        return model_id


def measured(estimator: Any, prefix: str, X: Any, y: Any, weight: Any, pos_label: Any) -> dict[str, float]:  # noqa: N803
    """Compute MLflow's metrics of a fitted estimator on what it was fitted on; none without a target."""
    from mlflow.sklearn import utils
    from sklearn.base import is_classifier, is_regressor

    if y is None:
        return {}
    metrics: dict[str, float] = {}
    if is_classifier(estimator):
        metrics = utils._get_classifier_metrics(estimator, prefix, X, y, weight, pos_label)
    elif is_regressor(estimator):
        metrics = utils._get_regressor_metrics(estimator, prefix, X, y, weight)
    if hasattr(estimator, "score"):
        takes_weight = weight is not None and "sample_weight" in utils._get_arg_names(estimator.score)
        metrics[f"{prefix}score"] = estimator.score(X, y, *([weight] if takes_weight else []))
    return metrics


def digests(data: Mapping[str, Any]) -> dict[str, str]:
    """Word the digests of tables, columns and dense arrays as tags; what is none of these has none."""
    import numpy as np
    import pandas as pd

    from nbmlops.data.fingerprint import digest

    dense = {name: each for name, each in data.items() if isinstance(each, pd.DataFrame | pd.Series | np.ndarray)}
    return {f"nbmlops.data.{name}": digest(pd.DataFrame(each)) for name, each in dense.items() if each.ndim <= 2}


def drawn(estimator: Any, prefix: str, X: Any, y: Any, weight: Any) -> dict[str, str]:  # noqa: N803
    """Draw the estimator and, of a classifier, its confusion and, between two classes, its curves: name -> text."""
    from sklearn.base import is_classifier
    from sklearn.utils import estimator_html_repr

    page = f'<!DOCTYPE html><html lang="en"><head><meta charset="UTF-8"/></head><body>{estimator_html_repr(estimator)}'
    texts = {"estimator.html": f"{page}</body></html>\n"}
    if y is None or not is_classifier(estimator):
        return texts
    from sklearn import metrics

    labels = list(getattr(estimator, "classes_", sorted(set(y))))
    shares = metrics.confusion_matrix(y, estimator.predict(X), labels=labels, sample_weight=weight, normalize="true")
    texts[f"{prefix}confusion_matrix.svg"] = pictures.confusion(labels, shares, "Normalized confusion matrix")
    if len(labels) != 2 or (scores := _scores(estimator, X)) is None:
        return texts
    weighted = {"pos_label": labels[1], "sample_weight": weight}
    false, true, _ = metrics.roc_curve(y, scores, **weighted)
    precision, recall, _ = metrics.precision_recall_curve(y, scores, **weighted)
    rates = ("false positive rate", "true positive rate")
    texts[f"{prefix}roc_curve.svg"] = pictures.curve(false, true, "ROC curve", rates)
    texts[f"{prefix}precision_recall_curve.svg"] = pictures.curve(
        recall, precision, "Precision-recall curve", ("recall", "precision")
    )
    return texts


def _scores(estimator: Any, X: Any) -> Any:  # noqa: N803
    """Give what the second class' curve is drawn from; None when the estimator has no such thing."""
    if hasattr(estimator, "predict_proba"):
        return estimator.predict_proba(X)[:, 1]
    return estimator.decision_function(X) if hasattr(estimator, "decision_function") else None


def _signature(estimator: Any, X: Any) -> Any:  # noqa: N803
    """Infer what goes in and comes out from the first rows; None where that cannot be told."""
    from mlflow.models import infer_signature

    answer = getattr(estimator, "predict", None) or getattr(estimator, "transform", None)
    try:
        rows = deepcopy(X[:_EXAMPLE_ROWS])
        return infer_signature(rows, answer(deepcopy(rows))) if answer else None
    except Exception:  # noqa: BLE001  # whatever tables, estimators and MLflow's types raise
        return None


def _keep_text(run_id: str, name: str, text: str) -> None:
    from mlflow import MlflowClient
    from mlflow.tracking._tracking_service.utils import _get_store

    from nbmlops.tracking.plugin.stores import JournaledStore

    store = _get_store()
    if isinstance(store, JournaledStore):
        store.outbox.keep_file(run_id, "", name, text.encode())
    else:
        MlflowClient().log_text(run_id, text, name)


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Tell what of a fit could not be logged: the fit itself went well, and its caller goes on."""
    try:
        yield
    except Exception as exc:  # noqa: BLE001
        sys.stderr.write(f"nbmlops: the {what} of this fit could not be logged: {type(exc).__name__}: {exc}\n")
