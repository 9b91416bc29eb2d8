"""Rollouts with real servers and real requests: taken on, taken back, ended by hand."""

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

from nbmlops.agent.deliver import delivered
from nbmlops.agent.serving import Serving
from nbmlops.errors import ConflictError, DeployError, GateError, UsageError
from nbmlops.ledger.database import Ledger
from nbmlops.ledger.endpoints import Endpoints
from nbmlops.ledger.moves import Moves
from nbmlops.project import Project
from nbmlops.registry.mlflow import Registry
from nbmlops.registry.verbs import promote, rollback
from nbmlops.serving.verbs import deploy, traffic, undeploy
from nbmlops.validation.verbs import validate
from tests.serving.conftest import served
from tests.serving.crowd import crowd, until

DELAYS = json.dumps({"dataframe_split": {"columns": ["delay", "carrier", "day"], "data": [[0.3, "UA", 2]]}}).encode()
X = json.dumps({"dataframe_split": {"columns": ["x"], "data": [[3.0]]}}).encode()


@pytest.fixture(autouse=True)
def looked_after(shop: Project) -> Iterator[None]:
    """What an agent does for endpoints, beside the test; no endpoint outlives it, and version 1 is champion again."""
    serving = Serving(Project(shop.root), every_s=0.1)
    serving.start()
    try:
        yield
    finally:
        serving.close()
        for name in served(shop):
            undeploy(shop, name)
        for name in ("delays", "moody"):
            with contextlib.suppress(Exception):
                shop.open(Registry).set_alias(name, "champion", "1")


def state_of(shop: Project, name: str) -> str:
    return str(shop.open(Endpoints).wanted()[name].rollout.get("state"))


def told(shop: Project, name: str) -> list[Any]:
    return shop.open(Ledger).events(verbs=("rollout",), subject=f"endpoint/{name}")[::-1]


# ----------------------------------------------------------------------- passing
def test_a_canary_that_passes_gets_all_requests_and_the_alias(shop: Project, flights: pd.DataFrame) -> None:
    (shop.root / "nbmlops.toml").write_text(
        '[project]\nname = "flights"\n[gates.default]\ntarget = "late"\nmetrics.roc_auc = { min = 0.5 }\n'
    )
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
    events = told(shop, "canary")
    assert [(event.outcome, event.result["rollout"]["state"]) for event in events] == [
        ("ok", "running"),
        ("ok", "done"),
    ]
    assert "baseline" not in events[0].result["rollout"]


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
    [event] = told(shop, "shade")
    [diff] = [check for check in event.result["verdict"]["checks"] if check["name"] == "diff"]
    assert (diff["status"], diff["n"] > 40) == ("pass", True)
    assert served(shop)["shade"].version == "1"


def test_without_enough_requests_a_rollout_waits(shop: Project) -> None:
    deploy(shop, "delays/1", as_="quiet")
    made = deploy(shop, "delays/3", as_="quiet", canary="50,100", bake="0s", slo="err<1%")
    assert made.state == "running"
    time.sleep(1.0)
    assert (state_of(shop, "quiet"), told(shop, "quiet")) == ("running", [])
    with pytest.raises(ConflictError, match="A rollout of delays/3 goes on at quiet"):
        deploy(shop, "delays/2", as_="quiet")


# --------------------------------------------------------------------- taken back
@pytest.mark.parametrize(
    ("kind", "slo", "why"),
    [
        ("raises", "err<1%", "err is"),
        pytest.param("slow", "p99<100ms", "p99", marks=pytest.mark.soak),
        pytest.param("shifted", "shift<0.2", "shift", marks=pytest.mark.soak),
    ],
)
def test_a_bad_version_is_taken_back_by_itself(
    shop: Project, moody: dict[str, str], kind: str, slo: str, why: str
) -> None:
    url = deploy(shop, f"moody/{moody['good']}", as_=kind).url
    bad = f"moody/{moody[kind]}"
    started = time.monotonic()
    with crowd(url, X, n_clients=4) as them:
        with pytest.raises(DeployError, match=rf"was rolled back: .*{why}") as failure:
            deploy(shop, bad, as_=kind, canary="50,100", bake="60s", slo=slo, wait=True)
        assert time.monotonic() - started < 30
        began = time.monotonic() + 1.0
        until(lambda: sum(them.since(began).values()) > 20)
    assert failure.value.exit_code == 7
    assert them.since(began).keys() == {f"moody/{moody['good']}"}
    assert all("not today" in failure for failure in them.failures)
    [event] = told(shop, kind)
    assert (event.outcome, event.result["rollout"]["state"]) == ("DeployError", "rolled_back")
    assert why in event.result["rollout"]["reason"]
    assert served(shop)[kind].rollout.startswith(f"{bad} rolled back: ")


