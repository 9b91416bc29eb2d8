"""The doctor's checks, each of which finds and words one thing, and the mends."""

import functools
import importlib.metadata
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nbmlops.agent import files
from nbmlops.agent.cards import Check, deploy_again, disk_check
from nbmlops.agent.waiting import waiting_of
from nbmlops.errors import ConflictError, NbmlopsError
from nbmlops.project import Project
from nbmlops.scrub import scrub_text
from nbmlops.tracking import journal, reaper
from nbmlops.tracking.capture import git
from nbmlops.tracking.journal import sender, sync
from nbmlops.verb import counted

PATIENCE_S = 5.0  # with another process that delivers a journal now
Mend = tuple[str, Callable[[], object]]  # what was mended, once the call has done it


def check_all(project: Project) -> list[Check]:
    """Run every check; one that cannot be made is itself a failure."""
    checks: list[tuple[str, Callable[[Project], Check]]] = [
        ("tracking", _tracking),
        ("ledger", _ledger),
        ("journal", _journal),
        ("runs", _runs),
        ("policy", _policy),
        ("endpoints", _endpoints),
        ("leftovers", _leftovers),
        ("kernel", _kernel),
        ("versions", _versions),
        ("git", _git),
        ("disk", _disk),
    ]
    return [_made(name, check, project) for name, check in checks]


def mend(project: Project) -> tuple[str, ...]:
    """Mend what can be mended without a person; what resists is told of, and its check shows it still."""
    finders = (_mend_runs, _mend_endpoints, _mend_leftovers, _mend_ignore)
    return tuple(what for find in finders for what in _mended(project, find))


def _mended(project: Project, find: Callable[[Project], Iterator[Mend]]) -> Iterator[str]:
    try:
        for what, act in find(project):
            try:
                act()
                yield what
            except NbmlopsError as exc:
                project.notify(f"not mended: {exc}")
    except NbmlopsError:  # what is to mend cannot be known: its check says why
        return


def _made(name: str, check: Callable[[Project], Check], project: Project) -> Check:
    try:
        return check(project)
    except NbmlopsError as exc:
        return Check(name, "fail", exc.message, exc.hint)


# -------------------------------------------------------------------- the stores
def _tracking(project: Project) -> Check:
    from nbmlops.tracking.mlflow import Tracking

    tracking = project.open(Tracking)
    tracking.reach()
    store = scrub_text(project.settings.tracking.value)
    return Check("tracking", "ok", f"{store} answers, experiment {tracking.experiment}")


def _ledger(project: Project) -> Check:
    from nbmlops.ledger.database import Ledger

    count = project.open(Ledger).check_chain()
    return Check("ledger", "ok", f"{scrub_text(project.settings.ledger.value)} answers, its {count} events are whole")


def _journal(project: Project) -> Check:
    folder = sync.folder_of(project)
    found = waiting_of(project)
    if (trouble := _unwritable(folder)) is not None:
        return Check(
            "journal", "fail", f"{folder} cannot be written: {trouble}", "Free some space, or its permissions."
        )
    if found.is_held_up:
        return Check("journal", "warn", found.headline, "sync")
    if found.rejected:
        return Check("journal", "warn", found.headline, "sync --retry")
    writers = sum(journal.has_writer(path) for path in journal.journals(folder))
    if found.records and not sender.is_running(folder):
        return Check("journal", "warn", f"{found.headline}, and no process delivers it", "sync")
    return Check("journal", "ok", f"{found.headline or 'all is delivered'}, {writers} write now")


def _unwritable(folder: Path) -> str | None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b" " * 4096)
    except OSError as exc:
        return exc.strerror or str(exc)
    return None


def _policy(project: Project) -> Check:
    """Read all that nbmlops.toml declares of endpoints, and whether their models have the columns in it."""
    from nbmlops.serving import policy

    names = list(project.settings.endpoints)
    for name in names:
        policy.of(project, name)
        policy.check_capture(project, name)
    return Check("policy", "ok", f"{counted(len(names), 'endpoint')} declared")


# ----------------------------------------------------------------- what is alive
def _runs(project: Project) -> Check:
    if dead := reaper.dead(project):
        names = ", ".join(run.name for run in dead[:5])
        return Check("runs", "warn", f"{len(dead)} RUNNING, but their processes are gone: {names}", "doctor --fix")
    return Check("runs", "ok", "every RUNNING run has its process")


def _mend_runs(project: Project) -> Iterator[Mend]:
    for run in reaper.reap(project, patience_s=PATIENCE_S):
        yield f"run {run.name} ended {run.status}", _nothing


def _nothing() -> None:
    """Do what is left to do of something that is mended already."""


