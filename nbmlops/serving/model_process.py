"""The processes of a model that is not compiled: ``python -m nbmlops.serving.model_process FOLDER CHILDREN``.

The parent loads the model through MLflow and never predicts: a library's threads do not survive a fork. Its children
do: they share its memory, and one that dies is forked anew in no time. Where the parent itself dies they go on until
another parent has taken its place.
"""

import asyncio
import contextlib
import json
import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import orjson
import psutil

from nbmlops.registry.forms import Form
from nbmlops.serving import preflight
from nbmlops.serving.check import Check
from nbmlops.serving.instructions import FACTS, LOG, MODEL, Ready
from nbmlops.serving.log import Output
from nbmlops.serving.protocols.refusals import Answer, refused
from nbmlops.serving.pyfunc import FAILED, JSON, Asked, answer, answers, rows_stand_alone
from nbmlops.serving.wire import FRAME, GOING, REPLY, socket_name

LOG_FILE = Path("..", "..", LOG)  # the endpoint's, two folders above the version's
LOOK_S = 0.5
LAST_CALL_S = 0.2
HUNG_S = 45  # in which a batch is answered: nobody waits so long for it, and another process may do better
STOPPED_S = 3.0  # that a child may be stopped, before another answers what it was asked
PROOF_S = 120
QUICK_S, MOST_QUICK = 1.0, 5  # a child that dies again and again is forked anew once in that time, beyond so often


# ------------------------------------------------------------------------ a child
@dataclass(frozen=True)
class _Asking:
    """A request, and where its answer goes."""

    number: int
    asked: Asked
    writer: asyncio.StreamWriter


class Child:
    """Answers what comes over its socket: one thread predicts, and takes all that waits as one batch."""

    def __init__(self, model: Any, *, is_batchable: bool) -> None:
        self._model = model
        self._is_batchable = is_batchable
        self._asking: queue.SimpleQueue[_Asking | None] = queue.SimpleQueue()
        self._writing: set[asyncio.StreamWriter] = set()
        self._n_open = 0

    async def serve(self, listener: socket.socket, is_wanted: "asyncio.Event") -> None:
        """Answer until told to end, then finish what was begun."""
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._predict, args=(loop,), daemon=True).start()
        server = await asyncio.start_unix_server(self._take, sock=listener)
        await is_wanted.wait()
        server.close()
        for writer in self._writing:
            writer.write(GOING)
        await asyncio.sleep(LAST_CALL_S)  # what was on its way
        while self._n_open:
            await asyncio.sleep(0.01)
        for writer in self._writing:
            with contextlib.suppress(OSError):
                await writer.drain()
        self._asking.put(None)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writing.add(writer)
        try:
            while True:
                length, number, n_type = FRAME.unpack(await reader.readexactly(FRAME.size))
                content = await reader.readexactly(length)
                self._n_open += 1
                self._asking.put(_Asking(number, (content[n_type:], content[:n_type].decode("latin-1")), writer))
        except (asyncio.IncompleteReadError, OSError):
            writer.close()
        finally:
            self._writing.discard(writer)

    def _predict(self, loop: asyncio.AbstractEventLoop) -> None:
        while first := self._asking.get():
            batch = [first]
            with contextlib.suppress(queue.Empty):
                while another := self._asking.get_nowait():
                    batch.append(another)
            loop.call_soon_threadsafe(self._reply, batch, self._answered(batch))

    def _answered(self, batch: list[_Asking]) -> list[Answer]:
        signal.alarm(HUNG_S)  # ends the process, whatever holds it up
        try:
            return answers(self._model, [each.asked for each in batch], is_batchable=self._is_batchable)
        except Exception:  # noqa: BLE001  # a bug of ours: it is logged, and the process goes on
            traceback.print_exc()
            return [refused(500, FAILED)] * len(batch)
        finally:
            signal.alarm(0)

    def _reply(self, batch: list[_Asking], given: list[Answer]) -> None:
        for each, reply in zip(batch, given, strict=True):
            self._n_open -= 1
            if not each.writer.is_closing():
                each.writer.write(REPLY.pack(len(reply.body), each.number, reply.status) + reply.body)


def _be_child(model: Any, listener: socket.socket, parent: int, *, is_batchable: bool) -> None:
    """Answer, in a process that was forked for it, until told to end or no longer wanted."""
    example = Form.of_record(json.loads(Path(FACTS).read_bytes())).example
    if example:
        answer(model, example.encode(), JSON)  # the first of a process is slow, and no caller's matter

    async def serve() -> None:
        is_over = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, is_over.set)
        looking = loop.create_task(_look(is_over, parent))
        await Child(model, is_batchable=is_batchable).serve(listener, is_over)
        looking.cancel()

    asyncio.run(serve())


async def _look(is_over: asyncio.Event, parent: int) -> None:
    """End where the folder is gone, or another parent has taken the place of ours, which has died."""
    output = Output(LOG_FILE)
    while not is_over.is_set():
        await asyncio.sleep(LOOK_S)
        output.follow()
        ready = Ready.read(Path()) if Path(FACTS).exists() else None
        if not Path(FACTS).exists() or (os.getppid() != parent and ready and ready.pid != parent):
            is_over.set()


