"""Every verb, with the same input on every surface where it makes sense: the same answer, and the same record."""

import contextlib
import json
import re
import shlex
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

import nbmlops
from nbmlops.ledger.database import Ledger
from nbmlops.surfaces.cli import main
from nbmlops.surfaces.show import json_text
from nbmlops.vocabulary import VERBS

from .conftest import Copy, JupyterServer

IN_THIS_PROCESS = ("magic", "python")
EVERYWHERE = (*IN_THIS_PROCESS, "cli", "rest")


@dataclass(frozen=True)
class Case:
    """One call: as words that are typed, and as the arguments that a program sends."""

    line: str
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def verb(self) -> str:
        return self.line.split()[0]


@dataclass(frozen=True)
class Story:
    """Calls that follow one another in one project; a project of its own for each surface."""

    cases: tuple[Case, ...]
    surfaces: tuple[str, ...] = EVERYWHERE
    has_policy: bool = True

    def __str__(self) -> str:
        return ", ".join(case.line for case in self.cases)


def story(line: str, **arguments: Any) -> Story:
    return Story((Case(line, arguments),))


STORIES = [
    Story((Case("init flights", {"name": "flights"}),), has_policy=False),
    story("status"),
    story("doctor"),
    story("sync"),
    story("sync --dry-run --retry", dry_run=True, retry=True),
    story("ui models", view="models"),
    story("export first --to bundle -o first.zip", what="first", to="bundle", output="first.zip"),
    Story(
        (
            Case("track baseline -p depth=3", {"name": "baseline", "parameters": {"depth": 3}}),
            Case("log auc=0.8 --step 2", {"metrics": {"auc": 0.8}, "step": 2}),
            Case(
                "log --text note=good --tables five.parquet --tables again=five.parquet",
                {"text": {"note": "good"}, "tables": {"five": "five.parquet", "again": "five.parquet"}},
            ),
            Case("track fold --nested", {"name": "fold", "nested": True}),
            Case("end"),
            Case("end"),
            Case("autolog --off", {"off": True}),
        ),
        IN_THIS_PROCESS,
    ),
    story("log auc=0.8 -p seed=1 --run open", metrics={"auc": 0.8}, parameters={"seed": 1}, run="open"),
    story("end --status KILLED --run open", status="KILLED", run="open"),
    story("runs --sort auc --where 'metrics.auc > 0.75'", sort="auc", where="metrics.auc > 0.75"),
    story("compare first second", runs=["first", "second"]),
    story("reproduce first --dry-run", run="first", dry_run=True),
    story("show delays/1", what="delays/1"),
    story("show first", what="first"),
    story("validate delays/1", model="delays/1"),
    story("register models:/delays/1 copies", what="models:/delays/1", name="copies"),
    story("models"),
    story("promote delays/1 --to shadow --reason later", model="delays/1", to="shadow", reason="later"),
    story("promote delays/1 --dry-run", model="delays/1", dry_run=True),
    story("rollback delays", model="delays"),
    story("history delays", model="delays"),
    story("verify delays", model="delays"),
    story("verify"),
    Story(
        (
            Case("deploy delays/1 --as live --capture", {"model": "delays/1", "as_": "live", "capture": True}),
            Case("endpoints"),
            Case("predict live --data five.parquet", {"endpoint": "live", "data": "five.parquet"}),
            Case("traffic live 1=100", {"endpoint": "live", "weights": {"1": "100"}}),
            Case(
                "replay delays/1 --endpoint live --against delays/1",
                {"model": "delays/1", "endpoint": "live", "against": "delays/1"},
            ),
            Case("undeploy live", {"endpoint": "live"}),
        )
    ),
    story("drift march.parquet --against january.parquet", current="march.parquet", against="january.parquet"),
    Story(
        (
            Case(
                "alert oncall --on slo,drift --to webhook:env:ONCALL_HOOK",
                {"name": "oncall", "on": "slo,drift", "to": "webhook:env:ONCALL_HOOK"},
            ),
            Case("alert oncall --private", {"name": "oncall", "private": True}),
            Case("alert oncall --mute off", {"name": "oncall", "mute": "off"}),
            Case("alert oncall --test --dry-run", {"name": "oncall", "test": True, "dry_run": True}),
            Case("alert oncall --remove", {"name": "oncall", "remove": True}),
        )
    ),
    story("params train.ipynb", notebook="train.ipynb"),
    story("run train.ipynb -p month=4", what="train.ipynb", parameters={"month": 4}),
    Story(
        (
            Case(
                "schedule train.ipynb '30 2 * * *' --tz Europe/Vienna -p month=4",
                {
                    "target": "train.ipynb",
                    "expression": "30 2 * * *",
                    "tz": "Europe/Vienna",
                    "parameters": {"month": 4},
                },
            ),
            Case("pause train", {"target": "train"}),
            Case("unpause train", {"target": "train"}),
            Case("agent --status", {"status": True}),
            Case("unschedule train", {"target": "train"}),
        )
    ),
    story("jobs --name train", name="train"),
    story("logs aaaa", job="aaaa"),
    story("resume aaaa --dry-run", job="aaaa", dry_run=True),
    story("cancel bbbb --dry-run", job="bbbb", dry_run=True),
    story("approve cccc --reason fine", job="cccc", reason="fine"),
    story("reject cccc --dry-run", job="cccc", dry_run=True),
    story("result rows=3 table=data/march.parquet", values={"rows": "3", "table": "data/march.parquet"}),
]


