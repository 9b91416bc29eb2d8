"""What is known of jobs: the verbs `jobs` and `logs`."""

from nbmlops.errors import NotFoundError
from nbmlops.pipelines import jobs as known
from nbmlops.pipelines import logbook
from nbmlops.pipelines.jobs import Job
from nbmlops.project import Project
from nbmlops.verb import JobRef, Rows, Text, verb


@verb
def jobs(project: Project, *, name: str = "", limit: int = 20) -> Rows[Job]:
    """List headless runs, newest first, with the status that each truly has.

    Parameters
    ----------
    name
        Of one notebook alone, by its name without ending.
    limit
        How many.

    Returns
    -------
    Rows of Job
        LOST is one whose process is gone without a word.

    Raises
    ------
    StoreError
        The ledger is out of reach.

    Examples
    --------
    >>> jobs(getfixture("project"))
    ()

    Plain code
    ----------
    import mlflow

    mlflow.set_tracking_uri($tracking)
    runs = mlflow.search_runs(experiment_names=[$experiment], max_results=$limit)
    print(runs[["tags.mlflow.source.name", "status", "start_time"]])
    """
    return Rows(known.newest(project, limit, name=name))


@verb
def logs(project: Project, job: JobRef | None = None, *, follow: bool = False) -> Text:
    """Show what a job's cells printed, also while it runs.

    Parameters
    ----------
    job
        The job's id, or the beginning of it; the newest without it.
    follow
        Go on showing what comes, until the job has ended.

    Returns
    -------
    Text
        Pictures and tables are named by their kind.

    Raises
    ------
    NotFoundError
        There is no such job, or its log is gone.

    Examples
    --------
    >>> logs(getfixture("project"))
    Traceback (most recent call last):
    nbmlops.errors.NotFoundError: There are no jobs yet.
      Run a notebook: `run NOTEBOOK`

    Plain code
    ----------
    import nbformat

    for cell in nbformat.read($job, as_version=4).cells:
        for output in cell.get("outputs", ()):
            print(output.get("text", ""))
    """
    found = known.find(project, job) if job else next(iter(known.newest(project, 1)), None)
    if found is None:
        raise NotFoundError("There are no jobs yet.", "Run a notebook: `run NOTEBOOK`")
    folder = known.known_folder(project, found.job)
    path = folder / known.LOG
    if steps := sorted(folder.glob("*.log")):  # of a pipeline
        return Text("\n".join(f"=== {each.stem}\n{each.read_text(errors='replace')}" for each in steps))
    if not path.exists():
        raise NotFoundError(f"The log of job {found.job} is gone.", f"Its output notebook: {found.output}")
    if follow:
        logbook.follow(path, project.notify, lambda: known.find(project, found.job).status == known.RUNNING)
        return Text()
    return Text("\n".join(logbook.lines(path)))
