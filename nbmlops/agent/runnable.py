"""What others can run: a notebook or a declared pipeline, checked, with its values and when it runs by itself."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nbmlops import secrets
from nbmlops.errors import UsageError
from nbmlops.pipelines import contract
from nbmlops.pipelines import notebook as nb
from nbmlops.pipelines.ci.plan import WorkflowPlan
from nbmlops.pipelines.flow.checks import checked, own_parameters
from nbmlops.pipelines.flow.declared import Pipeline
from nbmlops.pipelines.flow.timing import Timing
from nbmlops.pipelines.running import meant
from nbmlops.pipelines.schedule import parsed
from nbmlops.project import Project


@dataclass(frozen=True)
class Asked:
    """How something is to be exported, as the verb's options say it; no schedule is the one that is declared."""

    parameters: Mapping[str, Any]
    schedule: str | None = None
    tz: str = ""
    force: bool = False
    image: str = ""


@dataclass(frozen=True)
class Runnable:
    """A notebook or pipeline as it is to be run; of a notebook there is no pipeline."""

    plan: WorkflowPlan
    folder: Path
    pipeline: Pipeline | None = None

    @property
    def name(self) -> str:
        """What it is called: a notebook's path without folder and ending."""
        return Path(self.plan.target).stem if self.plan.is_notebook else self.plan.target

    @property
    def timing(self) -> Timing:
        """When it runs by itself, as nbmlops.toml declares it."""
        return self.pipeline.timing if self.pipeline else Timing()


def runnable(project: Project, what: str, asked: Asked) -> Runnable:
    """Find what a name stands for, and check it.

    Raises
    ------
    UsageError
        It is neither notebook nor pipeline, or something is wrong with it, a value or the schedule.
    NotFoundError
        There is no such notebook.
    """
    if name := meant(project, what):
        return _pipeline(project, name, asked)
    path = project.path(what).resolve()
    declared = nb.parameters_of(nb.read(path))
    # What is missing may be given by hand; a schedule's plan refuses it.
    values = contract.checked([replace(each, is_required=False) for each in declared], asked.parameters, path.name)
    folder = _folder(project, path)
    target = path.relative_to(folder).as_posix()
    plan = WorkflowPlan(target, declared, values, secrets=_variables(contract.references(values)))
    return Runnable(_timed(plan, Timing(), asked), folder)


def _pipeline(project: Project, name: str, asked: Asked) -> Runnable:
    pipeline = checked(project.settings, name, project.root).pipeline
    own = own_parameters(pipeline)
    values = contract.checked(own, asked.parameters, f"Pipeline {name}")
    plan = WorkflowPlan(name, own, values, secrets=_variables(_references(pipeline, values)))
    return Runnable(_timed(plan, pipeline.timing, asked), project.root.resolve(), pipeline)


def _folder(project: Project, path: Path) -> Path:
    """Find the folder that a notebook is run from: the project's, else that which the repository has."""
    root = project.root.resolve() if project.exists else top(project)
    folder = root if path.is_relative_to(root) else top(project)
    if not path.is_relative_to(folder):
        raise UsageError(f"{path} lies outside of {folder}, so no checkout has it.", "Move it into the repository.")
    return folder


def top(project: Project) -> Path:
    """Find the folder that a CI system checks out: the repository's, or the project's where there is none."""
    from nbmlops.tracking.capture import git

    return (git.top(project.folder) or (project.root if project.exists else project.folder)).resolve()


def _timed(plan: WorkflowPlan, timing: Timing, asked: Asked) -> WorkflowPlan:
    schedule = timing.schedule if asked.schedule is None else asked.schedule
    return replace(
        plan,
        cron=parsed(schedule).expression if schedule else "",
        timezone=asked.tz or timing.timezone,
        python_version=f"{sys.version_info.major}.{sys.version_info.minor}",
    )


# --------------------------------------------------------------------- secrets
def _references(pipeline: Pipeline, values: Mapping[str, Any]) -> list[str]:
    """List the references to secrets that a run of a pipeline resolves: its own, and those that its steps declare."""
    given = contract.checked(own_parameters(pipeline), {**pipeline.parameters, **values})
    spoken = [word.partition("=")[2] for step in pipeline.steps if step.kind == "verb" for word in step.words]
    declared = [_read([step.parameters, step.matrix]) for step in pipeline.steps]
    return contract.references([given, _read(spoken), *declared])


def _read(value: Any) -> Any:
    """Read the texts of a declaration, so that references are told from texts."""
    if isinstance(value, Mapping):
        return {name: _read(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_read(each) for each in value]
    return secrets.read(value) if isinstance(value, str) else value


def _variables(references: list[str]) -> tuple[str, ...]:
    """Name the variables among references, each once."""
    return tuple(dict.fromkeys(_named(references)))


def _named(references: list[str]) -> Iterator[str]:
    return (each.removeprefix("env:") for each in references if each.startswith("env:"))
