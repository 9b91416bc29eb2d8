"""What a worker answers: the raw ASGI application, and what it serves at the moment. No process, no file that changes.

Every answer names the model version that gave it in a header, and each request its id.
"""

import asyncio
import hashlib
import hmac
import itertools
import json
import re
import time
import traceback
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from nbmlops.errors import DataError, KernelError, NbmlopsError, NotFoundError, UsageError, nearest
from nbmlops.registry.forms import Form
from nbmlops.serving.capture.writing import Capture
from nbmlops.serving.counters import Tally
from nbmlops.serving.instructions import LOOPBACK, Bounds, Instructions
from nbmlops.serving.protocols import invocations, open_inference
from nbmlops.serving.protocols.limits import Limits
from nbmlops.serving.protocols.refusals import JSON, Answer, TooLargeError, refusal, refused
from nbmlops.serving.protocols.request import Request
from nbmlops.serving.routing import Router
from nbmlops.serving.scored import Model

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Page = Callable[[], bytes]  # JSON

GET = {"/ping": "GET", "/health": "GET", "/ready": "GET", "/version": "GET", "/metrics": "GET"}
PATHS = {**GET, "/openapi.json": "GET", "/docs": "GET", "/invocations": "POST"}
OPEN_PATHS = frozenset(("/ping", "/health", "/ready", "/v2/health/live", "/v2/health/ready"))  # that need no token
V2 = "/v2"
_LOCAL = re.compile(rb"([^.:]*|[\d.]+|\[[\da-f:.]+\]|.+\.(localhost|local|internal|test))(:\d*)?", re.IGNORECASE)
KEY, REQUEST_ID = b"nbmlops-key", b"nbmlops-request-id"
LONGEST_ID = 100
RETRY_S = "1"
MOST_BODIES = 8  # of the largest size that is taken, as many bytes may come in and wait at once
SHADOW = "shadow"  # the role of a version that answers nobody
SHADOWS_WAITING = 64  # requests that a shadow may be behind; more are not compared
DRAIN_BYTES = 512 * 2**20  # of a body that was refused: read and dropped, so that its sender reads the answer

DATATYPES = {  # of MLflow's signatures
    "boolean": "BOOL",
    "bool": "BOOL",
    "string": "BYTES",
    "str": "BYTES",
    "object": "BYTES",
    "integer": "INT32",
    "int32": "INT32",
    "long": "INT64",
    "int64": "INT64",
    "float": "FP32",
    "float32": "FP32",
}
_TYPES = {JSON: (b"content-type", JSON.encode())}  # of answers, ready to be sent
_FAILED = refused(500, NbmlopsError("The server failed on this request.", "Its server.log says why."))
_AGAIN = (("retry-after", RETRY_S),)
_BUSY = refused(429, NbmlopsError("Too many requests wait for this endpoint.", "Try again in a second."))._replace(
    headers=_AGAIN
)
GONE = 499  # nginx's status of a caller who has gone; nobody is there to read it
_GONE = refused(GONE, UsageError("The connection ended before the body did."))
_STRANGER = refused(
    421,
    UsageError(
        "This endpoint asks for no token, so it answers no request that names a public host.",
        "Send Host: localhost; or deploy it with a token.",
    ),
)


@dataclass(frozen=True)
class Variant:
    """A model version that is served now."""

    label: str
    role: str
    model: Model
    tally: Tally

    def __post_init__(self) -> None:
        object.__setattr__(self, "header", (b"nbmlops-model", self.label.encode("latin-1", "replace")))

    header: tuple[bytes, bytes] = field(init=False)


@dataclass(frozen=True)
class Live:
    """What is served at the moment: replaced as a whole."""

    instructions: Instructions
    variants: Mapping[str, Variant]
    router: Router
    shadows: Sequence[Variant]
    mlflow_version: bytes
    output: str = "FP64"  # the datatype of predictions, in the words of the Open Inference Protocol
    example: Any = None

    @property
    def first(self) -> Variant:
        """The champion."""
        return next(iter(self.variants.values()))

    @property
    def served(self) -> open_inference.Served:
        """What the Open Inference Protocol tells of it."""
        versions = tuple(variant.label.rpartition("/")[2] for variant in self.variants.values())
        return open_inference.Served(self.instructions.model, versions, self.first.model.schema, self.output)


