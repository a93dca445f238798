"""Arrow arrays -> lists of Python values, equal to what `to_pylist` gives and several times as fast.

Arrow makes a Python object of each date, time, label and decimal one by one through its scalars; here numbers, dates
and times come as a list at once, labels are looked up, and decimals are read from their text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from itertools import count, islice
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

T = TypeVar("T")
_FEW = 8
"""Arrow's own conversion of so few values is faster."""
_NOT_A_TIME = -(2**63)
"""NumPy's NaT, which it gives as None."""


def python_values(array: pa.Array) -> list[Any]:
    """A Python value for each row, None for NULL; structs are dicts."""
    kind = array.type
    if pa.types.is_struct(kind):
        return _rows(array)
    if len(array) <= _FEW:
        few: list[Any] = array.to_pylist()
        return few
    if pa.types.is_dictionary(kind):
        labels = python_values(array.dictionary)
        return [None if i is None else labels[i] for i in array.indices.to_pylist()]
    if pa.types.is_timestamp(kind) and kind.unit == "us":
        if kind.tz is None:
            return _times(_in_calendar(array).view(pa.int64()), "datetime64[us]")
        epoch = pa.scalar(0, kind).as_py()
        since = _times(array.view(pa.int64()), "timedelta64[us]")
        return [None if time is None else epoch + time for time in since]
    if pa.types.is_date32(kind):
        return _times(_in_calendar(array).view(pa.int32()).cast(pa.int64()), "datetime64[D]")
    if pa.types.is_duration(kind) and kind.unit == "us":
        return _times(array.view(pa.int64()), "timedelta64[us]")
    if pa.types.is_decimal(kind):
        return [None if text is None else Decimal(text) for text in array.cast(pa.string()).to_pylist()]
    values: list[Any] = array.to_pylist()
    return values


def _in_calendar(array: pa.Array) -> pa.Array:
    """The same; raises OverflowError for years that Python has not, which NumPy would give as a bare number."""
    found = pc.min_max(array)
    for name in ("min", "max"):
        found[name].as_py()
    return array


def _times(numbers: pa.Int64Array, unit: str) -> list[Any]:
    """Numbers of that unit of NumPy as Python's dates and times."""
    plain = numbers.fill_null(_NOT_A_TIME) if numbers.null_count else numbers
    values: list[Any] = plain.to_numpy().view(unit).tolist()
    return values


def present_columns(array: pa.StructArray) -> Mapping[str, list[Any]]:
    """The values of each field, of the rows that are there."""
    # Only those: the children of an image that an operation has not hold zeros.
    there = array
    if array.null_count:
        there = array.filter(array.is_valid()) if array.null_count < len(array) else array.slice(0, 0)
    return {field.name: python_values(there.field(i)) for i, field in enumerate(array.type)}


def spread(array: pa.Array, present: Iterator[T]) -> Iterator[T | None]:
    """What was made of the rows that are there, and None between for those that are not."""
    if not array.null_count:
        return present
    return (next(present) if is_there else None for is_there in array.is_valid().to_pylist())


def _rows(array: pa.StructArray) -> list[dict[str, Any] | None]:
    return list(islice(spread(array, as_dicts(present_columns(array))), len(array)))


def as_dicts(columns: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """A dict for each row; without a column any number of empty ones."""
    if not columns:
        return ({} for _ in count())
    names = list(columns)
    return (dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True))
