"""A real server and whoever means it ill: an answer with 2xx or 4xx in one shape, in bounded time and memory."""

import contextlib
import itertools
import json
import random
import re
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import pytest

from nbmlops.project import Project
from nbmlops.serving.connections import LINGER_S, LOOK_S, MAX_HEAD_BYTES
from nbmlops.serving.endpoints import Deployment
from tests.serving.conftest import served
from tests.serving.protocols.test_hostile import CORPUS
from tests.serving.raw_http import (
    CANARY,
    JSON,
    asked,
    connected,
    deployed,
    heard,
    judged,
    port_of,
    replies,
    reply,
    request,
)

BODY_S = 1.0  # in which a request must have come, at the server of these tests
LIMIT = 16 * 2**20
ROWS = [[0.5, "UA", 2], [-1.25, "B6", 7]]
GOOD = json.dumps({"dataframe_split": {"columns": ["delay", "carrier", "day"], "data": ROWS}}).encode()
TENSORS = json.dumps(
    {
        "inputs": [
            {"name": "delay", "datatype": "FP64", "shape": [2], "data": [0.5, -1.25]},
            {"name": "carrier", "datatype": "BYTES", "shape": [2], "data": ["UA", "B6"]},
            {"name": "day", "datatype": "INT64", "shape": [2], "data": [2, 7]},
        ]
    }
).encode()
V2 = "/v2/models/delays/infer"


@pytest.fixture(scope="module")
def live(shop: Project) -> Iterator[Deployment]:
    with deployed(shop, "delays/2", "hostile", f'body = "{BODY_S:g}s"') as found:
        yield found


@pytest.fixture(scope="module")
def port(live: Deployment) -> int:
    return port_of(live)


@pytest.fixture(scope="module")
def process(live: Deployment, shop: Project) -> psutil.Process:
    [pid] = served(shop)["hostile"].pids
    return psutil.Process(pid)


@pytest.fixture(autouse=True)
def survives(process: psutil.Process, port: int) -> Iterator[None]:
    """After every test the same process answers, and right."""
    before = process.create_time()
    yield
    assert process.create_time() == before
    assert asked(port, body=GOOD).status == 200


# -------------------------------------------------------------------------------------------------- generated requests
@pytest.mark.parametrize("n", [600, pytest.param(20_000, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])])
def test_whatever_is_asked_there_is_one_answer(port: int, process: psutil.Process, n: int) -> None:
    chance, statuses = random.Random(n), Counter[int]()
    memory = 0
    for number, said in enumerate(conversations(chance, n)):
        for given in said.held(port):
            statuses[judged(given)] += 1
        if number == min(200, n // 6):
            memory = process.memory_info().rss  # all that is loaded on first use is there by now
    assert statuses[200] > n / 20, statuses
    assert statuses[400] > n / 20, statuses
    assert process.memory_info().rss - memory < 100 * 2**20


@pytest.mark.parametrize("n", [300, pytest.param(20_000, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])])
def test_whatever_a_model_of_its_own_process_is_asked_there_is_one_answer(
    shop: Project, moody: dict[str, str], n: int
) -> None:
    with deployed(shop, f"moody/{moody['good']}", "hostile-too", f'body = "{BODY_S:g}s"') as live:
        statuses, [pid] = Counter[int](), served(shop)["hostile-too"].pids
        for said in conversations(random.Random(n), n, "moody", b"x"):
            for given in said.held(port_of(live)):
                assert given.status < 500, said.content
                statuses[judged(given)] += 1
        assert statuses[200] > n / 20, statuses
        assert served(shop)["hostile-too"].pids == (pid,)


def test_the_corpus_on_every_path(port: int) -> None:
    for path in ("/invocations", V2):
        for kind in (JSON, "text/csv", "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet", ""):
            for body in CORPUS:
                judged(asked(port, path, body, kind))


