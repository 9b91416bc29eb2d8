"""A verb as the shell asks for it: result on stdout, progress and errors on stderr, an exit code by cause."""

import atexit
import contextlib
import gc
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

from nbmlops import __version__
from nbmlops.errors import NbmlopsError
from nbmlops.project import Project
from nbmlops.surfaces import progress
from nbmlops.surfaces.cli import own
from nbmlops.verb import Stream

GARBAGE = 50_000  # objects between two looks for garbage: of the few that is usual, imports spend a fifth of their time


def here(words: Sequence[str]) -> int:
    """Run one verb in this process."""
    gc.set_threshold(GARBAGE)
    atexit.register(gc.freeze)  # nor is there anything to look for among all that is there at the end
    signal.signal(signal.SIGTERM, _terminated)
    try:
        return _main(list(words))
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
    ours = own(words)
    as_json, shows_traceback = "--json" in ours, "--traceback" in ours
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
        settings.pop("project", None), surface="cli", overrides=settings, notify=_nothing if quiet else progress.say
    )
    if call.arguments.get("command"):
        return _command(call, project)
    result = perform(call, project)
    if isinstance(result, Stream):
        return _watched(result, as_json=call.options["json"])
    if call.options["show_code"]:
        _say(result)
    elif call.options["json"]:
        _say(show.json_text(result))
    elif not quiet:
        _say(show.text(result))
    return 0


def _watched(stream: Stream, *, as_json: bool) -> int:
    """Show what goes on until interrupted: drawn anew on a terminal, elsewhere a line for each change."""
    from nbmlops.surfaces import watching

    is_drawn = sys.stdout.isatty() and not as_json
    for each in watching.pages(stream) if is_drawn else watching.changes(stream, as_json=as_json):
        _say(each)
    return 0


def _command(call: Any, project: Project) -> int:
    """Run a command as a verb does: stdout is the command's own, or with --json the result's alone."""
    from nbmlops.surfaces import show
    from nbmlops.surfaces.call import perform

    if call.options["show_code"]:
        _say(perform(call, project))
        return 0
    with _stdout_to_stderr() if call.options["json"] else contextlib.nullcontext():
        result = perform(call, project)
    if call.options["json"]:
        _say(show.json_text(result))
    elif not call.options["quiet"]:
        print(show.text(result), file=sys.stderr)
    return int(result.exit_code)


@contextlib.contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Let whatever is written to stdout meanwhile, by children too, go to stderr."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _asks_help(words: list[str]) -> bool:
    return "--help" in own(words) or "-h" in own(words)


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


def _nothing(line: str) -> None: ...


def _terminated(number: int, _: Any) -> None:
    sys.exit(128 + number)
