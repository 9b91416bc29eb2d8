"""What serving speaks of: endpoints, the server behind one, deployments, predictions. Nouns alone."""

import re
import shlex
from dataclasses import dataclass
from typing import Any

from nbmlops.errors import UsageError
from nbmlops.verb import Result

HOST = "127.0.0.1"
_NAME = re.compile(r"[\w-][\w .-]*")


def check_endpoint_name(name: str) -> str:
    """Give an endpoint's name back when it can be one: it also names a folder.

    Raises
    ------
    UsageError
        It holds other characters than letters, digits, ``_``, ``-``, ``.`` and spaces, or begins with a dot.

    Examples
    --------
    >>> check_endpoint_name("delays")
    'delays'
    """
    if not _NAME.fullmatch(name) or len(name) > 100:
        raise UsageError(f"{name!r} cannot name an endpoint.", "Use letters, digits, _, -, . and spaces: --as NAME")
    return name


@dataclass(frozen=True)
class ServerSpec:
    """What a server process is told: which model it serves from which verified copy, and on which port.

    `port` 0 means any free one, and unless `port_is_required` another one will do.
    `door` is the socket file at which the server that runs now hands over its port;
    `starter` is the process that waits for this one.
    """

    endpoint: str
    model: str
    path: str
    port: int
    port_is_required: bool
    door: str
    starter: int


@dataclass(frozen=True)
class Server:
    """The process that serves an endpoint, as the ledger keeps it."""

    endpoint: str
    model: str
    version: str
    host: str
    port: int
    pid: int
    pid_started: float
    since: str
    folder: str

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self.port}"

    @property
    def label(self) -> str:
        """The model version that it serves."""
        return f"{self.model}/{self.version}"

    @property
    def again(self) -> str:
        """The command that starts it again."""
        named = "" if self.endpoint == self.model else f" --as {shlex.quote(self.endpoint)}"
        return f"deploy {shlex.quote(self.label)}{named}"


@dataclass(frozen=True)
class Endpoint(Result):
    """One endpoint; `status` is ``answers``, ``silent``, ``dead``, or ``elsewhere`` when another machine serves it."""

    name: str
    url: str
    model: str
    version: str
    status: str
    pid: int
    since: str

    @property
    def subject(self) -> str:
        """How the ledger files it."""
        return f"endpoint/{self.name}"

    @property
    def headline(self) -> str:
        """The endpoint in one line."""
        return f"{self.name} at {self.url} serves {self.model}/{self.version}: {self.status}"


@dataclass(frozen=True)
class Deployment(Result):
    """A model version that is live on an endpoint; `replaced` is the version that was before it, empty if none."""

    endpoint: str
    url: str
    model: str
    version: str
    pid: int
    replaced: str = ""
    seconds: float = 0.0
    dry_run: bool = False

    @property
    def subject(self) -> str:
        """How the ledger files it."""
        return f"endpoint/{self.endpoint}"

    @property
    def headline(self) -> str:
        """What is live where, in one line."""
        before = f" in place of {self.replaced}" if self.replaced else ""
        if self.dry_run:
            return f"Would deploy {self.model}/{self.version} as {self.endpoint}{before}"
        return f"{self.model}/{self.version} is live at {self.url}/invocations{before} ({self.seconds:.1f} s)"

    @property
    def next_step(self) -> str:
        """Use it."""
        return "" if self.dry_run else f"predict {self.endpoint} --data TABLE"


@dataclass(frozen=True)
class Undeployment(Result):
    """An endpoint that is no more."""

    endpoint: str
    url: str
    model: str
    version: str
    dry_run: bool = False

    @property
    def subject(self) -> str:
        """How the ledger files it."""
        return f"endpoint/{self.endpoint}"

    @property
    def headline(self) -> str:
        """What stopped, in one line."""
        what = f"{self.endpoint} at {self.url}, which served {self.model}/{self.version}"
        return f"Would stop {what}" if self.dry_run else f"Stopped {what}"


@dataclass(frozen=True)
class Predictions(Result):
    """What an endpoint answered for a table, one prediction a row, in the table's order."""

    endpoint: str
    model: str
    version: str
    n_rows: int
    seconds: float
    rows_per_s: float
    predictions: tuple[Any, ...]
    output: str = ""

    @property
    def headline(self) -> str:
        """How many rows were scored, by what, how fast."""
        kept = f", kept in {self.output}" if self.output else ""
        return f"{self.model}/{self.version} scored {self.n_rows:,} rows in {self.seconds:.2f} s{kept}"
