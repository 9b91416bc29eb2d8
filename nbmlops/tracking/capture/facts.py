"""Everything that a run keeps of the code, the environment and the data that made it, as small tags and as files.

How a run uses it::

    tags = facts.source_tags(project.root)    # as it begins, at once: which notebook or script
    moment = facts.begin(project.folder)      # as it begins, at once: git is asked in the background
    tags = facts.code_tags(moment)            # once git has answered: a process may be killed later
    files = facts.code_files(moment)          # artifact path -> text
    ...
    executed = ipython.executed()             # as it ends: the cells so far, the notebook as saved
    tags = facts.run_tags(executed)
    files = facts.run_files(moment, executed)

`begin` sees the files as they are when the run begins. A headless run, whose cells another process
executes, gives ``Executed(path, executions_in(output), cells_of(notebook))`` in the place of
`ipython.executed`. All of it may be called from any thread; nothing here talks to a store.
"""

import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from nbmlops.scrub import scrub_text
from nbmlops.strict_json import dumps
from nbmlops.tracking.capture import environment, git, ipython
from nbmlops.tracking.capture.source import Executed, script, seeds

# Artifacts of a run.
SOURCE = "nbmlops/source.py"
DIFF = "nbmlops/diff.patch"
LOCK = "nbmlops/requirements.lock"
ENVIRONMENT = "nbmlops/environment.json"

LONGEST_TAG = 2_000  # characters; MLflow's limit is 8,000, on its older servers 5,000
NO_FILE = "(no file)"  # the source of a run in a bare IPython: MLflow would name the launcher


@dataclass(frozen=True)
class Code:
    """Where the code is in git: all empty outside a repository."""

    commit: str = ""
    branch: str = ""
    diff: str = ""
    is_dirty: bool = False  # also where the diff could not be had


Moment = Future[Code]


def begin(folder: Path) -> Moment:
    """Note what the code of a folder is now: asked in the background, which takes git 20 ms and more."""
    moment: Moment = Future()

    def ask() -> None:
        try:
            diff = git.diff(folder)
            moment.set_result(Code(git.head(folder), git.branch(folder), diff, bool(diff) or git.is_dirty(folder)))
        except BaseException as exc:  # noqa: BLE001  # whoever asks for the facts gets it
            moment.set_exception(exc)
        environment.lock()  # so that it is there when the run ends

    threading.Thread(target=ask, name="nbmlops-capture", daemon=True).start()
    return moment


def source_tags(root: Path, path: str | None = None) -> dict[str, str]:
    """Name the notebook or script as tags, below the project's folder where it is there.

    Without a path it is this process's own.

    Examples
    --------
    >>> source_tags(Path("/home/ann/flights"), "/home/ann/flights/notebooks/train.ipynb")["nbmlops.notebook"]
    'notebooks/train.ipynb'
    """
    found = ipython.source_path() if path is None else path
    named = Path(found)
    name = str(named.relative_to(root)) if named.is_relative_to(root) else found
    if found.endswith(".ipynb"):
        return {"mlflow.source.name": name, "mlflow.source.type": "NOTEBOOK", "nbmlops.notebook": name}
    return {"mlflow.source.name": name or NO_FILE, "mlflow.source.type": "LOCAL"}


def tags(moment: Moment, executed: Executed) -> dict[str, str]:
    """Word as tags: commit, branch, whether there are changes, the verdict, seeds, environment.

    What is not known has no tag.
    """
    return code_tags(moment) | run_tags(executed)


def code_tags(moment: Moment) -> dict[str, str]:
    """Word as tags what is known once git has answered: commit, branch, whether there are changes, environment."""
    code = moment.result()
    return _as_tags(
        {
            "mlflow.source.git.commit": code.commit,
            "mlflow.source.git.branch": code.branch,
            "nbmlops.dirty": ("yes" if code.is_dirty else "no") if code.commit else "",
            "nbmlops.python": environment.machine()["python"],
            "nbmlops.machine": _machine(),
            "nbmlops.environment": environment.digest(),
        }
    )


def run_tags(executed: Executed) -> dict[str, str]:
    """Word as tags what is known when the run ends: the verdict and seeds."""
    told = executed.verdict
    tags = {
        "nbmlops.order": str(told) if told and executed.executions else "",
        "nbmlops.seeds": ", ".join(f"{name}={seed}" for name, seed in seeds(executed.executions).items()),
    }
    return _as_tags(tags)


def _as_tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {name: scrub_text(value)[:LONGEST_TAG] for name, value in tags.items() if value}


def files(moment: Moment, executed: Executed) -> dict[str, str]:
    """Write the artifacts: executed source, changes that no commit holds, lock, environment. Empty ones are left out.

    Write them byte for byte (``newline=""``): a patch keeps the line ends of its files.
    """
    return code_files(moment) | run_files(moment, executed)


def code_files(moment: Moment) -> dict[str, str]:
    """Write the artifacts that are known once git has answered: the changes that no commit holds, and the lock."""
    texts = {DIFF: moment.result().diff, LOCK: environment.lock()}
    return {name: text for name, text in texts.items() if text}


def run_files(moment: Moment, executed: Executed) -> dict[str, str]:
    """Write the artifacts that are known when the run ends: the executed source, and what surrounded it."""
    source = script(executed.executions, executed.n_forgotten) if executed.executions else ""
    surroundings = dumps(_environment(moment.result(), executed), indent=2) + "\n"
    return ({SOURCE: source} if source else {}) | {ENVIRONMENT: surroundings}


def _environment(code: Code, executed: Executed) -> dict[str, object]:
    told = executed.verdict
    return {
        **environment.machine(),
        "source": executed.path,
        "commit": code.commit,
        "branch": code.branch,
        "order": {"verdict": told.word, "cells": list(told.cells)} if told else None,
        "seeds": seeds(executed.executions),
        "seconds": {f"[{each.number}]": each.duration_s for each in executed.executions if each.duration_s is not None},
    }


def _machine() -> str:
    told = environment.machine()
    memory = f"{told['memory_bytes'] / 2**30:.0f} GiB"
    return ", ".join([told["platform"], told["processor"], f"{told['cpus']} CPUs", memory, *told["gpus"]])
