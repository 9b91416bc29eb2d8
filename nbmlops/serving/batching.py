"""Requests scored together, without a timer: a batch begins when nothing more is there to be read.

A request that comes alone is scored at once; under load batches grow by themselves, up to what can be scored
within a bound.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from nbmlops.serving.protocols.request import Request

Score = Callable[[Sequence[Request]], Sequence[Any]]

INLINE_S = 0.002  # a batch that takes longer is scored by a thread, and the loop goes on
SMOOTHING = 0.1  # weight of the newest measurement of a row's cost
FIRST_ROW_S = 1e-4  # a row's cost before one was measured
MOST_LOOKS = 4  # at what else has come, before a batch begins


class _Waiting(NamedTuple):
    request: Request
    answer: "asyncio.Future[Any]"
    since: float


class Batcher:
    """Scores requests in batches.

    Parameters
    ----------
    score
        Gives one answer for each request; what it raises is raised to every request of the batch, unless the
        batch is more than one: then each is scored alone.
    latency_s
        A batch grows no further than can be scored in this time, in seconds, as far as is known beforehand.
    """

    def __init__(self, score: Score, latency_s: float) -> None:
        self._score = score
        self._latency_s = latency_s
        self._row_s = FIRST_ROW_S
        self._waiting: deque[_Waiting] = deque()
        self._is_due = False
        self._is_busy = False
        self._n_seen = self._n_looks = 0

    def submit(self, request: Request) -> "asyncio.Future[Any]":
        """Have a request scored with what else is there when its turn comes."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        self._waiting.append(_Waiting(request, answer, loop.time()))
        if not self._is_due and not self._is_busy:
            self._is_due = True
            loop.call_soon(self._begin)
        return answer

    def expire(self, before: float) -> None:
        """Give up what waits since before a time of the loop's."""
        while self._waiting and self._waiting[0].since < before:
            late = self._waiting.popleft().answer
            if not late.done():
                late.set_exception(TimeoutError())

    def _begin(self) -> None:
        """Begin a batch, unless requests still come in: between two calls the loop reads what is there."""
        if len(self._waiting) > self._n_seen and self._n_looks < MOST_LOOKS:
            self._n_seen, self._n_looks = len(self._waiting), self._n_looks + 1
            asyncio.get_running_loop().call_soon(self._begin)
            return
        self._is_due, self._n_seen, self._n_looks = False, 0, 0
        batch, n_rows = self._next()
        if not batch:
            return
        loop = asyncio.get_running_loop()
        if n_rows * self._row_s <= INLINE_S:
            started = loop.time()
            outcome = self._scored(batch)
            self._end(batch, outcome, n_rows, loop.time() - started)
        else:
            self._is_busy = True
            task = loop.create_task(self._aside(batch, n_rows))
            task.add_done_callback(_raise)

    async def _aside(self, batch: list[_Waiting], n_rows: int) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            outcome = await asyncio.to_thread(self._scored, batch)
        finally:
            self._is_busy = False
        self._end(batch, outcome, n_rows, loop.time() - started)

    def _next(self) -> tuple[list[_Waiting], int]:
        """Take what is scored together: the first request, and those after it that fit within the bound."""
        batch: list[_Waiting] = []
        n_rows, most = 0, self._latency_s / self._row_s
        while self._waiting:
            rows = self._waiting[0].request.n_rows
            if batch and n_rows + rows > most:
                break
            first = self._waiting.popleft()
            if not first.answer.done():  # who asked may have gone
                batch.append(first)
                n_rows += rows
        return batch, n_rows

    def _scored(self, batch: list[_Waiting]) -> Sequence[Any]:
        try:
            return self._score([each.request for each in batch])
        except Exception as exc:  # noqa: BLE001  # it is told to whoever asked
            return [exc] if len(batch) == 1 else [self._scored([each])[0] for each in batch]

    def _end(self, batch: list[_Waiting], outcome: Sequence[Any], n_rows: int, seconds: float) -> None:
        self._row_s += SMOOTHING * (seconds / max(n_rows, 1) - self._row_s)
        for each, answer in zip(batch, outcome, strict=True):
            if each.answer.done():
                continue
            if isinstance(answer, Exception):
                each.answer.set_exception(answer)
            else:
                each.answer.set_result(answer)
        if self._waiting and not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._begin)


def _raise(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (exc := task.exception()):
        raise exc