class Conversation:
    """Bytes that are sent over one connection, and how many answers they should have at most."""

    def __init__(self, content: bytes, n: int, *, is_head: bool = False) -> None:
        self.content, self.n, self.is_head = content, n, is_head

    def held(self, port: int) -> list[Any]:
        found = replies(port, self.content, n=self.n, is_head=self.is_head)
        assert found or self.is_head, self.content[:200]
        return found


def conversations(chance: random.Random, n: int, model: str = "delays", column: bytes = b"delay") -> Iterator[Any]:
    for _ in range(n):
        path, kind, body, more = drawn(chance)
        path, body = path.replace("delays", model), MOODS.sub(b"5", body.replace(b"delay", column))
        method = (
            chance.choice(["GET", "HEAD", "PUT", "OPTIONS", "DELETE", "PATCH"]) if chance.random() < 0.1 else "POST"
        )
        headers = "".join(chance.choices(HEADERS, k=chance.choice([0, 0, 1, 5]))) + more
        if chance.random() < 0.1:
            content = request(path, None, method=method, headers=f"{headers}Content-Type: {kind}\r\n{CHUNKED}")
            content += chunked(chance, body)
        else:
            content = request(path, body, kind, method, headers, chance.choice(["1.1"] * 9 + ["1.0"]))
        if chance.random() < 0.05:
            content = broken(chance, content[: content.index(b"\r\n\r\n")]) + b"\r\n\r\n" + body
        yield Conversation(content, 1, is_head=content.startswith(b"HEAD"))


MOODS = re.compile(rb"-0*[1-4](?!\d|\.\d*[1-9])")  # at which `moody` dies or hangs: that is its own test
METHODS = ["GET", "HEAD", "PUT", "OPTIONS", "DELETE", "PATCH", "TRACE"]
CHUNKED = "Transfer-Encoding: chunked\r\n"
PATHS = [
    "/", "/ping", "/health", "/ready", "/version", "/metrics", "/openapi.json", "/docs", "/invocations/",
    "//invocations", "/invocations?x=1", "/%69nvocations", f"/{CANARY}", "/../../etc/passwd", "/..%2f..%2fetc/passwd",
    "/%00", "/\x7f", "/v2", "/v2/", "/v2x", "/v2/health/live", "/v2/health/ready", "/v2/models/delays",
    "/v2/models/delays/ready", "/v2/models/delays/versions/2", "/v2/models/delays/versions/9/infer",
    f"/v2/models/{CANARY}/infer", "/v2/models//infer", "/v2/models/delays/versions//infer", f"/v2/{CANARY}", "/é",
    "/%C3%A9%ff", "*", "http://localhost/ping", "/ping#x", "http://localhost", "/" + "a" * 5000,
    "/<script>alert(1)</script>", "/%0d%0aSet-Cookie:x",
]  # fmt: skip
HEADERS = [
    "nbmlops-request-id: \xff\xfe\u20ac\r\n", "nbmlops-request-id: " + "x" * 5000 + "\r\n", "nbmlops-key: k\r\n",
    "nbmlops-key:\r\n", f"X-{CANARY}: {CANARY}\r\n", "Authorization: Bearer x\r\n", "Authorization: \xff\r\n",
    "Accept: text/html\r\n", "Accept-Encoding: gzip, br\r\n", "Content-Encoding: gzip\r\n", "Expect: 100-continue\r\n",
    "Connection: close\r\n", "Connection: Upgrade\r\nUpgrade: websocket\r\n", "Upgrade: h2c\r\n", "Expect: x\r\n",
    "Inference-Header-Content-Length: 10\r\n", "Inference-Header-Content-Length: -1\r\n", "Cookie: a=b\r\n",
    "Inference-Header-Content-Length: \u0665\r\n", "Content-Type: text/csv\r\n", "X-Forwarded-For: 1.2.3.4\r\n",
    "X-Forwarded-Proto: https\r\n", "Transfer-Encoding: gzip, chunked\r\n", "Range: bytes=0-1\r\n", "If-Match: *\r\n",
    "X: " + "y" * 10_000 + "\r\n", "".join(f"X{i}: {i}\r\n" for i in range(500)), "Origin: http://evil.example\r\n",
]  # fmt: skip
ODD = [
    None, True, False, -1, 0, 2**31, 2**63, 2**64, 10**400, 1e308, -0.0, "", "a" * 1000, CANARY, "\u0000", "\ud800", [],
    {}, [[]], [1, [2]], {"a": {"b": 1}}, "1", "NaN", "2013-01-01", float("nan"), float("inf"), "\u2019", "\U0001f600",
]  # fmt: skip


