"""The verbs of headless notebooks: `params`, `run`."""

from pathlib import Path

from nbmlops.errors import UsageError
from nbmlops.pipelines import contract, describing
from nbmlops.pipelines import notebook as nb
from nbmlops.pipelines.contract import Parameter
from nbmlops.pipelines.notebook import NotebookRun
from nbmlops.project import Project
from nbmlops.verb import NotebookPath, Pairs, Rows, verb


@verb
def params(
    project: Project, notebook: NotebookPath, *, schema: bool = False
) -> Rows[Parameter] | describing.ParameterSchema:
    """Show the parameters that a notebook declares.

    They are the assignments of the cell tagged ``parameters``: type from the
    annotation, else from the default; help from the comment behind it.

    Parameters
    ----------
    notebook
        Path of the notebook.
    schema
        Give them as a JSON Schema instead (draft 2020-12), for forms and checks.

    Returns
    -------
    Rows of Parameter, or ParameterSchema
        In the order of the cell; empty without a tagged cell. Secrets among the defaults are masked.

    Raises
    ------
    NotFoundError
        There is no such notebook.
    UsageError
        It is no notebook, or its tagged cell is not Python.

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
    path = project.path(notebook)
    declared = nb.parameters_of(nb.read(path))
    if schema:
        return describing.ParameterSchema(describing.schema(declared, path.name))
    return Rows(map(contract.public, declared))


@verb
def run(
    project: Project,
    notebook: NotebookPath,
    *,
    parameters: Pairs = {},
    output: str | None = None,
    timeout: float | None = None,
    dry_run: bool = False,
) -> NotebookRun:
    """Run a notebook headlessly with checked parameters.

    Names and types are checked before anything starts. The notebook runs with
    its own folder as working folder, as an MLflow run; its output notebook
    is written also when a cell fails.

    Parameters
    ----------
    notebook
        Path of the notebook.
    parameters
        Values for its parameters, ``name=value``.
    output
        Where the executed notebook goes; ``.nbmlops/runs/`` without it.
    timeout
        Seconds that the whole notebook may take.
    dry_run
        Check everything, run nothing.

    Returns
    -------
    NotebookRun
        Its run, its output, and how long each cell took.

    Raises
    ------
    UsageError
        A parameter is unknown, missing or of another type.
    CellError
        A cell raised; an error of nbmlops' own raised in a cell keeps its class and exit code.
    KernelError
        The kernel died or ran out of time.

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
        papermill.execute_notebook($notebook, $output, parameters=$parameters)
    """
    path = project.path(notebook).resolve()
    content = nb.read(path)
    declared = nb.parameters_of(content)
    given = contract.checked(declared, parameters, path.name)
    known = contract.effective(declared, given)
    target = _output(project, path, output)
    if timeout is not None and not timeout > 0:
        raise UsageError(f"--timeout must be above 0 seconds, not {timeout:g}.")
    if dry_run:
        return NotebookRun(str(path), str(target or ""), "", "PLANNED", 0.0, contract.shown(known))
    from nbmlops.pipelines.engine import Plan, execute

    outcome = execute(project, Plan(path, content, given, known, target, timeout))
    if outcome.error:
        raise outcome.error
    return outcome.run


def _output(project: Project, notebook: Path, output: str | None) -> Path | None:
    if output is None:
        return None
    path = project.output(output).resolve()
    if path == notebook:
        raise UsageError(f"The output may not overwrite the notebook {notebook.name} itself.", "Give -o another path.")
    if path.is_dir():
        raise UsageError(f"{path} is a folder; -o takes the output notebook's path.", f"-o {output}/{notebook.name}")
    return path
