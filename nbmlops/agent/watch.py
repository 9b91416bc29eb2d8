"""A look that an agent takes again and again, in a thread of its own; what is looked at, others say."""

import threading
import traceback
from abc import ABC, abstractmethod

from nbmlops.errors import NbmlopsError


class Watch(ABC):
    """Looks every so many seconds from `start` to `close`; no error ends it.

    The agent stays alive as long as it `is_needed`.
    """

    def __init__(self, every_s: float, ends_within_s: float) -> None:
        self.is_needed = False
        self._every_s = every_s
        self._ends_within_s = ends_within_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End, after the look that is being taken."""
        self._stopped.set()
        self._thread.join(timeout=self._ends_within_s)

    @abstractmethod
    def look(self) -> None:
        """Look once, and do what is to be done."""

    @abstractmethod
    def say(self, name: str, line: str) -> None:
        """Tell what stands against one of the things that are looked at; without a name where it is a bug of ours."""

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            try:
                self.look()
            except NbmlopsError:
                continue  # the ledger is away, or nbmlops.toml cannot be read: the agent tells that itself
            except Exception:  # noqa: BLE001  # one that is not foreseen must not end what others rely on
                self.say("", traceback.format_exc())
