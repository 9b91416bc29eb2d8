"""Plans with hostile texts wherever a text may stand, and a command that notes how it was called."""

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from nbmlops.pipelines.ci.plan import WorkflowPlan
from nbmlops.pipelines.contract import Parameter
from nbmlops.pipelines.flow.declared import Resources
from nbmlops.pipelines.orchestrators.plan import OrchestratorPlan
from nbmlops.scrub import scrub
from tests.pipelines.ci.test_workflows import MARK, hostile

RETRAIN = OrchestratorPlan(
    WorkflowPlan(
        "retrain",
        (Parameter("rows", "int", 10), Parameter("note", "str", "a")),
        {"rows": 7},
        "30 2 * * mon-fri",
        "Europe/Vienna",
    ),
    name="retrain",
    project="flights",
    root="/srv/flights",
    python="/venv/bin/python",
    image="flights:latest",
    steps={"extract": (), "train": ("extract",), "ask": ("train",), "deploy": ("train", "ask")},
)
GREEDY = replace(
    RETRAIN,
    resources={
        "extract": Resources(),
        "train": Resources(0.5, 0.0, 4 << 30),
        "ask": Resources(),
        "deploy": Resources(2.0, 0.5, 512_000_000),
    },
)
TYPES = {"one": "str", "two": "any", "three": "list", "four": "dict", "five": "float"}
PERCENT = (
    "%",
    "100%",
    "\\%",
    "\\\\%",
    "%%",
    "a\\'%'",
    "%n %i %h",
    "'%'",
    '"%"',
    "{{ ds }}",
    "{% raw %}",
    "{{{{ x }}}}",
)
PERCENT += ('{{$.inputs.parameters["x"]}}', "{{channel:task=;name=x;type=String;}}", "$(NAME)", "$$(NAME)", "${X}", "$")
PERCENT += ("text:env:A", "= b", "\\", "a\\", ";", " ; ", "#", "x\x7f\x01", "\\x24(touch marker)", "\\n", "a \\\nb")
TEXTS = [*PERCENT, *(f"{a}{b}" for a, b in zip(PERCENT, reversed(PERCENT), strict=True)), *hostile(300, 11)]
ROOTS = [text for text in TEXTS if text.isprintable() and len(text) < 80 and "/" not in text]
ROOTS = [text for text in ROOTS if text.strip() == text and not text.endswith("\\")]  # what units refuse


def plan_of(texts: tuple[str, ...], root: str) -> OrchestratorPlan:
    """A notebook with a hostile path and five parameters, run from a folder with a hostile name."""
    a, b, c, d, e = texts
    key = d if scrub({d: "x"}) == {d: "x"} else "key"  # what a secret's name has is refused
    values = {"one": a, "two": b, "three": [c, 1, None], "four": {key: [e]}, "five": 0.1}
    parameters = tuple(Parameter(name, kind, None, help=e) for name, kind in TYPES.items())
    target = f"nb/{a[:30]}{b[:30]}.ipynb"
    run = WorkflowPlan(target, parameters, values, "*/5 9-17 * * *")
    return OrchestratorPlan(run, "night", "flights", root, "/venv/bin/python", "flights:1")


PLANS = [
    plan_of(group, f"/srv/{ROOTS[number % len(ROOTS)]}")
    for number, group in enumerate(zip(*[iter(TEXTS[: len(TEXTS) // 5 * 5])] * 5, strict=True))
]

STUB = """\
#!{python} -IS
import json, os, sys
words = sys.argv[1:]
given = json.load(open(words[words.index("-f") + 1])) if "-f" in words else None
kept = {{name: value for name, value in os.environ.items() if name.startswith("NBMLOPS_")}}
with open({record!r}, "a") as file:
    file.write(json.dumps({{"words": words, "given": given, "folder": os.getcwd(), "environment": kept}}) + "\\n")
print(os.environ.get("STUB_SAYS", '{{"status": "FINISHED", "job": "0123456789ab"}}'))
sys.exit(int(os.environ.get("STUB_EXITS", "0")))
"""


@dataclass(frozen=True)
class Stub:
    """A command in a folder of its own for PATH."""

    command: Path
    record: Path

    def calls(self) -> list[dict[str, Any]]:
        """Give the calls since the last time."""
        lines = self.record.read_text().splitlines() if self.record.exists() else []
        self.record.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stub:
    """An nbmlops in PATH that notes how it was called."""
    folder = tmp_path / "stubs"
    folder.mkdir()
    found = Stub(folder / "nbmlops", folder / "calls.jsonl")
    found.command.write_text(STUB.format(python=os.path.realpath(sys.executable), record=str(found.record)))
    found.command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return found


Moved = Callable[[OrchestratorPlan], OrchestratorPlan]


@pytest.fixture
def moved(tmp_path: Path, stub: Stub) -> Moved:
    """Have a plan run from a folder that is there, with its hostile name, by a command that notes its call."""

    def move(plan: OrchestratorPlan) -> OrchestratorPlan:
        root = tmp_path / "srv" / Path(plan.root).name
        root.mkdir(parents=True, exist_ok=True)
        return replace(plan, root=str(root), python=str(stub.command))

    return move


def no_marker(folder: Path) -> bool:
    """Say whether no hostile text was run as code."""
    return MARK == "touch marker" and not list(folder.rglob("marker"))


def given(plan: OrchestratorPlan) -> Mapping[str, Any]:
    """The values that the command is to be given, as JSON."""
    from nbmlops.secrets import escaped

    return dict(escaped(dict(plan.run.values)))
