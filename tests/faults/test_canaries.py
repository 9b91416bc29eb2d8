"""Forty secrets of many shapes, brought through every flow by which a run is given one: none is at rest afterwards."""

import base64
import contextlib
import html
import json
import os
import random
import re
import sqlite3
import string
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from nbmlops.pipelines import jobs
from nbmlops.project import Project
from tests.pipelines.conftest import as_notebook
from tests.pipelines.test_warm import start_server

pytestmark = pytest.mark.timeout(900)
N = 40
LETTERS = string.ascii_letters + string.digits
RUN_S = 200.0


# -------------------------------------------------------------------- the secrets
def word(chance: random.Random, n: int) -> str:
    return "".join(chance.choices(LETTERS, k=n))


SHAPES: tuple[Callable[[random.Random], str], ...] = (
    lambda chance: word(chance, 24),
    lambda chance: word(chance, 8),
    lambda chance: base64.b64encode(chance.randbytes(30)).decode(),
    lambda chance: f"{word(chance, 9)}\"'{word(chance, 9)}\\{word(chance, 3)}",
    lambda chance: f"{word(chance, 12)}\n{word(chance, 12)}",
    lambda chance: f"{word(chance, 7)}-äöü-{word(chance, 7)}-✓",
    lambda chance: f"AKIA{''.join(chance.choices(string.ascii_uppercase + string.digits, k=16))}",
    lambda chance: f"postgresql://ops:{word(chance, 14)}@db.invalid:5432/flights",
    lambda chance: "\n".join(["-----BEGIN KEY-----", *(word(chance, 40) for _ in range(3)), "-----END KEY-----"]),
    lambda chance: f"{word(chance, 6)} &<{word(chance, 6)}>%{word(chance, 4)}/+={word(chance, 4)}",
)


def canaries(seed: int) -> dict[str, str]:
    """Forty different secrets, four of each shape, by the names of the parameters that take them."""
    chance = random.Random(seed)
    return {f"t{n:02}": SHAPES[n % len(SHAPES)](chance) for n in range(N)}


def forms(value: str) -> dict[str, bytes]:
    """The forms in which a secret may stand in a file: as it is, a URL's password, each line of several, and coded."""
    raw = value.encode()
    own = re.search(r"://\w+:(\w+)@", value)
    lines = value.splitlines() if "\n" in value else []
    found = {
        "plain": raw,
        "password": own[1].encode() if own else b"",
        "json": json.dumps(value)[1:-1].encode(),
        "json, unicode": json.dumps(value, ensure_ascii=False)[1:-1].encode(),
        "json, twice": json.dumps(json.dumps(value))[3:-3].encode(),
        "repr": repr(value)[1:-1].encode(),
        "html": html.escape(value).encode(),
        "url": urllib.parse.quote(value, safe="").encode(),
        "form": urllib.parse.quote_plus(value).encode(),
        "hex": raw.hex().encode(),
        "base64": base64.b64encode(raw).rstrip(b"="),
        "base64, url": base64.urlsafe_b64encode(raw).rstrip(b"="),
        **{f"line {n}": line.encode() for n, line in enumerate(lines) if len(line) >= 8 and "-----" not in line},
    }
    return {form: text for form, text in found.items() if text}


@dataclass
class Search:
    """All forms of all secrets, looked for at once."""

    values: Mapping[str, str]

    def __post_init__(self) -> None:
        self.known = {
            text: f"{name} as {form}" for name, value in self.values.items() for form, text in forms(value).items()
        }
        longest_first = sorted(self.known, key=len, reverse=True)
        self.pattern = re.compile(b"|".join(map(re.escape, longest_first)))

    def hits(self, content: bytes) -> set[str]:
        return {self.known[found] for found in self.pattern.findall(content)}

    def below(self, folder: Path, apart: Iterable[Path] = ()) -> list[str]:
        """Every hit in every file, in what archives hold, and in databases row by row: long ones lie in pieces."""
        found = []
        for path in sorted(each for each in folder.rglob("*") if each.is_file() and each not in set(apart)):
            for part, content in contents(path):
                found += [f"{path.relative_to(folder)}{part}: {hit}" for hit in sorted(self.hits(content))]
        return found


def contents(path: Path) -> Iterator[tuple[str, bytes]]:
    yield "", path.read_bytes()
    if path.suffix == ".db":
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            yield " (rows)", "\n".join(connection.iterdump()).encode()
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from ((f" ({name})", archive.read(name)) for name in archive.namelist())


