"""Which variant answers a request: at random by weight, or the same one for the same key."""

import math
import random
from collections.abc import Mapping
from hashlib import blake2b

from nbmlops.errors import UsageError

_MASK = (1 << 64) - 1
_TO_UNIT = 2.0**-64


class Router:
    """Chooses among variants by their weights.

    Without a key, each request is drawn anew. With one, each variant draws a number in
    (0, 1) from a hash of key and label, and the one with the smallest ``-ln(u) / weight``
    answers: shares are the weights', and the same key finds the same variant in
    every worker. When one weight grows against all others, keys move to that variant and
    between no others; of two variants, that is always so.

    Parameters
    ----------
    weights
        By label; in any unit. A variant of weight 0 (a shadow) is never chosen.

    Raises
    ------
    UsageError
        A weight is negative or not finite, or none is above 0.

    References
    ----------
    Thaler, D., Ravishankar, C. (1998). Using name-based mappings to increase hit rates;
    with weights: Schindelhauer, C., Schomaker, G. (2005). Weighted distributed hash tables.

    Examples
    --------
    >>> router = Router({"2": 90, "3": 10})
    >>> [router.choose(b"customer-%d" % number) for number in range(4)]
    ['2', '2', '2', '3']
    >>> Router({"2": 100, "3": 0}).choose()
    '2'
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        for label, weight in weights.items():
            if not 0 <= weight < math.inf:
                raise UsageError(f"The weight of {label} must be a number from 0 on, not {weight}.")
        live = sorted((label, float(weight)) for label, weight in weights.items() if weight > 0)
        if not live:
            raise UsageError("No variant has a weight above 0, so none could answer.")
        total = sum(weight for _, weight in live)
        so_far = [sum(weight for _, weight in live[: place + 1]) / total for place in range(len(live))]
        self._last = live[-1][0]
        self._bounds = [(bound, label) for bound, (label, _) in zip(so_far[:-1], live[:-1], strict=True)]
        self._draws = [(_factor(label), weight, label) for label, weight in live]

    def choose(self, key: bytes | None = None) -> str:
        """Choose the variant of one request, in about a microsecond.

        Parameters
        ----------
        key
            Of a customer or a session, say; requests with the same key get the same variant
            while the weights stay.
        """
        if key is not None and self._bounds:
            return self._of_key(key)
        drawn = random.random()  # noqa: S311 (no secret)
        for bound, label in self._bounds:
            if drawn < bound:
                return label
        return self._last

    def _of_key(self, key: bytes) -> str:
        hashed = int.from_bytes(blake2b(key, digest_size=8).digest())
        lowest, chosen = math.inf, self._last
        for factor, weight, label in self._draws:
            score = -math.log(((hashed * factor & _MASK) + 1) * _TO_UNIT) / weight
            if score < lowest:
                lowest, chosen = score, label
        return chosen


def _factor(label: str) -> int:
    """Give a variant's own odd factor: products with different ones are as good as independent draws."""
    return int.from_bytes(blake2b(label.encode(), digest_size=8).digest()) | 1
