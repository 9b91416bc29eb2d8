"""A model version as a worker uses it: compiled and scored right here, or asked of its model processes."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import orjson

from nbmlops.errors import DeployError, KernelError
from nbmlops.registry.forms import Form
from nbmlops.scoring.compiled import Compiled
from nbmlops.scoring.scorer import Scorer
from nbmlops.serving.batching import Batcher
from nbmlops.serving.instructions import COMPILED, ONNX, Bounds, ServedVariant
from nbmlops.serving.protocols import invocations
from nbmlops.serving.protocols.limits import LIMITS
from nbmlops.serving.protocols.refusals import JSON, Answer
from nbmlops.serving.protocols.request import Request
from nbmlops.serving.schema import Schema
from nbmlops.serving.wire import FRAME, REPLY

RECONNECT_S = 0.05
N_WARMING = 3  # answers that nobody asked for
N_TRIES = 2  # of a request whose model process has died


Answered = tuple[Answer, Sequence[Any]]  # an answer, and the predictions that it words


class Model(Protocol):
    """What a worker asks for predictions."""

    label: str
    schema: Schema

    async def answer(self, request: Request) -> Answered:
        """Predict each row of a request, and word the answer."""

    def expire(self, before: float) -> None:
        """Give up what waits since before a time of the loop's."""

    def follow(self, sockets: Sequence[str]) -> None:
        """Ask at these sockets from now on."""

    def close(self) -> None:
        """Let go of what it holds."""


# ---------------------------------------------------------------------- compiled
class CompiledModel:
    """A compiled model: requests that come together are scored together."""

    def __init__(self, label: str, scorer: Scorer, schema: Schema, latency_s: float = Bounds.latency_s) -> None:
        self.label = label
        self.schema = schema
        self._names = names_of(label)
        self._scorer = scorer
        self._batcher = Batcher(self._scored, latency_s)

    @classmethod
    def load(cls, folder: Path, form: Form, label: str = "", latency_s: float = Bounds.latency_s) -> Self:
        """Read a compiled form.

        Raises
        ------
        DeployError
            It is not there, or is none.
        """
        try:
            compiled = Compiled.from_bytes((folder / COMPILED).read_bytes())
        except OSError as exc:
            raise DeployError(f"The compiled form of {label} cannot be read: {exc.strerror}.") from exc
        schema = Schema.of(form.inputs or None).requiring(compiled.inputs)
        return cls(label, _scorer(compiled, folder), schema, latency_s)

    async def answer(self, request: Request) -> Answered:
        """Predict each row of a request, and word the answer."""
        found = await self._batcher.submit(request)
        return request.answer(found, *self._names), found

    def answered(self, body: bytes) -> list[Any]:
        """Give the predictions of a body of MLflow's, as its answer has them.

        Raises
        ------
        ValueError
            It is refused; the message says why.
        """
        read = invocations.read(body, JSON, self.schema, LIMITS)
        given = read if isinstance(read, Answer) else read.answer(self._scored([read])[0])
        content = orjson.loads(given.body)
        if given.status != 200:
            raise ValueError(content["error"]["message"])
        return list(content["predictions"])

    def _scored(self, requests: Sequence[Request]) -> list[Any]:
        if len(requests) == 1:
            return [self._scorer.predict(self._arrays(requests[0]))]
        if any(request.is_array for request in requests):
            return [self._scorer.predict(self._arrays(request)) for request in requests]
        together = {
            name: list(itertools.chain.from_iterable([request.columns[name] for request in requests]))
            for name in requests[0].columns
        }
        found = self._scorer.predict(self.schema.arrays(together))
        ends = itertools.accumulate(request.n_rows for request in requests)
        return [found[end - request.n_rows : end] for request, end in zip(requests, ends, strict=True)]

    def _arrays(self, request: Request) -> dict[Any, np.ndarray]:
        return dict(request.columns) if request.is_array else self.schema.arrays(request.columns)

    def expire(self, before: float) -> None:
        """Give up what waits since before a time of the loop's."""
        self._batcher.expire(before)

    def follow(self, sockets: Sequence[str]) -> None:
        """Nobody else is asked."""

    def close(self) -> None:
        """Nothing is held."""


def _scorer(compiled: Compiled, folder: Path) -> Scorer:
    """Score by ONNX Runtime where that was found to be faster and is installed here too; else by numpy."""
    from nbmlops.scoring import onnx

    trees = folder / ONNX
    if trees.exists() and onnx.is_installed():
        return onnx.with_onnx(compiled, trees.read_bytes())
    return Scorer(compiled)


# ------------------------------------------------------------- in processes of its own
class _GoneError(Exception):
    """A model process went away with what it was asked."""


