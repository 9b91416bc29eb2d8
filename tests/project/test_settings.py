"""Settings of a project: where each comes from, what is refused and where, and that they are read anew."""

import os
from pathlib import Path

import pytest

from nbmlops.errors import NotFoundError, UsageError
from nbmlops.project import KEYS, Project, Setting, find, line_of


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "nbmlops.toml").write_text('[project]\nname = "flights"\n')
    return tmp_path


def write(root: Path, text: str) -> Project:
    (root / "nbmlops.toml").write_text(text)
    return Project(root)


# ------------------------------------------------------------------ precedence
def test_an_argument_wins_over_a_variable_this_over_the_file_and_the_file_over_the_default(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Project(root).settings.tracking == Setting(f"sqlite:///{root}/.nbmlops/mlflow.db", "default")
    project = write(root, '[stores]\ntracking = "http://file"\n')
    assert project.settings.tracking == Setting("http://file", "nbmlops.toml")
    monkeypatch.setenv("NBMLOPS_TRACKING", "http://variable")
    assert project.settings.tracking == Setting("http://variable", "NBMLOPS_TRACKING")
    given = Project(root, overrides={"tracking": "http://argument"})
    assert given.settings.tracking == Setting("http://argument", "argument")


def test_an_empty_variable_or_argument_counts_as_none(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBMLOPS_LEDGER", "")
    assert Project(root, overrides={"ledger": ""}).settings.ledger.source == "default"


def test_a_project_without_a_name_has_its_folders(root: Path) -> None:
    assert write(root, "").settings.name == Setting(root.name, "default")


def test_settings_are_read_again_when_the_file_changed(root: Path) -> None:
    project = Project(root)
    assert project.settings.name.value == "flights"
    write(root, '[project]\nname = "trains"\n')
    os.utime(root / "nbmlops.toml", ns=(1, 1))  # however coarse the clock of the file system
    assert project.settings.name.value == "trains"


def test_a_store_is_opened_once_and_anew_when_its_setting_changed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Spy:
        @classmethod
        def of(cls, project: Project) -> "Spy":
            return cls()

    project = Project(root)
    first = project.open(Spy)
    assert project.open(Spy) is first
    monkeypatch.setenv("NBMLOPS_LEDGER", "sqlite:////elsewhere.db")
    assert project.open(Spy) is not first


# ---------------------------------------------------------------- where it lies
def test_a_project_is_found_upward(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = root / "notebooks" / "deep"
    deep.mkdir(parents=True)
    assert Project(deep).root == root
    monkeypatch.chdir(deep)
    assert Project().root == root


def test_the_nearest_project_is_meant(root: Path) -> None:
    inner = root / "inner"
    inner.mkdir()
    (inner / "nbmlops.toml").write_text("")
    assert find(inner) == inner


def test_a_variable_names_the_project_from_anywhere(
    root: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    monkeypatch.setenv("NBMLOPS_PROJECT", str(root))
    assert Project().root == root


def test_without_a_project_the_error_says_how_to_make_one(tmp_path: Path) -> None:
    project = Project(tmp_path)
    assert not project.exists
    with pytest.raises(NotFoundError, match=r"No nbmlops\.toml in") as caught:
        _ = project.settings
    assert "`init`" in caught.value.hint


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("sqlite:///.nbmlops/x.db", "sqlite:///{root}/.nbmlops/x.db"),
        ("sqlite:///../x.db", "sqlite:///{parent}/x.db"),
        ("sqlite:////var/x.db", "sqlite:////var/x.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("postgresql://ops@db/ledger", "postgresql://ops@db/ledger"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("runs", "{root}/runs"),
    ],
)
def test_a_relative_place_is_meant_from_the_projects_folder(root: Path, written: str, meant: str) -> None:
    (root / "deep").mkdir()
    write(root, f'[stores]\ntracking = "{written}"\n')
    expected = meant.format(root=root, parent=root.parent)
    assert Project(root / "deep").settings.tracking.value == expected


def test_a_typed_path_is_meant_from_the_working_folder_and_else_from_the_projects(root: Path) -> None:
    notebooks = root / "notebooks"
    notebooks.mkdir()
    (notebooks / "here.csv").touch()
    project = Project(notebooks)
    assert project.path("here.csv") == notebooks / "here.csv"
    assert project.path("data/there.csv") == root / "data" / "there.csv"
    assert project.path("/var/x.csv") == Path("/var/x.csv")


# -------------------------------------------------------------- what is refused
STEPS = """[pipelines.p]
[[pipelines.p.steps]]
name = "a"
[[pipelines.p.steps]]
name = "b"
"""


@pytest.mark.parametrize(
    ("text", "line", "message", "hint"),
    [
        ("[project]\nnmae = 'x'", 2, "there is no key 'nmae' in [project]", "Did you mean name?"),
        ("# a\n\n[storse]\n", 3, "there is no key 'storse'", "Did you mean stores?"),
        ("[gates.default]\ntarget = 'y'\nmetric.auc = { min = 1 }", 3, "no key 'metric'", "Did you mean metrics?"),
        ("[gates.g.metrics]\nauc = { mim = 1 }", 2, "'mim' in [gates.g.metrics.auc]", "Did you mean min?"),
        ("[gates.a]\ndata='x'\n[gates.b]\ndat='y'", 4, "'dat' in [gates.b]", "Did you mean data?"),
        ("[project]\nname = 3", 2, "project.name must be text, not 3", ""),
        ("[gates.g]\nmetrics.auc = { min = 'high' }", 2, "gates.g.metrics.auc.min must be a number, not 'high'", ""),
        ("[gates.g]\nmetrics.auc = { min = true }", 2, "must be a number, not True", ""),
        ("stores = 'here'", 1, "stores must be a table, not 'here'", ""),
        ("[gates]\ndefault = 3", 2, "gates.default must be a table, not 3", ""),
        ("[[project]]\nname = 'x'", 1, "project must be a table", ""),
        (STEPS + "ned = []", 6, "there is no key 'ned' in [pipelines.p.steps[2]]", "Did you mean needs?"),
        (
            STEPS + "[pipelines.p.steps.resources]\ncpu = 2",
            7,
            "'cpu' in [pipelines.p.steps[2].resources]",
            "Did you mean cpus?",
        ),
        (STEPS + "needs = 'a'", 6, "pipelines.p.steps[2].needs must be a list of text, not 'a'", ""),
        (STEPS + "needs = [3]", 6, "pipelines.p.steps[2].needs[1] must be text, not 3", ""),
        (STEPS + "retries = 1.5", 6, "steps[2].retries must be a whole number, not 1.5", ""),
        (STEPS + "retries = true", 6, "steps[2].retries must be a whole number, not True", ""),
        (STEPS + "cache = 0", 6, "steps[2].cache must be true or false, not 0", ""),
        (STEPS + "timeout = []", 6, "steps[2].timeout must be text or a number, not []", ""),
        (STEPS + "matrix = 'all'", 6, "steps[2].matrix must be a table, not 'all'", ""),
        ("[pipelines.p]\nsteps = 'a'", 2, "must be a list of tables, [[pipelines.p.steps]], not 'a'", ""),
        ("[pipelines.p.steps]\nname = 'a'", 1, "must be a list of tables, [[pipelines.p.steps]]", ""),
        ("[pipelines.p]\non = 'webhook'", 2, "pipelines.p.on must be a list of text", ""),
        ("[schedules.nightly]\nnotebok = 'a.ipynb'", 2, "'notebok' in [schedules.nightly]", "Did you mean notebook?"),
    ],
)
def test_a_wrong_key_or_value_is_refused_with_its_line_and_the_nearest_key(
    root: Path, text: str, line: int, message: str, hint: str
) -> None:
    project = write(root, text)
    with pytest.raises(UsageError) as caught:
        _ = project.settings
    assert caught.value.message.startswith(f"{root}/nbmlops.toml, line {line}: ")
    assert message in caught.value.message
    assert caught.value.hint == hint


def test_a_file_that_is_no_toml_is_refused_with_its_line(root: Path) -> None:
    with pytest.raises(UsageError, match=r"nbmlops\.toml is not valid TOML: .*line 2"):
        _ = write(root, "[project]\nname = \n").settings


def test_a_whole_number_is_fine_where_a_number_is_wanted(root: Path) -> None:
    gates = write(root, "[gates.g]\nmetrics.auc = { min = 1 }").settings.gates
    assert gates["g"]["metrics"]["auc"]["min"] == 1


@pytest.mark.parametrize(
    ("place", "line"),
    [
        (("project",), 2),
        (("project", "name"), 3),
        (("gates", "default", "metrics", "roc_auc"), 7),
        (("gates", "default", "metrics", "f.1"), 8),
        (("gates", "late night", "target"), 11),
    ],
)
def test_a_line_is_found_in_every_way_of_writing_toml(place: tuple[str, ...], line: int) -> None:
    text = """
[project]
name = "flights"  # [not.a.table]

[gates.default]
target = "late"
metrics.roc_auc = { min = 0.7 }
metrics."f.1" = { min = 0.7 }

[ gates . "late night" ]
target = "late"
"""
    assert line_of(text, place) == line


def test_a_line_is_found_in_lists_of_tables_and_the_tables_under_them() -> None:
    text = (
        STEPS
        + """parameters = { rows = 3 }
[pipelines.p.steps.resources]
cpus = 2
[[pipelines.q.steps]]
name = "c"
"""
    )
    steps = ("pipelines", "p", "steps")
    assert [line_of(text, (*steps, n, "name")) for n in (0, 1)] == [3, 5]
    assert line_of(text, (*steps, 1)) == 4
    assert line_of(text, (*steps, 1, "parameters", "rows")) == 6
    assert line_of(text, (*steps, 1, "resources", "cpus")) == 8
    assert line_of(text, ("pipelines", "q", "steps", 0, "name")) == 10
    assert line_of("steps = [\n  { name = 'a' },\n]", ("steps", 0, "name")) == 1


def test_a_tables_own_keys_and_either_of_two_kinds_are_taken(root: Path) -> None:
    settings = write(
        root,
        STEPS + "parameters = { since = 2013-01-01, deep.er = [1, 'x'] }\ntimeout = '10m'\nbackoff = 5\ncache = false",
    ).settings
    step = settings.pipelines["p"]["steps"][1]
    assert (step["timeout"], step["backoff"], step["cache"]) == ("10m", 5, False)
    assert step["parameters"]["deep"] == {"er": [1, "x"]}
    assert settings.where("pipelines", "p", "steps", 1, "timeout") == f"{root}/nbmlops.toml, line 7"


def test_every_key_takes_a_type_that_the_messages_can_name() -> None:
    def types(known: object) -> set[object]:
        if isinstance(known, dict):
            return set().union(*map(types, known.values()))
        return set().union(*map(types, known)) if isinstance(known, list | tuple) else {known}

    assert types(KEYS) <= {str, float, int, bool, dict}
