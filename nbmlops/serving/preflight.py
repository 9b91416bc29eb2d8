"""What a model version must show in a clean process before it answers; ``python -m … FOLDER`` for compiled ones.

A model process (`model_process`) makes the same checks of the model that it has loaded.
"""

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from nbmlops.errors import NbmlopsError
from nbmlops.registry.forms import Form
from nbmlops.serving.check import Check
from nbmlops.serving.instructions import FACTS, PREFLIGHT, replace_file

OK, WARN, FAIL = "ok", "warn", "fail"
TOLERANCE = 1e-6  # of a number, relative to it where it is above 1
N_TIMED, TIMED_S = 30, 0.5  # how often, and for how long at the most, it is asked to see how quick it is

Answered = Callable[[bytes], Sequence[Any]]  # a body to its predictions; raises where it is refused


@dataclass(frozen=True)
class Preflight:
    """What was found of a model version in a clean process; `is_batchable`: its rows may be scored together.

    `said` is what it said about its input example, where that is to be recorded: its registration could not load it.
    """

    checks: tuple[Check, ...]
    is_batchable: bool = False
    said: tuple[Any, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether it may answer requests."""
        return all(check.status != FAIL for check in self.checks)

    @property
    def failures(self) -> str:
        """What failed, in one line."""
        return "; ".join(f"{check.name}: {check.what}" for check in self.checks if check.status == FAIL)

    def write(self, folder: Path) -> None:
        """Keep it in the version's folder."""
        replace_file(folder / PREFLIGHT, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> "Preflight":
        """Read it from the version's folder."""
        told = json.loads((folder / PREFLIGHT).read_bytes())
        return cls(tuple(Check(**each) for each in told["checks"]), told["is_batchable"], tuple(told.get("said", ())))


# --------------------------------------------------------------- what both look at
def answering(form: Form, answered: Answered) -> Iterator[Check]:
    """Check that a model says about its input example what it said when it was registered, and how quickly."""
    if not form.example:
        yield Check("predictions", WARN, "it was registered without an input example, so nothing can be compared")
        return
    body = form.example.encode()
    try:
        found = answered(body)
    except Exception as exc:  # noqa: BLE001  # the user's model may raise anything
        yield Check("predictions", FAIL, f"it fails on its own input example: {exc}")
        return
    if form.predictions:
        yield _compared(form.predictions, found)
    else:
        yield Check("predictions", WARN, "it answers; what it said was not recorded when it was registered")
    yield Check("latency", OK, _timed(answered, body))
    yield Check("memory", OK, f"{psutil.Process().memory_info().rss / 2**20:.0f} MB")


def _compared(recorded: Sequence[Any], found: Sequence[Any]) -> Check:
    if len(recorded) != len(found):
        return Check("predictions", FAIL, f"{len(found)} for the {len(recorded)} rows of its input example")
    for row, (before, now) in enumerate(zip(recorded, found, strict=True)):
        if not same(before, now):
            what = f"row {row} of its input example gives {now!r}, and gave {before!r} when it was registered"
            return Check("predictions", FAIL, what)
    return Check("predictions", OK, f"{len(found)} rows as when it was registered")


def same(before: Any, now: Any) -> bool:
    """Say whether two predictions are the same: numbers but for rounding, all else exactly.

    Examples
    --------
    >>> same(0.25, 0.25 + 1e-9), same("late", "late"), same([1.0, None], [1.0, 2.0]), same(float("nan"), float("nan"))
    (True, True, False, True)
    """
    if isinstance(before, dict) and isinstance(now, dict):
        return before.keys() == now.keys() and all(same(value, now[name]) for name, value in before.items())
    if isinstance(before, list | tuple) and isinstance(now, list | tuple):
        return len(before) == len(now) and all(map(same, before, now))
    if isinstance(before, int | float) and isinstance(now, int | float):
        both_missing = math.isnan(before) and math.isnan(now)
        return before == now or both_missing or math.isclose(before, now, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(before == now)


def _timed(answered: Answered, body: bytes) -> str:
    taken: list[float] = []
    while len(taken) < N_TIMED and sum(taken) < TIMED_S:
        started = time.perf_counter()
        answered(body)
        taken.append(time.perf_counter() - started)
    median_s, slowest_s = sorted(taken)[len(taken) // 2], max(taken)
    return f"median {median_s * 1000:.2f} ms, slowest {slowest_s * 1000:.2f} ms for its input example"


# ---------------------------------------------------------------- of a compiled one
def of_compiled(folder: Path, form: Form) -> Preflight:
    """Make the checks of a compiled model."""
    from nbmlops.serving.scored import CompiledModel

    started = time.perf_counter()
    try:
        model = CompiledModel.load(folder, form)
    except NbmlopsError as exc:
        return Preflight((Check("load", FAIL, exc.message),))
    loaded = Check("load", OK, f"the compiled form in {(time.perf_counter() - started) * 1000:.0f} ms")
    return Preflight((loaded, *answering(form, model.answered)), is_batchable=True)


# ------------------------------------------------------------------ of any other one
def of_pyfunc(model: Any, form: Form, answered: Answered, load_s: float, *, is_batchable: bool) -> Preflight:
    """Make the checks of a model that MLflow has loaded."""
    checks = (
        *environment(form.requirements),
        Check("load", OK, f"by MLflow in {load_s:.1f} s"),
        _signature(model, form),
        *answering(form, answered),
    )
    other_than_ok = {check.name: check.status for check in checks if check.status != OK}
    said = _to_record(form, answered) if other_than_ok == {"predictions": WARN} else ()
    return Preflight(checks, is_batchable, said)


def _to_record(form: Form, answered: Answered) -> tuple[Any, ...]:
    """Give what a model says about its input example, if it has one and says the same each time."""
    if not form.example:
        return ()
    once, again = (tuple(answered(form.example.encode())) for _ in range(2))
    return once if same(once, again) else ()


def environment(requirements: Sequence[str]) -> Iterator[Check]:
    """Compare the packages that are here with those that the model was registered with."""
    import importlib.metadata

    wrong, other = [], []
    for requirement in requirements:
        name, _, version = requirement.partition("==")
        try:
            here = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{name} is not installed")
            continue
        if version and here != version:
            other.append(f"{name} {here} (it had {version})")
    if wrong:
        yield Check("environment", FAIL, "; ".join(wrong))
    elif other:
        yield Check("environment", WARN, f"other versions: {', '.join(other)}")
    else:
        yield Check("environment", OK, f"{len(requirements)} packages as when it was registered")


def _signature(model: Any, form: Form) -> Check:
    schema = model.metadata.get_input_schema()
    found = schema.to_json() if schema is not None else ""
    if (json.loads(found) if found else None) != (json.loads(form.inputs) if form.inputs else None):
        return Check("signature", FAIL, "it is not the one that was registered")
    return Check("signature", OK, "as registered" if found else "it has none")


def made(folder: Path) -> Preflight:
    """Check the compiled model in a folder, and keep what was found beside it."""
    found = of_compiled(folder, Form.of_record(json.loads((folder / FACTS).read_bytes())))
    found.write(folder)
    return found


if __name__ == "__main__":
    made(Path(sys.argv[1]))
