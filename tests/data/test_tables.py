"""A table is read from wherever it is, and what cannot be read is said clearly."""

from pathlib import Path

import pandas as pd
import pytest

from nbmlops.data.tables import ENDINGS, read_table, table_name, write_table
from nbmlops.errors import DataError, NotFoundError, UsageError
from nbmlops.project import Project

FRAME = pd.DataFrame({"n": [1, 2, 3], "x": [0.5, None, 2.5], "name": ["a", "b", None]})


@pytest.fixture
def here(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_a_frame_passes_through_untouched(here: Project) -> None:
    assert read_table(here, FRAME) is FRAME


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_format_round_trips(here: Project, ending: str) -> None:
    path = here.path(f"march{ending}")
    write_table(FRAME, path)
    pd.testing.assert_frame_equal(read_table(here, f"march{ending}"), FRAME)
    pd.testing.assert_frame_equal(read_table(here, str(path)), FRAME)
    assert table_name(str(path)) == "march"


def test_a_missing_file_names_the_nearest(here: Project) -> None:
    write_table(FRAME, here.path("march.csv"))
    with pytest.raises(NotFoundError, match=r"Did you mean march\.csv\?"):
        read_table(here, "marsh.csv")


def test_a_folder_or_a_foreign_ending_or_no_table_is_refused(here: Project) -> None:
    here.path("notes.txt").write_text("hello")
    with pytest.raises(UsageError, match="ending that is not known"):
        read_table(here, "notes.txt")
    with pytest.raises(UsageError, match="ending that is not known"):
        write_table(FRAME, here.path("march.xlsx"))
    with pytest.raises(NotFoundError):
        read_table(here, ".")
    with pytest.raises(UsageError, match="not int"):
        read_table(here, 3)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bad.parquet", b""),
        ("bad.parquet", b"PAR1 and nothing else"),
        ("bad.csv", b""),
        ("bad.csv", b"\xff\xfe\x00a,b"),
        ("bad.csv.gz", b"no gzip"),
        ("bad.csv.gz", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03garbage"),
        ("bad.json", b"[1, 2"),
        ("bad.jsonl", b'{"a": 1}\n{"a": '),
    ],
)
def test_an_unreadable_file_is_a_data_error(here: Project, name: str, content: bytes) -> None:
    here.path(name).write_bytes(content)
    with pytest.raises(DataError, match="cannot be read"):
        read_table(here, name)
