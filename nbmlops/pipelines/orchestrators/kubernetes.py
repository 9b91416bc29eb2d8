"""A manifest of Kubernetes: a CronJob where there is a schedule, else a Job. PyYAML's safe dumper does all quoting."""

from typing import Any

from nbmlops.pipelines.ci.plan import WAITS
from nbmlops.pipelines.ci.yaml_files import Quoted, yaml_text
from nbmlops.pipelines.flow.declared import Resources
from nbmlops.pipelines.orchestrators.plan import (
    GPU,
    HEADING,
    STORES,
    OrchestratorPlan,
    amounts,
    arguments,
    kubernetes_name,
    numbered,
    refuse_last_day,
    refuse_stepped_days,
)

GRACE_S = 60  # how late a start may be that is no catch-up


def kubernetes(plan: OrchestratorPlan) -> dict[str, str]:
    """Write the manifest.

    Raises
    ------
    UsageError
        A value cannot be written as an argument, or the schedule names the last day of a month, or days with a step
        beside weekdays.
    """
    name = kubernetes_name(plan.name)
    labels = {"app.kubernetes.io/name": Quoted(name), "app.kubernetes.io/created-by": "nbmlops"}
    job = {"backoffLimit": 0, "template": {"metadata": {"labels": dict(labels)}, "spec": _pod(plan, name)}}
    content = {
        "apiVersion": "batch/v1",
        "kind": "CronJob" if plan.run.cron else "Job",
        "metadata": {"name": Quoted(name), "labels": labels},
        "spec": _scheduled(plan, job) if plan.run.cron else job,
    }
    said = [
        HEADING,
        "The image has nbmlops, and the project's folder as its working folder.",
        "What a run leaves is kept in the stores, a Postgres ledger and an MLflow server: nbmlops.toml names them,",
        f"or the keys {' and '.join(STORES)} of the secret {name}.",
    ]
    if plan.run.secrets:
        said.append(f"That secret has to have: {', '.join(plan.run.secrets)}.")
    if plan.steps:
        said.append(WAITS)
    if plan.demands:
        said.append("The pod asks for the most that a step takes; steps that run beside each other share it.")
    return {f"{plan.name}.k8s.yaml": "".join(f"# {line}\n" for line in said) + yaml_text(content)}


def _scheduled(plan: OrchestratorPlan, job: dict[str, Any]) -> dict[str, Any]:
    refuse_last_day(plan.run.cron, "Kubernetes")
    refuse_stepped_days(plan.run.cron, "Kubernetes")
    return {
        "schedule": Quoted(numbered(plan.run.cron)),
        "timeZone": Quoted(plan.run.timezone),
        "concurrencyPolicy": "Forbid",  # a second run of a pipeline would be refused
        **({"startingDeadlineSeconds": GRACE_S} if plan.catchup == "none" else {}),
        "jobTemplate": {"spec": job},
    }


def _pod(plan: OrchestratorPlan, name: str) -> dict[str, Any]:
    variables = [_variable(each, name, is_optional=True) for each in STORES]
    variables += [_variable(each, name, is_optional=False) for each in plan.run.secrets]
    container = {
        "name": "run",
        "image": Quoted(plan.image),
        "command": [Quoted("nbmlops")],
        "args": [Quoted(_not_expanded(word)) for word in arguments(plan)],
        "env": variables,
        **({"resources": _resources(plan)} if plan.demands else {}),
    }
    return {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [container]}


def _resources(plan: OrchestratorPlan) -> dict[str, Any]:
    """Ask for the most that one step takes: all run in one container."""
    every = plan.resources.values()
    most = Resources(
        max(each.cpus for each in every), max(each.gpus for each in every), max(each.memory_bytes for each in every)
    )
    requests = {name: Quoted(text) for name, text in amounts(most).items()}
    limits = {GPU: requests[GPU]} if GPU in requests else {}  # of which Kubernetes wants the same as its limit
    return {"requests": requests, **({"limits": limits} if limits else {})}


def _variable(name: str, secret: str, *, is_optional: bool) -> dict[str, Any]:
    reference = {"name": Quoted(secret), "key": Quoted(name), **({"optional": True} if is_optional else {})}
    return {"name": Quoted(name), "valueFrom": {"secretKeyRef": reference}}


def _not_expanded(word: str) -> str:
    """Double the dollar, with which Kubernetes' expansions begin: two stand for one."""
    return word.replace("$", "$$")
