"""What a run of a pipeline is, and each of its steps: what a person and a machine are told; pure."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from nbmlops.duration import spoken
from nbmlops.pipelines.flow.ingredients import listed
from nbmlops.verb import MACHINE_ONLY, Result

PLANNED, RUNNING, FINISHED, FAILED, KILLED = "PLANNED", "RUNNING", "FINISHED", "FAILED", "KILLED"
CACHED, SKIPPED, WAITING, PENDING, STALE = "CACHED", "SKIPPED", "WAITING", "PENDING", "STALE"
_WORDS = {
    FINISHED: "ran",
    CACHED: "unchanged",
    SKIPPED: "skipped",
    FAILED: "failed",
    STALE: "stale",
    KILLED: "killed",
    WAITING: "waiting for an approval",
    PENDING: "not reached",
}


@dataclass(frozen=True)
class StepRun:
    """What became of one instance of a step.

    `verdict` is what was planned (run, cached or skip) and `reason` why; `status` what came of it: PLANNED (a dry run),
    FINISHED, CACHED, SKIPPED, FAILED, WAITING (for an approval), PENDING (not reached: what it needs failed or waits),
    STALE (another job took it over) or KILLED. `seconds` are those of the last attempt.
    """

    name: str
    verdict: str
    reason: str
    status: str
    seconds: float = 0.0
    run_id: str = ""
    results: Mapping[str, Any] = field(default_factory=dict, metadata=MACHINE_ONLY)
    attempts: int = field(default=0, metadata=MACHINE_ONLY)
    message: str = ""


@dataclass(frozen=True)
class PipelineRun(Result):
    """One run of a pipeline, a job of the ledger; a dry run has status PLANNED and no job.

    `status` is PLANNED, FINISHED, WAITING (for an approval: run it again once that is decided), FAILED or KILLED.
    """

    pipeline: str
    job: str
    status: str
    duration_s: float
    due: datetime
    parameters: Mapping[str, Any]
    steps: tuple[StepRun, ...]

    @property
    def headline(self) -> str:
        """The run in one line."""
        if self.status == PLANNED:
            n = Counter(step.verdict for step in self.steps)
            told = [f"{n[verdict]} {word}" for verdict, word in _VERDICTS.items() if n[verdict]]
            return f"{self.pipeline}: {listed(told)}"
        n = Counter(step.status for step in self.steps)
        told = [f"{n[status]} {word}" for status, word in _WORDS.items() if n[status]]
        return f"{self.pipeline} {self.status} in {spoken(self.duration_s)}: {', '.join(told)}"

    @property
    def subject(self) -> str:
        """How the ledger files it."""
        return f"pipeline/{self.pipeline}"

    @property
    def next_step(self) -> str:
        """Look at what failed, or at what there is."""
        if self.status == PLANNED:
            return f"run {self.pipeline}"
        if self.status == WAITING:
            return f"approve {self.job[:8]}"
        return f"logs {self.job}" if self.status in (FAILED, KILLED) else "jobs"


_VERDICTS = {"run": "to run", "cached": "cached", "skip": "to skip"}
