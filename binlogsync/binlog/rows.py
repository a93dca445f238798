"""Row events of one layout -> column buffers, in one kernel call.

The kernel walks every row of the events it is given, column by column, and writes values where Arrow wants them. Each read is
checked against the end of its event; what does not fit ends the call with a `Fault` that names event, image and column.

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
    load_u8,
    load_u16,
    load_u24,
    load_u32,
    load_u64,
    store_i32,
    store_u8,
    store_u16,
    store_u32,
    store_u64,
)
from binlogsync.binlog.types import decimals, labels, numbers, temporal, text

# How a column's bytes are read. Fixed widths first, then those with a length in front.
COPY1, COPY2, COPY4, COPY8, INT24, YEAR, BIT, ENUM, SET, DATE, TIME, DATETIME, TIMESTAMP, DECIMAL, SKIP = range(15)
BYTES, TEXT, PADDED, RECODED, SKIP_BYTES = range(20, 25)

# Columns of a Reading: the code above, its parameters, and the bytes to read (of the length prefix for the second group).
# A and B are: INT24 1 when unsigned; TIME, DATETIME, TIMESTAMP fsp; DECIMAL precision and scale; PADDED the width of BINARY;
# RECODED the row of the recoding tables.
CODE, A, B, SIZE = range(4)

# Columns of a target table: address of the values (or bytes of strings), address of the int32 offsets, address of a byte a row
# that is 1 for NULL, bytes of strings used so far, NULLs so far, 1 when a TEXT had a byte above 0x7f.
VALUES, OFFSETS, NULL_FLAGS, USED, NULLS, HIGH = range(6)

WIDTHS = {COPY1: 1, COPY2: 2, COPY4: 4, COPY8: 8, INT24: 4, YEAR: 2, BIT: 8, ENUM: 2, SET: 8}
WIDTHS |= {DATE: 4, TIME: 8, DATETIME: 8, TIMESTAMP: 8}

Table = npt.NDArray[np.int64]


class Status(IntEnum):
    """How a call ended."""

    DONE = 0
    TRUNCATED = 1
    BAD_DECIMAL = 2
    BAD_CHARACTER = 3
    BAD_LENGTH = 4


REASONS = {
    Status.TRUNCATED: "the value reaches beyond the end of its event",
    Status.BAD_DECIMAL: "a group of DECIMAL digits is out of range",
    Status.BAD_CHARACTER: "a byte is no character of the column's character set",
    Status.BAD_LENGTH: "the value is longer than its column",
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


@njit("int64(intp, int64, int64[::1], int64[::1], uint32[:,::1])", **KERNEL)
def _string(at, size, how, out, recoding):  # type: ignore[no-untyped-def]
    """Append one string to its column; returns a Status."""
    code = how[CODE]
    target = out[VALUES] + out[USED]
    written = size
    if code == TEXT:
        copy(target, at, size)
        if not text.is_ascii(at, size):
            out[HIGH] = 1
    elif code == BYTES:
        copy(target, at, size)
    elif code == PADDED:
        if size > how[B]:
            return 4
        text.padded(target, at, size, how[B])
        written = how[B]
    else:
        written = text.through_table(target, at, size, recoding[how[B]])
        if written < 0:
            return 3
    out[USED] += written
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


@njit("int64(int64, intp, int64, intp, int64)", **KERNEL)
def _temporal(code, values, row, at, fsp):  # type: ignore[no-untyped-def]
    """A date or time; returns -1, or the packed value that no calendar has."""
    if code == DATE:
        return temporal.date(values + 4 * row, at)
    if code == DATETIME:
        return temporal.datetime(values + 8 * row, at, fsp)
    if code == TIMESTAMP:
        return temporal.timestamp(values + 8 * row, at, fsp)
    temporal.time(values + 8 * row, at, fsp)
    return types.int64(-1)


@njit(
    "UniTuple(int64, 3)(intp, intp, int64, int64[:,::1], int64[:,::1], uint32[:,::1], uint64[::1], int64[:,::1], int64[::1], int64)",
    **KERNEL,
)
def _image(at, end, row, reading, out, recoding, limbs, impossible, noted, side):  # type: ignore[no-untyped-def]
    """Read one row image; returns (address behind it, Status, column)."""
    columns = len(reading)
    bits = at
    at += (columns + 7) // 8
    if at > end:
        return at, 1, 0
    for k in range(columns):
        code = reading[k, CODE]
        if (load_u8(bits + (k >> 3)) >> (k & 7)) & 1:
            if code != SKIP and code != SKIP_BYTES:
                store_u8(out[k, NULL_FLAGS] + row, types.uint8(1))
                out[k, NULLS] += 1
                if code >= BYTES:
                    store_i32(out[k, OFFSETS] + 4 * (row + 1), types.int32(out[k, USED]))
            continue
        size = reading[k, SIZE]
        if size > end - at:
            return at, 1, k
        values = out[k, VALUES]
        if code >= BYTES:
            length = _length(at, size)
            at += size
            if length > end - at:
                return at, 1, k
            if code != SKIP_BYTES:
                status = _string(at, length, reading[k], out[k], recoding)
                if status != 0:
                    return at, status, k
                store_i32(out[k, OFFSETS] + 4 * (row + 1), types.int32(out[k, USED]))
            size = length
        elif code == COPY8:
            store_u64(values + 8 * row, load_u64(at))
        elif code == COPY4:
            store_u32(values + 4 * row, load_u32(at))
        elif code == COPY1:
            store_u8(values + row, load_u8(at))
        elif code == COPY2:
            store_u16(values + 2 * row, load_u16(at))
        elif DATE <= code <= TIMESTAMP:
            packed = _temporal(code, values, row, at, reading[k, A])
            if packed != -1:
                store_u8(out[k, NULL_FLAGS] + row, types.uint8(1))
                out[k, NULLS] += 1
                note = noted[0]
                impossible[note, 0], impossible[note, 1], impossible[note, 2], impossible[note, 3] = (
                    side,
                    k,
                    row,
                    packed,
                )
                noted[0] = note + 1
        elif code == DECIMAL:
            width = 16 if reading[k, A] <= 38 else 32
            target = values + width * row
            if not decimals.decimal(
                target, width, at, reading[k, A], reading[k, B], decimals.GROUP_BYTES, decimals.POWERS, limbs
            ):
                return at, 2, k
        elif code == INT24:
            numbers.widen_24(values + 4 * row, at, reading[k, A] == 1)
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


@njit("void(int64, int64[:,::1], int64[:,::1])", **KERNEL)
def _absent(row, reading, out):  # type: ignore[no-untyped-def]
    """An image that the operation has not: strings of no bytes; all else stays zero."""
    for k in range(len(reading)):
        code = reading[k, CODE]
        if BYTES <= code < SKIP_BYTES:
            store_i32(out[k, OFFSETS] + 4 * (row + 1), types.int32(out[k, USED]))


@njit(
    "UniTuple(int64, 5)(intp, int64[::1], int64[::1], int8[::1], int64[::1], int64[:,::1], int64[:,::1], int64[:,::1], int64[:,::1], uint32[:,::1], int64[:,::1])",
    **KERNEL,
)
def _decode(base, starts, ends, ops, counts, b_reading, b_out, a_reading, a_out, recoding, impossible):  # type: ignore[no-untyped-def]
    """Returns (rows, impossible dates, Status, event, image << 32 | column)."""
    limbs = np.empty(8, np.uint64)
    noted = np.zeros(1, np.int64)
    row = types.int64(0)
    for e in range(len(starts)):
        at = base + starts[e]
        end = base + ends[e]
        first = row
        while at < end:
            if ops[e] == 0:
                _absent(row, b_reading, b_out)
            else:
                at, status, column = _image(at, end, row, b_reading, b_out, recoding, limbs, impossible, noted, 0)
                if status != 0:
                    return row, noted[0], status, e, column
            if ops[e] == 2:
                _absent(row, a_reading, a_out)
            else:
                at, status, column = _image(at, end, row, a_reading, a_out, recoding, limbs, impossible, noted, 1)
                if status != 0:
                    return row, noted[0], status, e, (types.int64(1) << 32) | column
            row += 1
        counts[e] = row - first
    return row, noted[0], types.int64(0), types.int64(0), types.int64(0)


def decode_rows(
    base: int,
    events: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int8]],
    readings: tuple[Table, Table],
    targets: tuple[Table, Table],
    impossible: Table,
) -> tuple[npt.NDArray[np.int64], int] | Fault:
    """Decode all rows of `events` (offsets of first row and end from `base`, op), before and after images into `targets`.

    Returns (rows of each event, impossible dates noted), or the Fault that ended it.
    """
    counts = np.zeros(len(events[0]), np.int64)
    _, noted, status, event, place = _decode(
        base, *events, counts, readings[0], targets[0], readings[1], targets[1], text.RECODING_TABLES, impossible
    )
    if status:
        return Fault(Status(status), event, place >> 32, place & 0xFFFFFFFF)
    return counts, noted
