"""HTTP as bytes over sockets: what no client library would send, and the answers as they came."""

import contextlib
import json
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from nbmlops.project import Project
from nbmlops.serving.endpoints import Deployment
from nbmlops.serving.verbs import deploy, undeploy

JSON = "application/json"
CANARY = "canary-4111"
LEAKS = re.compile(rf"Traceback|site-packages|\.py\b|/tmp|/usr|/home|0x[0-9a-f]{{6}}|{CANARY}")


@dataclass(frozen=True)
class Reply:
    """An answer as it came; names of headers in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def port_of(live: Deployment) -> int:
    return int(live.url.rpartition(":")[2])


def request(
    path: str = "/invocations",
    body: bytes | None = None,
    kind: str = JSON,
    method: str = "",
    headers: str = "",
    version: str = "1.1",
) -> bytes:
    """Word a request; `headers` are lines, each with its end."""
    length = f"Content-Length: {len(body)}\r\n" if body is not None else ""
    typed = f"Content-Type: {kind}\r\n" if body is not None and kind else ""
    method = method or ("GET" if body is None else "POST")
    head = f"{method} {path} HTTP/{version}\r\nHost: localhost\r\n{typed}{length}{headers}\r\n"
    return head.encode("utf-8", "surrogateescape") + (body or b"")


@contextlib.contextmanager
def connected(port: int, timeout_s: float = 20.0, tls: ssl.SSLContext | None = None) -> Iterator[socket.socket]:
    """Open a connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as plain:
        if tls is None:
            yield plain
        else:
            with tls.wrap_socket(plain, server_hostname="localhost") as connection:
                yield connection


def reply(stream: BinaryIO, *, is_head: bool = False) -> Reply | None:
    """Read one answer; None where the connection ends instead."""
    line = stream.readline()
    if not line:
        return None
    status, headers = int(line.split()[1]), {}
    while (line := stream.readline().strip()) != b"":
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    length = 0 if is_head or status < 200 else int(headers["content-length"])
    return Reply(status, headers, stream.read(length))


def replies(port: int, *parts: bytes, n: int = 1, timeout_s: float = 20.0, is_head: bool = False) -> list[Reply]:
    """Send bytes and read up to `n` answers, fewer where the connection ends before; a hang is an error."""
    with connected(port, timeout_s) as connection:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            for part in parts:
                connection.sendall(part)
        return heard(connection, n, is_head=is_head)


def heard(connection: socket.socket, n: int, *, is_head: bool = False) -> list[Reply]:
    """Read up to `n` answers; those that only say to go on are none."""
    found: list[Reply] = []
    with connection.makefile("rb") as stream, contextlib.suppress(ConnectionResetError):
        while len(found) < n and (one := reply(stream, is_head=is_head)):
            if one.status >= 200:
                found.append(one)
    return found


def asked(port: int, *args: Any, **kwargs: Any) -> Reply:
    """Send one request, and read its answer."""
    [one] = replies(port, request(*args, **kwargs), is_head=kwargs.get("method") == "HEAD")
    return one


def judged(given: Reply) -> int:
    """Check what holds for every answer to a stranger: 2xx or 4xx, errors in one shape that tells nothing of us."""
    text = given.body.decode("latin-1")
    assert 200 <= given.status < 300 or 400 <= given.status < 500, (given.status, text[:300])
    assert not any(CANARY in value for value in given.headers.values()), given.headers
    if given.status >= 400 and given.body:
        error = given.json["error"]
        if isinstance(error, dict):
            assert error.keys() == {"type", "message", "hint", "exit_code"}
            error = error["message"] + error["hint"]
        assert isinstance(error, str)
        assert 0 < len(error) < 1000
        assert not LEAKS.search(text), text
    return given.status


@contextlib.contextmanager
def deployed(shop: Project, model: str, name: str, limits: str = "", **terms: Any) -> Iterator[Deployment]:
    """Deploy a model with the limits that a project declares for its endpoint; gone in the end."""
    toml = Path(shop.root, "nbmlops.toml")
    before = toml.read_text()
    toml.write_text(f"{before}\n[endpoints.{name}]\nlimits = {{ {limits} }}\n")
    try:
        live = deploy(Project(shop.root), model, as_=name, **terms)
    finally:
        toml.write_text(before)
    try:
        yield live
    finally:
        undeploy(shop, name)
