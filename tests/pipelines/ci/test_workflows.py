"""Workflow files are valid, run what they say, and whatever is named in them stays a value.

The Jenkinsfile is read by a small reader of this file's own, which knows blocks, strings and calls; where Groovy is
installed, by Groovy itself, with stand-ins for Jenkins' steps. Neither proves that a Jenkins has the plug-ins, nor what
its declarative model checks beyond syntax.
"""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema
from jsonschema import Draft7Validator

from nbmlops.errors import UsageError
from nbmlops.pipelines.ci.jenkinsfile import groovy
from nbmlops.pipelines.ci.plan import INSTALL, WorkflowPlan, script
from nbmlops.pipelines.ci.workflows import workflow
from nbmlops.pipelines.contract import Parameter, declared
from nbmlops.scrub import scrub

SYSTEMS = ("github", "gitlab", "jenkins")
SCHEMAS = {"github": "vendor.github-workflows", "gitlab": "vendor.gitlab-ci"}
EVERY_SYSTEM = pytest.mark.parametrize("to", SYSTEMS)
CELL = """\
month: int = 1  # month of 2013
rate = 0.1
kind: Literal["a", "b"] = "b"
deep = False
token: str = "env:TOKEN"
when = date(2013, 1, 2)
place = Path.cwd()
grüße = "ä"
"""
PLAN = WorkflowPlan(
    "notebooks/train.ipynb",
    declared(CELL),
    {"token": "env:TOKEN", "kind": "a"},
    "30 2 * * mon-fri",
    "Europe/Vienna",
    "3.12",
    ("TOKEN",),
    "ml",
)

# ------------------------------------------------------------------ hostile values
MARK = "touch marker"
SEEDS = (
    f"$({MARK})", f"`{MARK}`", f"'; {MARK}; '", f'"; {MARK}; "', f"a\n{MARK}\n", f"a\r\n{MARK}",
    f"| {MARK}", f"& {MARK} &",
    "${{ secrets.TOKEN }}", "${{ '${{' }}", "}}${{", "$[[ inputs.x ]]",
    "$HOME ${HOME} $$ %HOME% %0A", "!reference [a, b]",
    "# comment", "a: b", "- a", "-rf", "--help", "*anchor &anchor !!python/object:os.system", "{a: [b",
    "%YAML 1.1", "---\n- a",
    "0o17", "1e3",
    "0x1F", "1_000", "null", "~", "yes", "on", "2013-01-02", ".nan", "=", "<<", "'", "'''", '"""', "\\", "\\'",
    "\\u0027", "\\\\u0027", "\\u000a", "*/ evil() /*", "// x", "${evil()}", "$evil", "PYTHON", "\nPYTHON\nimport os\n",
    "é ü 你 🎉",
    "\u202e gnp", "\x85\u2028\u2029\ufeff", "\x1b[31m\x07\x0b", "\t tab ", "<script>", "]]>", "@{x}", "a" * 3_000,
)  # fmt: skip


def hostile(count: int, seed: int) -> list[str]:
    """Give the seeds, and texts put together of two or three of them."""
    dice = random.Random(seed)
    mixed = ["".join(dice.sample(SEEDS, dice.choice((2, 3)))) for _ in range(count - len(SEEDS))]
    return [*SEEDS, *mixed]


def plan_of(texts: list[str]) -> WorkflowPlan:
    """A plan in which six texts stand wherever a text may."""
    a, b, c, d, e, f = texts
    parameters = (
        Parameter(a, "str", b, c),
        Parameter("choice", "str", d, e, (d, f)),
        Parameter(f, "any", a),
        Parameter("text", "str", e, f),
        Parameter("flag", "bool", True, b),
    )
    values = {b: c, "plain": d, "nested": {e: [f, 1.5, None]}, "text": a}
    return WorkflowPlan(f"nb/{a}{d}.ipynb", parameters, values, folder=f"{e}".strip("/.") or "ml")


PLANS = [plan_of(list(group)) for group in zip(*[iter(hostile(342, 7))] * 6, strict=True)]


