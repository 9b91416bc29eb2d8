"""A model version or an endpoint as files by which others serve it: an image's build context, a cluster's manifests."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbmlops.agent.runnable import Asked
from nbmlops.agent.writing import write
from nbmlops.errors import UsageError
from nbmlops.pipelines.ci.yaml_files import Quoted, yaml_text
from nbmlops.project import Project
from nbmlops.verb import Result

if TYPE_CHECKING:
    from nbmlops.serving.targets.served import Served

DOCKER, KSERVE, KUBERNETES = "docker", "kserve", "k8s"
HEADING = "# Written by nbmlops export, yours to edit.\n"


@dataclass(frozen=True)
class ServedFiles(Result):
    """Files by which something else serves model versions, and what is left to do by hand."""

    target: str
    versions: tuple[str, ...]
    to: str
    path: str
    image: str
    notes: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def headline(self) -> str:
        """The files in one line."""
        return f"{' and '.join(self.versions)} for {self.to}: {', '.join((self.path, *self.others))}"

    @property
    def subject(self) -> str:
        """How the ledger files it."""
        return f"model/{self.versions[0]}"


def is_of_a_model(project: Project, what: str, to: str) -> bool:
    """Say whether a model or endpoint is meant: Kubernetes runs notebooks and pipelines too, by whose names they go."""
    if to != KUBERNETES:
        return to in (DOCKER, KSERVE)
    is_runnable = what.endswith(".ipynb") or (project.exists and what in project.settings.pipelines)
    return not is_runnable and not project.path(what).is_file() and _is_known(project, what)


def _is_known(project: Project, what: str) -> bool:
    """Say whether there is such an endpoint or model; who meant neither is told about notebooks and pipelines."""
    from nbmlops.errors import NbmlopsError
    from nbmlops.serving.targets.served import served

    if any(mark in what for mark in "/@"):
        return True
    try:
        return bool(project.exists and served(project, what))
    except NbmlopsError:
        return False


def exported_model(project: Project, what: str, to: str, output: str | None, asked: Asked) -> ServedFiles:
    """Write the files; the verb says how."""
    from nbmlops.serving.targets.served import served, without_shadow

    if asked.parameters or asked.schedule or asked.tz:
        raise UsageError("-p, --schedule and --tz are of a notebook or pipeline, not of a model.", "Leave them out.")
    found = without_shadow(served(project, what, asked.image))
    if to == DOCKER:
        return _context(project, found, output, asked)
    return _manifests(project, found, to, output, asked)


# ----------------------------------------------------------------------- an image
def _context(project: Project, found: "Served", output: str | None, asked: Asked) -> ServedFiles:
    from nbmlops.serving.targets.image import context

    folder = project.output(output or f"{found.name}-image")
    context(project, found, folder, force=asked.force)
    image = found.image_of(*found.wanted.variants)
    notes = (
        f"Build it: docker build -t {image} {shlex.quote(str(folder))}",
        f"Run it: docker run --read-only --tmpfs /tmp -p 8080:8080 -e NBMLOPS_TOKEN {image}",
    )
    return ServedFiles(found.name, found.versions, DOCKER, str(folder), image, notes)


# ---------------------------------------------------------------------- a cluster
def _manifests(project: Project, found: "Served", to: str, output: str | None, asked: Asked) -> ServedFiles:
    from nbmlops.serving.targets import kserve, kubernetes

    texts = {name: _yaml(content) for name, content in kserve.manifests(found).items()} if to == KSERVE else {}
    if to == KUBERNETES:
        texts = {f"{found.name}.k8s.yaml": _yaml(*kubernetes.manifests(found))}
    paths = [project.output(name) for name in texts]
    if output:
        first = project.output(output)
        paths = [first, *(first.with_name(f"{first.stem}.canary{first.suffix}") for _ in paths[1:])]
    write(dict(zip(paths, texts.values(), strict=True)), force=asked.force)
    image = found.image_of(*found.wanted.variants) if to == KUBERNETES else found.image_of(found.wanted.champion)
    notes = (*_images(found, to), *_steps(found, paths))
    return ServedFiles(
        found.name, found.versions, to, str(paths[0]), image, notes, tuple(str(path) for path in paths[1:])
    )


def _yaml(*contents: Mapping[str, Any]) -> str:
    return HEADING + "---\n".join(yaml_text(_quoted(content)) for content in contents)


def _quoted(value: Any) -> Any:
    """Have every text stand in quotes, so that no reader takes it for something else."""
    if isinstance(value, Mapping):
        return {name: _quoted(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_quoted(each) for each in value]
    return Quoted(value) if isinstance(value, str) else value


def _images(found: "Served", to: str) -> Iterator[str]:
    """Say which images the cluster pulls."""
    variants = found.wanted.variants
    if to == KUBERNETES:
        whose = variants[0].label if len(variants) == 1 else found.wanted.name
        yield f"Push the image {found.image_of(*variants)}: nbmlops export {shlex.quote(whose)} --to docker"
        return
    for each in variants:
        yield f"Push the image {found.image_of(each)}: nbmlops export {shlex.quote(each.label)} --to docker"


def _steps(found: "Served", paths: list[Path]) -> Iterator[str]:
    random = "--from-literal=NBMLOPS_TOKEN=$(openssl rand -hex 32)"
    yield f"Make its Secret: kubectl create secret generic {found.name} {random}"
    yield f"Apply it: kubectl apply -f {shlex.quote(str(paths[0]))}"
    for path in paths[1:]:
        yield f"Once that is ready, apply the other: kubectl apply -f {shlex.quote(str(path))}"
        yield "KServe shares requests in its serverless mode alone."
