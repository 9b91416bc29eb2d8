"""Rebuild what a run was made from in a folder of its own, and run it there: git, files and processes."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbmlops.errors import ConflictError
from nbmlops.project import FILE, STATE, Project
from nbmlops.scrub import scrub_text
from nbmlops.tracking.capture import environment, facts, git
from nbmlops.tracking.capture.kept import Kept
from nbmlops.tracking.capture.source import Execution

LARGEST_COPY = 2 * 2**30  # bytes of files that no commit holds; beyond it they are linked
_OTHERS = {STATE, ".git", ".venv", "venv", "node_modules", "__pycache__", ".ipynb_checkpoints", "mlruns"}
Tell = Callable[[str], object]


@dataclass(frozen=True)
class Rebuilt:
    """A project rebuilt in a temporary folder, `scratch`: its root there, the notebook to run, and out of what."""

    root: Path
    notebook: Path
    basis: str
    scratch: Path
    notes: tuple[str, ...] = ()


@contextlib.contextmanager
def rebuilt(project: Project, kept: Kept) -> Iterator[Rebuilt]:
    """Rebuild a run's code: its commit in a clean worktree and the changes, and beside it what no commit holds.

    A run outside a repository is rebuilt beside copies of the project's files. The stores
    are of the folder too, so that nothing that the notebook logs, registers or promotes
    reaches the project's. All of it is gone afterwards.
    """
    with tempfile.TemporaryDirectory(prefix="nbmlops-again-") as scratch, contextlib.ExitStack() as stack:
        top = git.top(project.root) or project.root
        commit, code = kept.run.commit, Path(scratch, "code")
        if commit:
            stack.enter_context(git.worktree(top, commit, code))
            git.apply(code, kept.texts.get(facts.DIFF, ""))
        notes = _beside(top, code, bool(commit), project.notify)
        root = code / project.root.relative_to(top)
        if not (root / FILE).exists():
            root.mkdir(parents=True, exist_ok=True)
            shutil.copy2(project.root / FILE, root / FILE)
        notebook, from_what = _notebook(project, kept, top, code, root)
        basis = f"{from_what} at commit {commit[:8]}" if commit else f"{from_what}, no commit"
        yield Rebuilt(root, notebook, basis, Path(scratch), tuple(notes))


def _notebook(project: Project, kept: Kept, top: Path, code: Path, root: Path) -> tuple[Path, str]:
    """Give the notebook to run: as committed for a headless run, else written from what was executed."""
    path = _moved(project.root / kept.run.source, top, code) if kept.run.source else None
    if kept.notebook is not None and kept.run.commit and path and path.is_file():
        return path, "the notebook"
    folder = path.parent if path and path.parent.is_dir() else root  # relative paths mean the same then
    target = folder / f"{path.stem if path and path.suffix else 'executed'}-again.ipynb"
    content = kept.notebook if kept.notebook is not None else as_notebook(kept.executions)
    target.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return target, "the executed notebook" if kept.notebook is not None else "the executed cells"


def as_notebook(executions: Sequence[Execution]) -> dict[str, Any]:
    """Write executions as a notebook of format 4, in their order; those that failed are left out.

    Examples
    --------
    >>> notebook = as_notebook([Execution(1, "a = 1"), Execution(2, "a / 0", status="failed")])
    >>> [cell["source"] for cell in notebook["cells"]]
    ['a = 1']
    """
    cells: list[dict[str, Any]] = [
        {
            "cell_type": "code",
            "execution_count": None,
            "id": f"cell-{place}",
            "metadata": {},
            "outputs": [],
            "source": each.source,
        }
        for place, each in enumerate((each for each in executions if each.status != "failed"), start=1)
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel}, "cells": cells}


def _moved(path: Path, top: Path, code: Path) -> Path | None:
    return code / path.relative_to(top) if path.is_relative_to(top) else None


# ---------------------------------------------------------- what no commit holds
def _beside(top: Path, code: Path, has_commit: bool, tell: Tell) -> list[str]:
    """Copy the files that no commit holds (data, mostly) and that the changes did not bring; link what is too much."""
    room, linked = LARGEST_COPY, 0
    for name in _uncommitted(top, has_commit):
        source, target = top / name, code / name
        if target.exists() or not source.is_file():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        size = source.stat().st_size
        if size <= room:
            room -= size
            shutil.copy2(source, target)
        else:
            linked += 1
            target.symlink_to(source)
    copied = LARGEST_COPY - room
    if copied > 100 * 2**20:
        tell(f"{copied / 2**20:,.0f} MB that no commit holds were copied")
    return [f"{linked} large files that no commit holds are the project's own, not copies"] if linked else []


def _uncommitted(top: Path, has_commit: bool) -> Iterator[Path]:
    environments = [place.parent.relative_to(top) for place in top.glob("*/pyvenv.cfg")]
    names = git.unversioned(top) if has_commit else [path.relative_to(top) for path in _walked(top)]
    for name in names:
        if not _OTHERS & set(name.parts) and not any(name.is_relative_to(each) for each in environments):
            yield name


def _walked(top: Path) -> Iterator[Path]:
    for folder, inside, names in os.walk(top):
        inside[:] = [name for name in inside if name not in _OTHERS]
        yield from (Path(folder, name) for name in names)


# ------------------------------------------------------------------- environment
def environment_of(lock: str, folder: Path, tell: Tell) -> Path:
    """Build a virtual environment from a lock; give its Python. uv installs, pip stands in.

    Raises
    ------
    ConflictError
        There is no lock, or it cannot be installed; the message has the installer's reason.
    """
    if not lock:
        raise ConflictError("The run keeps no lock of its environment.", "Leave --env away: it runs in this one.")
    local = environment.local_folders(lock)
    gone = [name for name, place in local.items() if not place.is_dir()]
    if gone:
        raise ConflictError(f"{gone[0]} came from {local[gone[0]]}, which is not there any more.")
    requirements = folder / "requirements.lock"
    requirements.write_text(lock + "".join(f"{name} @ {place.as_uri()}\n" for name, place in local.items()))
    python = folder / "env" / "bin" / "python"
    tell(f"installing {lock.count(chr(10)) - 1} packages")
    for command in _installers(folder / "env", python, requirements):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = scrub_text(done.stderr.strip() or done.stdout.strip() or "without a word").splitlines()
            raise ConflictError(f"The environment cannot be rebuilt: {said[-1]}", "See what the lock names: `export`")
    return python


def _installers(place: Path, python: Path, requirements: Path) -> list[list[str]]:
    """Word the commands that make the environment; every distribution is in the lock, so nothing is resolved."""
    beside = Path(sys.executable).with_name("uv")
    if uv := (str(beside) if beside.exists() else shutil.which("uv")):
        install = [uv, "pip", "install", "--quiet", "--no-deps", "--python", str(python), "-r", str(requirements)]
        return [[uv, "venv", "--quiet", "--python", sys.executable, str(place)], install]
    install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(requirements)]
    return [[sys.executable, "-m", "venv", str(place)], install]


# ----------------------------------------------------------------------- running
@dataclass(frozen=True)
class Ended:
    """How the notebook's run again ended: its run and all others that it made, or the cause why it has none."""

    run_id: str = ""
    runs: tuple[Mapping[str, Any], ...] = ()
    cause: str = ""


