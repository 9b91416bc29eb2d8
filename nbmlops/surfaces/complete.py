"""Completion of verbs, options, choices and names; loads none of the heavy libraries."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from nbmlops.errors import NbmlopsError
from nbmlops.pipelines import jobs
from nbmlops.project import Project
from nbmlops.tracking import names
from nbmlops.verb import Ref, parameters, ref_of
from nbmlops.vocabulary import VERBS

LONGEST = 200  # letters of a word that is offered
COMMON = ("--json", "--quiet", "--show-code", "--traceback", "--into", "--widget", "--help")


def candidates(line: str, project: Project, variables: Mapping[str, Any]) -> list[str]:
    """List what may stand where a line ends.

    Parameters
    ----------
    line
        What stands after ``%mlops``, up to the cursor.
    project
        The project whose names are offered.
    variables
        The notebook's variables.

    Returns
    -------
    list of str
        Whole words that begin with the word at the cursor; empty when nothing is known.
    """
    words = line.split()
    typing = "" if not line or line[-1].isspace() else words.pop()
    if not words:
        return _beginning(typing, [*VERBS, "help"])
    if words[0] == "help":
        return _beginning(typing, VERBS)
    if words[0] not in VERBS:
        return []
    own = parameters(words[0])
    options = {f"--{name.rstrip('_').replace('_', '-')}": p for name, p in own.items()}
    if typing.startswith("-"):
        keywords = [o for o, p in options.items() if p.kind is inspect.Parameter.KEYWORD_ONLY]
        return _beginning(typing, [*keywords, *COMMON])
    if words[-1] in options:
        return _beginning(typing, _values(options[words[-1]], project, variables))
    positional = [p for p in own.values() if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    place = min(_count_positional(words[1:], options), len(positional) - 1)
    return _beginning(typing, _values(positional[place], project, variables)) if positional else []


def _count_positional(words: list[str], options: Mapping[str, inspect.Parameter]) -> int:
    count, is_value = 0, False
    for word in words:
        if word.startswith("-"):
            is_value = word in options and options[word].annotation is not bool
        else:
            count += not is_value
            is_value = False
    return count


def _values(parameter: inspect.Parameter, project: Project, variables: Mapping[str, Any]) -> Iterable[str]:
    if get_origin(parameter.annotation) is Literal:
        return [str(choice) for choice in get_args(parameter.annotation)]
    ref = ref_of(parameter.annotation)
    if ref is None:
        return []
    own = [n for n, v in variables.items() if not n.startswith("_") and ref.accepts and ref.accepts(v)]
    try:
        return [*own, *_names(ref, project)]
    except (NbmlopsError, OSError):  # no project, or something out of reach: what is known without it still helps
        return own


def _names(ref: Ref, project: Project) -> Iterable[str]:
    offer = _OFFERS.get(ref.noun)
    return offer(project) if offer else ()


def _files(project: Project, *endings: str) -> list[str]:
    places = (project.folder, *(path for path in project.folder.iterdir() if path.is_dir()))
    found = [path for place in places for path in sorted(Path(place).iterdir()) if path.suffix in endings]
    return [str(path.relative_to(project.folder)) for path in found]


def _beginning(typing: str, words: Iterable[str]) -> list[str]:
    return [word for word in dict.fromkeys(words) if word.startswith(typing) and _is_offered(word)]


def _is_offered(word: str) -> bool:
    """Say whether a word may be put into a cell: one with a line's end would bring code with it, others are unseen."""
    return word.isprintable() and len(word) <= LONGEST


def _runnable(project: Project) -> list[str]:
    return [*(project.settings.pipelines if project.exists else ()), *_files(project, ".ipynb")]


# What is offered for the nouns of arguments; each function loads what it needs only when it is asked.
_OFFERS: dict[str, Callable[[Project], Iterable[str]]] = {
    "run": names.runs,
    "model": names.models,
    "model name": names.model_names,
    "alias": lambda project: ["champion", "challenger", *names.aliases(project)],
    "endpoint": names.endpoints,
    "gate": lambda project: project.settings.gates,
    "alert": lambda project: project.settings.alerts,
    "any": lambda project: [*names.runs(project), *names.models(project), *names.endpoints(project)],
    "notebook": lambda project: _files(project, ".ipynb"),
    "notebook or pipeline": _runnable,
    "job": lambda project: [job.job for job in jobs.newest(project, 20)],
    "data": lambda project: _files(project, ".parquet", ".csv", ".json"),
}
