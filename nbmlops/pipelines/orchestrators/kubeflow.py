"""A pipeline of Kubeflow Pipelines 2: a component for each step, which calls the command in the project's image."""

from typing import Any

from nbmlops.pipelines.ci.plan import ascii_json
from nbmlops.pipelines.flow.declared import Resources
from nbmlops.pipelines.flow.graph import ordered
from nbmlops.pipelines.orchestrators.plan import (
    GPU,
    HEADING,
    OrchestratorPlan,
    amounts,
    kubernetes_name,
    numbered,
    refuse_last_day,
    refuse_stepped_days,
)
from nbmlops.secrets import escaped

_SECRETS = "from kfp import kubernetes\n"
# Constant but for the constants in front of it, which are literals of Python's.
_PIPELINE = '''

@dsl.component(base_image=IMAGE)
def due_time(given: str) -> str:
    """Tell when the run is due: all of its steps mean the same time."""
    from datetime import datetime, timezone

    return given or datetime.now(timezone.utc).isoformat()


@dsl.component(base_image=IMAGE)
def step(target: str, only: str, values: str, due: str, after: list) -> str:
    """Run one step, and tell its status; what needs a skipped step is skipped."""
    import json
    import os
    import subprocess
    import sys
    import tempfile

    if "SKIPPED" in after:
        return "SKIPPED"
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(values)
        file.flush()
        words = ["nbmlops", "run", "--json", "-f", file.name, *(["--only", only] if only else []), "--", target]
        ended = subprocess.run(words, env={**os.environ, "NBMLOPS_DUE": due}, stdout=subprocess.PIPE, text=True)
    print(ended.stdout)
    if ended.returncode:
        sys.exit(ended.returncode)
    run = json.loads(ended.stdout)
    if run["status"] == "WAITING":
        sys.exit(f"It waits for an approval. Say nbmlops approve {run['job']}, and retry this run: it goes on here.")
    own = [each["status"] for each in run.get("steps", ()) if each["name"].partition("[")[0] == only]
    return "SKIPPED" if own and set(own) == {"SKIPPED"} else run["status"]


@dsl.pipeline(name=NAME)
def pipeline(values: str = VALUES, due: str = ""):
    """Run every step behind those that it needs; values are JSON, due is a time as of ISO 8601, or empty for now."""
    moment = due_time(given=due)
    moment.set_caching_options(False)
    tasks = {}
    for name, needs in STEPS.items():
        after = [tasks[need].output for need in needs or ()]
        only = "" if needs is None else name
        tasks[name] = step(target=TARGET, only=only, values=values, due=moment.output, after=after)
        tasks[name].set_display_name(name)
        tasks[name].set_caching_options(False)  # nbmlops knows better what is unchanged
        for setter, amount in RESOURCES.get(name, {}).items():
            getattr(tasks[name], setter)(amount)
        if SECRETS:
            kubernetes.use_secret_as_env(tasks[name], NAME, {secret: secret for secret in SECRETS})


if __name__ == "__main__":
    compiler.Compiler().compile(pipeline, f"{NAME}.yaml")
'''
_REMARKS = f"""\
# {HEADING}
# Run by Python it compiles itself, to {{name}}.yaml. IMAGE has nbmlops, and the project's folder as its working folder.
# Steps run in containers of their own and meet in the stores: a Postgres ledger, an MLflow server and its artifacts.
# Schedules are not kept in this file: make a recurring run{{cron}}.
"""


def kubeflow(plan: OrchestratorPlan) -> dict[str, str]:
    """Write the pipeline: a Python file that compiles itself."""
    name = kubernetes_name(plan.name)
    steps: dict[str, Any] = {step: list(plan.steps[step]) for step in ordered(plan.steps)} or {"run": None}
    constants = {
        "NAME": name,
        "IMAGE": plan.image,
        "TARGET": plan.run.target,
        "STEPS": steps,
        "VALUES": _no_placeholder(ascii_json(escaped(plan.run.values))),
        "SECRETS": list(plan.run.secrets),
        "RESOURCES": {name: _setters(taken) for name, taken in plan.demands.items()},
    }
    said = _REMARKS.format(name=name, cron=_recurring(plan) if plan.run.cron else "")
    if plan.run.secrets:
        said += (
            f"# It needs the package kfp-kubernetes, and the keys {', '.join(plan.run.secrets)} of the secret {name}.\n"
        )
    imports = f"\nfrom kfp import compiler, dsl\n{_SECRETS if plan.run.secrets else ''}\n"
    text = "".join(f"{name} = {value!a}\n" for name, value in constants.items())
    return {f"{plan.name}_kfp.py": said + imports + text + _PIPELINE}


def _setters(taken: Resources) -> dict[str, str]:
    """Name the methods of a task that ask for what its step takes, with their amounts."""
    asked = amounts(taken)
    setters = {"set_cpu_request": asked.get("cpu"), "set_memory_request": asked.get("memory")}
    if GPU in asked:
        setters |= {"set_accelerator_type": GPU, "set_accelerator_limit": asked[GPU]}
    return {name: amount for name, amount in setters.items() if amount}


def _recurring(plan: OrchestratorPlan) -> str:
    refuse_last_day(plan.run.cron, "Kubeflow Pipelines")
    refuse_stepped_days(plan.run.cron, "Kubeflow Pipelines")
    return f', cron "0 {numbered(plan.run.cron)}" in {plan.run.timezone}'  # whose first field is seconds


def _no_placeholder(text: str) -> str:
    r"""Write JSON without two braces in a row, with which a placeholder begins; outside of strings there are none.

    Examples
    --------
    >>> print(_no_placeholder('{"a": "{{$.x}}"}'))
    {"a": "{\u007b$.x}}"}
    """
    return text.replace("{{", r"{\u007b")
