"""What is asked of a variant that is being rolled out: limits of errors, latency, shift and differences. Pure."""

import re
from dataclasses import dataclass

from nbmlops.errors import UsageError, nearest

EXPECTED = "Write limits as err<1%, p99<50ms, shift<0.2 or diff<5%, with commas between them."
_UNITS_S = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}
_NUMBER = r"(\d+(?:\.\d+)?(?:e-?\d+)?)"
_SHARES = ("err", "diff")
_QUANTILE = re.compile(r"p(\d{1,2}(?:\.\d+)?)", re.ASCII)


@dataclass(frozen=True)
class Limit:
    """One limit: of ``err`` and ``diff`` a share in (0, 1), of ``pNN`` seconds, of ``shift`` a stability index."""

    name: str
    limit: float

    @property
    def p_allowed(self) -> float:
        """The share of requests that may break it: of ``p99<50ms`` one in a hundred may be slower than 50 ms.

        Examples
        --------
        >>> Limit("p99", 0.05).p_allowed, Limit("err", 0.02).p_allowed
        (0.01, 0.02)
        """
        return self.limit if self.name in _SHARES else round(1 - self.quantile, 12)

    @property
    def quantile(self) -> float:
        """Of a latency limit, which quantile it bounds, in (0, 1)."""
        return float(self.name.removeprefix("p")) / 100

    @property
    def is_latency(self) -> bool:
        """Whether it bounds a quantile of the latency."""
        return bool(_QUANTILE.fullmatch(self.name))

    def worded(self, value: float) -> str:
        """Word a value of this limit's kind.

        Examples
        --------
        >>> Limit("err", 0.01).worded(0.034), Limit("p99", 0.05).worded(1.25), Limit("shift", 0.2).worded(0.25)
        ('3.4%', '1.25s', '0.25')
        >>> Limit("p99", 0.05).worded(0.0125)
        '12.5ms'
        """
        if self.name in _SHARES:
            return f"{value * 100:.4g}%"
        if self.is_latency:
            return f"{value:.4g}s" if value >= 1 else f"{value * 1000:.4g}ms"
        return f"{value:.4g}"

    def __str__(self) -> str:
        return f"{self.name}<{self.worded(self.limit)}"


@dataclass(frozen=True)
class Slo:
    """Limits that hold all at once; without any, nothing is asked.

    Examples
    --------
    >>> slo = Slo.parse("err < 1%, p99<50ms, shift<0.2")
    >>> str(slo)
    'err<1%,p99<50ms,shift<0.2'
    >>> [limit.limit for limit in slo.limits]
    [0.01, 0.05, 0.2]
    """

    limits: tuple[Limit, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Slo":
        """Read limits as a person writes them.

        Parameters
        ----------
        text
            ``name<value`` with commas between: ``err`` (answers that failed) and ``diff`` (a
            shadow's answers that differ) as ``1%`` or as a share, ``p50`` to ``p99.99`` in ``us``,
            ``ms`` or ``s``, ``shift`` (of what is predicted) as a population stability index.
            Empty text asks for nothing.

        Raises
        ------
        UsageError
            It is written otherwise, a value is out of its range, or a name comes twice.

        Examples
        --------
        >>> Slo.parse("p99<50")
        Traceback (most recent call last):
        nbmlops.errors.UsageError: p99 must be a time with a unit, not '50'.
          Write limits as err<1%, p99<50ms, shift<0.2 or diff<5%, with commas between them.
        """
        limits = tuple(_limit(part.strip()) for part in text.split(",")) if text.strip() else ()
        names = [limit.name for limit in limits]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UsageError(f"{twice[0]} has two limits in {text!r}; one was expected.", EXPECTED)
        return cls(limits)

    def __str__(self) -> str:
        return ",".join(map(str, self.limits))


def _limit(part: str) -> Limit:
    matched = re.fullmatch(r"([\w.]+)\s*<=?\s*(\S.*)", part)
    if not matched:
        raise UsageError(f"{part!r} is no limit: a name, < and a value were expected.", EXPECTED)
    name, value = matched[1].lower(), matched[2].lower().replace(" ", "")
    if name in _SHARES:
        return Limit(name, _share(name, value))
    if name == "shift":
        return Limit(name, _index(value))
    if (quantile := _QUANTILE.fullmatch(name)) and float(quantile[1]) > 0:
        return Limit(f"p{float(quantile[1]):g}", _seconds(name, value))
    raise UsageError(f"There is no limit of {matched[1]!r}.", nearest(name, ["err", "p50", "p99", "shift", "diff"]))


def _share(name: str, text: str) -> float:
    matched = re.fullmatch(_NUMBER + "(%?)", text, re.ASCII)
    share = float(matched[1]) / (100 if matched[2] else 1) if matched else 0.0
    if not 0 < share < 1:
        raise UsageError(f"{name} must be between 0% and 100%, or a share between 0 and 1, not {text!r}.", EXPECTED)
    return share


def _seconds(name: str, text: str) -> float:
    matched = re.fullmatch(_NUMBER + "(us|µs|ms|s)", text)
    if not matched:
        raise UsageError(f"{name} must be a time with a unit, not {text!r}.", EXPECTED)
    seconds = float(matched[1]) * _UNITS_S[matched[2]]
    if not 1e-5 <= seconds <= 100:
        raise UsageError(f"{name} must lie between 10us and 100s, not at {text!r}: no other latencies are told apart.")
    return seconds


def _index(text: str) -> float:
    matched = re.fullmatch(_NUMBER, text, re.ASCII)
    if not matched or not 0 < float(matched[1]) <= 10:
        raise UsageError(f"shift must be a number between 0 and 10, not {text!r}: 0.1 is small, 0.25 large.", EXPECTED)
    return float(matched[1])
