"""A toy HTTP proxy on loopback that fails as told: whole requests in memory, one connection to the server for each."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, Literal, Self
from urllib.parse import urlsplit

LIMIT_BYTES = 1 << 20  # of a head; bodies may be of any size
BODILESS = (b"204", b"304")

Kind = Literal["pass", "hang", "reset", "swallow", "answer", "trickle", "stall", "cut"]


@dataclass(frozen=True)
class Fault:
    """What a request meets: which ones, how often, and how."""

    kind: Kind = "pass"
    seconds: float = 0.0
    status: int = 500
    times: int | None = None  # how many requests meet it, then all pass; None: every one
    path: str = ""  # only requests whose path contains this


class Proxy:
    """Stands before a server; its faults can be switched at any time, also for connections that are open.

    ``arrived`` counts requests by path, whatever became of them; ``forwarded`` those that the server answered.
    """

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._upstream = (parts.hostname, parts.port)
        self.arrived: Counter[str] = Counter()
        self.forwarded: Counter[str] = Counter()
        self._fault = Fault()
        self._lock = threading.Lock()
        self._port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault proxy")
        self._listener: socket.socket | None = None
        self._talks: dict[asyncio.Task[None], socket.socket] = {}

    # Switches

    def pass_on(self) -> None:
        """Be a good proxy, listening again if it refused."""
        self._switch(Fault())

    def refuse(self) -> None:
        """Refuse new connections and reset the open ones, as a server that is gone."""
        self._do(self._close())

    def hang(self, times: int | None = None, path: str = "") -> None:
        """Take requests and never answer; the server sees none of them."""
        self._switch(Fault("hang", times=times, path=path))

    def reset(self, times: int | None = None, path: str = "") -> None:
        """Reset the connection when a request has come in; the server sees none of them."""
        self._switch(Fault("reset", times=times, path=path))

    def swallow(self, times: int | None = None, path: str = "") -> None:
        """Let the server do what is asked, and end the connection instead of giving its answer."""
        self._switch(Fault("swallow", times=times, path=path))

    def answer(self, status: int, times: int | None = None, path: str = "") -> None:
        """Answer with this status, without asking the server."""
        self._switch(Fault("answer", status=status, times=times, path=path))

    def trickle(self, seconds: float = 1.0, times: int | None = None, path: str = "") -> None:
        """Give the server's answer one byte at a time, with a pause after each."""
        self._switch(Fault("trickle", seconds, times=times, path=path))

    def stall(self, seconds: float, times: int | None = None, path: str = "") -> None:
        """Give the head and half the body of the server's answer, pause, and give the rest."""
        self._switch(Fault("stall", seconds, times=times, path=path))

    def cut(self, times: int | None = None, path: str = "") -> None:
        """Give the head and half the body of the server's answer, and reset the connection."""
        self._switch(Fault("cut", times=times, path=path))

    # Life

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    def _switch(self, fault: Fault) -> None:
        with self._lock:
            self._fault = fault
        self._do(self._listen())

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self._port))
            self._listener.setblocking(False)
            self._port = self._listener.getsockname()[1]
            self._loop.add_reader(self._listener, self._welcome, self._listener)

    def _welcome(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the client has gone again
            client, _ = listener.accept()
            client.setblocking(False)
            talk = asyncio.create_task(self._talk(client))
            self._talks[talk] = client
            talk.add_done_callback(self._talks.pop)

    async def _close(self) -> None:
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        talks = dict(self._talks)
        for talk, client in talks.items():
            _end_with_reset(client)
            talk.cancel()
        await asyncio.gather(*talks, return_exceptions=True)
        for client in talks.values():
            client.close()  # a talk that had not begun has not done it

    # Requests

    def _met_by(self, path: str) -> Fault:
        """Tell what a request of this path meets, and count it off."""
        with self._lock:
            fault = self._fault
            if fault.path not in path:
                return Fault()
            if fault.times is not None:
                self._fault = replace(fault, times=fault.times - 1) if fault.times > 1 else Fault()
            return fault

    async def _talk(self, client: socket.socket) -> None:
        """Serve the requests of one connection until either side ends it."""
        reader, writer = await asyncio.open_connection(sock=client, limit=LIMIT_BYTES)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, OSError):
                while await self._serve(reader, writer):
                    pass
            writer.close()
        except asyncio.CancelledError:
            writer.transport.abort()
            raise

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request; tell whether the connection goes on."""
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.split(b" ", 2)
        path = target.decode().partition("?")[0]
        self.arrived[path] += 1
        fault = self._met_by(path)
        if fault.kind == "hang":
            await reader.read()  # until the client gives up
            return False
        body = await _body(reader, head, otherwise=b"")
        if fault.kind == "reset":
            return _reset(writer)
        if fault.kind == "answer":
            return await _send(writer, _refusal(fault.status))
        try:
            answer_head, answer_body = await self._ask(method, head + body)
        except (OSError, asyncio.IncompleteReadError):  # the server is gone: so is the connection to it
            return _reset(writer)
        self.forwarded[path] += 1
        return await DELIVERIES[fault.kind](writer, answer_head, answer_body, fault.seconds)

    async def _ask(self, method: bytes, request: bytes) -> tuple[bytes, bytes]:
        """Give the server a request; give its answer's head and body."""
        reader, writer = await asyncio.open_connection(*self._upstream, limit=LIMIT_BYTES)
        try:
            await _send(writer, request)
            head = await reader.readuntil(b"\r\n\r\n")
            if method == b"HEAD" or head.split(b" ", 2)[1] in BODILESS:
                return head, b""
            return head, await _body(reader, head, otherwise=None)
        finally:
            writer.close()


