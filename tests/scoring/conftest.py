"""Tables for models: figures with gaps, texts with gaps, and what goes wrong in them."""

import numpy as np
import pandas as pd
import pytest


def made_table(seed: int = 0, n_rows: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    distance = rng.lognormal(6, 1, n_rows).round(1)
    distance[rng.random(n_rows) < 0.1] = np.nan
    return pd.DataFrame(
        {
            "distance": distance,
            "wind": rng.normal(10, 5, n_rows).round(2),
            "single": rng.normal(0, 1, n_rows).astype(np.float32),
            "hour": rng.integers(0, 24, n_rows),
            "weekend": rng.random(n_rows) < 0.3,
            "carrier": pd.Series(rng.choice(["AA", "DL", "UA", "WN"], n_rows)),
            "dest": pd.Series(rng.choice(["", "Ä", "JFK", "LAX", "SFO"], n_rows)).where(rng.random(n_rows) > 0.1),
        }
    )


def made_target(table: pd.DataFrame, kind: str) -> np.ndarray:
    rng = np.random.default_rng(7)
    score = table["wind"] / 5 + table["hour"] / 12 + (table["carrier"] == "DL") - table["distance"].isna()
    score = (score + rng.normal(0, 1, len(table))).to_numpy()
    if kind == "value":
        return score
    if kind == "positive":
        return np.exp(score / 3)
    edges = [np.median(score)] if kind == "two" else np.quantile(score, [0.3, 0.6])
    labels = np.array(["early", "late", "never"], dtype=object) if kind == "three" else np.array([3, 8])
    return labels[np.searchsorted(edges, score)]


@pytest.fixture(scope="session")
def table() -> pd.DataFrame:
    return made_table()