REFUSED_OUTSIDE_OF_CELLS = {"skip"}


def test_every_verb_is_in_a_story() -> None:
    missing = set(VERBS) - {case.verb for story in STORIES for case in story.cases} - REFUSED_OUTSIDE_OF_CELLS
    assert not missing, f"Add a story with {', '.join(sorted(missing))}"


@pytest.mark.parametrize("story", STORIES, ids=str)
def test_every_surface_gives_the_same_answer_and_leaves_the_same_record(
    story: Story, perform: Callable[[str, Case, Path], Any], copied: Copy
) -> None:
    told: dict[str, Any] = {}
    for surface in story.surfaces:
        folder = copied()
        if not story.has_policy:
            (folder / "nbmlops.toml").unlink()
        told[surface] = [masked(_with_record(perform, surface, case, folder), folder) for case in story.cases]
    for surface, answers in told.items():
        for case, (answer, record), expected in zip(story.cases, answers, told[story.surfaces[0]], strict=True):
            assert (answer, record) == tuple(expected), f"{case.line} on {surface}"
            assert answer not in (None, {}, [])
            only_looks = case.arguments.get("dry_run") or case.arguments.get("status") is True
            changes = VERBS[case.verb].effect in ("write", "govern") and not only_looks
            assert bool(record) == changes


def _with_record(perform: Callable[[str, Case, Path], Any], surface: str, case: Case, folder: Path) -> list[Any]:
    """Perform a case; give its answer, and what the ledger keeps of it beside the surface's name."""
    before = len(_events(folder))
    answer = perform(surface, case, folder)
    new = _events(folder)[before:]
    assert all((event.verb, event.surface) == (case.verb, surface) for event in new)
    return [answer, [[event.outcome, event.subject, event.by_human, event.result] for event in new]]


def _events(folder: Path) -> list[Any]:
    state = folder / ".nbmlops"
    with contextlib.closing(Ledger(f"sqlite:///{state}/ledger.db", state)) as ledger:
        return ledger.events()[::-1]


@pytest.mark.parametrize("line", ["track baseline", "autolog", "log auc=1", "end", "skip enough"])
def test_a_surface_without_a_process_to_act_on_refuses(
    line: str, lived: Path, server: JupyterServer, capsys: pytest.CaptureFixture[str]
) -> None:
    verb, *words = shlex.split(line)
    arguments: dict[str, dict[str, Any]] = {"track": {"name": words[0]}} if verb == "track" else {}
    arguments |= {"log": {"metrics": {"auc": 1}}, "skip": {"reason": "enough"}}
    exit_code = main([verb, *words, "--json"])
    told = json.loads(capsys.readouterr().out)["error"]
    answer = server.perform(verb, arguments.get(verb, {}), lived)
    expected = ("UsageError", 2, 400) if verb in ("track", "autolog", "skip") else ("ConflictError", 12, 409)
    assert (told["type"], exit_code, answer.status_code) == expected
    assert (answer.json()["error"]["type"], answer.json()["error"]["exit_code"]) == expected[:2]
    assert told["hint"]


# ------------------------------------------------------------------ the surfaces
@pytest.fixture
def perform(
    shell: InteractiveShell,
    server: JupyterServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[str, Case, Path], Any]]:
    """Performs a case on a surface in a folder, and gives the answer's JSON."""
    term = signal.getsignal(signal.SIGTERM)

    def on(surface: str, case: Case, folder: Path) -> Any:
        capsys.readouterr()
        monkeypatch.chdir(folder)
        if surface == "rest":
            answer = server.perform(case.verb, case.arguments, folder)
            assert answer.status_code == 200, answer.text
            return answer.json()
        if surface == "python":
            result = getattr(nbmlops.open(folder), case.verb)(**case.arguments)
            return json.loads(json_text(result))
        if surface == "cli":
            assert main([*shlex.split(case.line), "--json"]) == 0, capsys.readouterr()
        else:
            shell.run_cell(f"%mlops {case.line} --json").raise_error()
        return json.loads(capsys.readouterr().out)

    yield on
    signal.signal(signal.SIGTERM, term)


# ------------------------------------------------------------------ what must differ
TAKES_TIME = {
    "size_bytes",
    "seconds",
    "duration_s",
    "rows_per_s",
    "pid",
    "pids",
    "port",
    "latency_p99_ms",
    "environment",
}  # the last is found out while a run goes on
MASKS = {
    r"\b(m-)?[0-9a-f]{32}\b": "<id>",
    r"\b(?=[0-9a-f]*\d)[0-9a-f]{12}\b": "<job>",
    r"\d{4}-\d\d-\d\dT[\d:.]+(\+00:00|Z)?": "<time>",
    r"127\.0\.0\.1:\d+": "<address>",
    r"-\d{8}T\d{6}Z-[0-9a-f]{8}": "-<run>",
    r"[\d,.]+ [GM]B": "<size>",
    r"[\d,.]+ ms": "<duration>",
}


def masked(value: Any, folder: Path) -> Any:
    """Take out what differs from call to call: ids, times, durations, processes, addresses, the copy's own folder."""
    if isinstance(value, dict):
        return {key: "<time>" if key in TAKES_TIME else masked(item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [masked(item, folder) for item in value]
    if isinstance(value, str):
        value = re.sub(rf"{re.escape(str(folder))}(?!-)\b", "<folder>", value)
        for pattern, name in MASKS.items():
            value = re.sub(pattern, name, value)
    return value
