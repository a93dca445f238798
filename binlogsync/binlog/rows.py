"""Row events of one layout -> column buffers, in one kernel call.

The kernel walks every row of the events it is given, column by column, and writes values where Arrow wants them. Each
read is checked against the end of its event; what does not fit ends the call with a `Fault` that names event, image
and column.

Source: Rows_event in libs/mysql/binlog/event/rows_event.h: null bits of the columns present, then their values.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt
from numba import njit, types

from binlogsync.binlog.memory import (
    KERNEL,
    copy,
    load_i64,
    load_u8,
    load_u16,
    load_u24,
    load_u32,
    load_u64,
    store_i32,
    store_i64,
    store_u8,
    store_u16,
    store_u32,
    store_u64,
)
from binlogsync.binlog.types import decimals, labels, numbers, old_temporal, temporal, text

# How a column's bytes are read. Fixed widths first, then those with a length in front.
COPY1, COPY2, COPY4, COPY8, INT24, YEAR, BIT, ENUM, SET, DECIMAL, SKIP = range(11)
DATE, TIME, DATETIME, TIMESTAMP, OLD_TIME, OLD_DATETIME, OLD_TIMESTAMP = range(11, 18)
BYTES, TEXT, PADDED, RECODED, SKIP_BYTES = range(20, 25)

# Columns of a Reading: the code above, its parameters, and the bytes to read (of the length prefix for the second
# group). A and B are: INT24 1 when unsigned; TIME, DATETIME, TIMESTAMP, old or not, fsp; DECIMAL precision and scale;
# BYTES 1 when they are compressed; PADDED the width of BINARY; RECODED the row of the recoding tables.
CODE, A, B, SIZE = range(4)

# Columns of a target table: address of the values (or bytes of strings), address of the int32 offsets, address of a
# byte a row that is 1 for NULL, bytes of strings used so far, NULLs so far, 1 when a TEXT had a byte above 0x7f.
VALUES, OFFSETS, NULL_FLAGS, USED, NULLS, HIGH = range(6)

WIDTHS = {COPY1: 1, COPY2: 2, COPY4: 4, COPY8: 8, INT24: 4, YEAR: 2, BIT: 8, ENUM: 2, SET: 8}
WIDTHS |= {DATE: 4, TIME: 8, DATETIME: 8, TIMESTAMP: 8, OLD_TIME: 8, OLD_DATETIME: 8, OLD_TIMESTAMP: 8}

STRING_LIMIT = 2**31 - 1  # bytes of one Arrow array of strings
DATES = (DATE, DATETIME, TIMESTAMP, OLD_DATETIME, OLD_TIMESTAMP)  # those that may be impossible

Table = npt.NDArray[np.int64]


class Status(IntEnum):
    """How a call ended."""

    DONE = 0
    TRUNCATED = 1
    BAD_DECIMAL = 2
    BAD_LENGTH = 4
    TOO_MANY = 5


REASONS = {
    Status.TRUNCATED: "the value reaches beyond the end of its event",
    Status.BAD_DECIMAL: "a group of DECIMAL digits is out of range",
    Status.BAD_LENGTH: "the value is longer than its column",
    Status.TOO_MANY: "the event holds more rows than its bytes can, NULLs where the column has none",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """Where and why the kernel stopped; `image` 0 before, 1 after."""

    status: Status
    event: int
    image: int
    column: int


@njit("int64(intp, int64)", **KERNEL)
def _length(address, size):  # type: ignore[no-untyped-def]
    """A length prefix of 1 to 4 bytes."""
    if size == 1:
        return types.int64(load_u8(address))
    if size == 2:
        return types.int64(load_u16(address))
    if size == 3:
        return types.int64(load_u24(address))
    return types.int64(load_u32(address))


@njit("int64(int64, intp, int64, intp, intp, intp)", **KERNEL)
def _string(code, at, size, how, out, recoding):  # type: ignore[no-untyped-def]
    """Append one string to its column, `how` and `out` being its rows of the tables; returns a Status."""
    used = load_i64(out + 8 * USED)
    target = load_i64(out) + used
    written = size
    if code == TEXT:
        copy(target, at, size)
        if not text.is_ascii(at, size):
            store_i64(out + 8 * HIGH, 1)
    elif code == BYTES:
        copy(target, at, size)
    elif code == PADDED:
        written = load_i64(how + 8 * B)
        if size > written:
            return 4
        text.padded(target, at, size, written)
    else:
        written = text.through_table(target, at, size, recoding + 1024 * load_i64(how + 8 * B))
    store_i64(out + 8 * USED, used + written)
    return 0


@njit("void(intp, intp, int64)", **KERNEL)
def _enum(target, at, size):  # type: ignore[no-untyped-def]
    """ENUM: a number of one or two bytes; 0 is written as INVALID, so that 0 remains what an absent image holds."""
    number = types.uint16(load_u8(at)) if size == 1 else load_u16(at)
    store_u16(target, number if number > 0 else types.uint16(labels.INVALID))


@njit("void(intp, intp, int64)", **KERNEL)
def _set(target, at, size):  # type: ignore[no-untyped-def]
    """SET: a bit mask of one to eight bytes."""
    value = types.uint64(0)
    for i in range(size):
        value |= types.uint64(load_u8(at + i)) << types.uint64(8 * i)
    store_u64(target, value)


@njit("int64(int64, intp, intp, int64, int64)", **KERNEL)
def _temporal(code, target, at, fsp, size):  # type: ignore[no-untyped-def]
    """A date or time; returns -1, or the packed value that no calendar has."""
    if code == DATETIME:
        return temporal.datetime(target, at, fsp)
    if code == TIMESTAMP:
        return temporal.timestamp(target, at, fsp)
    if code == DATE:
        return temporal.date(target, at)
    if code == OLD_DATETIME:
        return old_temporal.old_datetime(target, at, fsp, size)
    if code == OLD_TIMESTAMP:
        return old_temporal.old_timestamp(target, at, fsp, size)
    if code == OLD_TIME:
        old_temporal.old_time(target, at, fsp, size)
    else:
        temporal.time(target, at, fsp)
    return types.int64(-1)


@njit("void(intp, int64)", **KERNEL)
def _null(out, row):  # type: ignore[no-untyped-def]
    """Mark a row of a column as NULL."""
    store_u8(load_i64(out + 8 * NULL_FLAGS) + row, types.uint8(1))
    store_i64(out + 8 * NULLS, load_i64(out + 8 * NULLS) + 1)


@njit("void(intp, int64, int64, int64, int64)", **KERNEL)
def _note(notes, side, column, row, packed):  # type: ignore[no-untyped-def]
    """Add an impossible date to the list whose length stands in front of it."""
    count = load_i64(notes)
    entry = notes + 8 + 32 * count
    store_i64(entry, side)
    store_i64(entry + 8, column)
    store_i64(entry + 16, row)
    store_i64(entry + 24, packed)
    store_i64(notes, count + 1)


@njit("UniTuple(int64, 3)(intp, intp, int64, int64, intp, intp, intp, intp, int64)", **KERNEL)
def _image(at, end, row, columns, reading, out, recoding, notes, side):  # type: ignore[no-untyped-def]
    """Read one row image; `reading` and `out` are the tables' addresses. Returns (end, Status, column)."""
    bits = at
    at += (columns + 7) >> 3
    if at > end:
        return at, 1, 0
    for k in range(columns):
        how = reading + 32 * k
        to = out + 48 * k
        code = load_i64(how)
        if (load_u8(bits + (k >> 3)) >> (k & 7)) & 1:
            if code != SKIP and code != SKIP_BYTES:
                _null(to, row)
                if code >= BYTES:
                    store_i32(load_i64(to + 8 * OFFSETS) + 4 * (row + 1), types.int32(load_i64(to + 8 * USED)))
            continue
        size = load_i64(how + 8 * SIZE)
        if size > end - at:
            return at, 1, k
        values = load_i64(to)
        if code >= BYTES:
            length = _length(at, size)
            at += size
            if length > end - at:
                return at, 1, k
            if code != SKIP_BYTES:
                status = _string(code, at, length, how, to, recoding)
                if status != 0:
                    return at, status, k
                store_i32(load_i64(to + 8 * OFFSETS) + 4 * (row + 1), types.int32(load_i64(to + 8 * USED)))
            size = length
        elif code == COPY8:
            store_u64(values + 8 * row, load_u64(at))
        elif code == COPY4:
            store_u32(values + 4 * row, load_u32(at))
        elif code == COPY1:
            store_u8(values + row, load_u8(at))
        elif code == COPY2:
            store_u16(values + 2 * row, load_u16(at))
        elif DATE <= code <= OLD_TIMESTAMP:
            target = values + (4 if code == DATE else 8) * row
            packed = _temporal(code, target, at, load_i64(how + 8 * A), size)
            if packed != -1:
                _null(to, row)
                _note(notes, side, k, row, packed)
        elif code == DECIMAL:
            precision = load_i64(how + 8 * A)
            width = 16 if precision <= 38 else 32
            if not decimals.decimal(values + width * row, width, at, precision, load_i64(how + 8 * B)):
                return at, 2, k
        elif code == INT24:
            numbers.widen_24(values + 4 * row, at, load_i64(how + 8 * A) == 1)
        elif code == YEAR:
            numbers.year(values + 2 * row, at)
        elif code == BIT:
            numbers.bit(values + 8 * row, at, size)
        elif code == ENUM:
            _enum(values + 2 * row, at, size)
        elif code == SET:
            _set(values + 8 * row, at, size)
        at += size
    return at, 0, 0


