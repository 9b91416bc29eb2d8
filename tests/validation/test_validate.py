from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_diabetes, load_iris
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import f1_score, mean_absolute_error, roc_auc_score
from sklearn.svm import LinearSVC

from nbmlops.errors import ApprovalError, ConflictError, DataError, GateError, NotFoundError, UsageError
from nbmlops.ledger.database import Ledger
from nbmlops.project import Project
from nbmlops.registry.verbs import promote, register
from nbmlops.tracking.mlflow import Tracking
from nbmlops.validation.verbs import validate


def test_passing_report_holds_scikit_learns_figures_and_becomes_evidence(
    project: Project, good: Any, holdout: pd.DataFrame, features: pd.DataFrame
) -> None:
    made = register(project, good, "tumours", input_example=features)
    report = validate(project, "tumours")
    by_condition = {check.condition: check for check in report.checks}
    scores = good.predict_proba(holdout.drop(columns="late"))[:, 1]
    assert by_condition["min"].value == pytest.approx(roc_auc_score(holdout["late"], scores))
    assert by_condition["min"].limit == 0.6
    assert by_condition["max_regression"].status == "skip"
    assert (report.passed, report.n, report.digest) == (True, len(holdout), made.digest)
    (event,) = project.open(Ledger).events(verbs=("validate",), subject="model/tumours/1", outcome="ok")
    assert event.result["passed"] is True
    assert promote(project, "tumours").evidence.gate == "default"  # type: ignore[union-attr]


def test_failing_gate_raises_with_the_report_first_failure_first_and_blocks_promotion(
    project: Project, bad: Any, holdout: pd.DataFrame, features: pd.DataFrame
) -> None:
    register(project, bad, "tumours", input_example=features)
    with pytest.raises(GateError, match=r"roc_auc .* is below its min 0\.6") as failed:
        validate(project, "tumours/1")
    assert failed.value.report.checks[0].status == "fail"
    (event,) = project.open(Ledger).events(verbs=("validate",), subject="model/tumours/1", outcome="GateError")
    assert (event.result["passed"], event.result["checks"][0]["name"]) == (False, "roc_auc")
    with pytest.raises(GateError):
        promote(project, "tumours/1")


def test_challenger_much_worse_than_the_champion_fails(
    project: Project, good: Any, bad: Any, holdout: pd.DataFrame, features: pd.DataFrame, gate: Any
) -> None:
    gate("rival", 'target = "late"\ndata = "holdout.parquet"\nchampion.roc_auc = { max_regression = 0.01 }')
    register(project, good, "tumours", input_example=features)
    validate(project, "tumours")
    promote(project, "tumours")
    register(project, bad, "tumours", input_example=features)
    with pytest.raises(GateError) as failed:
        validate(project, "tumours", gate="rival")
    (check,) = failed.value.report.checks
    assert (check.status, failed.value.report.champion) == ("fail", "1")
    assert check.upper < -0.01
    assert check.champion > check.value


def test_equal_challenger_passes_and_the_champion_is_not_compared_with_itself(
    project: Project, good: Any, holdout: pd.DataFrame, features: pd.DataFrame
) -> None:
    register(project, good, "tumours", input_example=features)
    validate(project, "tumours")
    promote(project, "tumours")
    register(project, good, "tumours", input_example=features)
    (check,) = (check for check in validate(project, "tumours").checks if check.condition == "max_regression")
    assert (check.status, check.lower, check.upper) == ("pass", 0.0, 0.0)
    (check,) = (check for check in validate(project, "tumours@champion").checks if check.condition == "max_regression")
    assert (check.status, check.note) == ("skip", "it is the champion itself")


def test_small_data_cannot_tell_and_only_warns(
    project: Project, good: Any, training: pd.DataFrame, holdout: pd.DataFrame, features: pd.DataFrame
) -> None:
    register(project, good, "tumours", input_example=features)
    validate(project, "tumours")
    promote(project, "tumours")
    other = LogisticRegression(max_iter=5000).fit(training[["mean texture", "mean area"]], training["late"])
    register(project, other, "tumours", input_example=features[["mean texture", "mean area"]])
    report = validate(project, "tumours", data=holdout.head(40))
    assert report.passed
    assert report.checks[0].status == "warn"


