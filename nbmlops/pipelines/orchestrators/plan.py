"""What an orchestrator is to run, checked, and the parts that the files of several share.

The files call the command ``nbmlops run`` and import nothing of nbmlops. A value stands in them quoted by the one
function of its file, and reaches the command as an argument, or through a file of JSON.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nbmlops.errors import UsageError
from nbmlops.pipelines.ci.plan import NO_FILE_HAS, WorkflowPlan, check_run, worded
from nbmlops.pipelines.contract import Parameter, coerce
from nbmlops.pipelines.flow.declared import Resources
from nbmlops.pipelines.schedule import MONTH, WEEKDAY, Field, parsed
from nbmlops.secrets import escaped

COMMAND = "nbmlops.surfaces.cli"  # as a module: where the interpreter is known, PATH does not matter
STORES = ("NBMLOPS_TRACKING", "NBMLOPS_LEDGER")  # variables that say where processes on several machines meet
HEADING = "Written by nbmlops export, yours to edit."
GPU = "nvidia.com/gpu"
_UNITS = {"Gi": 1 << 30, "G": 10**9, "Mi": 1 << 20, "M": 10**6}


@dataclass(frozen=True)
class OrchestratorPlan:
    """What an orchestrator is to run.

    Attributes
    ----------
    run
        The notebook or pipeline, its parameters and values, and when it runs by itself.
    name
        Of letters, digits, ``.``, ``_`` and ``-``; what the orchestrator calls it.
    project
        The project's name, of the same characters.
    root
        The project's folder on this machine, absolute.
    python
        The interpreter on this machine that has nbmlops.
    image
        The container image that has nbmlops, and the project's folder as its working folder.
    steps
        Of a pipeline each step with those that it needs, in the order of declaration; of a notebook nothing.
    catchup
        Which of the times that were missed are made up: ``one``, ``all`` or ``none``.
    resources
        What each step takes.
    """

    run: WorkflowPlan
    name: str
    project: str
    root: str
    python: str
    image: str
    steps: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    catchup: str = "one"
    resources: Mapping[str, Resources] = field(default_factory=dict)

    @property
    def demands(self) -> dict[str, Resources]:
        """What those steps take that take something else than a processor, as every step does."""
        return {name: taken for name, taken in self.resources.items() if taken != Resources()}


def check(plan: OrchestratorPlan) -> None:
    """Refuse what no file could hold, with UsageError."""
    check_run(plan.run)
    for text in (plan.root, plan.python, plan.image):
        if not text.isprintable():
            raise UsageError(f"{text!r} cannot be named in a file.", "Rename it.")
    if not re.fullmatch(r"[A-Za-z0-9][\w./:@-]*", plan.image, re.ASCII):
        raise UsageError(f"{plan.image!r} is no name of a container image.", "As registry/team/flights:1.0")


def plain_name(text: str, instead: str) -> str:
    """Reduce a name to letters, digits, ``.``, ``_`` and ``-``.

    Examples
    --------
    >>> plain_name("mein Projekt!", "project"), plain_name("??", "project")
    ('mein-Projekt', 'project')
    """
    return re.sub(r"[^\w.-]+", "-", text, flags=re.ASCII).strip("-._") or instead


def kubernetes_name(name: str) -> str:
    """Reduce a plain name to what Kubernetes takes for a CronJob: a label of DNS with at most 52 characters.

    Examples
    --------
    >>> kubernetes_name("Nightly_run.v2")
    'nightly-run-v2'
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:52].rstrip("-") or "run"