def run_again(place: Rebuilt, kept: Kept, python: Path, timeout: float | None, tell: Tell) -> Ended:
    """Run the rebuilt notebook headlessly in a process of its own, with the parameters of the run."""
    given = [f"{name}={_typed(value)}" for name, value in kept.parameters.items() if name not in kept.secrets]
    words = ["run", str(place.notebook), *(["--timeout", str(timeout)] if timeout else [])]
    code, answer, said = _command(place, python, [*words, *(word for pair in given for word in ("-p", pair))], tell)
    if code:
        error = answer.get("error", {}) if isinstance(answer, dict) else {}
        return Ended(cause=error.get("message") or scrub_text(said) or f"the command ended with {code}")
    runs = _command(place, python, ["runs", "--limit", "1000"], str)[1]
    return Ended(answer["run_id"], tuple(runs))


def _typed(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _command(place: Rebuilt, python: Path, words: list[str], tell: Tell) -> tuple[int, Any, str]:
    """Run a verb in the rebuilt project; give its exit code, its answer and its last line; it ends with us."""
    command = [str(python), "-P", "-m", "nbmlops.surfaces.cli", *words, "--json"]
    last = ""
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(
            command, cwd=place.root, env=_variables(place), stdout=out, stderr=subprocess.PIPE, text=True
        )
        try:
            for line in process.stderr or ():
                last = line.rstrip()
                tell(last)
            process.wait()
        finally:
            process.terminate()
            process.wait()
            if process.stderr:
                process.stderr.close()
        out.seek(0)
        return process.returncode, _answer(out.read()), last


def _answer(text: bytes) -> Any:
    with contextlib.suppress(ValueError):
        return json.loads(text)
    return {}


def _variables(place: Rebuilt) -> Mapping[str, str]:
    """Give the environment of the run again: no settings of ours but the rebuilt project's, and its code first."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("NBMLOPS_", "MLFLOW_"))}
    return outside | {
        "NBMLOPS_PROJECT": str(place.root),
        "NBMLOPS_TRACKING": f"sqlite:///{place.scratch}/mlflow.db",
        "NBMLOPS_JOURNAL": "off",  # straight into a store of this machine, and nothing sends on afterwards
        "NBMLOPS_LEDGER": f"sqlite:///{place.scratch}/ledger.db",
        "PYTHONPATH": os.pathsep.join(map(str, _code_first(place))),
    }


def _code_first(place: Rebuilt) -> list[Path]:
    """Name the rebuilt folders of packages that are installed from the repository itself: they win over it."""
    code = git.top(place.root) or place.root
    ours = [Path(each) for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]
    return [*(place for place in (code, code / "src") if (code / "pyproject.toml").exists()), *ours]
