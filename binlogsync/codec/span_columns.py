"""Converts JSON values, given as spans of a text (span_kernels.py), to the Arrow types of a table, column by column.

`read_spans` returns what column_parser.read_column returns for the same values. It raises `UnusualValueError` for a
value in a format that the tail does not write; column_parser.py then decides what it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from binlogsync.binlog.memory import address
from binlogsync.codec.column_parser import TEMPORAL_TYPES, Spans, parse_times, read_column
from binlogsync.codec.json_scan import ESCAPED, LENGTH, WIDE
from binlogsync.codec.json_texts import Bytes, validity_bitmap
from binlogsync.codec.lookup_tables import BASE64_VALUES, TABLES
from binlogsync.codec.span_kernels import (
    check_numbers,
    read_base64,
    read_booleans,
    read_decimals,
    read_integers,
    read_labels,
    read_strings,
)
from binlogsync.codec.span_parts import find_geometries, find_items
from binlogsync.schema import BINARY_TYPES, GEOMETRY_TYPES, INTEGER_BITS, Column, arrow_type

_WIDEST_DECIMAL, _MOST_LABELS = 18, 200
_GEOMETRY = np.frombuffer(b'{"srid":,"wkb":"', np.uint8)


class UnusualValueError(Exception):
    """A value that the tail does not write in this form."""


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


def _require(is_usual: bool) -> None:
    if not is_usual:
        raise UnusualValueError


def integers(values: SpanColumn, kind: pa.DataType) -> pa.Array:
    """Any Arrow integer type."""
    rows, width = len(values), kind.bit_width // 8
    numbers, valid = np.empty(rows * width, np.uint8), np.empty(rows, np.uint8)
    is_signed = int(pa.types.is_signed_integer(kind))
    _require(read_integers(*values.addresses, width, is_signed, address(numbers), address(valid)) == 0)
    return pa.Array.from_buffers(kind, rows, [validity_bitmap(valid), pa.py_buffer(numbers)])


def strings(values: SpanColumn) -> pa.StringArray:
    """Text without its escapes, or the bytes of numbers."""
    rows = len(values)
    offsets, valid = np.empty(rows + 1, np.int32), np.empty(rows, np.uint8)
    out = np.empty(values.total(), np.uint8)
    used, flags = read_strings(*values.addresses, address(offsets), address(out), address(valid))
    _require(used >= 0)
    buffers = [validity_bitmap(valid), pa.py_buffer(offsets), pa.py_buffer(out[:used])]
    array = pa.Array.from_buffers(pa.string(), rows, buffers)
    if flags & (WIDE | ESCAPED):
        try:
            array.validate(full=True)
        except pa.ArrowInvalid:
            raise UnusualValueError from None
    return array


def _integers(column: Column, values: SpanColumn) -> pa.Array:
    return integers(values, arrow_type(column))


def _strings(_: Column, values: SpanColumn) -> pa.Array:
    return strings(values)


def _bits(column: Column, values: SpanColumn) -> pa.Array:
    if column.length != 1:
        return integers(values, arrow_type(column))
    rows = len(values)
    flags, valid = np.empty(rows, np.uint8), np.empty(rows, np.uint8)
    base, starts, _, _ = values.addresses
    _require(read_booleans(base, starts, rows, address(flags), address(valid)) == 0)
    bits = pa.py_buffer(np.packbits(flags, bitorder="little"))
    return pa.Array.from_buffers(pa.bool_(), rows, [validity_bitmap(valid), bits])


def _numbers(column: Column, values: SpanColumn) -> pa.Array:
    return _floats(values, arrow_type(column))


def _floats(values: SpanColumn, kind: pa.DataType) -> pa.Array:
    _require(check_numbers(*values.addresses) == 0)
    return strings(values).cast(kind)


def _decimals(column: Column, values: SpanColumn) -> pa.Array:
    kind = arrow_type(column)
    if kind.precision > _WIDEST_DECIMAL:
        return strings(values).cast(kind)
    rows = len(values)
    numbers, valid = np.empty(2 * rows, np.int64), np.empty(rows, np.uint8)
    wrong = read_decimals(*values.addresses, kind.precision, kind.scale, address(numbers), address(valid))
    _require(wrong == 0)
    return pa.Array.from_buffers(kind, rows, [validity_bitmap(valid), pa.py_buffer(numbers)])


def _binaries(_: Column, values: SpanColumn) -> pa.Array:
    rows = len(values)
    offsets, valid = np.empty(rows + 1, np.int32), np.empty(rows, np.uint8)
    out = np.empty(values.total() * 3 // 4 + 3, np.uint8)
    places = (address(offsets), address(out), address(valid))
    used = read_base64(*values.addresses, *places, address(TABLES) + BASE64_VALUES)
    _require(used >= 0)
    buffers = [validity_bitmap(valid), pa.py_buffer(offsets), pa.py_buffer(out[:used])]
    return pa.Array.from_buffers(pa.binary(), rows, buffers)


def _labels(column: Column, values: SpanColumn) -> pa.Array:
    """Labels are searched in order, so not if there are many; column_parser.py adds undeclared ones."""
    try:
        _require(len(column.labels) <= _MOST_LABELS)
        return labels(values, column.labels, arrow_type(column))
    except UnusualValueError:
        return read_column(column, strings(values).to_pylist())[0]


def labels(values: SpanColumn, names: tuple[str, ...], kind: pa.DictionaryType) -> pa.DictionaryArray:
    """A dictionary of the names."""
    rows, (joined, ends) = len(values), _label_texts(names)
    numbers, valid = np.empty(rows, np.int32), np.empty(rows, np.uint8)
    given = (address(joined), address(ends), len(names), address(numbers), address(valid))
    _require(read_labels(*values.addresses, *given) == 0)
    buffers = [validity_bitmap(valid), pa.py_buffer(numbers.astype(kind.index_type.to_pandas_dtype()))]
    indices = pa.Array.from_buffers(kind.index_type, rows, buffers)
    return pa.DictionaryArray.from_arrays(indices, pa.array(names, pa.string()))


@lru_cache(maxsize=512)
def _label_texts(names: tuple[str, ...]) -> tuple[Bytes, npt.NDArray[np.int64]]:
    """The labels in JSON without quotes, joined, and the offset after each."""
    texts = [msgspec.json.encode(name)[1:-1] for name in names]
    ends = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(text) for text in texts], out=ends[1:])
    return np.frombuffer(b"".join(texts) + b"\0", np.uint8), ends


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
    numbers = _floats(items, pa.float32())
    return pa.Array.from_buffers(arrow_type(column), len(values), buffers, children=[numbers])


def _geometries(column: Column, values: SpanColumn) -> pa.Array:
    rows, valid = len(values), np.empty(len(values), np.uint8)
    spans = np.empty((4, rows), np.int32)
    _require(find_geometries(*values.addresses, address(_GEOMETRY), address(spans), address(valid)) == 0)
    srids = integers(SpanColumn(values.data, spans[0], spans[1]), pa.uint32())
    wkbs = _binaries(column, SpanColumn(values.data, spans[2], spans[3]))
    return pa.Array.from_buffers(arrow_type(column), rows, [validity_bitmap(valid)], children=[srids, wkbs])


_READERS: dict[str, Callable[[Column, SpanColumn], pa.Array]] = {
    **dict.fromkeys((*INTEGER_BITS, "year"), _integers),
    **dict.fromkeys(BINARY_TYPES, _binaries),
    **dict.fromkeys(GEOMETRY_TYPES, _geometries),
    **dict.fromkeys(("float", "double"), _numbers),
    "bit": _bits,
    "decimal": _decimals,
    "enum": _labels,
    "set": _label_lists,
    "vector": _vectors,
}


def read_spans(column: Column, values: SpanColumn) -> tuple[pa.Array, pa.StringArray | None]:
    """(array of schema.arrow_type(column), texts of impossible dates or None). `null` in a JSON document is a value.

    Raises UnusualValueError or an exception of pyarrow.
    """
    if column.type in TEMPORAL_TYPES:
        _require(int(values.sizes.max(initial=0)) <= LENGTH)
        array, impossible = parse_times(column, values.data, values.starts, values.sizes)
        return array, strings(values.select(impossible)) if impossible.any() else None
    return _READERS.get(column.type, _strings)(column, values), None
