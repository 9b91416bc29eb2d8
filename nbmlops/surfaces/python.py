"""Verbs as functions: ``nbmlops.open().promote("delays/3")``."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbmlops.errors import nearest
from nbmlops.project import Project
from nbmlops.verb import load
from nbmlops.vocabulary import VERBS

if TYPE_CHECKING:
    import pandas as pd

    from nbmlops.tracking.sql import History


class Operations:
    """The verbs, bound to one project; ``help(ops.promote)`` tells what each takes."""

    def __init__(self, folder: Path | str | None = None, *, tracking: str = "", ledger: str = "") -> None:
        self.project = Project(folder, surface="python", overrides={"tracking": tracking, "ledger": ledger})

    def frame(self, where: str = "") -> "pd.DataFrame":
        """Read all runs of the project, as ``mlflow.search_runs`` gives them but faster; `where` is MLflow's filter.

        Examples
        --------
        >>> ops = getfixture("ops")
        >>> _ = ops.track("baseline", parameters={"depth": 3}), ops.end()
        >>> ops.frame()["params.depth"].tolist()
        ['3']
        """
        from nbmlops.tracking.reading import frame

        settings = self.project.settings
        return frame(settings.tracking.value, settings.name.value, where)

    def metric_history(self, run: str, metric: str) -> "History":
        """Read every value that a metric of a run had; `run` is an id, a unique prefix of one, or a name.

        Examples
        --------
        >>> ops = getfixture("ops")
        >>> _ = ops.track("baseline"), ops.log({"loss": 0.5}), ops.log({"loss": 0.25}, step=1), ops.end()
        >>> ops.metric_history("baseline", "loss").values.tolist()
        [0.5, 0.25]
        """
        from nbmlops.tracking.mlflow import Tracking
        from nbmlops.tracking.reading import history

        run_id = run if len(run) == 32 else self.project.open(Tracking).find(run).run_id
        return history(self.project.settings.tracking.value, run_id, metric)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in VERBS:
            raise AttributeError(f"There is no verb {name!r}. {nearest(name, VERBS)}")
        function = load(name)
        return functools.update_wrapper(functools.partial(function, self.project), function)

    def __dir__(self) -> list[str]:
        return [*VERBS, "frame", "metric_history", "project"]

    def __repr__(self) -> str:
        where = self.project.root if self.project.exists else f"no project yet in {self.project.folder}"
        return f"<nbmlops verbs of {where}: {', '.join(VERBS)}>"
