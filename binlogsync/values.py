"""Arrow arrays -> lists of Python values, equal to what `to_pylist` gives and several times as fast.

Arrow makes a Python object of each date, time and label one by one through its scalars; here numbers come as a list at
once, and labels are looked up.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pyarrow as pa

_EPOCH_DAY = date(1970, 1, 1).toordinal()


def python_values(array: pa.Array) -> list[Any]:
    """A Python value for each row, None for NULL; structs are dicts."""
    kind = array.type
    if pa.types.is_struct(kind):
        return _rows(array)
    if pa.types.is_dictionary(kind):
        labels = python_values(array.dictionary)
        return [None if i is None else labels[i] for i in array.indices.to_pylist()]
    if pa.types.is_timestamp(kind) and kind.unit == "us":
        epoch = pa.scalar(0, kind).as_py()
        return [
            None if micros is None else epoch + timedelta(microseconds=micros)
            for micros in array.view(pa.int64()).to_pylist()
        ]
    if pa.types.is_date32(kind):
        days = array.view(pa.int32()).to_pylist()
        return [None if day is None else date.fromordinal(_EPOCH_DAY + day) for day in days]
    if pa.types.is_duration(kind) and kind.unit == "us":
        return [
            None if micros is None else timedelta(microseconds=micros) for micros in array.view(pa.int64()).to_pylist()
        ]
    values: list[Any] = array.to_pylist()
    return values


def _rows(array: pa.StructArray) -> list[dict[str, Any] | None]:
    names = [field.name for field in array.type]
    if not names:
        empty: list[dict[str, Any] | None] = array.to_pylist()
        return empty
    # Only the rows that are there: the children of an image that an operation has not hold zeros.
    there = array.is_valid()
    present = array.filter(there) if array.null_count else array
    columns = [python_values(present.field(k)) for k in range(len(names))]
    rows = [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
    if not array.null_count:
        return [*rows]
    following = iter(rows)
    return [next(following) if is_there else None for is_there in there.to_pylist()]
