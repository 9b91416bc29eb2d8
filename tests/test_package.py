"""Wheel and sdist build, and the wheel works in an environment and a folder that know nothing of the repository."""

import json
import os
import site
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from the sdist; built without any network."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def installed(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` of a fresh environment with the wheel; its dependencies are lent by this one."""
    place = tmp_path_factory.mktemp("fresh") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    packages = next(place.glob("lib/python*/site-packages"))
    (packages / "lent.pth").write_text("\n".join(site.getsitepackages()))
    (wheel,) = dist.glob("*.whl")
    install = [sys.executable, "-m", "pip", f"--python={place}/bin/python", "install", "--no-deps", "--no-index"]
    done = subprocess.run([*install, "--quiet", str(wheel)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return place / "bin"


def call(*words: object, cwd: Path) -> str:
    bare = {key: value for key, value in os.environ.items() if not key.startswith(("NBMLOPS_", "PYTHON", "VIRTUAL_"))}
    done = subprocess.run([str(word) for word in words], cwd=cwd, env=bare, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_the_package_and_nothing_else(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "nbmlops/ledger/migrations/versions/0001_events.py" in names
    assert any(name.endswith("etc/jupyter/jupyter_server_config.d/nbmlops.json") for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"nbmlops"}
    assert not [name for name in names if "__pycache__" in name or name.endswith(".ipynb")]


def test_the_sdist_holds_what_its_tests_need(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "Makefile",
        "README.md",
        "LICENSE",
        "conftest.py",
        "docs/index.md",
        "tools/verb_reference.py",
    } <= names


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
