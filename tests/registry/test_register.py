import os
import stat
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest

from nbmlops.errors import ApprovalError, ConflictError, NotFoundError, UsageError
from nbmlops.ledger.database import Ledger
from nbmlops.project import Project
from nbmlops.registry.audit import is_sklearns_own
from nbmlops.registry.loader import load_model, verified_copy
from nbmlops.registry.manifest import manifest_of
from nbmlops.registry.verbs import register, verify
from nbmlops.tracking.mlflow import Tracking


def stored_files(project: Project, name: str, version: str) -> Path:
    location = project.open(Tracking).client.get_model_version_download_uri(name, version)
    return Path(location.removeprefix("file://"))


def test_register_makes_a_plain_mlflow_version_with_signature_example_and_challenger(
    project: Project, linear: Any, features: pd.DataFrame
) -> None:
    made = register(project, linear, "tumours", input_example=features)
    client = project.open(Tracking).client
    version = client.get_model_version_by_alias("tumours", "challenger")
    assert (made.version, str(version.version)) == ("1", "1")
    assert version.tags["nbmlops.digest"] == made.digest
    assert "mean radius" in made.signature
    assert client.get_run(version.run_id).info.status == "FINISHED"
    plain = mlflow.sklearn.load_model("models:/tumours/1")
    assert (plain.predict(features) == linear.predict(features)).all()
    assert mlflow.pyfunc.load_model("models:/tumours/1").input_example.shape == (5, 30)


def test_ledger_keeps_the_whole_manifest(project: Project, linear: Any, features: pd.DataFrame) -> None:
    made = register(project, linear, "tumours", input_example=features)
    (event,) = project.open(Ledger).events(verbs=("register",), subject="model/tumours/1")
    kept = {file["path"]: file["sha256"] for file in event.result["manifest"]}
    assert kept == {file.path: file.sha256 for file in manifest_of(stored_files(project, "tumours", "1"))}
    assert event.result["digest"] == made.digest


def test_scikit_learns_own_types_are_trusted_and_recorded(project: Project, boosting: Any, cancer: Any) -> None:
    made = register(project, boosting, "trees", input_example=cancer[0])
    assert made.trusted_types == ("sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",)
    assert made.consented_types == ()
    loaded = load_model(verified_copy(project, "trees/1"))
    assert (loaded.predict(cancer[0]) == boosting.predict(cancer[0])).all()


def test_what_scikit_learn_merely_imports_is_not_its_own() -> None:
    assert is_sklearns_own("sklearn.feature_selection._univariate_selection.f_classif")
    for name in (
        "sklearn.utils._testing.check_output",
        "sklearn.utils.parallel.partial",
        "sklearn.nowhere.X",
        "os.system",
    ):
        assert not is_sklearns_own(name)


def test_other_types_need_consent_which_is_recorded(project: Project, custom: Any, features: pd.DataFrame) -> None:
    with pytest.raises(ApprovalError) as refused:
        register(project, custom, "ratios", input_example=features)
    assert "ratios.Ratio" in refused.value.message
    assert refused.value.hint.endswith("`register MODEL ratios --trust ratios.Ratio`")
    assert project.open(Tracking).newest(10) == []  # nothing was logged before consent

    made = register(project, custom, "ratios", input_example=features, trust=["ratios.Ratio"])
    assert made.consented_types == ("ratios.Ratio",)
    version = project.open(Tracking).client.get_model_version("ratios", "1")
    assert version.tags["nbmlops.trusted_types"] == "ratios.Ratio"
    assert load_model(verified_copy(project, "ratios/1")).predict(features.head()).shape == (5,)


def test_register_logs_into_the_active_run(project: Project, linear: Any, features: pd.DataFrame) -> None:
    tracking = project.open(Tracking)
    with tracking.mlflow.start_run(experiment_id=tracking.experiment_id) as run:
        made = register(project, linear, "tumours", input_example=features)
    assert made.run_id == run.info.run_id
    assert len(tracking.client.get_run(made.run_id).outputs.model_outputs) == 1