@pytest.mark.soak
def test_a_version_that_is_bad_with_all_requests_alone_is_taken_back_too(shop: Project, moody: dict[str, str]) -> None:
    good, bad = f"moody/{moody['good']}", f"moody/{moody['raises']}"
    url = deploy(shop, good, as_="last").url
    with crowd(url, X, n_clients=4) as them:
        until(lambda: them.n_answered > 100)
        deploy(shop, bad, as_="last", blue_green=True, bake="60s", slo="err<1%")
        until(lambda: state_of(shop, "last") == "rolled_back", 30)
        began = time.monotonic() + 1.0
        until(lambda: sum(them.since(began).values()) > 20)
    assert them.since(began).keys() == {good}


# ------------------------------------------------------------------------ by hand
def test_weights_by_hand_take_effect_within_a_second_and_end_a_rollout(shop: Project) -> None:
    url = deploy(shop, "delays/1", as_="hand").url
    with crowd(url, DELAYS) as them:
        deploy(shop, "delays/3", as_="hand", canary="10,100", bake="60s", slo="err<1%")
        until(lambda: them.versions["delays/3"] > 5)
        set_at = time.monotonic()
        found = traffic(shop, "hand", {"3": "100"})
        until(lambda: them.since(time.monotonic() - 0.2).keys() == {"delays/3"}, 10)
        took_s = time.monotonic() - set_at
    assert them.failures == []
    assert took_s < 1.2
    assert (dict(found.weights), dict(found.previous)) == ({"1": 0.0, "3": 100.0}, {"1": 90.0, "3": 10.0})
    assert state_of(shop, "hand") == "aborted"
    for weights in ({"3": "120"}, {"3": "-1", "1": "101"}, {"3": "half"}, {"1": "10", "3": "10"}):
        with pytest.raises(UsageError):
            traffic(shop, "hand", weights)


def test_rollback_ends_a_rollout_and_without_one_goes_back(shop: Project) -> None:
    url = deploy(shop, "delays@champion", as_="back").url
    with crowd(url, DELAYS) as them:
        deploy(shop, "delays/3", as_="back", canary="10,100", bake="60s", slo="err<1%")
        until(lambda: them.versions["delays/3"] > 0)
        ended = rollback(shop, "delays")
        assert (ended.ended, ended.version, ended.previous) == (("back",), "1", "")
        until(lambda: served(shop)["back"].status == "answers")
        began = time.monotonic() + 0.2
        until(lambda: sum(them.since(began).values()) > 50)
    assert them.failures == []
    assert them.since(began).keys() == {"delays/1"}
    assert state_of(shop, "back") == "aborted"


def test_endpoints_go_with_their_alias_and_no_request_fails(
    shop: Project, flights: pd.DataFrame, moved: Project
) -> None:
    url = deploy(shop, "delays@champion", as_="follower").url
    with crowd(url, DELAYS) as them:
        promotion = promote(shop, "delays/3")
        assert promotion.switched == ("follower",)
        until(lambda: them.since(time.monotonic() - 0.3).keys() == {"delays/3"}, 10)
        back = rollback(shop, "delays")
        assert (back.version, back.switched) == ("1", ("follower",))
        until(lambda: them.since(time.monotonic() - 0.3).keys() == {"delays/1"}, 10)
    assert them.failures == []


@pytest.fixture
def moved(shop: Project, flights: pd.DataFrame) -> Project:
    """The shop with evidence for version 3, and a champion that was promoted."""
    (shop.root / "nbmlops.toml").write_text(
        '[project]\nname = "flights"\n[gates.default]\ntarget = "late"\nmetrics.roc_auc = { min = 0.5 }\n'
    )
    table = flights.assign(late=flights.late.astype(int))
    for version in ("1", "3"):
        validate(shop, f"delays/{version}", data=table)
    shop.open(Registry).set_alias("delays", "champion", "3")
    promote(shop, "delays/1")
    return shop


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