def live_of(instructions: Instructions, variants: Mapping[str, Variant], forms: Mapping[str, Form]) -> Live:
    """Put together what is served: versions that can be asked, by their labels, as instructions share requests."""
    first = forms[instructions.variants[0].label]
    example = next((forms[each.label].example for each in instructions.variants if forms[each.label].example), "")
    return Live(
        instructions,
        variants,
        Router({each.label: each.weight for each in instructions.variants if each.weight}),
        [variants[each.label] for each in instructions.variants if each.role == SHADOW],
        first.mlflow_version.encode(),
        _datatype(first.outputs),
        json.loads(example) if example else None,
    )


def _datatype(outputs: str) -> str:
    """Word the type of a model's predictions as the Open Inference Protocol does; numbers where it is not known."""
    columns = json.loads(outputs) if outputs else []
    kind = columns[0].get("tensor-spec", {}).get("dtype") or columns[0].get("type") if columns else ""
    return DATATYPES.get(str(kind), "FP64")


class Asked(NamedTuple):
    """A request's head, as far as it matters."""

    method: str
    path: str
    content_type: str
    length: int | None
    token: str
    key: bytes | None
    request_id: bytes
    host: bytes
    v2_header_length: str | None


Given = tuple[Variant | None, Answer]  # an answer, and the version that gave it


