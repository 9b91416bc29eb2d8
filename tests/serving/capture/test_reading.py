"""Captured rows as one table: from logs and segments, of a time, on this machine and elsewhere."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nbmlops.errors import StoreError, UsageError
from nbmlops.serving.capture.compaction import compact
from nbmlops.serving.capture.places import Place
from nbmlops.serving.capture.reading import captured, features_of, n_captured
from nbmlops.serving.capture.retention import retain
from nbmlops.serving.capture.segments import segment
from nbmlops.serving.capture.settings import CaptureSettings
from nbmlops.serving.capture.writing import Capture

Add = Callable[..., None]
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def test_an_endpoint_without_captures_has_an_empty_table(place: Place) -> None:
    rows = captured(place)
    assert rows.empty
    assert "nbmlops.at" in rows
    assert n_captured(place) == 0


def test_a_time_is_from_inclusive_to_exclusive_and_newest_last(place: Place, add: Add) -> None:
    for hours in (30, 0, 20, 10):
        add(1, (NOON + timedelta(hours=hours)).timestamp())
    segment(place)
    add(1, (NOON + timedelta(hours=15)).timestamp())
    assert captured(place)["nbmlops.at"].is_monotonic_increasing
    since, until = NOON + timedelta(hours=10), NOON + timedelta(hours=20)
    assert list(captured(place, since, until)["nbmlops.request_id"]) == ["r3", "r4"]
    assert n_captured(place, since) == 4
    with pytest.raises(UsageError, match="no time zone"):
        captured(place, NOON.replace(tzinfo=None))


def test_chosen_columns_come_beside_our_own(place: Place, add: Add) -> None:
    add(1)
    rows = captured(place, columns=["carrier"])
    assert list(features_of(rows)) == ["carrier"]
    assert "nbmlops.prediction" in rows


def test_versions_with_other_features_share_one_table(place: Place) -> None:
    for version, columns in {"1": {"a": [1]}, "2": {"a": ["x"], "b": [2.5]}, "3": {"a": [[1, 2]]}}.items():
        capture = Capture(place.folder)
        capture.add(version, int(version), version, "champion", 0.1, columns, [1])
        capture.close()
        segment(place)
    rows = captured(place)
    assert rows.a.tolist()[:2] == ["1", "x"]
    assert rows.b.fillna(0).tolist() == [0, 2.5, 0]


def test_reading_while_logs_become_segments_and_these_are_merged_never_doubles_or_misses(
    place: Place, add: Add
) -> None:
    add(50, NOON.timestamp())
    ended = threading.Event()
    errors: list[BaseException] = []

    def working() -> None:
        try:
            for _ in range(12):
                add(10, NOON.timestamp())
                segment(place)
                compact(place)
        except BaseException as exc:  # noqa: BLE001  # whatever it is, the test tells it
            errors.append(exc)
        finally:
            ended.set()

    thread = threading.Thread(target=working)
    thread.start()
    counts = []
    while not ended.is_set():
        ids = captured(place, columns=[])["nbmlops.request_id"]
        assert ids.is_unique
        counts.append(len(ids))
    thread.join()
    assert errors == []
    assert counts == sorted(counts)
    assert n_captured(place) == 170


def test_segments_may_lie_at_any_url(tmp_path: Path, add: Add) -> None:
    pytest.importorskip("fsspec")
    for url in ("memory://bucket/capture", (tmp_path / "elsewhere").as_uri()):
        place = Place.of(tmp_path, "delays", url)
        for _ in range(2):
            add(2, NOON.timestamp())
            segment(place)
        assert not place.logs()
        assert len(place.segments.sizes()) == 2
        assert n_captured(place) == 4
        assert compact(place) == 2
        assert captured(place)["nbmlops.request_id"].is_unique
        assert n_captured(place) == 4
        assert retain(place, CaptureSettings(keep_days=1)).files == 1
        assert n_captured(place) == 0
        assert not [path for path in place.open.iterdir() if path.name != ".lock"]


def test_a_store_out_of_reach_loses_nothing(tmp_path: Path, add: Add) -> None:
    pytest.importorskip("fsspec")
    blocked = tmp_path / "blocked"
    blocked.write_text("no folder")
    place = Place.of(tmp_path, "delays", blocked.as_uri())
    add(3, NOON.timestamp())
    with pytest.raises(StoreError, match="out of reach"):
        segment(place)
    blocked.unlink()
    segment(place)
    assert n_captured(place) == 3


def test_a_url_that_needs_a_package_says_so(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    with pytest.raises(UsageError, match="cannot be used"):
        Place.of(tmp_path, "delays", "nosuch://bucket")


def test_a_damaged_segment_is_named(place: Place, add: Add) -> None:
    add(1)
    segment(place)
    (name,) = place.segments.sizes()
    (place.folder / name).write_bytes(b"PAR1 no more")
    with pytest.raises(StoreError, match=name.partition("/")[2]):
        captured(place)


def test_retention_goes_by_size_from_the_oldest_and_leaves_logs_alone(place: Place, add: Add) -> None:
    for days in range(4):
        add(1, (NOON + timedelta(days=days)).timestamp())
    segment(place)
    add(1, (NOON - timedelta(days=400)).timestamp())
    sizes = place.segments.sizes()
    limit = sum(sizes.values()) - 1
    assert retain(place, CaptureSettings(max_bytes=limit)).files == 1
    assert sorted(place.segments.sizes()) == sorted(sizes)[1:]
    assert retain(place, CaptureSettings(max_bytes=1)).files == 3
    assert len(place.logs()) == 1
    assert retain(place, CaptureSettings()).files == 0
