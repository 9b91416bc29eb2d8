"""What becomes of requests when a model's processes are stopped, or are to end."""

import time
from collections import Counter

import psutil

from nbmlops.project import Project
from nbmlops.serving.verbs import deploy, undeploy
from tests.serving.conftest import children, model_processes, servers
from tests.serving.crowd import crowd, until, x
from tests.serving.raw_http import asked, deployed, port_of


def test_a_model_process_that_is_stopped_is_replaced_and_another_one_answers_what_it_was_asked(
    shop: Project, moods: str
) -> None:
    with crowd(moods, x(3.0)) as them:
        until(lambda: them.n_answered > 100)
        victim = children(shop)[0]
        victim.suspend()
        stopped_at = time.monotonic()
        try:
            until(lambda: sum(them.since(stopped_at).values()) > 100, 5)
            until(lambda: len(children(shop)) == 2 and victim not in children(shop), 15)
        finally:
            if victim.is_running():
                victim.resume()
    assert them.failures == []


def test_what_a_stopped_process_was_asked_is_refused_in_time_where_there_is_no_other(
    shop: Project, moody: dict[str, str]
) -> None:
    with deployed(shop, f"moody/{moody['good']}", "lonely", 'deadline = "1s"') as live:
        [parent] = model_processes(shop, "lonely")
        [victim] = psutil.Process(parent).children()
        victim.suspend()
        began = time.monotonic()
        answer = asked(port_of(live), body=x(2.0))
        assert (answer.status, "No answer within 1 s" in answer.json["error"]["message"]) == (504, True)
        assert time.monotonic() - began < 2
        statuses = Counter(asked(port_of(live), body=x(2.0)).status for _ in range(10))
        assert statuses.keys() == {200, 504}, "it is replaced"
        assert not victim.is_running()
        assert asked(port_of(live), body=x(2.0)).json == {"predictions": [2.0]}
        [another] = psutil.Process(parent).children()
        another.suspend()
    assert not another.is_running(), "it keeps no endpoint from ending"


def test_what_was_begun_is_finished_when_an_endpoint_is_undeployed(shop: Project, moody: dict[str, str]) -> None:
    url = deploy(shop, f"moody/{moody['good']}", as_="drain").url
    with crowd(url, x(-4.0), n_clients=4, pause_s=0.0) as them:  # each takes 0.3 s
        until(lambda: them.n_answered >= 4)
        undeploy(shop, "drain")
    lost = [failure for failure in them.failures if "refused" not in failure.lower()]
    assert lost == [], "a request that was taken was not finished"
    assert servers(shop, "drain") == model_processes(shop, "drain") == set()
