"""What a stale attempt may still do to the world: nothing that writes or governs."""

import pytest

from nbmlops.errors import ConflictError, NotFoundError
from nbmlops.ledger.database import Ledger
from nbmlops.ledger.steps import Fence, Steps
from nbmlops.project import Project
from nbmlops.registry.mlflow import Registry
from nbmlops.verb import FENCE, load


@pytest.fixture
def attempt(project: Project, monkeypatch: pytest.MonkeyPatch) -> Fence:
    """The attempt that this process is part of."""
    fence = project.open(Steps).claim("retrain", "gate", job="a", key="k")
    monkeypatch.setenv(FENCE, str(fence))
    return fence


def test_a_stale_attempt_calls_no_verb_that_writes_or_governs(project: Project, attempt: Fence) -> None:
    with pytest.raises(NotFoundError):
        load("promote")(project, "delays/1")
    project.open(Steps).claim("retrain", "gate", job="b", key="k")
    for name, what in {"promote": "delays/1", "rollback": "delays", "undeploy": "delays"}.items():
        with pytest.raises(ConflictError, match="attempt at step gate of job a is stale") as caught:
            load(name)(project, what)
        assert caught.value.exit_code == 12
    assert [event.outcome for event in project.open(Ledger).events()] == ["NotFoundError"]
    assert load("models")(project) == ()


def test_an_attempt_that_becomes_stale_while_it_works_registers_nothing_and_moves_no_alias(
    project: Project, attempt: Fence
) -> None:
    registry = project.open(Registry)
    registry._client.create_registered_model("delays")
    project.open(Steps).claim("retrain", "gate", job="b", key="k")
    with pytest.raises(ConflictError, match="stale"):
        registry.set_alias("delays", "champion", "1")
    with pytest.raises(ConflictError, match="stale"):
        registry.create_version("delays", None, {})  # type: ignore[arg-type]  # it does not come to that
    assert registry.versions("delays") == []


def test_an_attempt_inside_of_a_stale_one_is_stale(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = project.open(Steps)
    outer, inner = (steps.claim(name, "run", job=name, key="k") for name in ("outer", "inner"))
    monkeypatch.setenv(FENCE, f"{outer} {inner}")
    with pytest.raises(NotFoundError):
        load("rollback")(project, "delays")
    steps.claim("outer", "run", job="b", key="k")
    with pytest.raises(ConflictError, match="stale"):
        load("rollback")(project, "delays")
