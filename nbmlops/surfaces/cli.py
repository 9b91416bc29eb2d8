"""The command `nbmlops`: handed to the warm server where that saves its imports, else run here.

It is all that a warm run loads, so it imports next to nothing.
"""

import os
import sys
from collections.abc import Sequence

RUNS = ("run", "resume")  # they leave a server behind for the next ones
# What a pipeline ends with, and what asks endpoints: they use a server that is there.
WARM = (*RUNS, "deploy", "drift", "predict", "promote", "register", "validate")


def main(words: Sequence[str] | None = None) -> int:
    """Run one verb as the shell asks; what it returns is the exit code."""
    words = list(sys.argv[1:] if words is None else words)
    if words and words[0] in WARM and (code := _warm(words)) is not None:
        return code
    from nbmlops.surfaces.terminal import here

    return here(words)


def own(words: list[str]) -> list[str]:
    """Give the words that are ours: those after ``--`` are a command's."""
    return words[: words.index("--")] if "--" in words else words


def _warm(words: list[str]) -> int | None:
    """Run a command that wants what takes long to import where it has been imported already, if that is somewhere."""
    from nbmlops.pipelines.warm import client, place

    if "--no-warm" in own(words):
        os.environ[place.OFF] = "off"  # nor is the process of the cells to come from there
    if not place.is_wanted():
        return None
    code = client.run(words)
    if code is None and words[0] in RUNS:
        import atexit

        atexit.register(client.leave_one, dict(os.environ))  # as it is now: imports will add to it
    return code


if __name__ == "__main__":
    sys.exit(main())
