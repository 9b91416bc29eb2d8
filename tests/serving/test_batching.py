"""Requests that come together are scored together, within the bound of a batch, and each gets its own answer."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from nbmlops.serving.batching import FIRST_ROW_S, INLINE_S, Batcher
from nbmlops.serving.protocols.refusals import Answer
from nbmlops.serving.protocols.request import Request

N_SLOW = int(INLINE_S / FIRST_ROW_S) + 1  # rows of a batch that is scored beside the loop


class Scores:
    """Doubles what it is asked, keeps the sizes of its batches, and waits in each until it may go on."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.begun, self.may_go_on = threading.Event(), threading.Event()
        self.may_go_on.set()

    def __call__(self, asked: Sequence[Request]) -> list[Any]:
        self.sizes.append(len(asked))
        self.begun.set()
        assert self.may_go_on.wait(10)
        if any(each.columns["x"] < 0 for each in asked):
            raise ValueError("no number below zero")
        return [each.columns["x"] * 2 for each in asked]


def of(x: int, n_rows: int = 1) -> Request:
    return Request({"x": x}, n_rows, lambda *_: Answer(200, b""), b"", "")  # type: ignore[dict-item]


def test_what_is_there_at_once_is_one_batch_and_each_gets_its_own_answer() -> None:
    scores = Scores()

    async def ask() -> list[Any]:
        batcher = Batcher(scores, 0.02)
        return await asyncio.gather(*(batcher.submit(of(number)) for number in range(15)))

    assert asyncio.run(ask()) == [number * 2 for number in range(15)]
    assert scores.sizes == [15]


def test_one_that_comes_alone_is_scored_before_the_loop_waits_for_anything() -> None:
    scores = Scores()

    async def ask() -> Any:
        answer = Batcher(scores, 0.02).submit(of(4))
        for _ in range(5):  # turns of the loop, and no moment of time
            await asyncio.sleep(0)
        return answer.result()

    assert asyncio.run(ask()) == 8


def test_what_comes_while_a_batch_is_scored_is_the_next_batch() -> None:
    scores = Scores()
    scores.may_go_on.clear()

    async def ask() -> list[Any]:
        batcher = Batcher(scores, 1.0)
        first = [batcher.submit(of(number)) for number in range(N_SLOW)]
        await asyncio.to_thread(scores.begun.wait, 10)
        then = [batcher.submit(of(number)) for number in range(9)]
        scores.may_go_on.set()
        return await asyncio.gather(*first, *then)

    assert len(asyncio.run(ask())) == N_SLOW + 9
    assert scores.sizes == [N_SLOW, 9]


def test_no_batch_grows_beyond_its_bound_but_a_request_is_never_cut() -> None:
    scores = Scores()

    async def ask() -> None:
        batcher = Batcher(scores, 10 * FIRST_ROW_S)
        await asyncio.gather(batcher.submit(of(0, n_rows=15)), *(batcher.submit(of(number)) for number in range(12)))

    asyncio.run(ask())
    assert scores.sizes[0] == 1
    assert sum(scores.sizes) == 13


def test_a_row_that_fails_fails_its_own_request_alone() -> None:
    async def ask() -> list[Any]:
        batcher = Batcher(Scores(), 0.02)
        return await asyncio.gather(*(batcher.submit(of(x)) for x in (1, -1, 3)), return_exceptions=True)

    one, two, three = asyncio.run(ask())
    assert (one, three) == (2, 6)
    assert isinstance(two, ValueError)


def test_who_waits_too_long_is_given_up_and_who_has_gone_is_not_scored() -> None:
    scores = Scores()
    scores.may_go_on.clear()

    async def ask() -> Any:
        batcher = Batcher(scores, 1.0)
        busy = [batcher.submit(of(number)) for number in range(N_SLOW)]
        await asyncio.to_thread(scores.begun.wait, 10)
        late, gone = batcher.submit(of(1)), batcher.submit(of(2))
        batcher.expire(asyncio.get_running_loop().time() + 1)
        patient, leaving = batcher.submit(of(3)), batcher.submit(of(4))
        leaving.cancel()
        scores.may_go_on.set()
        await asyncio.gather(*busy)
        with pytest.raises(TimeoutError):
            await late
        with pytest.raises(TimeoutError):
            await gone
        return await patient

    assert asyncio.run(ask()) == 6
    assert scores.sizes == [N_SLOW, 1]