@njit("void(int64, int64, intp, intp)", **KERNEL)
def _absent(row, columns, reading, out):  # type: ignore[no-untyped-def]
    """An image that the operation has not: strings of no bytes; all else stays zero."""
    for k in range(columns):
        code = load_i64(reading + 32 * k)
        if BYTES <= code < SKIP_BYTES:
            to = out + 48 * k
            store_i32(load_i64(to + 8 * OFFSETS) + 4 * (row + 1), types.int32(load_i64(to + 8 * USED)))


_TABLES = "int64[:,::1], int64[:,::1]"


@njit(
    f"UniTuple(int64, 4)(intp, int64[::1], int64[::1], int8[::1], int64[::1], {_TABLES}, {_TABLES}, "
    "uint32[:,::1], intp, int64)",
    **KERNEL,
)
def _decode(  # type: ignore[no-untyped-def]
    base, starts, ends, ops, counts, b_reading, a_reading, b_out, a_out, recoding, notes, most
):  # fmt: skip
    """Returns (rows, Status, event, image << 32 | column); writes no more than `most` rows."""
    b_how, b_to, b_columns = types.intp(b_reading.ctypes.data), types.intp(b_out.ctypes.data), len(b_reading)
    a_how, a_to, a_columns = types.intp(a_reading.ctypes.data), types.intp(a_out.ctypes.data), len(a_reading)
    recode = types.intp(recoding.ctypes.data)
    row = types.int64(0)
    for e in range(len(starts)):
        at = base + starts[e]
        end = base + ends[e]
        op = ops[e]
        first = row
        while at < end:
            if row == most:
                return row, types.int64(5), e, types.int64(0)
            if op == 0:
                _absent(row, b_columns, b_how, b_to)
            else:
                at, status, column = _image(at, end, row, b_columns, b_how, b_to, recode, notes, 0)
                if status != 0:
                    return row, status, e, column
            if op == 2:
                _absent(row, a_columns, a_how, a_to)
            else:
                at, status, column = _image(at, end, row, a_columns, a_how, a_to, recode, notes, 1)
                if status != 0:
                    return row, status, e, (types.int64(1) << 32) | column
            row += 1
        counts[e] = row - first
    return row, types.int64(0), types.int64(0), types.int64(0)


def decode_rows(
    base: int,
    events: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int8]],
    readings: tuple[Table, Table],
    targets: tuple[Table, Table],
    notes: int,
    most: int,
) -> npt.NDArray[np.int64] | Fault:
    """Decode all rows of `events` (offsets of first row and end from `base`, op), before and after images into
    `targets`.

    There is memory for `most` rows. `notes` is the address of a list of impossible dates: their number, then (image,
    column, row, packed value) of each.
    Returns the rows of each event, or the Fault that ended it.
    """
    counts = np.zeros(len(events[0]), np.int64)
    _, status, event, place = _decode(base, *events, counts, *readings, *targets, text.RECODING_TABLES, notes, most)
    if status:
        return Fault(Status(status), event, place >> 32, place & 0xFFFFFFFF)
    return counts