# --------------------------------------------------------------- reading files back
def environment_in(to: str, text: str) -> dict[str, str]:
    """The variables of the step that runs, as the CI system would set them."""
    if to == "github":
        step = yaml.safe_load(text)["jobs"]["run"]["steps"][3]
        return {name: evaluated(value) for name, value in step["env"].items()}
    if to == "gitlab":
        content = yaml.safe_load(text)
        job = content["run-nbmlops"]["variables"]
        assert all(each["expand"] is False for each in (*job.values(), *content.get("variables", {}).values()))
        return {name: each["value"] for name, each in (content.get("variables", {}) | job).items()}
    block = jenkins_block(text, "environment")
    return {name: value for name, value in assigned(block) if name != "TOKEN"}


def evaluated(text: str) -> str:
    """Evaluate the expressions in a value as GitHub does: literals, and contexts, of which tests have none."""

    def value(found: re.Match[str]) -> str:
        inside = found[1].strip()
        literal = re.fullmatch(r"'((?:[^']|'')*)'", inside)
        assert literal or re.fullmatch(r"(github\.event\.inputs|secrets)\.[A-Za-z_][A-Za-z0-9_-]*", inside), inside
        return literal[1].replace("''", "'") if literal else ""

    return re.sub(r"\$\{\{((?:'(?:[^']|'')*'|(?!\}\}|').)*)\}\}", value, text, flags=re.DOTALL)


def scripts_in(to: str, text: str) -> list[str]:
    if to == "github":
        return [step["run"] for step in yaml.safe_load(text)["jobs"]["run"]["steps"] if "run" in step]
    if to == "gitlab":
        job = yaml.safe_load(text)["run-nbmlops"]
        return [*job["before_script"], *job["script"]]
    (found,) = [value for kind, value in tokens(text, after="sh") if kind == "string"]
    return [found]


GROOVY_TOKEN = re.compile(
    r"(?P<space>\s+)|(?P<comment>//[^\n]*)|(?P<block>'''(?:[^\\']|\\.|'(?!''))*''')|(?P<string>'(?:[^\\'\n\r]|\\.)*')"
    r"|(?P<word>[A-Za-z_]\w*)|(?P<mark>[{}()\[\],:=])",
    re.DOTALL,
)
ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", "'": "'"}


def tokens(text: str, after: str = "") -> list[tuple[str, str]]:
    """Read Groovy's tokens, strings decoded; with `after` only the one behind that word."""
    found, place = [], 0
    while place < len(text):
        match = GROOVY_TOKEN.match(text, place)
        assert match, f"no Groovy at {text[place : place + 60]!r}"
        place = match.end()
        kind, value = str(match.lastgroup), match[0]
        if kind in ("string", "block"):
            inside = value[3:-3] if kind == "block" else value[1:-1]
            plain = re.sub(r"\\(u[0-9a-f]{4}|.)", decoded, inside, flags=re.DOTALL)
            kind, value = "string", plain.encode("utf-16", "surrogatepass").decode("utf-16")
        if kind not in ("space", "comment"):
            found.append((kind, value))
    opening = {"}": "{", ")": "(", "]": "["}
    stack: list[str] = []
    for kind, value in found:
        if kind == "mark" and value in "{([":
            stack.append(value)
        elif kind == "mark" and value in opening:
            assert stack.pop() == opening[value]
    assert not stack
    return [found[at + 1] for at, token in enumerate(found[:-1]) if token == ("word", after)] if after else found


def decoded(found: re.Match[str]) -> str:
    return chr(int(found[1][1:], 16)) if len(found[1]) == 5 else ESCAPES[found[1]]


def jenkins_block(text: str, name: str) -> list[tuple[str, str]]:
    read = tokens(text)
    start = read.index(("word", name)) + 2
    return read[start : start + read[start:].index(("mark", "}"))]


def assigned(block: list[tuple[str, str]]) -> list[tuple[str, str]]:
    at = [place for place, token in enumerate(block) if token == ("mark", "=")]
    return [(block[place - 1][1], block[place + 1][1]) for place in at]


