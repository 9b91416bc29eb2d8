"""The unit by which systemd keeps an agent alive."""

import configparser
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from nbmlops.agent.exported import WorkflowFile, exported
from nbmlops.agent.runnable import Asked
from nbmlops.agent.systemd import unit
from nbmlops.errors import ConflictError, UsageError
from nbmlops.project import Project

NOTHING = Asked({})
HOSTILE = '/srv/it\'s 100% "ours" $HOME \\ %h;x'


def read(text: str) -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(interpolation=None, strict=False)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string(text)
    return parsed


def unescaped(text: str) -> str:
    return text.replace("%%", "%").replace("$$", "$")


def test_the_unit_runs_the_agent_in_the_foreground_of_its_project() -> None:
    service = read(unit("flights", Path("/srv/flights"), "/venv/bin/python"))["Service"]
    words = shlex.split(service["ExecStart"])
    assert words == ["/venv/bin/python", "-P", "-m", "nbmlops.surfaces.cli", "agent", "--foreground", "--quiet"]
    assert service["WorkingDirectory"] == "/srv/flights"
    assert service["KillMode"] == "process"


def test_no_path_becomes_a_specifier_a_variable_or_another_word() -> None:
    service = read(unit(HOSTILE, Path(HOSTILE), f"{HOSTILE}/python"))["Service"]
    assert unescaped(shlex.split(service["ExecStart"])[0]) == f"{HOSTILE}/python"
    assert unescaped(service["WorkingDirectory"]) == HOSTILE
    assert "%h" not in service["WorkingDirectory"].replace("%%", "")


@pytest.mark.parametrize("name", ["a\nExecStartPre=/bin/evil", "a\x00", "a\r"])
def test_what_no_unit_can_hold_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="unit file"):
        unit(name, Path("/srv"))


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    path = tmp_path / "nbmlops-flights.service"
    path.write_text(unit("flights", tmp_path))
    done = subprocess.run(["systemd-analyze", "verify", "--user", str(path)], capture_output=True, text=True)
    assert "nbmlops" not in done.stderr, done.stderr


def test_it_is_exported_beside_the_working_folder_and_nothing_is_overwritten(root: Path) -> None:
    project = Project(root)
    written = exported(project, "agent", "systemd", None, NOTHING)
    assert isinstance(written, WorkflowFile)
    assert Path(written.path).name == "nbmlops-flights.service"
    assert any("systemctl --user enable --now nbmlops-flights.service" in note for note in written.notes)
    Path(written.path).write_text("mine")
    with pytest.raises(ConflictError):
        exported(project, "agent", "systemd", None, NOTHING)
    with pytest.raises(UsageError, match="not exported to github"):
        exported(project, "agent", "github", None, NOTHING)
    with pytest.raises(UsageError, match="no pipeline 'first'"):
        exported(project, "first", "systemd", None, NOTHING)
    with pytest.raises(UsageError, match="not of the agent"):
        exported(project, "agent", "systemd", None, Asked({}, "@daily", force=True))
