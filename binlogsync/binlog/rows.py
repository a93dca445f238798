"""Decodes row events of one layout into column buffers, in one kernel call.

The kernel processes the rows in blocks that fit in the processor cache. It first finds the address of each value, then
decodes the block column by column, in a loop for the type, and writes the values in Arrow's format. It checks each
value against the end of its event before reading it; an invalid value ends the call with a `DecodeFault` that names
event, image and column.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from binlogsync.binlog.compiling import call_by_address, code_address, inner, kernel
from binlogsync.binlog.kernel_types import int32, int64, intp, uint8
from binlogsync.binlog.memory import (
    address,
    equal8,
    fill,
    load_i64,
    load_u8,
    ones,
    store_i32,
    store_i64,
    store_u8,
)
from binlogsync.binlog.types import decimals, labels, numbers, old_temporal, temporal, text
from binlogsync.binlog.value_pointers import ZEROS, locate_absent_values, locate_values

# Decode methods of columns: first those with values of fixed size, then those with a length prefix.
COPY1, COPY2, COPY4, COPY8, INT24, YEAR, BIT, ENUM, SET, DECIMAL, SKIP = range(11)
DATE, TIME, DATETIME, TIMESTAMP, OLD_TIME, OLD_DATETIME, OLD_TIMESTAMP = range(11, 18)
BYTES, TEXT, PADDED, RECODED, SKIP_BYTES = range(20, 25)

# Columns of a table of decode methods: the code above, its parameters, and the size of a value (of the length prefix in
# the second group). A and B are: INT24 1 when unsigned; TIME, DATETIME, TIMESTAMP, old or not, fsp; DECIMAL precision
# and scale; BYTES 1 when compressed; PADDED the width of BINARY; RECODED the row of the recoding tables.
CODE, A, B, SIZE = range(4)

# Columns of a target table: address of the values (or bytes of strings), address of the int32 offsets, address of
# Arrow's validity bitmap, bytes of strings so far, NULLs so far, 1 when a TEXT may be invalid UTF-8. The memory need
# not be cleared: the kernel writes every byte of every row.
VALUES, OFFSETS, VALID, USED, NULLS, DOUBTFUL = range(6)

WIDTHS = {COPY1: 1, COPY2: 2, COPY4: 4, COPY8: 8, INT24: 4, YEAR: 2, BIT: 8, ENUM: 2, SET: 8}
WIDTHS |= {DATE: 4, TIME: 8, DATETIME: 8, TIMESTAMP: 8, OLD_TIME: 8, OLD_DATETIME: 8, OLD_TIMESTAMP: 8}

STRING_LIMIT = 2**31 - 1  # bytes of one Arrow array of strings
DATES = (DATE, DATETIME, TIMESTAMP, OLD_DATETIME, OLD_TIMESTAMP)  # types with impossible dates such as 0000-00-00

Table = npt.NDArray[np.int64]

_BLOCK_ROWS = 128  # a multiple of 8, so that a block begins at a byte of the bitmap
_BLOCK_POINTERS = 1 << 14  # of both images together


class DecodeStatus(IntEnum):
    """How a call ended."""

    DONE = 0
    TRUNCATED = 1
    BAD_DECIMAL = 2
    BAD_LENGTH = 4
    TOO_MANY = 5


REASONS = {
    DecodeStatus.TRUNCATED: "the value extends beyond the end of its event",
    DecodeStatus.BAD_DECIMAL: "a group of DECIMAL digits is out of range",
    DecodeStatus.BAD_LENGTH: "the value is longer than its column",
    DecodeStatus.TOO_MANY: "the event has more rows than possible for its size, so NULLs in NOT NULL columns",
}


@dataclass(frozen=True, slots=True)
class DecodeFault:
    """Where and why the kernel stopped; `image` 0 before, 1 after."""

    status: DecodeStatus
    event: int
    image: int
    column: int


# Fields of an image in the kernel: addresses of its tables of decode methods and targets, of the steps and the value
# pointers of its columns, and the number of columns.
_METHODS, _TARGET, _STEPS, _POINTERS, _COLUMNS = range(5)
# Fields shared by all blocks: bytes between the pointers of adjacent columns, the end of the readable memory, and the
# addresses of ZEROS, of the months, of the recoding tables, of the list of rows with impossible dates in a block, of
# the list of all impossible dates, of the code of _read_block.
_STRIDE, _LIMIT, _ZEROS, _MONTHS, _RECODING, _WRONG, _DATE_LIST, _READER = range(8)


@inner
def _mark_nulls(pointers: intp, count: int64, zeros: int64, row: int64, out: intp) -> None:
    """Write the validity bitmap and count the NULLs, eight rows at a time; the last group may have fewer rows."""
    valid = load_i64(out + 8 * VALID) + (row >> 3)
    found = int64(0)
    for r in range(0, count, 8):
        nulls = equal8(pointers + 8 * r, zeros)
        if count - r < 8:
            nulls = uint8(nulls & ((1 << (count - r)) - 1))
        store_u8(valid + (r >> 3), uint8(~nulls))
        found += ones(nulls)
    store_i64(out + 8 * NULLS, load_i64(out + 8 * NULLS) + found)


@inner
def _temporal(code: int64, pointers: intp, count: int64, row: int64, method: intp, out: intp, shared: intp) -> int64:
    """Decode a column of dates or times; returns the number of impossible dates."""
    values, fsp = load_i64(out), load_i64(method + 8 * A)
    zeros, months = load_i64(shared + 8 * _ZEROS), load_i64(shared + 8 * _MONTHS)
    wrong = load_i64(shared + 8 * _WRONG)
    if code == DATETIME:
        return temporal.datetimes(pointers, count, zeros, months, values + 8 * row, wrong, fsp)
    if code == TIMESTAMP:
        return temporal.timestamps(pointers, count, zeros, values + 8 * row, wrong, fsp)
    if code == DATE:
        return temporal.dates(pointers, count, zeros, months, values + 4 * row, wrong)
    if code == TIME:
        temporal.times(pointers, count, zeros, values + 8 * row, fsp)
        return int64(0)
    size = load_i64(method + 8 * SIZE)
    if code == OLD_DATETIME:
        return old_temporal.old_datetimes(pointers, count, zeros, months, values + 8 * row, wrong, fsp, size)
    if code == OLD_TIMESTAMP:
        return old_temporal.old_timestamps(pointers, count, zeros, values + 8 * row, wrong, fsp, size)
    old_temporal.old_times(pointers, count, zeros, values + 8 * row, fsp, size)
    return int64(0)


@inner
def _append_impossible(
    side: int64, k: int64, pointers: intp, row: int64, found: int64, code: int64, method: intp, out: intp, shared: intp
) -> None:
    """Set impossible dates to NULL and append them to the list, which begins with its length."""
    wrong, date_list = load_i64(shared + 8 * _WRONG), load_i64(shared + 8 * _DATE_LIST)
    listed = load_i64(date_list)
    for i in range(found):
        r = load_i64(wrong + 8 * i)
        at = load_i64(pointers + 8 * r)
        packed = int64(0)
        if code == DATE:
            packed = temporal.packed_date(at)
        elif code == DATETIME:
            packed = temporal.packed_datetime(at, load_i64(method + 8 * A))
        elif code == OLD_DATETIME:
            packed = old_temporal.packed_old_datetime(at, load_i64(method + 8 * A), load_i64(method + 8 * SIZE))
        entry = date_list + 8 + 32 * (listed + i)
        store_i64(entry, side)
        store_i64(entry + 8, k)
        store_i64(entry + 16, row + r)
        store_i64(entry + 24, packed)
        valid = load_i64(out + 8 * VALID) + ((row + r) >> 3)
        store_u8(valid, uint8(load_u8(valid) & ~(1 << ((row + r) & 7))))
    store_i64(date_list, listed + found)
    store_i64(out + 8 * NULLS, load_i64(out + 8 * NULLS) + found)


@inner
def _strings(code: int64, pointers: intp, count: int64, row: int64, method: intp, out: intp, shared: intp) -> int64:
    """Decode a column of strings; returns -1, or the row of a value that is longer than its column."""
    target, used, prefix = load_i64(out), load_i64(out + 8 * USED), load_i64(method + 8 * SIZE)
    ends = load_i64(out + 8 * OFFSETS) + 4 * (row + 1)
    limit, zeros = load_i64(shared + 8 * _LIMIT), load_i64(shared + 8 * _ZEROS)
    if code == PADDED:
        done = text.padded_strings(pointers, count, prefix, limit, target, ends, used, zeros, load_i64(method + 8 * B))
        if done < 0:
            return -1 - done
    elif code == RECODED:
        table = load_i64(shared + 8 * _RECODING) + 1024 * load_i64(method + 8 * B)
        done = text.recoded_strings(pointers, count, prefix, limit, target, ends, used, table)
    else:
        done = text.strings(pointers, count, prefix, limit, target, ends, used)
        if code == TEXT and not text.are_utf8(target, used, done, ends, count):
            store_i64(out + 8 * DOUBTFUL, 1)
    store_i64(out + 8 * USED, done)
    return int64(-1)


@inner
def _fixed(code: int64, pointers: intp, count: int64, row: int64, method: intp, out: intp, shared: intp) -> None:
    """Decode a column of numbers of fixed width, which are always valid."""
    values, size = load_i64(out), load_i64(method + 8 * SIZE)
    if code <= COPY8:
        numbers.copied(pointers, count, values + size * row, size)
    elif code == INT24:
        numbers.widened_24(pointers, count, values + 4 * row, load_i64(method + 8 * A) == 1)
    elif code == YEAR:
        numbers.years(pointers, count, values + 2 * row)
    elif code == BIT:
        numbers.bits(pointers, count, values + 8 * row, size)
    elif code == ENUM:
        labels.enums(pointers, count, load_i64(shared + 8 * _ZEROS), values + 2 * row, size)
    elif code == SET:
        labels.sets(pointers, count, values + 8 * row, size)


@kernel(has_wrapper=False)
def _read_block(side: int64, image: intp, count: int64, row: int64, shared: intp) -> tuple[int64, int64, int64]:
    """Decode the `count` values of each column that the pointers refer to, to the rows from `row` on.

    Returns (Status, row in the block, column).
    """
    stride, zeros = load_i64(shared + 8 * _STRIDE), load_i64(shared + 8 * _ZEROS)
    for k in range(load_i64(image + 8 * _COLUMNS)):
        method = load_i64(image + 8 * _METHODS) + 32 * k
        out = load_i64(image + 8 * _TARGET) + 48 * k
        pointers = load_i64(image + 8 * _POINTERS) + stride * k
        code = load_i64(method)
        if code == SKIP or code == SKIP_BYTES:  # noqa: SIM109 - a kernel is slow to compile with tuples
            continue
        _mark_nulls(pointers, count, zeros, row, out)
        if code >= BYTES:
            bad = _strings(code, pointers, count, row, method, out, shared)
            if bad >= 0:
                return int64(4), bad, k
        elif code == DECIMAL:
            precision = load_i64(method + 8 * A)
            width = 16 if precision <= 38 else 32
            target = load_i64(out) + width * row
            bad = decimals.decimals(pointers, count, zeros, target, precision, load_i64(method + 8 * B))
            if bad >= 0:
                return int64(2), bad, k
        elif DATE <= code <= OLD_TIMESTAMP:
            found = _temporal(code, pointers, count, row, method, out, shared)
            if found > 0:
                _append_impossible(side, k, pointers, row, found, code, method, out, shared)
        else:
            _fixed(code, pointers, count, row, method, out, shared)
    return int64(0), int64(0), int64(0)


@inner
def _fill_absent(image: intp, count: int64, row: int64, widths: intp) -> None:
    """Fill rows whose operation does not have this image with zeros and empty strings, not NULL."""
    for k in range(load_i64(image + 8 * _COLUMNS)):
        out = load_i64(image + 8 * _TARGET) + 48 * k
        valid = load_i64(out + 8 * VALID)
        if valid == 0:
            continue
        fill(valid + (row >> 3), (count + 7) >> 3, uint8(255))
        width = load_i64(widths + 8 * k)
        fill(load_i64(out) + width * row, width * count, uint8(0))
        if width == 0:
            used = int32(load_i64(out + 8 * USED))
            for r in range(row + 1, row + count + 1):
                store_i32(load_i64(out + 8 * OFFSETS) + 4 * r, used)


@inner
def _locate_missing(image: intp, ops: intp, absent_op: int64, count: int64, shared: intp) -> None:
    """Write the pointers for the rows of a block whose operation, `absent_op`, does not have this image."""
    stride, zeros = load_i64(shared + 8 * _STRIDE), load_i64(shared + 8 * _ZEROS)
    for r in range(count):
        if load_i64(ops + 8 * r) == absent_op:
            pointers = load_i64(image + 8 * _POINTERS) + 8 * r
            locate_absent_values(load_i64(image + 8 * _COLUMNS), pointers, stride, zeros)


_READ_BLOCK_CODE = code_address(_read_block)
_read_block_at = call_by_address(_read_block)


@inner
def _finish_block(
    images: intp, ops: intp, widths: intp, count: int64, row: int64, shared: intp
) -> tuple[int64, int64, int64, int64]:
    """Decode both images of the rows of a block; returns (DecodeStatus, row in the block, image, column)."""
    for side in range(2):
        image = images + 40 * side
        absent_op = int64(0 if side == 0 else 2)
        present = int64(0)
        for r in range(count):
            present += int64(load_i64(ops + 8 * r) != absent_op)
        if present == 0:
            _fill_absent(image, count, row, load_i64(widths + 8 * side))
            continue
        if present < count:
            _locate_missing(image, ops, absent_op, count, shared)
        reader = load_i64(shared + 8 * _READER)
        status, bad, column = _read_block_at(reader, (int64(side), image, count, row, shared))
        if status != 0:
            return status, bad, int64(side), column
    return int64(0), int64(0), int64(0), int64(0)


@kernel
def _decode(
    base: intp,
    events: int64,
    starts: intp,
    ends: intp,
    ops: intp,
    counts: intp,
    images: intp,
    widths: intp,
    shared: intp,
    block_ops: intp,
    room: int64,
    most: int64,
) -> tuple[int64, int64, int64, int64]:
    """Returns (DecodeStatus, event, image, column); writes at most `most` rows. `block_ops` is the address of two
    arrays of `room` items each: the operation and the event of each row in the block.
    """
    block_events = block_ops + 8 * room
    before, after = images, images + 40
    stride, zeros = load_i64(shared + 8 * _STRIDE), load_i64(shared + 8 * _ZEROS)
    row = int64(0)  # of the first of the block
    count = int64(0)
    for e in range(events):
        at = base + load_i64(starts + 8 * e)
        end = base + load_i64(ends + 8 * e)
        op = int64(load_u8(ops + e))
        first = row + count
        while at < end:
            if count == room:
                status, bad, side, column = _finish_block(images, block_ops, widths, count, row, shared)
                if status != 0:
                    return status, load_i64(block_events + 8 * bad), side, column
                row += count
                count = int64(0)
            if row + count == most:
                return int64(5), e, int64(0), int64(0)
            for side in range(2):
                if op == 2 * side:
                    continue
                image = after if side == 1 else before
                at = locate_values(
                    at, end, load_i64(image + 8 * _COLUMNS), load_i64(image + 8 * _STEPS),
                    load_i64(image + 8 * _POINTERS) + 8 * count, stride, zeros,
                )  # fmt: skip
                if at < 0:
                    return int64(1), e, int64(side), -1 - at
            store_i64(block_ops + 8 * count, op)
            store_i64(block_events + 8 * count, e)
            count += 1
        store_i64(counts + 8 * e, row + count - first)
    status, bad, side, column = _finish_block(images, block_ops, widths, count, row, shared)
    return status, load_i64(block_events + 8 * bad), side, column


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """How an image is decoded: a decode method for each column, and the size of its values in memory, 0 for strings."""

    methods: Table
    widths: npt.NDArray[np.int64]
    steps: npt.NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        sizes = self.methods[:, SIZE]
        object.__setattr__(self, "steps", np.where(self.methods[:, CODE] >= BYTES, -sizes, sizes))


def decode_rows(
    base: int,
    events: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int8]],
    specs: tuple[ImageSpec, ImageSpec],
    targets: tuple[Table, Table],
    date_list: int,
    most: int,
    *,
    is_one_memory: bool,
) -> npt.NDArray[np.int64] | DecodeFault:
    """Decode the before and after images of all rows of `events` (offsets of first row and end from `base`, op) into
    `targets`, which have room for `most` rows.

    `date_list` is the address of the list of impossible dates: their number, initially 0, then (image, column, row,
    packed value) for each. With `is_one_memory`, all bytes between two events can be read: then long strings are copied
    in steps that may read bytes of the next event. Otherwise the memory after an event may not exist.
    Returns the number of rows of each event, or the DecodeFault that ended the call.
    """
    columns = max(len(spec.methods) for spec in specs)
    size = max(8, min(_BLOCK_ROWS, _BLOCK_POINTERS // max(2 * columns, 1) & ~7))
    # The distance between columns is not a power of two, which would map all of them to the same cache lines.
    pointers = np.empty((2, columns, size + 8), np.int64)
    images = np.array(
        [
            [address(spec.methods), address(target), address(spec.steps), address(own), len(spec.methods)]
            for spec, target, own in zip(specs, targets, pointers, strict=True)
        ],
        np.int64,
    )
    widths = np.array([address(spec.widths) for spec in specs])
    block, wrong = np.zeros((2, size), np.int64), np.empty(size + 1, np.int64)
    limit = base + int(events[1].max(initial=0)) if is_one_memory else 0
    constants = [address(array) for array in (ZEROS, temporal.MONTHS, text.RECODING_TABLES, wrong)]
    shared = np.array([8 * (size + 8), limit, *constants, date_list, _READ_BLOCK_CODE])
    counts = np.zeros(len(events[0]), np.int64)
    arrays = [address(array) for array in (*events, counts, images, widths, shared, block)]
    status, event, image, column = _decode(*[base, len(counts), *arrays, size, most])
    return DecodeFault(DecodeStatus(status), event, image, column) if status else counts
