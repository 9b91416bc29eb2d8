"""Webhooks: a small listener of the agent's, on this machine alone, that queues runs for those who know the token.

``POST /hooks/NAME`` with ``Authorization: Bearer TOKEN`` and, if it likes, ``{"parameters": {...}}``. Whoever calls is
not trusted beyond that: only declared parameters are taken, no secrets and no references to any, from a body of limited
size; nothing but a row in the ledger's queue comes of it. With an ``Idempotency-Key`` a call that is repeated starts
one run.
"""

import hashlib
import hmac
import json
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

from nbmlops import secrets
from nbmlops.agent import deciding
from nbmlops.errors import NbmlopsError, StoreError, UsageError
from nbmlops.ledger.database import Ledger
from nbmlops.ledger.schedules import QUEUED, Firing, Schedules, stamp
from nbmlops.pipelines import contract
from nbmlops.pipelines import notebook as nb
from nbmlops.pipelines.contract import Parameter
from nbmlops.pipelines.declaring import SECRET
from nbmlops.pipelines.flow.checks import own_parameters
from nbmlops.pipelines.flow.declared import declared
from nbmlops.pipelines.scheduled import Scheduled, declared_in
from nbmlops.project import Project

HOST = "127.0.0.1"
TRIGGER = "webhook"
PREFIX = "/hooks/"
LARGEST = 64 * 1024  # bytes of a body
LONGEST_QUEUE = 20  # runs of one schedule that may wait
MOST_AT_ONCE = 16  # connections
READ_S = 10.0  # for a whole request


@dataclass(frozen=True)
class Call:
    """What a caller has sent."""

    name: str
    authorization: str
    key: str  # for calls that are repeated
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What a caller gets: a status and a message, or the job that his run will be; `why` is for the agent's log."""

    status: int
    content: Mapping[str, Any]
    why: str = ""


def answered(project: Project, call: Call, now: datetime) -> Answer:
    """Judge a call and queue what it asks for; who does not know the token learns nothing else."""
    if not _is_allowed(project, call.authorization):
        return _refused(401, "The token is missing or wrong.")
    try:
        heeded, _ = declared_in(project.settings)
        each = heeded.get(call.name)
        if each is None or TRIGGER not in each.timing.on:
            return _refused(404, "Nothing of that name listens to webhooks.")
        return _queued(project, each, call, _parameters(project, each, call.body), now)
    except UsageError as exc:
        return _refused(400, exc.message)
    except StoreError as exc:
        return replace(_refused(503, "The ledger is out of reach."), why=exc.message)


def _is_allowed(project: Project, authorization: str) -> bool:
    scheme, _, given = authorization.partition(" ")
    try:
        token = secrets.resolved(project.settings.agent.get("token", ""), project.root)
    except NbmlopsError:
        return False
    same = hmac.compare_digest(_digest(given.strip()), _digest(token))
    return same and scheme.lower() == "bearer"


def _queued(project: Project, each: Scheduled, call: Call, parameters: dict[str, Any], now: datetime) -> Answer:
    with closing(Ledger.of(project)) as opened:
        ledger = Schedules(opened)
        occasion = f"{TRIGGER}#{_digest(call.key).hex()[:32] if call.key else uuid.uuid4().hex}"
        if call.key and (known := ledger.find(each.name, occasion)):
            return _accepted(known)
        if reason := _why_not(ledger, each, now):
            return _refused(429, reason)
        job = uuid.uuid4().hex[:12]
        wanted = Firing(each.name, occasion, stamp(now), QUEUED, 0, {}, job, now.isoformat(), parameters=parameters)
        return _accepted(ledger.enqueue(wanted))


def _why_not(ledger: Schedules, each: Scheduled, now: datetime) -> str:
    if each.name in ledger.paused():
        return "It is paused."
    n_waiting = sum(firing.state == QUEUED for firing in ledger.open_firings() if firing.schedule == each.name)
    if n_waiting >= LONGEST_QUEUE:
        return f"{n_waiting} runs wait already."
    in_period = ledger.n_triggered(each.name, deciding.period_start(each.timing.budget, now))
    return deciding.why_not(each.timing, ledger.last_run(each.name), in_period, now)


def _accepted(firing: Firing) -> Answer:
    return Answer(202, {"job": firing.job, "schedule": firing.schedule})


def _refused(status: int, message: str) -> Answer:
    return Answer(status, {"error": message})


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


# ----------------------------------------------------------------- parameters
def _parameters(project: Project, each: Scheduled, body: bytes) -> dict[str, Any]:
    """Read the parameters that a call gives, which are checked now and given as they came, to be read the same way.

    Raises
    ------
    UsageError
        They are none, or not declared, or of another type, or a secret or a reference to one.
    """
    given = _given(body)
    known = [replace(parameter, is_required=False) for parameter in _declared(project, each)]
    if named := [p.name for p in known if p.name in given and SECRET in p.type]:
        raise UsageError(f"Secrets are not taken from here: {', '.join(named)}.")
    values = contract.checked(known, given, each.name, takes_references=False)
    if contract.hints({name: values[name] for name in given if name in values}):
        raise UsageError("Secrets are not taken from here.")
    return given