class Service:
    """The application of one worker."""

    def __init__(
        self,
        live: Live,
        capture: Capture | None,
        counted: Callable[[], str],
        refused: Callable[[int], None],
        pages: Mapping[str, Page] | None = None,
    ) -> None:
        self.live = live
        self.capture = capture
        self.is_ending = False
        self.refused = refused  # counts an answer that is an error, by its status
        self._counted = counted  # the endpoint's metrics, over all its workers
        self._pages = pages or {}  # beside those that every server has
        self._n_open = self._n_bytes = 0  # requests that wait, and bytes of bodies that come in or wait
        self._n_shadowed = 0

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        asked = head(scope)
        variant, given = await self._given(asked, receive)
        if given.status >= 400 and given.status != GONE:
            self.refused(given.status)
        headers = [
            _TYPES.get(given.content_type) or (b"content-type", given.content_type.encode()),
            (b"content-length", b"%d" % len(given.body)),
            (REQUEST_ID, asked.request_id),
        ]
        if variant:
            headers.append(variant.header)
        if given.headers:
            headers.extend((name.encode(), value.encode()) for name, value in given.headers)
        if self.is_ending or given.status in (408, 413):
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": given.status, "headers": headers})
        body = b"" if asked.method == "HEAD" else given.body
        if given.status == 413:
            await send({"type": "http.response.body", "body": body, "more_body": True})
            await _drop_body(receive)
            body = b""
        await send({"type": "http.response.body", "body": body})

    async def _given(self, asked: Asked, receive: Receive) -> Given:
        """Give the answer, and the version that gave it."""
        live = self.live
        refusal = self._refusal(asked, live)
        if asked.path == "/invocations":
            return (None, refusal) if refusal else await self._score(live, asked, receive)
        if _is_v2(asked.path):
            variant, given = (None, refusal) if refusal else await self._open_inference(live, asked, receive)
            return variant, open_inference.reworded(given)
        return (None, refusal) if refusal else (live.first, self._page(live, asked.path))

    def _refusal(self, asked: Asked, live: Live) -> Answer | None:
        """Refuse what is not here, not allowed, or too much."""
        path, method = asked.path, asked.method.replace("HEAD", "GET")
        if path in PATHS or path in self._pages:
            allowed = PATHS.get(path, "GET")
        elif _is_v2(path):
            allowed = "POST" if open_inference.infer_target(path) else "GET"
        else:
            return refused(404, NotFoundError("There is no such path.", nearest(path[:50], PATHS)))
        if live.instructions.token:
            if path not in OPEN_PATHS and not _is_token(asked.token, live.instructions.token):
                answer = refused(401, UsageError("This endpoint asks for its token.", "Authorization: Bearer TOKEN"))
                return answer._replace(headers=(("www-authenticate", "Bearer"),))
        elif live.instructions.address in LOOPBACK and not _is_of_here(asked.host):
            return _STRANGER
        if method != allowed:
            return _not_allowed(allowed)
        return self._overload(asked, live) if allowed == "POST" else None

    def _overload(self, asked: Asked, live: Live) -> Answer | None:
        limits, bounds = live.instructions.limits, live.instructions.bounds
        if asked.length is not None and asked.length > limits.max_body_bytes:
            return too_large(asked.length, limits)
        if self._n_open >= bounds.max_waiting or self._n_bytes > MOST_BODIES * limits.max_body_bytes:
            return _BUSY
        return None

    # ------------------------------------------------------------------ predictions
    async def _score(self, live: Live, asked: Asked, receive: Receive) -> Given:
        body = await self._body(receive, live.instructions.limits)
        if isinstance(body, Answer):
            return None, body
        variant = live.variants[live.router.choose(asked.key)]
        limits = live.instructions.limits
        request = invocations.read(body, asked.content_type, variant.model.schema, limits)
        return variant, await self._answered(live, variant, asked, request)

    async def _open_inference(self, live: Live, asked: Asked, receive: Receive) -> Given:
        target = open_inference.infer_target(asked.path)
        if target is None:
            answer = open_inference.answer_get(asked.path, live.served, is_ready=not self.is_ending)
            return live.first, answer or open_inference.refused(NotFoundError("There is no such path."))
        name, version = target
        if error := open_inference.unknown(name, version, live.served):
            return None, open_inference.refused(error)
        body = await self._body(receive, live.instructions.limits)
        if isinstance(body, Answer):
            return None, body
        variant = live.variants[f"{name}/{version}" if version else live.router.choose(asked.key)]
        limits = live.instructions.limits
        request = open_inference.read(body, asked.v2_header_length, asked.content_type, live.served, limits)
        return variant, await self._answered(live, variant, asked, request)

    async def _body(self, receive: Receive, limits: Limits) -> bytes | Answer:
        """Read a request's body, up to the limits; how long it may take is watched with its connection."""
        message = await receive()
        if message["type"] == "http.request" and not message["more_body"]:
            body: bytes = message["body"]
            return body if len(body) <= limits.max_body_bytes else too_large(len(body), limits)
        parts: list[bytes] = []
        size = 0
        try:
            while message["type"] == "http.request":
                parts.append(message["body"])
                size += len(parts[-1])
                self._n_bytes += len(parts[-1])
                if size > limits.max_body_bytes:
                    return too_large(size, limits)
                if not message["more_body"]:
                    return b"".join(parts)
                if self._n_bytes > MOST_BODIES * limits.max_body_bytes:
                    return _BUSY
                message = await receive()
        finally:
            self._n_bytes -= size
        return _GONE

    async def _answered(self, live: Live, variant: Variant, asked: Asked, request: Request | Answer) -> Answer:
        """Have a version answer, count it, and keep it."""
        if isinstance(request, Answer):
            variant.tally.began()
            variant.tally.refused()
            return request
        started = time.perf_counter()
        variant.tally.began()
        self._n_open += 1
        self._n_bytes += len(request.body)
        try:
            answer, found = await self._in_time(variant.model, request, live.instructions.bounds)
        finally:
            self._n_open -= 1
            self._n_bytes -= len(request.body)
        seconds = time.perf_counter() - started
        _count(variant.tally, answer.status, found, seconds, request.n_rows)
        self._keep(asked, variant, request, answer, found, seconds)
        if live.shadows and answer.status == 200:
            self._shadow(live, asked, request, found)
        return answer

    async def _in_time(self, model: Model, request: Request, bounds: Bounds) -> tuple[Answer, Sequence[Any]]:
        try:
            return await model.answer(request)
        except TimeoutError:  # the worker looks for those that wait too long
            late = KernelError(f"No answer within {bounds.deadline_s:g} s.", "Send fewer rows, or try again.")
            return refused(504, late)._replace(headers=_AGAIN), ()
        except KernelError as exc:
            return refused(503, exc)._replace(headers=_AGAIN), ()
        except (DataError, UsageError) as exc:  # the model does not take these rows: their sender's mistake
            return refused(exc.http_status, exc), ()
        except Exception:  # noqa: BLE001  # a bug of the model's or ours: it is logged here, and the service goes on
            traceback.print_exc()
            return _FAILED, ()

    # ---------------------------------------------------------------------- aside
    def _keep(
        self, asked: Asked, variant: Variant, request: Request, answer: Answer, found: Sequence[Any], seconds: float
    ) -> None:
        if self.capture is None:
            return
        is_plain = request.is_invocation and not self.capture.settings.filters
        self.capture.add(
            asked.request_id.decode("latin-1"),
            time.time_ns() - int(seconds * 1e9),
            variant.label,
            variant.role,
            seconds,
            request.body if is_plain else request.columns,
            answer.body if is_plain else found,
            request.content_type,
            answer.status,
        )

    def _shadow(self, live: Live, asked: Asked, request: Request, found: Sequence[Any]) -> None:
        """Have the shadows say what they would have answered, after the caller has got the answer."""
        for shadow in live.shadows:
            if self._n_shadowed < SHADOWS_WAITING:
                self._n_shadowed += 1
                task = asyncio.get_running_loop().create_task(self._compare(live, shadow, asked, request, found))
                _running.add(task)
                task.add_done_callback(_running.discard)

    async def _compare(self, live: Live, shadow: Variant, asked: Asked, request: Request, found: Sequence[Any]) -> None:
        started = time.perf_counter()
        shadow.tally.began()
        try:
            answer, also = await self._in_time(shadow.model, request, live.instructions.bounds)
        finally:
            self._n_shadowed -= 1
        seconds = time.perf_counter() - started
        _count(shadow.tally, answer.status, also, seconds, request.n_rows)
        if len(also) == len(found):
            shadow.tally.compared(also, found)
        self._keep(asked, shadow, request, answer, also, seconds)

    # ---------------------------------------------------------------------- pages
    def _page(self, live: Live, path: str) -> Answer:
        if path == "/version":
            return Answer(200, live.mlflow_version, "text/plain")
        if path == "/metrics":
            return Answer(200, self._counted().encode(), "text/plain; version=0.0.4; charset=utf-8")
        if path in ("/openapi.json", "/docs"):
            return _described(live, path)
        if path in self._pages:
            return Answer(200, self._pages[path]())
        if path == "/ready" and self.is_ending:
            return refused(503, NbmlopsError("This server is about to end."))
        return Answer(200, b"\n")


