"""Jobs: the headless runs of a project, as its ledger keeps them, and their files in ``.nbmlops/jobs/``."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nbmlops.duration import spoken
from nbmlops.errors import ConflictError, NotFoundError, StoreError
from nbmlops.project import STATE, Project
from nbmlops.scrub import scrub
from nbmlops.tracking.owner import owner_is_dead, owner_tags
from nbmlops.verb import MACHINE_ONLY, Result

ID = "NBMLOPS_JOB"  # which job this process is to be, where that was chosen before it began
RESULTS = "NBMLOPS_RESULTS"  # the file that a notebook's results go to, a line of JSON each
LOG, RESULTS_FILE, SNAPSHOT = "log.jsonl", "results.jsonl", "snapshot.pkl"
RUNNING, LOST = "RUNNING", "LOST"
KEPT = 200  # folders of jobs; the oldest go first
CANCEL_S = 20.0  # for a job that was told to end


@dataclass(frozen=True)
class Job(Result):
    """One headless run; status is RUNNING, FINISHED, SKIPPED, FAILED, KILLED, or LOST when its process is gone.

    `cell` is the one that failed, or, among the rows of `jobs`, that runs now; `parameters` are as given, without
    secrets; `steps` are those of a pipeline that were to run when it began.
    """

    job: str
    name: str
    status: str
    began_at: datetime
    duration_s: float
    cell: str = ""
    message: str = ""
    run_id: str = ""
    output: str = field(default="", metadata=MACHINE_ONLY)
    notebook: str = field(default="", metadata=MACHINE_ONLY)
    parameters: Mapping[str, Any] = field(default_factory=dict, metadata=MACHINE_ONLY)
    given: Mapping[str, Any] = field(default_factory=dict, metadata=MACHINE_ONLY)
    owner: Mapping[str, str] = field(default_factory=dict, metadata=MACHINE_ONLY)
    resumed: str = field(default="", metadata=MACHINE_ONLY)
    exit_code: int | None = field(default=None, metadata=MACHINE_ONLY)
    steps: Sequence[str] = field(default=(), metadata=MACHINE_ONLY)
    kind: str = field(default="job", metadata=MACHINE_ONLY)  # among the rows of `jobs`

    @property
    def headline(self) -> str:
        """The job in one line."""
        took = f" in {spoken(self.duration_s)}" if self.duration_s and self.status != RUNNING else ""
        where = f" at {self.cell}" if self.cell and self.status == RUNNING else ""
        return f"{self.name} {self.status}{where}{took}, job {self.job[:8]}"

    @property
    def subject(self) -> str:
        """How the ledger files it."""
        return f"job/{self.job}"

    @property
    def next_step(self) -> str:
        """Go on where it failed, or look at what it said."""
        return f"{'resume' if self.status in ('FAILED', 'KILLED', LOST) else 'logs'} {self.job[:8]}"


def new_id() -> str:
    """Give a job its id: the one that whoever started this process has chosen, once, else one of its own."""
    return os.environ.pop(ID, "") or uuid.uuid4().hex[:12]


def beginning(**known: Any) -> Job:
    """Give a job that begins now, in this process; whoever keeps it from then on must keep its end, too."""
    return Job(status=RUNNING, began_at=datetime.now(UTC), duration_s=0.0, owner=owner_tags(), **known)


def put(project: Project, job: Job) -> None:
    """Keep a job as it is now.

    Raises
    ------
    StoreError
        The ledger is out of reach.
    """
    from nbmlops.ledger.jobs import Jobs

    record = {name: value for name, value in vars(job).items() if name not in _COLUMNS}
    began_at = job.began_at.isoformat()
    project.open(Jobs).put(
        {"id": job.job, "name": job.name[:200], "status": job.status, "began_at": began_at, "record": record}
    )


def newest(project: Project, limit: int | None = None, *, name: str = "", job: str = "") -> list[Job]:
    """List jobs, newest first, each with the status that it truly has."""
    from nbmlops.ledger.jobs import Jobs

    return [_job(row) for row in project.open(Jobs).newest(limit, name=name, job=job)]


def running(project: Project, name: str) -> Job | None:
    """Give a job of a name that truly runs now."""
    from nbmlops.ledger.jobs import Jobs

    rows = project.open(Jobs).newest(name=name, status=RUNNING)
    return next((job for job in map(_job, rows) if job.status == RUNNING), None)


def renew(project: Project, job: Job) -> None:
    """Give a sign of life of a job that runs in this process; others wait for the next where the ledger is away."""
    with contextlib.suppress(StoreError):
        put(project, replace(job, owner=owner_tags()))


def find(project: Project, job: str) -> Job:
    """Find a job by the beginning of its id.

    Raises
    ------
    NotFoundError
        There is none.
    ConflictError
        Several begin so.
    """
    found = newest(project, job=job)
    if not found:
        raise NotFoundError(f"There is no job {job}.", "Look at those there are: `jobs`")
    if len(found) > 1:
        ids = ", ".join(each.job for each in found[:5])
        raise ConflictError(f"{len(found)} jobs begin with {job}: {ids}.", "Give more of the id.")
    return found[0]


def folder_of(project: Project, job: str) -> Path:
    """Give the folder of a job's files, making it; folders of the oldest jobs go."""
    folder = project.state("jobs", job, "x").parent
    others = sorted(folder.parent.iterdir(), key=lambda each: each.stat().st_mtime, reverse=True)
    for old in others[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def known_folder(project: Project, job: str) -> Path:
    """Name the folder of a job's files, whether it is still there or not."""
    return project.root / STATE / "jobs" / job


def _job(row: Mapping[str, Any]) -> Job:
    began_at = datetime.fromisoformat(row["began_at"])
    job = Job(job=row["id"], name=row["name"], status=row["status"], began_at=began_at, **row["record"])
    if job.status != RUNNING:
        return job
    duration_s = round((datetime.now(UTC) - began_at).total_seconds(), 3)
    status = LOST if owner_is_dead(job.owner) else RUNNING
    return Job(**{**vars(job), "status": status, "duration_s": duration_s})


_COLUMNS = ("job", "name", "status", "began_at", "kind")


# --------------------------------------------------------------------------- files
@contextlib.contextmanager
def only_writer(project: Project, output: Path) -> Iterator[None]:
    """Keep an output path for one run; the lock goes with its holder, however that ends.

    Raises
    ------
    ConflictError
        Another run writes to it now.
    """
    name = hashlib.sha256(str(output.resolve()).encode()).hexdigest()[:16]
    path = project.state("outputs", name)
    try:
        file = path.open("a+")
    except OSError as exc:
        raise StoreError(f"The lock {path} cannot be held: {exc.strerror}.", "Check the disk.") from exc
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(
                f"Another run writes to {output} now, and two never share an output.",
                "Wait for it, or give this one another path with -o.",
            ) from None
        yield


def tell(told: Mapping[str, Any]) -> bool:
    """Add to what the headless run that this process is part of tells; False where there is none."""
    path = os.environ.get(RESULTS)
    if not path:
        return False
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(scrub(dict(told))) + "\n")
    return True


def told_in(folder: Path) -> dict[str, Any]:
    """Read the results that a run's notebook told; the last of a name counts."""
    results: dict[str, Any] = {}
    with contextlib.suppress(FileNotFoundError):
        for line in (folder / RESULTS_FILE).read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):
                results |= json.loads(line)
    return results
