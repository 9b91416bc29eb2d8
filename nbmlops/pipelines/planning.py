"""What a headless run is to do, checked before anything starts; nothing is run here."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbmlops import secrets
from nbmlops.duration import duration_s
from nbmlops.errors import UsageError
from nbmlops.pipelines import contract, filed, jobs
from nbmlops.pipelines import notebook as nb
from nbmlops.project import Project

MOST = 10_000  # combinations of a matrix
NEVER = "never"  # the limit that is none


@dataclass(frozen=True)
class Resumed:
    """Where a run goes on: behind the cell with index `after`, from a snapshot, with what was logged up to there."""

    after: int = -1
    job: str = ""
    snapshot: Mapping[str, Any] = field(default_factory=dict)
    events: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Limits:
    """How long a run and each of its cells may take, in seconds; None is as long as they like."""

    run_s: float | None = None
    cell_s: float | None = None

    @classmethod
    def read(cls, run: str | float, cell: str | float) -> "Limits":
        """Read them as they are typed.

        Raises
        ------
        UsageError
            One is no duration, or not above 0.
        """
        return cls(_limit(run, "--timeout"), _limit(cell, "--cell-timeout"))


@dataclass(frozen=True)
class Plan:
    """A run that has been checked: nothing has happened yet."""

    notebook: Path
    content: nb.Content
    given: Mapping[str, Any]
    effective: Mapping[str, Any]
    output: Path | None
    limits: Limits = field(default_factory=Limits)
    resumed: Resumed = field(default_factory=Resumed)
    job: str = field(default_factory=jobs.new_id)
    keeps_injected: bool = False  # the cell of given parameters is there already
    is_profiled: bool = False
    is_fresh: bool = False  # its process has imported nothing before

    def shown(self) -> dict[str, Any]:
        """Give the parameters as they may be kept and shown."""
        return contract.shown(self.effective)


def planned(project: Project, notebook: str, parameters: Mapping[str, Any], output: str | None, limits: Limits) -> Plan:
    """Check what a run is to do.

    Raises
    ------
    UsageError
        A parameter is unknown, missing or of another type, a secret is not there, or the output would destroy a file.
    """
    path = project.path(notebook).resolve()
    content = nb.read(path)
    declared = nb.parameters_of(content)
    given = contract.checked(declared, parameters, path.name)
    if missing := secrets.missing(contract.references(given), path.parent):
        raise UsageError(" ".join(missing), "Set it where this command runs.")
    for line in (*contract.hints(given), *_given_away(content)):
        project.notify(line)
    effective = contract.effective(declared, given)
    return Plan(path, content, given, effective, _output(project, path, output), limits)


def planned_matrix(
    project: Project,
    notebook: str,
    parameters: Mapping[str, Any],
    matrix: Mapping[str, Any],
    output: str | None,
    limits: Limits,
) -> list[tuple[Mapping[str, Any], Plan]]:
    """Check what a run is to do for every combination of values, before the first begins."""
    if both := sorted(set(parameters) & set(matrix)):
        raise UsageError(f"{', '.join(both)} is given as one value and as a matrix.", "Give it once.")
    place = project.output(output) if output else None
    found: list[tuple[Mapping[str, Any], Plan]] = []
    for number, values in enumerate(combinations(matrix), start=1):
        own = str(place.with_name(f"{place.stem}-{number}{place.suffix}")) if place else None
        found.append((values, planned(project, notebook, {**parameters, **values}, own, limits)))
    return found


def given_values(parameters: Mapping[str, Any], file: str | None, project: Project) -> dict[str, Any]:
    """Join the values of a file and those given one by one, which win."""
    return {**(filed.from_file(project.path(file)) if file else {}), **parameters}


def _given_away(content: nb.Content) -> list[str]:
    found = contract.secrets_in([nb.source_of(cell) for cell in content["cells"]])
    return [
        f"Warning: cell {number} holds {what} in its own source: use a reference, such as env:TOKEN."
        for number, what in found
    ]


def _limit(given: str | float, option: str) -> float | None:
    if given == NEVER:
        return None
    seconds = duration_s(given, option)
    if not seconds > 0:
        raise UsageError(f"{option} must be above 0 seconds, not {given}.", f"{option} {NEVER} sets no limit.")
    return seconds


def _output(project: Project, notebook: Path, output: str | None) -> Path | None:
    if output is None:
        return None
    path = project.output(output).resolve()
    if path == notebook:
        raise UsageError(f"The output may not overwrite the notebook {notebook.name} itself.", "Give -o another path.")
    if path.is_dir():
        raise UsageError(f"{path} is a folder; -o takes the output notebook's path.", f"-o {output}/{notebook.name}")
    return path


def combinations(matrix: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give every combination of the values, the last name's changing fastest.

    Raises
    ------
    UsageError
        A name has no value, or there are too many combinations.

    Examples
    --------
    >>> combinations({"kind": "a,b", "depth": "1,2"})[:3]
    [{'kind': 'a', 'depth': '1'}, {'kind': 'a', 'depth': '2'}, {'kind': 'b', 'depth': '1'}]
    """
    lists = {name: _values(name, given) for name, given in matrix.items()}
    every = [
        dict(zip(lists, values, strict=True))
        for values in itertools.islice(itertools.product(*lists.values()), MOST + 1)
    ]
    if len(every) > MOST:
        raise UsageError(f"The matrix has more than {MOST:,} combinations.", "Give fewer values, or run it in parts.")
    return every


def _values(name: str, given: Any) -> list[Any]:
    values = list(given) if isinstance(given, list | tuple) else [each.strip() for each in str(given).split(",")]
    if not values or "" in values:
        raise UsageError(f"--matrix {name} has an empty value.", f"--matrix {name}=1,2,3")
    return values
