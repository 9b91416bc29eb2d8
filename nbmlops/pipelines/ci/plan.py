"""What a workflow file is to run, checked, and the parts that the files of all CI systems share.

Nothing that a person typed, and nothing out of a notebook, ever stands in a script: the script is one constant text
that reads environment variables.

============== ======================================================================================
RUN_TARGET     the notebook or pipeline
RUN_FOLDER     the project's folder inside of the repository
RUN_VALUES     parameters as one JSON object
RUN_INPUTS     a JSON object from each input's variable to its parameter
INPUT_name     what was typed where the workflow was started by hand; empty means the notebook's default
============== ======================================================================================

Files are ASCII: what a reviewer sees is what is there. The JSON has no ``$``, with which the expansions of CI systems
begin.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from zoneinfo import available_timezones

from nbmlops.errors import UsageError, nearest
from nbmlops.pipelines.ci.wording import one_line
from nbmlops.pipelines.contract import Parameter
from nbmlops.pipelines.schedule import parsed
from nbmlops.scrub import scrub
from nbmlops.secrets import escaped
from nbmlops.strict_json import plain

RESULTS = "nbmlops-results"
MAX_INPUTS = 25  # of one workflow, GitHub's limit; the parameters behind them keep their defaults
SAFE_DIGITS = 15  # that a number of GitHub's forms keeps: it is a double there
KEPT_DAYS = 30
WAITS = "What waits for an approval ends well, WAITING: it goes on with nbmlops approve JOB, then nbmlops resume JOB."
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESERVED = re.compile(r"(?i)(RUN|INPUT|GITHUB|CI|NBMLOPS)_\w*|CI|PATH|HOME|SHELL|ENV|BASH_ENV|IFS|PYTHON\w*|LD_\w*")
_CRON_FIELD = re.compile(r"[0-9A-Za-z*/,-]+")
NO_FILE_HAS = re.compile("[\x00\ud800-\udfff\ufffe\uffff]")

INSTALL = """\
python -m pip install nbmlops
if [ -f requirements.txt ]; then python -m pip install -r requirements.txt; fi
"""
RUN = f"""\
set -eu
results="$PWD/{RESULTS}"
rm -rf "$results"
mkdir -p "$results"
python -I - > "$results/parameters.json" <<"PYTHON"
import json, os
values = json.loads(os.environ["RUN_VALUES"])
for variable, name in json.loads(os.environ["RUN_INPUTS"]).items():
    if os.environ.get(variable):
        values[name] = os.environ[variable]
print(json.dumps(values))
PYTHON
cd "./$RUN_FOLDER"
nbmlops run -f "$results/parameters.json"{{written}} -- "$RUN_TARGET"
"""
_WRITTEN = ' --junit "$results/junit.xml" -o "$results/executed.ipynb"'  # of a notebook; a pipeline has many


@dataclass(frozen=True)
class WorkflowPlan:
    """What a workflow file is to run.

    Attributes
    ----------
    target
        A notebook's path inside of `folder` (it ends in ``.ipynb``), or a pipeline's name.
    parameters
        What it declares: they become the inputs of a run by hand.
    values
        Parameters of every run, by hand or by schedule; a secret as ``env:NAME`` alone.
    cron, timezone
        When it runs by itself: five fields, in a zone of the IANA database; empty for never.
    python_version
        As ``3.12``.
    secrets
        Environment variables that are taken from the CI system's store of secrets by the same name.
    folder
        The project's folder inside of the repository; empty for the repository's own.
    """

    target: str
    parameters: tuple[Parameter, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    cron: str = ""
    timezone: str = "UTC"
    python_version: str = "3.12"
    secrets: tuple[str, ...] = ()
    folder: str = ""

    @property
    def is_notebook(self) -> bool:
        """Whether the target is a notebook, and no pipeline."""
        return self.target.endswith(".ipynb")


# ------------------------------------------------------------------- checking
def check(plan: WorkflowPlan) -> None:
    """Refuse what no workflow file could hold, with UsageError."""
    check_run(plan)
    if plan.cron and not _is_cron(plan.cron):
        hint = 'Write five fields, as "30 2 * * *", without L.'
        raise UsageError(f"CI systems do not know the schedule {plan.cron!r}.", hint)


def check_run(plan: WorkflowPlan) -> None:
    """Refuse what no file could hold, whatever starts the run; not its schedule, of which each knows another kind."""
    if not plan.target or NO_FILE_HAS.search(plan.target + plan.folder):
        raise UsageError(f"{plan.target!r} cannot be named in a file.", "Rename it.")
    if not re.fullmatch(r"3\.\d{1,2}", plan.python_version):
        raise UsageError(f"{plan.python_version!r} is no version of Python as 3.12 is.")
    if plan.timezone not in available_timezones():
        raise UsageError(f"There is no time zone {plan.timezone!r}.", nearest(plan.timezone, available_timezones()))
    missing = [each.name for each in plan.parameters if each.is_required and each.name not in plan.values]
    if plan.cron and missing:
        raise UsageError(
            f"A scheduled run needs a value for {', '.join(missing)}.", f"Give it with: -p {missing[0]}=VALUE"
        )
    for name in plan.secrets:
        if not _NAME.fullmatch(name) or _RESERVED.fullmatch(name):
            raise UsageError(f"{name!r} cannot be the name of a secret's variable.", "Letters, digits and _: API_TOKEN")
    for name, value in plan.values.items():
        if scrub(plain(value), name) != plain(value):
            raise UsageError(
                f"The value of {name} looks like a secret, and a workflow file is kept in git.",
                f"Put it into the CI system's secrets and give -p {name}=env:NAME",
            )


def _is_cron(text: str) -> bool:
    """Tell five fields that every CI system reads: more than `parsed` refuses, and in one spelling."""
    fields = parsed(text).expression.split(" ")
    return (
        text.split(" ") == fields and all(map(_CRON_FIELD.fullmatch, fields)) and not re.search("[a-zA-Z]", fields[2])
    )


# --------------------------------------------------------------------- inputs
@dataclass(frozen=True)
class Input:
    """One field of the form that starts a workflow by hand."""

    id: str
    parameter: Parameter
    kind: Literal["text", "number", "boolean", "choice"]
    default: str
    options: tuple[str, ...]
    is_required: bool

    @property
    def variable(self) -> str:
        """The environment variable that holds what was typed."""
        return f"INPUT_{self.id}"

    @property
    def description(self) -> str:
        """Describe it; no text of it may look like an expression of GitHub's."""
        own = self.parameter
        words = [own.name if self.id != own.name else "", own.help, f"({own.type})"]
        return _described(" ".join(word for word in words if word))


