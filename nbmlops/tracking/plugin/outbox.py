"""What a process has journaled for one store, and its way there."""

import functools
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from nbmlops.errors import NbmlopsError
from nbmlops.project import Project
from nbmlops.tracking import journal
from nbmlops.tracking.journal import Sent, Writer, sender
from nbmlops.tracking.journal.delivery import Target, UnreachableError, Uploads, drain
from nbmlops.tracking.journal.sync import finish, folder_of, open_target
from nbmlops.tracking.plugin.line import Line, cause
from nbmlops.tracking.store import root_of
from nbmlops.tracking.threads import started

FLUSH_S = 20.0  # that a read waits for what was logged before it
LOOK_S = 60.0  # between two looks whether the sender lives: it may have been killed too


class Outbox:
    """The journal of this process for a store, its delivery, and whether the store answers.

    Parameters
    ----------
    uri
        The store's plain URL.
    inner
        Gives MLflow's own store of a database, which is opened when it is first needed.
    """

    def __init__(self, uri: str, inner: Callable[[], Any]) -> None:
        self.uri = uri
        self._inner = inner
        project = Project(root_of(uri))
        durability = project.settings.journal.value if project.exists else "page-cache"
        self.writer = Writer(folder_of(project), uri, "page-cache" if durability == "off" else durability)
        self.ids: dict[str, str] = {}  # the store's, of runs begun offline and of models, as far as they are delivered
        self._has_told = False
        self.begin_anew()
        if journal.journals(self.writer.folder):  # a process that was killed may have left them
            self._call_sender()

    def begin_anew(self) -> None:
        """Begin, in a forked child anew, with a journal of which nothing is sent, and with no connection."""
        self.line = Line(self.uri)
        self._sent = 0
        self._ending: threading.Event | None = None
        vars(self).pop("_server", None)

    def write(self, lines: bytes) -> None:
        """Journal lines, and see to it that a sender comes for them."""
        self.writer.append(lines)
        if self._ending is None:
            self._ending = threading.Event()
            started(threading.Thread(target=self._keep_sender, args=(self._ending,), daemon=True))

    def keep_file(self, run_id: str, place: str, path: str, content: Path | bytes) -> None:
        """Journal an artifact: its copy, then the record that names the copy and its hash.

        Parameters
        ----------
        run_id
            The run it belongs to.
        place
            The artifact place it belongs under; the run's own when empty.
        path
            Its path there.
        content
            The file, or its bytes.
        """
        self.write(journal.line("file", run_id, {"place": place, "path": path, **self.writer.copy(content)}))

    def records(self, run_id: str) -> Iterable[journal.Record]:
        """Read what this process has journaled for a run."""
        offset = 0
        while self.writer.is_open:
            records, offset = journal.read(self.writer.path, offset)
            if not records:
                return
            yield from (record for _, record in records if record[1] == run_id)

    def _keep_sender(self, ending: threading.Event) -> None:
        """Start a sender, and again should it be gone before the journal is."""
        self._call_sender()
        while not ending.wait(LOOK_S):
            self._call_sender()

    def _call_sender(self) -> None:
        try:
            sender.start(self.writer.folder, [self.uri])
        except OSError as exc:
            sys.stderr.write(f"nbmlops: no sender can be started ({exc}); what is logged is sent at the end.\n")

    def flush(self, patience_s: float = FLUSH_S, uploads: Uploads = "none", *, is_urgent: bool = False) -> bool:
        """Deliver what this process has journaled; False when the store is out of reach or too slow.

        Artifacts are left to the sender, unless `uploads` says otherwise. A store that gave no answer a
        moment ago is only asked when it `is_urgent`.
        """
        if not self.writer.is_open or (self._sent >= self.writer.size and uploads == "none"):
            return True
        if self.line.is_cut and not is_urgent:
            return False
        wanted, deadline = self.writer.size, time.monotonic() + patience_s
        done = drain(self.writer.path, self._target, patience_s=patience_s, deadline=deadline, uploads=uploads)
        sent = Sent.of(self.writer.path)
        self._sent, self.ids = sent.offset, sent.ids
        if done.error:
            self.line.cut()
            self.tell(done.error)
        elif done.records:
            self.line.mend()
        return self._sent >= wanted and (uploads == "none" or not done.files)

    @functools.cached_property
    def _server(self) -> Target:
        return open_target(self.uri, timeout_s=5.0)

    def _target(self) -> Target:
        if self.uri.startswith("http"):
            return self._server
        from nbmlops.tracking.journal.target_sql import SqlTarget

        try:
            return SqlTarget(self._inner())
        except Exception as exc:
            raise UnreachableError(cause(exc)) from exc

    def close(self, patience_s: float) -> None:
        """Deliver what is left in bounded time, and let the journal go; what remains, the next process delivers."""
        if self._ending:
            self._ending.set()
            self._ending = None
        try:
            if self.flush(patience_s, "all") and self.writer.is_open:
                path = self.writer.path
                self.writer.close()
                finish(path, self._target)
        except (NbmlopsError, OSError) as exc:  # nobody is left to raise to, and the journal keeps all
            self.tell(str(exc))
        self.writer.close()
        if "_server" in vars(self):
            self._server.close()

    def tell(self, why: str) -> None:
        """Say once that the store is away, and where everything is kept meanwhile."""
        if not self._has_told:
            self._has_told = True
            where = journal.portable(self.uri, self.writer.folder)
            sys.stderr.write(
                f"nbmlops: the tracking store {where} is out of reach ({why}). "
                f"What is logged is kept in {self.writer.folder} and sent when it is back; `nbmlops sync` sends it.\n"
            )
