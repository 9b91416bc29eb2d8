"""What MLflow loads when an address begins with ``nbmlops+``: its stores, with a journal in front."""

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbmlops.tracking.plugin.stores import JournaledStore

opened: "list[JournaledStore]" = []  # those of this process; known here, so that nobody loads MLflow to find none


def close_all(patience_s: float) -> None:
    """Deliver what every store of this process has journaled, in bounded time."""
    for store in opened:
        with contextlib.suppress(Exception):  # nobody is left to raise to, and the others have their turn
            store.outbox.close(patience_s)