# ---------------------------------------------------------------------- validity
@pytest.mark.parametrize("to", SCHEMAS)
@pytest.mark.parametrize("plan", [PLAN, WorkflowPlan("retrain"), *PLANS[:12]])
def test_the_file_is_what_the_systems_schema_allows(to: str, plan: WorkflowPlan) -> None:
    errors = list(validator(to).iter_errors(yaml.safe_load(workflow(to, plan))))
    assert not errors, errors[0].message


def validator(to: str) -> Draft7Validator:
    if to not in _VALIDATORS:
        _VALIDATORS[to] = Draft7Validator(get_builtin_schema(SCHEMAS[to]))
    return _VALIDATORS[to]


_VALIDATORS: dict[str, Draft7Validator] = {}


def test_the_schema_check_sees_a_mistake() -> None:
    content = yaml.safe_load(workflow("github", PLAN))
    content["jobs"]["run"]["steps"][0]["use"] = content["jobs"]["run"]["steps"][0].pop("uses")
    assert list(validator("github").iter_errors(content))


def test_the_jenkinsfile_has_the_sections_of_a_declarative_pipeline_each_once() -> None:
    read = tokens(workflow("jenkins", PLAN))
    assert read[:2] == [("word", "pipeline"), ("mark", "{")]
    depth, sections = 0, []
    for kind, value in read:
        sections += [value] if depth == 1 and kind == "word" else []
        depth += {"{": 1, "}": -1}.get(value, 0) if kind == "mark" else 0
    assert sections == ["agent", "parameters", "triggers", "environment", "stages", "post"]


def test_without_parameters_and_schedule_there_is_no_empty_block() -> None:
    text = workflow("jenkins", WorkflowPlan("retrain"))
    assert "parameters {" not in text
    assert "triggers {" not in text
    assert yaml.safe_load(workflow("github", WorkflowPlan("retrain")))["on"] == {"workflow_dispatch": None}
    assert "variables" not in yaml.safe_load(workflow("gitlab", WorkflowPlan("retrain")))


@EVERY_SYSTEM
def test_the_file_is_ascii_and_the_same_each_time(to: str) -> None:
    assert workflow(to, PLAN).isascii()
    assert workflow(to, PLAN) == workflow(to, PLAN)


# ------------------------------------------------------------------ what stands in it
def test_inputs_have_the_types_choices_and_defaults_of_the_notebook() -> None:
    inputs = yaml.safe_load(workflow("github", PLAN))["on"]["workflow_dispatch"]["inputs"]
    assert {name: (each["type"], each.get("default")) for name, each in inputs.items()} == {
        "month": ("number", 1),
        "rate": ("number", 0.1),
        "kind": ("choice", "a"),
        "deep": ("boolean", False),
        "when": ("string", "2013-01-02"),
        "place": ("string", None),
        "parameter_7": ("string", "ä"),
    }
    assert inputs["kind"]["options"] == ["a", "b"]
    assert inputs["month"]["description"] == "month of 2013 (int)"


@pytest.mark.parametrize("value", [2**53 + 1, -(10**20), 0.12345678901234567, 1e300, float("nan"), True])
def test_a_number_that_githubs_forms_would_round_is_asked_for_as_text(value: float) -> None:
    plan = WorkflowPlan("a.ipynb", (Parameter("n", type(value).__name__, value),))
    each = yaml.safe_load(workflow("github", plan))["on"]["workflow_dispatch"]["inputs"]["n"]
    assert each["type"] == ("boolean" if value is True else "string")


def test_a_parameter_without_default_is_required_unless_its_value_is_given() -> None:
    parameters = (Parameter("n", "int", is_required=True),)
    for values, is_required in (({}, True), ({"n": 1}, False)):
        text = workflow("github", WorkflowPlan("a.ipynb", parameters, values))
        assert yaml.safe_load(text)["on"]["workflow_dispatch"]["inputs"]["n"]["required"] is is_required


def test_inputs_whose_names_github_cannot_tell_apart_are_numbered() -> None:
    names = ["n", "N", "größe", "parameter_3", "Parameter_2"]
    plan = WorkflowPlan("a.ipynb", tuple(Parameter(name, "int", 1) for name in names))
    inputs = yaml.safe_load(workflow("github", plan))["on"]["workflow_dispatch"]["inputs"]
    assert len({name.lower() for name in inputs}) == len(names)
    environment = environment_in("github", workflow("github", plan))
    assert [*json.loads(environment["RUN_INPUTS"]).values()] == names


