"""What is known of a notebook's execution: a log that is appended to, and the notebook that it makes at any moment.

Each event is one line of JSON, written before anything else is done with it. The notebook itself is written once, at
the end; of a log whose writer was killed at any byte, `recover` makes a readable notebook.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Self

from nbmlops.pipelines.execution.outputs import Outputs, strict

Content = dict[str, Any]
Event = dict[str, Any]
PARTIAL = ".partial.ipynb"


class Record:
    """A notebook as far as it has been executed.

    Parameters
    ----------
    content
        The notebook, its outputs cleared; it is filled here.
    """

    def __init__(self, content: Content) -> None:
        self.content = content
        self.outputs = Outputs(content["cells"])
        self._count = 0
        self.current = -1  # the cell that runs, or ran last
        self.statuses: dict[int, str] = {}
        self.last_words = ""  # that its process wrote before the first cell began
        self.seconds: dict[int, float] = {}

    @property
    def is_running(self) -> bool:
        """Whether a cell has begun that has not ended."""
        return self.statuses.get(self.current) == "running"

    def take(self, event: Event) -> None:
        """Take one event of the execution."""
        if event["event"] == "output" and event["cell"] < 0 and event["kind"] == "stream":
            self.last_words = (event["content"]["text"].strip().splitlines() or [self.last_words])[-1]
        elif event["event"] == "output":
            self.outputs.take(event["cell"], event["kind"], event["content"])
        elif event["event"] == "cell":
            self._take_cell(event)

    def _take_cell(self, event: Event) -> None:
        index, status = event["cell"], event["status"]
        self.current, self.statuses[index] = index, status
        cell = self.content["cells"][index]
        notes = _notes(cell)
        if status == "running":
            notes.update(start_time=_moment(event["at"]), status="running", exception=None)
            self._count += 1
            cell["execution_count"] = self._count  # until its end tells; one that dies has begun as this
            return
        self._count = event["count"] or self._count - 1
        self.seconds[index] = event["seconds"]
        cell["execution_count"] = event["count"]
        is_well = status in ("ok", "kept")
        notes.update(end_time=_moment(event["at"]), duration=round(event["seconds"], 6), exception=not is_well)
        notes["status"] = "completed" if is_well else "failed"
        if "memory_bytes" in event:
            cell["metadata"].setdefault("nbmlops", {})["memory_bytes"] = event["memory_bytes"]

    def settled(self, reason: str = "") -> Content:
        """Make the notebook true and whole; `reason` tells why the cell that still runs never ended."""
        self.outputs.settle()
        for index, cell in enumerate(self.content["cells"]):
            if cell.get("cell_type") == "code" and index not in self.statuses:
                _notes(cell).update(_PENDING)
        if self.is_running:
            cell = self.content["cells"][self.current]
            if reason and not any(output["output_type"] == "error" for output in cell["outputs"]):
                error = {"output_type": "error", "ename": "KernelError", "evalue": reason, "traceback": [reason]}
                cell["outputs"].append(error)
            _notes(cell).update(status="failed", exception=True)
            self.statuses[self.current] = "failed"
        if widgets := self.outputs.widgets():
            self.content["metadata"]["widgets"] = widgets
        return self.content


class Log:
    """The file that a run's events are appended to; its first line holds the notebook.

    Raises
    ------
    OSError
        The disk is full, or the folder cannot be written to.
    """

    def __init__(self, path: Path, content: Content, output: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file: BinaryIO = path.open("wb", buffering=0)
        try:
            self.append({"event": "begun", "notebook": content, "output": str(output)})
        except OSError:
            self.close()
            raise

    def append(self, event: Event) -> None:
        """Append an event, in one write."""
        line = json.dumps(event, separators=(",", ":")).encode() + b"\n"
        written = self._file.write(line)
        if written != len(line):  # the disk was filled by it: the rest tells why
            self._file.write(line[written:])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def events(path: str | Path) -> Iterator[Event]:
    """Read a log; a last line that was torn is passed over."""
    with open(path, "rb") as file:
        for line in file:
            with contextlib.suppress(ValueError):
                yield json.loads(line)


def recover(path: str) -> Path | None:
    """Write what a log holds as ``OUT.partial.ipynb`` beside the output that was meant; None when it holds nothing."""
    every = events(path)
    begun = next(every, None)
    if begun is None or begun.get("event") != "begun":
        return None
    record = Record(begun["notebook"])
    for event in every:
        record.take(event)
    content = record.settled("The process that ran this notebook was ended from outside.")
    content["metadata"].setdefault("papermill", {})["exception"] = True
    partial = partial_of(Path(begun["output"]))
    write(content, partial)
    return partial


def partial_of(output: Path) -> Path:
    """Name the notebook that is left of a run whose own process was killed.

    Examples
    --------
    >>> partial_of(Path("out/train.ipynb")).name
    'train.partial.ipynb'
    """
    return output.with_name(output.stem + PARTIAL)


def write(content: Content, path: Path) -> None:
    """Write a notebook as strict JSON; it appears under its name at once and whole, or not at all.

    Raises
    ------
    OSError
        It cannot be written; what stood there stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(strict(content), indent=1, ensure_ascii=False)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.stem[:40]}.", delete=False) as draft:
        try:
            draft.write(text.encode("utf-8", "replace") + b"\n")
            draft.flush()
            os.fsync(draft.fileno())
            os.chmod(draft.name, 0o666 & ~_umask())
            os.replace(draft.name, path)
        except BaseException:
            os.unlink(draft.name)
            raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _notes(part: Content) -> Content:
    """Give what papermill notes about a cell or a notebook: its readers know the words."""
    notes: Content = part.setdefault("metadata", {}).setdefault("papermill", {})
    return notes


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


_PENDING = {"status": "pending", "exception": None, "start_time": None, "end_time": None, "duration": None}
