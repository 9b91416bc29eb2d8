"""One server process: ``python -m nbmlops.serving.server SPECFILE``; started by `processes`, never imported by a verb.

It proves the model on the model's own input example, then takes its port, then
says that it is ready. A server that runs already hands its listening socket
over, so that a redeploy keeps the port and no connection is lost. SIGTERM: it
takes no new connection, finishes what it has, and ends.
"""

import asyncio
import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from nbmlops.errors import NbmlopsError, NotFoundError, UsageError, nearest
from nbmlops.serving.endpoints import HOST, ServerSpec
from nbmlops.serving.processes import READY_FILE
from nbmlops.serving.protocol import JSON, MAX_BODY_BYTES, Answer, answer, refused

DOOR = "door"  # relative, as are all names here: a socket's path may be 107 bytes long and no longer
BODY_TIMEOUT_S = 30.0
LAST_CALL_S = 0.5  # connections that were accepted when the end came have this long to send their request
FINISH_S = 30
BACKLOG = 1024
METHODS = {"/ping": "GET", "/health": "GET", "/version": "GET", "/invocations": "POST"}

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


# ------------------------------------------------------------------ the service
class Service:
    """The raw ASGI application: one model behind MLflow's four paths; every answer names its version in a header."""

    def __init__(self, model: Any, label: str, mlflow_version: str) -> None:
        self._model = model
        self._label = label
        self._version = mlflow_version
        self.is_ending = False

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        given = await self._answer(scope, receive)
        headers = [
            (b"content-type", given.content_type.encode()),
            (b"content-length", str(len(given.body)).encode()),
            (b"nbmlops-model", self._label.encode()),
        ]
        if self.is_ending or given.status in (408, 413):
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": given.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else given.body})

    async def _answer(self, scope: dict[str, Any], receive: Receive) -> Answer:
        path, method = scope["path"], scope["method"].replace("HEAD", "GET")
        if path not in METHODS:
            return refused(404, NotFoundError("There is no such path.", nearest(path[:50], METHODS)))
        if method != METHODS[path]:
            return refused(405, UsageError(f"{path} takes {METHODS[path]}, not {method}."))
        if path == "/version":
            return Answer(200, self._version.encode())
        if path != "/invocations":
            return Answer(200, b"\n")
        body = await read_body(receive)
        if isinstance(body, Answer):
            return body
        content_type = dict(scope["headers"]).get(b"content-type", b"").decode("latin-1")
        return await asyncio.to_thread(self._predict, body, content_type)

    def _predict(self, body: bytes, content_type: str) -> Answer:
        try:
            return answer(self._model, body, content_type)
        except Exception:  # noqa: BLE001 - a bug of the model's or ours: it is logged here, and the service goes on
            traceback.print_exc()
            return refused(500, NbmlopsError("The server failed on this request.", "Its server.log says why."))


async def read_body(receive: Receive) -> bytes | Answer:
    """Read a request's body, up to the limit in bytes and in time; a body over it is read to its end and dropped."""
    body, size = bytearray(), 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            more = True
            while more:
                message = await receive()
                chunk, more = message.get("body", b""), message.get("more_body", False)
                size += len(chunk)
                if size <= MAX_BODY_BYTES:
                    body += chunk
    except TimeoutError:
        return refused(408, UsageError(f"The body did not arrive within {BODY_TIMEOUT_S:.0f} s."))
    if size > MAX_BODY_BYTES:
        limit = f"{MAX_BODY_BYTES // 2**20} MB"
        return refused(413, UsageError(f"The body has {size:,} bytes; at most {limit} are taken.", "Send fewer rows."))
    return bytes(body)


# ------------------------------------------------------------------ the process
def load_and_prove(spec: ServerSpec) -> Any:
    """Load the model, and let it answer its own input example the way it will answer requests."""
    import mlflow
    from mlflow.models import Model

    model = mlflow.pyfunc.load_model(spec.path)
    example = Model.load(spec.path).get_serving_input(spec.path)
    if example is None:
        print(f"{spec.model} has no input example: it was loaded, and not tried.", file=sys.stderr)  # noqa: T201
        return model
    given = answer(model, example.encode(), JSON)
    if given.status != 200:
        sys.exit(f"{spec.model} fails on its own input example: {json.loads(given.body)['error']['message']}")
    return model


def listen(spec: ServerSpec) -> socket.socket:
    """Take the port from the server that runs now, or bind it; another port will do if none was asked for."""
    if spec.door:
        try:
            return take_over(spec.door)
        except OSError as exc:
            print(f"The server before does not hand over its port ({exc}).", file=sys.stderr)  # noqa: T201
    try:
        return bind(spec.port)
    except OSError as exc:
        if spec.port_is_required:
            sys.exit(f"Port {spec.port} cannot be had: {exc.strerror}.")
        return bind(0)


def bind(port: int) -> socket.socket:
    """Listen on a port of this machine alone; 0 means any free one."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def take_over(door: str) -> socket.socket:
    """Receive the listening socket of the server that runs now: from here on both accept from one queue."""
    with socket.socket(socket.AF_UNIX) as visitor:
        visitor.settimeout(5)
        visitor.connect(door)
        _, descriptors, _, _ = socket.recv_fds(visitor, 1, 1)
    if not descriptors:
        raise OSError("it sent nothing")
    return socket.socket(fileno=descriptors[0])


def open_door(listener: socket.socket) -> Callable[[], None]:
    """Hand the listening socket to every visitor, from the event loop; gives the function that closes the door."""
    loop = asyncio.get_running_loop()
    door = socket.socket(socket.AF_UNIX)
    door.bind(DOOR)
    os.chmod(DOOR, 0o600)
    door.listen()
    door.setblocking(False)

    def hand_over() -> None:
        visitor, _ = door.accept()
        with visitor:
            socket.send_fds(visitor, [b"."], [listener.fileno()])

    def close() -> None:
        loop.remove_reader(door)
        door.close()

    loop.add_reader(door, hand_over)
    return close


async def serve(service: Service, listener: socket.socket) -> None:
    """Answer until SIGTERM, then finish what was begun."""
    import uvicorn

    config = uvicorn.Config(
        service,
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=FINISH_S,
    )
    server = uvicorn.Server(config)
    port = listener.getsockname()[1]
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    close_door = open_door(listener)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    say_ready(port)
    await asyncio.wait([serving, asyncio.create_task(ended.wait())], return_when=asyncio.FIRST_COMPLETED)
    close_door()
    service.is_ending = True
    for accepting in server.servers:
        accepting.close()
    await asyncio.sleep(LAST_CALL_S)
    server.should_exit = True
    await serving


def say_ready(port: int) -> None:
    """Tell who waits that requests are answered, in one atomic step."""
    import psutil

    told = {"pid": os.getpid(), "pid_started": psutil.Process().create_time(), "port": port}
    draft = Path(f"{READY_FILE}.tmp")
    draft.write_text(json.dumps(told))
    draft.replace(READY_FILE)


def main(spec_file: str) -> None:
    """Serve what a spec file says; the working folder is the server's own."""
    import uvloop

    spec = ServerSpec(**json.loads(Path(spec_file).read_text()))
    if spec.port_is_required and not spec.door:
        listen(spec).close()  # refuse now what would be refused after the model was loaded
    model = load_and_prove(spec)
    if os.getppid() != spec.starter:
        sys.exit("Whoever started this server is gone, so nobody will know of it: it ends.")
    from mlflow.version import VERSION

    uvloop.run(serve(Service(model, spec.model, VERSION), listen(spec)))


if __name__ == "__main__":
    main(sys.argv[1])
