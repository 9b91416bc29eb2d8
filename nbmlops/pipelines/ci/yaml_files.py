"""Workflow files in YAML: GitHub Actions, GitLab CI. PyYAML's safe dumper does all quoting."""

import json
import re
from collections.abc import Mapping
from typing import Any

from nbmlops.pipelines.ci.plan import (
    INSTALL,
    KEPT_DAYS,
    RESULTS,
    Input,
    WorkflowPlan,
    comment,
    environment,
    inputs,
    script,
)
from nbmlops.pipelines.ci.services import CODE_QUALITY, SUMMARY

_TEXT = "tag:yaml.org,2002:str"
# GitHub's own since March 2026 (changelog of 2026-03-19); without the key its schedules are in UTC.
_ZONE_REMARK = "Delete timezone on a GitHub Enterprise Server that does not know it: its schedules are in UTC."


class Quoted(str):
    """Text that stands quoted in YAML, so that no reader of any version takes it for a number, date or boolean."""

    __slots__ = ()


class _Block(str):
    """Text of many lines, as a block."""

    __slots__ = ()


def github(plan: WorkflowPlan) -> str:
    """Write a workflow of GitHub Actions: checkout, Python, install, run, keep what came of it."""
    asked = inputs(plan)
    by_hand = {"workflow_dispatch": {"inputs": {each.id: _github_input(each) for each in asked}} if asked else None}
    zone = {} if plan.timezone == "UTC" else {"timezone": plan.timezone}
    schedule = {"schedule": [{"cron": Quoted(plan.cron), **zone}]} if plan.cron else {}
    # As typed: `inputs.NAME` would be a number or boolean of GitHub's, with fewer digits.
    typed = {each.variable: f"${{{{ github.event.inputs.{each.id} }}}}" for each in asked}
    secrets = {name: f"${{{{ secrets.{name} }}}}" for name in plan.secrets}
    fixed = {name: Quoted(_no_expression(text)) for name, text in environment(plan, asked).items()}
    version = {"python-version": Quoted(plan.python_version)}
    kept = {"name": RESULTS, "path": _Block(f"{RESULTS}/\n"), "retention-days": KEPT_DAYS}
    content = {
        "name": Quoted(f"nbmlops {re.sub(r'[^A-Za-z0-9_. -]+', '-', plan.target)}"[:100]),
        "on": by_hand | schedule,
        "permissions": {"contents": "read"},
        "jobs": {
            "run": {
                "runs-on": "ubuntu-latest",
                "steps": [
                    {"uses": "actions/checkout@v5"},
                    {"uses": "actions/setup-python@v6", "with": version},
                    {"name": "Install", "shell": "bash", "run": _Block(INSTALL)},
                    {"name": "Run", "shell": "bash", "env": fixed | typed | secrets, "run": _Block(script(plan))},
                    {"name": "Keep", "if": "always()", "uses": "actions/upload-artifact@v6", "with": kept},
                ],
            }
        },
    }
    remark = _ZONE_REMARK if zone else "Schedules are in UTC."
    return comment(plan, "#", [remark] if plan.cron else []) + yaml_text(content)


def _github_input(each: Input) -> dict[str, Any]:
    kind = {"text": "string"}.get(each.kind, each.kind)
    default = {"boolean": each.default == "true", "number": _number(each.default)}.get(each.kind, Quoted(each.default))
    return {
        "description": Quoted(each.description),
        "type": kind,
        "required": each.is_required,
        **({"options": [Quoted(option) for option in each.options]} if each.options else {}),
        **({"default": default} if each.default else {}),
    }


def _number(text: str) -> int | float | None:
    return json.loads(text) if re.fullmatch(r"-?\d+(\.\d+)?", text) else None


def _no_expression(text: str) -> str:
    """Write ``${{`` as an expression that yields it: GitHub has no other way to escape its own."""
    return text.replace("${{", "${{ '${{' }}")


def gitlab(plan: WorkflowPlan) -> str:
    """Write a job of GitLab CI; its schedules live in GitLab, not in the file."""
    asked = inputs(plan)
    fixed = {name: {"value": Quoted(text), "expand": False} for name, text in environment(plan, asked).items()}
    started = "$CI_PIPELINE_SOURCE =~ /^(schedule|web|api|trigger)$/"
    content = {
        **({"variables": {each.variable: _gitlab_variable(each) for each in asked}} if asked else {}),
        "run-nbmlops": {
            "image": Quoted(f"python:{plan.python_version}"),
            "rules": [{"if": started}],
            "variables": fixed,
            "before_script": [_Block(INSTALL)],
            "script": [_Block(script(plan))],
            "artifacts": {
                "when": "always",
                "expire_in": f"{KEPT_DAYS} days",
                "paths": [f"{RESULTS}/", SUMMARY],
                **(
                    {"reports": {"junit": f"{RESULTS}/junit.xml", "codequality": CODE_QUALITY}}
                    if plan.is_notebook
                    else {}
                ),
            },
        },
    }
    remark = f'Schedules are not kept in this file: make one with cron "{plan.cron}" in {plan.timezone}.'
    return comment(plan, "#", [remark] if plan.cron else []) + yaml_text(content)


def _gitlab_variable(each: Input) -> dict[str, Any]:
    options = ("true", "false") if each.kind == "boolean" else each.options
    return {
        "value": Quoted(each.default),
        "description": Quoted(each.description),
        **({"options": [Quoted(option) for option in options]} if options else {}),
        "expand": False,
    }


def yaml_text(content: Mapping[str, Any]) -> str:
    """Write YAML that its safe loader reads back as it was, in ASCII."""
    import yaml

    dumper: Any = type("Dumper", (yaml.SafeDumper,), {})  # of its own: representers are kept by class
    for kind, style in ((Quoted, '"'), (_Block, "|")):
        dumper.add_representer(kind, lambda own, text, style=style: own.represent_scalar(_TEXT, str(text), style=style))
    return str(yaml.dump(dict(content), Dumper=dumper, sort_keys=False, width=10**9))