def inputs(plan: WorkflowPlan) -> list[Input]:
    """Give a form's fields; what looks secret has none, because a form shows what is typed."""
    asked = [each for each in plan.parameters if scrub("x", each.name) == "x" and each.type.lower() != "secret"]
    taken: set[str] = set()
    found = []
    for number, parameter in enumerate(asked[:MAX_INPUTS], start=1):
        own = parameter.name
        name = own if _NAME.fullmatch(own) and own.lower() not in taken else f"parameter_{number}"
        while name.lower() in taken:
            name += "_"
        taken.add(name.lower())
        found.append(_input(name, parameter, plan.values))
    return found


def _input(name: str, parameter: Parameter, values: Mapping[str, Any]) -> Input:
    default = _spelled(parameter, values.get(parameter.name, parameter.default))
    options = tuple(dict.fromkeys(worded(choice) for choice in parameter.choices))
    is_required = parameter.is_required and parameter.name not in values
    if options and all(map(_can_stand, options)) and (default in options or is_required):
        default = default if default in options else options[0]
        return Input(name, parameter, "choice", default, options, is_required)
    if parameter.type == "bool" and default in ("true", "false"):
        return Input(name, parameter, "boolean", default, (), is_required)
    kind: Literal["text", "number"] = "number" if _keeps_its_digits(parameter, default) else "text"
    return Input(name, parameter, kind, default, (), is_required)


def _spelled(parameter: Parameter, default: Any) -> str:
    """Give a default as text that the notebook reads back as the same; empty where a form cannot hold it."""
    if parameter.type == "any" or default is None:  # a default that is no literal is known as its source alone
        return ""
    text = worded(default)
    is_secret = scrub(plain(default), parameter.name) != plain(default)
    return text if _can_stand(text) and not is_secret else ""


def worded(value: Any) -> str:
    """Word a value as text: itself, or JSON."""
    value = plain(value)
    return value if isinstance(value, str) else json.dumps(value)


def _can_stand(text: str) -> bool:
    """Say whether a form keeps a text, and GitHub takes no expression for it."""
    return text.isprintable() and text.strip() == text != "" and "${{" not in text and len(text) <= 1_000


def _keeps_its_digits(parameter: Parameter, default: str) -> bool:
    if parameter.type not in ("int", "float") or parameter.choices:
        return False
    return bool(re.fullmatch(r"-?\d{1,15}(\.\d+)?", default)) and sum(map(str.isdigit, default)) <= SAFE_DIGITS


def _described(text: str) -> str:
    return one_line(text).replace("${{", "$ {{")


# --------------------------------------------------------------- environment
def environment(plan: WorkflowPlan, inputs: Sequence[Input]) -> dict[str, str]:
    """Give the variables that every system's run gets."""
    return {
        "RUN_TARGET": plan.target,
        "RUN_FOLDER": plan.folder,
        "RUN_VALUES": ascii_json(escaped(plan.values)),
        "RUN_INPUTS": ascii_json({each.variable: each.parameter.name for each in inputs}),
    }


def ascii_json(value: Any) -> str:
    r"""Write JSON in ASCII without the dollar that CI systems expand; it cannot stand outside of a JSON string."""
    return json.dumps(plain(value)).replace("$", r"\u0024")


def script(plan: WorkflowPlan) -> str:
    """Give the shell script that runs the target; it is the same for every notebook, and for every pipeline."""
    return RUN.format(written=_WRITTEN if plan.is_notebook else "")


def comment(plan: WorkflowPlan, mark: str, lines: Iterable[str] = ()) -> str:
    """Head a file with remarks, which are made of checked words alone."""
    left_out = len(plan.parameters) - len(inputs(plan))
    said = ["Written by nbmlops export, yours to edit: RUN_TARGET and RUN_VALUES say what is run.", *lines]
    if plan.secrets:
        said.append(f"It needs these secrets: {', '.join(plan.secrets)}.")
    if not plan.is_notebook:
        said.append(WAITS)
    if left_out:
        said.append(f"Parameters that are no input, being secret or beyond {MAX_INPUTS}: {left_out}.")
    return "".join(f"{mark} {line}\n" for line in said)
