"""A headless run as the files of Airflow, Kubeflow Pipelines, Kubernetes, cron or systemd."""

from nbmlops.errors import UsageError, nearest
from nbmlops.pipelines.orchestrators.airflow import airflow
from nbmlops.pipelines.orchestrators.crontab import cron
from nbmlops.pipelines.orchestrators.kubeflow import kubeflow
from nbmlops.pipelines.orchestrators.kubernetes import kubernetes
from nbmlops.pipelines.orchestrators.plan import OrchestratorPlan, check
from nbmlops.pipelines.orchestrators.systemd import systemd

WRITERS = {"airflow": airflow, "kfp": kubeflow, "k8s": kubernetes, "cron": cron, "systemd": systemd}


def orchestrated(to: str, plan: OrchestratorPlan) -> dict[str, str]:
    """Write the files by which something else starts a run.

    Parameters
    ----------
    to
        ``airflow``, ``kfp``, ``k8s``, ``cron`` or ``systemd``.
    plan
        What is run.

    Returns
    -------
    dict
        Texts by the names of their files; the first is what runs, a second says when.

    Raises
    ------
    UsageError
        There is no such orchestrator, or no file of it can say what the plan says.

    Examples
    --------
    >>> from nbmlops.pipelines.ci.plan import WorkflowPlan
    >>> run = WorkflowPlan("retrain", cron="30 2 * * *", timezone="Europe/Vienna")
    >>> files = orchestrated("cron", OrchestratorPlan(run, "retrain", "flights", "/srv", "python", "flights"))
    >>> print(files["retrain.crontab"].splitlines()[-2])
    CRON_TZ=Europe/Vienna
    """
    if to not in WRITERS:
        raise UsageError(f"There are no files for {to!r}.", nearest(to, WRITERS))
    check(plan)
    return WRITERS[to](plan)
