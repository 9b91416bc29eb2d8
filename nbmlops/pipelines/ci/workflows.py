"""A headless run as a workflow file of GitHub Actions, GitLab CI or Jenkins."""

from nbmlops.errors import UsageError, nearest
from nbmlops.pipelines.ci.jenkinsfile import jenkins
from nbmlops.pipelines.ci.plan import WorkflowPlan, check
from nbmlops.pipelines.ci.yaml_files import github, gitlab

_WRITERS = {"github": github, "gitlab": gitlab, "jenkins": jenkins}


def workflow(to: str, plan: WorkflowPlan) -> str:
    r"""Write a workflow file.

    Parameters
    ----------
    to
        ``github``, ``gitlab`` or ``jenkins``.
    plan
        What it runs.

    Returns
    -------
    str
        The file's text, ASCII: YAML, or a declarative Jenkinsfile.

    Raises
    ------
    UsageError
        There is no such system; or the plan has a schedule, zone, version, secret's name or path that cannot be one,
        or a secret as a value.

    Examples
    --------
    >>> import yaml
    >>> text = workflow("github", WorkflowPlan("train.ipynb", values={"kind": "$(x)"}))
    >>> job = yaml.safe_load(text)["jobs"]["run"]
    >>> job["steps"][3]["env"]["RUN_VALUES"]
    '{"kind": "\\u0024(x)"}'
    >>> "$(x)" in text
    False
    """
    if to not in _WRITERS:
        raise UsageError(f"There is no workflow file for {to!r}.", nearest(to, _WRITERS))
    check(plan)
    return _WRITERS[to](plan)
