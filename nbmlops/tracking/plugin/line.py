"""The line to a store: whether it answers, and which errors tell of the way to it and not of what was asked."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from nbmlops.scrub import scrub_text
from nbmlops.tracking.journal.delivery import UnreachableError
from nbmlops.tracking.threads import started

ANSWER_S = 0.9  # that beginning a run waits for the store
REST_S = (5.0, 30.0)  # that a store which gave no answer is left alone: at first, and at most
ASKING = "nbmlops-asking"  # the name of a thread that waits for the store's answer
LONGEST = 500  # characters of an error: a server's may be a page of HTML
_AWAY = ("TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "DEADLINE_EXCEEDED")

T = TypeVar("T")


class Line:
    """Whether the store answers: asked in bounded time, and left alone for a while when it did not.

    Parameters
    ----------
    url
        The store's plain URL.
    """

    def __init__(self, url: str) -> None:
        self._is_server = url.startswith("http")
        self._rest_s = REST_S[0]
        self._again_at = 0.0

    @property
    def is_cut(self) -> bool:
        """Whether the store gave no answer a moment ago."""
        return time.monotonic() < self._again_at

    def cut(self) -> None:
        """Leave the store alone for a while, and longer each time."""
        self._again_at = time.monotonic() + self._rest_s
        self._rest_s = min(self._rest_s * 2, REST_S[1])

    def mend(self) -> None:
        """Take note that the store has answered."""
        self._again_at, self._rest_s = 0.0, REST_S[0]

    def ask(self, act: Callable[[], T], patience_s: float = ANSWER_S, late: Callable[[T], object] | None = None) -> T:
        """Ask in a thread of its own, for no library call can be trusted to give up in time.

        `late` takes an answer that comes when nobody waits for it any more.

        Raises
        ------
        UnreachableError
            No answer, or none that is the store's own.
        """
        if self.is_cut:
            raise UnreachableError("it gave no answer a moment ago")
        answers: list[T] = []
        errors: list[BaseException] = []
        one_at_a_time, is_given_up = threading.Lock(), threading.Event()

        def asking() -> None:
            try:
                answer = act()
            except BaseException as exc:  # noqa: BLE001  # raised again in the caller's thread
                errors.append(exc)
                return
            with one_at_a_time:
                answers.append(answer)
            if is_given_up.is_set() and late:
                with contextlib.suppress(Exception):  # nobody is there to be told
                    late(answer)

        thread = threading.Thread(target=asking, daemon=True, name=ASKING)
        if started(thread):
            thread.join(patience_s)
        else:
            asking()
        with one_at_a_time:
            if answers:
                self.mend()
                return answers[0]
            is_given_up.set()
        if errors and not self.is_to_blame(errors[0]):
            raise errors[0]
        self.cut()
        raise UnreachableError(cause(errors[0]) if errors else f"no answer in {patience_s:g} s")

    def is_to_blame(self, exc: BaseException) -> bool:
        """Say whether an error tells of the way to the store, and not of what was asked.

        A server's 500 may be either, and what it says of itself cannot be trusted. In this process MLflow's
        stores word a caller's mistake in the same way, so there only the error behind it counts.
        """
        if any(map(_is_of_the_way, _causes(exc))):
            return True
        if not hasattr(exc, "error_code"):
            return False
        return exc.error_code in (*_AWAY, "INTERNAL_ERROR") if self._is_server else exc.error_code in _AWAY


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    """Give an error and those that caused it."""
    while exc is not None:
        yield exc
        exc = exc.__cause__  # not its context: that may be an error which the caller is just dealing with


def _is_of_the_way(exc: BaseException) -> bool:
    """Tell connections, locks and disks from all else; requests' errors are the operating system's too."""
    names = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(exc).__mro__}
    lost = {"sqlalchemy.OperationalError", "sqlalchemy.InterfaceError", "sqlalchemy.TimeoutError"}
    drivers = {"sqlite3.OperationalError", "psycopg.OperationalError", "psycopg2.OperationalError"}
    return isinstance(exc, OSError | UnreachableError) or bool(names & (lost | drivers))


def cause(exc: BaseException) -> str:
    """Word the first line of an error, or the operating system's own words where they are at its root."""
    root = exc
    while deeper := root.__cause__ or root.__context__:
        root = deeper
    if isinstance(root, OSError) and root.strerror:
        return root.strerror
    text = scrub_text(str(exc)).strip().removeprefix(f"{getattr(exc, 'error_code', '')}: ")  # a server's
    return text.splitlines()[0][:LONGEST] if text else type(exc).__name__
