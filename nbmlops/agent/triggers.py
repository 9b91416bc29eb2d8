"""What triggers look at, and whether it is new: files, data, traffic, aliases, jobs. Only `drift` is started here.

A trigger compares what there is with what was seen last. What changes while it may start nothing (a run goes on, it
cools down, its budget is spent) is not taken for seen, so that it starts one run afterwards, however much has come.
"""

import glob
import hashlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from nbmlops.data.tables import names_a_table
from nbmlops.errors import UsageError
from nbmlops.ledger.database import Ledger
from nbmlops.ledger.endpoints import Endpoints
from nbmlops.ledger.schedules import Schedules
from nbmlops.pipelines.scheduled import Scheduled
from nbmlops.project import Project
from nbmlops.scrub import scrub_text

STILL_S = 2.0  # a file that was written to since then may be half of what it will be
MOST_FILES = 20_000
DRIFTED = 6  # the exit code of `drift --exit-code`
LONGEST_REASON = 500  # characters
COMMAND = "nbmlops.surfaces.cli"
ENOUGH_ROWS = (
    4000  # of new traffic, that are judged at once: a shift that matters is found, chance is not taken for one
)
FEWEST_ROWS = 200  # that are judged when a day has gone by
FIRST_S = LONG_S = 86400.0
LOCAL = ("file", "data", "drift")  # what looks at files does so on each machine for itself


@dataclass(frozen=True)
class Sight:
    """What there is now; `news` names what is new in it, and is empty where nothing is. Traffic is new `since` then."""

    value: Any
    news: str = ""
    since: str = ""


def place_of(trigger: str) -> str:
    """Name the machine where a trigger looks at files of its own; the ledger's are the same everywhere."""
    return socket.gethostname() if trigger.partition(":")[0] in LOCAL else ""


def look(project: Project, trigger: str, seen: Any, now_s: float | None = None) -> Sight | None:
    """Look at what a trigger is about.

    Parameters
    ----------
    project
        Whose files and ledger.
    trigger
        ``file:GLOB``, ``data:FILE``, ``alias:MODEL``, ``job:NAME``; of ``drift:FILE`` the file, of ``drift:ENDPOINT``
        its traffic.
    seen
        What was seen last; None at the first look, which has no news but of drift.
    now_s
        Seconds of the epoch, as files have them.

    Returns
    -------
    Sight or None
        None where something is being written right now, or the trigger waits for others to come.

    Raises
    ------
    UsageError
        A pattern matches too many files, or an endpoint captures nothing.
    """
    kind, _, name = trigger.partition(":")
    now_s = time.time() if now_s is None else now_s
    if kind == "file":
        return _files(project.root, name, seen, now_s)
    if kind == "data":
        return _data(project.root / name, seen, now_s)
    if kind == "drift" and not names_a_table(name):
        return _traffic(project, name, seen, now_s)
    if kind == "drift":  # how data are, not that they are others: those of the first look are judged as well
        return _data(project.root / name, seen or {}, now_s)
    if kind == "alias":
        return _count(_newest_move(project, name), seen)
    if kind == "job":
        return _count(project.open(Schedules).n_finished(name), seen)
    return None


# ---------------------------------------------------------------------- files
def _files(root: Path, pattern: str, seen: Mapping[str, str] | None, now_s: float) -> Sight | None:
    """Compare a pattern's files by size and time; one that is gone is no news."""
    found = dict(_stamps(root, glob.iglob(pattern, root_dir=root, recursive=True)))
    if len(found) > MOST_FILES:
        raise UsageError(f"file:{pattern} matches {len(found):,} files, more than {MOST_FILES:,}.", "Narrow it.")
    if seen is None:
        return Sight(found)
    new = {path: stamp for path, stamp in found.items() if seen.get(path) != stamp}
    if any(_is_fresh(stamp, now_s) for stamp in new.values()):
        return None
    return Sight(found, _digest(f"{path} {stamp}".encode() for path, stamp in sorted(new.items())) if new else "")


def _stamps(root: Path, paths: Iterable[str]) -> Iterator[tuple[str, str]]:
    for path in paths:
        try:
            about = os.stat(root / path)
        except OSError:  # gone meanwhile
            continue
        if not os.path.isdir(root / path):
            yield path, f"{about.st_size}:{about.st_mtime_ns}"


def _is_fresh(stamp: str, now_s: float) -> bool:
    return 0 <= now_s - int(stamp.partition(":")[2]) / 1e9 < STILL_S