def drawn(chance: random.Random) -> tuple[str, str, bytes, str]:
    """Draw a path, a content type, a body and headers that belong to it: right, a little wrong, or senseless."""
    path, kind, body, more = chance.choice([*forms(chance), *forms(chance), (chance.choice(PATHS), JSON, GOOD, "")])
    if chance.random() < 0.3:
        body = broken(chance, body)
    if chance.random() < 0.1:
        body = chance.choice(CORPUS)
    if chance.random() < 0.05:
        kind = chance.choice(
            ["text/plain", "", "application/json; charset=latin-1", f"text/{CANARY}", "a" * 3000, "\xff"]
        )
    return path, kind, body, more


def forms(chance: random.Random) -> list[tuple[str, str, bytes, str]]:
    """Word one table in every form, some of its values odd."""
    p_odd = chance.choice([0, 0.1, 0.5])
    rows = [[odd(chance, v, p_odd) for v in row] for row in ROWS * chance.choice([1, 1, 5])]
    names = [odd(chance, name, p_odd / 5) for name in ("delay", "carrier", "day")]
    records = [{str(name): value for name, value in zip(names, row, strict=True)} for row in rows]
    columns = {str(name): [row[i] for row in rows] for i, name in enumerate(names)}
    documents = [
        {"dataframe_split": {"columns": names, "data": rows}},
        {"dataframe_records": records},
        {"instances": records},
        {"inputs": columns},
    ]
    tensors = json.loads(TENSORS)
    for tensor in tensors["inputs"]:
        for key in tensor:
            tensor[key] = odd(chance, tensor[key], p_odd / 5)
    head, tail = binary()
    text = "\n".join(",".join(map(str, row)) for row in [names, *rows])
    return [
        *(("/invocations", JSON, json.dumps(document).encode(), "") for document in documents),
        ("/invocations", "text/csv", text.encode("utf-8", "replace"), ""),
        (V2, JSON, json.dumps(tensors).encode(), ""),
        (V2, "application/octet-stream", head + tail, f"Inference-Header-Content-Length: {len(head)}\r\n"),
    ]  # fmt: skip


def odd(chance: random.Random, value: Any, p: float) -> Any:
    return chance.choice(ODD) if chance.random() < p else value


def binary() -> tuple[bytes, bytes]:
    """Word the tensors in the binary extension: the JSON part, and the bytes after it."""
    carriers = b"".join(struct.pack("<I", len(text)) + text for text in (b"UA", b"B6"))
    parts = [np.array([0.5, -1.25]).tobytes(), carriers, np.array([2, 7]).tobytes()]
    document = json.loads(TENSORS)
    for tensor, part in zip(document["inputs"], parts, strict=True):
        del tensor["data"]
        tensor["parameters"] = {"binary_data_size": len(part)}
    return json.dumps(document).encode(), b"".join(parts)


def broken(chance: random.Random, content: bytes) -> bytes:
    """Change a few bytes: other ones, fewer, doubled, out of place."""
    changed = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 8])):
        at, end = sorted(chance.choices(range(len(changed) + 1), k=2))
        end = min(end, at + 20)
        changed[at:end] = chance.choice([b"", changed[at:end] * 2, chance.randbytes(end - at), b"\0", b'"', b"[", b"}"])
    return bytes(changed)


