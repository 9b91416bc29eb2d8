"""Delivery of a journal: its records in order, each exactly once, to the store that the journal names.

What a store is, is in ``target_sql.py`` and ``target_http.py``. Delivering is safe to repeat: metrics, params, tags
and ends are the same when they arrive twice, and a run whose creation is in doubt is looked up by its id first.
"""

import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from nbmlops.tracking import journal
from nbmlops.tracking.journal import Record, Sent

MAX_METRICS = 1000  # MLflow's own limits of one batch
MAX_PARAMS = MAX_TAGS = 100
MAX_ENTITIES = 1000
GONE = "its process is gone"  # the error of a run that nobody was left to end


class RejectedError(Exception):
    """The store refuses a record, and would again. `is_gone`: every record of that run, for the run is gone."""

    def __init__(self, reason: str, *, is_gone: bool = False) -> None:
        super().__init__(reason)
        self.is_gone = is_gone


class UnreachableError(Exception):
    """The store gives no answer, or none that can be believed; the record may have arrived."""


@dataclass
class Batch:
    """What is logged to one run in one call; params and tags by name."""

    run_id: str
    metrics: list[Record] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)

    def takes(self, record: Record) -> bool:
        """Say whether one more record of this kind fits; a param never stands twice with two values."""
        kind = record[0]
        full = len(self.records) >= MAX_ENTITIES or len(self.metrics) >= MAX_METRICS
        if kind == "param":
            return not full and len(self.params) < MAX_PARAMS and self.params.get(record[2], record[3]) == record[3]
        return not full and (kind == "metric" or len(self.tags) < MAX_TAGS)

    def add(self, record: Record) -> None:
        """Take a metric, param or tag."""
        self.records.append(record)
        if record[0] == "metric":
            self.metrics.append(record)
        else:
            (self.params if record[0] == "param" else self.tags)[record[2]] = record[3]


class Target(Protocol):
    """A store as the delivery needs it; every call raises RejectedError or UnreachableError, nothing else."""

    def probe(self, run_id: str) -> None:
        """Write something small to a run, or only ask when none is named, to learn whether the store takes anything."""

    def created(self, intent: str) -> list[str]:
        """List the runs that carry an intent's id, the one to keep first."""

    def create_run(self, intent: str, wanted: dict[str, Any]) -> str:
        """Create a run that carries the intent's id as a tag; give the store's own id."""

    def delete_run(self, run_id: str) -> None:
        """Delete a run that a lost answer doubled."""

    def log_batch(self, batch: Batch) -> None:
        """Log metrics, params and tags."""

    def update_run(self, run_id: str, change: dict[str, Any]) -> None:
        """Set status, end time or name."""

    def log_inputs(self, run_id: str, inputs: dict[str, Any]) -> None:
        """Log dataset inputs."""

    def created_model(self, run_id: str, intent: str) -> tuple[str, str] | None:
        """Find the logged model that carries an intent's id: its own id and its artifact place."""

    def create_model(self, run_id: str, model: dict[str, Any]) -> tuple[str, str]:
        """Create a logged model that carries the intent's id as a tag; give its own id and its artifact place."""

    def finish_model(self, run_id: str, model_id: str) -> None:
        """Call a logged model ready, and an output of its run."""

    def upload(self, place: str, path: str, copy: Path) -> None:
        """Put a file under an artifact place, at a path."""

    def place_of(self, run_id: str) -> str:
        """Give the artifact place of a run."""

    def is_running(self, run_id: str) -> bool:
        """Say whether a run has no end yet."""

    def close(self) -> None:
        """Let its connection go; it opens again when it is needed."""


@dataclass(frozen=True)
class Delivered:
    """How one call of `drain` ended: what is left, what was refused, and why it stopped early."""

    records: int
    rejected: int
    unsent: int
    error: str = ""


def drain(
    path: Path,
    target: Callable[[], Target],
    *,
    patience_s: float = 30.0,
    deadline: float = float("inf"),
    progress: Callable[[str], object] = str,
) -> Delivered:
    """Deliver what a journal holds, until its end or until the store is out of reach.

    Parameters
    ----------
    path
        The journal.
    target
        Opens the store; called once there is something to deliver.
    patience_s
        Seconds to wait for another process that delivers this journal now.
    deadline
        Moment of ``time.monotonic()`` after which no further batch is begun.
    progress
        Takes a line for each file that is uploaded.

    Returns
    -------
    Delivered
        How it went; ``unsent`` counts the records that remain.
    """
    with journal.delivering(path, patience_s) as is_mine:
        if not is_mine:
            return Delivered(0, 0, unsent(path))
        work = _Delivery(path, target, progress)
        while time.monotonic() < deadline:
            try:
                records, offset = journal.read(path, work.sent.offset)
                if not records:
                    break
                work.deliver(records, offset)
            except FileNotFoundError:  # delivered and removed while this process waited
                return Delivered(work.count, work.sent.rejected, 0)
            except UnreachableError as exc:
                work.failed(str(exc))
                break
        return Delivered(work.count, work.sent.rejected, unsent(path), work.sent.error)