def test_no_more_inputs_than_github_takes() -> None:
    plan = WorkflowPlan("a.ipynb", tuple(Parameter(f"p{n}", "int", 1) for n in range(30)), {"p29": 7})
    text = workflow("github", plan)
    assert len(yaml.safe_load(text)["on"]["workflow_dispatch"]["inputs"]) == 25
    assert "beyond 25: 5." in text
    assert json.loads(environment_in("github", text)["RUN_VALUES"]) == {"p29": 7}


@EVERY_SYSTEM
def test_a_secret_is_no_input_and_comes_from_the_systems_store(to: str) -> None:
    text = workflow(to, PLAN)
    assert "INPUT_token" not in text
    expected = {"github": "TOKEN: ${{ secrets.TOKEN }}", "gitlab": "", "jenkins": "TOKEN = credentials('TOKEN')"}
    assert expected[to] in text
    assert "It needs these secrets: TOKEN." in text


def test_a_schedule_keeps_its_zone() -> None:
    assert yaml.safe_load(workflow("github", PLAN))["on"]["schedule"] == [
        {"cron": "30 2 * * mon-fri", "timezone": "Europe/Vienna"}
    ]
    assert ("string", "TZ=Europe/Vienna\n30 2 * * 1-5") in tokens(workflow("jenkins", PLAN))
    assert '# Schedules are not kept in this file: make one with cron "30 2 * * mon-fri" in Europe/Vienna.' in workflow(
        "gitlab", PLAN
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cron": "30 25 * * *"}, "hour"),
        ({"cron": "0 0 L * *"}, "do not know"),
        ({"cron": "@daily"}, "do not know"),
        ({"cron": "0 0 * * *\nevil"}, "fields"),
        ({"timezone": "Europe/Wien"}, "no time zone"),
        ({"timezone": "UTC\nevil: x"}, "no time zone"),
        ({"python_version": "3.12 evil"}, "version"),
        ({"secrets": ("A-B",)}, "secret"),
        ({"secrets": ("PATH",)}, "secret"),
        ({"secrets": ("RUN_TARGET",)}, "secret"),
        ({"secrets": ("GITHUB_TOKEN",)}, "secret"),
        ({"values": {"password": "hunter2"}}, "looks like a secret"),
        ({"values": {"url": "postgresql://ops:hunter2@db/x"}}, "looks like a secret"),
        ({"target": "a\x00.ipynb"}, "cannot be named"),
        ({"target": "a\ud800.ipynb"}, "cannot be named"),
        ({"target": ""}, "cannot be named"),
        ({"cron": "0 0 * * *", "parameters": (Parameter("n", "int", is_required=True),)}, "needs a value for n"),
    ],
)
@EVERY_SYSTEM
def test_what_no_file_may_hold_is_refused(to: str, change: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        workflow(to, WorkflowPlan(**({"target": "a.ipynb"} | change)))


def test_an_unknown_system_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"(?s)circle.*github, gitlab, jenkins"):
        workflow("circle", PLAN)


# ------------------------------------------------------------------------ injection
@EVERY_SYSTEM
def test_hostile_values_arrive_exactly_and_stand_in_no_script(to: str) -> None:
    assert 6 * len(PLANS) >= 300
    for plan in PLANS:
        text = workflow(to, plan)
        assert text.isascii()
        environment = environment_in(to, text)
        assert environment["RUN_TARGET"] == plan.target
        assert environment["RUN_FOLDER"] == plan.folder
        assert json.loads(environment["RUN_VALUES"]) == plan.values
        assert [*json.loads(environment["RUN_INPUTS"]).values()] == [
            each.name for each in plan.parameters if scrub("x", each.name) == "x"
        ]
        assert "$" not in environment["RUN_VALUES"] + environment["RUN_INPUTS"]
        constant = [INSTALL, script(plan)]
        assert "".join(scripts_in(to, text)).endswith("".join(constant))
        if to == "github":
            expressions = re.findall(r"\$\{\{.*?\}\}", text)
            known = r"\$\{\{ (github\.event\.inputs\.[A-Za-z_]\w*|'\$\{\{' \}\}.*|'\$\{\{') ?(\}\})?"
            assert all(re.fullmatch(known, each) for each in expressions), expressions


