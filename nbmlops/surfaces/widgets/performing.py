"""What a person does in a view: a verb, performed from the very line that is shown."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from nbmlops.errors import NbmlopsError
from nbmlops.project import Project
from nbmlops.scrub import scrub_text
from nbmlops.surfaces.call import perform, unexpected
from nbmlops.surfaces.parse import parse
from nbmlops.surfaces.show import spelled, text

PREFIX = "%mlops "


@dataclass(frozen=True)
class Answer:
    """What came of it: the line as it is typed, one line of words, and everything that there is to say."""

    line: str
    said: str
    text: str
    is_error: bool = False


def performed(project: Project, words: Sequence[str], *, dry_run: bool) -> Answer:
    """Perform a verb that is given as words, or only look what it would do.

    Examples
    --------
    >>> answer = performed(getfixture("project"), ["rollback", "delays"], dry_run=True)
    >>> answer.line, answer.said, answer.is_error
    ('%mlops rollback delays', "There is no registered model 'delays'.", True)
    """
    line = scrub_text(PREFIX + shlex.join(words))
    name, *rest = words
    try:
        call = parse(name, [*rest, "--dry-run"] if dry_run else rest)
        result = perform(call, project)
    except NbmlopsError as exc:
        return refused(exc, line)
    except Exception as exc:  # noqa: BLE001  # a bug is told in the view: no cell is there to raise it in
        return refused(unexpected(exc), line)
    return Answer(line, str(result.headline), text(result, PREFIX))


def refused(error: NbmlopsError, line: str = "") -> Answer:
    """Tell why something was not done."""
    words = spelled(scrub_text(str(error)), PREFIX)
    return Answer(line, words.partition("\n")[0], words, is_error=True)
