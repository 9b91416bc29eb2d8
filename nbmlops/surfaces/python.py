"""Verbs as functions: ``nbmlops.open().promote("delays/3")``."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nbmlops.errors import nearest
from nbmlops.project import Project
from nbmlops.verb import load
from nbmlops.vocabulary import VERBS


class Operations:
    """The verbs, bound to one project; ``help(ops.promote)`` tells what each takes."""

    def __init__(self, folder: Path | str | None = None, *, tracking: str = "", ledger: str = "") -> None:
        self.project = Project(folder, surface="python", overrides={"tracking": tracking, "ledger": ledger})

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in VERBS:
            raise AttributeError(f"There is no verb {name!r}. {nearest(name, VERBS)}")
        function = load(name)
        return functools.update_wrapper(functools.partial(function, self.project), function)

    def __dir__(self) -> list[str]:
        return [*VERBS, "project"]

    def __repr__(self) -> str:
        where = self.project.root if self.project.exists else f"no project yet in {self.project.folder}"
        return f"<nbmlops verbs of {where}: {', '.join(VERBS)}>"
