"""Writes one envelope per row, in one kernel, directly to the output buffer.

An envelope is a list of parts. Each part is constant text, followed by the value of a column. A part may belong to an
image; when the image is NULL, the first of its parts writes `null` and the others are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from binlogsync.binlog.compiling import inner, kernel
from binlogsync.binlog.kernel_types import boolean, int8, int64, intp, uint8, uint64
from binlogsync.binlog.memory import (
    address,
    copy,
    load_i16,
    load_i32,
    load_i64,
    load_u8,
    load_u16,
    load_u32,
    load_u64,
    store_i64,
    store_u8,
    store_u64,
)
from binlogsync.codec.json_columns import (
    BOOLEAN,
    DATE,
    DATETIME,
    DECIMAL,
    GEOMETRY,
    INT8,
    INT16,
    INT32,
    LINE,
    NOTHING,
    POINTED,
    STRING,
    TEXT,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    JsonColumn,
    bitmap,
)
from binlogsync.codec.json_kernels import (
    OVERRUN,
    put_base64,
    put_boolean,
    put_datetime,
    put_day,
    put_duration,
    put_line,
    put_null,
    put_number,
    put_pointed,
    put_signed,
    put_string,
)
from binlogsync.codec.json_texts import JsonTexts
from binlogsync.codec.lookup_tables import TABLES

# Fields of a part in the kernel, each a 64-bit number: address and size of its constant; validity bitmap of its image
# (0: no image, or one without NULLs), first bit of that, number of the first part after the image; the fields of
# JsonColumn; address of the part whose value replaces NULLs, or 0.
_CONSTANT, _SIZE, _IMAGE, _IMAGE_BIT, _BEHIND, _CODE, _VALID, _BIT = range(0, 64, 8)
_DATA, _OFFSETS, _A, _B, _INDEX, _LISTS, _INSTEAD = range(64, 120, 8)
_FIELDS = 16
_SRID, _WKB = (uint64(int.from_bytes(text, "little")) for text in (b'{"srid":', b',"wkb":\0'))
_NO_COLUMN = JsonColumn(NOTHING)


@dataclass(frozen=True, slots=True)
class EnvelopePart:
    """Constant text, then the value of a column (None: constant only). `image` is the array of the image to which the
    part belongs, if it may be NULL.
    """

    constant: bytes
    column: JsonColumn | None = None
    image: pa.StructArray | None = None


@inner
def _is_null(valid: intp, bit: intp) -> boolean:
    """True when a bit of a validity bitmap is not set; without a bitmap no value is NULL."""
    return valid != 0 and (load_u8(valid + (bit >> 3)) >> (bit & 7)) & 1 == 0


@inner
def _integer(code: int64, values: intp, row: int64) -> int64:
    """A value of any integer type; uint64 values above the range of int64 keep their bits."""
    if code == INT8:
        return int64(int8(load_u8(values + row)))
    if code == INT16:
        return int64(load_i16(values + 2 * row))
    if code == INT32:
        return int64(load_i32(values + 4 * row))
    if code == UINT8:
        return int64(load_u8(values + row))
    if code == UINT16:
        return int64(load_u16(values + 2 * row))
    if code == UINT32:
        return int64(load_u32(values + 4 * row))
    return load_i64(values + 8 * row)


@inner
def _put_text(code: int64, part: intp, row: int64, at: intp, limit: intp, tables: intp) -> intp:
    """Write a value of variable length; returns -1 when there is no room for it."""
    offsets = load_i64(part + _OFFSETS) + 4 * row
    source = int64(load_i32(offsets))
    size = int64(load_i32(offsets + 4)) - source
    source += load_i64(part + _DATA)
    if at + 6 * size > limit:
        return -1
    if code == STRING:
        return put_string(at, source, size, tables)
    if code == TEXT:
        copy(at, source, size)
        return at + size
    if code == LINE:
        return put_line(at, source, size)
    if code == POINTED:
        return put_pointed(at, source, size, load_i64(part + _A))
    if code == GEOMETRY:
        store_u64(at, _SRID)
        at = put_number(at + 8, uint64(load_u32(load_i64(part + _A) + 4 * row)), tables)
        store_u64(at, _WKB)
        at = put_base64(at + 7, source, size, tables)
        store_u8(at, uint8(125))
        return at + 1
    return put_base64(at, source, size, tables)


@inner
def _put_list(code: int64, part: intp, row: int64, at: intp, limit: intp, tables: intp) -> intp:
    """Write a list of values of variable length; returns -1 when there is no room for it."""
    lists = load_i64(part + _LISTS) + 4 * row
    first = int64(load_i32(lists))
    store_u8(at, uint8(91))
    at += 1
    for item in range(first, int64(load_i32(lists + 4))):
        if item > first:
            store_u8(at, uint8(44))
            at += 1
        at = _put_text(code, part, item, at, limit - 3, tables)
        if at < 0:
            return at
    store_u8(at, uint8(93))
    return at + 1


@inner
def _put_fixed(code: int64, part: intp, row: int64, at: intp, tables: intp) -> intp:
    """Write a value of fixed width."""
    data = load_i64(part + _DATA)
    if code < UINT64:
        return put_signed(at, _integer(code, data, row), tables)
    if code == UINT64:
        return put_number(at, load_u64(data + 8 * row), tables)
    if code == BOOLEAN:
        bit = load_i64(part + _A) + row
        return put_boolean(at, load_u8(data + (bit >> 3)) >> (bit & 7) & 1 != 0)
    if code == DECIMAL:
        # The digits are first written at a distance, so that source and target do not overlap.
        number = load_i64(data + load_i64(part + _A) * row)
        digits = at + 64
        return put_pointed(at, digits, put_signed(digits, number, tables) - digits, load_i64(part + _B))
    if code == DATE:
        return put_day(at, int64(load_i32(data + 4 * row)), tables)
    micros = load_i64(data + 8 * row)
    if code == DATETIME:
        return put_datetime(at, micros, load_i64(part + _A), load_i64(part + _B), tables)
    return put_duration(at, micros, load_i64(part + _A), tables)


@inner
def _put_value(part: intp, row: int64, at: intp, limit: intp, tables: intp) -> intp:
    """Write the value of a row; returns -1 when there is no room for it."""
    while _is_null(load_i64(part + _VALID), load_i64(part + _BIT) + row):
        part = load_i64(part + _INSTEAD)
        if part == 0:
            return put_null(at)
    code = load_i64(part + _CODE)
    if code == NOTHING:
        return at
    if code < POINTED:
        return _put_fixed(code, part, row, at, tables)
    if load_i64(part + _LISTS) != 0:
        return _put_list(code, part, row, at, limit, tables)
    if code == STRING and load_i64(part + _INDEX) != 0:
        row = _integer(load_i64(part + _A), load_i64(part + _INDEX), row)
    return _put_text(code, part, row, at, limit, tables)


@kernel
def _write(
    table: intp, parts: int64, row: int64, rows: int64, offsets: intp, out: intp, limit: intp, tables: intp
) -> tuple[int64, int64]:
    """Write the envelopes from `row` on; returns (first row without room, or `rows`; bytes used).

    After `limit` there is room for all parts of an envelope except text.
    """
    at = out + load_i64(offsets + 8 * row)
    while row < rows and at <= limit:
        p = int64(0)
        while p < parts:
            part = table + 8 * _FIELDS * p
            if _is_null(load_i64(part + _IMAGE), load_i64(part + _IMAGE_BIT) + row):
                at = put_null(at)
                p = load_i64(part + _BEHIND)
                continue
            size = load_i64(part + _SIZE)
            copy(at, load_i64(part + _CONSTANT), size)
            at = _put_value(part, row, at + size, limit, tables)
            if at < 0:
                return row, load_i64(offsets + 8 * row)
            p += 1
        row += 1
        store_i64(offsets + 8 * row, at - out)
    return row, load_i64(offsets + 8 * row)


def render_rows(rows: int, parts: Sequence[EnvelopePart]) -> JsonTexts:
    """Write the envelopes of `rows` rows."""
    parts = list(_folded(parts))
    constants = np.frombuffer(b"".join(part.constant for part in parts), np.uint8)
    table = _table(parts, address(constants))
    columns = [part.column for part in parts if part.column is not None]
    fixed = 4 * len(parts) + len(constants) + sum(column.room for column in columns) + 2 * OVERRUN
    capacity = rows * fixed + sum(column.text for column in columns) * 5 // 4
    out, offsets = np.empty(capacity + fixed, np.uint8), np.zeros(rows + 1, np.int64)
    row = used = 0
    while True:
        row, used = _write(
            address(table), len(parts), row, rows, address(offsets), address(out), address(out) + len(out) - fixed,
            address(TABLES),
        )  # fmt: skip
        if row == rows:
            return JsonTexts(out[:used], offsets)
        larger = np.empty(2 * len(out), np.uint8)
        larger[:used] = out[:used]
        out = larger


def _folded(parts: Sequence[EnvelopePart]) -> Iterator[EnvelopePart]:
    """The parts with adjacent constants joined; a column with a single value counts as constant."""
    constant, image = b"", None
    for part in parts:
        if constant and part.image is not image:
            yield EnvelopePart(constant, None, image)
            constant = b""
        image = part.image
        constant += part.constant
        if part.column is not None and part.column.constant is not None:
            constant += part.column.constant
        elif part.column is not None:
            yield EnvelopePart(constant, part.column, image)
            constant = b""
    if constant:
        yield EnvelopePart(constant, None, image)


def _table(parts: Sequence[EnvelopePart], constants: int) -> npt.NDArray[np.int64]:
    """The table of parts for the kernel, followed by the parts whose values replace NULLs."""
    images = {id(part.image): (0, 0) if part.image is None else bitmap(part.image) for part in parts}
    others = [part.column.instead for part in parts if part.column is not None and part.column.instead is not None]
    table = np.zeros((len(parts) + len(others), _FIELDS), np.int64)
    base, stride = address(table), 8 * _FIELDS
    rows, free = [], len(parts)
    for part in parts:
        column = part.column or _NO_COLUMN
        instead = 0
        if column.instead is not None:
            instead, free = base + stride * free, free + 1
        rows.append((constants, len(part.constant), *images[id(part.image)], 0, *_numbers(column), instead))
        constants += len(part.constant)
    table[: len(parts), : len(rows[0])] = rows
    for number, other in enumerate(others, len(parts)):
        table[number, _CODE // 8 : _INSTEAD // 8] = _numbers(other)
    behind = len(parts)
    for p in range(len(parts) - 1, -1, -1):
        if p + 1 < len(parts) and parts[p + 1].image is not parts[p].image:
            behind = p + 1
        table[p, _BEHIND // 8] = behind
    return table


def _numbers(column: JsonColumn) -> tuple[int, ...]:
    return (
        column.code, column.valid, column.bit, column.data, column.offsets, column.a, column.b, column.index,
        column.lists,
    )  # fmt: skip
