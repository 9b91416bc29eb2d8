"""What the workers of an endpoint are told: a file in its folder that they look at all the time; and what they say.

Nobody talks to a worker: it follows `instructions.json`, which is replaced as a whole, and tells in `ready.json` of its
own folder which revision it follows by now. So whoever wrote the file may die, and another go on.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from nbmlops.serving.protocols.limits import LIMITS, Limits

FILE, READY = "instructions.json", "ready.json"
VARIANTS, WORKERS = "variants", "workers"
COMPILED, ONNX, FACTS, MODEL, PREFLIGHT = "compiled.bin", "trees.onnx", "facts.json", "model", "preflight.json"
LOOPBACK = ("127.0.0.1", "localhost", "::1")  # addresses that no other machine reaches
COUNTERS, DOOR, LOG = "counters", "door", "server.log"


@dataclass(frozen=True)
class Bounds:
    """What a server takes on at once, and for how long."""

    max_waiting: int = 1024  # requests that wait or are answered now; one more is refused with 429
    deadline_s: float = 30.0  # in which a request is answered, or refused with 504
    body_s: float = 30.0  # in which its body has come
    latency_s: float = 0.02  # that a batch may take, as far as is known beforehand


@dataclass(frozen=True)
class ServedVariant:
    """A model version as workers serve it: from its folder, compiled or by model processes behind `sockets`."""

    label: str
    role: str
    weight: float
    folder: str
    form: str
    sockets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Instructions:
    """What an endpoint's workers serve, and within which bounds; paths are relative to the endpoint's folder."""

    endpoint: str
    revision: int
    model: str
    variants: tuple[ServedVariant, ...]
    address: str = "127.0.0.1"
    port: int = 0
    port_is_required: bool = False
    token: str = ""  # SHA-256, in hex, of the one that callers send; empty where none is asked for
    certificate: str = ""
    key: str = ""
    capture: Mapping[str, Any] = field(default_factory=dict)
    limits: Limits = LIMITS
    bounds: Bounds = Bounds()

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read them from an endpoint's folder."""
        told = json.loads((folder / FILE).read_bytes())
        variants = tuple(ServedVariant(**{**each, "sockets": tuple(each["sockets"])}) for each in told["variants"])
        limits, bounds = Limits(**told["limits"]), Bounds(**told["bounds"])
        return cls(**{**told, "variants": variants, "limits": limits, "bounds": bounds})

    def write(self, folder: Path) -> None:
        """Put them in place of those that are there, in one step."""
        replace_file(folder / FILE, asdict(self))


@dataclass(frozen=True)
class Ready:
    """What a process says of itself: who it is, where it listens, and which revision it follows."""

    pid: int
    pid_started: float
    port: int
    revision: int
    trouble: str = ""

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Read it from the process's own folder; None where it has said nothing yet."""
        try:
            return cls(**json.loads((folder / READY).read_bytes()))
        except FileNotFoundError:
            return None

    def write(self, folder: Path) -> None:
        """Say it."""
        replace_file(folder / READY, asdict(self))


def replace_file(path: Path, value: Any) -> None:
    """Write JSON in place of a file: readers find the old or the new, whole; nobody else may read it."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(value, file)
    draft.replace(path)
