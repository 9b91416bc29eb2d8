"""What the journals hold that their stores do not have yet, for `status`, `doctor` and `sync`."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from nbmlops.project import Project
from nbmlops.scrub import scrub_text
from nbmlops.tracking import journal
from nbmlops.tracking.journal import sync
from nbmlops.verb import counted

HELD_UP_S = 30.0  # records that wait for longer are told of


@dataclass(frozen=True)
class Unsent:
    """What waits in the journals; `since` is when the oldest of it was written, `why` the store's last trouble."""

    records: int = 0
    files: int = 0
    rejected: int = 0
    since: datetime | None = None
    why: str = ""

    def __bool__(self) -> bool:
        """Whether anything waits, or was refused."""
        return bool(self.records or self.rejected)

    @property
    def is_held_up(self) -> bool:
        """Whether it waits because of some trouble, and not only for a moment."""
        age_s = (datetime.now(UTC) - self.since).total_seconds() if self.since else 0.0
        return bool(self.records) and (bool(self.why) or age_s > HELD_UP_S)

    @property
    def headline(self) -> str:
        """All of it in one line; empty when nothing waits.

        Examples
        --------
        >>> Unsent(3, 1, why="Connection refused").headline
        '3 records not delivered, 1 of them artifacts: Connection refused'
        """
        files = f", {self.files:,} of them artifacts" if self.files else ""
        since = f" since {self.since.astimezone():%Y-%m-%d %H:%M:%S}" if self.since else ""
        parts = [f"{counted(self.records, 'record')} not delivered{since}{files}"] if self.records else []
        parts += [f"{self.rejected:,} rejected"] if self.rejected else []
        return "; ".join(parts) + (f": {self.why}" if self.why and parts else "")


NOTHING = Unsent()


def waiting_of(project: Project) -> Unsent:
    """Count what waits in the project's journals; only files are read, so it works with every store down."""
    folder = sync.folder_of(project)
    found = sync.waiting(folder)
    held = [path for path in journal.journals(folder) if journal.unsent(path)]
    oldest = min((at for path in held if (at := _written_at(path))), default=None)
    files = sum(len(journal.Sent.of(path).files) for path in held)
    since = datetime.fromtimestamp(oldest, UTC) if oldest else None
    return Unsent(found.records, files, found.rejected, since, scrub_text(found.error))


def _written_at(path: Path) -> float:
    """Tell when the oldest record that waits was written, as near as is known: a metric bears its time."""
    sent = journal.Sent.of(path)
    records, _ = journal.read(path, min([sent.offset, *sent.files]))
    times = (record[4] / 1000 for _, record in records if record[0] == "metric")
    header = journal.header_of(path)
    return next(times, header.created_at if header else 0.0)


@dataclass(frozen=True)
class Rejected:
    """A record that a store refused: what it was, why, which store that is, and the file that keeps it."""

    record: str
    reason: str
    store: str
    kept_in: str


def rejected_in(folder: Path, most: int = 5) -> Iterator[Rejected]:
    """Tell of the first records that stores refused."""
    lines = [(path, line) for path in sorted(folder.glob("*.rejected")) for line in path.read_bytes().splitlines()]
    for path, line in lines[:most]:
        found = json.loads(line)
        kind, _, *rest = found["record"]
        what = " ".join(str(word) for word in (kind, *rest[:2]))[:80]
        store = found["header"].get("target", "")
        yield Rejected(scrub_text(what), scrub_text(found["reason"])[:300], store, str(path))
