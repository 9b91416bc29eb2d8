"""Problems of what nbmlops.toml declares: noted one by one, refused all at once."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from nbmlops.errors import UsageError, nearest
from nbmlops.pipelines.flow.references import NAME
from nbmlops.project import Settings, line_of

T = TypeVar("T")
Place = tuple[str | int, ...]  # of a key in nbmlops.toml


@dataclass(frozen=True)
class Problem:
    """What is wrong at one place of nbmlops.toml."""

    place: Place
    text: str
    hint: str = ""


@dataclass(frozen=True)
class Notes:
    """The problems found so far."""

    problems: list[Problem] = field(default_factory=list)

    def add(self, place: Place, text: str, hint: str = "") -> None:
        """Note a problem."""
        self.problems.append(Problem(place, text, hint))

    def take(self, place: Place, instead: T, reader: Callable[..., T], *arguments: Any) -> T:
        """Read something; where it cannot be read, note why and go on with what is given instead."""
        try:
            return reader(*arguments)
        except UsageError as exc:
            self.add(place, exc.message, exc.hint)
            return instead

    def one_of(self, place: Place, value: str, known: Iterable[str]) -> None:
        """Note a word that is none of those known."""
        if value not in known:
            self.add(place, f"{place[-1]} cannot be {value!r}.", nearest(value, known))

    def name(self, place: Place, what: str, value: str) -> None:
        """Note a name that a reference could not spell."""
        if not NAME.fullmatch(value):
            self.add(place, f"{value!r} cannot be {what}.", "It takes letters, digits, _ and -, a letter or _ first.")


def refuse(settings: Settings, what: str, problems: Sequence[Problem]) -> None:
    """Raise one error that tells of all problems, each with its line; of none, do nothing."""
    if len(problems) == 1:
        (one,) = problems
        raise UsageError(f"{what}, {settings.where(*one.place)}: {one.text}", one.hint)
    if problems:
        problems = sorted(problems, key=lambda each: line_of(settings.text, each.place))
        lines = [f"{settings.where(*each.place)}: {each.text} {each.hint}".rstrip() for each in problems]
        raise UsageError("\n  ".join([f"{what} has {len(problems)} problems:", *lines]))
