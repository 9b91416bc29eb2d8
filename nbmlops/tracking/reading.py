"""The verbs that read runs: `runs`, `compare`."""

from nbmlops.errors import NotFoundError, UsageError, nearest
from nbmlops.project import Project
from nbmlops.tracking.runs import STATUSES, Comparison, Run, compare_runs, name_condition
from nbmlops.verb import Rows, RunRef, verb


@verb
def runs(
    project: Project, *, where: str = "", sort: str = "", limit: int = 20, status: str = "", name: str = ""
) -> Rows[Run]:
    """List the newest runs.

    Parameters
    ----------
    where
        MLflow's filter, for instance ``metrics.auc > 0.8``.
    sort
        A metric, best first; ``-NAME`` for lowest first.
    limit
        How many at most, 1 to 1,000.
    status
        Only RUNNING, FINISHED, FAILED, KILLED or SCHEDULED ones.
    name
        Only runs of this name.

    Returns
    -------
    Rows of Run
        Newest first unless sorted.

    Raises
    ------
    UsageError
        MLflow does not understand the filter, or there is no such status.

    Examples
    --------
    >>> ops = getfixture("ops")
    >>> ops.runs(name="nobody")
    ()

    Plain code
    ----------
    import mlflow

    mlflow.set_tracking_uri($tracking)
    print(mlflow.search_runs(experiment_names=[$experiment], filter_string=$where, max_results=$limit))
    """
    from nbmlops.tracking.mlflow import Tracking

    if not 1 <= limit <= 1000:
        raise UsageError(f"--limit must be from 1 to 1000, not {limit}.")
    if status and status not in STATUSES:
        raise UsageError(f"No run has the status {status!r}.", nearest(status.upper(), STATUSES))
    conditions = [where] if where else []
    conditions += [f"attributes.status = '{status}'"] if status else []
    conditions += [name_condition(name)] if name else []
    order = f"metrics.`{sort.lstrip('-')}` {'ASC' if sort.startswith('-') else 'DESC'}" if sort else ""
    found = project.open(Tracking).newest(limit, " and ".join(conditions), order or "attributes.start_time DESC")
    listed = Rows(run for run in found if name in ("", run.name))
    metric = sort.lstrip("-")
    if metric and listed and not any(metric in run.metrics for run in listed):
        known = {each for run in listed for each in run.metrics}
        raise NotFoundError(f"None of these runs has the metric {metric!r}.", nearest(metric, known))
    return listed


@verb
def compare(project: Project, runs: list[RunRef] = []) -> Comparison:
    """Show what differs between runs.

    Parameters
    ----------
    runs
        Ids, unique prefixes of ids, or names; bare: the last two that finished.

    Returns
    -------
    Comparison
        Metrics first, the widest relative gap first; what is equal is left out.

    Raises
    ------
    NotFoundError
        A run does not exist, or there are not two to compare.

    Examples
    --------
    >>> ops = getfixture("ops")
    >>> for depth in (3, 4):
    ...     _ = ops.track(f"depth {depth}", parameters={"depth": depth}), ops.end()
    >>> [row.values for row in ops.compare(["depth 3", "depth 4"]).differences]
    [('3', '4')]

    Plain code
    ----------
    import mlflow

    client = mlflow.MlflowClient($tracking)
    for run_id in $runs:
        run = client.get_run(run_id)
        print(run.info.run_name, run.data.params, run.data.metrics)
    """
    from nbmlops.tracking.mlflow import Tracking

    tracking = project.open(Tracking)
    if len(runs) == 1:
        raise UsageError("compare needs two runs or more.", "Bare it compares the last two that finished.")
    chosen = [tracking.find(each) for each in runs]
    if not runs:
        chosen = tracking.newest(2, "attributes.status = 'FINISHED'")[::-1]
    if len(chosen) < 2:
        raise NotFoundError(f"There are {len(chosen)} finished runs, and compare needs two.", "Track one: `track NAME`")
    return compare_runs(chosen)
