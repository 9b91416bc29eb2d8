"""A worker's process: ``python -m nbmlops.serving.worker FOLDER NUMBER [VERSION]``; imported by nobody.

It follows the instructions in its endpoint's folder, and loads what they name before it serves it. All workers accept
from one queue: a new one is handed the socket by one that runs. SIGTERM: it takes no new connection, finishes what it
has, and ends. The first worker of an endpoint begins as the clean process in which a version passes its preflight.
"""

import asyncio
import contextlib
import gc
import json
import os
import signal
import socket
import ssl
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import uvicorn
import uvloop

from nbmlops.registry.forms import Form
from nbmlops.serving import metrics, preflight
from nbmlops.serving.capture.columns import key_of
from nbmlops.serving.capture.settings import CaptureSettings
from nbmlops.serving.capture.writing import Capture
from nbmlops.serving.connections import Bounded, end_slow_ones
from nbmlops.serving.counters import Counters, refusals, summed
from nbmlops.serving.instructions import COUNTERS, DOOR, FACTS, FILE, LOG, WORKERS, Instructions, Ready, ServedVariant
from nbmlops.serving.log import Output, bound
from nbmlops.serving.scored import loaded
from nbmlops.serving.service import Live, Service, Variant, live_of

GARBAGE = (50_000, 20, 100)  # what a request leaves holds no cycles: looking for them often only costs
LOOK_S = 0.1
NEWBORN_S, NEWBORN_LOOK_S = 20.0, 0.002  # that a first worker waits to be told what to serve
FLUSH_S = 0.1  # between two writes of what is captured: so much may be lost with a killed worker
LAST_CALL_S = 0.5  # connections that were accepted when the end came have this long to send their request
FINISH_S = 30
LOG_S = 1.0  # between two looks at how large the log is
KEEP_ALIVE_S = 75
BACKLOG = 1024


