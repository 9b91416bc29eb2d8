"""Workflow files of Jenkins: declarative Groovy, in which every text went through one quoting function."""

import re
from collections.abc import Iterable

from nbmlops.pipelines.ci.plan import INSTALL, RESULTS, Input, WorkflowPlan, comment, environment, inputs, script
from nbmlops.pipelines.ci.services import SUMMARY
from nbmlops.pipelines.schedule import MONTH, WEEKDAY

_NUMBERS = {name: str(number) for field in (MONTH, WEEKDAY) for number, name in enumerate(field.names, start=field.low)}
_VENV = "python -m venv .nbmlops-venv\n. .nbmlops-venv/bin/activate\n"


def jenkins(plan: WorkflowPlan) -> str:
    """Write a declarative Jenkinsfile; the run happens in a container of Python's image."""
    asked = inputs(plan)
    zone = "" if plan.timezone == "UTC" else f"TZ={plan.timezone}\n"
    cron = [f"cron({groovy(zone + _numbered(plan.cron))})"] if plan.cron else []
    fixed = environment(plan, asked) | {"CI": "true"}
    variables = [f"{name} = {groovy(text)}" for name, text in fixed.items()]
    variables += [f"{name} = credentials({groovy(name)})" for name in plan.secrets]
    shell = groovy(_VENV + INSTALL + script(plan))
    files = groovy(f"{RESULTS}/**,{SUMMARY}")
    junit = [f"junit testResults: {groovy(f'{RESULTS}/junit.xml')}, allowEmptyResults: true"]
    post = [
        *(junit if plan.is_notebook else []),
        f"archiveArtifacts artifacts: {files}, allowEmptyArchive: true",
    ]
    blocks = [
        _groovy_block("agent", _groovy_block("docker", [f"image {groovy(f'python:{plan.python_version}')}"])),
        _groovy_block("parameters", map(_jenkins_parameter, asked)),
        _groovy_block("triggers", cron),
        _groovy_block("environment", variables),
        _groovy_block("stages", _groovy_block(f"stage({groovy('Run')})", _groovy_block("steps", [f"sh {shell}"]))),
        _groovy_block("post", _groovy_block("always", post)),
    ]
    needs = ["It needs the plug-ins Pipeline, Docker Pipeline, Credentials Binding and JUnit."]
    return (
        comment(plan, "//", needs)
        + "\n".join(_groovy_block("pipeline", [line for part in blocks for line in part]))
        + "\n"
    )


def _numbered(cron: str) -> str:
    """Write days and months as numbers: Jenkins knows no names of them."""
    return re.sub("[A-Za-z]{3}", lambda name: _NUMBERS.get(name[0].lower(), name[0]), cron)


def _jenkins_parameter(each: Input) -> str:
    told = f"name: {groovy(each.variable)}, description: {groovy(each.description)}"
    if each.kind == "boolean":
        return f"booleanParam({told}, defaultValue: {each.default})"
    if each.options:
        ordered = dict.fromkeys([each.default, *each.options])  # the first is the default
        return f"choice({told}, choices: [{', '.join(map(groovy, ordered))}])"
    return f"string({told}, defaultValue: {groovy(each.default)})"


def _groovy_block(head: str, lines: Iterable[str]) -> list[str]:
    """Put lines into a block; a block of none is left out, because Jenkins refuses an empty one."""
    inside = list(lines)
    return [f"{head} {{", *(f"    {line}" for line in inside), "}"] if inside else []


def groovy(text: str) -> str:
    r"""Quote a text as Groovy's string of single quotes, in which nothing is expanded.

    A text of many lines becomes one of three quotes. Beside backslash and quote only what is not printable ASCII is
    escaped: Groovy reads ``\uXXXX`` before all else (Groovy language, section 4.1), so no quote is ever written so.

    Examples
    --------
    >>> print(groovy("it's $HOME \\ é"))
    'it\'s $HOME \\ \u00e9'
    """
    is_block = "\n" in text and text.isascii() and "\r" not in text
    quote = "'''" if is_block else "'"
    return quote + "".join(_groovy_char(char, is_block=is_block) for char in text) + quote


def _groovy_char(char: str, *, is_block: bool) -> str:
    if char in "\\'":
        return f"\\{char}"
    if char in "\n\r\t":
        return char if char == "\n" and is_block else {"\n": r"\n", "\r": r"\r", "\t": r"\t"}[char]
    if " " <= char <= "~":
        return char
    units = char.encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
