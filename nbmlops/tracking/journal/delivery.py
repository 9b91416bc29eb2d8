"""Delivery of a journal: its records in order, each exactly once, to the store that the journal names.

What a store is, is in ``target_sql.py`` and ``target_http.py``. Delivering is safe to repeat: metrics, params, tags
and ends are the same when they arrive twice, and a run whose creation is in doubt is looked up by its id first.
Artifacts go after all records of their journal, one by one: a place that refuses them holds up no record.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from nbmlops.tracking import journal
from nbmlops.tracking.journal import Record, Sent, unsent

Uploads = Literal["all", "due", "none"]
T = TypeVar("T")

MAX_METRICS = 1000  # MLflow's own limits of one batch
MAX_PARAMS = MAX_TAGS = 100
MAX_ENTITIES = 1000
GONE = "its process is gone"  # the error of a run that nobody was left to end
PATIENCE_S = 20.0  # with a record on which a store stumbles that takes others; then it is kept aside
ATTEMPTS = 3  # at it, at least
UPLOAD_PAUSE_S = (1.0, 300.0)  # between attempts at uploads that fail, doubled each time


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

    def state(self, run_id: str) -> tuple[str, str]:
        """Give a run's status, and its tag ``nbmlops.error``, empty without one."""

    def delete_tag(self, run_id: str, key: str) -> None:
        """Take a tag away."""

    def close(self) -> None:
        """Let its connection go; it opens again when it is needed."""


@dataclass(frozen=True)
class Delivered:
    """How one call of `drain` ended: what was delivered and refused, what is left, and why it stopped early.

    ``uploaded`` counts the artifacts among the ``records``, ``files`` those among the ``unsent``, and
    ``upload_error`` is why they could not be uploaded.
    """

    path: Path
    records: int
    rejected: int
    unsent: int
    error: str = ""
    files: int = 0
    upload_error: str = ""
    uploaded: int = 0


