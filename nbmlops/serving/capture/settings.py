"""What an endpoint captures, and how long it is kept. Nouns alone."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from nbmlops.errors import UsageError, nearest

MB = 1024 * 1024


@dataclass(frozen=True)
class CaptureSettings:
    """What of an endpoint's traffic is captured.

    Parameters
    ----------
    rate
        Share of requests that are kept, in [0, 1].
    exclude
        Feature columns that are never written.
    hash
        Feature columns of which only a keyed hash is written.
    keeps_refused
        Whether the bodies of refused requests (status 400 and above) are kept; never with `exclude` or `hash`.
    roll_bytes, roll_s
        Size in bytes and age in seconds at which a worker begins another log.
    max_waiting_bytes
        Memory that records may take while they wait to be written; beyond it they are dropped and counted.
    keep_days, max_bytes
        Age in days and size in bytes of all segments, beyond which the oldest go; None: no limit.

    Examples
    --------
    >>> settings = CaptureSettings.of({"rate": 0.5, "hash": ["email"]})
    >>> settings.filters, settings == CaptureSettings.of(settings.as_json())
    (True, True)
    """

    rate: float = 1.0
    exclude: tuple[str, ...] = ()
    hash: tuple[str, ...] = ()
    keeps_refused: bool = False
    roll_bytes: int = 32 * MB
    roll_s: float = 600.0
    max_waiting_bytes: int = 64 * MB
    keep_days: float | None = None
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises
        ------
        UsageError
            A rate outside of [0, 1], a limit that is not above 0, or a column that is both excluded and hashed.
        """
        if not 0 <= self.rate <= 1:
            raise UsageError(f"The capture's rate is {self.rate:g}.", "A share from 0 to 1, for instance 0.1")
        for name in ("roll_bytes", "roll_s", "max_waiting_bytes", "keep_days", "max_bytes"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"The capture's {name} is {value:g}.", "Give a number above 0.")
        if both := sorted(set(self.exclude) & set(self.hash)):
            raise UsageError(f"The capture both excludes and hashes {', '.join(both)}.", "Name each column once.")

    @property
    def filters(self) -> bool:
        """Whether some columns must not be written as they came."""
        return bool(self.exclude or self.hash)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """Read settings from ``nbmlops.toml`` or JSON.

        Raises
        ------
        UsageError
            A key that does not exist (the hint names the nearest), or a value that cannot be meant.
        """
        known = [each.name for each in fields(cls)]
        if unknown := [key for key in given if key not in known]:
            raise UsageError(f"Capture has no setting {unknown[0]!r}.", nearest(unknown[0], known))
        lists = {key: tuple(given[key]) for key in ("exclude", "hash") if key in given}
        return cls(**{**given, **lists})

    def as_json(self) -> dict[str, Any]:
        """Give what `of` reads again."""
        return asdict(self)
