"""What is found wrong before anything runs: notebooks, functions, verbs, results, parameters and their types."""

from pathlib import Path

import pytest

from nbmlops.errors import NotFoundError, UsageError
from nbmlops.pipelines.flow.checks import checked, checked_schedule
from nbmlops.pipelines.flow.sources import behind, results_in
from nbmlops.project import Settings
from tests.pipelines.flow.conftest import LOOP, WriteProject, notebook


def step(**keys: str) -> str:
    return "\n".join(["[[pipelines.p.steps]]", *(f"{key} = {value}" for key, value in keys.items()), ""])


def train(**keys: str) -> str:
    return step(name="'a'", notebook="'train.ipynb'", **keys)


def told(settings: Settings, root: Path, **options: object) -> str:
    with pytest.raises(UsageError) as caught:
        checked(settings, "p", root, **options)  # type: ignore[arg-type]
    return str(caught.value)


def test_the_design_s_example_is_without_fault(write_project: WriteProject, tmp_path: Path) -> None:
    found = checked(write_project(), "retrain", tmp_path)
    assert found.sources["extract"].results == {"run_id": "str", "output": "str", "table": "any"}
    assert [part.name for part in found.sources["train"].parts] == ["cell 2", "cell 3", "cell 4", "features.py"]
    assert found.sources["gate"].results["passed"] == "bool"


STEPS_PY = """
from elsewhere import borrowed
def clean(table: str, rows: int = 10, *, deep: bool = False): return {"table": table, "n": 3}
def plain(x): return x
def anything(**options): return {**options}
"""
TRAIN = notebook("ops.result(uri='m', auc=x)", tagged="rows: int = 10\nday: date = None\nkind: Literal['a', 'b'] = 'a'")


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        (step(name="'a'", notebook="'trian.ipynb'"), "line 3: step a: There is no notebook"),
        (step(name="'a'", notebook="'broken.ipynb'"), "line 3: step a:"),
        (step(name="'a'", function="'stesp:clean'"), "there is no module 'stesp'.\n  Did you mean steps?"),
        (step(name="'a'", function="'steps:claen'"), "steps has no function 'claen'.\n  Did you mean clean"),
        (step(name="'a'", function="'broken:f'"), "broken.py is not Python"),
        (step(name="'a'", verb="'promot x'"), "there is no verb 'promot'.\n  Did you mean promote"),
        (step(name="'a'", verb="'log x=1'"), "log acts on the notebook in which it stands"),
        (train(parameters="{ rwos = 3 }"), "no parameter 'rwos'.\n  Did you mean rows?"),
        (train(parameters="{ rows = 'many' }"), "rows must be int, not 'many'"),
        (train(parameters="{ rows = '${due.date}' }"), "rows must be int, and ${due.date} is date"),
        (train(parameters="{ kind = 'c' }"), "kind must be one of 'a', 'b'"),
        (train(matrix="{ kind = ['a', 'c'] }"), "kind must be one of 'a', 'b', not 'c'"),
        (train(matrix="{ knid = ['a'] }"), "no parameter 'knid'"),
        (train(matrix="{ rows = [1, 2] }", pick="'max:ac'"), "gives no result 'ac'"),
        (step(name="'a'", notebook="'bare.ipynb'", parameters="{ x = 1 }"), "declares no parameters.\n  Give"),
        (step(name="'a'", notebook="'needy.ipynb'"), "needy.ipynb needs a value for table, until"),
        (step(name="'a'", function="'steps:clean'"), "steps:clean needs a value for table"),
        (step(name="'a'", function="'steps:clean'", parameters="{ table = 't', depp = true }"), "Did you mean deep?"),
        (step(name="'a'", function="'steps:clean'", parameters="{ table = 3 }"), "table must be str, not 3"),
        (step(name="'a'", verb="'run p'"), "step a would run its own pipeline"),
        (step(name="'a'", function="'steps:anything'", parameters="{ 'x y' = 1 }"), "'x y' is no parameter's name"),
        (step(name="'a'", verb="'validate m'", matrix="{ gate = ['x'] }"), "nothing reads matrix.gate"),
        (step(name="'a'", verb="'status'") + step(name="'b'", verb="'show ${a.naem}'"), "Did you mean name?"),
        (train() + step(name="'b'", verb="'show ${a.ur}'"), "a gives no 'ur'.\n  Did you mean uri?"),
        (step(name="'a'", verb="'show ${due.dat}'"), "due has no 'dat'.\n  Did you mean date?"),
        (step(name="'a'", verb="'show ${parameters.x}'"), "parameters has no 'x'"),
        (step(name="'a'", verb="'show ${matrix.x}'"), "matrix has no 'x'"),
        (
            train(matrix="{ rows = [1, 2] }")
            + step(name="'b'", function="'steps:clean'", parameters="{ table = '${a.uri}' }"),
            "table must be str, and ${a.uri} is list.\n  A matrix step gives a list; pick keeps one.",
        ),
        (
            step(name="'a'", function="'steps:clean'", parameters="{ table = 't' }")
            + step(name="'b'", notebook="'train.ipynb'", parameters="{ day = '${a.n}' }"),
            "day must be date, and ${a.n} is int",
        ),
    ],
)  # fmt: skip
def test_a_fault_is_found_before_anything_runs(
    write_project: WriteProject, tmp_path: Path, toml: str, message: str
) -> None:
    bare, needy = notebook("1"), notebook("1", tagged="table: str\nuntil: date")
    files = {"steps.py": STEPS_PY, "train.ipynb": TRAIN, "bare.ipynb": bare, "needy.ipynb": needy}
    settings = write_project(toml, **files, **{"broken.py": "def f(:", "broken.ipynb": "{}"})
    assert message in told(settings, tmp_path)


