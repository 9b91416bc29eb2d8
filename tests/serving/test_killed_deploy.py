"""A deploy that is killed midway: what was live answers, and the next deploy sets it right."""

import time
from typing import Any

import pytest

from nbmlops.project import Project
from nbmlops.serving.verbs import deploy
from tests.serving.conftest import POINTS, killed_at, served
from tests.serving.crowd import DELAYS, crowd, until


@pytest.mark.parametrize("point", POINTS)
def test_a_deploy_that_is_killed_leaves_what_was_live_and_the_next_one_sets_it_right(
    shop: Project, ended: Any, point: str
) -> None:
    ended("cut")
    url = deploy(shop, "delays/1", as_="cut").url
    with crowd(url, DELAYS, n_clients=3) as them:
        killed_at(shop, point, "delays/2", "cut")
        before = them.n_answered
        until(lambda: them.n_answered > before + 50)
        assert deploy(shop, "delays/3", as_="cut").url == url
        asked = time.monotonic() + 0.2
        until(lambda: sum(them.since(asked).values()) > 50)
    assert them.failures == []
    assert them.since(asked).keys() == {"delays/3"}
    assert served(shop)["cut"].status == "answers"
