"""The command `nbmlops`: result on stdout, progress and errors on stderr, an exit code by cause."""

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from nbmlops import __version__
from nbmlops.errors import NbmlopsError
from nbmlops.project import Project


def main(words: Sequence[str] | None = None) -> int:
    """Run one verb as the shell asks; what it returns is the exit code."""
    words = list(sys.argv[1:] if words is None else words)
    signal.signal(signal.SIGTERM, _terminated)
    try:
        return _main(words)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130


def _main(words: list[str]) -> int:
    if words[:1] == ["--version"]:
        _say(f"nbmlops {__version__}")
        return 0
    if not words or words in (["help"], ["--help"], ["-h"]):
        from nbmlops.surfaces.overview import overview

        _say(overview("nbmlops "))
        return 0
    as_json, shows_traceback = "--json" in words, "--traceback" in words
    try:
        return _verb(words)
    except NbmlopsError as exc:
        return _failed(exc, as_json, shows_traceback)
    except Exception as exc:  # noqa: BLE001  # the outermost frame: a bug becomes exit 1 with a clear line
        from nbmlops.surfaces.call import unexpected

        return _failed(unexpected(exc), as_json, shows_traceback)


def _verb(words: list[str]) -> int:
    from nbmlops.surfaces import show
    from nbmlops.surfaces.call import perform, split
    from nbmlops.surfaces.parse import help_text, parse

    settings, name, rest = split(words)
    if name == "help":
        name, rest = (rest or ["help"])[0], ["--help"]
    if _asks_help(rest):
        _say(help_text(name))
        return 0
    call = parse(name, rest)
    quiet = call.options["quiet"]
    project = Project(
        settings.pop("project", None), surface="cli", overrides=settings, notify=_nothing if quiet else _progress
    )
    result = perform(call, project)
    if call.options["show_code"]:
        _say(result)
    elif call.options["json"]:
        _say(show.json_text(result))
    elif not quiet:
        _say(show.text(result))
    return 0


def _asks_help(words: list[str]) -> bool:
    own = words[: words.index("--")] if "--" in words else words
    return "--help" in own or "-h" in own


def _failed(error: NbmlopsError, as_json: bool, shows_traceback: bool) -> int:
    from nbmlops.surfaces import show

    if shows_traceback:
        traceback.print_exception(error)
    if as_json:
        _say(show.error_json(error))
    else:
        print(show.error_text(error), file=sys.stderr)
    return error.exit_code


def _say(text: str) -> None:
    """Print a result; a reader who has gone, as ``head`` does, ends us quietly and as the shell expects."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more as it ends
        sys.exit(128 + signal.SIGPIPE)


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _nothing(line: str) -> None: ...


def _terminated(number: int, _: Any) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
