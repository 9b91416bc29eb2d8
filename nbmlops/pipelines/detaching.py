"""Runs in processes of their own, which go on when the one that asked for them has ended: the option `--detach`."""

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nbmlops import background, errors
from nbmlops.errors import KernelError, NbmlopsError, UsageError
from nbmlops.pipelines import contract, jobs
from nbmlops.pipelines.jobs import Job
from nbmlops.project import Project
from nbmlops.scrub import MASK, scrub_text
from nbmlops.strict_json import plain

COMMAND = "nbmlops.surfaces.cli"
PARAMETERS, SAID = "parameters.json", "said.txt"  # in the job's folder; no .log, which would be a step's
START_S, LOOK_S = 60.0, 0.05  # until the job must be known, and between two looks
LAST_LINES = 3  # of what a process has said that ended before its job began


def started(
    project: Project, job: str, words: Sequence[str], options: Mapping[str, Any], values: Mapping[str, Any]
) -> Job:
    """Start a run that has been checked, and wait until its job has begun.

    Parameters
    ----------
    project
        The project.
    job
        The id that its job is to have.
    words
        The verb and what it acts on.
    options
        By their spelling; True is the option alone, what is empty is left out.
    values
        Values of parameters; secrets as references.

    Raises
    ------
    UsageError
        This is CI, where nothing outlives its command; or a secret's own value is among the parameters.
    NbmlopsError
        What the process ended with before its job had begun.
    KernelError
        It has not begun within a minute.
    """
    refuse_in_ci()
    folder = jobs.folder_of(project, job)
    folder.mkdir(parents=True, exist_ok=True)
    given = ("--file", str(_kept(folder, values))) if values else ()
    environment = {jobs.ID: job, "NBMLOPS_PROJECT": str(project.root)}
    process = background.detached(
        COMMAND, [*words, *given, *_spelled(options)], project.folder, folder / SAID, environment
    )
    return _begun(project, job, process, folder / SAID)


def refuse_in_ci() -> None:
    """Refuse to leave a process behind where nothing may stay."""
    if os.environ.get("CI"):
        raise UsageError("Under CI nothing outlives its command, so nothing is detached.", "Leave --detach out.")


def _kept(folder: Path, values: Mapping[str, Any]) -> Path:
    """Write values for the process to read: no other user may, and no argument shows them."""
    if hidden := [name for name, value in contract.shown(values).items() if MASK in str(value)]:
        raise UsageError(
            f"{', '.join(hidden)} is a secret's own value, and a detached run's parameters are kept in a file.",
            f"Give a reference: -p {hidden[0]}=env:{hidden[0].upper()}",
        )
    path = folder / PARAMETERS
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(plain(values), file)
    return path


def _spelled(options: Mapping[str, Any]) -> Iterator[str]:
    """Spell options as words.

    Examples
    --------
    >>> list(_spelled({"--timeout": "1h", "--force": True, "--only": "", "--retries": 2, "--output": None}))
    ['--timeout=1h', '--force', '--retries=2']
    """
    for option, value in options.items():
        if value:
            yield option if value is True else f"{option}={value}"


def _begun(project: Project, job: str, process: "subprocess.Popen[bytes]", said: Path) -> Job:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        has_ended = process.poll() is not None  # looked at first: a job may begin and end between two looks
        if found := jobs.newest(project, job=job):
            return found[0]
        if has_ended:
            raise _refused(process.returncode, said)
        time.sleep(LOOK_S)
    raise KernelError(f"Job {job} has not begun within {START_S:.0f} s; its process goes on.", f"Read {said}")


def _refused(code: int, said: Path) -> NbmlopsError:
    """Give the error with which a process has ended, by its exit code, in its own last words."""
    lines = [line for line in said.read_text(errors="replace").splitlines() if line.strip()][-LAST_LINES:]
    kinds = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, NbmlopsError)]
    kind = next((each for each in kinds if each.exit_code == code), KernelError)
    told = scrub_text("\n".join(lines)).removeprefix(f"{kind.__name__}: ")
    return kind(told or f"The run ended with code {code} before it had begun.", f"All that it said: {said}")
