"""What `export` takes out of a project: a run, or files by which others run a notebook, a pipeline or the agent.

Files by which others serve a model are in `exported_models`.
"""

import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nbmlops.agent.exported_models import DOCKER, KSERVE, KUBERNETES, exported_model, is_of_a_model
from nbmlops.agent.runnable import Asked, Runnable, runnable, top
from nbmlops.agent.writing import content, write
from nbmlops.errors import UsageError
from nbmlops.pipelines.orchestrators.plan import OrchestratorPlan, plain_name
from nbmlops.project import Project
from nbmlops.verb import Result

PLACES = {"github": ".github/workflows/{name}.yml", "gitlab": ".gitlab-ci.yml", "jenkins": "Jenkinsfile"}
ORCHESTRATORS = ("airflow", "kfp", "k8s", "cron", "systemd")
OF_AN_IMAGE = ("kfp", KUBERNETES, DOCKER, KSERVE)
AGENT = "agent"  # not a run or a notebook, but what keeps the project's agent alive
BESIDE = "{name}.gitlab-ci.yml"  # where a repository has a .gitlab-ci.yml of its own


@dataclass(frozen=True)
class WorkflowFile(Result):
    """A file by which something else runs a notebook or pipeline, with those that belong to it, and what is left."""

    target: str
    to: str
    path: str
    secrets: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def headline(self) -> str:
        """The files in one line."""
        return f"{self.target} for {self.to}: {', '.join((self.path, *self.others))}"

    @property
    def subject(self) -> str:
        """How the ledger files it."""
        return f"notebook/{Path(self.target).stem}" if self.target.endswith(".ipynb") else f"pipeline/{self.target}"


def exported(project: Project, what: str, to: str, output: str | None, asked: Asked) -> Any:
    """Export what a name stands for; the verb says how."""
    if asked.image and to not in OF_AN_IMAGE:
        raise UsageError(f"--image is of --to {', '.join(OF_AN_IMAGE)}, not of --to {to}.", "Leave it out.")
    if what == AGENT:
        return _agent_unit(project, to, output, asked)
    if is_of_a_model(project, what, to):
        return exported_model(project, what, to, output, asked)
    if to in PLACES:
        return _workflow_file(project, what, to, output, asked)
    if to in ORCHESTRATORS:
        return _orchestrated(project, what, to, output, asked)
    if asked.parameters or asked.schedule or asked.force:
        raise UsageError(f"-p, --schedule and --force are of a workflow file, not of --to {to}.", "Leave them out.")
    from nbmlops.tracking.capture import export

    return export.exported(project, what, to, output)


# --------------------------------------------------------------------- the agent
def _agent_unit(project: Project, to: str, output: str | None, asked: Asked) -> WorkflowFile:
    """Write the unit by which systemd keeps the project's agent alive."""
    from nbmlops.agent.systemd import unit

    if to != "systemd":
        raise UsageError(f"The agent is not exported to {to}.", "`export agent --to systemd`")
    if asked.parameters or asked.schedule:
        raise UsageError("-p and --schedule are of a notebook or pipeline, not of the agent.", "Leave them out.")
    path = project.output(output or f"nbmlops-{_project_name(project)}.service")
    write({path: unit(project.settings.name.value, project.root.resolve())}, force=asked.force)
    return WorkflowFile(AGENT, to, str(path), notes=_unit_notes([path], path.name, "now and at every login"))


def _project_name(project: Project) -> str:
    return plain_name(project.settings.name.value, "project")


def _unit_notes(paths: list[Path], enabled: str, when: str) -> tuple[str, ...]:
    named = " ".join(shlex.quote(str(path)) for path in paths)
    return (
        f"Install it: mkdir -p ~/.config/systemd/user; cp {named} ~/.config/systemd/user/",
        f"Start it, {when}: systemctl --user enable --now {enabled}",
        "Have it run without a login: loginctl enable-linger",
    )