# ------------------------------------------------------------------ what runs do
DECLARED = "\n".join([*(f"t{n:02}: Secret = ''" for n in range(N)), "kind: str = 'a'"])
ALL = "tokens = [globals()[f't{n:02}'] for n in range(40)]"
CHANNELS = (
    ALL,
    "for each in tokens: print(each); print(repr(each)); print({'token': each})",
    "import sys\nfor each in tokens: print(each, file=sys.stderr)",
    """\
import time
for each in tokens:
    sys.stdout.write(each[:5]); sys.stdout.flush(); time.sleep(0.002); print(each[5:])""",
    """\
import base64, html, json
from urllib.parse import quote, quote_plus
for each in tokens:
    print(base64.b64encode(each.encode()).decode(), each.encode().hex(), json.dumps(each))
    print(quote(each), quote_plus(each), html.escape(each))""",
    """\
from IPython.display import HTML, JSON, Markdown, display
for each in tokens:
    shown = html.escape(each)
    display(HTML(f'<b title="{shown}">{shown}</b>'), JSON({each: [each]}), Markdown(each))""",
    """\
for each in tokens:
    bundle = {'application/vnd.own+json': {'children': [{'value': each}]}, 'text/plain': each}
    display(bundle, raw=True, metadata={'own': each})""",
    "import warnings, logging\nfor each in tokens: warnings.warn(each); logging.warning('it is %s', each)",
    "import os, subprocess\nfor each in tokens[:4]: subprocess.run(['printf', '%s', each])",
    "handle = display('', display_id=True)\nfor each in tokens: handle.update(each)",
    "tokens",
)
TRACKED = (
    """\
import mlflow, nbmlops
for n, each in enumerate(tokens):
    mlflow.log_param(f'p{n}', each); mlflow.set_tag(f't{n}', each)
for each in (t00, t01):  # names of letters alone are all that MLflow takes
    mlflow.log_metric(each, 1.0); mlflow.log_param(each, 1); mlflow.set_tag(each, 1)
with mlflow.start_run(nested=True, run_name=t00, description=t01):
    mlflow.log_params({f'p{n}': each for n, each in enumerate(tokens)})""",
    """\
import pandas as pd
from pathlib import Path
table = pd.DataFrame({'own': tokens})
mlflow.log_text('\\n'.join(tokens), 'tokens.txt'); mlflow.log_dict({'all': tokens}, 'tokens.json')
mlflow.log_table(table, 'table.json')
Path('own').mkdir(exist_ok=True); Path('own', 'a.txt').write_text('\\n'.join(tokens))
mlflow.log_artifacts('own', 'own'); mlflow.log_artifact('own/a.txt')
Path('own', 'a.txt').unlink()
mlflow.log_input(mlflow.data.from_pandas(pd.DataFrame({'own': [1.0]}), name=t00))
nbmlops.log({t00: 1.0, t10: 2.0})""",
    "%load_ext nbmlops\nfirst = t00\n%mlops result first=first all=tokens",
    "import nbmlops.pipelines.jobs as told\nfor each in tokens: told.tell({'where': each, each: 1})",
)
FAILING = ("raise RuntimeError(' and '.join(tokens))",)


@dataclass
class Field:
    """A project, its secrets, and the commands that are run in it."""

    root: Path
    values: Mapping[str, str]
    environment: dict[str, str]
    said: list[bytes] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.search = Search(self.values)
        self.files = {name: self.root / "secrets" / name for name in self.values}
        (self.root / "secrets").mkdir()
        for name, path in self.files.items():
            path.write_text(self.values[name])
        self.environment |= {
            f"CANARY_{name}": value for name, value in self.values.items() if self.is_of_variable(name)
        }

    @staticmethod
    def is_of_variable(name: str) -> bool:
        """Half of the secrets come from the environment, half from files."""
        return int(name[1:]) % 20 < 10

    def reference(self, name: str) -> str:
        return f"env:CANARY_{name}" if self.is_of_variable(name) else f"file:{self.files[name]}"

    @property
    def given(self) -> list[str]:
        return [word for name in self.values for word in ("-p", f"{name}={self.reference(name)}")]

    def notebook(self, name: str, *cells: str, declared: str = DECLARED) -> str:
        (self.root / name).write_text(json.dumps(as_notebook(*cells, tagged=declared)))
        return name

    def act(self, *words: str, code: int = 0, **more: str) -> bytes:
        """Run a command, watching the words of all processes meanwhile; what it says is searched, too."""
        line = [sys.executable, "-m", "nbmlops.surfaces.cli", *words]
        return self.run(line, code, **more)

    def run(self, line: list[str], code: int = 0, **more: str) -> bytes:
        with tempfile.TemporaryFile() as said, watching(self.search, self.seen):
            process = subprocess.Popen(line, cwd=self.root, env=self.environment | more, stdout=said, stderr=said)
            try:
                ended = process.wait(RUN_S)
            finally:
                process.kill()
            said.seek(0)
            text = said.read()
        self.said.append(text)
        assert ended == code, text.decode(errors="replace")[-3000:]
        return text

    def hits(self) -> list[str]:
        """Everything that is found: at rest, said on a terminal, and in the words of a process."""
        at_rest = self.search.below(self.root, self.files.values())
        return (
            at_rest
            + [f"said: {hit}" for said in self.said for hit in sorted(self.search.hits(said))]
            + sorted(self.seen)
        )