def _given(body: bytes) -> dict[str, Any]:
    if not body.strip():
        return {}
    try:
        content = json.loads(body.decode(), parse_constant=_no_constant, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise UsageError("The body is no JSON.") from None
    if not isinstance(content, dict) or set(content) - {"parameters"}:
        raise UsageError('The body must be {"parameters": {...}}, or empty.')
    given = content.get("parameters", {})
    if not isinstance(given, dict):
        raise UsageError("parameters must be an object of names.")
    return given


def _no_constant(word: str) -> None:
    raise ValueError(word)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError
    return dict(pairs)


def _declared(project: Project, each: Scheduled) -> tuple[Parameter, ...]:
    if each.target.endswith(".ipynb"):
        return tuple(nb.parameters_of(nb.read(project.root / each.target)))
    return own_parameters(declared(project.settings, each.target))


# ------------------------------------------------------------------ the listener
class Handler(BaseHTTPRequestHandler):
    """Reads one call, and writes its answer as JSON; nothing of Python is told."""

    root: ClassVar[Path]
    tell: ClassVar[Callable[[str], object]]
    timeout = READ_S
    protocol_version = "HTTP/1.0"  # a connection for each call
    server_version, sys_version = "nbmlops", ""

    def do_POST(self) -> None:
        """Take a call."""
        length = self.headers.get("Content-Length", "")
        if not self.path.startswith(PREFIX):
            self._write(_refused(404, "There is POST /hooks/NAME."))
        elif not (length.isascii() and length.isdigit() and len(length) < 10):
            self._write(_refused(411, "Content-Length is missing."))
        elif int(length) > LARGEST:
            self._write(_refused(413, f"The body is larger than {LARGEST:,} bytes."))
        else:
            self._write(self._answer(int(length)))

    def _answer(self, length: int) -> Answer:
        body = self._body(length)
        if body is None:
            return _refused(408, "The body did not come.")
        name = self.path.removeprefix(PREFIX)
        call = Call(name, self.headers.get("Authorization", ""), self.headers.get("Idempotency-Key", ""), body)
        try:
            answer = answered(Project(self.root), call, datetime.now(UTC))
        except Exception:  # noqa: BLE001  # a bug of ours is told to us, not to the caller
            type(self).tell("a webhook could not be answered")
            return _refused(500, "It could not be answered.")
        if answer.why:
            type(self).tell(f"a webhook was told to try again: {answer.why}")
        if answer.status == 202:
            type(self).tell(f"{name}: a webhook asks for job {answer.content['job']}")
        return answer

    def _body(self, length: int) -> bytes | None:
        """Read a body that comes in time."""
        body, deadline = b"", time.monotonic() + READ_S
        while len(body) < length:
            try:
                part = self.rfile.read1(length - len(body)) if time.monotonic() < deadline else b""
            except OSError:
                return None
            if not part:
                return None
            body += part
        return body

    def _write(self, answer: Answer) -> None:
        content = json.dumps(answer.content).encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if answer.status == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        self.end_headers()
        self.wfile.write(content)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what is no call at all, in a few words of ours."""
        del message, explain
        self._write(_refused(code, "There is POST /hooks/NAME."))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing: a request's line may hold what a log must not."""


class Server(ThreadingHTTPServer):
    """A listener that holds a limited number of connections."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int, handler: type[Handler]) -> None:
        self._free = threading.BoundedSemaphore(MOST_AT_ONCE)
        super().__init__((HOST, port), handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Take a connection if one is free, else let it go."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection, and free its place."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Forget a caller who has gone."""


@dataclass
class Webhooks:
    """The listener of a project: it listens as long as something is declared to be asked for."""

    project: Project
    tell: Callable[[str], object] = str
    server: Server | None = None
    port: int | None = None
    told: str = field(default="")

    def look(self) -> None:
        """Begin or stop to listen, as nbmlops.toml says now."""
        wanted = self._wanted()
        if wanted != self.port:
            self.close()
            if wanted is not None:
                self._listen(wanted)

    def _wanted(self) -> int | None:
        try:
            heeded, _ = declared_in(self.project.settings)
        except NbmlopsError:
            return self.port
        asked = any(TRIGGER in each.timing.on for each in heeded.values())
        return int(self.project.settings.agent["port"]) if asked else None

    def _listen(self, port: int) -> None:
        handler = type("ProjectHandler", (Handler,), {"root": self.project.root, "tell": staticmethod(self.tell)})
        try:
            self.server = Server(port, handler)
        except OSError as exc:
            self._say(f"webhooks: {HOST}:{port} cannot be listened to: {exc.strerror}")
            return
        self.port = port
        self._say(f"webhooks: POST http://{HOST}:{self.server.server_address[1]}{PREFIX}NAME")
        threading.Thread(target=self.server.serve_forever, args=(0.2,), daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        if self.server:
            self.server.shutdown()
            self.server.server_close()
        self.server = self.port = None

    def _say(self, line: str) -> None:
        if line != self.told:
            self.told = line
            self.tell(line)
