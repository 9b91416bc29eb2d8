"""Rollouts with real servers and real requests that pass, compare, or wait."""

import time
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pytest

from nbmlops.errors import ConflictError, GateError
from nbmlops.ledger.endpoints import Endpoints
from nbmlops.project import Project
from nbmlops.registry.mlflow import Registry
from nbmlops.serving.rollout import Rollout, assessed
from nbmlops.serving.target import target_of
from nbmlops.serving.verbs import deploy, traffic
from nbmlops.surfaces.show import text
from nbmlops.validation.verbs import validate
from tests.serving.conftest import GATE, rollout_events, served, state_of
from tests.serving.crowd import DELAYS, crowd

pytestmark = pytest.mark.usefixtures("kept_up")


def test_a_canary_that_passes_gets_all_requests_and_the_alias(shop: Project, flights: pd.DataFrame) -> None:
    (shop.root / "nbmlops.toml").write_text(GATE)
    url = deploy(shop, "delays@champion", as_="canary").url
    with pytest.raises(GateError):
        deploy(shop, "delays/3", as_="canary", canary="50,100", promote=True)
    validate(shop, "delays/3", data=flights.assign(late=flights.late.astype(int)))
    with crowd(url, DELAYS) as them:
        made = deploy(
            shop, "delays/3", as_="canary", canary="50,100", bake="0.5s", slo="err<1%", promote=True, wait=True
        )
    assert (made.state, made.replaced, them.failures) == ("done", "delays/1", [])
    assert them.versions["delays/1"] > 20
    assert them.versions["delays/3"] > 100
    assert shop.open(Registry).aliases("delays")["champion"] == "3"
    wanted = shop.open(Endpoints).wanted()["canary"]
    assert (wanted.champion.version, wanted.challenger, wanted.follows) == ("3", None, "delays@champion")
    events = rollout_events(shop, "canary")
    assert [(event.outcome, event.result["rollout"]["state"]) for event in events] == [
        ("ok", "running"),
        ("ok", "done"),
    ]
    assert "baseline" not in events[0].result["rollout"]


def test_how_far_predictions_moved_is_told_of_the_version_that_is_tried(shop: Project) -> None:
    url = deploy(shop, "delays/1", as_="apart").url
    deploy(shop, "delays/3", as_="apart", canary="50,100", bake="1h", slo="shift<9")
    with crowd(url, DELAYS) as them:
        while min(them.versions.get(version, 0) for version in ("delays/1", "delays/3")) < 100:
            time.sleep(0.01)
    found = served(shop)["apart"]
    champion, challenger = found.traffic
    assert champion.shift is None
    assert challenger.shift is not None
    assert challenger.shift >= 0
    wanted = shop.open(Endpoints).wanted()["apart"]
    counts = target_of(wanted).counted(shop, wanted)
    [check] = assessed(Rollout.of(wanted.rollout), counts, datetime.now(UTC)).checks
    assert challenger.shift == pytest.approx(check.value, abs=5e-5)
    traffic(shop, "apart", {"3": "40"})  # by hand: all that was counted is compared
    found = served(shop)["apart"]
    assert found.traffic[1].shift is not None
    assert found.progress is not None
    assert (found.progress.state, found.progress.weight) == ("aborted", 0)
    assert "shift" in text(found)
    assert "progress" not in text(found)


@pytest.mark.parametrize("how", [{"linear": 50}, {"blue_green": True}])
def test_other_ways_to_all_requests(shop: Project, how: dict[str, Any]) -> None:
    url = deploy(shop, "delays/1", as_="way").url
    with crowd(url, DELAYS) as them:
        made = deploy(shop, "delays/3", as_="way", bake="0.3s", slo="err<1%", wait=True, **how)
    assert (made.state, them.failures) == ("done", [])
    assert served(shop)["way"].version == "3"


def test_a_shadow_that_gets_a_weight_by_hand_answers_and_is_a_shadow_no_more(shop: Project) -> None:
    deploy(shop, "delays/1", as_="dusk")
    deploy(shop, "delays/3", as_="dusk", shadow=True, bake="1h")
    traffic(shop, "dusk", {"3": "40"})
    assert {each.version: (each.role, each.weight) for each in served(shop)["dusk"].traffic} == {
        "1": ("champion", 60.0),
        "3": ("challenger", 40.0),
    }


def test_a_shadow_answers_nobody_and_is_compared(shop: Project) -> None:
    url = deploy(shop, "delays/1", as_="shade").url
    with crowd(url, DELAYS) as them:
        deploy(shop, "delays/3", as_="shade", shadow=True, bake="1s", slo="err<1%,diff<5%", wait=True)
    assert them.failures == []
    assert them.versions.keys() == {"delays/1"}
    [event] = rollout_events(shop, "shade")
    [diff] = [check for check in event.result["verdict"]["checks"] if check["name"] == "diff"]
    assert (diff["status"], diff["n"] > 40) == ("pass", True)
    assert served(shop)["shade"].version == "1"


def test_without_enough_requests_a_rollout_waits(shop: Project) -> None:
    deploy(shop, "delays/1", as_="quiet")
    assert served(shop)["quiet"].progress is None
    made = deploy(shop, "delays/3", as_="quiet", canary="50,100", bake="0s", slo="err<1%")
    assert made.state == "running"
    progress = served(shop)["quiet"].progress
    assert progress is not None
    assert (progress.state, progress.challenger, progress.champion) == ("running", "delays/3", "delays/1")
    assert (progress.strategy, progress.steps, progress.step, progress.weight) == ("canary", (50.0, 100.0), 0, 50.0)
    assert (progress.bake_s, progress.slo, progress.promote, progress.reason) == (0.0, "err<1%", False, "")
    assert [share.shift for share in served(shop)["quiet"].traffic] == [None, None]
    time.sleep(1.0)
    assert (state_of(shop, "quiet"), rollout_events(shop, "quiet")) == ("running", [])
    with pytest.raises(ConflictError, match="A rollout of delays/3 goes on at quiet"):
        deploy(shop, "delays/2", as_="quiet")


def test_a_deploy_that_is_repeated_joins_its_rollout_and_succeeds_when_that_is_done(shop: Project) -> None:
    url = deploy(shop, "delays/1", as_="again").url
    how: dict[str, Any] = {"as_": "again", "canary": "50,100", "bake": "0.2s", "slo": "err<1%"}
    begun = deploy(shop, "delays/3", **how)
    repeated = deploy(shop, "delays/3", **how)
    assert (repeated.state, repeated.url, repeated.replaced) == ("running", begun.url, "delays/1")
    with pytest.raises(ConflictError, match="A rollout of delays/3 goes on"):
        deploy(shop, "delays/3", **{**how, "canary": "10,100"})
    with pytest.raises(ConflictError, match="A rollout of delays/3 goes on"):
        deploy(shop, "delays/3", **how, workers=2)
    with crowd(url, DELAYS):
        assert deploy(shop, "delays/3", **how, wait=True).state == "done"
    assert deploy(shop, "delays/3", **how, wait=True).state == "done"
    assert deploy(shop, "delays/3", **how, dry_run=True).dry_run
    assert len(rollout_events(shop, "again")) == 2
