"""Which pipeline is meant, and its run as the verbs `run` and `resume` ask for it."""

import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from nbmlops.errors import UsageError, nearest
from nbmlops.pipelines.flow.runs import PipelineRun
from nbmlops.project import Project

DUE = "NBMLOPS_DUE"  # set by what starts a run at its due time: that time, ISO 8601


def meant(project: Project, what: str) -> str:
    """Name the pipeline that is meant; empty for a notebook.

    Raises
    ------
    UsageError
        It is neither.
    """
    if what.endswith(".ipynb") or not project.exists:
        return ""
    known = project.settings.pipelines
    if what in known:
        return what
    if project.path(what).is_file():
        return ""
    raise UsageError(
        f"There is no pipeline {what!r} in {project.settings.path}, and it is no notebook either.",
        nearest(what, known) or "A notebook's path ends in .ipynb; a pipeline is declared as [pipelines.NAME].",
    )


def refuse(options: Mapping[str, Any], what: str) -> None:
    """Refuse the options that were given and mean nothing here."""
    if given := [name for name, value in options.items() if value]:
        raise UsageError(f"{', '.join(given)} means nothing for {what}.", "Leave it out.")


def run(
    project: Project,
    name: str,
    parameters: Mapping[str, Any],
    only: str,
    from_: str,
    *,
    force: bool,
    executor: str,
    no_warm: bool,
    dry_run: bool,
) -> PipelineRun:
    """Run a declared pipeline, at its due time where one is told."""
    from nbmlops.pipelines.flow.driver import run_pipeline

    due = datetime.fromisoformat(os.environ[DUE]) if os.environ.get(DUE) else None
    selected = _names(only) or _names(from_) or ("*",)
    return run_pipeline(
        project,
        name,
        parameters=parameters,
        only=_names(only),
        from_=_names(from_),
        force=selected if force else (),
        executor=executor,
        due=due,
        is_fresh=no_warm,
        dry_run=dry_run,
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