STUB = """\
#!{python}
import json, os, shutil, sys
where = os.environ["STUB_RECORD"]
words = sys.argv[1:]
given = json.load(open(words[words.index("-f") + 1]))
json.dump({{"words": words, "given": given, "folder": os.getcwd()}}, open(where, "w"))
"""
STUB_PYTHON = """\
#!/bin/sh
case "$*" in
  "-m pip "*) exit 0;;
  "-m venv "*) mkdir -p "$3/bin"; : > "$3/bin/activate"; exit 0;;
esac
exec {python} "$@"
"""


@pytest.fixture
def stubs(tmp_path: Path) -> Path:
    """A folder for PATH with an nbmlops that notes how it was called, and a python that installs nothing."""
    folder = tmp_path / "stubs"
    folder.mkdir()
    for name, text in {"nbmlops": STUB, "python": STUB_PYTHON}.items():
        (folder / name).write_text(text.format(python=sys.executable))
        (folder / name).chmod(0o755)
    return folder


@EVERY_SYSTEM
@pytest.mark.parametrize("plans", [PLANS[:20], pytest.param(PLANS, marks=pytest.mark.soak)], ids=["some", "all"])
def test_the_steps_run_with_hostile_values_and_inputs_and_do_nothing_else(
    to: str, plans: list[WorkflowPlan], stubs: Path, tmp_path: Path
) -> None:
    fitting = [
        plan for plan in plans if max(map(len, Path(plan.folder).parts)) < 200
    ]  # a folder's name can be no longer
    assert len(fitting) > 0.7 * len(plans)
    for number, plan in enumerate(fitting):
        text = workflow(to, plan)
        checkout = tmp_path / str(number)
        folder = checkout / plan.folder
        folder.mkdir(parents=True)
        environment = {each: value for each, value in environment_in(to, text).items() if not each.startswith("INPUT_")}
        names = json.loads(environment["RUN_INPUTS"])
        typed = dict(zip(names, SEEDS[number % 50 :], strict=False))
        called = called_by(scripts_in(to, text), checkout, stubs, environment | typed)
        results = checkout / "nbmlops-results"
        assert called["words"] == [
            "run", "-f", f"{results}/parameters.json", "--junit", f"{results}/junit.xml",
            "-o", f"{results}/executed.ipynb", "--", plan.target,
        ]  # fmt: skip
        assert called["given"] == {**plan.values, **{names[variable]: value for variable, value in typed.items()}}
        assert called["folder"] == str(folder)
        kept = {"nbmlops-results", ".nbmlops-venv", Path(plan.folder).parts[0]}
        assert {path.name for path in checkout.iterdir()} <= kept
        assert not list(checkout.rglob("marker"))


