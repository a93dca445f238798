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
import pyarrow as pa
import pyarrow.compute as pc

from binlogsync.codec.json_texts import text_values, validity
from binlogsync.codec.span_fields import TEMPORAL_TYPES, column_field, read_field
from binlogsync.errors import WireError
from binlogsync.schema import BINARY_TYPES, GEOMETRY_TYPES, Column, arrow_type

Values = Sequence[Any]
RAW_TYPES = frozenset({"float", "double", "vector", "json"})
"""Types read from their JSON text, not from a decoded value, to preserve the digits and the blanks."""


def _read_times(column: Column, values: Values) -> tuple[pa.Array, pa.StringArray | None]:
    texts = pa.array(values, pa.string())
    data, offsets = text_values(texts)
    starts = np.where(validity(texts) == 1, offsets[: len(texts)], np.int32(-1)).astype(np.int32)
    own = column_field(column)
    assert own is not None
    array = read_field(own, data, starts, np.diff(offsets))
    if array.null_count == texts.null_count:
        return array, None
    return array, pc.if_else(array.is_null(), texts, pa.scalar(None, pa.string()))


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