def is_of_file(hit: str) -> bool:
    return not Field.is_of_variable(hit.partition(" ")[0])


@contextlib.contextmanager
def watching(search: Search, seen: set[str]) -> Iterator[None]:
    """Look at the words and variables of every process as long as a block lasts."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            for process in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    words = (process / "cmdline").read_bytes()
                    if not words.startswith(b"printf"):  # which the notebook itself gives the secret
                        seen.update(f"words of a process: {hit}" for hit in search.hits(words))
                    environment = (process / "environ").read_bytes()
                    if b"NBMLOPS_PARAMETER_" not in environment:  # that of the cells, which needs it
                        seen.update(
                            f"variable of a process: {hit}" for hit in search.hits(environment) if is_of_file(hit)
                        )

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


# ------------------------------------------------------------------------ flows
def cold(placed: Field) -> None:
    notebook = placed.notebook("cold.ipynb", *CHANNELS, *TRACKED, *FAILING)
    summary = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(placed.root / "summary.md")}
    placed.act(
        "run", notebook, *placed.given, "-o", "out.ipynb", "--junit", "junit.xml", "--profile", code=3, **summary
    )
    assert (placed.root / "junit.xml").exists()
    assert (placed.root / "summary.md").exists()


def warm(placed: Field) -> None:
    with tempfile.TemporaryDirectory(prefix="nbmlops-", dir="/tmp") as runtime:
        placed.environment |= {"XDG_RUNTIME_DIR": runtime}
        del placed.environment["NBMLOPS_WARM"]
        server = start_server(placed.environment)
        try:
            cold(placed)
        finally:
            server.kill()
            server.wait()


def crash(placed: Field) -> None:
    notebook = placed.notebook("crash.ipynb", *CHANNELS, "import os; print(*tokens, flush=True); os._exit(7)")
    placed.act("run", notebook, *placed.given, "-o", "crashed.ipynb", code=8)


def killed(placed: Field) -> None:
    """The runner is killed: the guard makes a notebook of the log, which stays beside the output."""
    notebook = placed.notebook("killed.ipynb", *CHANNELS, "open('go', 'w'); time.sleep(60)")
    line = [sys.executable, "-m", "nbmlops.surfaces.cli", "run", notebook, *placed.given, "-o", "lost.ipynb"]
    process = subprocess.Popen(
        line, cwd=placed.root, env=placed.environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    wait_for((placed.root / "go").exists)
    process.kill()
    process.wait()
    wait_for(lambda: list(placed.root.glob("lost*.ipynb")))


def matrix_and_retries(placed: Field) -> None:
    notebook = placed.notebook("matrix.ipynb", ALL, "print(*tokens)", *FAILING)
    matrix = ("--matrix", "kind=a,b", "--retries", "1", "--backoff", "0s")
    placed.act("run", notebook, *placed.given, *matrix, "-o", "matrix-out.ipynb", code=3)


def file_of_values(placed: Field) -> None:
    """The file holds references; and in another, which is deleted, the secrets themselves."""
    notebook = placed.notebook("filed.ipynb", ALL, "print(*tokens)", *TRACKED[:1])
    references = {name: placed.reference(name) for name in placed.values}
    (placed.root / "values.json").write_text(json.dumps(references))
    placed.act("run", notebook, "-f", "values.json")
    with tempfile.TemporaryDirectory() as elsewhere:
        path = Path(elsewhere, "values.json")
        path.write_text(json.dumps({f"{name}_token": value for name, value in placed.values.items()}))
        by_name = DECLARED.replace(": Secret", "_token: str")
        tokens = ALL.replace("{n:02}", "{n:02}_token")
        notebook = placed.notebook(
            "by_value.ipynb",
            tokens,
            "print(*tokens)",
            TRACKED[0].replace("t00", "t00_token").replace("t01", "t01_token"),
            declared=by_name,
        )
        placed.act("run", notebook, "-f", str(path))


def papermill(placed: Field) -> None:
    notebook = placed.notebook("pm.ipynb", *CHANNELS[:4])
    line = [sys.executable, "-m", "papermill", "--engine", "nbmlops", notebook, "pm-out.ipynb"]
    told = placed.run([*line, *(word for name in placed.values for word in ("-p", name, placed.reference(name)))])
    assert b"cell 7/7" in told


def resumed(placed: Field) -> None:
    notebook = placed.notebook("resumed.ipynb", ALL, "print(*tokens)", "assert open('fine').read()", *CHANNELS[1:4])
    placed.act("run", notebook, *placed.given, code=3)
    (placed.root / "fine").write_text("x")
    placed.act("resume")


PIPELINE = """
[pipelines.p.parameters]
{parameters}

