"""What was counted of one variant: as one worker counted it, summed over workers, or between two readings."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from nbmlops.serving.bins import LATENCY_LOW_S, PER_DECADE, latency_edge_s, nearest_edge


@dataclass(frozen=True)
class Window:
    """What was counted of one variant: since its worker began, or between two readings.

    `n_errors` are requests that we or the model failed, `n_refused` those that were the
    caller's fault; the latter count as nothing else. `latencies` and `numbers` map a bin to
    its count, `labels` a predicted label, `others` the hash of one; what was not seen has no entry.
    `n_compared`, `n_differing` and `difference_sum` (of absolute differences) tell of answers
    of a shadow held against those of the champion.
    """

    n_requests: int = 0
    n_rows: int = 0
    n_errors: int = 0
    n_refused: int = 0
    n_in_flight: int = 0
    latency_sum_s: float = 0.0
    n_compared: int = 0
    n_differing: int = 0
    difference_sum: float = 0.0
    latencies: Mapping[int, int] = field(default_factory=dict)
    numbers: Mapping[int, int] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)
    others: Mapping[int, int] = field(default_factory=dict)

    def plus(self, other: "Window") -> "Window":
        """Add two windows, of two workers or of two spans.

        Examples
        --------
        >>> Window(n_requests=2, labels={"late": 2}).plus(Window(n_requests=1, labels={"early": 1})).labels
        {'early': 1, 'late': 2}
        """
        return self._joined(other, 1)

    def minus(self, before: "Window") -> "Window":
        """Give what was counted since an earlier reading; all of it where counting has begun anew meanwhile.

        `n_in_flight` is no count: it stays as it is.

        Examples
        --------
        >>> Window(n_requests=5, labels={"late": 5}).minus(Window(n_requests=2, labels={"late": 2}))
        Window(n_requests=3, ..., labels={'late': 3}, others={})
        """
        if before.n_requests > self.n_requests or before.n_refused > self.n_refused:
            return self
        return self._joined(before, -1)

    def quantile_s(self, share: float) -> float:
        """Give the latency, in seconds, that a share of the requests (0 to 1) did not exceed; NaN without any.

        The middle of its bin by proportion: within 1.3 %.

        Examples
        --------
        >>> from nbmlops.serving.bins import latency_bin
        >>> round(Window(latencies={latency_bin(0.05): 99, latency_bin(0.2): 1}).quantile_s(0.5), 2)
        0.05
        """
        n = sum(self.latencies.values())
        return self.slowest_s(n - max(math.ceil(share * n), 1)) if n else math.nan

    def slowest_s(self, n_slower: int) -> float:
        """Give the latency, in seconds, that this many requests exceed; NaN where there are no more than that."""
        left = n_slower
        for place, count in sorted(self.latencies.items(), reverse=True):
            left -= count
            if left < 0:
                return latency_edge_s(place) * 10 ** (0.5 / PER_DECADE) if place else LATENCY_LOW_S
        return math.nan

    def n_slower(self, limit_s: float) -> int:
        """Count requests slower than a limit in seconds, moved to a bin's nearest edge (by 1.3 % at most).

        Examples
        --------
        >>> from nbmlops.serving.bins import latency_bin
        >>> Window(latencies={latency_bin(0.049): 99, latency_bin(0.051): 1}).n_slower(0.05)
        1
        """
        if not limit_s > 0:
            return sum(self.latencies.values())
        edge = nearest_edge(limit_s)
        return sum(count for place, count in self.latencies.items() if place >= edge)

    def record(self) -> dict[str, Any]:
        """Give it as JSON has it, without what is zero or empty."""
        given = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: _keyed_by_text(value) for name, value in given.items() if value}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Window":
        """Read what `record` gave.

        Examples
        --------
        >>> window = Window(n_requests=1, latencies={7: 1}, labels={"late": 1})
        >>> Window.of(window.record()) == window
        True
        """
        given: dict[str, Any] = dict(record)
        for name in _BY_NUMBER:
            given[name] = {int(key): count for key, count in record.get(name, {}).items()}
        return cls(**given)

    def _joined(self, other: "Window", sign: int) -> "Window":
        counts = {
            one.name: _sum(getattr(self, one.name), getattr(other, one.name), sign)
            for one in fields(self)
            if one.name != "n_in_flight"
        }
        return Window(**counts, n_in_flight=self.n_in_flight + (other.n_in_flight if sign > 0 else 0))


_BY_NUMBER = ("latencies", "numbers", "others")


def _sum(ours: Any, theirs: Any, sign: int) -> Any:
    if not isinstance(ours, Mapping):
        return ours + sign * theirs
    summed = {key: ours.get(key, 0) + sign * theirs.get(key, 0) for key in sorted({*ours, *theirs})}
    return {key: count for key, count in summed.items() if count > 0}


def _keyed_by_text(value: Any) -> Any:
    return {str(key): count for key, count in value.items()} if isinstance(value, Mapping) else value


def minus(now: Mapping[str, Window], before: Mapping[str, Window]) -> dict[str, Window]:
    """Give what was counted between two readings, by variant.

    Examples
    --------
    >>> counted = minus({"3": Window(n_requests=5), "4": Window(n_requests=1)}, {"3": Window(n_requests=2)})
    >>> {label: window.n_requests for label, window in counted.items()}
    {'3': 3, '4': 1}
    """
    return {label: window.minus(before.get(label, Window())) for label, window in now.items()}
