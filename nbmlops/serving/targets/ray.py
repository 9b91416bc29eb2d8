"""Endpoints on Ray Serve, as verbs and the agent see them.

An endpoint's router is a Serve application of its own, and so is each of its versions. The router follows the ledger:
weights, and versions that run already, change without Ray. Only where something has to be started or ended there does
a process of its own (`ray_applications`) join the cluster; all else is asked of the router, over HTTP. So nobody's
session is joined to a cluster, and a version that does not start leaves what is live alone.
"""

import hashlib
import importlib.util
import json
import re
import time
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from nbmlops import background
from nbmlops.errors import ConflictError, DeployError, NbmlopsError, StoreError, UsageError, nearest
from nbmlops.ledger.endpoints import Endpoints, Variant, Wanted
from nbmlops.project import Project
from nbmlops.secrets import resolved
from nbmlops.serving import client, keeping, processes
from nbmlops.serving.check import Check
from nbmlops.serving.instructions import LOG, LOOPBACK, replace_file
from nbmlops.serving.keeping import Found
from nbmlops.serving.policy import Terms
from nbmlops.serving.preflight import Preflight
from nbmlops.serving.target import RAY, Place
from nbmlops.serving.window import Window

STATE = "/state"  # the router's own page: what it serves, and what it has counted
ASKED, TOLD = "ray-asked.json", "ray-told.json"
ACT_S = 600.0  # in which a cluster has started what is to run there; nodes may have to come up first
FOLLOW_S = 30.0  # in which a router has taken over what is wanted, once its versions run
SILENT_S = 3.0  # after which a router that says nothing is taken for one that is not there
LOOK_S = 0.1
_ERRORS = {kind.exit_code: kind for kind in (ConflictError, DeployError, StoreError, UsageError)}
_REFUSED = ("port", "workers", "address", "certificate", "key", "capture")


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster, and what an endpoint has there.

    `address` is what ``ray.init`` takes; without one it is the cluster of this machine. Each version has so many
    `replicas`, and each of them claims so many `cpus`. `port` is that of Serve's proxy where Serve does not run yet;
    `url` is where callers reach the proxy, where that is not the cluster's own address.
    """

    address: str = ""
    replicas: int = 1
    cpus: float = 0.5
    port: int = 8000
    url: str = ""

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Self:
        """Read what was said with ``-p``.

        Raises
        ------
        UsageError
            There is no such parameter, or its value cannot be.

        Examples
        --------
        >>> Cluster.of({"address": "ray://head:10001", "replicas": "2"}).host
        'head'
        """
        kinds = {each.name: type(each.default) for each in fields(cls)}
        if unknown := [name for name in parameters if name not in kinds]:
            raise UsageError(f"Ray Serve takes no parameter {unknown[0]!r}.", nearest(unknown[0], kinds))
        found = cls(**{name: _read(name, value, kinds[name]) for name, value in parameters.items()})
        if not (1 <= found.replicas <= 1000 and found.cpus >= 0 and 0 < found.port < 65536):
            raise UsageError("replicas must be 1 to 1000, cpus 0 or more, port 1 to 65535.", "-p replicas=2 -p cpus=1")
        return found

    @property
    def host(self) -> str:
        """The machine on which the cluster is reached."""
        address = self.address if "//" in self.address else f"//{self.address}"
        return "127.0.0.1" if self.address in ("", "auto", "local") else urlsplit(address).hostname or ""

    @property
    def is_of_here(self) -> bool:
        """Whether no other machine reaches it."""
        return self.host in LOOPBACK

    @property
    def words(self) -> str:
        """The cluster, for a message."""
        return f"Ray at {self.address}" if self.address else "Ray on this machine"


def _read(name: str, value: Any, kind: type) -> Any:
    try:
        return kind(value)
    except (TypeError, ValueError):
        raise UsageError(f"{name} is {value!r}.", f"Give a number: -p {name}={1}") from None


# --------------------------------------------------------------------------- names
def prefix_of(project: Project, name: str) -> str:
    """Name an endpoint's router on Ray Serve: no other project's there, of another ledger, has the same name."""
    ledger = hashlib.sha256(project.settings.ledger.value.encode()).hexdigest()[:8]
    return f"nbmlops.{ledger}.{path_of(name)}"


def app_of(prefix: str, cluster: Cluster, variant: Variant) -> str:
    """Name a version's application: other bytes, or other resources, are another one."""
    size = f"{cluster.replicas}x{cluster.cpus:g}"
    return f"{prefix}/{variant.model}/{variant.version}-{variant.digest[:12]}-{size}"


def path_of(name: str) -> str:
    """Word an endpoint's name as a part of a URL.

    Examples
    --------
    >>> path_of("delays"), path_of("delays of today")
    ('delays', 'delays-of-today-b946ce89')
    """
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", name)
    return name if plain == name else f"{plain}-{zlib.crc32(name.encode()):08x}"


# ----------------------------------------------------------------------- a deploy
def place(parameters: Mapping[str, Any], terms: Terms) -> Place:
    """Say where an endpoint on Ray Serve is to be.

    Raises
    ------
    UsageError
        Ray is not installed, a parameter cannot be, or something was said that Ray Serve has no counterpart of.
    """
    if importlib.util.find_spec("ray") is None:
        raise missing()
    if said := [name for name in _REFUSED if terms.said.get(name)]:
        options = " ".join(f"--{name}" for name in said)
        hint = "Say how many with -p replicas=N; Serve's own HTTP options tell where it listens."
        raise UsageError(f"An endpoint on Ray Serve has no {options}.", hint)
    here = Place(target=RAY, parameters=dict(parameters))
    return here if Cluster.of(parameters).is_of_here else replace(here, host="")