def drain(
    path: Path,
    target: Callable[[], Target],
    *,
    patience_s: float = 30.0,
    deadline: float = float("inf"),
    uploads: Uploads = "all",
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
        Moment of ``time.monotonic()`` after which no further batch or upload is begun.
    uploads
        ``all``: artifacts too. ``due``: unless they failed a moment ago. ``none``: only what else there is.
    progress
        Takes a line for each file that is uploaded.

    Returns
    -------
    Delivered
        How it went; ``unsent`` counts the records and artifacts that remain.
    """
    try:
        with journal.delivering(path, patience_s) as is_mine:
            if not is_mine:
                return Delivered(path, 0, 0, unsent(path), files=len(Sent.of(path).files))
            work = _Delivery(path, target, progress)
            work.run(deadline, uploads)
            sent = work.sent
            return Delivered(
                path,
                work.count,
                work.rejected,
                unsent(path),
                sent.error,
                len(sent.files),
                sent.upload_error,
                work.uploaded,
            )
    except FileNotFoundError:  # delivered and removed while this process waited
        return Delivered(path, 0, 0, 0)
    except OSError as exc:
        return Delivered(path, 0, 0, unsent(path), f"the journal {path} cannot be read or written: {exc.strerror}")


def _holds_begin_of(run_id: str, path: Path) -> bool:
    """Say whether a journal holds a run's beginning that waits for delivery."""
    try:
        records, offset = journal.read(path, Sent.of(path).offset)
        while records and not any(record[:2] == ["create", run_id] for _, record in records):
            records, offset = journal.read(path, offset)
    except FileNotFoundError:
        return False
    return bool(records)


def end_orphans(path: Path, target: Callable[[], Target]) -> list[str]:
    """End the runs that a journal's writer, which has ended, left open: FAILED, unless somebody gave them an end.

    They ended when the writer last gave a sign of life: the last record, or the last heartbeat.
    """
    work, ended = _Delivery(path, target, str), []
    ended_at_ms = int(path.stat().st_mtime * 1000)
    for run_id, intent in list(work.sent.open.items()):
        real = work.real(run_id)
        begun = work.target.created(intent) if intent == real else [real]
        try:
            for real in begun[:1]:
                if work.target.state(real)[0] == "RUNNING":
                    work.target.log_batch(_tagged(real, "nbmlops.error", GONE))
                    journal.crash_point("before-end")
                    work.target.update_run(real, {"status": "FAILED", "end_time": ended_at_ms})
                    ended.append(real)
                work.close_run(run_id, real)
        except RejectedError:  # deleted meanwhile
            continue
    work.sent.open.clear()
    work.sent.save(path)
    return ended


def beat(path: Path, target: Callable[[], Target]) -> None:
    """Show of every open run of a living writer that it lives.

    One that another machine took for dead, because it saw no such sign for long, is RUNNING again.
    """
    with journal.delivering(path, 0) as is_mine:
        if not is_mine:
            return
        os.utime(path)  # to other machines the journal itself tells that its writer lives
        work = _Delivery(path, target, str)
        for run_id in work.sent.open:
            real = work.real(run_id)
            with contextlib.suppress(RejectedError):
                work.target.log_batch(_tagged(real, "nbmlops.alive_at", str(int(time.time()))))
                status, error = work.target.state(real)
                if status != "RUNNING" and error == GONE:
                    work.target.update_run(real, {"status": "RUNNING"})
                    work.target.delete_tag(real, "nbmlops.error")


def _tagged(run_id: str, key: str, value: str) -> Batch:
    batch = Batch(run_id)
    batch.add(["tag", run_id, key, value])
    return batch


class _Delivery:
    """One journal on its way to its store."""

    def __init__(self, path: Path, target: Callable[[], Target], progress: Callable[[str], object]) -> None:
        self.path = path
        self.sent = Sent.of(path)
        self._refused = self.sent.rejected, self.sent.rejected_bytes  # at the last step that the store has taken
        self.count = self.rejected = self.uploaded = 0
        self._open = target
        self._progress = progress
        self._target: Target | None = None

    @property
    def target(self) -> Target:
        if self._target is None:
            self._target = self._open()
        return self._target

    def real(self, run_id: str) -> str:
        """Give the store's id of a run that began offline; any other is its own."""
        return self.sent.ids.get(run_id, run_id)

    def run(self, deadline: float, uploads: Uploads) -> None:
        """Deliver records as long as there are any, and between them one file after the other."""
        is_due = uploads == "all" or (uploads == "due" and time.time() >= self.sent.upload_after)
        try:
            while time.monotonic() < deadline:
                records, offset = journal.read(self.path, self.sent.offset)
                if records:
                    self.deliver(records, offset)
                elif not (is_due and self.sent.files and self._upload_next()):
                    break
        except UnreachableError as exc:
            self._halt(str(exc))

    # ------------------------------------------------------------------- records
    def deliver(self, records: Sequence[tuple[int, Record]], offset: int) -> None:
        """Deliver a chunk; after every step that the store has taken, its place is written down."""
        pending: dict[str, Batch] = {}
        reached = self.sent.offset
        for size, record in records:
            if record[0] in _BATCHED:
                self._collect(pending, record)
            else:
                self._flush(pending, reached)
                self._single(record, reached)
                self._reached(reached + size, int(record[0] != "header"))
            reached += size
        self._flush(pending, offset)

    def _collect(self, pending: dict[str, Batch], record: Record) -> None:
        run_id = self.real(record[1])
        batch = pending.get(run_id)
        if batch is None or not batch.takes(record):
            if batch:
                self._send(pending.pop(run_id))
                self.count += len(batch.records)
            batch = pending[run_id] = Batch(run_id)
        batch.add(self._of_model(record))

    def _of_model(self, record: Record) -> Record:
        """Give a metric that names a model of this journal the store's id of it."""
        if len(record) < 7 or (model_id := record[6].get("model_id")) not in self.sent.ids:
            return record
        return [*record[:6], {**record[6], "model_id": self.sent.ids[model_id]}]

    def _flush(self, pending: dict[str, Batch], offset: int) -> None:
        """Send what is collected; runs do not depend on each other, so their order is free."""
        count = sum(len(batch.records) for batch in pending.values())
        while pending:
            self._send(pending.pop(next(iter(pending))))
        if offset > self.sent.offset:
            self._reached(offset, count)

    def _reached(self, offset: int, count: int) -> None:
        """Write down how far it is; where the disk is full it is known until this process ends, which is enough."""
        self.sent.offset, self.sent.error, self.sent.stumbles, self.sent.stumbled_at = offset, "", 0, 0.0
        self.count += count
        self._refused = self.sent.rejected, self.sent.rejected_bytes
        journal.crash_point("before-sent")
        with contextlib.suppress(OSError):
            self.sent.save(self.path)
        journal.crash_point("after-sent")

    def _send(self, batch: Batch) -> None:
        """Log a batch; when it is refused, log its records one by one, and keep those aside that are guilty."""
        try:
            self._try(batch.run_id, lambda: self.target.log_batch(batch))
        except RejectedError as exc:
            if exc.is_gone and self._began_elsewhere(batch.run_id):
                batch.run_id = self.real(batch.run_id)
                self._send(batch)
            elif exc.is_gone or len(batch.records) == 1:
                self._reject(batch.records, str(exc))
            else:
                for each in _halves(batch):
                    self._send(each)

    def _try(self, run_id: str, act: Callable[[], T]) -> T:
        """Do something at the store; what fails for long, while the store takes all else, is refused.

        Otherwise one record on which a server stumbles would hold up all others for ever.
        """
        for attempt in range(ATTEMPTS):
            try:
                return act()
            except UnreachableError as exc:
                self.target.probe(run_id)  # out of reach altogether: that is raised instead
                reason = str(exc)
                self._stumbled(reason)
                time.sleep(0.05 * 2**attempt)
        raise RejectedError(f"the store takes other records, but fails on this one: {reason}")

    def _stumbled(self, reason: str) -> None:
        """Take note of a failure; leave it at that for now, unless it has been so for long."""
        self.sent.stumbles += 1
        self.sent.stumbled_at = self.sent.stumbled_at or time.time()
        if self.sent.stumbles < ATTEMPTS or time.time() - self.sent.stumbled_at < PATIENCE_S:
            self._halt(reason)
            raise UnreachableError(reason)

    def _halt(self, reason: str) -> None:
        """Write down why it stops here; what was refused since the last step will be refused anew."""
        self.sent.rejected, self.sent.rejected_bytes = self._refused
        self.sent.error = reason
        self.sent.save(self.path)

    def _began_elsewhere(self, run_id: str) -> bool:
        """Look for a run that another process began offline, under the id that it had there."""
        if found := self.target.created(run_id):
            self.sent.ids[run_id] = found[0]
        return bool(found)

    def _reject(self, records: Sequence[Record], reason: str) -> None:
        journal.reject(self.path, self.sent, records, reason)
        self.rejected += len(records)

    # ------------------------------------------------------------ single records
    def _single(self, record: Record, place: int) -> None:
        """Deliver a record that stands alone; one that is refused, or that nobody knows, is kept aside."""
        kind, run_id, *rest = record
        acts: dict[str, Callable[..., None]] = {
            "above": self._above,
            "intend": self._intend,
            "begin": self._begin,
            "create": self._create,
            "update": self._update,
            "inputs": self._inputs,
            "model": self._model,
            "file": lambda *_: None,
        }
        if kind == "header":
            return
        try:
            if kind not in acts:
                raise RejectedError(_UNKNOWN.get(kind, "it is no record that this version knows"))
            try:
                acts[kind](run_id, *rest)
            except RejectedError as exc:
                if not (exc.is_gone and self._began_elsewhere(run_id)):
                    raise
                acts[kind](run_id, *rest)
        except RejectedError as exc:
            self._reject([record], str(exc))
        else:
            self.sent.files += [place] if kind in ("file", "model") else []

    def _above(self, run_id: str) -> None:
        """Learn the store's id of the run above the writer, which began offline; that one's journal goes first."""
        others = [path for path in journal.journals(self.path.parent) if path != self.path]
        if found := next((ids[run_id] for path in others if run_id in (ids := Sent.of(path).ids)), ""):
            self.sent.ids[run_id] = found
        elif not self._began_elsewhere(run_id) and any(_holds_begin_of(run_id, path) for path in others):
            raise UnreachableError("the run above it is not delivered yet")

    def _intend(self, intent: str) -> None:
        """Take note that the journal's writer asks the store for a run: it may die before it hears of it."""
        self.sent.open[intent] = intent

    def _begin(self, run_id: str, intent: str = "") -> None:
        """Take note that the journal's writer owns a run: it ends with its writer, if nobody ends it before."""
        self.sent.open.pop(intent, "")
        self.sent.open[run_id] = intent

    def _create(self, intent: str, wanted: dict[str, Any]) -> None:
        """Create a run that began offline, unless it was created already: an answer may have been lost."""
        tags = {key: self.real(value) for key, value in wanted["tags"].items()}

        def created() -> str:
            found = self.target.created(intent)
            journal.crash_point("before-create")
            return found[0] if found else self.target.create_run(intent, {**wanted, "tags": tags})

        self.sent.ids[intent] = self._try("", created)
        journal.crash_point("after-create")
        self._begin(intent, intent)

    def _model(self, run_id: str, model: dict[str, Any]) -> None:
        """Create a logged model of a run, unless it was created already; its files follow as artifacts do."""
        intent, real = model["id"], self.real(run_id)

        def created() -> tuple[str, str]:
            found = self.target.created_model(real, intent)
            return found or self.target.create_model(real, model)

        self.sent.ids[intent], self.sent.ids[f"{intent}/place"] = self._try(real, created)
        journal.crash_point("after-create-model")

    def _update(self, run_id: str, change: dict[str, Any]) -> None:
        real = self.real(run_id)
        self._try(real, lambda: self.target.update_run(real, change))
        if "end_time" in change and change.get("status") != "RUNNING":
            if run_id in self.sent.open and self.target.state(real)[1] == GONE:  # taken for dead while it was cut off
                self.target.delete_tag(real, "nbmlops.error")
            self.close_run(run_id, real)

    def close_run(self, run_id: str, real: str) -> None:
        """Once a run has ended, take away what a request to create it made that was slow, or was made twice."""
        if intent := self.sent.open.get(run_id, ""):
            for double in set(self.target.created(intent)) - {real}:
                self.target.delete_run(double)
        self.sent.open.pop(run_id, "")

    def _inputs(self, run_id: str, inputs: dict[str, Any]) -> None:
        real = self.real(run_id)
        self._try(real, lambda: self.target.log_inputs(real, inputs))

    # ------------------------------------------------------------------- artifacts
    def _upload_next(self) -> bool:
        """Upload what has its turn, and say whether to go on; what fails has its turn again after the others."""
        place = self.sent.files[0]
        [(_, record)], _ = journal.read(self.path, place, 1)
        _, run_id, artifact, *_ = record
        spent: list[Path] = []
        try:
            if record[0] == "model":
                spent = self._upload_model(run_id, artifact)
            else:
                spent = [self._upload(artifact["place"] or self.target.place_of(self.real(run_id)), artifact)]
        except RejectedError as exc:
            self._reject([record], str(exc))
        except UnreachableError as exc:
            self._put_off(str(exc))
            return False
        self.sent.files.remove(place)
        self.sent.uploads_failed, self.sent.upload_after, self.sent.upload_error = 0, 0.0, ""
        self.count += 1
        self.uploaded += bool(spent)
        journal.crash_point("before-uploaded")
        self.sent.save(self.path)
        journal.crash_point("after-uploaded")
        for copy in spent:
            copy.unlink(missing_ok=True)
        return True

    def _upload(self, place: str, artifact: dict[str, Any], words: Mapping[str, str] | None = None) -> Path:
        """Upload a copy that is still what was logged; `words` to put in its text. Give the copy, which has served."""
        copy: Path = self.path.with_suffix(".files") / artifact["copy"]
        if not copy.exists():
            raise RejectedError("its copy is gone")
        if _digest(copy) != artifact["sha256"]:
            raise RejectedError("its copy is not what was logged: the hash differs")
        self._progress(f"uploading {artifact['path']} ({artifact['bytes']:,} bytes)")
        sent = _worded(copy, words) if words else copy
        self.target.upload(place, artifact["path"], sent)
        if sent != copy:
            sent.unlink()
        return copy

    def _upload_model(self, run_id: str, model: dict[str, Any]) -> list[Path]:
        """Upload a logged model's files, the store's ids and places in them, and call it ready."""
        real, intent = self.real(run_id), model["id"]
        model_id, place = self.real(intent), self.sent.ids.get(f"{intent}/place", "")
        if not place:
            raise RejectedError("its model was refused")
        words = {f"{intent}/place": place, intent: model_id, run_id: real}
        copies = [self._upload(place, each, words if each["is_worded"] else None) for each in model["files"]]
        self.target.finish_model(real, model_id)
        return copies

    def _put_off(self, reason: str) -> None:
        self.sent.files.append(self.sent.files.pop(0))
        self.sent.uploads_failed += 1
        shortest, longest = UPLOAD_PAUSE_S
        pause_s = min(shortest * 2 ** min(self.sent.uploads_failed - 1, 20), longest)
        self.sent.upload_after = time.time() + pause_s
        self.sent.upload_error = reason
        self._progress(f"an upload failed ({reason}); tried again in {pause_s:.0f} s")
        self.sent.save(self.path)


def _worded(copy: Path, words: Mapping[str, str]) -> Path:
    """Put the store's words in the place of the journal's, in a copy of the copy."""
    text = copy.read_text(encoding="utf-8")
    for ours, theirs in words.items():
        text = text.replace(ours, theirs)
    worded = copy.with_suffix(".worded")
    worded.write_text(text, encoding="utf-8")
    return worded


def _digest(copy: Path) -> str:
    with copy.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_BATCHED = ("metric", "param", "tag")
_UNKNOWN = {"torn": "it was torn by a crash of the machine"}


def _halves(batch: Batch) -> Iterable[Batch]:
    """Split a refused batch, so that the guilty record is found in few steps."""
    middle = len(batch.records) // 2
    for part in (batch.records[:middle], batch.records[middle:]):
        half = Batch(batch.run_id)
        for record in part:
            half.add(record)
        yield half
