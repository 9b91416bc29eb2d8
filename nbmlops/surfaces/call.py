"""From a parsed call to its outcome: the steps that the magic and the command line share."""

from collections.abc import Sequence
from typing import Any

from nbmlops.errors import NbmlopsError, UsageError, nearest
from nbmlops.project import Project
from nbmlops.scrub import scrub_text
from nbmlops.surfaces.parse import Call, numbers, plain_code
from nbmlops.verb import load, parameters, ref_of

GLOBALS = ("project", "tracking", "ledger")


def split(words: Sequence[str]) -> tuple[dict[str, str], str, list[str]]:
    """Split a line into the settings before the verb, the verb, and the words after it.

    Raises
    ------
    UsageError
        An option before the verb does not exist or lacks its value.

    Examples
    --------
    >>> split(["--tracking", "http://127.0.0.1:5000", "runs", "--limit", "3"])
    ({'tracking': 'http://127.0.0.1:5000'}, 'runs', ['--limit', '3'])
    """
    settings: dict[str, str] = {}
    rest = list(words)
    while rest and rest[0].startswith("-"):
        name, sep, value = rest.pop(0).lstrip("-").partition("=")
        if name not in GLOBALS:
            raise UsageError(f"There is no option --{name} before the verb.", nearest(name, GLOBALS))
        if not sep and not rest:
            raise UsageError(f"--{name} needs a value.")
        settings[name] = value if sep else rest.pop(0)
    return settings, rest[0] if rest else "", rest[1:]


def perform(call: Call, project: Project) -> Any:
    """Call the verb, or word the plain code that it stands for."""
    if call.options["show_code"]:
        return _code(call, project)
    for name, parameter in parameters(call.name).items():
        ref = ref_of(parameter.annotation)
        if ref and ref.noun == "number" and name in call.arguments:
            call.arguments[name] = numbers(call.arguments[name])
    return load(call.name)(project, **call.arguments)


def _code(call: Call, project: Project) -> str:
    if not project.exists:
        return plain_code(call, "sqlite:///mlflow.db")
    settings = project.settings
    return scrub_text(plain_code(call, settings.tracking.value, settings.name.value))


def unexpected(exc: Exception) -> NbmlopsError:
    """Wrap an error that nobody translated, keeping it as the cause: a bug of ours, and it says so."""
    error = NbmlopsError(
        f"{type(exc).__name__}: {scrub_text(str(exc))}. This is a bug in nbmlops.",
        "Add --traceback to see where, and report it with that.",
    )
    error.__cause__ = exc
    return error
