"""The doctor's checks, each of which finds and words one thing, and the mends."""

import importlib.metadata
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

from nbmlops.agent import files
from nbmlops.agent.cards import Check
from nbmlops.errors import NbmlopsError
from nbmlops.project import Project
from nbmlops.scrub import scrub_text
from nbmlops.tracking import git
from nbmlops.tracking.session import owner_is_dead

LOW_DISK_BYTES = 1_000_000_000
NO_DISK_BYTES = 100_000_000


def check_all(project: Project) -> list[Check]:
    """Run every check; one that cannot be made is itself a failure."""
    checks: list[tuple[str, Callable[[Project], Check]]] = [
        ("tracking", _tracking),
        ("ledger", _ledger),
        ("runs", _runs),
        ("endpoints", _endpoints),
        ("leftovers", _leftovers),
        ("kernel", _kernel),
        ("versions", _versions),
        ("git", _git),
        ("disk", _disk),
    ]
    return [_made(name, check, project) for name, check in checks]


def mend(project: Project) -> tuple[str, ...]:
    """Mend what can be mended without a person; an endpoint is mended by a verb, which leaves its event."""
    return (*_mend_runs(project), *_mend_endpoints(project), *_mend_leftovers(project), *_mend_ignore(project))


def _made(name: str, check: Callable[[Project], Check], project: Project) -> Check:
    try:
        return check(project)
    except NbmlopsError as exc:
        return Check(name, "fail", exc.message, exc.hint)


# -------------------------------------------------------------------- the stores
def _tracking(project: Project) -> Check:
    from nbmlops.tracking.mlflow import Tracking

    tracking = project.open(Tracking)
    return Check("tracking", "ok", f"{scrub_text(tracking.uri)} answers, experiment {tracking.experiment}")


def _ledger(project: Project) -> Check:
    from nbmlops.ledger.database import Ledger

    count = project.open(Ledger).check_chain()
    return Check("ledger", "ok", f"{scrub_text(project.settings.ledger.value)} answers, its {count} events are whole")


# ----------------------------------------------------------------- what is alive
def _orphans(project: Project) -> list[Any]:
    from nbmlops.tracking.mlflow import Tracking

    return [run for run, tags in project.open(Tracking).running() if owner_is_dead(tags)]


def _runs(project: Project) -> Check:
    if orphans := _orphans(project):
        names = ", ".join(run.name for run in orphans[:5])
        return Check("runs", "warn", f"{len(orphans)} RUNNING, but their processes are gone: {names}", "doctor --fix")
    return Check("runs", "ok", "every RUNNING run has its process")


def _mend_runs(project: Project) -> Iterator[str]:
    from nbmlops.tracking.mlflow import Tracking

    client = project.open(Tracking).client
    for run in _orphans(project):
        client.set_tag(run.run_id, "nbmlops.error", "its process is gone")
        client.set_terminated(run.run_id, "FAILED")
        yield f"run {run.name} ended FAILED"


def _dead(project: Project) -> list[Any]:
    from nbmlops.serving.verbs import endpoints

    return [each for each in endpoints(project) if each.status == "dead"]


def _endpoints(project: Project) -> Check:
    if dead := _dead(project):
        names = ", ".join(each.name for each in dead)
        return Check("endpoints", "fail", f"wanted, but dead: {names}", "doctor --fix starts them again")
    return Check("endpoints", "ok", "every endpoint that is wanted answers")


def _mend_endpoints(project: Project) -> Iterator[str]:
    from nbmlops.serving.verbs import deploy

    for each in _dead(project):
        deploy(project, f"{each.model}/{each.version}", as_=each.name)
        yield f"endpoint {each.name} started again"


def _ownerless(project: Project) -> list[Any]:
    from nbmlops.ledger.database import Ledger
    from nbmlops.serving import processes

    owned = {record["pid"] for record in project.open(Ledger).endpoints()}
    return processes.leftovers(project.root, owned)


def _leftovers(project: Project) -> Check:
    if found := _ownerless(project):
        pids = ", ".join(str(server.pid) for server in found)
        return Check("leftovers", "warn", f"servers that no endpoint owns: {pids}", "doctor --fix")
    return Check("leftovers", "ok", "no server is left over")


def _mend_leftovers(project: Project) -> Iterator[str]:
    from nbmlops.serving import processes

    for server in _ownerless(project):
        processes.stop(server.pid, server.pid_started)
        yield f"leftover server {server.pid} stopped"


# ------------------------------------------------------------------- the machine
def _kernel(_: Project) -> Check:
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    try:
        command = KernelSpecManager().get_kernel_spec("python3").argv[0]
    except NoSuchKernel:
        return Check(
            "kernel", "fail", "no python3 kernel is installed", f"{sys.executable} -m ipykernel install --user"
        )
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


def _mend_ignore(project: Project) -> Iterator[str]:
    if not files.ignores_state(project.root / ".gitignore"):
        files.add_ignore(project.root / ".gitignore")
        yield ".nbmlops/ added to .gitignore"


def _disk(project: Project) -> Check:
    free = shutil.disk_usage(project.root).free
    found = f"{free / 1e9:,.1f} GB free"
    if free < NO_DISK_BYTES:
        return Check("disk", "fail", found, "Free some space, or move the project.")
    if free < LOW_DISK_BYTES:
        return Check("disk", "warn", found, "Free some space soon.")
    return Check("disk", "ok", found)
