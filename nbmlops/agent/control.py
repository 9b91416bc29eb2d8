"""The verb `agent`: the project's one long-lived process on this machine, started, stopped and looked at."""

import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from nbmlops import background
from nbmlops.background import LOG, Living
from nbmlops.errors import ConflictError, UsageError
from nbmlops.pipelines.scheduled import Upcoming, upcoming
from nbmlops.project import STATE, Project
from nbmlops.verb import Result, verb


@dataclass(frozen=True)
class AgentState(Result):
    """Whether a project's agent runs on this machine, and what it will start next."""

    status: str  # runs, started, stopped, off
    project: str
    pid: int | None = None
    since: str = ""
    log: str = ""
    upcoming: tuple[Upcoming, ...] = ()
    dry_run: bool = False

    @property
    def headline(self) -> str:
        """Its state in one line."""
        words = {"runs": "runs", "started": "runs now", "stopped": "is stopped", "off": "does not run"}
        process = f", process {self.pid}" if self.pid and self.status != "stopped" else ""
        return f"The agent of {self.project} {words[self.status]}{process}"

    @property
    def subject(self) -> str:
        """How the ledger files it."""
        return f"project/{self.project}"

    @property
    def only_seen(self) -> bool:
        """Whether it runs, or does not, as before."""
        return self.status in ("runs", "off")

    @property
    def next_step(self) -> str:
        """Start it where it does not run."""
        return "agent" if self.status in ("off", "stopped") and self.upcoming else ""


@verb
def agent(
    project: Project, *, status: bool = False, stop: bool = False, foreground: bool = False, dry_run: bool = False
) -> AgentState:
    """Start the process that fires schedules and triggers; --stop ends it.

    There is one for each project and machine; `schedule` and `deploy` start it by
    themselves. It outlives the command or notebook that started it. Runs that it
    started are processes of their own: they go on when it stops, and tell their ends.
    Endpoints end when it is stopped, and are there again as soon as it runs.

    Parameters
    ----------
    status
        Only look.
    stop
        Stop it and what it serves; runs that it has started go on.
    foreground
        Be the agent in this process until told to stop, as systemd wants it.
    dry_run
        Say whether it runs; start and stop nothing.

    Returns
    -------
    AgentState
        Whether it runs, its log, and what it starts next.

    Raises
    ------
    UsageError
        Two of the options contradict each other, or it is to run in the foreground of a notebook.
    ConflictError
        Another agent runs already where this process was to be one, or it is off here (CI, ``NBMLOPS_AGENT=off``).
    KernelError
        It does not start, or does not stop.

    Examples
    --------
    >>> agent(getfixture("project"), status=True).headline
    'The agent of flights does not run'

    Plain code
    ----------
    import subprocess

    print(subprocess.run(["crontab", "-l"], capture_output=True, text=True).stdout)
    """
    if sum((status, stop, foreground)) > 1:
        raise UsageError("--status, --stop and --foreground exclude each other.", "Give one of them.")
    if status or dry_run:
        living = background.living(project.root)
        return _state(project, "runs" if living else "off", living, dry_run=dry_run)
    if stop:
        living = background.stop(project.root)
        _rest(project)
        return _state(project, "stopped" if living else "off", living)
    if foreground:
        return _in_foreground(project)
    if living := background.living(project.root):
        return _state(project, "runs", living)
    if not background.is_wanted():
        raise ConflictError("No agent is left behind here: CI is set, or NBMLOPS_AGENT=off.", "`agent --foreground`")
    return _state(project, "started", background.started(project))


def _rest(project: Project) -> None:
    """End what this machine serves; it stays wanted, and the next agent serves it again."""
    from nbmlops.serving import keeping

    for wanted in keeping.of_this_machine(project):
        keeping.rested(project, wanted.name)


def _in_foreground(project: Project) -> AgentState:
    from nbmlops.agent.loop import run

    if project.surface != "cli":
        raise UsageError("The agent's foreground is a terminal's, or systemd's.", "Leave out --foreground.")

    def tell(line: str) -> None:
        sys.stderr.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%SZ}  {line}\n")
        sys.stderr.flush()

    if not run(project, tell):
        raise ConflictError("An agent of this project runs on this machine already.", "Stop it: `agent --stop`")
    return _state(project, "stopped", None)


def _state(project: Project, status: str, living: Living | None, *, dry_run: bool = False) -> AgentState:
    return AgentState(
        status=status,
        project=project.settings.name.value,
        pid=living.pid if living else None,
        since=living.since if living else "",
        log=str(_log(project)),
        upcoming=upcoming(project),
        dry_run=dry_run,
    )


def _log(project: Project) -> Path:
    return project.root / STATE / LOG