def test_data_option_wins_over_the_gates_own_and_extra_columns_are_dropped(
    project: Project, good: Any, holdout: pd.DataFrame, features: pd.DataFrame, folder: Path
) -> None:
    register(project, good, "tumours", input_example=features)
    holdout.head(60).assign(carrier="AA").to_csv(folder / "some.csv", index=False)
    assert validate(project, "tumours", data="some.csv").n == 60


def test_regression_and_many_classes_and_models_without_probabilities(project: Project, gate: Any) -> None:
    gate("numbers", 'target = "target"\nmetrics.mae = { max = 60 }\nmetrics.r2 = { min = 0.1 }')
    gate("classes", 'target = "target"\nmetrics.f1 = { min = 0.5 }')
    gate("scores", 'target = "late"\nmetrics.roc_auc = { min = 0.5 }\nmetrics.accuracy = { min = 0.5 }')
    numbers = load_diabetes(as_frame=True).frame
    line = LinearRegression().fit(numbers.drop(columns="target"), numbers["target"])
    register(project, line, "progress", input_example=numbers.drop(columns="target"))
    found = {check.name: check.value for check in validate(project, "progress", gate="numbers", data=numbers).checks}
    expected = mean_absolute_error(numbers["target"], line.predict(numbers.drop(columns="target")))
    assert found["mae"] == pytest.approx(expected)

    flowers = load_iris(as_frame=True).frame
    iris = LogisticRegression(max_iter=1000).fit(flowers.drop(columns="target"), flowers["target"])
    register(project, iris, "flowers", input_example=flowers.drop(columns="target"))
    (check,) = validate(project, "flowers", gate="classes", data=flowers).checks
    assert check.value == pytest.approx(
        f1_score(flowers["target"], iris.predict(flowers.drop(columns="target")), average="macro")
    )

    table = flowers.assign(late=np.where(flowers["target"] == 2, "yes", "no")).drop(columns="target")
    margin = LinearSVC().fit(table.drop(columns="late"), table["late"])
    register(project, margin, "margin")  # without a signature
    checks = validate(project, "margin", gate="scores", data=table).checks
    expected = roc_auc_score(table["late"] == "yes", margin.decision_function(table.drop(columns="late")))
    assert checks[0].value == pytest.approx(expected)
    with pytest.raises(UsageError, match="two classes"):
        validate(project, "flowers", gate="scores", data=flowers.rename(columns={"target": "late"}))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda table: table.drop(columns="late"), "no target column 'late'"),
        (lambda table: table.assign(late=table["late"].where(table.index > 3)), "no value in 4 of"),
        (lambda table: table.drop(columns=["mean area"]), "lacks columns that the model needs: mean area"),
        (lambda table: table.head(0), "no rows"),
        (lambda table: table.assign(late=1), "both classes"),
        (lambda table: table.assign(late=table["late"].where(table.index > 3, 7)), "target has 7, which"),
        (lambda table: table.assign(**{"mean area": "big"}), "failed on this data"),
    ],
)
def test_data_that_does_not_fit_is_a_data_error(
    project: Project, good: Any, holdout: pd.DataFrame, features: pd.DataFrame, change: Any, told: str
) -> None:
    register(project, good, "tumours", input_example=features)
    with pytest.raises(DataError, match=told):
        validate(project, "tumours", data=change(holdout))


def test_gates_that_cannot_judge_are_refused_with_the_mend(
    project: Project, good: Any, holdout: pd.DataFrame, gate: Any, folder: Path
) -> None:
    register(project, good, "tumours")
    gate("odd", 'target = "late"\nmetrics.roc_acu = { min = 0.5 }')
    gate("empty", 'target = "late"')
    gate("limitless", 'target = "late"\nmetrics.accuracy = {}')
    gate("percent", 'target = "late"\nchampion.accuracy = { confidence = 95 }')
    gate("certain", 'target = "late"\nchampion.accuracy = { confidence = 1 }')
    for name, error, hint in [
        ("defalt", NotFoundError, "Did you mean default?"),
        ("odd", UsageError, "Did you mean roc_auc?"),
        ("empty", UsageError, "metrics.roc_auc"),
        ("limitless", UsageError, "metrics.accuracy = { min = 0.7 }"),
        ("percent", UsageError, "champion.accuracy = { confidence = 0.95 }"),
        ("certain", UsageError, "champion.accuracy = { confidence = 0.95 }"),
    ]:
        with pytest.raises(error) as refused:
            validate(project, "tumours", gate=name, data=holdout)
        assert hint in refused.value.hint
    (folder / "nbmlops.toml").write_text("")
    with pytest.raises(NotFoundError) as none:
        validate(project, "tumours")
    assert "[gates.default]" in none.value.hint


