"""What is made what is wanted: the processes and files of this machine's endpoints, whoever asks for it.

A verb calls this for the endpoint that it changes, the agent for all of them again and again; one at a time does it,
under the endpoint's lock. All state is in files and in the ledger: whoever did it last may be dead.
"""

import contextlib
import hashlib
import json
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nbmlops import background
from nbmlops.errors import DeployError, StoreError
from nbmlops.ledger.endpoints import Endpoints, Variant, Wanted
from nbmlops.project import Project
from nbmlops.registry.forms import COMPILED as COMPILED_FORM
from nbmlops.registry.forms import Form
from nbmlops.registry.reading import moves_of
from nbmlops.registry.versions import alias_stack
from nbmlops.secrets import resolved
from nbmlops.serving import processes, variants
from nbmlops.serving.counters import refusals, summed
from nbmlops.serving.instructions import (
    COUNTERS,
    FACTS,
    FILE,
    LOG,
    VARIANTS,
    WORKERS,
    Instructions,
    Ready,
    ServedVariant,
)
from nbmlops.serving.log import bound
from nbmlops.serving.policy import limits_of
from nbmlops.serving.preflight import Preflight
from nbmlops.serving.window import Window
from nbmlops.serving.wire import socket_name
from nbmlops.tracking.journal import crash_point

FOLLOW_S = 60.0  # in which workers must have taken over what they are told
LOOK_S = 0.002
SPARES = 2  # former versions whose files are kept, beside those that a rollback goes back to: it must not need MLflow


def folder_of(project: Project, name: str) -> Path:
    """Name the folder of an endpoint."""
    return project.state("endpoints", name)


def lock(project: Project, name: str) -> Path:
    """Name the lock that a change of an endpoint holds."""
    return project.state("endpoint-locks", name)


# ---------------------------------------------------------------------- an endpoint
@dataclass(frozen=True)
class Found:
    """What is of an endpoint, as the ledger keeps it beside what is wanted.

    One of a machine of ours has a `port` there, one at another target its `url`.
    """

    port: int = 0
    pids: tuple[int, ...] = ()
    revision: int = 0
    trouble: str = ""
    forms: tuple[str, ...] = ()
    url: str = ""

    def record(self) -> dict[str, Any]:
        """Give it as JSON has it."""
        return {**vars(self), "pids": list(self.pids), "forms": list(self.forms)}


def prepared(project: Project, wanted: Wanted, variant: Variant) -> Preflight:
    """Bring a version's files to an endpoint's folder and have it pass its preflight, as `variants.prepared` does."""
    return variants.prepared(project, folder_of(project, wanted.name), variant, wanted.workers)


def made_so(project: Project, wanted: Wanted) -> Found:
    """Have an endpoint be as it is wanted: versions proven, told to its workers, all of them running.

    Whoever calls holds the endpoint's lock.

    Raises
    ------
    DeployError
        A version failed its preflight, or a worker does not start: what was live is as it was.
    """
    folder = folder_of(project, wanted.name)
    with variants.on_disk(folder):
        return _made_so(project, folder, wanted)


def _made_so(project: Project, folder: Path, wanted: Wanted) -> Found:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _revive(folder, wanted)
    for variant in wanted.variants:
        variants.prepared(project, folder, variant, wanted.workers)
    served = [_served(folder, variant, wanted) for variant in wanted.variants]
    told = _instructions(project, folder, wanted, served)
    _tell(folder, told)
    crash_point("endpoint-told")
    workers = [_follower(folder, wanted, number) for number in range(wanted.workers)]
    _end_surplus(folder, wanted)
    _retire(project, folder, wanted)
    return Found(
        port=workers[0].port,
        pids=tuple(worker.pid for worker in workers),
        revision=wanted.revision,
        forms=tuple(f"{each.label} {each.form}" for each in served),
    )


def _revive(folder: Path, wanted: Wanted) -> None:
    """Start again what has died of that which is live: what is wanted instead may take long, or fail."""
    if not (folder / FILE).exists():
        return
    told = Instructions.read(folder)
    if not told.port:  # whoever is started again must be found where it was
        replace(told, port=_last_port(folder)).write(folder)
    with contextlib.suppress(DeployError, StoreError):
        for each in told.variants:
            if not variants.model_lives(folder / each.folder, len(each.sockets)):
                variants.start_model(folder, folder / each.folder, each.label, len(each.sockets))
        for own in sorted((folder / WORKERS).glob("*")):
            _worker(folder, wanted, int(own.name))


