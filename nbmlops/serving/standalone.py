"""An endpoint without a project, as a container has it: ``python -m nbmlops.serving.standalone FOLDER``.

The folder holds instructions and verified model versions, and is only read. What runs is what runs on a machine with a
project: the same preflight, workers and model processes; here one process holds them. It passes SIGTERM on, and ends
when one of them does, so that whatever runs the container starts it anew.
"""

import argparse
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from nbmlops.errors import DeployError, KernelError, NbmlopsError, UsageError
from nbmlops.registry.forms import COMPILED
from nbmlops.serving.instructions import PREFLIGHT, WORKERS, Instructions, Ready, ServedVariant
from nbmlops.serving.preflight import Preflight
from nbmlops.serving.wire import socket_name

TOKEN = "NBMLOPS_TOKEN"  # noqa: S105  # the name of the variable, not its value
LOOK_S = 0.02
STOP_S = 40.0  # longer than a worker takes to finish the requests it has


class EndedError(Exception):
    """Somebody has asked for the end."""


class Processes:
    """The endpoint's processes, in the order in which they were started."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._is_ending = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.end())

    def end(self) -> None:
        """Have whoever waits here raise `EndedError`."""
        self._is_ending = True

    def start(self, module: str, *words: str) -> subprocess.Popen[bytes]:
        """Start one; it says what it has to say where we do."""
        command = [sys.executable, "-P", "-m", f"nbmlops.serving.{module}", *words]
        # in a session of its own, so that Ctrl-C reaches it through us alone, in order
        process = subprocess.Popen(command, cwd=self._state, stdin=subprocess.DEVNULL, start_new_session=True)
        self._running.append((module, process))
        return process

    def wait(self, is_so: Callable[[], bool]) -> None:
        """Wait until something is so.

        Raises
        ------
        KernelError
            One of the processes has ended.
        EndedError
            The end was asked for.
        """
        while True:
            ended = next((each for each in self._running if each[1].poll() is not None), None)
            if is_so():
                return
            if self._is_ending:
                raise EndedError
            if ended:
                raise KernelError(f"The endpoint's {ended[0]} has ended with exit code {ended[1].returncode}.")
            time.sleep(LOOK_S)

    def finish(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for the end of one that is to end by itself."""
        self.wait(lambda: process.poll() is not None)
        self._running = [each for each in self._running if each[1] is not process]

    def stop(self) -> None:
        """End all, the last one that was started first: workers finish what they have, and only then models go."""
        for _, process in reversed(self._running):
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def told(folder: Path, n_workers: int, *, may_be_open: bool) -> Instructions:
    """Read the instructions, and say who may ask.

    Raises
    ------
    UsageError
        No token is set, and nothing says that none is wanted.
    """
    token = os.environ.pop(
        TOKEN, ""
    ).strip()  # a secret that was made of a file ends with its line; our processes need its digest alone
    if not token and not may_be_open:
        raise UsageError(
            f"{TOKEN} is not set, so whoever reaches the port could ask the model.",
            "Set it; or pass --without-token where something else decides who may ask.",
        )
    instructions = Instructions.read(folder)
    return replace(
        instructions,
        variants=tuple(_with_sockets(each, n_workers) for each in instructions.variants),
        token=hashlib.sha256(token.encode()).hexdigest() if token else "",
    )


def _with_sockets(variant: ServedVariant, n_workers: int) -> ServedVariant:
    """Name the sockets of a model's processes, one for each worker; a compiled model has none."""
    if variant.form == COMPILED:
        return variant
    return replace(variant, sockets=tuple(f"{variant.folder}/{socket_name(child)}" for child in range(n_workers)))


def placed(folder: Path, state: Path, instructions: Instructions) -> None:
    """Lay out the endpoint's folder: what is written is there, and links lead to what is only read."""
    for variant in instructions.variants:
        place = state / variant.folder
        place.mkdir(parents=True)
        for path in (folder / variant.folder).iterdir():
            (place / path.name).symlink_to(path.resolve())
    instructions.write(state)


def bring_up(processes: Processes, state: Path, instructions: Instructions, n_workers: int) -> None:
    """Prove every version, and start what answers."""
    for variant in instructions.variants:
        try:
            _prove(processes, state, variant, n_workers)
        finally:
            _refuse_failed(state, variant)
    for number in range(n_workers):
        own = state / WORKERS / str(number)
        own.mkdir(parents=True)
        _await_ready(processes, own, processes.start("worker", str(state), str(number)))


def _prove(processes: Processes, state: Path, variant: ServedVariant, n_workers: int) -> None:
    """Put a version to the proof in a clean process; that of a model which is not compiled goes on to answer."""
    if variant.form == COMPILED:
        processes.finish(processes.start("preflight", variant.folder))
    else:
        model = processes.start("model_process", variant.folder, str(n_workers))
        _await_ready(processes, state / variant.folder, model)


def _await_ready(processes: Processes, own: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until a process says in its own folder that it is ready."""

    def is_ready() -> bool:
        ready = Ready.read(own)
        return ready is not None and ready.pid == process.pid

    processes.wait(is_ready)


def _refuse_failed(state: Path, variant: ServedVariant) -> None:
    """Refuse a version whose preflight says no; one that says nothing was ended before it could."""
    place = state / variant.folder
    found = Preflight.read(place) if (place / PREFLIGHT).exists() else None
    if found and not found.passed:
        raise DeployError(f"{variant.label} failed its preflight: {found.failures}.")


def serve(folder: Path, n_workers: int, *, may_be_open: bool) -> None:
    """Serve what a folder holds until SIGTERM.

    Raises
    ------
    UsageError
        There is no token.
    DeployError
        A version failed its preflight.
    KernelError
        A process has ended by itself.
    """
    instructions = told(folder, n_workers, may_be_open=may_be_open)
    state = Path(tempfile.mkdtemp(prefix="nbmlops-"))  # mode 0700
    processes = Processes(state)
    try:
        placed(folder, state, instructions)
        bring_up(processes, state, instructions, n_workers)
        processes.wait(lambda: False)
    except EndedError:
        pass
    finally:
        processes.stop()
        shutil.rmtree(state, ignore_errors=True)


def main(words: Sequence[str]) -> int:
    """Serve; gives the exit code."""
    parser = argparse.ArgumentParser("nbmlops.serving.standalone", description="Serve an exported endpoint.")
    parser.add_argument("folder", type=Path, help="the exported endpoint: instructions.json and variants/")
    parser.add_argument("--workers", type=int, default=1, help="processes that answer; 1 unless given")
    parser.add_argument("--without-token", action="store_true", help="answer whoever reaches the port")
    asked = parser.parse_args(words)
    try:
        serve(asked.folder.resolve(), max(asked.workers, 1), may_be_open=asked.without_token)
    except NbmlopsError as exc:
        sys.stderr.write(f"{type(exc).__name__}: {exc}\n")
        return exc.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
