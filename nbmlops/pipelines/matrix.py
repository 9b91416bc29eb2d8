"""A notebook run once for every combination of values, each in a process of its own, several at once."""

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from nbmlops import errors, secrets
from nbmlops.errors import CellError, NbmlopsError, UsageError
from nbmlops.pipelines.executors import PYTHON, StepEnd, StepSpec
from nbmlops.pipelines.planning import Plan
from nbmlops.project import Project
from nbmlops.strict_json import plain
from nbmlops.verb import MACHINE_ONLY, Result, counted

Combined = tuple[Mapping[str, Any], Plan]


@dataclass(frozen=True)
class Combination:
    """One combination and how its run ended."""

    parameters: Mapping[str, Any]
    status: str
    duration_s: float = 0.0
    run_id: str = ""
    output: str = field(default="", metadata=MACHINE_ONLY)
    message: str = ""
    results: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MatrixRun(Result):
    """A notebook over all combinations; FAILED when one of them is."""

    notebook: str
    status: str
    duration_s: float
    runs: tuple[Combination, ...]

    @property
    def headline(self) -> str:
        """How many ended how."""
        well = sum(each.status in ("FINISHED", "SKIPPED", "PLANNED") for each in self.runs)
        return (
            f"{self.notebook} {self.status}: {well} of {counted(len(self.runs), 'run')} well in {self.duration_s:.1f} s"
        )

    @property
    def subject(self) -> str:
        """How the ledger files it."""
        return f"notebook/{Path(self.notebook).stem}"


def executed(
    project: Project,
    plans: Sequence[Combined],
    options: Sequence[str],
    at_once: int,
    junit: str | None,
    *,
    dry_run: bool,
) -> MatrixRun:
    """Run plans side by side.

    Raises
    ------
    NbmlopsError
        What the first that failed ended with, when all have ended; its message tells how many failed.
    """
    from nbmlops.pipelines.executors.local import Local

    notebook = plans[0][1].notebook.name
    _ = junit and project.output(junit)  # refused now, and not when all has run
    if at_once < 1:
        raise UsageError(f"--at-once must be at least 1, not {at_once}.")
    if dry_run:
        return MatrixRun(notebook, "PLANNED", 0.0, tuple(Combination(values, "PLANNED") for values, _ in plans))
    started = time.monotonic()
    executor = Local(at_once)
    with tempfile.TemporaryDirectory(prefix="nbmlops-") as scratch:
        try:
            reports = [Path(scratch, f"{number}.xml") for number in range(len(plans))]
            futures = [
                executor.submit(_spec(project, plan, options, report))
                for (_, plan), report in zip(plans, reports, strict=True)
            ]
            runs, failures = [], []
            for (values, _), future in zip(plans, futures, strict=True):
                run, error = _ended(values, future.result())
                project.notify(f"{', '.join(f'{name}={value}' for name, value in values.items())}  {run.status}")
                runs.append(run)
                failures += [error] if error else []
        finally:
            executor.close()
        if junit:
            _join(reports, project.output(junit))
    done = MatrixRun(notebook, "FAILED" if failures else "FINISHED", round(time.monotonic() - started, 3), tuple(runs))
    if failures:
        failures[0].message = f"{len(failures)} of {counted(len(runs), 'run')} failed. The first: {failures[0].message}"
        raise failures[0]
    return done


def _spec(project: Project, plan: Plan, options: Sequence[str], report: Path) -> StepSpec:
    output = ("-o", str(plan.output)) if plan.output else ()
    words = (PYTHON, "-P", "-m", "nbmlops.surfaces.cli", "run", str(plan.notebook), "--json", "--junit", str(report))
    return StepSpec(
        name=plan.job,
        command=(*words, *output, *options),
        folder=str(project.folder),
        environment={"NBMLOPS_PROJECT": str(project.root)},
        parameters={name: plain(secrets.escaped(value)) for name, value in plan.given.items()},
        log=str(project.state("jobs", f"{plan.job}.log")),
    )


def _ended(values: Mapping[str, Any], end: StepEnd) -> tuple[Combination, NbmlopsError | None]:
    try:
        told = json.loads(end.stdout)
    except ValueError:
        told = {
            "error": {"type": "KernelError", "message": f"It ended with code {end.code}: {end.stderr.strip()[-200:]}"}
        }
    if "error" in told:
        kind = getattr(errors, told["error"]["type"], CellError)
        error: NbmlopsError = kind(told["error"]["message"], told["error"].get("hint", ""))
        return Combination(values, "FAILED", message=error.message), error
    return Combination(
        values, told["status"], told["duration_s"], told["run_id"], told["output"], "", told["results"]
    ), None


def _join(reports: Sequence[Path], target: Path) -> None:
    """Write the suites of all reports into one."""
    whole = ElementTree.Element("testsuites", name="nbmlops")
    for report in reports:
        if report.exists():
            whole.extend(ElementTree.parse(report).getroot())  # noqa: S314  # we have just written it
    target.parent.mkdir(parents=True, exist_ok=True)
    ElementTree.ElementTree(whole).write(target, encoding="utf-8", xml_declaration=True)
