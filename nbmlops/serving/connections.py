"""uvicorn's HTTP protocol, bounded: heads without end, requests that never come to theirs, answers that nobody reads.

What is written here by hand is what uvicorn has no setting for. What it refuses itself gets the one shape of errors.
"""

import asyncio
import re
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from nbmlops.errors import UsageError
from nbmlops.serving.protocols.refusals import JSON, refused

MAX_HEAD_BYTES = 64 * 1024  # of a head, of a chunk's own head, and of the headers after a body
MOST_AHEAD = 100  # requests on one connection that wait for the answer to one before them
LOOK_S = 0.5
LINGER_S = (
    1.0  # what comes after a refusal is dropped for so long: a connection closed at once may take the answer along
)


def _refusal(status: int, message: str, hint: str = "") -> bytes:
    body = refused(status, UsageError(message, hint)).body
    head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: {JSON}\r\ncontent-length: {len(body)}\r\n"
    return f"{head}connection: close\r\n\r\n".encode() + body


_UPGRADE = re.compile(rb"\r\nupgrade:[^\r\n]*", re.IGNORECASE)
_NO_HTTP, _TOO_SLOW, _TOO_LARGE = 400, 408, 431
_SAID = {
    _NO_HTTP: _refusal(_NO_HTTP, "This is no HTTP request that can be read."),
    _TOO_SLOW: _refusal(_TOO_SLOW, "The request did not arrive in time.", "Send it faster, or fewer rows."),
    _TOO_LARGE: _refusal(
        _TOO_LARGE, f"The request's head is larger than {MAX_HEAD_BYTES // 1024} kB.", "Send fewer headers."
    ),
}


def _without_upgrade(data: bytes) -> bytes:
    """Leave out the offer to speak another protocol, which Java's client makes: the parser would drop the body."""
    head, end, body = data.partition(b"\r\n\r\n")
    return _UPGRADE.sub(b"", head) + end + body


class Bounded(HttpToolsProtocol):  # type: ignore[misc]
    """One connection; `began` is when the request that now comes in began to, None between two."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.began: float | None = time.monotonic()
        self._n_bytes = 0  # of this request so far, without those of its body; of a chunked one, since the last chunk
        self._is_head = True
        self._is_refused = False
        self._answering: Any = None  # with requests sent ahead that is not the newest one, which uvicorn remembers
        self._unsent, self._unsent_since = 0, 0.0

    def data_received(self, data: bytes) -> None:
        """Take what came, unless it is too much that is no body."""
        if self._is_refused:
            return
        self._n_bytes += len(data)
        if self.began is None:
            self.began = time.monotonic()
        if self._is_head and b"pgrade:" in data:
            data = _without_upgrade(data)
        super().data_received(data)
        if self._n_bytes > MAX_HEAD_BYTES:
            self._refuse(_TOO_LARGE)

    def on_headers_complete(self) -> None:
        """Remember that what comes now is a body; who insists on another protocol gets one answer."""
        if len(self.pipeline) > MOST_AHEAD:
            raise ValueError("too many")  # the parser stops here, and says that this is not to be read
        super().on_headers_complete()
        self._is_head = False
        if self.began is None:  # it came together with the end of the one before
            self.began = time.monotonic()
        if self.parser.should_upgrade():
            self.cycle.keep_alive = False

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever answers now that nobody listens."""
        super().connection_lost(exc)
        if self._answering is not None:
            self._answering.disconnected = True
            self._answering.message_event.set()

    def on_chunk_header(self) -> None:
        """Begin to count anew."""
        self._n_bytes = 0

    def on_body(self, body: bytes) -> None:
        """Take a part of a body: how large it may be is the service's to say."""
        self._n_bytes -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Remember that nothing is on its way."""
        self._is_head, self.began, self._n_bytes = True, None, 0
        super().on_message_complete()

    def send_400_response(self, _: str) -> None:
        """Refuse what is no HTTP."""
        self._refuse(_NO_HTTP)

    def end_if_slow(self, before: float) -> None:
        """Give up a connection whose request began before a time and is not here yet, or that takes no answer."""
        if self._is_stuck(before):
            self.transport.abort()
        elif self.began is not None and self.began < before and not self._is_refused:
            self._refuse(_TOO_SLOW if self._n_bytes or not self._is_head else None)

    def _is_stuck(self, before: float) -> bool:
        """Say whether nothing of an answer was taken since a time."""
        unsent = self.transport.get_write_buffer_size()
        if unsent != self._unsent or not unsent:
            self._unsent, self._unsent_since = unsent, time.monotonic()
        return bool(unsent) and self._unsent_since < before

    def _refuse(self, status: int | None) -> None:
        """Say no, unless there is nothing to say it to or this request has been answered, and close."""
        if self._is_refused or self.transport.is_closing():
            return
        self._is_refused = True
        if status and self._may_answer():
            self.transport.write(_SAID[status])
            self.app.refused(status)
        self.loop.call_later(LINGER_S if status else 0, self.transport.close)

    def _may_answer(self) -> bool:
        """Say whether the next answer on this connection is due to the request that comes in now."""
        if self.cycle is None or self._is_head:
            return self.cycle is None or self.cycle.response_complete
        return not (self.cycle.response_started or self.pipeline)


async def end_slow_ones(connections: Iterable[Any], longest_s: Callable[[], float]) -> None:
    """Look again and again for requests that take longer than allowed to arrive, and answers that nobody reads."""
    while True:
        await asyncio.sleep(min(LOOK_S, longest_s() / 2))
        before = time.monotonic() - longest_s()
        for connection in list(connections):
            if isinstance(connection, Bounded):
                connection.end_if_slow(before)
