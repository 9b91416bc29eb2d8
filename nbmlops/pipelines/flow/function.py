"""A function as a step: ``python -P function.py MODULE:FUNCTION -f FILE``.

Calls the function with the parameters of the JSON file (see `spelled`), and prints what it returns, a dict, as JSON:
``{"results": ...}``, or ``{"error": ...}`` as the command line does, or ``{"skipped": "why"}``. Whatever the function
itself prints goes to stderr. It is run as a file and imports nothing but what the function needs, not even ``typing``
or its own package: a step starts as fast as Python does.
"""

import importlib
import json
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LARGEST = 1_000_000  # characters of what is returned, as JSON: large things are written, and their URI is returned


def main(words: list[str]) -> int:
    """Call a function as the words ask; gives the exit code."""
    target, _, path = words
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    told, code = _called(target, path)
    with answer:
        answer.write(f"{told}\n")
    return code


def _called(target: str, path: str) -> tuple[str, int]:
    try:
        with open(path, encoding="utf-8") as file:
            given = json.load(file)
        module, _, name = target.partition(":")
        sys.path.insert(0, os.getcwd())  # for the project's own modules, and not before ours are loaded
        function = getattr(importlib.import_module(module), name)
        return _worded(function(**{key: _read(*told) for key, told in given.items()}), target), 0
    except Exception as exc:  # noqa: BLE001  # the user's code: whatever it raises is how the step ends
        return _failed(exc, target)


def spelled(value: "Any") -> "tuple[str, Any]":
    """Word a parameter for the file: what kind it is, for what JSON has no type of, and its JSON.

    Examples
    --------
    >>> from datetime import date
    >>> spelled(3), spelled(date(2013, 2, 1)), spelled(float("inf"))
    (('plain', 3), ('date', '2013-02-01'), ('float', 'inf'))
    """
    from datetime import date, datetime
    from decimal import Decimal

    from nbmlops.secrets import Reference
    from nbmlops.strict_json import plain

    if isinstance(value, float) and value - value != 0:  # not finite
        return "float", str(value)
    for kind in (Reference, Decimal, datetime, date):
        if isinstance(value, kind):
            return kind.__name__, value.isoformat() if isinstance(value, date) else str(value)
    return "plain", plain(value)


def _read(kind: str, told: "Any") -> "Any":
    """Read a parameter; a reference to a secret is resolved here, and nowhere before."""
    if kind == "plain":
        return told
    if kind == "float":
        return float(told)
    if kind == "Reference":
        return _secret(told)
    import datetime
    import decimal

    return decimal.Decimal(told) if kind == "Decimal" else getattr(datetime, kind).fromisoformat(told)


def _secret(reference: str) -> str:
    from nbmlops import secrets

    value = secrets.resolved(reference)
    sys.stdout = sys.stderr = _Masked(sys.__stderr__)
    return value


def _worded(returned: "Any", target: str) -> str:
    if returned is not None and not isinstance(returned, dict):
        raise TypeError(f"{target} must return a dict of results or None, not {type(returned).__name__}")
    try:
        text = _json(_masked(returned or {}))
    except (TypeError, ValueError):  # more than JSON knows; what words that takes longer to load than all else here
        from nbmlops.strict_json import plain

        text = _json(_masked(plain(returned)))
    if len(text) > LARGEST:
        raise ValueError(f"{target} returns {len(text):,} characters; write what is large, and return its path or URI")
    return text


def _json(results: "Any") -> str:
    return json.dumps({"results": results}, ensure_ascii=False, allow_nan=False)


def _masked(results: "Any") -> "Any":
    """Mask secrets, where this process has read any."""
    if not isinstance(sys.stdout, _Masked):
        return results
    from nbmlops.scrub import scrub

    return scrub(results)


def _failed(exc: Exception, target: str) -> tuple[str, int]:
    import traceback

    from nbmlops.errors import CellError, NbmlopsError
    from nbmlops.pipelines.execution.ended import SkipNotebook
    from nbmlops.scrub import scrub, scrub_text
    from nbmlops.strict_json import dumps, plain

    if isinstance(exc, SkipNotebook):
        return dumps({"skipped": scrub_text(str(exc))}), 0
    sys.stderr.write(scrub_text("".join(traceback.format_exception(exc))))
    sys.stderr.flush()
    told = f"{target} raised {type(exc).__name__}: {scrub_text(str(exc))}"
    error = exc if isinstance(exc, NbmlopsError) else CellError(told, cell=_place(exc))
    return dumps({"error": scrub(plain(error.details()))}), error.exit_code


def _place(exc: Exception) -> str:
    """Name the file and line of the user's code where it raised."""
    import traceback

    here = os.path.join(os.getcwd(), "")
    frames = [frame for frame in traceback.extract_tb(exc.__traceback__) if frame.filename.startswith(here)]
    own = [frame for frame in frames if "site-packages" not in frame.filename]
    return f"{os.path.relpath(own[-1].filename)}, line {own[-1].lineno}" if own else ""


class _Masked:
    """A stream that masks the secrets that this process knows, line by line."""

    encoding = "utf-8"

    def __init__(self, stream: "Any") -> None:
        self._stream = stream
        self._rest = ""

    def write(self, text: str) -> int:
        from nbmlops.scrub import scrub_text

        whole, end, self._rest = (self._rest + text).rpartition("\n")
        self._stream.write(scrub_text(whole) + end)
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return int(self._stream.fileno())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