def test_register_takes_a_run_a_uri_and_a_folder(
    project: Project, linear: Any, features: pd.DataFrame, folder: Path
) -> None:
    tracking = project.open(Tracking)
    with tracking.mlflow.start_run(experiment_id=tracking.experiment_id, run_name="fit") as run:
        signature = mlflow.models.infer_signature(features, linear.predict(features))
        info = mlflow.sklearn.log_model(linear, name="clf", signature=signature, pip_requirements=["scikit-learn"])
    mlflow.sklearn.save_model(linear, str(folder / "saved"), pip_requirements=["scikit-learn"])
    sources = ["fit", run.info.run_id[:8], info.model_uri, f"runs:/{run.info.run_id}/clf", "models:/tumours/1", "saved"]
    made = [register(project, source, "tumours") for source in sources]
    assert [registration.version for registration in made] == ["1", "2", "3", "4", "5", "6"]
    assert len({registration.digest for registration in made[:5]}) == 1
    assert [bool(registration.signature) for registration in made] == [True] * 5 + [False]
    assert "no signature" in made[5].headline
    for version in ("1", "4", "5", "6"):
        assert load_model(verified_copy(project, f"tumours/{version}")).predict(features.head(3)).shape == (3,)


def test_a_pickled_model_needs_consent_and_is_not_unpickled(project: Project, linear: Any, folder: Path) -> None:
    mlflow.sklearn.save_model(linear, str(folder / "saved"), serialization_format="skops", pip_requirements=["a"])
    marker = folder / "executed"
    (folder / "saved" / "model.skops").write_bytes(f"cos\nsystem\n(S'touch {marker}'\ntR.".encode())
    flavors = (
        (folder / "saved" / "MLmodel")
        .read_text()
        .replace("serialization_format: skops", "serialization_format: pickle")
    )
    (folder / "saved" / "MLmodel").write_text(flavors)
    with pytest.raises(ApprovalError, match="pickle"):
        register(project, "saved", "evil")
    register(project, "saved", "evil", trust=["pickle"])
    assert not marker.exists()


@pytest.mark.parametrize("key", ["data", "config"])
def test_a_key_that_could_lead_the_loader_to_another_file_is_refused(
    project: Project, linear: Any, folder: Path, key: str
) -> None:
    mlflow.sklearn.save_model(linear, str(folder / "saved"), serialization_format="skops", pip_requirements=["a"])
    marker = folder / "executed"
    (folder / "saved" / "evil").mkdir()
    (folder / "saved" / "evil" / "model.pkl").write_bytes(f"cos\nsystem\n(S'touch {marker}'\ntR.".encode())
    file = folder / "saved" / "MLmodel"
    file.write_text(
        file.read_text().replace("  python_function:\n", f"  python_function:\n    {key}: evil/model.pkl\n")
    )
    with pytest.raises(UsageError, match=rf"python_function\.{key}"):
        register(project, "saved", "evil", trust=["pickle"])
    assert not marker.exists()


def test_a_run_of_its_own_tells_its_owner(project: Project, linear: Any) -> None:
    made = register(project, linear, "tumours")
    assert project.open(Tracking).client.get_run(made.run_id).data.tags["nbmlops.pid"] == str(os.getpid())


def test_dry_run_changes_nothing(project: Project, linear: Any, features: pd.DataFrame) -> None:
    would = register(project, linear, "tumours", input_example=features, dry_run=True)
    assert would.headline.startswith("Would register tumours")
    assert would.digest
    assert project.open(Tracking).client.search_registered_models() == []
    assert project.open(Tracking).newest(10) == []
    assert project.open(Ledger).events() == []


