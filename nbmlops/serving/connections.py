"""uvicorn's HTTP protocol, bounded: heads that grow without end, and requests that never come to theirs.

What is written here by hand is what uvicorn has no setting for.
"""

import asyncio
import time
from collections.abc import Iterable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 1024
LOOK_S = 0.5
_TOO_LARGE = (431, "Request Header Fields Too Large")
_TOO_SLOW = (408, "Request Timeout")


class Bounded(HttpToolsProtocol):  # type: ignore[misc]  # uvicorn is not followed
    """One connection; `began` is when the request that now comes in began to, None between two."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.began: float | None = time.monotonic()
        self._head_bytes = 0
        self._is_head = True

    def data_received(self, data: bytes) -> None:
        """Take what came, unless the request's head is too long by now."""
        if self._is_head:
            self._head_bytes += len(data)
            if self.began is None:
                self.began = time.monotonic()
        super().data_received(data)
        if self._is_head and self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(*_TOO_LARGE)

    def on_headers_complete(self) -> None:
        """Remember that what comes now is a body."""
        self._is_head, self._head_bytes = False, 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Remember that nothing is on its way."""
        self._is_head, self.began = True, None
        super().on_message_complete()

    def end_if_slow(self, before: float) -> None:
        """Give up a connection whose request began before a time and is not here yet."""
        if self.began is None or self.began > before or self.transport.is_closing():
            return
        if self._is_head and self._head_bytes:
            self._refuse(*_TOO_SLOW)
        elif self._is_head or not self.cycle.response_started:
            self.transport.close()

    def _refuse(self, status: int, words: str) -> None:
        head = f"HTTP/1.1 {status} {words}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        self.transport.write(head.encode())
        self.transport.close()


async def end_slow_ones(connections: Iterable[Any], longest_s: float) -> None:
    """Look again and again for requests that take longer than allowed to arrive."""
    while True:
        await asyncio.sleep(min(LOOK_S, longest_s / 2))
        before = time.monotonic() - longest_s
        for connection in list(connections):
            if isinstance(connection, Bounded):
                connection.end_if_slow(before)
