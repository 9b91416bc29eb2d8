"""Equal tables have equal digests, however and wherever they are stored; any change shows."""

import datetime as dt
import decimal
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nbmlops.data.fingerprint import digest
from nbmlops.errors import DataError

MAKE = """
import pandas as pd
table = pd.DataFrame({
    "n": [3, 1, 2], "x": [0.5, None, float("inf")], "name": ["é", None, ""], "flag": [True, False, True],
    "kind": pd.Categorical(["b", "a", "b"]), "at": pd.date_range("2013-01-31", periods=3, tz="America/New_York"),
    "tags": [["a"], [], None], "codes": pd.array([1, None, 3], dtype="Int64"), "mixed": [1, "1", {"x", "y", "z"}],
}, index=pd.Index(["r", "s", "t"], name="row"))
"""
DAY, STEP = pd.Timestamp("2013-01-31"), pd.Timedelta("1500ms")
CELLS: dict[str, Any] = {
    "integer": st.integers(-(2**63), 2**63 - 1),
    "real": st.floats(width=64),
    "text": st.one_of(st.none(), st.text(max_size=5)),
    "truth": st.booleans(),
    "instant": st.datetimes(pd.Timestamp("1700").to_pydatetime(), pd.Timestamp("2200").to_pydatetime()),
}
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    n_rows = draw(st.integers(1, 6))
    kinds = draw(st.lists(st.sampled_from(sorted(CELLS)), min_size=1, max_size=4))
    columns = {
        f"{kind}{i}": draw(st.lists(CELLS[kind], min_size=n_rows, max_size=n_rows)) for i, kind in enumerate(kinds)
    }
    return pd.DataFrame(columns)


def made() -> pd.DataFrame:
    names: dict[str, Any] = {}
    exec(MAKE, names)
    return pd.DataFrame(names["table"])


@given(tables())
@quick
def test_a_copy_and_a_round_trip_through_parquet_keep_the_digest(tmp_path: Path, table: pd.DataFrame) -> None:
    table.to_parquet(tmp_path / "table.parquet")
    assert digest(table) == digest(table.copy()) == digest(pd.read_parquet(tmp_path / "table.parquet"))


@given(tables(), st.data())
@quick
def test_one_other_cell_gives_another_digest(table: pd.DataFrame, data: st.DataObject) -> None:
    row, place = data.draw(st.integers(0, len(table) - 1)), data.draw(st.integers(0, table.shape[1] - 1))
    kind = str(table.columns[place]).rstrip("0123456789")
    value = data.draw(CELLS[kind])
    other = table.copy().astype({table.columns[place]: object})
    other.iloc[row, place] = value
    same = value == table.iloc[row, place] or bool(pd.isna(value) and pd.isna(table.iloc[row, place]))
    if kind == "text" and table.iloc[:, place].isna().all() != other.iloc[:, place].isna().all():
        same = False
    other = other.astype({table.columns[place]: table.dtypes.iloc[place]}) if kind != "text" else other
    assert (digest(other) == digest(table)) == same


@given(tables(), st.randoms())
@quick
def test_rows_in_another_order_give_another_digest(table: pd.DataFrame, random: Any) -> None:
    order = random.sample(range(len(table)), len(table))
    shuffled = table.iloc[order].reset_index(drop=True)
    assert (digest(shuffled) == digest(table)) == shuffled.equals(table)


@given(tables(), st.integers(0, 6))
@quick
def test_chunks_and_slices_do_not_matter(table: pd.DataFrame, cut: int) -> None:
    arrow = table.convert_dtypes(dtype_backend="pyarrow")
    parts = pd.concat([arrow.iloc[:cut], arrow.iloc[cut:]])
    longer = pd.concat([table, table], ignore_index=True)
    assert digest(parts) == digest(arrow)
    assert digest(longer.iloc[: len(table)]) == digest(table)