_running: set["asyncio.Task[None]"] = set()  # asyncio itself holds tasks weakly


def head(scope: Mapping[str, Any]) -> Asked:
    """Read what matters of a request's head."""
    found: dict[bytes, bytes] = {name: value for name, value in scope["headers"] if name in _HEADERS}
    length, request_id = found.get(b"content-length"), found.get(REQUEST_ID)
    return Asked(
        scope["method"],
        scope["path"],
        found.get(b"content-type", b"").decode("latin-1"),
        int(length) if length and length.isdigit() else None,
        found.get(b"authorization", b"").decode("latin-1"),
        found.get(KEY),
        request_id[:LONGEST_ID] if request_id else b"%s-%x" % (_PROCESS, next(_numbers)),
        found.get(b"host", b""),
        found.get(b"inference-header-content-length", b"").decode("latin-1") or None,
    )


_HEADERS = frozenset(
    (b"host", b"content-type", b"content-length", b"authorization", b"inference-header-content-length", KEY, REQUEST_ID)
)
_PROCESS = uuid.uuid4().hex[:16].encode()  # ids of requests: this process, and a number
_numbers = itertools.count()


async def _drop_body(receive: Receive) -> None:
    """Read on for a moment what a caller sends who was refused, so that the answer is not lost with the connection."""
    size = 0
    while size < DRAIN_BYTES:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            return


def too_large(size: int, limits: Limits) -> Answer:
    """Refuse a body of so many bytes, or more."""
    limit = f"{limits.max_body_bytes / 2**20:g} MB"
    return refusal(
        TooLargeError(f"The body has {size:,} bytes or more; at most {limit} are taken.", "Send fewer rows.")
    )


def _is_v2(path: str) -> bool:
    return path.startswith(V2) and path[len(V2) : len(V2) + 1] in ("", "/")


@lru_cache(maxsize=64)
def _is_of_here(host: bytes) -> bool:
    """Say whether a host's name can be none of a site on the Internet, which a browser may have been led here by."""
    return _LOCAL.fullmatch(host) is not None


def _not_allowed(allowed: str) -> Answer:
    return refused(405, UsageError(f"This path takes {allowed} alone."))._replace(headers=(("allow", allowed),))


def _is_token(given: str, digest: str) -> bool:
    kind, _, token = given.partition(" ")
    return kind.lower() == "bearer" and hmac.compare_digest(hashlib.sha256(token.encode("latin-1")).hexdigest(), digest)


def _count(tally: Tally, status: int, found: Sequence[Any], seconds: float, n_rows: int) -> None:
    if status == 200:
        tally.answered(seconds, n_rows)
        if len(found) == 1:
            tally.predicted_one(found[0])
        else:
            tally.predicted(found)
    elif status >= 500 or status == 422:  # rows that fit the signature: a version that takes fewer of them is worse
        tally.failed(seconds, n_rows)
    else:
        tally.refused()


def _described(live: Live, path: str) -> Answer:
    from nbmlops.serving.protocols import openapi  # seldom asked for

    instructions = live.instructions
    document = openapi.document(
        instructions.endpoint,
        live.first.label,
        live.first.model.schema,
        live.example,
        needs_token=bool(instructions.token),
    )
    if path == "/openapi.json":
        return Answer(200, orjson.dumps(document))
    nonce = uuid.uuid4().hex
    policy = ("content-security-policy", openapi.policy(nonce))
    return Answer(200, openapi.page(document, nonce), "text/html; charset=utf-8", (policy,))