class Worker:
    """One worker: what it serves, and how it follows its instructions; its working folder is the endpoint's."""

    def __init__(self, number: int) -> None:
        self._own = Path(WORKERS, str(number))
        self._counters = Counters.open(self._own / COUNTERS)
        self._seen: Any = None
        self._port = 0
        self._trouble = ""
        instructions = self._read()
        live, capture = self._loaded(instructions, {}), _capture(instructions)
        self._service = Service(live, capture, self._counted, self._counters.refused)

    def _read(self) -> Instructions:
        self._seen = _stamp()
        return Instructions.read(Path())

    def _loaded(self, instructions: Instructions, known: dict[str, Variant]) -> Live:
        """Make what is to be served ready; a version that is served already stays as it is."""
        forms = {each.label: _form(each) for each in instructions.variants}
        variants = {
            each.label: self._variant(each, forms[each.label], instructions, known.get(each.label))
            for each in instructions.variants
        }
        return live_of(instructions, variants, forms)

    def _variant(self, each: ServedVariant, form: Form, instructions: Instructions, known: Variant | None) -> Variant:
        model = known.model if known else loaded(Path(), each, form, instructions.bounds)
        model.follow(each.sockets)
        return Variant(each.label, each.role, model, self._counters.tally(each.label))

    # ---------------------------------------------------------------------- serving
    async def serve(self) -> None:
        """Answer until SIGTERM, then finish what was begun."""
        loop = asyncio.get_running_loop()
        instructions = self._service.live.instructions
        listener = listen(instructions, self._own)
        self._port = listener.getsockname()[1]
        server = uvicorn.Server(_config(self._service, instructions))
        ended = asyncio.Event()
        serving = loop.create_task(server.serve(sockets=[listener]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.005)
        loop.add_signal_handler(signal.SIGTERM, ended.set)
        close_door = open_door(listener, self._own / DOOR)
        others = [
            loop.create_task(self._follow(ended)),
            loop.create_task(self._flush()),
            loop.create_task(self._expire()),
            loop.create_task(_keep_log()),
            loop.create_task(end_slow_ones(server.server_state.connections, self._longest_s)),
        ]
        self._say_ready()
        await asyncio.wait([serving, loop.create_task(ended.wait())], return_when=asyncio.FIRST_COMPLETED)
        close_door()
        self._service.is_ending = True
        for accepting in server.servers:
            accepting.close()
        await asyncio.sleep(LAST_CALL_S)
        server.should_exit = True
        await serving
        for other in others:
            other.cancel()
        self._end()

    def _longest_s(self) -> float:
        return self._service.live.instructions.bounds.body_s

    def _end(self) -> None:
        if self._service.capture:
            self._service.capture.close()
        self._counters.close()

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            if self._service.capture:
                await asyncio.to_thread(self._service.capture.flush)

    async def _expire(self) -> None:
        """Give up requests that wait longer than they may."""
        while True:
            await asyncio.sleep(LOOK_S)
            live = self._service.live
            before = asyncio.get_running_loop().time() - live.instructions.bounds.deadline_s
            for variant in live.variants.values():
                variant.model.expire(before)

    async def _follow(self, ended: asyncio.Event) -> None:
        """Do what the instructions say, as soon as they say something else; end where they are gone."""
        while not ended.is_set():
            await asyncio.sleep(LOOK_S)
            try:
                if _stamp() != self._seen:
                    await self._change()
            except FileNotFoundError:
                ended.set()
            except Exception as exc:  # noqa: BLE001  # what cannot be loaded is told, and what is served goes on
                traceback.print_exc()
                self._trouble = str(exc)
                self._say_ready()

    async def _change(self) -> None:
        instructions = self._read()
        before = self._service.live
        live = self._loaded(instructions, dict(before.variants))
        self._service.live = live
        self._trouble = ""
        if self._service.capture:
            _describe(self._service.capture, instructions)
        if instructions.capture != before.instructions.capture:
            await self._capture_otherwise(instructions)
        self._say_ready()
        for label in before.variants.keys() - live.variants.keys():
            asyncio.get_running_loop().call_later(FINISH_S, before.variants[label].model.close)
            self._counters.release(label)

    async def _capture_otherwise(self, instructions: Instructions) -> None:
        former, self._service.capture = self._service.capture, _capture(instructions)
        if former:
            await asyncio.to_thread(former.close)

    def _say_ready(self) -> None:
        me = psutil.Process()
        revision = self._service.live.instructions.revision
        Ready(me.pid, me.create_time(), self._port, revision, self._trouble).write(self._own)

    def _counted(self) -> str:
        instructions = self._service.live.instructions
        weights = {each.label: each.weight for each in instructions.variants}
        paths = list(Path(WORKERS).glob(f"*/{COUNTERS}"))
        return metrics.exposition(instructions.endpoint, summed(paths), weights, refusals(paths))


async def _keep_log() -> None:
    """Bound the endpoint's log, and write to the one that is there."""
    log = Path(LOG)
    output = Output(log)
    while True:
        bound(log)
        output.follow()
        await asyncio.sleep(LOG_S)


def _stamp() -> tuple[int, int]:
    found = os.stat(FILE)
    return found.st_mtime_ns, found.st_ino


def _form(variant: ServedVariant) -> Form:
    return Form.of_record(json.loads(Path(variant.folder, FACTS).read_bytes()))


def _capture(instructions: Instructions) -> Capture | None:
    if not instructions.capture:
        return None
    settings = CaptureSettings.of(instructions.capture)
    state = Path.cwd().parent.parent  # .nbmlops, above endpoints/NAME
    key = key_of(state) if settings.hash else b""
    capture = Capture(state / "capture" / instructions.endpoint, settings, key=key, told=_tell)
    _describe(capture, instructions)
    return capture


def _describe(capture: Capture, instructions: Instructions) -> None:
    for each in instructions.variants:
        capture.describe(each.label, _form(each).inputs or None)


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _config(service: Service, instructions: Instructions) -> uvicorn.Config:
    return uvicorn.Config(
        service,
        http=Bounded,
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="error",
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=FINISH_S,
        ssl_certfile=instructions.certificate or None,
        ssl_keyfile=instructions.key or None,
        ssl_version=ssl.PROTOCOL_TLS_SERVER,
    )


# ------------------------------------------------------------------------ the socket
def listen(instructions: Instructions, own: Path) -> socket.socket:
    """Share the socket of a worker that runs, or bind the port; another one will do if none was asked for."""
    for door in sorted(Path(WORKERS).glob(f"*/{DOOR}")):
        if door.parent != own:
            with contextlib.suppress(OSError):
                return handed_over(door)
    try:
        return bind(instructions.address, instructions.port)
    except OSError as exc:
        if instructions.port_is_required:
            sys.exit(f"Port {instructions.port} cannot be had: {exc.strerror}.")
        return bind(instructions.address, 0)


def bind(address: str, port: int) -> socket.socket:
    """Listen on a port; 0 means any free one."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def handed_over(door: Path) -> socket.socket:
    """Receive the listening socket of a worker that runs: from here on both accept from one queue."""
    with socket.socket(socket.AF_UNIX) as visitor:
        visitor.settimeout(5)
        visitor.connect(str(door))
        _, descriptors, _, _ = socket.recv_fds(visitor, 1, 1)
    if not descriptors:
        raise OSError("it sent nothing")
    return socket.socket(fileno=descriptors[0])


def open_door(listener: socket.socket, door: Path) -> Callable[[], None]:
    """Hand the listening socket to every visitor, from the event loop; gives the function that closes the door."""
    loop = asyncio.get_running_loop()
    door.unlink(missing_ok=True)
    waiting = socket.socket(socket.AF_UNIX)
    waiting.bind(str(door))
    door.chmod(0o600)
    waiting.listen()
    waiting.setblocking(False)

    def hand_over() -> None:
        visitor, _ = waiting.accept()
        with visitor:
            socket.send_fds(visitor, [b"."], [listener.fileno()])

    def close() -> None:
        loop.remove_reader(waiting)
        waiting.close()
        door.unlink(missing_ok=True)

    loop.add_reader(waiting, hand_over)
    return close


def newborn(number: int, version: Path) -> bool:
    """Put a version to proof, then wait to be told to serve it; say whether that was so."""
    starter, deadline = os.getppid(), time.monotonic() + NEWBORN_S
    me = psutil.Process()
    Ready(me.pid, me.create_time(), port=0, revision=0).write(Path(WORKERS, str(number)))
    if not preflight.made(version).passed:
        return False
    while not Path(FILE).exists():
        if os.getppid() != starter or time.monotonic() > deadline:
            return False
        time.sleep(NEWBORN_LOOK_S)
    return True


def main(folder: str, number: int, version: str = "") -> None:
    """Serve as the instructions in a folder say; before there are any, the first worker proves a version."""
    os.chdir(folder)
    gc.set_threshold(*GARBAGE)
    if version and not newborn(number, Path(version)):
        return

    async def serve() -> None:
        await Worker(number).serve()

    uvloop.run(serve())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
