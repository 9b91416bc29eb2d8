"""A step as the command that runs it anywhere, and what the end of its process says; pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nbmlops import errors, secrets
from nbmlops.duration import spoken
from nbmlops.errors import CellError, KernelError, NbmlopsError
from nbmlops.pipelines.executors import FUNCTION, PYTHON, StepEnd
from nbmlops.pipelines.flow.declared import Step
from nbmlops.pipelines.flow.function import spelled
from nbmlops.pipelines.flow.plan import PlannedStep
from nbmlops.pipelines.flow.sources import OF_EVERY_NOTEBOOK
from nbmlops.strict_json import plain

CLI = (PYTHON, "-P", "-m", "nbmlops.surfaces.cli")  # -P: the project's folder shadows none of our modules
MARGIN_S = 20.0  # for a notebook that has run out of time to end by itself, and tell


@dataclass(frozen=True)
class Outcome:
    """What the end of a step's process says: one of results, a reason to have nothing to do, and an error."""

    results: Mapping[str, Any] = field(default_factory=dict)
    skipped: str = ""
    error: NbmlopsError | None = None


# -------------------------------------------------------------------- command
def command(step: Step, planned: PlannedStep) -> tuple[str, ...]:
    """Give the words that run a step.

    Examples
    --------
    >>> step = Step("gate", "verb", "validate delays")
    >>> " ".join(command(step, PlannedStep("gate", "gate", "run", "", words=step.words)))
    'python -P -m nbmlops.surfaces.cli validate --json delays'
    """
    if step.kind == "function":
        return (FUNCTION, step.target)
    if step.kind == "verb":
        return (*CLI, planned.words[0], "--json", *planned.words[1:])
    limit = ("--timeout", f"{step.timeout_s}s") if step.timeout_s else ()
    path = f"./{step.target}" if step.target.startswith("-") else step.target
    return (*CLI, "run", path, "--json", *limit)


def parameters(step: Step, planned: PlannedStep) -> Mapping[str, Any] | None:
    """Give the parameters as the step's process reads them: references as references, texts as texts."""
    if step.kind == "verb":
        return None
    if step.kind == "function":
        return {name: spelled(value) for name, value in planned.parameters.items()}
    return {name: plain(secrets.escaped(value)) for name, value in planned.parameters.items()}


def limit_s(step: Step) -> float | None:
    """Tell after how many seconds its process is ended from outside."""
    return step.timeout_s + MARGIN_S if step.timeout_s and step.kind == "notebook" else step.timeout_s


def resources(step: Step) -> Mapping[str, float]:
    """Tell what one attempt takes."""
    taken = step.resources
    return {"cpus": taken.cpus, "gpus": taken.gpus, "memory_bytes": taken.memory_bytes}


# ------------------------------------------------------------------------ end
def outcome(step: Step, end: StepEnd) -> Outcome:
    """Read what the process of a step has told.

    Examples
    --------
    >>> outcome(Step("clean", "function", "steps:clean"), StepEnd(0, '{"results": {"rows": 3}}')).results
    {'rows': 3}
    >>> print(outcome(Step("clean", "function", "steps:clean"), StepEnd(-9)).error)
    The process of steps:clean was killed by signal 9.
    """
    told = _told(end.stdout)
    if end.timed_out:
        limit = spoken(step.timeout_s or 0)
        return Outcome(error=KernelError(f"{step.target} ran longer than {limit} and was ended.", "Give it more time."))
    if isinstance(told, Mapping) and isinstance(told.get("error"), Mapping) and end.code:
        return Outcome(error=_error(told["error"]))
    if end.code or told is None:
        return Outcome(error=_broken(step, end))
    if step.kind == "function":
        return Outcome(skipped=told["skipped"]) if "skipped" in told else Outcome(told["results"])
    if step.kind == "notebook":
        if told["status"] == "SKIPPED":
            return Outcome(skipped=told["reason"] or "the notebook says so")
        return Outcome({name: told[name] for name in OF_EVERY_NOTEBOOK} | told["results"])
    return Outcome(told if isinstance(told, Mapping) else {"rows": told})


def _told(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _error(told: Mapping[str, Any]) -> NbmlopsError:
    """Raise an error again that a process has told of, as what it was there."""
    kind = getattr(errors, str(told.get("type")), NbmlopsError)
    kind = kind if isinstance(kind, type) and issubclass(kind, NbmlopsError) else NbmlopsError
    error: NbmlopsError = kind(str(told.get("message", "")), str(told.get("hint", "")))
    for name in kind.detail_fields:
        setattr(error, name, told.get(name))
    return error


def _broken(step: Step, end: StepEnd) -> NbmlopsError:
    """Word the end of a process that has not told how it went."""
    said = f" It said last: {last}" if (last := _last_line(end.stderr)) else ""
    if end.code < 0:
        return KernelError(f"The process of {step.target} was killed by signal {-end.code}.{said}")
    if end.code:
        return CellError(f"The process of {step.target} ended with exit code {end.code}.{said}")
    return NbmlopsError(f"{step.target} ended well and printed no JSON where its result belongs.{said}")


def _last_line(text: str) -> str:
    lines: Sequence[str] = text.strip().splitlines()
    return lines[-1][:300] if lines else ""
