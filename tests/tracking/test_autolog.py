"""Fits that log themselves: the model is MLflow's own once the journal is delivered, whatever kind it is."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nbmlops.data.fingerprint import digest
from nbmlops.surfaces.python import Operations
from nbmlops.tracking import autolog
from nbmlops.tracking.journal.sync import Stores, folder_of, sweep, waiting
from nbmlops.tracking.mlflow import Tracking
from tests.faults.proxy import Proxy

pytestmark = [  # of MLflow's autologging on this stack
    pytest.mark.filterwarnings("ignore:Starting with pandas version 4"),
    pytest.mark.filterwarnings("ignore:`y_pred` was renamed"),
]

X = pd.DataFrame(np.random.default_rng(7).random((60, 3)), columns=["air", "sea", "land"])
Y = (X["air"] + X["sea"] > 1).astype(int)


@pytest.fixture(autouse=True)
def off() -> Iterator[None]:
    yield
    autolog.off()


def fit(**params: Any) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(**params).fit(X, Y)


def deliver(ops: Operations) -> None:
    with Stores([ops.project.settings.tracking.value]) as stores:
        done = sweep(folder_of(ops.project), stores)
    assert not any(each.rejected or each.error for each in done), done


def logged(ops: Operations, run_id: str) -> dict[str, Any]:
    """A run's logged models, by name."""
    client = ops.project.open(Tracking).client
    outputs = client.get_run(run_id).outputs
    made = [client.get_logged_model(each.model_id) for each in (outputs.model_outputs if outputs else [])]
    return {model.name: model for model in made}


def loaded(ops: Operations, model: Any) -> Any:
    import mlflow

    assert ops.project.open(Tracking).mlflow is mlflow
    return mlflow.pyfunc.load_model(model.model_uri)


def test_a_fitted_model_is_complete_in_mlflow_once_it_is_delivered(team: Operations, tmp_path: Path) -> None:
    autolog.on(team.project)
    run = team.track("fit")
    model = fit(C=0.5)
    team.end()
    deliver(team)

    found = logged(team, run.run_id)["model"]
    assert (str(found.status), found.source_run_id) == ("READY", run.run_id)
    assert found.params["C"] == "0.5"
    client = team.project.open(Tracking).client
    metrics = client.get_run(run.run_id).data.metrics
    assert metrics["training_score"] == pytest.approx(np.mean(model.predict(X) == Y))
    assert {each.key: each.value for each in found.metrics} == metrics

    folder = Path(client.download_artifacts(run.run_id, "", str(tmp_path)))
    pictures = ["training_confusion_matrix.svg", "training_precision_recall_curve.svg", "training_roc_curve.svg"]
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == ["estimator.html", *pictures]
    served = loaded(team, found)
    assert list(served.predict(X)) == list(model.predict(X))
    assert served.metadata.signature.inputs.input_names() == ["air", "sea", "land"]
    assert (served.metadata.run_id, served.metadata.model_id) == (run.run_id, found.model_id)
    import mlflow

    files = Path(mlflow.artifacts.download_artifacts(found.model_uri, dst_path=str(tmp_path / "model")))
    names = {"MLmodel", "conda.yaml", "model.skops", "python_env.yaml", "requirements.txt"}
    assert names <= {path.name for path in files.iterdir()}
    assert "\nscikit-learn==" in (files / "requirements.txt").read_text()
    assert "- scikit-learn==" in (files / "conda.yaml").read_text()
    assert f"artifact_path: {found.artifact_location}\n" in (files / "MLmodel").read_text()


def test_a_model_of_a_run_begun_offline_reaches_the_server_when_it_is_back(
    folder: Path, tmp_path: Path, mlflow_server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Proxy(mlflow_server) as proxy:
        ops = Operations(folder, tracking=proxy.url)
        assert ops.project.open(Tracking).experiment_id
        proxy.refuse()
        autolog.on(ops.project)
        ops.track("away")
        model = fit()
        ops.end()
        assert "is out of reach" in capsys.readouterr().err
        proxy.pass_on()
        deliver(ops)
        assert waiting(folder_of(ops.project)).records == 0
    from mlflow import MlflowClient, artifacts, pyfunc

    client = MlflowClient(mlflow_server)
    experiments = [each.experiment_id for each in client.search_experiments()]
    [run] = client.search_runs(experiments, "attributes.run_name = 'away'")
    found = client.get_logged_model(run.outputs.model_outputs[0].model_id)
    assert {each.key for each in found.metrics} >= {"training_score", "training_roc_auc"}
    place = {"tracking_uri": mlflow_server, "dst_path": str(tmp_path / "model")}
    served = pyfunc.load_model(artifacts.download_artifacts(found.artifact_location, **place))
    assert list(served.predict(X)) == list(model.predict(X))
    assert (served.metadata.run_id, served.metadata.model_id) == (run.info.run_id, found.model_id)


def test_a_model_fitted_by_a_process_that_is_killed_then_is_there_after_the_next_delivery(ops: Operations) -> None:
    script = """
import os, signal
import nbmlops
import numpy as np
from nbmlops.tracking import autolog
from sklearn.linear_model import LogisticRegression
ops = nbmlops.open()
autolog.on(ops.project)
print(ops.track("doomed").run_id, flush=True)
LogisticRegression().fit(np.array([[0.0], [1.0]]), [0, 1])
os.kill(os.getpid(), signal.SIGKILL)
"""
    died = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, "CI": "1"})
    assert died.returncode == -signal.SIGKILL, died.stderr
    deliver(ops)
    run_id = died.stdout.strip()
    assert ops.project.open(Tracking).client.get_run(run_id).info.status == "FAILED"
    assert list(loaded(ops, logged(ops, run_id)["model"]).predict(np.array([[0.0], [1.0]]))) == [0, 1]