# ------------------------------------------------------------------------- CI
def _workflow_file(project: Project, what: str, to: str, output: str | None, asked: Asked) -> WorkflowFile:
    from nbmlops.pipelines.ci.workflows import workflow

    found, checkout = runnable(project, what, asked), top(project)
    if not found.folder.is_relative_to(checkout):
        raise UsageError(f"{found.folder} lies outside of {checkout}, so no checkout has it.", "Move it there.")
    folder = found.folder.relative_to(checkout)
    plan = replace(found.plan, folder="" if folder == Path() else folder.as_posix())
    text = workflow(to, plan)
    path = project.output(output) if output else _place(checkout, to, plain_name(found.name, "notebook"), text)
    write({path: text}, force=asked.force)
    notes = (*_workflow_notes(to, path, checkout, plan), *_timing_notes(found, asked))
    return WorkflowFile(plan.target, to, str(path), plan.secrets, notes)


def _place(checkout: Path, to: str, name: str, text: str) -> Path:
    path = checkout / PLACES[to].format(name=name)
    is_taken = to == "gitlab" and path.exists() and content(path) != text
    return checkout / BESIDE.format(name=name) if is_taken else path


def _workflow_notes(to: str, path: Path, checkout: Path, plan: Any) -> Iterator[str]:
    """Say what a person has still to do."""
    yield from (f"Put {name} into the secrets of the CI system." for name in plan.secrets)
    if to == "gitlab" and path.name != ".gitlab-ci.yml":
        shown = path.relative_to(checkout).as_posix() if path.is_relative_to(checkout) else path.name
        yield f"Name it in .gitlab-ci.yml: include: {{local: /{shown}}}"
    if to == "gitlab" and plan.cron:
        yield f"Make a pipeline schedule in GitLab: {plan.cron} in {plan.timezone}."


# -------------------------------------------------------------- orchestrators
def _orchestrated(project: Project, what: str, to: str, output: str | None, asked: Asked) -> WorkflowFile:
    from nbmlops.pipelines.orchestrators.writing import orchestrated

    found = runnable(project, what, asked)
    files = orchestrated(to, _orchestrator_plan(project, found, asked))
    paths = [project.output(name) for name in files]
    if output:
        first = project.output(output)
        paths = [first, *(first.with_suffix(path.suffix) for path in paths[1:])]
    if len({*paths}) < len(files):
        raise UsageError(f"{output} would be two files: the units are told apart by their endings.", "-o NAME.service")
    write(dict(zip(paths, files.values(), strict=True)), force=asked.force)
    notes = (*_orchestrator_notes(to, found, paths), *_timing_notes(found, asked))
    return WorkflowFile(found.plan.target, to, str(paths[0]), found.plan.secrets, notes, tuple(map(str, paths[1:])))


def _orchestrator_plan(project: Project, found: Runnable, asked: Asked) -> OrchestratorPlan:
    own = _project_name(project)
    return OrchestratorPlan(
        run=found.plan,
        name=plain_name(found.name, "run"),
        project=own,
        root=str(found.folder),
        python=sys.executable,
        image=asked.image or f"{own.lower()}:latest",
        steps=found.pipeline.edges if found.pipeline else {},
        catchup=found.timing.catchup,
        resources={step.name: step.resources for step in found.pipeline.steps} if found.pipeline else {},
    )


def _orchestrator_notes(to: str, found: Runnable, paths: list[Path]) -> Iterator[str]:
    """Say what a person has still to do."""
    name = shlex.quote(str(paths[0]))
    if to == "airflow":
        yield "Put it into Airflow's folder of DAGs."
    elif to == "kfp":
        yield f"Compile it: python {name}"
    elif to == "k8s":
        yield f"Apply it: kubectl apply -f {name}"
    elif to == "cron":
        yield f"Add it to your crontab: (crontab -l; cat {name}) | crontab -"
    else:
        yield from _unit_notes(paths, paths[-1].name, "now and at every login" if found.plan.cron else "now")
    yield from (f"Give it the variable {each} there." for each in found.plan.secrets)


def _timing_notes(found: Runnable, asked: Asked) -> Iterator[str]:
    """Say what of the declaration the file does not do, and what would be done twice."""
    timing = found.timing
    if timing.schedule and asked.schedule is None:
        yield f"The agent runs it as well while nbmlops.toml has the schedule: nbmlops pause {found.name}"
    if timing.on:
        yield f"Triggers stay the agent's: {', '.join(timing.on)}."
    if found.plan.cron and timing.catchup == "all":
        yield "Of the times that are missed at most the last is made up there."
