"""What becomes of requests when the processes of a model are killed or stopped, or hang."""

import functools
import os
import signal
import time
from typing import Any

import psutil
import pytest

from nbmlops.project import Project
from nbmlops.serving.verbs import deploy
from tests.serving.conftest import children, looked_after, model_processes
from tests.serving.crowd import Crowd, answer, crowd, until, x


def test_a_model_process_that_is_killed_fails_no_request(shop: Project, moods: str) -> None:
    with crowd(moods, x(3.0)) as them:
        until(lambda: them.n_answered > 100)
        victim = children(shop)[0]
        victim.kill()
        until(lambda: len(children(shop)) == 2 and victim.pid not in [child.pid for child in children(shop)], 5)
        before = them.n_answered
        until(lambda: them.n_answered > before + 100)
    assert them.failures == []


def test_a_request_that_kills_the_model_is_told_so_and_others_go_on(shop: Project, moods: str) -> None:
    status, message = answer(moods, x(-1.0))
    assert (status, "died on this request" in message) == (503, True), message
    assert answer(moods, x(2.0)) == (200, [2.0])


def test_a_model_that_is_killed_again_and_again_comes_back(shop: Project, moods: str) -> None:
    for _ in range(5):
        assert answer(moods, x(-1.0))[0] == 503
    assert answer(moods, x(2.0)) == (200, [2.0])


@pytest.mark.soak
def test_a_model_that_hangs_is_ended_and_comes_back(shop: Project, moods: str) -> None:
    before = {child.pid for child in children(shop)}
    status, message = answer(moods, x(-3.0), timeout_s=60)
    assert (status, "No answer within 30 s" in message) == (504, True), message
    assert answer(moods, x(2.0)) == (200, [2.0])  # the other process is asked
    until(lambda: len({child.pid for child in children(shop)} - before) == 1)


def test_what_a_model_raises_is_told_and_is_no_failure_of_ours(moods: str) -> None:
    status, message = answer(moods, x(-2.0))
    assert (status, message) == (422, "The model cannot predict these rows: not today")


def test_the_parent_of_models_may_die_and_its_children_answer_until_another_is_there(shop: Project, moods: str) -> None:
    [parent] = model_processes(shop, "moods")
    with crowd(moods, x(3.0), n_clients=3) as them:
        until(lambda: them.n_answered > 50)
        os.kill(parent, signal.SIGKILL)
        killed_at = time.monotonic()
        until(lambda: sum(them.since(killed_at).values()) > 50)
        with looked_after(shop):
            until(lambda: len(model_processes(shop, "moods")) == 1 and len(children(shop)) == 2)
            assert parent not in model_processes(shop, "moods")
        began = time.monotonic()
        until(lambda: sum(them.since(began).values()) > 50)
    assert them.failures == []


@pytest.mark.soak
def test_models_have_as_many_processes_as_there_are_workers(shop: Project, moody: dict[str, str], ended: Any) -> None:
    ended("wide")
    url = deploy(shop, f"moody/{moody['good']}", as_="wide").url
    with crowd(url, x(3.0), n_clients=3) as them:
        for n in (3, 1):
            deploy(shop, f"moody/{moody['good']}", as_="wide", workers=n)
            until(functools.partial(has_processes, shop, n))
            until(functools.partial(has_answered, them, them.n_answered + 50))
    assert them.failures == []


def has_processes(shop: Project, n: int) -> bool:
    parents = model_processes(shop, "wide")
    return len(parents) == 1 and len(psutil.Process(min(parents)).children()) == n


def has_answered(them: Crowd, n: int) -> bool:
    return them.n_answered > n