def called_by(scripts: list[str], checkout: Path, stubs: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Run scripts as CI systems do; give what the stub was called with."""
    record = stubs / "record.json"
    path = {"PATH": f"{stubs}:{os.environ['PATH']}", "STUB_RECORD": str(record)}
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", "\n".join(scripts)],
        cwd=checkout,
        env=path | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    called: dict[str, Any] = json.loads(record.read_text())
    return called


def test_an_input_left_empty_keeps_the_notebooks_default(stubs: Path, tmp_path: Path) -> None:
    plan = WorkflowPlan("a.ipynb", (Parameter("n", "int", 1), Parameter("m", "int", 2)), {"m": 3})
    text = workflow("github", plan)
    environment = environment_in("github", text) | {"INPUT_n": "", "INPUT_m": ""}
    assert called_by(scripts_in("github", text), tmp_path, stubs, environment)["given"] == {"m": 3}


@EVERY_SYSTEM
def test_a_pipeline_runs_by_its_name_and_a_text_that_looks_like_a_reference_stays_one(
    to: str, stubs: Path, tmp_path: Path
) -> None:
    plan = WorkflowPlan("retrain", (Parameter("note", "str", "a"),), {"note": "env:NOTHING"})
    text = workflow(to, plan)
    assert "junit" not in text
    assert "nbmlops approve JOB" in text
    environment = {each: value for each, value in environment_in(to, text).items() if not each.startswith("INPUT_")}
    called = called_by(scripts_in(to, text), tmp_path, stubs, environment)
    assert called["words"] == ["run", "-f", f"{tmp_path}/nbmlops-results/parameters.json", "--", "retrain"]
    assert called["given"] == {"note": "text:env:NOTHING"}


def test_a_failing_run_fails_the_step(stubs: Path, tmp_path: Path) -> None:
    (stubs / "nbmlops").write_text("#!/bin/sh\nexit 8\n")
    text = workflow("github", WorkflowPlan("a.ipynb"))
    environment = environment_in("github", text)
    done = subprocess.run(
        ["bash", "-c", scripts_in("github", text)[1]],
        cwd=tmp_path,
        env={"PATH": f"{stubs}:{os.environ['PATH']}", **environment},
    )
    assert done.returncode == 8


# --------------------------------------------------------------------------- Groovy
@pytest.mark.parametrize("text", SEEDS)
def test_a_groovy_string_is_read_back_as_it_was(text: str) -> None:
    assert tokens(f"x = {groovy(text)}")[-1] == ("string", text)


STAND_IN = r"""
import groovy.json.JsonOutput
class Step {
    Map env = [:]; List seen = []
    def methodMissing(String name, Object args) {
        args.findAll { it instanceof Closure }.each {
            it.delegate = this; it.resolveStrategy = Closure.DELEGATE_ONLY; it.call()
        }
        seen << [name, args.findAll { !(it instanceof Closure) }.collect { it }]
        return args.size() ? args[0] : null
    }
    def propertyMissing(String name) { name }
    void propertyMissing(String name, Object value) { env[name] = value }
}
args.each { path ->
    def step = new Step()
    def shell = new GroovyShell(new Binding() {
        Object getVariable(String name) { throw new MissingPropertyException(name, Binding) }
    })
    def read = shell.parse(new File(path).getText("UTF-8"))
    read.metaClass.methodMissing = { String name, Object given -> step.methodMissing(name, given) }
    read.run()
    println JsonOutput.toJson([env: step.env, seen: step.seen])
}
"""


@pytest.mark.skipif(
    not (shutil.which("groovy") and shutil.which("java")),
    reason="Groovy is not installed; this file's own reader has read them",
)
def test_groovy_itself_reads_the_jenkinsfiles_and_every_value_in_them(tmp_path: Path) -> None:
    (tmp_path / "StandIn.groovy").write_text(STAND_IN)
    names = []
    for number, plan in enumerate(PLANS):
        names.append(str(tmp_path / f"Jenkinsfile{number}"))
        Path(names[-1]).write_text(workflow("jenkins", plan))
    java = Path(str(shutil.which("java"))).resolve().parents[1]
    done = subprocess.run(
        ["groovy", "-Dfile.encoding=UTF-8", "StandIn.groovy", *names],
        cwd=tmp_path,
        env=os.environ | {"JAVA_HOME": str(java)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[:3_000]
    for plan, line in zip(PLANS, done.stdout.splitlines(), strict=True):
        read = json.loads(line)
        assert read["env"]["RUN_TARGET"] == plan.target
        assert read["env"]["RUN_FOLDER"] == plan.folder
        assert json.loads(read["env"]["RUN_VALUES"]) == plan.values
        (shell,) = [given for name, given in read["seen"] if name == "sh"]
        assert shell[0].endswith(INSTALL + script(plan))
        assert {name for name, _ in read["seen"]} <= {
            "image", "docker", "agent", "string", "booleanParam", "choice", "parameters", "environment", "sh", "steps",
            "stage", "stages", "junit", "archiveArtifacts", "always", "post", "pipeline", "cron", "triggers",
        }  # fmt: skip
