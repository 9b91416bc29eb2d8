"""What the runs of a process keep of its code and environment, logged as soon as it is known, and when they end."""

import contextlib
import threading
from pathlib import Path

from nbmlops.tracking import journal
from nbmlops.tracking.capture import facts, ipython
from nbmlops.tracking.plugin.outbox import Outbox


class Keeping:
    """The runs that this process executes; each is on top, or lies under another, which keeps the files for both.

    Parameters
    ----------
    outbox
        Where all of it goes.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self.forget_all()

    def forget_all(self) -> None:
        """Begin anew, as a forked child does: the runs are its parent's."""
        self._runs: dict[str, tuple[facts.Moment, bool]] = {}  # the code when each began, and whether it is on top
        self._codeless: set[str] = set()  # those whose code is not logged yet
        self._lock = threading.RLock()

    def begin(self, run_id: str, *, is_on_top: bool) -> None:
        """Note the code as it is now, and log it once git has answered: the process may be killed any time."""
        moment = facts.begin(Path.cwd())
        self._runs[run_id] = moment, is_on_top
        self._codeless.add(run_id)

        def keep(_: facts.Moment) -> None:
            with contextlib.suppress(Exception):  # a full disk: at the run's end it is tried again, and told of
                self._log_code(run_id)

        moment.add_done_callback(keep)

    def forget(self, run_id: str) -> None:
        """Keep nothing more of a run: it is gone, or another process executes it."""
        with self._lock:
            self._runs.pop(run_id, None)
            self._codeless.discard(run_id)

    def end(self, run_id: str) -> None:
        """Log what is not logged yet."""
        if run_id in self._runs:
            self._log_code(run_id)
            executed = ipython.executed()
            moment, _ = self._runs[run_id]
            self._log(run_id, facts.run_tags(executed), facts.run_files(moment, executed))
            self.forget(run_id)

    def _log_code(self, run_id: str) -> None:
        with self._lock:
            if run_id in self._runs and run_id in self._codeless:
                moment, _ = self._runs[run_id]
                self._log(run_id, facts.code_tags(moment), facts.code_files(moment))
                self._codeless.discard(run_id)

    def _log(self, run_id: str, tags: dict[str, str], files: dict[str, str]) -> None:
        """Log tags, and the files with the run on top."""
        _, is_on_top = self._runs[run_id]
        self._outbox.write(b"".join(journal.line("tag", run_id, key, value) for key, value in tags.items()))
        for name, text in files.items() if is_on_top else ():
            self._outbox.keep_file(run_id, "", name, text.encode())