[[pipelines.p.steps]]
name = "function"
function = "steps:act"
parameters = {{ {values} }}

[[pipelines.p.steps]]
name = "notebook"
notebook = "step.ipynb"
parameters = {{ {values} }}
needs = ["function"]

[[pipelines.p.steps]]
name = "failing"
function = "steps:fail"
parameters = {{ {values} }}
needs = ["notebook"]

[[pipelines.p.steps]]
name = "verb"
verb = "export ${{notebook.run_id}} --to py -o exported.py"
"""
STEPS = """
import logging, sys, warnings

def act(**tokens):
    for each in tokens.values():
        print(each); print(each, file=sys.stderr); logging.warning(each)
    return {"all": list(tokens.values()), **{f"r{n}": each for n, each in enumerate(tokens.values())}}

def fail(**tokens):
    raise ValueError(" ".join(tokens.values()))
"""


def pipeline(placed: Field) -> None:
    placed.notebook("step.ipynb", *CHANNELS[:3], *TRACKED)
    (placed.root / "steps.py").write_text(STEPS)
    parameters = "\n".join(f'{name} = "env:NOT_SET"' for name in placed.values)
    values = ", ".join(f'{name} = "${{parameters.{name}}}"' for name in placed.values)
    policy = placed.root / "nbmlops.toml"
    policy.write_text(policy.read_text() + PIPELINE.format(parameters=parameters, values=values))
    told = placed.act("run", "p", *placed.given, code=3)
    assert b"Step failing: steps:fail raised ValueError: ***" in told, told.decode()
    assert b"verb  FINISHED" in told
    placed.act("jobs")
    placed.act("logs")
    placed.act("show", "p")


AGENT = """
import os, sys
from datetime import UTC, datetime, timedelta
from nbmlops.agent.launching import Launcher
from nbmlops.agent.loop import Agent
from nbmlops.agent.webhooks import Call, answered
from nbmlops.project import Project
from tests.agent.stage import Hands

project, clock = Project("."), Hands(datetime.now(UTC))
agent = Agent(project, Launcher(project), clock, print)
agent.look()
right = "Bearer " + os.environ["CANARY_t00"]
for name, value in os.environ.items():
    if name.startswith("CANARY_t"):
        body = '{"parameters": {"%s": "%s"}}' % (name.removeprefix("CANARY_"), value)
        assert answered(project, Call("hooked", right, value, body.encode()), clock.now()).status == 400
assert answered(project, Call("hooked", right + "x", "", b""), clock.now()).status == 401
clock.time += timedelta(days=1)
agent.look()
for child in agent.children:
    child.wait()
"""


def scheduled(placed: Field) -> None:
    """By the agent: the schedule's parameters are references; a webhook takes neither these nor secrets."""
    notebook = placed.notebook("nightly.ipynb", *CHANNELS[:3], *FAILING)
    placed.act("schedule", notebook, "0 3 * * *", *placed.given, NBMLOPS_AGENT="off")
    policy = placed.root / "nbmlops.toml"
    hook = f'[schedules.hooked]\nnotebook = "{notebook}"\non = ["webhook"]\n'
    policy.write_text(f'{policy.read_text()}\n[agent]\nport = 8377\ntoken = "env:CANARY_t00"\n{hook}')
    ours = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    placed.run([sys.executable, "-c", AGENT], PYTHONPATH=ours)
    (job,) = jobs.newest(Project(placed.root), name="nightly")
    assert job.status == "FAILED"


FLOWS = (cold, warm, crash, killed, matrix_and_retries, file_of_values, papermill, resumed, pipeline, scheduled)


def wait_for(is_so: Callable[[], object], timeout_s: float = RUN_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def placed(folder: Path, seed: int) -> Field:
    return Field(folder, canaries(seed), dict(os.environ))


@pytest.mark.parametrize("flow", [cold, pipeline])
def test_no_secret_of_a_run_is_at_rest_afterwards(placed: Field, flow: Callable[[Field], None]) -> None:
    flow(placed)
    assert placed.hits() == []


@pytest.mark.soak
@pytest.mark.parametrize("flow", [each for each in FLOWS if each not in (cold, pipeline)])
def test_no_secret_is_at_rest_after_any_flow(placed: Field, flow: Callable[[Field], None]) -> None:
    flow(placed)
    assert placed.hits() == []


def test_the_search_finds_every_form_of_every_secret(tmp_path: Path) -> None:
    values = canaries(7)
    assert len(set(values.values())) == N
    search = Search(values)
    for name, value in values.items():
        for text in forms(value).values():
            (tmp_path / "file").write_bytes(b"before " + text + b" after")
            assert any(hit.startswith("file: " + name) for hit in search.below(tmp_path)), (name, text)
