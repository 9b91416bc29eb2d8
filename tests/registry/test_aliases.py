from collections.abc import Callable
from typing import Any

import pytest

from nbmlops.errors import ConflictError, GateError, NotFoundError, UsageError
from nbmlops.ledger.database import Ledger
from nbmlops.ledger.events import Draft
from nbmlops.project import Project
from nbmlops.registry.verbs import history, models, promote, register, rollback, verify
from nbmlops.tracking.mlflow import Tracking

Judge = Callable[..., None]


@pytest.fixture
def judge(project: Project) -> Judge:
    """Leave a gate report in the ledger, as the verb that judges does."""

    def leave(version: str, *, passed: bool = True, gate: str = "default", digest: str = "") -> None:
        tag = project.open(Tracking).client.get_model_version("tumours", version).tags["nbmlops.digest"]
        report = {
            "passed": passed,
            "model": "tumours",
            "version": version,
            "digest": digest or tag,
            "gate": gate,
            "n": 99,
        }
        outcome = "ok" if passed else "GateError"
        subject = f"model/tumours/{version}"
        project.open(Ledger).append(Draft("validate", subject, "cli", True, outcome, {"model": "tumours"}, report))

    return leave


@pytest.fixture
def three(project: Project, linear: Any) -> None:
    """Three versions of one name; the bytes are shared, the versions are not."""
    register(project, linear, "tumours")
    register(project, "models:/tumours/1", "tumours")
    register(project, "models:/tumours/1", "tumours")


def champion(project: Project) -> str:
    return str(project.open(Tracking).client.get_model_version_by_alias("tumours", "champion").version)


def test_promote_refuses_a_version_without_a_gate_report(project: Project, three: None) -> None:
    with pytest.raises(GateError) as refused:
        promote(project, "tumours")
    assert refused.value.hint == "`validate tumours/3`"
    assert "champion" not in project.open(Tracking).client.get_registered_model("tumours").aliases


def test_promote_refuses_a_version_whose_gate_failed(project: Project, three: None, judge: Judge) -> None:
    judge("3", passed=False)
    with pytest.raises(GateError):
        promote(project, "tumours/3")


def test_promote_refuses_a_report_about_other_bytes_or_another_gate(
    project: Project, three: None, judge: Judge
) -> None:
    judge("3", digest="0" * 64)
    judge("2")
    with pytest.raises(GateError):
        promote(project, "tumours/3")
    with pytest.raises(GateError) as refused:
        promote(project, "tumours/2", gate="strict")
    assert refused.value.hint == "`validate tumours/2 --gate strict`"


def test_promote_moves_the_alias_and_tells_the_evidence(project: Project, three: None, judge: Judge) -> None:
    judge("2")
    judge("3")
    promote(project, "tumours/2")
    moved = promote(project, "tumours", reason="better on March")
    assert (moved.previous, moved.version, champion(project)) == ("2", "3", "3")
    evidence = moved.evidence
    assert evidence is not None
    assert (evidence.gate, evidence.event) == ("default", project.open(Ledger).events(verbs=("validate",))[0].seq)


def test_promote_to_where_the_alias_is_already_is_a_no_op_that_says_so(
    project: Project, three: None, judge: Judge
) -> None:
    judge("3")
    promote(project, "tumours")
    again = promote(project, "tumours")
    assert not again.moved
    assert "already" in again.headline


def test_promote_refuses_bytes_that_changed_after_the_gate(project: Project, three: None, judge: Judge) -> None:
    judge("3")
    location = project.open(Tracking).client.get_model_version_download_uri("tumours", "3").removeprefix("file://")
    with open(f"{location}/model.skops", "ab") as file:
        file.write(b"!")
    with pytest.raises(ConflictError, match=r"model\.skops is changed"):
        promote(project, "tumours/3")


def test_dry_runs_move_nothing(project: Project, three: None, judge: Judge) -> None:
    for version in ("1", "2"):
        judge(version)
    promote(project, "tumours/1")
    assert "would be version 2" in promote(project, "tumours/2", dry_run=True).headline
    assert champion(project) == "1"
    promote(project, "tumours/2")
    assert rollback(project, "tumours", dry_run=True).version == "1"
    assert champion(project) == "2"
    assert len(project.open(Ledger).events(verbs=("promote", "rollback"))) == 2


def test_rollback_twice_goes_two_versions_back_and_then_refuses(project: Project, three: None, judge: Judge) -> None:
    for version in ("1", "2", "3"):
        judge(version)
        promote(project, f"tumours/{version}")
    assert [rollback(project, "tumours").version, champion(project)] == ["2", "2"]
    assert [rollback(project, "tumours@champion").version, champion(project)] == ["1", "1"]
    with pytest.raises(ConflictError, match="none before it"):
        rollback(project, "tumours")


def test_rollback_is_for_aliases(project: Project, three: None) -> None:
    with pytest.raises(UsageError):
        rollback(project, "tumours/3")
    with pytest.raises(NotFoundError):
        rollback(project, "tumours")
    assert rollback(project, "tumours@challenger").version == "2"


def test_history_tells_newest_first_what_was_refused_too(project: Project, three: None, judge: Judge) -> None:
    with pytest.raises(GateError):
        promote(project, "tumours/3", reason="in a hurry")
    judge("3", passed=False)
    rows = history(project, "tumours")
    assert [(row.verb, row.version, row.outcome) for row in rows] == [
        ("validate", "3", "GateError"),
        ("promote", "", "GateError"),
        ("register", "3", "ok"),
        ("register", "2", "ok"),
        ("register", "1", "ok"),
    ]
    assert rows[0].what == "gate default failed on 99 rows"
    assert rows[1].reason == "in a hurry"
    assert "No passed report" in rows[1].what
    assert rows[2].what == "challenger: 2 → 3"
    with pytest.raises(NotFoundError, match="tumors"):
        history(project, "tumors")


def test_models_lists_versions_aliases_and_the_last_report(project: Project, three: None, judge: Judge) -> None:
    judge("2")
    promote(project, "tumours/2")
    (row,) = models(project)
    assert (row.name, row.version, row.aliases) == ("tumours", "3", {"challenger": "3", "champion": "2"})
    assert (row.gate, row.judged) == ("passed", "2")
    assert row.updated_at is not None


def test_models_lists_names_that_only_mlflow_allows(project: Project, three: None) -> None:
    client = project.open(Tracking).client
    source = client.get_model_version("tumours", "1").source
    for name in ("Ann's", 'Ann\'s "best"', 'Ann_s "best"'):
        client.create_registered_model(name)
        client.create_model_version(name, source, await_creation_for=0)
    client.create_model_version('Ann_s "best"', source, await_creation_for=0)
    found = {row.name: row.version for row in models(project)}
    assert found == {"Ann's": "1", 'Ann\'s "best"': "1", 'Ann_s "best"': "2", "tumours": "3"}


def test_history_tells_of_a_verb_that_was_interrupted(project: Project, three: None) -> None:
    interrupted = Draft("promote", "model/tumours/3", "cli", True, "KeyboardInterrupt", {}, {"message": ""})
    project.open(Ledger).append(interrupted)
    assert history(project, "tumours")[0].what == ""


def test_bare_verify_checks_the_ledger(project: Project, three: None) -> None:
    assert verify(project).headline == "The ledger's chain is whole: 3 events"