def _of_status(project: Project, status: str) -> list[Any]:
    from nbmlops.serving.verbs import endpoints

    return [each for each in endpoints(project) if each.status == status]


def _endpoints(project: Project) -> Check:
    if dead := _of_status(project, "dead"):
        names = ", ".join(each.name for each in dead)
        return Check("endpoints", "fail", f"wanted, but dead: {names}", "doctor --fix starts them again")
    if behind := _of_status(project, "behind"):
        names = ", ".join(f"{each.name}{f' ({each.trouble})' if each.trouble else ''}" for each in behind)
        return Check("endpoints", "warn", f"what is wanted is not served yet: {names}", "doctor --fix")
    if silent := _of_status(project, "silent"):
        names = ", ".join(each.name for each in silent)
        again = deploy_again(f"{silent[0].model}/{silent[0].version}", silent[0].name)
        return Check("endpoints", "fail", f"running, but they do not answer: {names}", again)
    return Check("endpoints", "ok", "every endpoint of this machine answers")


def _mend_endpoints(project: Project) -> Iterator[Mend]:
    from nbmlops.serving.deploying import keep
    from nbmlops.serving.verbs import find_endpoint

    for status in ("dead", "partly", "behind"):
        for each in _of_status(project, status):
            start = functools.partial(keep, project, find_endpoint(project, each.name))
            yield f"endpoint {each.name} started again", start


def _ownerless(project: Project) -> list[Any]:
    from nbmlops.serving import keeping, processes

    return processes.leftovers(project.root, keeping.owned(project))


def _leftovers(project: Project) -> Check:
    if found := _ownerless(project):
        pids = ", ".join(str(server.pid) for server in found)
        return Check("leftovers", "warn", f"servers that no endpoint owns: {pids}", "doctor --fix")
    return Check("leftovers", "ok", "no server is left over")


def _mend_leftovers(project: Project) -> Iterator[Mend]:
    for server in _ownerless(project):
        yield f"leftover server {server.pid} stopped", functools.partial(_stop_leftover, project, server)


def _stop_leftover(project: Project, server: Any) -> None:
    """Stop a server when no deploy of its endpoint is under way any more that will own it."""
    from nbmlops.serving import keeping, processes

    with processes.only_one(keeping.lock(project, keeping.endpoint_of(project, server))):
        if server not in _ownerless(project):
            raise ConflictError(f"Server {server.pid} has an endpoint by now, or has ended.")
        processes.stop(server.pid, server.pid_started)


# ------------------------------------------------------------------- the machine
def _kernel(_: Project) -> Check:
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    try:
        named = KernelSpecManager().get_kernel_spec("python3").argv[0]
    except NoSuchKernel:
        return Check(
            "kernel", "fail", "no python3 kernel is installed", f"{sys.executable} -m ipykernel install --user"
        )
    command = sys.executable if named in ("python", "python3") else named  # as Jupyter does when it starts one
    if shutil.which(command) is None:
        return Check(
            "kernel", "fail", f"the python3 kernel starts {command}, which is not there", "Install ipykernel again."
        )
    return Check("kernel", "ok", f"python3 starts {command}")


def _versions(_: Project) -> Check:
    from packaging.requirements import Requirement

    wrong = []
    for line in importlib.metadata.requires("nbmlops") or []:
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            found = ""
        if not found or not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} {found or 'missing'}, needs {requirement.specifier}")
    if wrong:
        return Check("versions", "fail", "; ".join(wrong), "pip install --upgrade nbmlops")
    return Check("versions", "ok", f"Python {sys.version.split()[0]}, nbmlops {importlib.metadata.version('nbmlops')}")


def _git(project: Project) -> Check:
    if shutil.which("git") is None:
        return Check("git", "warn", "git is not installed, so runs know no commit", "Install git.")
    if not git.head(project.root):
        return Check("git", "warn", "no commit here, so runs know none", "git init && git add . && git commit")
    if not files.ignores_state(project.root / ".gitignore") and not _is_ignored(project):
        return Check("git", "warn", ".nbmlops/ is not ignored", "doctor --fix")
    dirty = ", with changes that no commit holds" if git.is_dirty(project.root) else ""
    return Check("git", "ok", f"at {git.head(project.root)[:10]}{dirty}")


def _is_ignored(project: Project) -> bool:
    command = ["git", "-C", str(project.root), "check-ignore", "-q", ".nbmlops/"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _mend_ignore(project: Project) -> Iterator[Mend]:
    gitignore = project.root / ".gitignore"
    if not files.ignores_state(gitignore) and not (shutil.which("git") and _is_ignored(project)):
        yield ".nbmlops/ added to .gitignore", functools.partial(files.add_ignore, gitignore)


def _disk(project: Project) -> Check:
    return disk_check(shutil.disk_usage(project.root).free)
