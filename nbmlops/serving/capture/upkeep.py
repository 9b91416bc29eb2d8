"""What is done again and again for an endpoint's captures, in one call."""

from dataclasses import dataclass
from datetime import UTC, datetime

from nbmlops.serving.capture.compaction import compact
from nbmlops.serving.capture.places import Place
from nbmlops.serving.capture.retention import Retired, retain
from nbmlops.serving.capture.segments import Segmented, segment
from nbmlops.serving.capture.settings import CaptureSettings


@dataclass(frozen=True)
class Kept:
    """What was done: logs made segments, segments merged, segments removed."""

    segmented: Segmented
    merged: int
    retired: Retired


def keep_up(place: Place, settings: CaptureSettings, now: datetime | None = None) -> Kept:
    """Make segments of ended logs, merge small ones of past days, and remove what is beyond the limits.

    Raises
    ------
    StoreError
        The place of the segments is out of reach or full; nothing is lost, and the next call begins anew.
    """
    now = now or datetime.now(UTC)
    return Kept(segment(place), compact(place, now.astimezone(UTC).date()), retain(place, settings, now))