def amounts(taken: Resources) -> dict[str, str]:
    """Word what a step takes as Kubernetes words it, who gives away whole GPUs alone.

    Examples
    --------
    >>> amounts(Resources(0.5, 0.5, 4_000_000_000))
    {'cpu': '500m', 'memory': '4G', 'nvidia.com/gpu': '1'}
    """
    cpu = f"{taken.cpus:.0f}" if taken.cpus == int(taken.cpus) else f"{math.ceil(taken.cpus * 1000)}m"
    n = taken.memory_bytes
    memory = next((f"{n // size}{unit}" for unit, size in _UNITS.items() if n % size == 0), str(n))
    worded = {"cpu": (taken.cpus, cpu), "memory": (n, memory), GPU: (taken.gpus, str(math.ceil(taken.gpus)))}
    return {name: text for name, (amount, text) in worded.items() if amount}


# ------------------------------------------------------------------ the command
def arguments(plan: OrchestratorPlan) -> tuple[str, ...]:
    """Word the command's arguments, from ``run`` on.

    Raises
    ------
    UsageError
        A value cannot be written as an argument without loss.

    Examples
    --------
    >>> run = WorkflowPlan("train.ipynb", (Parameter("month", "int", 1),), {"month": 3})
    >>> arguments(OrchestratorPlan(run, "train", "flights", "/srv", "python", "flights"))
    ('run', '-p', 'month=3', '--', 'train.ipynb')
    """
    known = {each.name: each for each in plan.run.parameters}
    given = [f"{name}={_spelled(known.get(name, Parameter(name, 'any')), v)}" for name, v in plan.run.values.items()]
    return ("run", *(word for pair in given for word in ("-p", pair)), "--", plan.run.target)


def local_command(plan: OrchestratorPlan) -> tuple[str, ...]:
    """Word the whole command as it is called on this machine."""
    return (plan.python, "-P", "-m", COMMAND, *arguments(plan))


def _spelled(parameter: Parameter, value: Any) -> str:
    """Spell a value as text that is read back as the same."""
    text = str(escaped(value)) if isinstance(value, str) else worded(value)
    if NO_FILE_HAS.search(text) or "=" in parameter.name or not _is_read_back(parameter, text, value):
        raise UsageError(
            f"The value of {parameter.name} cannot be given on a command line as it is.",
            "Declare its type, or write it into the notebook or nbmlops.toml as the default.",
        )
    return text


def _is_read_back(parameter: Parameter, text: str, value: Any) -> bool:
    try:
        read = coerce(parameter, text)
    except UsageError:
        return False
    return (type(read), repr(read)) == (type(value), repr(value))


# --------------------------------------------------------------------- schedules
def numbered(cron: str) -> str:
    """Write a cron expression with numbers alone and Sunday as 0, which every reader of five fields takes.

    Examples
    --------
    >>> numbered("30 2 * jan-mar fri-sun"), numbered("*/15 9-17 L * 7")
    ('30 2 * 1-3 0,5,6', '*/15 9-17 L * 0')
    """
    minute, hour, day, month, weekday = parsed(cron).expression.split(" ")
    months = month if not re.search("[A-Za-z]", month) else _renamed(month, MONTH)
    return f"{minute} {hour} {day.upper()} {months} {_weekdays(weekday)}"


def _renamed(text: str, names: Field) -> str:
    return re.sub("[A-Za-z]{3}", lambda name: str(names.low + names.names.index(name[0].lower())), text)


def _weekdays(text: str) -> str:
    if not re.search("[A-Za-z7]", text):
        return text
    return ",".join(map(str, sorted({number % 7 for number in WEEKDAY.values(text)})))


def refuse_last_day(cron: str, reader: str) -> None:
    """Refuse the last day of a month where the reader of a file has no word for it."""
    if parsed(cron).has_last_day:
        raise UsageError(
            f"{reader} has no word for the last day of a month, as {cron!r} asks.", "Give another with --schedule."
        )


def refuse_stepped_days(cron: str, reader: str) -> None:
    """Refuse days with a step beside weekdays: cron wants both to fit, and these readers take either."""
    _, _, day, _, weekday = cron.split(" ")
    if "*" not in (day, weekday) and "*" in day + weekday:
        raise UsageError(
            f"{reader} would run on either day of {cron!r}, where cron wants both to fit.",
            "Write the days as numbers, or as *.",
        )