def _tell(folder: Path, told: Instructions) -> None:
    """Put instructions in place; workers that listen elsewhere end first: they cannot move."""
    before = Instructions.read(folder) if (folder / FILE).exists() else None
    if before == told:
        return
    place = (told.address, told.port, told.certificate, told.key)
    if before and place != (before.address, _last_port(folder), before.certificate, before.key):
        for own in (folder / WORKERS).glob("*"):
            _end_worker(own)
    told.write(folder)


def _served(folder: Path, variant: Variant, wanted: Wanted) -> ServedVariant:
    """Say how workers serve a version; its model processes are started again where they are gone."""
    place = variants.place_of(folder, variant)
    form = Form.of_record(json.loads((place / FACTS).read_bytes()))
    relative = str(place.relative_to(folder))
    if form.kind == COMPILED_FORM:
        return ServedVariant(variant.label, variant.role, variant.weight, relative, form.kind)
    if not variants.model_lives(place, wanted.workers):
        variants.start_model(folder, place, variant.label, wanted.workers)
    sockets = tuple(f"{relative}/{socket_name(child)}" for child in range(wanted.workers))
    return ServedVariant(variant.label, variant.role, variant.weight, relative, form.kind, sockets)


def _instructions(project: Project, folder: Path, wanted: Wanted, served: list[ServedVariant]) -> Instructions:
    token = resolved(wanted.token) if wanted.token else ""
    limits, bounds = limits_of(wanted)
    return Instructions(
        endpoint=wanted.name,
        revision=wanted.revision,
        model=wanted.champion.model,
        variants=tuple(served),
        address=wanted.address,
        port=wanted.port or _last_port(folder),
        port_is_required=bool(wanted.port),
        token=hashlib.sha256(token.encode()).hexdigest() if token else "",
        certificate=str(project.declared_path(wanted.certificate)) if wanted.certificate else "",
        key=str(project.declared_path(wanted.key)) if wanted.key else "",
        capture=wanted.capture,
        limits=limits,
        bounds=bounds,
    )


def _last_port(folder: Path) -> int:
    """Give the port that the endpoint had, so that a worker which is started again is found where it was."""
    told = [Ready.read(own) for own in sorted((folder / WORKERS).glob("*"))]
    return next((each.port for each in told if each and each.port), 0)


def _worker(folder: Path, wanted: Wanted, number: int) -> None:
    """Start a worker, unless it lives."""
    own, log = folder / WORKERS / str(number), folder / LOG
    own.mkdir(parents=True, exist_ok=True, mode=0o700)
    if processes.living(own):
        return
    bound(log)
    already = processes.size(log)
    process = background.detached(processes.WORKER, [str(folder), str(number)], folder, log)
    processes.ready(process, own, f"A server of {wanted.name}", log, already)


def _follower(folder: Path, wanted: Wanted, number: int) -> Ready:
    """Start a worker, unless it lives, and wait until it does what it is told: the next one takes its socket over."""
    _worker(folder, wanted, number)
    deadline = time.monotonic() + FOLLOW_S
    while found := processes.living(folder / WORKERS / str(number)):
        if found.revision == wanted.revision:
            return found
        if found.trouble:
            trouble = f"A server of {wanted.name} cannot serve this: {found.trouble}"
            raise DeployError(trouble, f"Read {folder / LOG}")
        if time.monotonic() > deadline:
            raise DeployError(f"A server of {wanted.name} does not follow.", f"Read {folder / LOG}")
        time.sleep(LOOK_S)
    raise DeployError(f"A server of {wanted.name} has ended: {processes.said(folder / LOG)}", f"Read {folder / LOG}")


def _end_surplus(folder: Path, wanted: Wanted) -> None:
    for own in (folder / WORKERS).glob("*"):
        if int(own.name) >= wanted.workers:
            stop_worker(own)


def stop_worker(own: Path) -> None:
    """End a worker, which finishes what it has, and forget it."""
    _end_worker(own)
    shutil.rmtree(own, ignore_errors=True)