@pytest.mark.parametrize(
    ("what", "error"), [("nothing", NotFoundError), ("models:/nothing/1", NotFoundError), (".nbmlops", UsageError)]
)
def test_what_is_no_model_is_refused(project: Project, what: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        register(project, what, "tumours")


def test_input_example_that_does_not_fit_is_refused(project: Project, linear: Any, features: pd.DataFrame) -> None:
    with pytest.raises(UsageError, match="cannot predict its input example"):
        register(project, linear, "tumours", input_example=features.assign(late=True))


@pytest.mark.parametrize("name", ["a/b", "x'y", ""])
def test_name_that_mlflow_could_not_hold_is_refused(project: Project, linear: Any, name: str) -> None:
    with pytest.raises(UsageError):
        register(project, linear, name)


# ------------------------------------------------------------------ the loader
def test_every_changed_file_is_refused_by_name(project: Project, linear: Any, features: pd.DataFrame) -> None:
    register(project, linear, "tumours", input_example=features)
    assert verify(project, "tumours/1").files == 7
    for path in sorted(stored_files(project, "tumours", "1").iterdir()):
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(ConflictError, match=f"{path.name} is changed"):
            verified_copy(project, "tumours/1")
        path.write_bytes(whole)
    verify(project, "tumours/1")


def test_a_version_that_stock_mlflow_loaded_is_still_as_registered(project: Project, linear: Any) -> None:
    register(project, linear, "tumours")
    mlflow.pyfunc.load_model("models:/tumours/1")  # leaves a note of its own beside the model's files
    place = stored_files(project, "tumours", "1")
    assert (place / "registered_model_meta").exists()
    assert verify(project, "tumours/1").files == 5
    assert register(project, str(place), "tumours").digest == register(project, "models:/tumours/1", "tumours").digest


def test_added_and_missing_files_are_refused(project: Project, linear: Any) -> None:
    register(project, linear, "tumours")
    place = stored_files(project, "tumours", "1")
    (place / "sitecustomize.py").write_text("")
    (place / "requirements.txt").unlink()
    with pytest.raises(ConflictError, match=r"requirements.txt is missing; sitecustomize.py is added"):
        verify(project, "tumours/1")


def test_changed_digest_tag_is_refused(project: Project, linear: Any) -> None:
    register(project, linear, "tumours")
    project.open(Tracking).client.set_model_version_tag("tumours", "1", "nbmlops.digest", "0" * 64)
    with pytest.raises(ConflictError, match=r"tag nbmlops\.digest"):
        verify(project, "tumours/1")


def test_version_without_a_manifest_is_refused_until_it_is_registered(project: Project, linear: Any) -> None:
    tracking = project.open(Tracking)
    with tracking.mlflow.start_run(experiment_id=tracking.experiment_id):
        mlflow.sklearn.log_model(linear, name="m", registered_model_name="plain", pip_requirements=["scikit-learn"])
    with pytest.raises(ApprovalError) as refused:
        verify(project, "plain/1")
    assert "register models:/plain/1 plain" in refused.value.hint
    register(project, "models:/plain/1", "plain")
    assert verify(project, "plain/2").files


def test_verified_copy_is_private(project: Project, linear: Any) -> None:
    register(project, linear, "tumours")
    copy = verified_copy(project, "tumours/1")
    assert stat.S_IMODE(copy.parent.stat().st_mode) == 0o700
    assert copy.parent.stat().st_uid == os.getuid()


def test_names_that_do_not_exist_name_the_nearest(project: Project, linear: Any) -> None:
    register(project, linear, "tumours")
    for reference, hint in [
        ("tumors/1", "Did you mean tumours?"),
        ("tumours/9", "1"),
        ("tumours@challengr", "challenger"),
    ]:
        with pytest.raises(NotFoundError) as missing:
            verify(project, reference)
        assert hint in missing.value.hint


def test_an_unfitted_model_is_refused(project: Project) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    for model in (LogisticRegression(), make_pipeline(LogisticRegression())):
        with pytest.raises(UsageError, match="is not fitted"):
            register(project, model, "tumours")