# ----------------------------------------------------------------------- the parent
class Parent:
    """Holds the model, and sees that its children live."""

    def __init__(self, model: Any, n_children: int, *, is_batchable: bool) -> None:
        self._model = model
        self._is_batchable = is_batchable
        _forget_others(n_children)
        self._listeners = [_listening(child) for child in range(n_children)]
        self._children: dict[int, int] = {}
        self._forked: dict[int, list[float]] = {}
        self._stopped: dict[int, float] = {}  # children that somebody has stopped, and since when
        self._is_ending = False

    def run(self) -> None:
        """Keep the children alive until told to end."""
        signal.signal(signal.SIGTERM, self._end)
        self._fork_missing()
        ready = Ready(os.getpid(), psutil.Process().create_time(), 0, 0)
        ready.write(Path())
        output = Output(LOG_FILE)
        while self._children or not self._is_ending:
            self._children.pop(self._ended(), None)
            self._kill_stopped()
            output.follow()
            if not self._is_wanted():
                self._end()
            if not self._is_ending:
                self._fork_missing()

    def _is_wanted(self) -> bool:
        """Say whether the model is still served, and by this parent: another one may have taken its place."""
        told = Ready.read(Path()) if Path(FACTS).exists() else None
        return told is not None and told.pid == os.getpid()

    def _ended(self) -> int:
        """Wait a moment for a child to end; 0 where none has."""
        deadline = time.monotonic() + LOOK_S
        while time.monotonic() < deadline:
            with contextlib.suppress(ChildProcessError):
                if pid := os.waitpid(-1, os.WNOHANG)[0]:
                    return pid
            time.sleep(0.01)
        return 0

    def _kill_stopped(self) -> None:
        """End children that are stopped: they would hold up for ever what they were asked, and their own end."""
        now = time.monotonic()
        stopped = [pid for pid in self._children if psutil.Process(pid).status() == psutil.STATUS_STOPPED]
        self._stopped = {pid: self._stopped.get(pid, now) for pid in stopped}
        for pid, since in self._stopped.items():
            if now - since > STOPPED_S:
                os.kill(pid, signal.SIGKILL)

    def _fork_missing(self) -> None:
        for child in sorted(set(range(len(self._listeners))) - set(self._children.values())):
            if self._may_fork(child):
                self._fork(child)

    def _fork(self, child: int) -> None:
        parent = os.getpid()
        self._forked.setdefault(child, []).append(time.monotonic())
        pid = os.fork()
        if not pid:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            try:
                _be_child(self._model, self._listeners[child], parent, is_batchable=self._is_batchable)
            except BaseException:  # noqa: BLE001  # nothing of the parent's may run in its child
                traceback.print_exc()
            finally:
                os._exit(0)
        self._children[pid] = child

    def _may_fork(self, child: int) -> bool:
        recent = [at for at in self._forked.get(child, []) if time.monotonic() - at < QUICK_S * MOST_QUICK]
        self._forked[child] = recent
        return len(recent) < MOST_QUICK

    def _end(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        self._is_ending = True
        for pid in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)


def _forget_others(n_children: int) -> None:
    """Remove the sockets of more children than there are to be."""
    for path in Path().glob(socket_name("*")):
        if path.name not in map(socket_name, range(n_children)):
            path.unlink(missing_ok=True)


def _listening(child: int) -> socket.socket:
    """Listen at a child's socket, in place of one that died there."""
    name = socket_name(child)
    draft = f"{name}.new"
    Path(draft).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(draft)
    listener.listen(128)
    Path(draft).chmod(0o600)
    Path(draft).rename(name)
    return listener


def _proven(model: Any, form: Form, load_s: float) -> preflight.Preflight:
    """Check the model in a child of its own: the parent may not predict."""
    pid = os.fork()
    if not pid:
        signal.alarm(PROOF_S)
        try:
            checked(model, form, load_s).write(Path())
        except BaseException:  # noqa: BLE001  # nothing of the parent's may run in its child
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if status:
        what = f"its process died, or hung for {PROOF_S} s, on its own input example"
        died = Check("predictions", preflight.FAIL, what)
        preflight.Preflight((died,)).write(Path())
    return preflight.Preflight.read(Path())


def checked(model: Any, form: Form, load_s: float) -> preflight.Preflight:
    """Make the checks of a model that was loaded here, in so many seconds."""
    is_batchable = bool(form.example) and rows_stand_alone(model, form.example)
    return preflight.of_pyfunc(model, form, lambda body: _predictions(model, body), load_s, is_batchable=is_batchable)


def _predictions(model: Any, body: bytes) -> list[Any]:
    given = answer(model, body, JSON)
    content = orjson.loads(given.body)
    if given.status != 200:
        raise ValueError(content["error"]["message"])
    return list(content["predictions"])


def main(folder: Path, n_children: int) -> None:
    """Load the model in a folder, prove it, and have children answer."""
    os.chdir(folder)
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # its threads would be lost in the forks
    form = Form.of_record(json.loads(Path(FACTS).read_bytes()))
    started = time.monotonic()
    try:
        import mlflow

        model = mlflow.pyfunc.load_model(os.path.realpath(MODEL))  # MLflow takes no folder that is a link
    except Exception as exc:  # noqa: BLE001  # the user's model may raise anything
        traceback.print_exc()
        failed = Check("load", preflight.FAIL, f"MLflow cannot load it: {exc}")
        preflight.Preflight((failed,)).write(Path())
        sys.exit(1)
    found = _proven(model, form, time.monotonic() - started)
    if not found.passed:
        sys.exit(found.failures)
    Parent(model, n_children, is_batchable=found.is_batchable).run()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