@pytest.mark.parametrize(
    "toml",
    [
        step(name="'a'", function="'steps:borrowed'", parameters="{ x = 1 }"),
        step(name="'a'", function="'steps:anything'", parameters="{ x = 1 }"),
        step(name="'a'", function="'steps:plain'", parameters="{ x = [1] }"),
        step(name="'a'", function="'json:dumps'", parameters="{ obj = 'x' }"),
        step(name="'a'", function="'steps:plain'", parameters="{ x = 1 }")
        + step(name="'b'", verb="'show ${a.whatever}'"),
        train(parameters="{ day = '${due.date}', rows = '10' }"),
        train() + step(name="'b'", verb="'show ${a.run_id}'"),
        step(name="'a'", notebook="'bare.ipynb'") + step(name="'b'", verb="'show ${a.from_a_module}'"),
    ],
)
def test_what_may_well_be_right_is_let_pass(write_project: WriteProject, tmp_path: Path, toml: str) -> None:
    files = {"steps.py": STEPS_PY, "train.ipynb": TRAIN, "bare.ipynb": notebook("1")}
    assert checked(write_project(toml, **files), "p", tmp_path)


def test_all_faults_of_all_steps_stand_in_one_error(write_project: WriteProject, tmp_path: Path) -> None:
    toml = (
        step(name="'a'", notebook="'none.ipynb'")
        + step(name="'b'", verb="'nothing'", retries="-1")
        + step(name="'c'", notebook="'train.ipynb'", parameters="{ rows = 'x', day = 'y', z = 1 }")
    )
    text = told(write_project(toml, **{"train.ipynb": TRAIN}), tmp_path)
    assert text.startswith("Pipeline p has 6 problems:")
    assert text.count("nbmlops.toml, line ") == 6
    assert "rows must be int" in text
    assert "day must be date" in text
    assert "no parameter 'z'" in text


def test_faults_of_a_declaration_hide_none_of_what_lies_behind_it(write_project: WriteProject, tmp_path: Path) -> None:
    toml = train(needs="['b']", retries="-1", pick="'best:auc'", parameters="{ rows = '${c.n}', dya = '${' }")
    text = told(write_project(toml, **{"train.ipynb": TRAIN}), tmp_path)
    assert text.count("nbmlops.toml, line ") == 5
    toml = train(needs="['b']", retries="-1", parameters="{ rows = '${c.n}', dya = 'x' }")
    assert "no parameter 'dya'" in told(write_project(toml, **{"train.ipynb": TRAIN}), tmp_path)


def test_a_verbs_words_are_tried_as_they_stand_and_as_numbers(write_project: WriteProject, tmp_path: Path) -> None:
    tried = []

    def parse(words: object) -> None:
        tried.append(list(words))  # type: ignore[call-overload]
        if tried[-1][-1] != "1":
            raise UsageError("it takes a number.")

    good = step(name="'a'", verb="'status'", when="'true'") + step(name="'b'", verb="'show ${a.n}'")
    text = told(write_project(good), tmp_path, words=parse)
    assert tried == [["status"], ["show", "${a.n}"], ["show", "1"]]
    assert "step a: it takes a number." in text
    assert "step b" not in text.replace("step b: ${a.n}", "")


def test_literals_are_brought_to_the_declared_types(write_project: WriteProject, tmp_path: Path) -> None:
    toml = step(
        name="'a'", notebook="'train.ipynb'", parameters="{ day = '2013-01-02' }", matrix="{ rows = ['1_000', 2] }"
    )
    (found,) = checked(write_project(toml, **{"train.ipynb": TRAIN}), "p", tmp_path).pipeline.steps
    assert found.matrix == {"rows": (1000, 2)}
    assert str(found.parameters["day"]) == "2013-01-02"


