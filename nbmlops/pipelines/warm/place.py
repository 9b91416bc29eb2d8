"""Where a warm server listens, and how a request to it is worded; with little of Python's own library."""

import hashlib
import os
import site
import socket
import struct
import sys
from typing import Any

OFF = "NBMLOPS_WARM"  # ``off``: neither ask a server nor leave one behind
GO = b"go"  # the server's word that it is ready to fork, and the client's that it may
LONGEST = 100  # bytes of a socket's path, of which systems take little more
_INSTALLED = (".dist-info", ".egg-info", ".pth", ".egg-link")
_LENGTH = struct.Struct("!I")


def socket_path() -> str:
    """Name the socket of this user's server for this interpreter and what is installed in it.

    Its folder is this user's alone: who may connect may run commands.
    """
    name = f"warm-{_installation()}"
    folder = _folder()
    if len(os.fsencode(os.path.join(folder, name))) > LONGEST:
        folder = f"/tmp/nbmlops-{os.getuid()}"  # noqa: S108  # made for this user alone, and looked at below
    os.makedirs(folder, mode=0o700, exist_ok=True)
    owner = os.lstat(folder)
    if owner.st_uid != os.getuid() or owner.st_mode & 0o077:
        raise PermissionError(f"{folder} is not this user's alone")
    return os.path.join(folder, name)


def _folder() -> str:
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return os.path.join(runtime, "nbmlops")
    import tempfile

    return os.path.join(tempfile.gettempdir(), f"nbmlops-{os.getuid()}")


def _installation() -> str:
    """Name the interpreter and what is installed, by the names under which it stands there: they tell versions."""
    folders = [each for each in (*site.getsitepackages(), site.getusersitepackages()) if os.path.isdir(each)]
    names = [(each, sorted(name for name in os.listdir(each) if name.endswith(_INSTALLED))) for each in folders]
    return hashlib.sha256(repr((sys.executable, sys.version, names)).encode()).hexdigest()[:16]


def is_wanted() -> bool:
    """Say whether warm processes are wanted: not where they are off, nor in CI, whose commands leave nothing behind."""
    return (
        sys.platform == "linux"
        and os.environ.get(OFF, "").lower() not in ("off", "0", "no", "false")
        and not os.environ.get("CI")
    )


def umask() -> int:
    """Give this process' mask of modes."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def limits() -> dict[str, Any]:
    """Give what bounds this process beside its environment: limits of resources, processors, its containers."""
    import resource

    names = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    return {
        **{name: list(resource.getrlimit(getattr(resource, name))) for name in names},
        "the set of processors": sorted(os.sched_getaffinity(0)),
        "the priority": os.nice(0),
        "the container": [os.stat(f"/proc/self/ns/{each}").st_ino for each in ("mnt", "net", "pid", "user")],
    }


def send(connection: socket.socket, message: bytes, fds: tuple[int, ...] = ()) -> None:
    """Send a message with its length, and descriptors along with the length."""
    socket.send_fds(connection, [_LENGTH.pack(len(message))], fds)
    connection.sendall(message)


def receive(connection: socket.socket, n_fds: int = 0) -> tuple[bytes, list[int]]:
    """Receive a message and its descriptors; empty when the other side has gone."""
    head, fds, _, _ = socket.recv_fds(connection, _LENGTH.size, n_fds)
    message = bytearray()
    if len(head) == _LENGTH.size:
        (length,) = _LENGTH.unpack(head)
        while len(message) < length and (more := connection.recv(length - len(message))):
            message += more
    return bytes(message), list(fds)
