"""What the result of a step depends on, the key made of it, and what has changed between two of them; pure."""

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nbmlops.pipelines.flow.references import as_text
from nbmlops.pipelines.flow.sources import OF_EVERY_NOTEBOOK, Part
from nbmlops.strict_json import plain

Results = Mapping[str, Any]


@dataclass(frozen=True)
class Ingredients:
    """All that the result of a step depends on; secrets are masked, so that it may be kept."""

    step: str  # pipeline/instance
    kind: str
    target: Sequence[str]  # the notebook, the function, or the words with what is known put in
    source: Sequence[Part]
    parameters: Mapping[str, Any]
    inputs: Mapping[str, str]  # digests: of each upstream instance's results, and of each file among the values
    environment: str

    @property
    def key(self) -> str:
        """The step's key: what was published under it is what running the step again would give.

        It is the SHA-256 over a JSON text of: pipeline and instance; the kind and what it runs (of a verb the words
        with references put in); the digests of the notebook's code cells in their order, or of the function's module,
        and of every module of the project that these import (of a verb the settings that it obeys); the values of the
        parameters; for each instance that it needs that one's key with a digest of its results; the digests of files
        among its values; and the environment's digest. Not in it are: outputs, Markdown, cell numbers, times, retries,
        timeouts, resources, and secrets, which may change without changing the result.
        """
        cells = [part.digest for part in self.source if part.name.startswith("cell ")]
        files = sorted((part.name, part.digest) for part in self.source if not part.name.startswith("cell "))
        told: list[Any] = [self.step, self.kind, self.target, cells, files]
        return sha([*told, self.parameters, self.inputs, self.environment])

    def is_same_but_for_files(self, other: "Ingredients") -> bool:
        """Tell whether others are the same, whatever has become of the files among the values."""
        return self._without_files.key == other._without_files.key

    @property
    def _without_files(self) -> "Ingredients":
        inputs = {name: told for name, told in self.inputs.items() if not name.startswith("file ")}
        return replace(self, inputs=inputs)


def restored(kept: Mapping[str, Any]) -> Ingredients:
    """Build ingredients again from the JSON that `strict_json.plain` makes of them.

    Examples
    --------
    >>> one = Ingredients("p/a", "notebook", ["a.ipynb"], [Part("cell 1", "d")], {"x": 1}, {}, "e")
    >>> restored(plain(one)).key == one.key
    True
    """
    return Ingredients(**{**kept, "source": [Part(**part) for part in kept["source"]]})


@dataclass(frozen=True)
class Published:
    """The result of a step instance that was published once, as it is kept.

    `digest` identifies what the results point to, where that can be had (of the files that they name, for instance);
    without it the results alone are looked at. `job` is the run that has published it.
    """

    name: str
    key: str
    results: Results = field(default_factory=dict)
    ingredients: Ingredients | None = None
    digest: str = ""
    job: str = ""

    @functools.cached_property
    def fingerprint(self) -> str:
        """What the steps behind this one depend on: its key, its results, and what they point to.

        The run and its output notebook are others each time; who reads them has them among its parameters.
        """
        told = {name: value for name, value in self.results.items() if name not in OF_EVERY_NOTEBOOK}
        return sha([self.key, plain(told), self.digest])


@dataclass(frozen=True)
class Known:
    """What was published before: the last of each instance, and each by its key."""

    latest: Mapping[str, Published] = field(default_factory=dict)
    by_key: Mapping[str, Published] = field(default_factory=dict)

    @classmethod
    def of(cls, published: Iterable[Published]) -> "Known":
        """Sort publications given from the oldest to the newest."""
        rows = list(published)
        return cls({row.name: row for row in rows}, {row.key: row for row in rows})


# --------------------------------------------------------------- differences
def differences(old: Ingredients, new: Ingredients) -> list[str]:
    """Word what has changed between two sets of ingredients, each change by its name.

    Examples
    --------
    >>> old = Ingredients("p/train", "notebook", ["t.ipynb"], [Part("cell 1", "a")], {"rows": 10}, {}, "e")
    >>> new = Ingredients("p/train", "notebook", ["t.ipynb"], [Part("cell 1", "b")], {"rows": 20}, {}, "e")
    >>> differences(old, new)
    ['changed source: cell 1', 'changed parameter rows: 10 -> 20']
    """
    found = []
    if (old.kind, list(old.target)) != (new.kind, list(new.target)):
        found.append(f"changed step: {_told_words(old.target)} -> {_told_words(new.target)}")
    if changed := _changed_parts(old.source, new.source):
        found.append(f"changed source: {listed(changed)}")
    for name in dict.fromkeys([*old.parameters, *new.parameters]):
        one, other = old.parameters.get(name, _NOTHING), new.parameters.get(name, _NOTHING)
        if one is not other and sha(one) != sha(other):
            found.append(f"changed parameter {name}: {_short(one)} -> {_short(other)}")
    inputs = dict.fromkeys([*old.inputs, *new.inputs])
    if changed := [name for name in inputs if old.inputs.get(name) != new.inputs.get(name)]:
        found.append(f"changed input: {listed([name.removeprefix('file ') for name in changed])}")
    if old.environment != new.environment:
        found.append("changed environment")
    return found


def _changed_parts(old: Sequence[Part], new: Sequence[Part]) -> list[str]:
    """Name the parts that are not as before; a cell counts by its text, wherever it stands now."""
    before = {part.digest for part in old}
    after = {part.digest for part in new}
    changed = [part.name for part in new if part.digest not in before]
    gone = [part.name for part in old if part.digest not in after and part.name not in changed]
    if changed or gone:
        return changed + [f"{name} is gone" for name in gone if not _is_replaced(name, changed)]
    in_order = [part.digest for part in old] == [part.digest for part in new]
    return [] if in_order else ["the order of its cells"]


def _is_replaced(name: str, changed: Sequence[str]) -> bool:
    """Tell whether a lost cell needs no word, as others that changed stand for it."""
    return name.startswith("cell ") and any(each.startswith("cell ") for each in changed)


def _told_words(words: Sequence[str]) -> str:
    return _short(" ".join(words))


def _short(value: Any) -> str:
    text = "nothing" if value is _NOTHING else as_text(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def listed(names: Sequence[str]) -> str:
    """Join names: ``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def sha(value: Any) -> str:
    """Give the SHA-256 of a JSON-like value, whatever the order of its keys."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


_NOTHING = object()
