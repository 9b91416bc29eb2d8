"""A model whose mood is in its rows: it does what the column ``x`` says, and else gives ``x + shift``."""

import os
import time
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin

DIES, RAISES, HANGS, SLEEPS = -1.0, -2.0, -3.0, -4.0


class Moody(RegressorMixin, BaseEstimator):
    def __init__(self, shift: float = 0.0, pause_s: float = 0.0, raises: bool = False) -> None:
        self.shift = shift
        self.pause_s = pause_s
        self.raises = raises

    def fit(self, x: Any, y: Any) -> "Moody":
        self.fitted_ = True
        return self

    def predict(self, x: Any) -> Any:
        given = np.asarray(x, dtype=float)[:, 0]
        moods = set(given)
        if DIES in moods:
            os._exit(9)
        if RAISES in moods or (self.raises and len(given) == 1):  # its input example has two rows
            raise RuntimeError("not today")
        if HANGS in moods:
            time.sleep(600)
        time.sleep(self.pause_s + (0.3 if SLEEPS in moods else 0.0))
        return given + self.shift