def _end_worker(own: Path) -> None:
    if found := processes.living(own):
        processes.stop(found.pid, found.pid_started)


def _retire(project: Project, folder: Path, wanted: Wanted) -> None:
    """End the model processes of versions that are served no longer; the last ones are kept for a way back."""
    others = _others(folder, wanted)
    for place in others:
        variants.stop_model(place)
    if gone := others[:-SPARES]:
        way_back = _way_back(project, wanted)
        for place in gone:
            if variants.version_in(place) not in way_back:
                shutil.rmtree(place, ignore_errors=True)


def _way_back(project: Project, wanted: Wanted) -> list[str]:
    """List the versions to which a rollback of the alias that an endpoint follows would go, one after the other."""
    if not wanted.follows:
        return []
    name, _, alias = wanted.follows.partition("@")
    return alias_stack(moves_of(project, name), name, alias)[-1 - SPARES :]


def _others(folder: Path, wanted: Wanted) -> list[Path]:
    """List the folders of versions that are not served, those that were changed last at the end."""
    served = {variants.place_of(folder, variant) for variant in wanted.variants}
    return sorted(set((folder / VARIANTS).glob("*")) - served, key=lambda place: place.stat().st_mtime)


def ended(project: Project, wanted: Wanted) -> None:
    """End all of an endpoint that is wanted no longer."""
    cleared(project, wanted.name)


def cleared(project: Project, name: str) -> None:
    """End what is of an endpoint on this machine: workers finish what they have, then models and files go."""
    folder = folder_of(project, name)
    for own in sorted((folder / WORKERS).glob("*")):
        stop_worker(own)
    for place in (folder / VARIANTS).glob("*"):
        variants.stop_model(place)
    shutil.rmtree(folder, ignore_errors=True)


def rested(project: Project, name: str) -> None:
    """End the processes of an endpoint that is wanted still; all else of it stays."""
    folder = folder_of(project, name)
    with processes.only_one(lock(project, name)):
        for own in (folder / WORKERS).glob("*"):
            _end_worker(own)
        for place in (folder / VARIANTS).glob("*"):
            variants.stop_model(place)


# ------------------------------------------------------------------- all endpoints
def is_level(project: Project, wanted: Wanted) -> bool:
    """Say whether all that an endpoint needs is there; looks at processes and files alone, quickly."""
    folder = folder_of(project, wanted.name)
    workers = [processes.living(folder / WORKERS / str(number)) for number in range(wanted.workers)]
    return (
        all(worker and worker.revision == wanted.revision for worker in workers)
        and all(variants.model_lives(variants.place_of(folder, variant), wanted.workers) for variant in wanted.variants)
        and not any(processes.living(place) for place in _others(folder, wanted))
    )


def counted(project: Project, wanted: Wanted) -> dict[str, Window]:
    """Give what the servers of an endpoint on this machine have counted, by version."""
    return summed(sorted((folder_of(project, wanted.name) / WORKERS).glob(f"*/{COUNTERS}")))


def refused(project: Project, wanted: Wanted) -> dict[str, int]:
    """Give how many requests the servers of an endpoint on this machine have answered with an error, by status."""
    found = refusals((folder_of(project, wanted.name) / WORKERS).glob(f"*/{COUNTERS}"))
    return {str(status): count for status, count in found.items()}


def is_ours(wanted: Wanted) -> bool:
    """Say whether this machine may act on an endpoint: it serves it, or no machine of ours does."""
    return wanted.host in ("", socket.gethostname())


def of_this_machine(project: Project) -> Iterator[Wanted]:
    """Give the endpoints that this machine may act on."""
    return filter(is_ours, project.open(Endpoints).wanted().values())


def owned(project: Project) -> set[int]:
    """List the processes of this machine that an endpoint owns."""
    pids = set()
    for wanted in of_this_machine(project):
        folder = folder_of(project, wanted.name)
        places = [folder / WORKERS / str(number) for number in range(wanted.workers)]
        places += [variants.place_of(folder, variant) for variant in wanted.variants]
        pids |= {told.pid for place in places if (told := processes.living(place))}
    return pids


def endpoint_of(project: Project, server: processes.Running) -> str:
    """Name the endpoint in whose folder a process works."""
    return Path(server.folder).relative_to(folder_of(project, "x").parent).parts[0]
