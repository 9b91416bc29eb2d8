"""How fast a table's digest is, beside pandas' own hash of its rows."""

import functools
import time
from typing import TYPE_CHECKING

from contest import Bench, Figures

if TYPE_CHECKING:
    import pandas as pd

N_ROWS = 1_000_000


@functools.cache
def frame() -> "pd.DataFrame":
    """Make a table of 20 columns: 12 real, 5 whole, 2 of words, one of times."""
    import numpy as np
    import pandas as pd

    draw = np.random.default_rng(1)
    columns = {f"real{i}": draw.random(N_ROWS) for i in range(12)}
    columns |= {f"whole{i}": draw.integers(0, 1000, N_ROWS) for i in range(5)}
    columns |= {name: draw.choice(["AA", "DL", "UA", "WN"], N_ROWS) for name in ("carrier", "partner")}
    return pd.DataFrame({**columns, "at": pd.date_range("2013-01-01", periods=N_ROWS, freq="s")})


def ours() -> Figures:
    """Digest the table."""
    from nbmlops.data.fingerprint import digest

    table = frame()
    started = time.perf_counter()
    digest(table)
    return {"ms": (time.perf_counter() - started) * 1000}


def pandas() -> Figures:
    """Hash its rows."""
    from pandas.util import hash_pandas_object

    table = frame()
    started = time.perf_counter()
    hash_pandas_object(table)
    return {"ms": (time.perf_counter() - started) * 1000}


BENCHES = (
    Bench(
        "the digest of 1,000,000 rows and 20 columns",
        ours=ours,
        peers={"`pandas.util.hash_pandas_object`": pandas},
        promise="well under a second",
    ),
)