def test_another_process_gives_the_same_digest() -> None:
    code = f"{MAKE}\nfrom nbmlops.data.fingerprint import digest\nprint(digest(table))"
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert out.stdout.strip() == digest(made())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pd.Series([1, 2], dtype="int8"), pd.Series([1, 2], dtype="uint64")),
        (pd.Series([1, None], dtype="Int64"), pd.Series([1, None], dtype="int32[pyarrow]")),
        (pd.Series([0.5, None], dtype="float32"), pd.Series([0.5, None], dtype="Float64")),
        (pd.Series([0.0, -0.0]), pd.Series([-0.0, 0.0])),
        (pd.Series(["a", None], dtype=object), pd.Series(["a", None], dtype="str")),
        (pd.Series(["a", None], dtype="str"), pd.Series(["a", np.nan], dtype="category")),
        (pd.Series([None, None], dtype=object), pd.Series([None, None], dtype="str")),
        (pd.Series([True, False]), pd.Series([True, False], dtype="boolean")),
        (pd.Series(["a", "b"], dtype=pd.CategoricalDtype(["c", "b", "a"])), pd.Series(["a", "b"], dtype="category")),
        (pd.Series([DAY, None], dtype="M8[s]"), pd.Series([DAY, None], dtype="M8[ns]")),
        (pd.Series([-STEP, STEP], dtype="m8[ms]"), pd.Series([-STEP, STEP], dtype="m8[ns]")),
        (pd.Series([0.0, 1.0], dtype="Sparse[float]"), pd.Series([0.0, 1.0])),
        (pd.Series([[1, 2], []], dtype=object), pd.Series([np.array([1, 2]), np.array([], dtype=int)], dtype=object)),
        (pd.Series(["a"], dtype=pd.ArrowDtype(pa.string_view())), pd.Series(["a"])),
    ],
)  # fmt: skip
def test_how_values_are_stored_does_not_matter(one: Any, other: Any) -> None:
    assert digest(one.to_frame("x")) == digest(other.to_frame("x"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([1, 2], [1.0, 2.0]),
        ([1, 0], [True, False]),
        (["1"], [1]),
        (["ab", "c"], ["a", "bc"]),
        (["", "a"], [None, "a"]),
        ([b"a"], ["a"]),
        ([2**64 - 1], [-1]),
        ([dt.date(2013, 1, 31)], [pd.Timestamp("2013-01-31")]),
        ([decimal.Decimal("1.5")], [1.5]),
        ([[1], [2, 3]], [[1, 2], [3]]),
        ([1, "1"], ["1", "1"]),
        ([{"a": 1}], [{"a": 2}]),
        ([dt.time(1)], [dt.time(2)]),
        (["\ud800", "x"], ["\ud801", "x"]),
        ([1j], [2j]),
        ([pd.Period("2013-01", "M")], [pd.Period("2013-02", "M")]),
        ([pd.Timestamp("2013-01-31", tz="UTC")], [pd.Timestamp("2013-01-31")]),
    ],
)
def test_values_of_another_kind_or_size_give_another_digest(one: list[Any], other: list[Any]) -> None:
    first, second = (pd.DataFrame({"x": pd.Series(values, dtype=object)}) for values in (one, other))
    assert digest(first) != digest(second)
    assert digest(first) == digest(pd.DataFrame({"x": pd.Series(one, dtype=object)}))


def test_names_order_and_index_count() -> None:
    table = pd.DataFrame({"a": [1, 2], "b": [3, 4]})
    others = [
        table[["b", "a"]],
        table.rename(columns={"a": "A"}),
        table.set_axis([1, 2]),
        table.rename_axis("row"),
        table.set_index("a"),
        table.set_index(["a", "b"]),
        table.iloc[:0],
        table[[]],
        table.set_axis([0, 1], axis=1),
        table.set_axis(pd.MultiIndex.from_tuples([("a", "x"), ("b", "x")]), axis=1),
        pd.DataFrame(),
    ]
    assert len({digest(each) for each in [table, *others]}) == len(others) + 1
    assert digest(table.set_axis(pd.Index([0, 1], dtype="int64"))) == digest(table)
    twice = pd.DataFrame([[1, 2]], columns=["a", "a"])
    assert digest(twice) != digest(twice.set_axis(["a", "b"], axis=1))


def test_the_digest_is_kept_for_years() -> None:
    assert digest(made()) == "f1e50c0ba082d9e968e8009c6c26762605bffe4e3aa7e4099a61b54a0e0807f4"


def test_an_object_without_a_value_of_its_own_is_refused() -> None:
    with pytest.raises(DataError, match="says nothing about its value"):
        digest(pd.DataFrame({"model": [object(), 1]}))
