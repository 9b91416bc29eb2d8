"""The error tree, and the one table from an error to its exit code and HTTP status.

::

    NbmlopsError               1  500  a bug of ours, or a foreign error nobody translated
      UsageError               2  400  ill-formed request, unknown parameter
      CellError                3  500  the user's notebook or check raised
      GateError                4  422  ran fine, and the answer is no
      DataError                5  422  the data breaks its contract
      DriftError               6  422  drift above the limit, where the caller asked to fail on it
      DeployError              7  502  deployment failed and was rolled back
      KernelError              8  504  kernel died or timed out
      ApprovalError            9  403  a governance rule refused
      StoreError              10  503  a store is out of reach
      NotFoundError           11  404  a named thing does not exist
      ConflictError           12  409  exists, but its state forbids it

A message says what happened and what was expected; the hint says what to do next.
A command in a hint stands in backticks and without a prefix: each surface spells it its own way.
"""

import difflib
import traceback
from collections.abc import Iterable
from typing import Any, ClassVar


class NbmlopsError(Exception):
    """Root of every error that nbmlops raises on purpose.

    Parameters
    ----------
    message
        What happened, and what was expected.
    hint
        What to do next; may be empty. A command stands in backticks: ``"Make one: `init`"``.
    """

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500
    detail_fields: ClassVar[tuple[str, ...]] = ()

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.shows_traceback = False

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message

    def details(self) -> dict[str, Any]:
        """Everything a machine needs of this error, as shown by ``--json`` and REST."""
        shared = {"type": type(self).__name__, "message": self.message, "hint": self.hint, "exit_code": self.exit_code}
        return shared | {name: getattr(self, name) for name in self.detail_fields}

    def _render_traceback_(self) -> list[str]:
        """Give IPython one clean message, or all of it when a traceback was asked for."""
        if self.shows_traceback:
            return "".join(traceback.format_exception(self)).splitlines()
        return f"{type(self).__name__}: {self}".splitlines()


class UsageError(NbmlopsError):
    """An ill-formed request or an unknown parameter."""

    exit_code = 2
    http_status = 400


class CellError(NbmlopsError):
    """The user's notebook, cell or check raised; ``cell`` names where."""

    exit_code = 3
    detail_fields = ("cell",)

    def __init__(self, message: str, hint: str = "", *, cell: str = "") -> None:
        super().__init__(message, hint)
        self.cell = cell


class ReportError(NbmlopsError):
    """An answer of no, with the report that says why."""

    http_status = 422
    detail_fields = ("report",)

    def __init__(self, message: str, hint: str = "", *, report: Any = None) -> None:
        super().__init__(message, hint)
        self.report = report


class GateError(ReportError):
    """The gate ran fine and did not pass."""

    exit_code = 4


class DataError(ReportError):
    """The data breaks its contract."""

    exit_code = 5


class DriftError(ReportError):
    """Drift above the limit, where the caller asked to fail on it."""

    exit_code = 6


class DeployError(NbmlopsError):
    """A deployment failed; what was live before is still live."""

    exit_code = 7
    http_status = 502


class KernelError(NbmlopsError):
    """A notebook's kernel died or ran out of time."""

    exit_code = 8
    http_status = 504


class ApprovalError(NbmlopsError):
    """A governance rule refused; ``rule`` names it."""

    exit_code = 9
    http_status = 403
    detail_fields = ("rule",)

    def __init__(self, message: str, hint: str = "", *, rule: str = "") -> None:
        super().__init__(message, hint)
        self.rule = rule


class StoreError(NbmlopsError):
    """A store is out of reach."""

    exit_code = 10
    http_status = 503


class NotFoundError(NbmlopsError):
    """A named thing does not exist."""

    exit_code = 11
    http_status = 404


class ConflictError(NbmlopsError):
    """A thing exists, but its state forbids what was asked."""

    exit_code = 12
    http_status = 409


def nearest(name: str, candidates: Iterable[str]) -> str:
    """Word a hint that names the candidates most like `name`.

    Parameters
    ----------
    name
        What was typed.
    candidates
        What exists.

    Returns
    -------
    str
        ``"Did you mean a or b?"``, or all candidates when few, or empty.

    Examples
    --------
    >>> nearest("promot", ["promote", "predict"])
    'Did you mean promote?'
    >>> nearest("zzz", ["promote", "predict"])
    'There are: predict, promote.'
    >>> nearest("zzz", [])
    ''
    """
    known = sorted(set(candidates))
    if close := difflib.get_close_matches(name, known, n=2, cutoff=0.6):
        return f"Did you mean {' or '.join(close)}?"
    if not known:
        return ""
    listed = ", ".join(known[:12])
    return f"There are: {listed}{', …' if len(known) > 12 else ''}."