def end_orphans(path: Path, target: Callable[[], Target]) -> list[str]:
    """End the runs that a journal's writer, which has ended, left open: FAILED, unless somebody gave them an end."""
    sent, ended = Sent.of(path), []
    for run_id in sent.open:
        real = sent.ids.get(run_id, run_id)
        try:
            if target().is_running(real):
                batch = Batch(real)
                batch.add(["tag", real, "nbmlops.error", GONE])
                target().log_batch(batch)
                target().update_run(real, {"status": "FAILED", "end_time": int(time.time() * 1000)})
                ended.append(real)
        except RejectedError:  # deleted meanwhile
            continue
    sent.open = []
    sent.save(path)
    return ended


def unsent(path: Path) -> int:
    """Count the records that have not been delivered."""
    try:
        sent = Sent.of(path)
        with path.open("rb") as file:
            file.seek(sent.offset)
            count = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
        return max(0, count - (sent.offset == 0))  # the header is nobody's record
    except FileNotFoundError:
        return 0


class _Delivery:
    """One journal on its way to its store."""

    def __init__(self, path: Path, target: Callable[[], Target], progress: Callable[[str], object]) -> None:
        self.path = path
        self.sent = Sent.of(path)
        self.count = 0
        self._open = target
        self._progress = progress
        self._spent: list[Path] = []
        self._target: Target | None = None

    @property
    def target(self) -> Target:
        if self._target is None:
            self._target = self._open()
        return self._target

    def deliver(self, records: Sequence[tuple[int, Record]], offset: int) -> None:
        """Deliver a chunk; after every step that the store has taken, its place is written down."""
        pending: dict[str, Batch] = {}
        run_id: str
        reached = self.sent.offset
        for size, record in records:
            kind = record[0]
            if kind not in ("metric", "param", "tag"):
                self._flush(pending, reached)
                self._single(record)
                reached += size
                self._reached(reached, 1)
                continue
            run_id = self.sent.ids.get(record[1], record[1])
            if (batch := pending.get(run_id)) is None or not batch.takes(record):
                if batch:
                    self._send(pending.pop(run_id))
                batch = pending[run_id] = Batch(run_id)
            batch.add(self._of_model(record))
            reached += size
        self._flush(pending, offset)

    def _of_model(self, record: Record) -> Record:
        """Give a metric that names a model of this journal the store's id of it."""
        if len(record) < 7 or (model_id := record[6].get("model_id")) not in self.sent.ids:
            return record
        return [*record[:6], {**record[6], "model_id": self.sent.ids[model_id]}]

    def failed(self, reason: str) -> None:
        """Keep why the store could not be reached, for `status`."""
        self.sent.error = reason[:300]
        self.sent.save(self.path)

    def _reached(self, offset: int, count: int) -> None:
        self.sent.offset, self.sent.error = offset, ""
        self.count += count
        _crash_point("before-sent")
        self.sent.save(self.path)
        while self._spent:
            self._spent.pop().unlink(missing_ok=True)

    def _flush(self, pending: dict[str, Batch], offset: int) -> None:
        """Send what is collected; runs do not depend on each other, so their order is free."""
        count = sum(len(batch.records) for batch in pending.values())
        while pending:
            self._send(pending.pop(next(iter(pending))))
        if offset > self.sent.offset:
            self._reached(offset, count)

    def _send(self, batch: Batch) -> None:
        """Log a batch; when it is refused, log its records one by one, and keep those aside that are guilty."""
        try:
            self._try(batch.run_id, lambda: self.target.log_batch(batch))
        except RejectedError as exc:
            if exc.is_gone or len(batch.records) == 1:
                self._reject(batch.records, str(exc))
                return
            for each in _halves(batch):
                self._send(each)

    def _try(self, run_id: str, act: Callable[[], None], attempts: int = 3) -> None:
        """Do something at the store; what fails again and again, while the store takes all else, is refused.

        Otherwise one record on which a server stumbles would hold up all others for ever.
        """
        for attempt in range(attempts):
            try:
                return act()
            except UnreachableError as exc:
                self.target.probe(run_id)  # out of reach altogether: that is raised instead
                reason = str(exc)
                time.sleep(0.1 * 4**attempt)
        raise RejectedError(f"the store takes other records, but fails on this one: {reason}")

    def _begin(self, run_id: str) -> None:
        """Take note that the journal's writer owns a run: it ends with its writer, if nobody ends it before."""
        self.sent.open.append(run_id)

    def _single(self, record: Record) -> None:
        """Deliver a record that stands alone; one that is refused, or that nobody knows, is kept aside."""
        act = getattr(self, f"_{record[0]}", None) if record[0] in _SINGLES else None
        if record[0] == "header":
            return
        try:
            if act is None:
                raise RejectedError("it is no record that this version knows")
            act(*record[1:])
        except RejectedError as exc:
            self._reject([record], str(exc))

    def _reject(self, records: Sequence[Record], reason: str) -> None:
        journal.reject(self.path, records, reason)
        self.sent.rejected += len(records)

    # ------------------------------------------------------------ single records
    def _create(self, intent: str, wanted: dict[str, Any]) -> None:
        """Create a run that began offline, unless it was created already."""
        found = self._created(intent) if wanted.get("is_doubtful") or self.sent.doubtful == intent else []
        if not found:
            self.sent.doubtful = intent
            self.sent.save(self.path)
            _crash_point("before-create")
            tags = {key: self.sent.ids.get(value, value) for key, value in wanted["tags"].items()}
            try:
                found = [self.target.create_run(intent, {**wanted, "tags": tags})]
            except UnreachableError:
                self.target.probe("")
                if not (found := self._created(intent)):  # it answers again, and has not created it
                    found = [self.target.create_run(intent, {**wanted, "tags": tags})]
            _crash_point("after-create")
        self.sent.ids[intent] = found[0]
        self._begin(intent)

    def _created(self, intent: str) -> list[str]:
        """Find the run of an intent; should there be two, because a late request was served after all, keep one."""
        found = self.target.created(intent)
        for double in found[1:]:
            self.target.delete_run(double)
        return found[:1]

    def _update(self, run_id: str, change: dict[str, Any]) -> None:
        real = self.sent.ids.get(run_id, run_id)
        self._try(real, lambda: self.target.update_run(real, change))
        if "end_time" in change and run_id in self.sent.open:
            self.sent.open.remove(run_id)
        if run_id in self.sent.ids and "end_time" in change:
            self._created(run_id)  # a request that was slow and came through late is found here

    def _inputs(self, run_id: str, inputs: dict[str, Any]) -> None:
        real = self.sent.ids.get(run_id, run_id)
        self._try(real, lambda: self.target.log_inputs(real, inputs))

    def _file(self, run_id: str, artifact: dict[str, Any]) -> None:
        """Upload an artifact's copy, and drop the copy once that is written down."""
        copy = self._copy_of(artifact)
        place = artifact["place"] or self.target.place_of(self.sent.ids.get(run_id, run_id))
        self._upload(place, artifact, copy)

    def _model(self, run_id: str, model: dict[str, Any]) -> None:
        """Make a logged model of a run, with its files; where they speak of ids and places, the store's are put in."""
        copies = [self._copy_of(file) for file in model["files"]]
        intent, real = model["id"], self.sent.ids.get(run_id, run_id)
        found: list[tuple[str, str]] = []
        self._try(real, lambda: found.append(self._created_model(real, model)))
        (model_id, place), self.sent.ids[intent] = found[0], found[0][0]
        for file, copy in zip(model["files"], copies, strict=True):
            if file["is_worded"]:
                _put_in(copy, {f"{intent}/place": place, intent: model_id, run_id: real})
            self._upload(place, file, copy)
        self._try(real, lambda: self.target.finish_model(real, model_id))

    def _created_model(self, run_id: str, model: dict[str, Any]) -> tuple[str, str]:
        """Create a logged model; one that may have been created before is looked for first."""
        is_doubtful = self.sent.doubtful == model["id"]
        self.sent.doubtful = model["id"]
        self.sent.save(self.path)
        found = self.target.created_model(run_id, model["id"]) if is_doubtful else None
        return found or self.target.create_model(run_id, model)

    def _copy_of(self, artifact: dict[str, Any]) -> Path:
        copy = self.path.with_suffix(".files") / artifact["copy"]
        if not copy.exists():
            raise RejectedError("its copy is gone")
        return copy

    def _upload(self, place: str, artifact: dict[str, Any], copy: Path) -> None:
        self._progress(f"uploading {artifact['path']} ({artifact['bytes']:,} bytes)")
        self._try("", lambda: self.target.upload(place, artifact["path"], copy))
        self._spent.append(copy)


_SINGLES = ("begin", "create", "update", "inputs", "file", "model")


def _put_in(copy: Path, words: dict[str, str]) -> None:
    """Put the store's words in the place of the journal's; done twice it is the same."""
    text = copy.read_text(encoding="utf-8")
    for ours, theirs in words.items():
        text = text.replace(ours, theirs)
    draft = copy.with_suffix(".draft")
    draft.write_text(text, encoding="utf-8")
    draft.replace(copy)


def _halves(batch: Batch) -> Iterable[Batch]:
    """Split a refused batch, so that the guilty record is found in few steps."""
    middle = len(batch.records) // 2
    for part in (batch.records[:middle], batch.records[middle:]):
        half = Batch(batch.run_id)
        for record in part:
            half.add(record)
        yield half


def _crash_point(name: str) -> None:
    """Die here when a test of crashes asks for it."""
    if os.environ.get("NBMLOPS_CRASH_AT") == name:
        os.kill(os.getpid(), signal.SIGKILL)
