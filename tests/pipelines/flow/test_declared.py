"""Pipelines and schedules as declared: what is read, and that all that is wrong is told at once, with lines."""

import re
from typing import Any

import pytest

from nbmlops.errors import NotFoundError, UsageError
from nbmlops.pipelines.flow.declared import Pick, Resources, declared
from nbmlops.pipelines.flow.timing import Budget, notebook_schedule
from tests.pipelines.flow.conftest import LOOP, WriteProject

HEAD = "[pipelines.p]\n[[pipelines.p.steps]]\nname = 'a'\n"


def problems(settings: Any, name: str = "p") -> list[str]:
    with pytest.raises(UsageError) as caught:
        declared(settings, name)
    text = f"{caught.value.message} {caught.value.hint}".rstrip()
    return [f"{line}: {rest}" for line, rest in re.findall(r"nbmlops\.toml, line (\d+): (.*)", text)]


def test_a_pipeline_is_read_with_its_timing_and_steps(write_project: WriteProject) -> None:
    pipeline = declared(write_project(), "retrain")
    assert pipeline.timing.schedule == "30 2 * * *"
    assert pipeline.timing.timezone == "America/New_York"
    assert pipeline.timing.cooldown_s == 86400
    assert pipeline.timing.budget == Budget(3, "week")
    assert (pipeline.timing.catchup, pipeline.timing.overlap) == ("one", "skip")
    extract, train, gate = pipeline.steps
    assert (extract.kind, extract.target) == ("notebook", "notebooks/extract.ipynb")
    assert train.matrix == {"kind": ("logistic", "boosting")}
    assert train.pick == Pick("max", "roc_auc")
    assert gate.words == ("validate", "delays", "--gate", "default")
    assert gate.place == ("pipelines", "retrain", "steps", 2)


def test_a_reference_implies_the_need_wherever_it_stands(write_project: WriteProject) -> None:
    settings = write_project(
        HEAD + "notebook = 'a.ipynb'\n"
        "[[pipelines.p.steps]]\nname = 'b'\nverb = 'register ${a.model_uri} delays'\n"
        "[[pipelines.p.steps]]\nname = 'c'\napproval = 'Deploy?'\nwhen = '${b.version} > 1'\n"
        "[[pipelines.p.steps]]\nname = 'd'\nfunction = 'm:f'\nparameters = { rows = ['${a.n}', '${c.by}'] }\n"
    )
    assert {step.name: step.needs for step in declared(settings, "p").steps} == {
        "a": (), "b": ("a",), "c": ("b",), "d": ("a", "c"),
    }  # fmt: skip


def test_how_a_step_is_tried_is_read(write_project: WriteProject) -> None:
    (step,) = declared(
        write_project(
            HEAD + "notebook = 'a.ipynb'\nretries = 2\nbackoff = '5s'\ntimeout = 600\ncache = false\n"
            "resources = { cpus = 2, memory = '4GB' }"
        ),
        "p",
    ).steps
    assert (step.retries, step.backoff_s, step.timeout_s, step.is_cached) == (2, 5, 600, False)
    assert step.resources == Resources(2.0, 0.0, 4_000_000_000)


def test_an_unknown_pipeline_is_refused_with_the_nearest(write_project: WriteProject) -> None:
    with pytest.raises(NotFoundError, match="no pipeline 'retrian'") as caught:
        declared(write_project(), "retrian")
    assert caught.value.hint == "Did you mean retrain?"


@pytest.mark.parametrize(
    ("rest", "problem"),
    [
        ("", "2: step 'a' does nothing. A step has one of"),
        ("notebook = 'a.ipynb'\nverb = 'status'", "2: step 'a' has notebook and verb."),
        ("notebook = 'a.py'", "4: 'a.py' is no notebook"),
        ("function = 'steps.clean'", "4: 'steps.clean' names no function. Write module:function"),
        ("function = 'os:system; x'", "4: 'os:system; x' names no function"),
        ('verb = "validate \'x"', '4: the words "validate \'x" cannot be told apart'),
        ("verb = ' '", "4: verb is empty."),
        ("verb = 'status'\nparameters = { a = 1 }", "5: a step with verb takes no parameters."),
        ("approval = 'ok?'\nretries = 1", "5: a step with approval takes no retries."),
        ("notebook = 'a.ipynb'\nneeds = ['b']", "5: step a needs 'b', which is no step."),
        ("notebook = 'a.ipynb'\nneeds = ['a']", "5: steps wait for each other: a → a."),
        ("notebook = 'a.ipynb'\npick = 'max:auc'", "5: pick keeps one of a matrix, and there is none."),
        ("notebook = 'a.ipynb'\nmatrix = { k = [1, 2] }\npick = 'best:auc'", "6: pick cannot be 'best:auc'."),
        ("notebook = 'a.ipynb'\nmatrix = { k = 1 }", "5: matrix.k must be a list of values, not 1."),
        ("notebook = 'a.ipynb'\nmatrix = { k = [] }", "5: matrix.k must be a list of values, not []."),
        ("notebook = 'a.ipynb'\nmatrix = { k = [1, 1] }", "5: matrix.k has a value twice."),
        ("notebook = 'a.ipynb'\nmatrix = { k = ['${a.b}'] }", "5: matrix.k refers to other steps"),
        (
            "notebook = 'a.ipynb'\nmatrix = { k = [1] }\nparameters = { k = 2 }",
            "6: k stands in parameters and in matrix.",
        ),
        ("notebook = 'a.ipynb'\nretries = -1", "5: retries must be from 0 to 100, not -1."),
        ("notebook = 'a.ipynb'\nbackoff = '5s'", "5: backoff is the wait before a retry"),
        ("notebook = 'a.ipynb'\ntimeout = 'soon'", "5: timeout must be a duration, not 'soon'."),
        ("notebook = 'a.ipynb'\ntimeout = 0", "5: timeout must be above 0 seconds."),
        ("notebook = 'a.ipynb'\nresources = { cpus = -1 }", "5: cpus cannot be -1."),
        ("notebook = 'a.ipynb'\nresources = { memory = 'much' }", "5: memory cannot be 'much'."),
        ("notebook = 'a.ipynb'\nparameters = { x = '${tain.y}' }", "5: step a: ${tain.y} names no step."),
        ("notebook = 'a.ipynb'\nparameters = { x = '${due}' }", "5: '${due}' is no reference."),
        ("notebook = 'a.ipynb'\nparameters = { x = 'a ${' }", "5: '${' is no reference."),
        ("notebook = 'a.ipynb'\nwhen = '__import__(1)'", "5: '__import__(1)' is no condition"),
    ],
)
def test_a_wrong_step_is_refused_with_its_line(write_project: WriteProject, rest: str, problem: str) -> None:
    told = problems(write_project(HEAD + rest))
    assert any(each.startswith(problem) for each in told), told


