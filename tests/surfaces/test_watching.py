"""`jobs --watch`: a line for each change where nobody looks, a page that is drawn anew on a terminal, and its end."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from nbmlops.ledger.database import Ledger
from nbmlops.pipelines import jobs
from nbmlops.project import Project
from nbmlops.surfaces import watching
from nbmlops.verb import Rows, Stream

COMMAND = (sys.executable, "-m", "nbmlops.surfaces.cli", "jobs", "--watch")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Project]:
    """A project without MLflow, in which a job runs."""
    (tmp_path / "nbmlops.toml").write_text('[project]\nname = "flights"\n')
    project = Project(tmp_path)
    with closing(project.open(Ledger)):
        jobs.put(project, jobs.beginning(job="a" * 12, name="train", notebook="train.ipynb"))
        yield project


def ended(project: Project) -> None:
    jobs.put(project, replace(jobs.find(project, "a"), status="FINISHED", duration_s=2.0))


def begun(project: Project, *options: str, **streams: Any) -> "subprocess.Popen[str]":
    return subprocess.Popen([*COMMAND, *options], cwd=project.root, text=True, **streams)


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_each_change_is_a_line_and_ctrl_c_ends_it_with_130(running: Project, options: tuple[str, ...]) -> None:
    with begun(running, *options, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        lines = [process.stdout.readline()]
        ended(running)
        lines.append(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        rest, said = process.communicate(timeout=60)
    if options:
        told = [(row["kind"], row["job"], row["status"]) for row in map(json.loads, lines)]
        assert told == [("job", "a" * 12, "RUNNING"), ("job", "a" * 12, "FINISHED")]
    else:
        assert lines == ["train RUNNING, job aaaaaaaa\n", "train FINISHED in 2s, job aaaaaaaa\n"]
    assert (process.returncode, rest, said) == (130, "", "Interrupted.\n")


def test_a_reader_who_has_gone_ends_it(running: Project) -> None:
    with begun(running, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        process.stdout.close()
        ended(running)
        assert process.wait(60) == 128 + signal.SIGPIPE


def test_a_terminal_is_drawn_over(running: Project) -> None:
    ours, theirs = pty.openpty()
    with begun(running, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        drawn = seen(ours, "RUNNING")
        ended(running)
        drawn += seen(ours, "FINISHED")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    os.close(ours)
    assert drawn.startswith("\x1b[2J\x1b[H")
    assert drawn.count("\x1b[2J") == 1
    assert drawn.count("\x1b[H") > 1


def interrupted(*listings: Rows[Any]) -> Stream:
    """What goes on, until somebody presses the button that stops a cell."""

    def looks() -> Iterator[Rows[Any]]:
        yield from listings
        raise KeyboardInterrupt

    return Stream(looks())


def test_a_notebook_shows_it_in_one_place_until_the_cell_is_stopped(
    shell: InteractiveShell, running: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    before: Rows[Any] = Rows(jobs.newest(running))
    ended(running)
    stream = interrupted(before, before, Rows(jobs.newest(running)))
    watching.watch(stream, print, as_json=False, on_a_page=True)
    assert capsys.readouterr().out.count("aaaaaaaaaaaa") == 3
    watching.watch(interrupted(before, before), print, as_json=False, on_a_page=False)
    assert capsys.readouterr().out == "train RUNNING, job aaaaaaaa\n"


def seen(fd: int, word: str) -> str:
    """Read what is drawn, until a word is."""
    drawn, deadline = "", time.monotonic() + 60
    while word not in drawn:
        assert select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0], drawn
        drawn += os.read(fd, 65536).decode()
    return drawn