def test_tampered_and_unknown_bytes_are_never_scored(
    project: Project, good: Any, holdout: pd.DataFrame, features: pd.DataFrame
) -> None:
    register(project, good, "tumours", input_example=features)
    tracking = project.open(Tracking)
    place = Path(tracking.client.get_model_version_download_uri("tumours", "1").removeprefix("file://"))
    (place / "model.skops").write_bytes(b"PK")
    with pytest.raises(ConflictError, match=r"model\.skops is changed"):
        validate(project, "tumours/1")
    tracking.client.create_registered_model("plain")
    tracking.client.create_model_version("plain", place.as_uri())
    with pytest.raises(ApprovalError):
        validate(project, "plain/1")


def test_dry_run_judges_and_leaves_no_evidence(
    project: Project, good: Any, holdout: pd.DataFrame, features: pd.DataFrame
) -> None:
    register(project, good, "tumours", input_example=features)
    assert validate(project, "tumours", dry_run=True).passed
    with pytest.raises(GateError):
        promote(project, "tumours")


def test_a_gates_own_data_is_the_projects_whatever_folder_the_caller_is_in(
    project: Project, good: Any, holdout: pd.DataFrame, features: pd.DataFrame, folder: Path
) -> None:
    register(project, good, "tumours", input_example=features)
    (folder / "elsewhere").mkdir()
    holdout.head(40).to_parquet(folder / "elsewhere" / "holdout.parquet")
    inside = Project(folder / "elsewhere")
    assert validate(inside, "tumours").n == len(holdout)
    assert validate(inside, "tumours", data="holdout.parquet").n == 40


def test_a_champion_that_cannot_be_scored_is_an_error_about_the_data(
    project: Project, good: Any, training: pd.DataFrame, holdout: pd.DataFrame, features: pd.DataFrame, gate: Any
) -> None:
    gate("surprise", 'target = "late"\ndata = "holdout.parquet"\nchampion.log_loss = {}')
    register(project, LinearSVC(max_iter=100_000, dual=False).fit(features, training["late"]), "tumours")
    validate(project, "tumours")
    promote(project, "tumours")
    register(project, good, "tumours", input_example=features)
    with pytest.raises(DataError, match="log_loss failed on this data"):
        validate(project, "tumours", gate="surprise")


def test_f1_is_of_the_models_second_class_also_where_the_data_has_only_the_first(
    project: Project, good: Any, holdout: pd.DataFrame, features: pd.DataFrame, gate: Any
) -> None:
    gate("rare", 'target = "late"\nmetrics.f1 = { min = 0.5 }')
    register(project, good, "tumours", input_example=features)
    only = holdout[(holdout["late"] == 0) & (good.predict(holdout.drop(columns="late")) == 0)]
    with pytest.raises(GateError, match="f1 0 is below"):
        validate(project, "tumours", gate="rare", data=only)


def test_a_third_class_of_the_champions_counts_for_the_candidate_too(
    project: Project, good: Any, training: pd.DataFrame, holdout: pd.DataFrame, features: pd.DataFrame, gate: Any
) -> None:
    gate("classes", 'target = "late"\ndata = "holdout.parquet"\nchampion.f1 = { max_regression = 0.5 }')
    strays = DummyClassifier(strategy="constant", constant=2).fit(features, np.arange(len(features)) % 3)
    register(project, strays, "tumours", input_example=features)
    validate(project, "tumours", gate="classes")
    promote(project, "tumours")
    register(project, good, "tumours", input_example=features)
    (check,) = validate(project, "tumours", gate="classes").checks
    inputs, truth = holdout.drop(columns="late"), holdout["late"]
    expected = f1_score(truth, good.predict(inputs), labels=[0, 1, 2], average="macro", zero_division=0.0)
    assert (check.value, check.champion) == (pytest.approx(expected), 0.0)
