"""A build context that stands alone: what is served, this very nbmlops, a lock, and the Dockerfile over them."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from nbmlops.errors import ConflictError, StoreError, UsageError
from nbmlops.ledger.endpoints import Variant
from nbmlops.project import Project
from nbmlops.registry.forms import Form
from nbmlops.serving import variants
from nbmlops.serving.instructions import FACTS, ONNX, Instructions, ServedVariant, replace_file
from nbmlops.serving.policy import limits_of
from nbmlops.serving.targets.lock import locked
from nbmlops.serving.targets.served import PORT, Served
from nbmlops.serving.targets.wheel import wheel

HEADING = "# Written by nbmlops export, yours to edit."
DOCKERFILE, LOCK, ENDPOINT = "Dockerfile", "requirements.txt", "endpoint"
USER = 65532  # nobody in particular; a number, so that Kubernetes sees that it is not root
WORKER = ("httptools", "numpy", "orjson", "psutil", "pyarrow", "uvicorn", "uvloop")  # what a worker imports
MODEL_PROCESS = ("mlflow", "pandas")
_HEALTH = f"import urllib.request as u; u.urlopen('http://127.0.0.1:{PORT}/health', timeout=2)"


def context(project: Project, found: Served, folder: Path, *, force: bool) -> None:
    """Write the build context of an image into a folder, as a whole.

    Raises
    ------
    ConflictError
        Something else is in that folder, or a version's bytes are not those that were registered.
    StoreError
        It cannot be written.
    """
    _check_place(folder, force=force)
    draft = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        draft.mkdir(parents=True)
        _fill(project, found, draft)
        if folder.exists():
            shutil.rmtree(folder)
        draft.replace(folder)
    except OSError as exc:
        raise StoreError(f"{folder} cannot be written: {exc.strerror or exc}.", "Check the disk, or give -o.") from exc
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _check_place(folder: Path, *, force: bool) -> None:
    """Refuse to write over what is there, unless told; what was not written by us is never removed."""
    if folder.is_file():
        raise ConflictError(f"{folder} is a file.", "Give a folder with -o.")
    if not folder.exists() or not any(folder.iterdir()):
        return
    dockerfile = folder / DOCKERFILE
    if not dockerfile.is_file() or HEADING not in dockerfile.read_text(encoding="utf-8", errors="replace"):
        raise ConflictError(f"{folder} is there already, and holds something else.", "Give another folder with -o.")
    if not force:
        raise ConflictError(f"{folder} is there already.", "Give another folder with -o, or --force.")


def _fill(project: Project, found: Served, folder: Path) -> None:
    endpoint = folder / ENDPOINT
    endpoint.mkdir()
    served = []
    for variant in found.wanted.variants:
        place = variants.place_of(endpoint, variant)
        place.mkdir(parents=True)
        form = _fetched(project, place, variant)
        relative = str(place.relative_to(endpoint))
        served.append(ServedVariant(variant.label, variant.role, variant.weight, relative, form.kind))
    instructions(found, tuple(served)).write(endpoint)
    name, packed = wheel()
    (folder / name).write_bytes(packed)
    (folder / LOCK).write_text("".join(f"{line}\n" for line in requirements(found, endpoint)), encoding="utf-8")
    (folder / DOCKERFILE).write_text(dockerfile(found, name), encoding="utf-8")
    _make_readable(folder)


def _fetched(project: Project, place: Path, variant: Variant) -> Form:
    """Bring what is served of a version: its compiled form, else its bytes, checked against their manifest."""
    form = variants.fetched(project, place, variant)
    shutil.rmtree(place / "copy", ignore_errors=True)
    replace_file(place / FACTS, form.record())
    return form


def instructions(found: Served, variants: tuple[ServedVariant, ...]) -> Instructions:
    """Word what the workers are told; the token's digest is put in where they run."""
    limits, bounds = limits_of(found.wanted)
    return Instructions(
        endpoint=found.wanted.name,
        revision=1,
        model=found.wanted.champion.model,
        variants=variants,
        address="0.0.0.0",  # noqa: S104  # in a container this is the container's own
        port=PORT,
        port_is_required=True,
        limits=limits,
        bounds=bounds,
    )


def requirements(found: Served, endpoint: Path) -> tuple[str, ...]:
    """Pin what serving needs: the workers' packages, and those of models that are not compiled.

    Raises
    ------
    UsageError
        A model names a package in a way that pip could not read.
    """
    wanted = list(WORKER)
    if any(endpoint.glob(f"variants/*/{ONNX}")):
        wanted.append("onnxruntime")
    models = [form for form in found.forms if form.kind != "compiled"]
    if models:
        wanted += [*MODEL_PROCESS, *(line for form in models for line in form.requirements)]
    try:
        return locked(wanted)
    except ValueError as exc:
        raise UsageError(f"The model's requirements cannot be pinned: {exc}.", "Register it with others.") from exc


def dockerfile(found: Served, wheel_name: str) -> str:
    """Write the Dockerfile of a context.

    Its user is not root and can write nothing but temporary files; the packages are a layer of their own, which
    stays when another version is exported.
    """
    image = found.image_of(*found.wanted.variants)
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    lines = (
        HEADING,
        f"# docker build -t {image} .",
        f"# docker run --read-only --tmpfs /tmp -p {PORT}:{PORT} -e NBMLOPS_TOKEN {image}",
        f"FROM python:{python}-slim",
        "ENV HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1",
        "WORKDIR /srv",
        f"COPY {LOCK} ./",
        f"RUN pip install --no-cache-dir --no-deps -r {LOCK}",
        f"COPY {wheel_name} ./",
        f"RUN pip install --no-cache-dir --no-deps ./{wheel_name}",
        f"COPY {ENDPOINT} ./{ENDPOINT}",
        *_labels(found),
        f"USER {USER}:{USER}",
        f"EXPOSE {PORT}",
        "HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \\",
        f'  CMD ["python", "-c", "{_HEALTH}"]',
        f'ENTRYPOINT ["python", "-m", "nbmlops.serving.standalone", "/srv/{ENDPOINT}"]',
        'CMD ["--workers=1"]',
    )
    return "\n".join(lines) + "\n"


def _labels(found: Served) -> Iterator[str]:
    for place, variant in enumerate(found.wanted.variants):
        suffix = f".{place}" if place else ""
        model = variant.label.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
        yield f'LABEL nbmlops.model{suffix}="{model}" nbmlops.digest{suffix}="{variant.digest}"'


def _make_readable(folder: Path) -> None:
    """Have the image's user read what only we may read here; it holds no secret."""
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    folder.chmod(0o755)