class _Line(asyncio.Protocol):
    """A connection to one model process."""

    def __init__(self) -> None:
        self.asked: dict[int, asyncio.Future[tuple[int, bytes]]] = {}
        self._since: dict[int, float] = {}
        self.is_open = False
        self.is_late = False  # it has not answered since something took too long
        self.lost = asyncio.Event()
        self._transport: Any = None
        self._come = bytearray()
        self._numbers = itertools.count()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self.is_open = transport, True

    def connection_lost(self, _: Exception | None) -> None:
        self.is_open = False
        self.lost.set()
        for answer in self.asked.values():
            if not answer.done():
                answer.set_exception(_GoneError())
        self.asked.clear()

    def data_received(self, data: bytes) -> None:
        self._come += data
        while len(self._come) >= REPLY.size:
            length, number, status = REPLY.unpack_from(self._come)
            end = REPLY.size + length
            if len(self._come) < end:
                return
            body = bytes(self._come[REPLY.size : end])
            del self._come[:end]
            self.is_late = False
            if not status:  # `wire.GOING`: another process listens in its place
                self.is_open = False
                self.lost.set()
                continue
            answer = self.asked.pop(number, None)
            self._since.pop(number, None)
            if answer and not answer.done():
                answer.set_result((status, body))

    def ask(self, body: bytes, content_type: str) -> "asyncio.Future[tuple[int, bytes]]":
        number = next(self._numbers) & 0xFFFFFFFF
        answer: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self.asked[number] = answer
        self._since[number] = asyncio.get_running_loop().time()
        kind = content_type.encode("latin-1", "replace")
        self._transport.write(FRAME.pack(len(kind) + len(body), number, len(kind)) + kind + body)
        return answer

    def expire(self, before: float) -> None:
        for number, since in list(self._since.items()):
            if since > before:
                return
            del self._since[number]
            self.is_late = True
            late = self.asked.pop(number, None)
            if late and not late.done():
                late.set_exception(TimeoutError())

    def close(self) -> None:
        if self._transport:
            self._transport.close()


class RemoteModel:
    """A model in processes of its own: each request goes to the one that has the least to do."""

    def __init__(self, label: str, schema: Schema, sockets: Sequence[str], patience_s: float) -> None:
        self._patience_s = patience_s
        self.label = label
        self.schema = schema
        self._names = names_of(label)
        self._lines: dict[str, _Line] = {}
        self._keeping: dict[str, asyncio.Task[None]] = {}
        self._opened = asyncio.Event()
        self.follow(sockets)

    def follow(self, sockets: Sequence[str]) -> None:
        """Ask at these sockets from now on; what was asked elsewhere is answered still."""
        for gone in self._keeping.keys() - set(sockets):
            self._keeping.pop(gone).cancel()
            self._lines.pop(gone, None)
        for new in set(sockets) - self._keeping.keys():
            self._keeping[new] = asyncio.get_running_loop().create_task(self._keep(new))

    async def answer(self, request: Request) -> Answered:
        """Predict each row of a request, and word the answer; what the model refuses is an answer without predictions.

        Raises
        ------
        KernelError
            Its process died with the request, and another one did so too.
        """
        body, content_type = request.invocation()
        for _ in range(N_TRIES):
            with contextlib.suppress(_GoneError):
                line = await self._free_line()
                return worded(request, self._names, *await line.ask(body, content_type))
        raise KernelError(f"The process of {self.label} died on this request.", "Its server.log says why.")

    def expire(self, before: float) -> None:
        """Give up what waits since before a time of the loop's."""
        for line in self._lines.values():
            line.expire(before)

    async def _free_line(self) -> _Line:
        while not (lines := [line for line in self._lines.values() if line.is_open]):
            self._opened.clear()
            async with asyncio.timeout(self._patience_s):
                await self._opened.wait()
        return min(lines, key=lambda line: (line.is_late, len(line.asked)))

    async def _keep(self, socket: str) -> None:
        """Stay connected to a model process, whichever listens there."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                _, line = await loop.create_unix_connection(_Line, socket)
            except OSError:
                await asyncio.sleep(RECONNECT_S)
                continue
            self._lines[socket] = line
            self._opened.set()
            await line.lost.wait()

    def close(self) -> None:
        """Let go of the connections."""
        for task in self._keeping.values():
            task.cancel()
        for line in self._lines.values():
            line.close()


def names_of(label: str) -> tuple[str, str]:
    """Split a label, ``name/version``, for answers that name both."""
    name, _, version = label.rpartition("/")
    return name, version


def worded(request: Request, names: tuple[str, str], status: int, body: bytes) -> Answered:
    """Word as its caller wants it what a model in another process has answered in MLflow's protocol."""
    if status != 200:
        return Answer(status, body), ()
    found = _loads(body)["predictions"]
    return Answer(status, body) if request.is_invocation else request.answer(np.asarray(found), *names), found


def _loads(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except ValueError:
        return json.loads(body)  # MLflow writes NaN, which is no JSON, as Python does


def loaded(endpoint: Path, variant: ServedVariant, form: Form, bounds: Bounds) -> Model:
    """Make a model version ready to be asked; a compiled one is read, for others its processes are connected to."""
    if variant.form == "compiled":
        model = CompiledModel.load(endpoint / variant.folder, form, variant.label, bounds.latency_s)
        for _ in range(N_WARMING if form.example else 0):
            model.answered(form.example.encode())  # the first of a process are slow, and no caller's matter
        return model
    schema = Schema.of(form.inputs or None)
    return RemoteModel(variant.label, schema, variant.sockets, bounds.deadline_s)
