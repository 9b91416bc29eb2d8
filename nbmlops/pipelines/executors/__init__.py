"""Where the steps of a pipeline run: each as the same command in a process of its own, on whatever engine.

An executor has two methods. No state of a run is in one: what it was given and had not finished when it was closed, or
lost, is simply run again.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

from nbmlops.errors import UsageError, nearest

# As the first word of a command: the interpreter of the place where it runs, and what calls functions there.
PYTHON, FUNCTION = "python", "function"


@dataclass(frozen=True)
class StepSpec:
    """One attempt at a step, as plain JSON: what any engine needs to run it anywhere.

    Parameters
    ----------
    name
        The step's instance, for people.
    command
        The words of its command.
    folder
        Its working folder; it must be there where it runs.
    environment
        Variables that are added to those of the place where it runs.
    parameters
        Values of its parameters: its process finds them in a file that only its user can read, named by two further
        words of the command, ``-f PATH``. None: it has no such words.
    log
        The file that takes what it writes to stderr, added at the end.
    timeout_s
        How long it may take from its start, in seconds; None is no limit.
    resources
        What it takes: ``cpus``, ``gpus``, ``memory_bytes``.
    """

    name: str
    command: tuple[str, ...]
    folder: str
    environment: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, Any] | None = None
    log: str = os.devnull
    timeout_s: float | None = None
    resources: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class StepEnd:
    """How the process of a step ended, whatever that means.

    `code` is its exit code, below 0 for the signal that killed it; `stderr` the last of what it wrote there.
    """

    code: int
    stdout: str = ""
    stderr: str = ""
    timed_out: bool = False


class Executor(Protocol):
    """What runs steps."""

    def submit(self, spec: StepSpec) -> "Future[StepEnd]":
        """Run a step as soon as there is room for it.

        The future gives its end. An exception of the future means that nothing is known of the step: the worker was
        lost, or the executor is closed; the step may be submitted again.
        """
        ...

    def close(self) -> None:
        """End what is running, and give back what the executor holds; twice does no harm."""
        ...


def run_here(spec: StepSpec) -> StepEnd:
    """Run a step in a process of its own and wait for its end: what an engine calls on one of its workers."""
    from nbmlops.pipelines.executors.local import Local

    local = Local(1)
    try:
        return local.submit(spec).result()
    finally:
        local.close()


# ------------------------------------------------------------------- by name
def named(text: str) -> Executor:
    """Open an executor by its name.

    Parameters
    ----------
    text
        ``local``, or ``local:4`` for at most four steps at once; ``ray`` and ``dask`` start one on this machine,
        ``ray:ADDRESS`` and ``dask:ADDRESS`` use a cluster.

    Raises
    ------
    UsageError
        There is none of that name, or its extra is not installed.

    Examples
    --------
    >>> named("lokal")
    Traceback (most recent call last):
    nbmlops.errors.UsageError: There is no executor 'lokal'.
      Did you mean local?
    """
    kind, _, where = text.partition(":")
    if kind not in _KINDS:
        raise UsageError(f"There is no executor {kind!r}.", nearest(kind, _KINDS))
    return _KINDS[kind](where)


@contextlib.contextmanager
def extra(name: str) -> Iterator[None]:
    """Name the extra that brings an engine, where its import fails."""
    try:
        yield
    except ImportError as exc:
        raise UsageError(
            f"The executor {name} needs nbmlops[{name}], which is not installed.", f"pip install 'nbmlops[{name}]'"
        ) from exc


def _local(n: str) -> Executor:
    from nbmlops.pipelines.executors.local import Local

    if n and not (n.isascii() and n.isdecimal() and int(n)):
        raise UsageError(f"local:{n} names no number of steps at once.", "Write local:4")
    return Local(int(n) if n else None)


def _ray(address: str) -> Executor:
    from nbmlops.pipelines.executors.ray import Ray

    return Ray(address)


def _dask(address: str) -> Executor:
    from nbmlops.pipelines.executors.dask import Dask

    return Dask(address)


_KINDS: Mapping[str, Callable[[str], Executor]] = {"local": _local, "ray": _ray, "dask": _dask}