def test_no_code_of_the_users_runs_when_it_is_checked(write_project: WriteProject, tmp_path: Path) -> None:
    evil = f"open({str(tmp_path / 'ran')!r}, 'w')\ndef f(): ...\n"
    toml = step(name="'a'", function="'pack.evil:f'") + step(name="'b'", notebook="'n.ipynb'")
    files = {"pack/__init__.py": evil, "pack/evil.py": evil, "n.ipynb": notebook("import pack.evil", evil)}
    found = checked(write_project(toml, **files), "p", tmp_path)
    assert not (tmp_path / "ran").exists()
    assert [part.name for part in found.sources["b"].parts][-2:] == ["pack/__init__.py", "pack/evil.py"]


def test_modules_that_modules_import_count_as_source(write_project: WriteProject, tmp_path: Path) -> None:
    toml = step(name="'a'", notebook="'notebooks/n.ipynb'")
    files = {
        "notebooks/n.ipynb": notebook("import pandas, near\nfrom lib import far"),
        "notebooks/near.py": "import near2",
        "notebooks/near2.py": "import near",
        "lib/__init__.py": "",
        "lib/far.py": "from . import deep\nfrom .. import nothing",
        "lib/deep.py": "",
    }
    found = checked(write_project(toml, **files), "p", tmp_path).sources["a"]
    modules = [part.name for part in found.parts if part.name.endswith(".py")]
    assert modules == ["lib/__init__.py", "lib/deep.py", "lib/far.py", "notebooks/near.py", "notebooks/near2.py"]


def test_a_changed_file_is_read_anew(write_project: WriteProject, tmp_path: Path) -> None:
    before = checked(write_project(), "retrain", tmp_path).sources
    (tmp_path / "features.py").write_text("def clean(x): ...\n")
    after = checked(write_project(**{"features.py": "def clean(x): ...\n"}), "retrain", tmp_path).sources
    assert before["extract"] == after["extract"]
    changed = [one.name for one, other in zip(before["train"].parts, after["train"].parts, strict=True) if one != other]
    assert changed == ["features.py"]


def test_a_change_of_the_gates_is_a_change_of_the_verb(write_project: WriteProject, tmp_path: Path) -> None:
    pipeline = checked(write_project(), "retrain", tmp_path).pipeline
    one, _ = behind(pipeline, tmp_path, {"gates": {"default": 1}})
    other, _ = behind(pipeline, tmp_path, {"gates": {"default": 2}})
    assert one["gate"] != other["gate"]


@pytest.mark.parametrize(
    ("source", "results", "is_open"),
    [
        ("%mlops result table=path n=3", {"table": "any", "n": "any"}, False),
        (
            "x = %mlops runs\nnbmlops.result(n=1, name=f'{x}', ok=True)",
            {"n": "int", "name": "str", "ok": "bool"},
            False,
        ),
        ("nbmlops.result({'a': 1})", {}, True),
        ("nb.result(a=1)", {}, True),
        ("%mlops result $table", {}, True),
        ("%run other.ipynb", {}, True),
        ("this is no Python", {}, True),
        ("get_ipython().run_line_magic('mlops', 'result a=1')", {}, True),
        ("future.result()", {}, False),
        ("print('\\d')", {}, False),
    ],
)
def test_results_are_found_in_the_source(source: str, results: dict[str, str], is_open: bool) -> None:
    assert results_in([source]) == (results, is_open)


def test_a_schedule_is_held_to_its_notebook(write_project: WriteProject, tmp_path: Path) -> None:
    toml = (
        "[schedules.nightly]\nnotebook = 'train.ipynb'\nschedule = '0 2 * * *'\nparameters = { day = '${due.date}' }\n"
    )
    files = {"train.ipynb": TRAIN}
    assert checked_schedule(write_project(toml, **files), "nightly", tmp_path).parameters == {"day": "${due.date}"}
    with pytest.raises(UsageError, match="no parameter 'dya'"):
        checked_schedule(write_project(toml.replace("day", "dya"), **files), "nightly", tmp_path)
    with pytest.raises(UsageError, match="names a step, and there are none"):
        checked_schedule(write_project(toml.replace("due.date", "extract.day"), **files), "nightly", tmp_path)
    with pytest.raises(NotFoundError, match="no notebook"):
        checked_schedule(write_project(toml.replace("train.ipynb", "trian.ipynb"), **files), "nightly", tmp_path)


def test_the_loop_s_faults_name_their_lines(write_project: WriteProject, tmp_path: Path) -> None:
    settings = write_project(LOOP.replace("${extract.table}", "${extract.tabel}"))
    with pytest.raises(UsageError, match=r"nbmlops\.toml, line 21: step train: .*extract gives no 'tabel'") as caught:
        checked(settings, "retrain", tmp_path)
    assert caught.value.hint == "Did you mean table?"
