"""Converts Python values from a JSON decoder, one column at a time, to the Arrow types of a table.

`read_column` takes a list with one value or None per row. It returns the Arrow array and, for temporal columns, the
texts of impossible dates, which Arrow cannot represent (None if there are none). A value in a format that the tail does
not write raises WireError.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from binlogsync.binlog.compiling import inner, kernel
from binlogsync.binlog.kernel_types import int64, intp, uint8, uint64
from binlogsync.binlog.memory import address, load_i32, load_u8, store_i64, store_u8
from binlogsync.codec.json_texts import Bytes, text_values, validity, validity_bitmap
from binlogsync.errors import WireError
from binlogsync.schema import BINARY_TYPES, GEOMETRY_TYPES, Column, arrow_type

Values = Sequence[Any]
Spans = npt.NDArray[np.int32]
BooleanMask = npt.NDArray[np.bool_]
TEMPORAL_TYPES = frozenset({"date", "datetime", "timestamp", "time"})
RAW_TYPES = frozenset({"float", "double", "vector", "json"})
"""Types read from their JSON text, not from a decoded value, to preserve the digits and the blanks."""


@inner
def _number(data: intp, start: int64, stop: int64) -> int64:
    """A number of digits only; -1 for any other text."""
    value = 0
    for k in range(start, stop):
        if load_u8(data + k) < 48 or load_u8(data + k) > 57:
            return -1
        value = value * 10 + (load_u8(data + k) - 48)
    return value if stop > start else -1


@inner
def _pair(at: intp) -> int64:
    """The number of two digits; far below 0 for other text."""
    tens, ones = uint64(load_u8(at)) - uint64(48), uint64(load_u8(at + 1)) - uint64(48)
    return int64(tens * uint64(10) + ones) if tens <= uint64(9) and ones <= uint64(9) else -(10**6)


@inner
def _day(data: intp, at: int64) -> int64:
    """Days since 1970 of the ten bytes YYYY-MM-DD, or a value below any date when the date is impossible."""
    none = -(2**62)
    year, month, day = 100 * _pair(data + at) + _pair(data + at + 2), _pair(data + at + 5), _pair(data + at + 8)
    if load_u8(data + at + 4) != 45 or load_u8(data + at + 7) != 45 or year < 1 or month < 1 or month > 12 or day < 1:
        return none
    is_leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    longest = 30 + ((month + (month >> 3)) & 1) if month != 2 else (29 if is_leap else 28)
    if day > longest:
        return none
    shifted = year - 1 if month <= 2 else year
    era = shifted // 400
    year_of_era = shifted - era * 400
    day_of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    return era * 146097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719468


@inner
def _clock(data: intp, at: int64, stop: int64, hour_digits: int64) -> int64:
    """Microseconds of HH:MM:SS with a fraction of 0 to 6 digits, or -1."""
    colon = at + hour_digits
    if stop < colon + 6 or load_u8(data + colon) != 58 or load_u8(data + colon + 3) != 58:
        return -1
    hours = _pair(data + at) if hour_digits == 2 else _number(data, at, colon)
    minutes, seconds = _pair(data + colon + 1), _pair(data + colon + 4)
    if hours < 0 or minutes < 0 or minutes > 59 or seconds < 0 or seconds > 59:
        return -1
    micros, digits = 0, stop - colon - 7
    if stop > colon + 6:
        if load_u8(data + colon + 6) != 46 or digits > 6:
            return -1
        micros = _number(data, colon + 7, stop)
        if micros < 0:
            return -1
        for _ in range(digits, 6):
            micros *= 10
    return ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + micros


@kernel
def _parse_times(data: intp, starts: intp, sizes: intp, rows: int64, kind: int64, values: intp, good: intp) -> None:
    """Parse texts; `kind` is 0 for days, 1 for microseconds since 1970, 2 for the same with Z, 3 for a duration. A
    start below 0 is NULL.
    """
    for i in range(rows):
        store_i64(values + 8 * i, 0)
        store_u8(good + i, uint8(0))
        start = int64(load_i32(starts + 4 * i))
        stop = start + load_i32(sizes + 4 * i)
        if start < 0:
            continue
        if kind == 3:
            is_negative = stop > start and load_u8(data + start) == 45
            start += 1 if is_negative else 0
            clock = _clock(data, start, stop, 3 if stop - start > 8 and load_u8(data + start + 3) == 58 else 2)
            store_i64(values + 8 * i, -clock if is_negative else clock)
            store_u8(good + i, uint8(1 if clock >= 0 else 0))
            continue
        if stop - start < 10:
            continue
        day = _day(data, start)
        if day < -(2**61):
            continue
        if kind == 0:
            store_i64(values + 8 * i, day)
            store_u8(good + i, uint8(1 if stop - start == 10 else 0))
            continue
        if kind == 2:
            stop -= 1
            if load_u8(data + stop) != 90:
                continue
        if stop - start < 19 or load_u8(data + start + 10) != 84:
            continue
        clock = _clock(data, start + 11, stop, 2)
        if 0 <= clock < 86_400_000_000:
            store_i64(values + 8 * i, day * 86_400_000_000 + clock)
            store_u8(good + i, uint8(1))


def parse_times(column: Column, data: Bytes, starts: Spans, sizes: Spans) -> tuple[pa.Array, BooleanMask]:
    """(array of a temporal column, with NULL for an impossible date; mask of the impossible dates). The texts are
    data[starts[i]:][:sizes[i]], NULL if the start is below 0.
    """
    rows = len(starts)
    numbers, good = np.empty(rows, np.int64), np.empty(rows, np.bool_)
    kind = ("date", "datetime", "timestamp", "time").index(column.type)
    given = (address(data), address(starts), address(sizes), rows)
    _parse_times(*given, kind, address(numbers), address(good))
    buffers = [validity_bitmap(good), pa.py_buffer(numbers.astype(np.int32) if kind == 0 else numbers)]
    return pa.Array.from_buffers(arrow_type(column), rows, buffers), (starts >= 0) & ~good


def _read_times(column: Column, values: Values) -> tuple[pa.Array, pa.StringArray | None]:
    texts = pa.array(values, pa.string())
    data, offsets = text_values(texts)
    starts = np.where(validity(texts) == 1, offsets[: len(texts)], np.int32(-1)).astype(np.int32)
    array, impossible = parse_times(column, data, starts, np.diff(offsets))
    if not impossible.any():
        return array, None
    return array, pc.if_else(pa.array(impossible), texts, pa.scalar(None, pa.string()))


def _read_decimals(column: Column, values: Values) -> pa.Array:
    return pa.array(values, pa.string()).cast(arrow_type(column))


def _read_base64(column: Column, values: Values) -> pa.Array:
    decode = binascii.a2b_base64
    return pa.array([None if value is None else decode(value, strict_mode=True) for value in values], pa.binary())


def _read_labels(column: Column, values: Values) -> pa.Array:
    """The dictionary has the labels of the column, then undeclared ones (MySQL's empty string for invalid values)."""
    numbers = {label: i for i, label in enumerate(column.labels)}
    for value in set(values):
        if value is not None:
            numbers.setdefault(value, len(numbers))
    indices = pa.array([None if value is None else numbers[value] for value in values], arrow_type(column).index_type)
    return pa.DictionaryArray.from_arrays(indices, pa.array(list(numbers), pa.string()))


def _read_raw_numbers(column: Column, values: Values) -> pa.Array:
    return (
        pa.array([None if value == b"null" else value for value in values], pa.binary())
        .cast(pa.string())
        .cast(arrow_type(column))
    )


def _read_vectors(column: Column, values: Values) -> pa.Array:
    """Convert each number from its digits to float32 directly: a conversion through float64 would round twice."""
    numbers: list[bytes] = []
    offsets: list[int | None] = []
    for value in values:
        is_null = value is None or value == b"null"
        offsets.append(None if is_null else len(numbers))
        if is_null:
            continue
        if not value.startswith(b"[") or not value.endswith(b"]"):
            raise ValueError(f"{value[:40]!r} is not an array")
        numbers += value[1:-1].split(b",") if len(value) > 2 else ()
    items = pa.array(numbers, pa.binary()).cast(pa.string()).cast(pa.float32())
    return pa.ListArray.from_arrays(pa.array([*offsets, len(numbers)], pa.int32()), items)


def _read_geometries(column: Column, values: Values) -> pa.Array:
    parts = [
        None if value is None else {"srid": value["srid"], "wkb": binascii.a2b_base64(value["wkb"], strict_mode=True)}
        for value in values
    ]
    return pa.array(parts, arrow_type(column))


def _read_documents(column: Column, values: Values) -> pa.Array:
    return pa.array(values, pa.binary()).cast(pa.string())


_READERS: dict[str, Callable[[Column, Values], pa.Array]] = {
    **dict.fromkeys(BINARY_TYPES, _read_base64),
    **dict.fromkeys(GEOMETRY_TYPES, _read_geometries),
    **dict.fromkeys(("float", "double"), _read_raw_numbers),
    "decimal": _read_decimals,
    "enum": _read_labels,
    "vector": _read_vectors,
    "json": _read_documents,
}


def read_column(column: Column, values: Values) -> tuple[pa.Array, pa.StringArray | None]:
    """(array of schema.arrow_type(column), texts of impossible dates or None).

    Values are str, int, bool, list[str], the dict of a geometry, or None. Values of RAW_TYPES are the bytes of the JSON
    text; None is NULL, and b"null" is NULL too, except for JSON documents, where it is the JSON value null.
    """
    try:
        if column.type in TEMPORAL_TYPES:
            return _read_times(column, values)
        reader = _READERS.get(column.type)
        return (pa.array(values, arrow_type(column)) if reader is None else reader(column, values)), None
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise WireError(f"column {column.name}: a value does not fit {column.declaration}: {error}") from error
