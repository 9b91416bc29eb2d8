"""A version's files on this machine, and its preflight; where MLflow must load it, its processes."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from nbmlops import background
from nbmlops.errors import ConflictError, DeployError, StoreError
from nbmlops.ledger.database import Ledger
from nbmlops.ledger.endpoints import Endpoints, Parts, Variant
from nbmlops.project import Project
from nbmlops.registry.forms import COMPILED as COMPILED_FORM
from nbmlops.registry.forms import Form
from nbmlops.registry.manifest import digest_of, manifest_of
from nbmlops.serving import processes
from nbmlops.serving.instructions import (
    COMPILED,
    FACTS,
    FILE,
    LOG,
    MODEL,
    ONNX,
    PREFLIGHT,
    VARIANTS,
    WORKERS,
    replace_file,
)
from nbmlops.serving.preflight import Preflight
from nbmlops.serving.wire import socket_name


def place_of(folder: Path, variant: Variant) -> Path:
    """Name the folder of a version's files: the same bytes have the same one."""
    return folder / VARIANTS / f"{variant.version}-{variant.digest[:12]}"


def version_in(place: Path) -> str:
    """Say of which version the files in a folder are."""
    return place.name.rpartition("-")[0]


def prepared(project: Project, folder: Path, variant: Variant, n_processes: int) -> Preflight:
    """Bring a version's files here and have it pass its preflight in a clean process, unless that was done.

    Raises
    ------
    DeployError
        It failed; the message says what. Nothing of it is left.
    ConflictError
        Its bytes are not those that were registered.
    """
    place = place_of(folder, variant)
    with on_disk(folder):
        if (found := _passed(project, place, variant)) is not None:
            return found
        stop_model(place)
        shutil.rmtree(place, ignore_errors=True)
        try:
            place.mkdir(parents=True, mode=0o700)
            return _put_to_proof(project, folder, variant, n_processes)
        except BaseException:
            stop_model(place)
            shutil.rmtree(place, ignore_errors=True)
            raise


def _passed(project: Project, place: Path, variant: Variant) -> Preflight | None:
    """Read the preflight that a version has passed here; none where its bytes have changed since."""
    if not (place / PREFLIGHT).exists() or not (found := Preflight.read(place)).passed:
        return None
    if (place / COMPILED).exists():
        kept = (project.open(Endpoints).form(variant.digest) or {}).get("sha256")
        trees = place / ONNX
        here = Parts((place / COMPILED).read_bytes(), trees.read_bytes() if trees.exists() else None)
        is_whole = here.sha256 == kept
    else:
        is_whole = processes.living(place) is not None or digest_of(manifest_of(place / MODEL)) == variant.digest
    return found if is_whole else None


def _put_to_proof(project: Project, folder: Path, variant: Variant, n_processes: int) -> Preflight:
    place = place_of(folder, variant)
    form = fetched(project, place, variant)
    replace_file(place / FACTS, form.record())
    found = _proven(folder, place, variant, form, n_processes)
    if not found.passed:
        raise DeployError(
            f"{variant.label} failed its preflight, so what is live stays: {found.failures}.", f"Read {folder / LOG}"
        )
    recorded(project, variant, found)
    return found


def recorded(project: Project, variant: Variant, found: Preflight) -> None:
    """Keep what a version has said first about its input example: from now on it must say so, wherever it is deployed.

    Only of one that was not loaded when it was registered is there anything to be kept.
    """
    if found.said:
        kept = project.open(Endpoints).form(variant.digest) or Form("pyfunc").record()
        project.open(Endpoints).put_form(variant.digest, {**kept, "predictions": found.said}, None)


@contextlib.contextmanager
def on_disk(folder: Path) -> Iterator[None]:
    """Word that an endpoint's files cannot be written or read."""
    try:
        yield
    except OSError as exc:
        what = f"The files of the endpoint in {folder} cannot be kept: {exc.strerror or exc}."
        raise StoreError(what, "Check the disk and its permissions.") from exc


def fetched(project: Project, place: Path, variant: Variant) -> Form:
    """Copy what is served into a version's folder: the compiled form out of the ledger, or the checked bytes."""
    ledger = project.open(Endpoints)
    record = ledger.form(variant.digest)
    form = Form.of_record(record) if record else Form("pyfunc")
    if form.kind == COMPILED_FORM:
        parts = ledger.compiled(variant.digest)
        _check_registered(project, variant, parts)
        (place / COMPILED).write_bytes(parts.compiled)
        if parts.onnx:
            (place / ONNX).write_bytes(parts.onnx)
        return form
    from nbmlops.registry.loader import verified_copy

    (place / "copy").mkdir(mode=0o700)
    verified_copy(project, variant.label, into=place / "copy").rename(place / MODEL)
    return form


def _check_registered(project: Project, variant: Variant, parts: Parts) -> None:
    """Hold a compiled form against the event of the version's registration: a tag in MLflow can be changed."""
    subject = f"model/{variant.label}"
    events = project.open(Ledger).events(verbs=("register",), subject=subject, outcome="ok", limit=1)
    told = (events[0].result["digest"], events[0].result.get("sha256")) if events else None
    if told != (variant.digest, parts.sha256):
        raise ConflictError(
            f"{variant.label} is not what was registered: its digest or its compiled form is another one.",
            f"Find out who changed it: `history {variant.model}`",
        )


def _proven(folder: Path, place: Path, variant: Variant, form: Form, n_processes: int) -> Preflight:
    if form.kind == COMPILED_FORM:
        return _proven_compiled(folder, place, variant)
    try:
        start_model(folder, place, variant.label, n_processes)
    except DeployError:
        if not (place / PREFLIGHT).exists():
            raise
    return Preflight.read(place)


def _proven_compiled(folder: Path, place: Path, variant: Variant) -> Preflight:
    """Have a clean process make the checks; where nothing is served yet, it goes on to be the first worker."""
    log, own = folder / LOG, folder / WORKERS / "0"
    already = processes.size(log)
    if (folder / FILE).exists() or processes.living(own):
        process = background.detached(processes.PREFLIGHT, [str(place)], folder, log)
    else:
        own.mkdir(parents=True, exist_ok=True, mode=0o700)
        process = background.detached(processes.WORKER, [str(folder), "0", str(place)], folder, log)
    if not processes.until(process, (place / PREFLIGHT).exists):
        raise DeployError(f"{variant.label} failed its preflight: {processes.said(log, already)}", f"Read {log}")
    return Preflight.read(place)


def start_model(folder: Path, place: Path, label: str, n_processes: int) -> None:
    """Start the processes of a model that is not compiled, and wait until they answer."""
    log = folder / LOG
    already = processes.size(log)
    process = background.detached(processes.MODEL_PROCESS, [str(place), str(n_processes)], folder, log)
    processes.ready(process, place, f"The model process of {label}", log, already)


def model_lives(place: Path, n_processes: int) -> bool:
    """Say whether a model answers from so many processes, if it is one that needs any."""
    n_sockets = len(list(place.glob(socket_name("*"))))
    return not (place / MODEL).exists() or (processes.living(place) is not None and n_sockets == n_processes)


def stop_model(place: Path) -> None:
    """End the processes of a model, if it has any."""
    if (place / FACTS).exists() and (told := processes.living(place)):
        processes.stop(told.pid, told.pid_started)