def missing() -> UsageError:
    """Word that Ray Serve is not installed here."""
    return UsageError("Ray Serve needs nbmlops[ray], which is not installed.", "pip install 'nbmlops[ray]'")


def prepared(project: Project, wanted: Wanted, variant: Variant) -> Preflight:
    """Have a version pass its preflight on the cluster, in a clean process, and run there beside what is live.

    Raises
    ------
    DeployError
        It failed, or its replicas do not start; nothing of it is left.
    """
    told = _act(project, wanted, (variant,))
    return Preflight(tuple(Check(**each) for each in told["checks"]))


def made_so(project: Project, wanted: Wanted) -> Found:
    """Have an endpoint's router serve what is wanted; what is missing is started first.

    Raises
    ------
    DeployError
        A version failed its preflight, or the router does not follow.
    """
    state = _followed(project, wanted)
    if state is None or state["revision"] != wanted.revision:
        _act(project, wanted, wanted.variants, asks=None if state is None else state["asks"])
        state = _followed(project, wanted)
    if state is None:
        raise DeployError(
            f"The router of {wanted.name} does not answer at {_url(project, wanted)}.",
            "Where callers reach Serve's proxy elsewhere, say so: -p url=http://HOST:8000",
        )
    if state["revision"] != wanted.revision:
        raise DeployError(f"The router of {wanted.name} does not follow: {state['trouble']}", "Read Ray Serve's logs.")
    forms = tuple(f"{label} {form}" for label, form in state["forms"].items())
    return Found(revision=wanted.revision, forms=forms, url=_url(project, wanted))


def ended(project: Project, wanted: Wanted) -> None:
    """End an endpoint's applications; the router finishes what it has."""
    _act(project, wanted, (), ends=True)
    keeping.cleared(project, wanted.name)


def is_level(project: Project, wanted: Wanted) -> bool:
    """Say whether an endpoint's router serves what is wanted."""
    state = _state(project, wanted)
    return state is not None and state["revision"] == wanted.revision and state["asks"] == bool(wanted.token)


def counted(project: Project, wanted: Wanted) -> dict[str, Window]:
    """Give what an endpoint's router has counted, by version; nothing where it does not answer."""
    state = _state(project, wanted)
    return {label: Window.of(window) for label, window in state["windows"].items()} if state else {}


def refused(project: Project, wanted: Wanted) -> dict[str, int]:
    """Give how many requests an endpoint's router has answered with an error, by status."""
    state = _state(project, wanted)
    return dict(state["refusals"]) if state else {}


# -------------------------------------------------------------------- the router
def _state(project: Project, wanted: Wanted) -> dict[str, Any] | None:
    """Ask an endpoint's router what it serves; None where it does not answer, or asks for another token."""
    url = _url(project, wanted)
    token = resolved(wanted.token, project.root) if wanted.token else ""
    try:
        return dict(client.told(client.Server(wanted.name, url, "endpoints", token), STATE)) if url else None
    except StoreError:
        return None


def _url(project: Project, wanted: Wanted) -> str:
    """Say where an endpoint is reached: as the cluster told this machine last, or another one of ours."""
    told = _told(keeping.folder_of(project, wanted.name)).get("url")
    return str(told or project.open(Endpoints).found().get(wanted.name, {}).get("url", ""))


def _followed(project: Project, wanted: Wanted) -> dict[str, Any] | None:
    """Wait until a router serves what is wanted, or says why it cannot; give what it says."""
    began = time.monotonic()
    while True:
        state, waited_s = _state(project, wanted), time.monotonic() - began
        if (state is None and waited_s > SILENT_S) or waited_s > FOLLOW_S:
            return state
        if state and (state["asks"] != bool(wanted.token) or wanted.revision in (state["revision"], state["refused"])):
            return state
        time.sleep(LOOK_S)


# ------------------------------------------------------------------- the cluster
def _act(
    project: Project, wanted: Wanted, versions: tuple[Variant, ...], *, ends: bool = False, asks: bool | None = None
) -> dict[str, Any]:
    """Have a process of its own join the cluster and start what is missing there, or end all.

    Raises
    ------
    NbmlopsError
        What went wrong there, in its own words.
    """
    folder = keeping.folder_of(project, wanted.name)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    token = resolved(wanted.token, project.root) if wanted.token else ""
    asked = {
        "name": wanted.name,
        "root": str(project.root),
        "parameters": dict(wanted.parameters),
        "versions": [asdict(each) for each in versions],
        "token": hashlib.sha256(token.encode()).hexdigest() if token else "",
        "is_other_token": asks is not None and asks != bool(token),
        "ends": ends,
    }
    replace_file(folder / ASKED, asked)
    (folder / TOLD).unlink(missing_ok=True)
    return _answered(folder, Cluster.of(wanted.parameters))


def _answered(folder: Path, cluster: Cluster) -> dict[str, Any]:
    log = folder / LOG
    already = processes.size(log)
    process = background.detached(processes.RAY, [str(folder)], folder, log)
    if (code := processes.finished(process, ACT_S)) is None:
        raise DeployError(f"{cluster.words} was not ready within {ACT_S:.0f} s.", f"Read {log}")
    told = _told(folder)
    if code or not told:
        raise _error(told.get("error"), processes.said(log, already), log)
    return told


def _told(folder: Path) -> dict[str, Any]:
    """Read what the cluster's process has told of an endpoint."""
    try:
        return dict(json.loads((folder / TOLD).read_bytes()))
    except FileNotFoundError:
        return {}


def _error(error: Mapping[str, Any] | None, said: str, log: Path) -> NbmlopsError:
    if error is None:
        return DeployError(f"Ray Serve did not do it: {said}", f"Read {log}")
    return _ERRORS.get(error["exit_code"], DeployError)(error["message"], error["hint"])