@pytest.mark.parametrize(
    ("rest", "problem"),
    [
        ("timezone = 'Europe/Viena'", "there is no timezone 'Europe/Viena'. Did you mean Europe/Vienna"),
        ("timezone = '../../etc/passwd'", "there is no timezone"),
        ("schedule = '0 2 * * *'\ncatchup = 'al'", "catchup cannot be 'al'."),
        ("overlap = 'both'", "overlap cannot be 'both'."),
        ("on = ['drfit:x']", "there is no trigger 'drfit:x'. Did you mean drift?"),
        ("on = ['drift']", "the trigger 'drift' is incomplete"),
        ("on = ['webhook:x']", "the trigger 'webhook:x' is incomplete or too long"),
        ("on = ['webhook']\nbudget = '3/fortnight'", "budget cannot be '3/fortnight'."),
        ("on = ['webhook']\ncooldown = '-1h'", "cooldown must be a duration"),
        ("cooldown = '1h'", "cooldown is of triggers, and there are none"),
        ("catchup = 'one'", "catchup is of a schedule, and there is none."),
        ("parameters = { x = '${due.date}' }", "parameters.x refers to something"),
    ],
)
def test_a_wrong_timing_is_refused(write_project: WriteProject, rest: str, problem: str) -> None:
    toml = f"[pipelines.p]\n{rest}\n[[pipelines.p.steps]]\nname = 'a'\nnotebook = 'a.ipynb'"
    (told,) = problems(write_project(toml))
    assert problem in told


def test_every_problem_is_told_at_once_in_one_error(write_project: WriteProject) -> None:
    settings = write_project(
        HEAD + "notebook = 'a.py'\nneeds = ['c']\n"
        "[[pipelines.p.steps]]\nname = 'due'\nverb = 'status'\n"
        "[[pipelines.p.steps]]\nname = 'a'\nverb = 'status'\nretries = 1000\n"
        "[[pipelines.p.steps]]\nname = '1st'\n"
    )
    told = problems(settings)
    assert [each.split(":")[0] for each in told] == ["4", "5", "7", "10", "12", "13", "14"]
    with pytest.raises(UsageError, match="Pipeline p has 7 problems:"):
        declared(settings, "p")


def test_a_cycle_is_named_in_the_order_of_running(write_project: WriteProject) -> None:
    toml = "\n".join(
        f"[[pipelines.p.steps]]\nname = '{name}'\nverb = 'status'\nneeds = ['{need}']"
        for name, need in {"a": "c", "b": "a", "c": "b"}.items()
    )
    assert problems(write_project(toml)) == ["4: steps wait for each other: a → b → c → a."]


def test_a_matrix_of_too_many_combinations_is_refused(write_project: WriteProject) -> None:
    numbers = list(range(40))
    toml = HEAD + f"notebook = 'a.ipynb'\nmatrix = {{ i = {numbers}, j = {numbers} }}"
    assert problems(write_project(toml)) == ["5: the matrix has 1,600 combinations; at most 1,000 are run."]


def test_a_notebooks_schedule_is_read_and_checked(write_project: WriteProject) -> None:
    good = "[schedules.nightly]\nnotebook = 'a.ipynb'\nschedule = '0 2 * * *'\nparameters = { day = '${due.date}' }"
    schedule = notebook_schedule(write_project(good), "nightly")
    assert (schedule.notebook, schedule.timing.schedule) == ("a.ipynb", "0 2 * * *")
    with pytest.raises(UsageError, match="it never runs"):
        notebook_schedule(write_project("[schedules.nightly]\nnotebook = 'a.ipynb'"), "nightly")
    with pytest.raises(NotFoundError, match="no schedule 'nigthly'"):
        notebook_schedule(write_project(good), "nigthly")


def test_the_design_s_own_example_is_read_as_it_stands(write_project: WriteProject) -> None:
    assert [step.name for step in declared(write_project(LOOP), "retrain").steps] == ["extract", "train", "gate"]
