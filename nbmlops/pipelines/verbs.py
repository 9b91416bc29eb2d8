"""The verbs of headless notebooks: `params`, `run`, `resume`, `cancel`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nbmlops.pipelines import attempts, cancelling, contract, describing, detaching, planning, resuming
from nbmlops.pipelines import jobs as known
from nbmlops.pipelines import matrix as combining
from nbmlops.pipelines import notebook as nb
from nbmlops.pipelines import running as pipelines
from nbmlops.pipelines.contract import Parameter
from nbmlops.pipelines.flow.checks import own_parameters
from nbmlops.pipelines.flow.declared import declared as declared_pipeline
from nbmlops.pipelines.flow.runs import PipelineRun
from nbmlops.pipelines.jobs import Job
from nbmlops.pipelines.matrix import MatrixRun
from nbmlops.pipelines.notebook import NotebookRun
from nbmlops.project import Project
from nbmlops.verb import JobRef, Pairs, Rows, RunnableRef, verb


@verb
def params(
    project: Project, notebook: RunnableRef, *, schema: bool = False
) -> Rows[Parameter] | describing.ParameterSchema:
    """Show the parameters that a notebook or a pipeline declares.

    Those of a notebook are the assignments of the cell tagged ``parameters``: type from the
    annotation, else from the default; help from the comment behind it. Those of a pipeline
    stand in ``nbmlops.toml`` with their defaults, which give the types.

    Parameters
    ----------
    notebook
        Path of a notebook, or the name of a pipeline of ``nbmlops.toml``.
    schema
        Give them as a JSON Schema instead (draft 2020-12), for forms and checks.

    Returns
    -------
    Rows of Parameter, or ParameterSchema
        In the order of the declaration; empty where there is none. Secrets among the defaults are masked. JSON
        also has the `kind` of each and whether it `is_secret`.

    Raises
    ------
    NotFoundError
        There is no such notebook.
    UsageError
        It is neither a notebook nor a pipeline, or its tagged cell is not Python.

    Examples
    --------
    >>> from nbmlops.project import Project
    >>> cell = '{"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": "month = 1  # of 2013"}'
    >>> path = getfixture("tmp_path") / "train.ipynb"
    >>> _ = path.write_text('{"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": [%s]}' % cell)
    >>> [(each.name, each.type, each.default, each.help) for each in params(Project(), str(path))]
    [('month', 'int', 1, 'of 2013')]

    Plain code
    ----------
    import papermill

    print(papermill.inspect_notebook($notebook))
    """
    title, declared = _parameters(project, notebook)
    if schema:
        return describing.ParameterSchema(describing.schema(declared, title))
    return Rows(describing.described(contract.public(each)) for each in declared)


@verb
def run(
    project: Project,
    what: RunnableRef,
    *,
    parameters: Pairs = {},
    file: str | None = None,
    matrix: Pairs = {},
    at_once: int = 1,
    output: str | None = None,
    timeout: str = "24h",
    cell_timeout: str = "6h",
    retries: int = 0,
    backoff: str = "5s",
    junit: str | None = None,
    profile: bool = False,
    only: str = "",
    from_: str = "",
    force: bool = False,
    executor: str = "local",
    no_warm: bool = False,
    detach: bool = False,
    dry_run: bool = False,
) -> NotebookRun | MatrixRun | PipelineRun | Job:
    """Run a notebook or a pipeline headlessly with checked parameters.

    Names and types are checked before anything starts. A notebook runs with
    its own folder as working folder, as an MLflow run and as a job of the
    ledger; its output notebook is written also when a cell fails. Processes
    that a cell has left behind end with it.

    Parameters
    ----------
    what
        Path of a notebook, or the name of a pipeline of ``nbmlops.toml``.
    parameters
        Values for its parameters, ``name=value``; a secret as a reference, ``token=env:TOKEN``.
    file
        JSON, TOML or YAML file of such values; those given one by one win.
    matrix
        Lists of values, ``name=1,2,3``: the notebook runs once for each combination.
    at_once
        How many of those may run at once.
    output
        Where the executed notebook goes; ``.nbmlops/runs/`` without it. Those of a matrix get numbers.
    timeout
        How long the whole notebook may take (``30s``, ``10m``, ``24h``), or ``never`` for no limit.
    cell_timeout
        How long one cell may take.
    retries
        How often to try again when it fails; a wrong parameter or a gate's no is not tried again.
    backoff
        How long to wait before the first retry; it doubles with each.
    junit
        JUnit file to write, a case for each cell.
    profile
        Measure which calls take the time: ``profile.txt`` and ``profile.pstats`` are artifacts of the run.
    only
        Of a pipeline these steps alone, with commas between them; the results of others are those they had last.
    from_
        Of a pipeline these steps and all that need them.
    force
        Run a pipeline's steps also where nothing has changed since they ran.
    executor
        Where a pipeline's steps run: ``local``, ``local:4``, ``ray``, ``ray:ADDRESS``, ``dask``, ``dask:ADDRESS``.
    no_warm
        Import everything anew, instead of running in a fork of the warm server.
    detach
        Return as soon as the run has begun; it goes on when this process has ended. Not under CI, and no matrix.
    dry_run
        Check everything, run nothing.

    Returns
    -------
    NotebookRun, MatrixRun, PipelineRun, or Job
        Its run, its output, its results, and how long each cell took; of a matrix a line for each combination, of a
        pipeline one for each step. Of a detached run its job, which is RUNNING.

    Raises
    ------
    UsageError
        A parameter is unknown, missing or of another type.
    CellError
        A cell raised; an error of nbmlops' own raised in a cell keeps its class and exit code.
    KernelError
        The kernel died or ran out of time.
    ConflictError
        Another run writes to that output now.

    Examples
    --------
    >>> from nbmlops.project import Project
    >>> cell = '{"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": "month = 1  # of 2013"}'
    >>> path = getfixture("tmp_path") / "train.ipynb"
    >>> _ = path.write_text('{"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": [%s]}' % cell)
    >>> run(Project(), str(path), parameters={"month": "3"}, dry_run=True).parameters
    {'month': 3}

    Plain code
    ----------
    import mlflow
    import papermill

    mlflow.set_tracking_uri($tracking)
    mlflow.set_experiment($experiment)
    with mlflow.start_run():
        mlflow.log_params($parameters)
        papermill.execute_notebook($what, $output, parameters=$parameters)
    """
    values = planning.given_values(parameters, file, project)
    if name := pipelines.meant(project, what):
        refused = {"--matrix": matrix, "--output": output, "--junit": junit, "--profile": profile, "--retries": retries}
        pipelines.refuse(refused, "a pipeline")
        only_looks = dry_run or detach
        pipeline_run = pipelines.run(
            project, name, values, only, from_, force=force, executor=executor, no_warm=no_warm, dry_run=only_looks
        )
        if dry_run or not detach:
            return pipeline_run
        steps: dict[str, Any] = {
            "--only": only,
            "--from": from_,
            "--force": force,
            "--executor": executor,
            "--no-warm": no_warm,
        }
        return detaching.started(project, known.new_id(), ("run", name), steps, values)
    pipelines.refuse({"--only": only, "--from": from_, "--force": force}, "a notebook")
    notebook = what
    limits = planning.Limits.read(timeout, cell_timeout)
    patience = attempts.Patience.read(retries, backoff)
    if matrix:
        pipelines.refuse({"--detach": detach}, "a matrix, which is many jobs")
        plans = planning.planned_matrix(project, notebook, values, matrix, output, limits)
        options = (
            "--timeout",
            timeout,
            "--cell-timeout",
            cell_timeout,
            "--retries",
            str(retries),
            "--backoff",
            backoff,
            *(("--no-warm",) if no_warm else ()),
        )
        return combining.executed(project, plans, options, at_once, junit, dry_run=dry_run)
    plan = replace(planning.planned(project, notebook, values, output, limits), is_profiled=profile, is_fresh=no_warm)
    if dry_run:
        return NotebookRun(str(plan.notebook), str(plan.output or ""), "", "PLANNED", 0.0, plan.shown())
    if detach:
        report = project.output(junit) if junit else None
        how: dict[str, Any] = {"--output": plan.output, "--junit": report, "--profile": profile, "--no-warm": no_warm}
        how |= {"--timeout": timeout, "--cell-timeout": cell_timeout, "--retries": retries, "--backoff": backoff}
        return detaching.started(project, plan.job, ("run", str(plan.notebook)), how, values)
    return attempts.attempted(project, plan, patience, junit)


@verb
def resume(
    project: Project,
    job: JobRef | None = None,
    *,
    junit: str | None = None,
    detach: bool = False,
    dry_run: bool = False,
) -> NotebookRun | PipelineRun | Job:
    """Go on with a failed run at the cell that failed.

    The variables come from a snapshot that was taken after the last cell that
    went well, where one could be taken; else the notebook runs from its start.
    Either is told, with the reason. The parameters are those of the failed run.
    A pipeline goes on with the steps that have not finished.

    Parameters
    ----------
    job
        The job's id, or the beginning of it; the last failed one without it.
    junit
        JUnit file to write, a case for each cell.
    detach
        Return as soon as the run goes on; it does so when this process has ended. Not under CI.
    dry_run
        Say what would run again, and why; run nothing.

    Returns
    -------
    NotebookRun, PipelineRun, or Job
        The new run; a notebook's output has the earlier cells' outputs too. Of a detached run its job.

    Raises
    ------
    NotFoundError
        No job failed, or there is none of that id.
    ConflictError
        It did not fail, or a cell or parameter before the failed one has changed since.

    Examples
    --------
    >>> from nbmlops.project import Project
    >>> resume(getfixture("project"))
    Traceback (most recent call last):
    nbmlops.errors.NotFoundError: No job has failed, so there is nothing to resume.

    Plain code
    ----------
    import papermill

    papermill.execute_notebook($job, $job)
    """
    failed = resuming.failed_job(project, job)
    if not failed.notebook:
        from nbmlops.pipelines.flow.driver import resume_pipeline

        pipeline_run = resume_pipeline(project, failed, dry_run=dry_run or detach)
        if dry_run or not detach:
            return pipeline_run
        return detaching.started(project, known.new_id(), ("resume", failed.job), {}, {})
    plan, reason = resuming.planned(project, failed)
    project.notify(reason)
    if dry_run:
        return NotebookRun(
            str(plan.notebook), str(plan.output or ""), "", "PLANNED", 0.0, plan.shown(), job=failed.job, reason=reason
        )
    if detach:
        report = project.output(junit) if junit else None
        return detaching.started(project, plan.job, ("resume", failed.job), {"--junit": report}, {})
    return attempts.attempted(project, plan, attempts.Patience(), junit)


@verb
def cancel(project: Project, job: JobRef, *, dry_run: bool = False) -> Job:
    """End a job that runs now.

    Its cell is interrupted, its run ends KILLED, and its output is written.

    Parameters
    ----------
    job
        The job's id, or the beginning of it.
    dry_run
        Look whether it runs, end nothing.

    Returns
    -------
    Job
        The job as it has ended.

    Raises
    ------
    NotFoundError
        There is none of that id.
    ConflictError
        It does not run, or runs on another machine.

    Examples
    --------
    >>> from nbmlops.project import Project
    >>> cancel(getfixture("project"), "0f3a")
    Traceback (most recent call last):
    nbmlops.errors.NotFoundError: There is no job 0f3a.
      Look at those there are: `jobs`

    Plain code
    ----------
    import os
    import signal

    os.kill(int($job), signal.SIGTERM)
    """
    return cancelling.cancelled(project, known.find(project, job), dry_run=dry_run)


def _parameters(project: Project, what: str) -> tuple[str, Sequence[Parameter]]:
    """Read what a pipeline or a notebook declares, with its name."""
    if name := pipelines.meant(project, what):
        return name, own_parameters(declared_pipeline(project.settings, name))
    path = project.path(what)
    return path.name, nb.parameters_of(nb.read(path))
