"""A view kept as things are: looked at anew again and again, in a thread, for as long as somebody sees it."""

import threading
import time
from collections.abc import Callable

PATIENCE_S = 3600.0  # without a sign that somebody sees it


class Looks:
    """Looks again and again while somebody sees a view; ends when that is over, or `look` says that nothing changes.

    Parameters
    ----------
    look
        Looks once, and says whether another look could show anything else.
    every_s
        How long it waits between two looks, in seconds; at least 1.
    """

    def __init__(self, look: Callable[[], bool], every_s: float = 1.0) -> None:
        self._look = look
        self._every_s = max(1.0, every_s)
        self._until = 0.0
        self._woken = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def go_on(self) -> bool:
        """Whether it looks now."""
        return self._thread is not None

    def begin(self, patience_s: float | None = None) -> None:
        """Look from now on, for an hour unless this is said again, or for as long as is said."""
        with self._lock:
            self._until = time.monotonic() + (PATIENCE_S if patience_s is None else patience_s)
            if self._thread is None:
                self._woken = threading.Event()
                self._thread = threading.Thread(
                    target=self._follow, args=(self._woken,), name="nbmlops-view", daemon=True
                )
                self._thread.start()

    def end(self) -> None:
        """Look no longer."""
        with self._lock:
            self._until, self._thread = 0.0, None
            self._woken.set()

    def _follow(self, woken: threading.Event) -> None:
        """Look until there is nothing to see, nobody looks, or another thread has taken over."""
        while self._look() and not woken.wait(self._every_s) and time.monotonic() < self._until:
            pass
        with self._lock:
            if self._woken is woken:
                self._thread = None
