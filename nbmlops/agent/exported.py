"""What `export` takes out of a project, by what it is asked for: a run, or a notebook as a workflow file of CI."""

import os
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nbmlops.errors import ConflictError, StoreError, UsageError
from nbmlops.project import Project
from nbmlops.verb import Result

PLACES = {"github": ".github/workflows/{name}.yml", "gitlab": ".gitlab-ci.yml", "jenkins": "Jenkinsfile"}
AGENT = "agent"  # not a run or a notebook, but what keeps the project's agent alive
BESIDE = "{name}.gitlab-ci.yml"  # where a repository has a .gitlab-ci.yml of its own


@dataclass(frozen=True)
class WorkflowFile(Result):
    """A workflow file that was written, and what is left to do by hand."""

    target: str
    to: str
    path: str
    secrets: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def headline(self) -> str:
        """The file in one line."""
        return f"{self.target} as a workflow of {self.to}: {self.path}"

    @property
    def subject(self) -> str:
        """How the ledger files it."""
        return f"notebook/{Path(self.target).stem}"


@dataclass(frozen=True)
class Asked:
    """How a workflow is to run, as the verb's options say it."""

    parameters: Mapping[str, Any]
    schedule: str | None
    tz: str
    force: bool


def exported(project: Project, what: str, to: str, output: str | None, asked: Asked) -> Any:
    """Export what a name stands for; the verb says how."""
    if what == AGENT:
        return _agent_unit(project, to, output, asked)
    if to in PLACES:
        return _workflow_file(project, what, to, output, asked)
    if to == "systemd":  # a pipeline's timer goes here
        raise UsageError(f"{what!r} is not exported to systemd.", "`export agent --to systemd`")
    if asked.parameters or asked.schedule or asked.force:
        raise UsageError(f"-p, --schedule and --force are of a workflow file, not of --to {to}.", "Leave them out.")
    from nbmlops.tracking.capture import export

    return export.exported(project, what, to, output)


def _agent_unit(project: Project, to: str, output: str | None, asked: Asked) -> WorkflowFile:
    """Write the unit by which systemd keeps the project's agent alive."""
    from nbmlops.agent.systemd import unit

    if to != "systemd":
        raise UsageError(f"The agent is not exported to {to}.", "`export agent --to systemd`")
    if asked.parameters or asked.schedule:
        raise UsageError("-p and --schedule are of a notebook, not of the agent.", "Leave them out.")
    name = project.settings.name.value
    plain = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "project"
    path = project.output(output or f"nbmlops-{plain}.service")
    _write(path, unit(name, project.root.resolve()), force=asked.force)
    return WorkflowFile(
        AGENT,
        to,
        str(path),
        notes=(
            f"Install it: mkdir -p ~/.config/systemd/user; cp {shlex.quote(str(path))} ~/.config/systemd/user/",
            f"Start it, now and at every login: systemctl --user enable --now {path.name}",
            "Have it run without a login: loginctl enable-linger",
        ),
    )


def _workflow_file(project: Project, what: str, to: str, output: str | None, asked: Asked) -> WorkflowFile:
    from nbmlops.pipelines.ci.workflows import workflow

    if not what.endswith(".ipynb"):  # a pipeline's name: its plan goes here, and all below stays
        raise UsageError(f"{what!r} is no notebook, and --to {to} takes one.", "Give a path that ends in .ipynb.")
    top = _top(project)
    plan = _plan(project, what, top, asked)
    text = workflow(to, plan)
    name = re.sub(r"[^\w.-]+", "-", Path(what).stem).strip("-.") or "notebook"
    path = project.output(output) if output else _place(top, to, name, text)
    _write(path, text, force=asked.force)
    return WorkflowFile(plan.target, to, str(path), plan.secrets, _notes(to, path, top, plan))


def _top(project: Project) -> Path:
    """Find the folder that a CI system checks out: the repository's, or the project's where there is none."""
    from nbmlops.tracking.capture import git

    return git.top(project.folder) or (project.root if project.exists else project.folder)


def _plan(project: Project, what: str, top: Path, asked: Asked) -> Any:
    from nbmlops.pipelines import contract
    from nbmlops.pipelines import notebook as nb
    from nbmlops.pipelines.ci.plan import WorkflowPlan
    from nbmlops.pipelines.schedule import parsed

    path = project.path(what).resolve()
    declared = nb.parameters_of(nb.read(path))
    # What is missing may be given by hand; a schedule's plan refuses it.
    values = contract.checked([replace(each, is_required=False) for each in declared], asked.parameters, path.name)
    root = project.root.resolve() if project.exists else top.resolve()
    folder = root if path.is_relative_to(root) else top.resolve()
    if not (path.is_relative_to(folder) and folder.is_relative_to(top.resolve())):
        raise UsageError(f"{path} lies outside of {top}, so no checkout has it.", "Move it into the repository.")
    references = (value for value in values.values() if isinstance(value, str) and value.startswith("env:"))
    return WorkflowPlan(
        target=path.relative_to(folder).as_posix(),
        parameters=declared,
        values=values,
        cron=parsed(asked.schedule).expression if asked.schedule else "",
        timezone=asked.tz,
        python_version=f"{sys.version_info.major}.{sys.version_info.minor}",
        secrets=tuple(dict.fromkeys(value.removeprefix("env:") for value in references)),
        folder="" if folder == top.resolve() else folder.relative_to(top.resolve()).as_posix(),
    )


def _place(top: Path, to: str, name: str, text: str) -> Path:
    path = top / PLACES[to].format(name=name)
    is_taken = to == "gitlab" and path.exists() and _content(path) != text
    return top / BESIDE.format(name=name) if is_taken else path


def _content(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _write(path: Path, text: str, *, force: bool) -> None:
    """Write a file at once and whole; one that is there and differs only when told."""
    if path.exists() and not force:
        if _content(path) == text:
            return
        raise ConflictError(f"{path} is there already and differs.", "Give another path with -o, or --force.")
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as exc:
        draft.unlink(missing_ok=True)
        raise StoreError(f"{path} cannot be written: {exc.strerror}.", "Check the disk, or give -o.") from exc


def _notes(to: str, path: Path, top: Path, plan: Any) -> tuple[str, ...]:
    """Say what a person has still to do."""
    notes = [f"Put {name} into the secrets of the CI system." for name in plan.secrets]
    if to == "gitlab" and path.name != ".gitlab-ci.yml":
        shown = path.relative_to(top).as_posix() if path.is_relative_to(top) else path.name
        notes.append(f"Name it in .gitlab-ci.yml: include: {{local: /{shown}}}")
    if to == "gitlab" and plan.cron:
        notes.append(f"Make a pipeline schedule in GitLab: {plan.cron} in {plan.timezone}.")
    return tuple(notes)
