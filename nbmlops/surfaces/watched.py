"""Projects that somebody looks at in a browser: the server looks at their stores, and tells of changes as events."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from logging import Logger
from pathlib import Path
from typing import Any

from nbmlops.agent.changes import AWAY, Look
from nbmlops.agent.watch import Watch
from nbmlops.project import Project

EVENT = "https://nbmlops/changed"
SCHEMA: dict[str, Any] = {
    "$id": EVENT,
    "version": "1",
    "title": "A project has changed",
    "description": "Somewhere in a project that is watched, something is not as it was.",
    "type": "object",
    "required": ["root", "stamps"],
    "properties": {
        "root": {"type": "string", "description": "The project's folder, an absolute path."},
        "stamps": {
            "type": "object",
            "description": "A text for each part of the project, which is another after every change.",
            "additionalProperties": {"type": "string"},
        },
    },
}
EVERY_S = 0.1
LEASE_S = 60.0  # for which a project is watched after somebody asked for it
Stamps = Mapping[str, str]


class Watches:
    """The projects that are watched now, each once, however many browsers ask.

    Parameters
    ----------
    tell
        Takes a project's folder and its stamps after a change; called in the watching thread.
    log
        Where it is told that a store is away.
    """

    def __init__(self, tell: Callable[[Path, Stamps], object], log: Logger) -> None:
        self._tell = tell
        self._log = log
        self._lock = threading.Lock()
        self._watched: dict[Path, Watched] = {}

    def renew(self, project: Project) -> Stamps:
        """Watch a project for `LEASE_S` seconds more; give its stamps."""
        with self._lock:
            watched = self._watched.get(project.root)
            if watched is None or not watched.renew():
                watched = self._watched[project.root] = Watched(project, self._tell, self._log)
                watched.start()
            return watched.stamps

    def close(self) -> None:
        """Watch nothing any more."""
        with self._lock:
            for watched in self._watched.values():
                watched.close()
            self._watched.clear()


class Watched(Watch):
    """A project that is looked at as long as somebody's lease lasts."""

    def __init__(self, project: Project, tell: Callable[[Path, Stamps], object], log: Logger) -> None:
        super().__init__(EVERY_S, ends_within_s=EVERY_S)
        project = Project(project.root, surface=project.surface)  # its folder may become a project of its own
        self._look = Look(project)
        self._root, self._tell, self._log = project.root, tell, log
        self._lock = threading.Lock()
        self._until = time.monotonic() + LEASE_S
        self._said: set[str] = set()
        self.stamps: Stamps = self._look.stamps()

    def renew(self) -> bool:
        """Go on for a whole lease more; False where that is too late."""
        with self._lock:
            self._until = max(self._until, time.monotonic() + LEASE_S)
            return not self._stopped.is_set()

    def look(self) -> None:
        """Look once, and tell what is not as it was; end when the lease has."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._stopped.set()
                self._look.close()
                return
        stamps = self._look.stamps()
        if stamps != self.stamps:
            self._say_who_is_away(stamps)
            self.stamps = stamps
            self._tell(self._root, stamps)

    def close(self) -> None:
        """End, and let the connections go."""
        super().close()
        self._look.close()

    def say(self, name: str, line: str) -> None:
        """Log an error, the same one only once: the next look may be better, and comes at once."""
        if line not in self._said:
            self._said.add(line)
            self._log.warning("nbmlops, watching %s: %s", name or self._root, line)

    def _say_who_is_away(self, stamps: Stamps) -> None:
        for part, stamp in stamps.items():
            was_away, is_away = AWAY in self.stamps.get(part, ""), AWAY in stamp
            if is_away and not was_away:
                self._log.warning("nbmlops: the store of %s is away, %s", part, self._root)
            elif was_away and not is_away:
                self._log.info("nbmlops: the store of %s is back, %s", part, self._root)


def teller(events: Any, loop: asyncio.AbstractEventLoop) -> Callable[[Path, Stamps], object]:
    """Make what sends the event to everybody who listens: by the server's own thread, as that demands."""

    def send(root: Path, stamps: Stamps) -> None:
        events.emit(schema_id=EVENT, data={"root": str(root), "stamps": dict(stamps)})

    def tell(root: Path, stamps: Stamps) -> None:
        with contextlib.suppress(RuntimeError):  # the server has ended
            loop.call_soon_threadsafe(send, root, stamps)

    return tell