def test_without_a_journal_the_model_is_there_at_once(folder: Path) -> None:
    (folder / "nbmlops.toml").write_text('[project]\nname = "flights"\n[stores]\njournal = "off"\n')
    ops = Operations(folder)
    autolog.on(ops.project)
    run = ops.track("plain")
    model = fit()
    ops.end()
    assert list(loaded(ops, logged(ops, run.run_id)["model"]).predict(X)) == list(model.predict(X))


def test_metrics_params_and_tags_are_those_of_mlflows_own_autologging(ops: Operations) -> None:
    import mlflow

    def told() -> tuple[dict[str, float], dict[str, str], dict[str, str]]:
        run = ops.track("same")
        fit(C=2.0)
        ops.end()
        data = ops.project.open(Tracking).client.get_run(run.run_id).data
        return data.metrics, data.params, {k: v for k, v in data.tags.items() if k.startswith("estimator")}

    autolog.on(ops.project, models=False)
    ours = told()
    mlflow.sklearn.autolog(log_models=False, silent=True)  # by hand: MLflow's own again, pictures and all
    assert told() == ours
    run = ops.runs()[0]
    names = {each.path for each in ops.project.open(Tracking).client.list_artifacts(run.run_id)}
    assert "training_confusion_matrix.png" in names


def test_the_digests_of_what_was_fitted_on_are_the_runs(ops: Operations) -> None:
    autolog.on(ops.project)
    ops.track("fit")
    fit()
    of_frames = ops.end().data
    assert of_frames == {"training_features": digest(X), "training_target": digest(Y.to_frame())}
    ops.track("the same as arrays, with one value changed")
    changed = X.to_numpy(copy=True)
    changed[7, 1] += 1e-9
    from sklearn.linear_model import LogisticRegression

    LogisticRegression().fit(changed, Y.to_numpy())
    assert ops.end().data["training_features"] not in ("", of_frames["training_features"])


def test_a_predictions_score_is_the_models_too(ops: Operations) -> None:
    from sklearn import metrics

    autolog.on(ops.project)
    run = ops.track("scored")
    truth = Y[:20]
    guess = fit().predict(X[:20])
    accuracy = metrics.accuracy_score(truth, guess)
    ops.end()
    deliver(ops)
    scores = {each.key: each.value for each in logged(ops, run.run_id)["model"].metrics}
    assert [value for key, value in scores.items() if key.startswith("accuracy_score")] == [accuracy]


def test_a_search_keeps_itself_and_its_best_model_and_can_be_registered(ops: Operations) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    autolog.on(ops.project)
    run = ops.track("search")
    search = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2).fit(X, Y)
    ops.end()
    deliver(ops)
    found = logged(ops, run.run_id)
    assert sorted(found) == ["best_estimator", "model"]
    assert found["model"].params["best_C"] == str(search.best_params_["C"])
    assert list(loaded(ops, found["best_estimator"]).predict(X)) == list(search.predict(X))
    client = ops.project.open(Tracking).client
    experiment = ops.project.open(Tracking).experiment_id
    children = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run.run_id}'")
    assert sorted(child.data.params["C"] for child in children) == ["0.1", "1.0"]
    assert ops.register(run.run_id, "flights").version == "1"


def test_a_pipeline_with_a_lambda_is_kept_too(ops: Operations) -> None:
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    autolog.on(ops.project)
    run = ops.track("pipeline")
    model = make_pipeline(StandardScaler(), FunctionTransformer(lambda table: table * 2), LinearRegression()).fit(X, Y)
    ops.end()
    deliver(ops)
    assert list(loaded(ops, logged(ops, run.run_id)["model"]).predict(X)) == list(model.predict(X))


def test_a_fit_outside_of_a_run_has_one_of_its_own_and_one_that_fails_is_failed(ops: Operations) -> None:
    autolog.on(ops.project)
    fit()
    with pytest.raises(ValueError, match="must be a float in the range"):
        fit(C=-1.0)
    deliver(ops)
    failed, finished = ops.runs()
    assert (failed.status, finished.status) == ("FAILED", "FINISHED")
    assert (logged(ops, failed.run_id), list(logged(ops, finished.run_id))) == ({}, ["model"])


def test_a_run_of_many_fits_keeps_some_models_and_all_metrics(
    ops: Operations, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autolog, "MAX_MODELS", 2)
    autolog.on(ops.project)
    run = ops.track("loop")
    for _ in range(4):
        fit()
    ops.end()
    deliver(ops)
    client = ops.project.open(Tracking).client
    assert len(client.get_run(run.run_id).outputs.model_outputs) == 2
    assert len(client.get_metric_history(run.run_id, "training_score")) == 4
    assert capsys.readouterr().err.count("this run has 2 models") == 1


def test_a_fit_goes_on_when_its_model_cannot_be_kept(ops: Operations, capsys: pytest.CaptureFixture[str]) -> None:
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    autolog.on(ops.project)
    ops.track("odd")
    first = FunctionTransformer(lambda table, lock: table, kw_args={"lock": threading.Lock()})
    assert make_pipeline(first, LinearRegression()).fit(X, Y) is not None
    ops.end()
    assert "the model of this fit could not be logged: TypeError" in capsys.readouterr().err
