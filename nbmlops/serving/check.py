"""One finding of a preflight; apart from the other nouns, since servers know it and load as little as they can."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One thing that was looked at before a version went live: `status` is ``ok``, ``warn`` or ``fail``."""

    name: str
    status: str
    what: str
