"""Closed-loop clients beside a test: each keeps its connection, and remembers whatever was not answered with 200."""

import contextlib
import http.client
import itertools
import json
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

JSON = {"Content-Type": "application/json"}


def row(**values: Any) -> bytes:
    """Word a request of one row."""
    return json.dumps({"dataframe_split": {"columns": [*values], "data": [[*values.values()]]}}).encode()


def x(value: float) -> bytes:
    """Ask the moody model."""
    return row(x=value)


DELAYS = row(delay=0.3, carrier="UA", day=2)


def answer(url: str, body: bytes = DELAYS, timeout_s: float = 30.0) -> tuple[int, Any]:
    """Ask once; gives the predictions, or the message of the error."""
    request = urllib.request.Request(f"{url}/invocations", body, JSON)
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            return response.status, json.load(response)["predictions"]
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, json.load(exc)["error"]["message"]


@dataclass
class Client(threading.Thread):
    """One connection, one request after the other; a connection that is lost is opened anew."""

    port: int
    body: bytes
    is_over: threading.Event
    pause_s: float = 0.002
    timeout_s: float = 20.0
    path: str = ""
    token: str = ""
    failures: list[str] = field(default_factory=list)
    answered: list[tuple[float, str]] = field(default_factory=list)  # when, and by which version
    slowest_s: float = 0.0

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        connection = self._opened()
        headers = {**JSON, **({"Authorization": f"Bearer {self.token}"} if self.token else {})}
        while not self.is_over.is_set():
            started = time.monotonic()
            try:
                connection.request("POST", f"{self.path}/invocations", self.body, headers)
                response = connection.getresponse()
                said = response.read()
                if response.status != 200:
                    self.failures.append(f"{response.status} {said[:200]!r}")
                self.answered.append((time.monotonic(), response.headers.get("nbmlops-model", "")))
                self.slowest_s = max(self.slowest_s, time.monotonic() - started)
            except (OSError, http.client.HTTPException) as exc:
                self.failures.append(repr(exc))
                connection.close()
                connection = self._opened()
            time.sleep(self.pause_s)
        connection.close()

    def _opened(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout_s)


@dataclass
class Crowd:
    """Clients that ask at the same time."""

    clients: list[Client]

    @property
    def failures(self) -> list[str]:
        return [failure for client in self.clients for failure in client.failures]

    @property
    def versions(self) -> Counter[str]:
        return Counter(version for client in self.clients for _, version in client.answered)

    @property
    def n_answered(self) -> int:
        return sum(len(client.answered) for client in self.clients)

    @property
    def longest_gap_s(self) -> float:
        """The longest time in which nobody got an answer."""
        times = sorted(at for client in self.clients for at, _ in client.answered)
        return max((later - before for before, later in itertools.pairwise(times)), default=0.0)

    def since(self, moment: float) -> Counter[str]:
        return Counter(version for client in self.clients for at, version in client.answered if at > moment)


@contextlib.contextmanager
def crowd(
    url: str, body: bytes, n_clients: int = 6, pause_s: float = 0.002, timeout_s: float = 20.0, token: str = ""
) -> Iterator[Crowd]:
    """Have clients ask until the block is over."""
    is_over, where = threading.Event(), urlsplit(url)
    told = (where.port or 80, body, is_over, pause_s, timeout_s, where.path, token)
    them = Crowd([Client(*told) for _ in range(n_clients)])
    for client in them.clients:
        client.start()
    try:
        yield them
    finally:
        is_over.set()
        for client in them.clients:
            client.join()


def until(is_so: Callable[[], object], within_s: float = 60.0) -> float:
    """Wait for something; give how long it took."""
    started = time.monotonic()
    while not is_so():
        assert time.monotonic() - started < within_s, f"it was not so within {within_s:g} s"
        time.sleep(0.01)
    return time.monotonic() - started
