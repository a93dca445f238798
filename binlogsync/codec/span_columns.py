"""Converts columns of JSON values, given as spans of a text, that are not one field (span_fields.py): arrays, objects,
documents, and labels that are not declared.

`read_spans` returns what column_parser.read_column returns for the same values. It raises `UnusualValueError` for a
value in a format that the tail does not write; column_parser.py then decides what it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from binlogsync.binlog.memory import address
from binlogsync.codec.column_parser import read_column
from binlogsync.codec.json_scan import LENGTH
from binlogsync.codec.json_texts import Bytes, validity_bitmap
from binlogsync.codec.span_fields import (
    BINARY_FIELD,
    STRING_FIELD,
    JsonField,
    Spans,
    UnusualValueError,
    integer_field,
    number_field,
    read_field,
)
from binlogsync.codec.span_parts import find_geometries, find_items
from binlogsync.schema import GEOMETRY_TYPES, Column, arrow_type

_GEOMETRY = np.frombuffer(b'{"srid":,"wkb":"', np.uint8)


@dataclass(frozen=True, slots=True)
class SpanColumn:
    """The values of one column: data[starts[i]:][:sizes[i] & LENGTH], NULL if the start is below 0."""

    data: Bytes
    starts: Spans
    sizes: Spans

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def addresses(self) -> tuple[int, int, int, int]:
        """The first arguments of most kernels."""
        return address(self.data), address(self.starts), address(self.sizes), len(self.starts)

    def total(self) -> int:
        """Bytes of all values."""
        return int((self.sizes & LENGTH).sum())

    def select(self, mask: npt.NDArray[np.bool_]) -> SpanColumn:
        """The same with NULL where `mask` is False."""
        return SpanColumn(self.data, np.where(mask, self.starts, np.int32(-1)), self.sizes)

    def read(self, own: JsonField) -> pa.Array:
        """The values as an array; raises UnusualValueError."""
        return read_field(own, self.data, self.starts, self.sizes)


def _require(is_usual: bool) -> None:
    if not is_usual:
        raise UnusualValueError


def strings(values: SpanColumn) -> pa.StringArray:
    """Text without its escapes, or the bytes of numbers."""
    return values.read(STRING_FIELD)


def _items(values: SpanColumn, are_strings: bool) -> tuple[SpanColumn, list[pa.Buffer | None]]:
    """The items of arrays of strings or of numbers, and the buffers of a list array."""
    rows, most = len(values), values.total() // 2 + 1
    offsets, valid = np.empty(rows + 1, np.int32), np.empty(rows, np.uint8)
    starts, sizes = np.empty((2, most), np.int32)
    places = (address(offsets), address(starts), address(sizes), address(valid))
    count = find_items(*values.addresses, *places)
    _require(count >= 0)
    items = SpanColumn(values.data, starts[:count], sizes[:count])
    _require(bool(((values.data[items.starts - 1] == ord('"')) == are_strings).all()))
    return items, [validity_bitmap(valid), pa.py_buffer(offsets)]


def _label_lists(column: Column, values: SpanColumn) -> pa.Array:
    items, buffers = _items(values, are_strings=True)
    return pa.Array.from_buffers(arrow_type(column), len(values), buffers, children=[strings(items)])


def _vectors(column: Column, values: SpanColumn) -> pa.Array:
    items, buffers = _items(values, are_strings=False)
    numbers = items.read(number_field(pa.float32()))
    return pa.Array.from_buffers(arrow_type(column), len(values), buffers, children=[numbers])


def _geometries(column: Column, values: SpanColumn) -> pa.Array:
    rows, valid = len(values), np.empty(len(values), np.uint8)
    spans = np.empty((4, rows), np.int32)
    _require(find_geometries(*values.addresses, address(_GEOMETRY), address(spans), address(valid)) == 0)
    srids = SpanColumn(values.data, spans[0], spans[1]).read(integer_field(pa.uint32()))
    wkbs = SpanColumn(values.data, spans[2], spans[3]).read(BINARY_FIELD)
    return pa.Array.from_buffers(arrow_type(column), rows, [validity_bitmap(valid)], children=[srids, wkbs])


_READERS: dict[str, Callable[[Column, SpanColumn], pa.Array]] = {
    **dict.fromkeys(GEOMETRY_TYPES, _geometries),
    "set": _label_lists,
    "vector": _vectors,
}


def read_spans(column: Column, values: SpanColumn) -> pa.Array:
    """The array of a column that `column_field` leaves. `null` in a JSON document is a value.

    Raises UnusualValueError or an exception of pyarrow.
    """
    if column.type == "enum":
        return read_column(column, strings(values).to_pylist())[0]
    reader = _READERS.get(column.type)
    return strings(values) if reader is None else reader(column, values)
