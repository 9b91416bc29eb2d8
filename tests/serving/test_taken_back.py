"""Rollouts with real servers and real requests: taken back, and ended by hand."""

import time

import pytest

from nbmlops.errors import DeployError, UsageError
from nbmlops.project import Project
from nbmlops.registry.verbs import rollback
from nbmlops.serving.verbs import deploy, traffic
from tests.serving.conftest import rollout_events, served, state_of
from tests.serving.crowd import DELAYS, crowd, until, x

pytestmark = pytest.mark.usefixtures("kept_up")


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
    with crowd(url, x(3.0), n_clients=4) as them:
        with pytest.raises(DeployError, match=rf"was rolled back: .*{why}") as failure:
            deploy(shop, bad, as_=kind, canary="50,100", bake="60s", slo=slo, wait=True)
        assert time.monotonic() - started < 30
        began = time.monotonic() + 1.0
        until(lambda: sum(them.since(began).values()) > 20)
    assert failure.value.exit_code == 7
    assert them.since(began).keys() == {f"moody/{moody['good']}"}
    assert all("not today" in failure for failure in them.failures)
    [event] = rollout_events(shop, kind)
    assert (event.outcome, event.result["rollout"]["state"]) == ("DeployError", "rolled_back")
    assert why in event.result["rollout"]["reason"]
    assert served(shop)[kind].rollout.startswith(f"{bad} rolled back: ")


@pytest.mark.soak
def test_a_version_that_is_bad_with_all_requests_alone_is_taken_back_too(shop: Project, moody: dict[str, str]) -> None:
    good, bad = f"moody/{moody['good']}", f"moody/{moody['raises']}"
    url = deploy(shop, good, as_="last").url
    with crowd(url, x(3.0), n_clients=4) as them:
        until(lambda: them.n_answered > 100)
        deploy(shop, bad, as_="last", blue_green=True, bake="60s", slo="err<1%")
        until(lambda: state_of(shop, "last") == "rolled_back", 30)
        began = time.monotonic() + 1.0
        until(lambda: sum(them.since(began).values()) > 20)
    assert them.since(began).keys() == {good}


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
