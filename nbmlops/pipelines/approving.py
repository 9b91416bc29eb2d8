"""The verbs `approve` and `reject`: a person's answer to a step of a pipeline that waits for one."""

from dataclasses import dataclass

from nbmlops import background
from nbmlops.errors import ApprovalError, ConflictError
from nbmlops.pipelines import jobs
from nbmlops.pipelines.flow.runs import WAITING
from nbmlops.pipelines.scheduled import declared_in
from nbmlops.project import Project, actor
from nbmlops.verb import JobRef, Result, verb


@dataclass(frozen=True)
class Decision(Result):
    """An answer: to which step of which job, by whom, and why."""

    job: str
    pipeline: str
    step: str
    is_approved: bool
    by: str
    reason: str = ""
    agent_goes_on: bool = False

    @property
    def headline(self) -> str:
        """The answer in one line."""
        return f"{self.step} of {self.pipeline} {'approved' if self.is_approved else 'rejected'} by {self.by}"

    @property
    def subject(self) -> str:
        """How the ledger files it."""
        return f"pipeline/{self.pipeline}"

    @property
    def next_step(self) -> str:
        """Look at the pipeline that the agent goes on with, or let it go on."""
        if self.agent_goes_on:
            return f"jobs --name {self.pipeline}"
        return f"resume {self.job[:8]}" if self.is_approved else f"show {self.pipeline}"


@verb
def approve(
    project: Project, job: JobRef, *, step: str | None = None, reason: str = "", dry_run: bool = False
) -> Decision:
    """Answer yes to a step of a pipeline that waits for a person.

    Parameters
    ----------
    job
        The job that waits, by the beginning of its id.
    step
        Which of its steps, where several wait.
    reason
        Why; the ledger keeps it.
    dry_run
        Look what waits, answer nothing.

    Returns
    -------
    Decision
        The answer; `resume` lets the pipeline go on, which the agent does by itself for one that is scheduled.

    Raises
    ------
    NotFoundError
        There is no such job or step.
    ConflictError
        Nothing of it waits.
    ApprovalError
        A machine asks: an answer is a person's.

    Examples
    --------
    >>> approve(getfixture("project"), "0f3a")
    Traceback (most recent call last):
    nbmlops.errors.NotFoundError: There is no job 0f3a.
      Look at those there are: `jobs`

    Plain code
    ----------
    import mlflow

    mlflow.MlflowClient($tracking).set_tag($job, "approved", "yes")
    """
    return _decided(project, job, step, reason, is_approved=True, dry_run=dry_run)


@verb
def reject(
    project: Project, job: JobRef, *, step: str | None = None, reason: str = "", dry_run: bool = False
) -> Decision:
    """Answer no to a step of a pipeline that waits for a person.

    Parameters
    ----------
    job
        The job that waits, by the beginning of its id.
    step
        Which of its steps, where several wait.
    reason
        Why; the ledger keeps it.
    dry_run
        Look what waits, answer nothing.

    Returns
    -------
    Decision
        The answer; nothing that needs the step will run.

    Raises
    ------
    NotFoundError
        There is no such job or step.
    ConflictError
        Nothing of it waits.
    ApprovalError
        A machine asks: an answer is a person's.

    Examples
    --------
    >>> reject(getfixture("project"), "0f3a")
    Traceback (most recent call last):
    nbmlops.errors.NotFoundError: There is no job 0f3a.
      Look at those there are: `jobs`

    Plain code
    ----------
    import mlflow

    mlflow.MlflowClient($tracking).set_tag($job, "approved", "no")
    """
    return _decided(project, job, step, reason, is_approved=False, dry_run=dry_run)


def _decided(
    project: Project, job: str, step: str | None, reason: str, *, is_approved: bool, dry_run: bool
) -> Decision:
    from nbmlops.ledger.steps import Steps

    found = jobs.find(project, job)
    if not project.by_human:
        raise ApprovalError("An approval is a person's answer, and this is a machine's.", "Answer from a terminal.")
    steps = project.open(Steps)
    waiting = [row["step"] for row in steps.of_job(found.job) if row["status"] == WAITING]
    if not waiting:
        raise ConflictError(f"Nothing of job {found.job} waits for an answer: it is {found.status}.")
    if step is None and len(waiting) > 1:
        raise ConflictError(f"Several steps wait: {', '.join(waiting)}.", f"Name one: --step {waiting[0]}")
    agent_goes_on = bool(background.living(project.root)) and found.name in declared_in(project.settings)[0]
    decision = Decision(found.job, found.name, step or waiting[0], is_approved, actor(), reason, agent_goes_on)
    if not dry_run:
        steps.decide(found.job, decision.step, approved=is_approved, by=decision.by)
    return decision