def _data(path: Path, seen: Mapping[str, Any] | None, now_s: float) -> Sight | None:
    """Compare a file, or all files of a folder, by their bytes; they are read only when size or time have changed."""
    parts = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
    stamps = dict(_stamps(path.parent, [str(each.relative_to(path.parent)) for each in parts]))
    if seen is not None and (not stamps or seen.get("stamps") == stamps):
        return Sight(dict(seen))
    if seen is not None and any(_is_fresh(stamp, now_s) for stamp in stamps.values()):
        return None
    digest = _digest(_bytes(path.parent, stamps)) if stamps else ""
    is_new = seen is not None and seen.get("digest") != digest
    return Sight({"stamps": stamps, "digest": digest}, digest if is_new else "")


def _bytes(root: Path, names: Iterable[str]) -> Iterator[bytes]:
    for name in names:
        yield name.encode()
        with (root / name).open("rb") as file:
            yield hashlib.file_digest(file, "sha256").digest()


def _digest(parts: Iterable[bytes]) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(hashlib.sha256(part).digest())
    return whole.hexdigest()[:16]


# -------------------------------------------------------------------- traffic
def _traffic(project: Project, name: str, seen: Mapping[str, Any] | None, now_s: float) -> Sight | None:
    """Look whether an endpoint of this machine was asked enough for a new judgement; its servers' counts are read.

    At the first look the traffic of the last day is new.
    """
    from nbmlops.serving.keeping import counted

    wanted = project.open(Endpoints).wanted().get(name)
    if wanted is None or wanted.host != socket.gethostname():
        return None
    if not wanted.capture:
        raise UsageError(f"{name} captures no requests.", f"deploy {wanted.champion.label} --as {name} --capture")
    before = seen or {"at_s": now_s - FIRST_S, "label": "", "rows": 0}
    label, window = wanted.champion.label, counted(project, wanted).get(wanted.champion.label)
    n_rows = window.n_rows if window else 0
    is_longer = before["label"] == label and n_rows >= before["rows"]  # a server that began anew counts from 0
    n_new = (n_rows - before["rows"] if is_longer else n_rows) * wanted.capture.get("rate", 1.0)
    if n_new < (ENOUGH_ROWS if now_s - before["at_s"] < LONG_S else FEWEST_ROWS):
        return Sight(dict(before))
    since = datetime.fromtimestamp(before["at_s"], UTC).isoformat()
    return Sight({"at_s": now_s, "label": label, "rows": n_rows}, news=f"{now_s:.0f}", since=since)


# ----------------------------------------------------------------- the ledger's
def _newest_move(project: Project, model: str) -> int:
    """Give the number of the event that moved an alias of a model last; 0 where none did."""
    moves = project.open(Ledger).events(verbs=("promote", "rollback"), subject=f"model/{model}", outcome="ok", limit=1)
    return moves[0].seq if moves else 0


def _count(n: int, seen: int | None) -> Sight:
    return Sight(n, str(n) if seen is not None and n > seen else "")


# ---------------------------------------------------------------------- drift
@dataclass(frozen=True)
class Measurement:
    """One measurement that goes on: of what was seen, by which process, and what that says."""

    sight: Sight
    process: "subprocess.Popen[bytes]"
    said: IO[bytes]

    def close(self) -> str:
        """End it, and give its last words."""
        with self.said:
            self.process.kill()
            self.process.wait()
            self.said.seek(0)
            return scrub_text(self.said.read().decode(errors="replace").strip()[-LONGEST_REASON:])


@dataclass
class Measuring:
    """The measurements of drift, each a process: the agent waits for none."""

    project: Project
    tell: Callable[[str], object] = str
    going_on: dict[tuple[str, str], Measurement] = field(default_factory=dict)

    def judged(self, each: Scheduled, trigger: str, sight: Sight, environment: Mapping[str, str]) -> Sight | None:
        """Have new data judged: with the same news if it drifted, without if not; None as long as that goes on."""
        key = (each.name, trigger)
        if key not in self.going_on:
            self.going_on[key] = self._begun(each, trigger, sight, environment)
        measurement = self.going_on[key]
        code = measurement.process.poll()
        if code is None:
            return None
        said = self.going_on.pop(key).close()
        if code not in (0, DRIFTED):
            self.tell(f"{each.name}: {trigger} cannot be measured: {said}")
        return measurement.sight if code == DRIFTED else Sight(measurement.sight.value)

    def _begun(self, each: Scheduled, trigger: str, sight: Sight, environment: Mapping[str, str]) -> Measurement:
        words = ["drift", trigger.partition(":")[2], "--exit-code", "--quiet"]
        words += ["--against", each.timing.against] if each.timing.against else []
        words += ["--since", sight.since] if sight.since else []
        said = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as the measurement goes on
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", COMMAND, *words],
            cwd=self.project.root,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            close_fds=True,
        )
        return Measurement(sight, process, said)

    def close(self) -> None:
        """End what goes on: the next agent measures it again."""
        while self.going_on:
            self.going_on.popitem()[1].close()