def chunked(chance: random.Random, body: bytes) -> bytes:
    """Send a body in chunks, of which one may be wrong."""
    chunks = [b"%x;ext=%d\r\n%s\r\n" % (len(part), i, part) for i, part in enumerate(_parts(chance, body)) if part]
    if chance.random() < 0.2:
        chunks.append(chance.choice([b"zz\r\n", b"-1\r\n", b"fffffffffffffffff\r\n", b"1\r\nxy\r\n", b"\0"]))
    return b"".join(chunks) + b"0\r\nX-Trailer: 1\r\n\r\n"


def _parts(chance: random.Random, body: bytes) -> list[bytes]:
    cuts = [0, *sorted(chance.choices(range(len(body) + 1), k=3)), len(body)]
    return [body[a:b] for a, b in itertools.pairwise(cuts)]


# ------------------------------------------------------------------------------------------------------------- framing
POST = b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
SIZE = b"Content-Length: %d\r\n" % len(GOOD)
AS_CHUNK = b"%x\r\n%s\r\n0\r\n\r\n" % (len(GOOD), GOOD)


AMBIGUOUS = [
    POST + SIZE + SIZE + b"\r\n" + GOOD,
    POST + SIZE + b"Content-Length: 5\r\n\r\n" + GOOD,
    POST + b"Content-Length: 5, 5\r\n\r\n12345",
    POST + b"Content-Length: +5\r\n\r\n12345",
    POST + b"Content-Length: -5\r\n\r\n12345",
    POST + b"Content-Length: 0x5\r\n\r\n12345",
    POST + b"Content-Length: 5 5\r\n\r\n12345",
    POST + b"Content-Length: 99999999999999999999999\r\n\r\n12345",
    POST + b"Content-Length : 5\r\n\r\n12345",
    POST + SIZE + b"Transfer-Encoding: chunked\r\n\r\n" + AS_CHUNK,
    POST + b"Transfer-Encoding: chunked\r\n" + SIZE + b"\r\n" + AS_CHUNK,
    POST + b"Transfer-Encoding: chunked, identity\r\n\r\n" + AS_CHUNK,
    POST + b"Transfer-Encoding: xchunked\r\n\r\n" + AS_CHUNK,
    POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + AS_CHUNK,
    POST + b"Transfer-Encoding\x0b: chunked\r\n\r\n" + AS_CHUNK,
    POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + AS_CHUNK,
    POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\n5\n12345\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\n1234567\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    b"GET /ping HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
    b"GET /ping HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
    b"GET /ping HTTP/1.1\r\nHost: a\r\n X: folded\r\n\r\n",
    b"GET /ping HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
    b"GET /ping HTTP/1.1\r\nHost: a\r\n: no name\r\n\r\n",
    b"GET /ping HTTP/1.1 more\r\nHost: a\r\n\r\n",
    b"GET /ping HTTP/3.7\r\nHost: a\r\n\r\n",
    b"GET /pi ng HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET \xff HTTP/1.1\r\nHost: a\r\n\r\n",
    b"CONNECT evil.example:443 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET http:// HTTP/1.1\r\nHost: a\r\n\r\n",
    b"BREW /ping HTTP/1.1\r\nHost: a\r\n\r\n",
    b"get /ping HTTP/1.1\r\nHost: a\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 50,
    b"\0" * 100,
    b"{}\r\n\r\n",
]


def test_requests_that_two_servers_could_read_in_two_ways_are_refused_and_the_connection_ends(port: int) -> None:
    with contextlib.ExitStack() as all_of_them:
        connections = [all_of_them.enter_context(connected(port)) for _ in AMBIGUOUS]
        for content, connection in zip(AMBIGUOUS, connections, strict=True):
            connection.sendall(content + request("/ping"))  # the second one must not be answered on this connection
        for content, connection in zip(AMBIGUOUS, connections, strict=True):
            given = heard(connection, 3)
            assert [judged(one) for one in given] == [400], content
            assert given[0].headers["connection"] == "close"


