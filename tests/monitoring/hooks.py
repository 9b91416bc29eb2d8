"""Real receivers of webhooks, some of them bad."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PATH = "/services/a-path-that-is-secret/0815"


@dataclass
class Call:
    """What a receiver got."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def content(self) -> Any:
        return json.loads(self.body)


@dataclass
class Hook:
    """A receiver: it answers with the statuses that were set, then with 200."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    location: str = ""
    says: bytes = b"ok"
    pause_s: float = 0.0
    calls: list[Call] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        return [call.id for call in self.calls]


@contextlib.contextmanager
def hook(secure: Callable[[socket.socket], socket.socket] | None = None) -> Iterator[Hook]:
    """Listen on this machine."""
    made = Hook()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            made.calls.append(Call(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            time.sleep(made.pause_s)
            self.send_response(made.statuses.pop(0) if made.statuses else 200)
            if made.location:
                self.send_header("Location", made.location)
            self.send_header("Content-Length", str(len(made.says)))
            self.end_headers()
            self.wfile.write(made.says)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        if secure:
            server.socket = secure(server.socket)
        made.url = f"{'https' if secure else 'http'}://127.0.0.1:{server.server_address[1]}{PATH}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def raw(talk: Callable[[socket.socket], object]) -> Iterator[tuple[str, list[Any]]]:
    """Listen on this machine and do with each connection what is said; gives the address, and who has connected."""
    connected: list[Any] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.05)
        is_over = threading.Event()

        def serve() -> None:
            with contextlib.ExitStack() as closing:
                while not is_over.is_set():
                    try:
                        sock, peer = listening.accept()
                    except TimeoutError:
                        continue
                    connected.append(peer)
                    closing.enter_context(sock)
                    with contextlib.suppress(OSError):
                        talk(sock)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}{PATH}", connected
        finally:
            is_over.set()
            thread.join()
