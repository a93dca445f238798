"""Arrow arrays as Python values: equal to the result of to_pylist."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from binlogsync.values import python_values
from tests.binlog.captured import NAMES, load

ARRAYS = [
    pa.array([1, None, -3], pa.int64()),
    pa.array(["a", None, ""]),
    pa.array([Decimal("1.20"), None, Decimal("-0.05")], pa.decimal128(5, 2)),
    pa.array(["a", None, "b", "a"]).dictionary_encode(),
    pa.DictionaryArray.from_arrays(pa.array([0, 1, None], pa.int8()), pa.array(["x", None])),
    pa.array([date(1, 1, 1), None, date(9999, 12, 31)], pa.date32()),
    pa.array([datetime(1, 1, 1), None, datetime(9999, 12, 31, 23, 59, 59, 999999)], pa.timestamp("us")),
    pa.array([datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), None], pa.timestamp("us", "UTC")),
    pa.array([timedelta(hours=-838, microseconds=-1), None, timedelta(0)], pa.duration("us")),
    pa.array([["a", "b"], None, []], pa.list_(pa.string())),
    pa.array([True, None, False]),
    pa.nulls(3, pa.struct([])),
]


@pytest.mark.parametrize("array", ARRAYS, ids=[str(array.type) for array in ARRAYS])
def test_values_are_those_of_arrow(array: pa.Array) -> None:
    for start in range(len(array)):
        part = array.slice(start)
        assert python_values(part) == part.to_pylist()
        assert [type(value) for value in python_values(part)] == [type(value) for value in part.to_pylist()]
        column = pa.StructArray.from_arrays([array], ["c"]).slice(start)
        assert python_values(column) == column.to_pylist()


@pytest.mark.parametrize(
    "array",
    [pa.array([-719_163], pa.int32()).view(pa.date32()), pa.array([2**60]).view(pa.timestamp("us"))],
    ids=["year 0", "year 36,000"],
)
def test_times_outside_the_range_of_python_are_refused(array: pa.Array) -> None:
    with pytest.raises((OverflowError, ValueError)):
        python_values(array)


@pytest.mark.parametrize("name", NAMES)
def test_images_are_those_of_arrow(name: str) -> None:
    batches = [batch for decoded_range in load(name).recording.decoded().ranges for batch in decoded_range.batches]
    for data in (batch.data for batch in batches):
        for part in (data, data.slice(1), data.slice(len(data) // 2)):
            for column in part.columns:
                assert python_values(column) == column.to_pylist()


@given(st.lists(st.none() | st.tuples(st.none() | st.integers(-5, 5), st.none() | st.text(max_size=3)), max_size=8))
def test_present_and_absent_rows(rows: list[tuple[int | None, str | None] | None]) -> None:
    kind = pa.struct([("n", pa.int32()), ("t", pa.dictionary(pa.int8(), pa.string()))])
    values = [None if row is None else {"n": row[0], "t": row[1]} for row in rows]
    array = pa.array(values, kind)
    assert python_values(array) == values
    assert python_values(array.slice(1)) == values[1:]
