"""nbmlops: one magic from a notebook cell to a guarded, monitored model service that retrains itself.

Importing it loads nothing heavy; MLflow, pandas and the rest load when a verb needs them.
"""

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from nbmlops.surfaces.python import Operations

__version__ = "0.1.0"
Secret = str  # the annotation of a notebook's parameter that takes a reference to a secret


def open(  # noqa: A001  # nbmlops.open() reads as what it does
    folder: "Path | str | None" = None, *, tracking: str = "", ledger: str = ""
) -> "Operations":
    """Open the project around a folder: every verb is then a function of what this returns.

    Parameters
    ----------
    folder
        Where to look for ``nbmlops.toml``, here and upward; the working folder without it.
    tracking, ledger
        Stores to use instead of those that the project is set to.

    Returns
    -------
    Operations
        Its attributes are the verbs.

    Examples
    --------
    >>> import nbmlops
    >>> ops = nbmlops.open()
    >>> ops.drift  # doctest: +ELLIPSIS
    functools.partial(<function drift at ...
    """
    from nbmlops.surfaces.python import Operations

    return Operations(folder, tracking=tracking, ledger=ledger)


def log(metrics: Mapping[str, float] | None = None, *, step: int = 0, **more: float) -> None:
    """Log metrics to the active run, in microseconds: they are in the journal when this returns.

    Parameters
    ----------
    metrics
        Metrics by name: real numbers, numpy's included, NaN and infinities too.
    step
        Step of the metrics, counted from 0.
    **more
        Metrics as keywords.

    Raises
    ------
    ConflictError
        No run is active.
    UsageError
        A value is no number, or MLflow does not allow a name.
    StoreError
        The journal cannot be written.

    Examples
    --------
    >>> ops = getfixture("ops")
    >>> run = ops.track("baseline")
    >>> import nbmlops
    >>> nbmlops.log(auc=0.81, step=1)
    >>> ops.end().metrics
    {'auc': 0.81}
    """
    _log_metrics()(more if metrics is None else {**metrics, **more}, step)


@functools.cache
def _log_metrics() -> "Callable[[Mapping[str, float], int], None]":
    from nbmlops.tracking.log import log_metrics

    return log_metrics


def load_ipython_extension(shell: Any) -> None:
    """Give a running IPython the magic ``%mlops``."""
    from nbmlops.surfaces.magic import register

    register(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Take the magic back."""
    from nbmlops.surfaces.magic import unregister

    unregister(shell)


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "nbmlops.surfaces.server"}]