async def _body(reader: asyncio.StreamReader, head: bytes, otherwise: bytes | None) -> bytes:
    """Read what follows a head, as it came; `otherwise` is what a head without a length means, None: all there is."""
    fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:] if b":" in line)
    if b"chunked" in fields.get(b"transfer-encoding", b""):
        return await _chunks(reader)
    if b"content-length" in fields:
        return await reader.readexactly(int(fields[b"content-length"]))
    return await reader.read() if otherwise is None else otherwise


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    raw = b""
    while True:
        size = await reader.readuntil(b"\r\n")
        raw += size + await reader.readexactly(int(size.partition(b";")[0], 16) + 2)
        if int(size.partition(b";")[0], 16) == 0:
            return raw


async def _send(writer: asyncio.StreamWriter, data: bytes) -> bool:
    writer.write(data)
    await writer.drain()
    return True


def _reset(writer: asyncio.StreamWriter) -> bool:
    """End a connection with RST, which a plain close gives only by chance."""
    _end_with_reset(writer.get_extra_info("socket"))
    writer.transport.abort()
    return False


def _end_with_reset(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it has ended already
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _refusal(status: int) -> bytes:
    body = b'{"error_code": "INTERNAL_ERROR", "message": "the proxy was told to fail"}'
    head = f"HTTP/1.1 {status} Told\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def _pass(writer: asyncio.StreamWriter, head: bytes, body: bytes, seconds: float) -> bool:
    return await _send(writer, head + body) and b"\r\nconnection: close\r\n" not in head.lower()


async def _swallow(writer: asyncio.StreamWriter, head: bytes, body: bytes, seconds: float) -> bool:
    return False


async def _trickle(writer: asyncio.StreamWriter, head: bytes, body: bytes, seconds: float) -> bool:
    for byte in head + body:
        await _send(writer, bytes([byte]))
        await asyncio.sleep(seconds)
    return True


async def _stall(writer: asyncio.StreamWriter, head: bytes, body: bytes, seconds: float) -> bool:
    await _send(writer, head + body[: len(body) // 2])
    await asyncio.sleep(seconds)
    return await _send(writer, body[len(body) // 2 :])


async def _cut(writer: asyncio.StreamWriter, head: bytes, body: bytes, seconds: float) -> bool:
    await _send(writer, head + body[: len(body) // 2])
    await asyncio.sleep(0.05)  # a reset overtakes what the client has not read yet
    return _reset(writer)


Delivery = Callable[[asyncio.StreamWriter, bytes, bytes, float], Coroutine[Any, Any, bool]]
DELIVERIES: dict[Kind, Delivery] = {
    "pass": _pass,
    "swallow": _swallow,
    "trickle": _trickle,
    "stall": _stall,
    "cut": _cut,
}