@pytest.mark.parametrize(
    ("content", "statuses"),
    [
        (b"GET /ping HTTP/1.0\r\n\r\n", [200]),
        (b"GET /ping HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /ping HTTP/1.0\r\n\r\n", [200]),
        (b"GET http://localhost/ping HTTP/1.1\r\nHost: localhost\r\n\r\n", [200]),
        (b"GET /%70ing HTTP/1.1\r\nHost: localhost\r\n\r\n", [200]),
        (b"GET /ping?%0d%0aX:y HTTP/1.1\r\nHost: localhost\r\n\r\n", [200]),
        (b"GET /%E2%82%AC HTTP/1.1\r\nHost: localhost\r\n\r\n", [404]),
        (b"GET /%0d%0aSet-Cookie:%20a=b HTTP/1.1\r\nHost: localhost\r\n\r\n", [404]),
        (b"GET /../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", [404]),
        (b"GET * HTTP/1.1\r\nHost: localhost\r\n\r\n", [404]),
        (b"GET /v2x HTTP/1.1\r\nHost: localhost\r\n\r\n", [404]),
        (b"\r\n\r\nGET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n", [200]),
        (request("/ping") * 3, [200, 200, 200]),
        (request(body=GOOD) * 3 + request("/x"), [200, 200, 200, 404]),
        (request("/x", GOOD) + request("/ping"), [404, 200]),
        (request(body=GOOD, headers="Connection: close\r\n") + request("/ping"), [200]),
        (request(body=GOOD) + b"trailing garbage", [200]),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n" + AS_CHUNK + request("/ping"), [200, 200]),
        (request("/ping", headers="Connection: Upgrade\r\nUpgrade: websocket\r\n") + request("/ping"), [200, 200]),
        (request(body=GOOD, headers="Connection: Upgrade\r\nUpgrade: h2c\r\n") + request("/ping"), [200, 200]),
        (request("/ping", headers="Connection: UPGRADE\r\nUPGRADE: h2c\r\n") + request("/ping"), [200]),
        (request(body=GOOD, headers="Expect: 100-continue\r\n"), [200]),
        (request("/x", GOOD, headers="Expect: 100-continue\r\n"), [404]),
    ],
)
def test_requests_that_are_unusual_and_right_are_answered(port: int, content: bytes, statuses: list[int]) -> None:
    given = replies(port, content, n=len(statuses))
    assert [one.status for one in given] == statuses
    for one in given:
        assert judged(one)
        assert "set-cookie" not in one.headers


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.", "a\tb.c"])
def test_an_endpoint_of_this_machine_answers_no_page_of_a_public_site(port: int, host: str) -> None:
    for path, body in (
        ("/ping", ""),
        ("/invocations", "Content-Length: 2\r\nContent-Type: application/json\r\n\r\n{}"),
    ):
        method = "POST" if body else "GET"
        [given] = replies(port, f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{body or chr(13) + chr(10)}".encode())
        assert judged(given) == 421
    for good in ("localhost:1", "127.0.0.1", "[::1]:5", "worker", "host.docker.internal:80", "LOCALHOST"):
        assert replies(port, f"GET /ping HTTP/1.1\r\nHost: {good}\r\n\r\n".encode())[0].status == 200


# ---------------------------------------------------------------------------------------------------------------- size
def test_a_body_of_200_mb_is_refused_within_100_ms_by_what_it_declares(port: int, process: psutil.Process) -> None:
    memory, times = process.memory_info().rss, []
    for headers in ("", "Expect: 100-continue\r\n", ""):
        with connected(port) as connection, connection.makefile("rb") as stream:
            head = request(method="POST", headers=f"{headers}Content-Type: {JSON}\r\nContent-Length: {200 * 2**20}\r\n")
            began = time.perf_counter()
            connection.sendall(head + b"[" * 65536)
            given = reply(stream)
            times.append(time.perf_counter() - began)
            assert given is not None
            assert (judged(given), given.headers["connection"]) == (413, "close")
    assert min(times) < 0.1
    assert process.memory_info().rss - memory < 20 * 2**20


@pytest.mark.parametrize("path", ["/invocations", V2])
def test_a_body_that_declares_no_length_is_refused_once_it_is_too_large(
    port: int, process: psutil.Process, path: str
) -> None:
    memory, chunk = process.memory_info().rss, b"100000\r\n" + b" " * 2**20 + b"\r\n"
    with connected(port) as connection, connection.makefile("rb") as stream:
        connection.sendall(request(path, headers=f"Content-Type: {JSON}\r\n{CHUNKED}", method="POST"))
        for _ in range(LIMIT // 2**20 + 1):
            connection.sendall(chunk)
        given = reply(stream)
        assert given is not None
        assert judged(given) == 413
    assert process.memory_info().rss - memory < 100 * 2**20


def test_what_many_send_at_once_is_bounded_in_all(port: int, process: psutil.Process) -> None:
    """Each sends all but the last byte of the largest body; together that would be 640 MB."""
    memory, statuses = process.memory_info().rss, Counter[int]()
    with contextlib.ExitStack() as all_of_them:
        connections = [all_of_them.enter_context(connected(port)) for _ in range(40)]
        for connection in connections:
            with contextlib.suppress(OSError):  # those who are too slow by now
                connection.sendall(POST + b"Content-Length: %d\r\n\r\n" % LIMIT + b" " * (LIMIT - 1))
        assert process.memory_info().rss - memory < 400 * 2**20
        for connection in connections:
            with contextlib.suppress(OSError), connection.makefile("rb") as stream:
                if given := reply(stream):
                    statuses[judged(given)] += 1
    assert statuses.keys() <= {408, 429}, statuses
    assert statuses, "somebody was told"


@pytest.mark.parametrize("where", ["one header", "many headers", "path", "chunk extension", "trailers"])
def test_heads_and_trailers_without_end_are_refused(port: int, process: psutil.Process, where: str) -> None:
    memory = process.memory_info().rss
    chunks = POST + b"Transfer-Encoding: chunked\r\n\r\n1"
    begin, more = {
        "one header": (b"GET /ping HTTP/1.1\r\nHost: x\r\nX: ", b"y" * 4096),
        "many headers": (b"GET /ping HTTP/1.1\r\nHost: x\r\n", b"X: y\r\n" * 500),
        "path": (b"GET /", b"y" * 4096),
        "chunk extension": (chunks + b";", b"x" * 4096),
        "trailers": (chunks + b"\r\n1\r\n0\r\n", b"X: y\r\n" * 500),
    }[where]
    with connected(port) as connection, connection.makefile("rb") as stream:
        connection.sendall(begin)
        with contextlib.suppress(OSError):
            for _ in range(10 * MAX_HEAD_BYTES // len(more)):
                connection.sendall(more)
        given = reply(stream)
    assert given is not None
    assert judged(given) == 431
    assert process.memory_info().rss - memory < 20 * 2**20


# ---------------------------------------------------------------------------------------------------------------- time
WITHIN_S = BODY_S + 2 * LOOK_S + LINGER_S + 1.0
SLOW = {
    "sends nothing": (b"", b""),
    "sends half a head": (b"POST /invocations HTTP/1.1\r\nHost:", b""),
    "sends half a body": (POST + SIZE + b"\r\n" + GOOD[:20], b""),
    "sends no body": (POST + SIZE + b"\r\n", b""),
    "sends half a chunk": (POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12", b""),
    "sends a header a moment": (b"GET /ping HTTP/1.1\r\n", b"X: y\r\n"),
    "sends a byte a moment": (POST + SIZE + b"\r\n", b" "),
    "sends a chunk a moment": (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "sends empty lines": (b"", b"\r\n"),
    "sends empty lines after an answer": (request("/ping"), b"\r\n"),
    "sends a request a byte a moment after one": (request("/ping"), b"GET /"),
    "sends half a body after one": (request("/ping") + POST + SIZE + b"\r\n" + GOOD[:20], b""),
    "goes on with a body that was refused": (POST.replace(b"/inv", b"/x") + SIZE + b"\r\n", b" "),
    "goes on with a body that was too large": (POST + b"Content-Length: 200000000\r\n\r\n", b" "),
    "waits after 100-continue": (POST + SIZE + b"Expect: 100-continue\r\n\r\n", b""),
}


def test_who_is_slow_is_let_go_in_time_and_holds_up_nobody(port: int, process: psutil.Process) -> None:
    with contextlib.ExitStack() as all_of_them:
        slow = {name: all_of_them.enter_context(connected(port)) for name in SLOW for _ in range(1)}
        crowd = [all_of_them.enter_context(connected(port)) for _ in range(200)]
        for connection in crowd:
            connection.sendall(POST + SIZE + b"\r\n" + GOOD[:20])
        began = time.monotonic()
        for name, connection in slow.items():
            connection.sendall(SLOW[name][0])
        ended: dict[str, float] = {}
        said: dict[str, bytes] = dict.fromkeys(slow, b"")
        while len(ended) < len(slow) and time.monotonic() - began < WITHIN_S:
            assert asked(port, body=GOOD).status == 200
            for name, connection in slow.items():
                if name not in ended and not went_on(connection, SLOW[name][1], said, name):
                    ended[name] = time.monotonic() - began
            time.sleep(0.05)
        assert ended.keys() == slow.keys(), slow.keys() - ended.keys()
        for name in ("sends half a head", "sends half a body", "sends a byte a moment", "sends a header a moment"):
            assert said[name].startswith(b"HTTP/1.1 408 "), (name, said[name])
        for connection in crowd:
            connection.settimeout(WITHIN_S)
            assert connection.recv(20).startswith(b"HTTP/1.1 408 ")
    assert len(process.net_connections()) < 20


def went_on(connection: socket.socket, more: bytes, said: dict[str, bytes], name: str) -> bool:
    """Send a little more, and read what has come; False where the connection has ended."""
    connection.settimeout(0.001)
    try:
        if more:
            connection.sendall(more)
        come = connection.recv(65536)
        said[name] += come
    except TimeoutError:
        return True
    except OSError:
        return False
    return bool(come)


BULK = request(body=b"delay,carrier,day\n" + b"0,UA,1\n" * 100_000, kind="text/csv")


@pytest.mark.parametrize(("content", "n"), [(BULK, 20), (request("/docs") * 90, 10_000)], ids=["bulk", "pages"])
def test_who_takes_no_answer_is_let_go(port: int, process: psutil.Process, content: bytes, n: int) -> None:
    memory = process.memory_info().rss
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", port))
        deaf.settimeout(0.5)
        with contextlib.suppress(OSError):
            for _ in range(n):
                deaf.sendall(content)
        began = time.monotonic()
        assert process.memory_info().rss - memory < 50 * 2**20
        here = deaf.getsockname()[1]
        while any(each.raddr and each.raddr.port == here for each in process.net_connections()):
            assert time.monotonic() - began < WITHIN_S
            time.sleep(0.05)
    assert asked(port, body=GOOD).status == 200


def test_a_thousand_connections_at_once_hold_up_nobody(port: int) -> None:
    with contextlib.ExitStack() as all_of_them:
        for _ in range(1000):
            all_of_them.enter_context(connected(port))
        began = time.perf_counter()
        assert asked(port, body=GOOD).status == 200
        assert time.perf_counter() - began < 2
