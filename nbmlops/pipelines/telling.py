"""What a notebook tells the headless run that it is part of: the verbs `result` and `skip`."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nbmlops.errors import UsageError
from nbmlops.pipelines import jobs
from nbmlops.pipelines.execution.ended import SkipNotebook
from nbmlops.project import Project
from nbmlops.strict_json import plain
from nbmlops.verb import Result, Values, verb


@dataclass(frozen=True)
class Told(Result):
    """The results that were told; `is_kept` says whether a headless run takes them."""

    results: Mapping[str, Any]
    is_kept: bool

    @property
    def headline(self) -> str:
        """What was told, and to whom."""
        told = ", ".join(f"{name} = {value}" for name, value in self.results.items())
        return told if self.is_kept else f"{told} (not kept: this notebook is not run headlessly)"


@verb
def result(project: Project, values: Values) -> Told:  # noqa: ARG001  # the run that takes them is known by the process
    """Tell results of this notebook to the run or pipeline that it is part of.

    A pipeline's later steps refer to them: ``${train.model_uri}``.

    Parameters
    ----------
    values
        Values by name; in a notebook a value that names a variable means that variable's value.

    Returns
    -------
    Told
        What was told.

    Raises
    ------
    UsageError
        There is nothing to tell, a name is no identifier, or a value cannot be spelled as JSON.

    Examples
    --------
    >>> result(getfixture("project"), {"rows": 3}).results
    {'rows': 3}

    Plain code
    ----------
    import mlflow

    mlflow.log_dict($values, "results.json")
    """
    if not values:
        raise UsageError("There is no result to tell.", "result model_uri=runs:/…/model rows=1000")
    for name, value in values.items():
        if not name.isidentifier():
            raise UsageError(f"{name!r} cannot be a result's name: it is no Python name.")
        if not isinstance(value, str) and str(plain(value)).startswith("<"):
            raise UsageError(
                f"The result {name} is a {type(value).__name__}, which cannot be handed to another process.",
                "Steps exchange numbers, texts and addresses: log the object, and tell where it is.",
            )
    told = {name: plain(value) for name, value in values.items()}
    return Told(told, jobs.tell(told))


@verb
def skip(project: Project, reason: str) -> None:  # noqa: ARG001  # as above
    """Leave out the rest of the notebook, which is then a success.

    Parameters
    ----------
    reason
        Why; the run, its pipeline and the log tell it.

    Returns
    -------
    None
        Never: it ends the cell. A headless run that ends so is SKIPPED, with exit code 0.

    Raises
    ------
    UsageError
        There is no notebook here to skip the rest of.

    Examples
    --------
    >>> skip(getfixture("project"), "no new flights")
    Traceback (most recent call last):
    nbmlops.errors.UsageError: There is no notebook here of which the rest could be left out.
      Use it in a cell: `skip "no new flights"`

    Plain code
    ----------
    raise SystemExit(0)
    """
    ipython = sys.modules.get("IPython")
    if ipython is None or ipython.get_ipython() is None:
        raise UsageError(
            "There is no notebook here of which the rest could be left out.", f'Use it in a cell: `skip "{reason}"`'
        )
    raise SkipNotebook(reason)
