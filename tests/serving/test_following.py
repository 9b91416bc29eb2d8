"""Endpoints that follow an alias: they go where it goes, also while MLflow is away."""

import time

import pytest

from nbmlops.agent.deliver import delivered
from nbmlops.ledger.moves import Moves
from nbmlops.project import Project
from nbmlops.registry.mlflow import Registry
from nbmlops.registry.verbs import promote, rollback
from nbmlops.serving.verbs import deploy
from tests.serving.crowd import DELAYS, crowd, until

pytestmark = pytest.mark.usefixtures("kept_up")


@pytest.fixture
def moved(judged: Project) -> Project:
    """The shop with a champion that was promoted, and evidence for version 3."""
    judged.open(Registry).set_alias("delays", "champion", "3")
    promote(judged, "delays/1")
    return judged


def test_endpoints_go_with_their_alias_and_no_request_fails(moved: Project) -> None:
    url = deploy(moved, "delays@champion", as_="follower").url
    with crowd(url, DELAYS) as them:
        promotion = promote(moved, "delays/3")
        assert promotion.switched == ("follower",)
        until(lambda: them.since(time.monotonic() - 0.3).keys() == {"delays/3"}, 10)
        back = rollback(moved, "delays")
        assert (back.version, back.switched) == ("1", ("follower",))
        until(lambda: them.since(time.monotonic() - 0.3).keys() == {"delays/1"}, 10)
    assert them.failures == []


def test_rollback_works_while_mlflow_is_away_and_mlflow_is_told_afterwards(moved: Project) -> None:
    promote(moved, "delays/3")
    url = deploy(moved, "delays@champion", as_="away").url
    database = moved.root / ".nbmlops" / "mlflow.db"
    away = Project(moved.root, overrides={"tracking": "http://127.0.0.1:9"})
    with crowd(url, DELAYS, n_clients=3) as them:
        back = rollback(away, "delays", reason="it is down")
        assert (back.version, back.previous, back.switched, back.mlflow_is_told) == ("1", "3", ("away",), False)
        until(lambda: them.since(time.monotonic() - 0.3).keys() == {"delays/1"}, 10)
    assert them.failures == []
    assert database.exists()
    assert moved.open(Registry).aliases("delays")["champion"] == "3"
    assert [(move.alias, move.version) for move in moved.open(Moves).waiting()] == [("champion", "1")]
    delivered(moved)
    assert moved.open(Registry).aliases("delays")["champion"] == "1"
    assert moved.open(Moves).waiting() == []
