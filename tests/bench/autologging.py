"""What a fit that logs itself makes a cell wait for, beyond the fit, beside MLflow's autologging as it comes."""

import functools

from contest import Bench, Figures
from places import project, told_by

# IPython is there in any notebook, so nobody's fit pays for its import.
SCRIPT = """
import json, time
import IPython
import numpy as np
from sklearn.linear_model import LogisticRegression
X = np.random.default_rng(1).random((200, 4))
y = (X[:, 0] > 0.5).astype(int)
def fit():
    started = time.perf_counter()
    LogisticRegression().fit(X, y)
    return time.perf_counter() - started
fit()
bare = fit()
{on}
first, second = fit() - bare, fit() - bare
print(json.dumps({{"s, first fit": first, "s, second fit": second}}))
"""
OURS = """
import nbmlops
from nbmlops.tracking import autolog
autolog.on(nbmlops.open().project)
"""
MLFLOW = """
import mlflow
mlflow.set_tracking_uri("sqlite:///.nbmlops/mlflow.db")
mlflow.set_experiment("bench")
mlflow.sklearn.autolog()
"""


def fits(on: str) -> Figures:
    """Time fits in a fresh process, once autologging is on."""
    with project() as folder:
        return told_by(SCRIPT.format(on=on), folder)


BENCHES = (
    Bench(
        "a small scikit-learn fit that logs itself, beyond the fit",
        ours=functools.partial(fits, OURS),
        peers={"`mlflow.sklearn.autolog()`": functools.partial(fits, MLFLOW)},
        promise="at most 1/10",
        turns=2,
    ),
)
