"""Row events of one layout -> column buffers, in one kernel call.

The kernel takes the rows in blocks that stay in the processor's cache: it finds the place of each value, and then reads
the block a column at a time, in a loop made for that type, and writes values where Arrow wants them. Each value is
checked against the end of its event before it is read; what does not fit ends the call with a `DecodeFault`
that names event, image and column.
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
from binlogsync.binlog.value_pointers import NOTHING, locate_absent_values, locate_values

# How a column's bytes are read. Fixed widths first, then those with a length in front.
COPY1, COPY2, COPY4, COPY8, INT24, YEAR, BIT, ENUM, SET, DECIMAL, SKIP = range(11)
DATE, TIME, DATETIME, TIMESTAMP, OLD_TIME, OLD_DATETIME, OLD_TIMESTAMP = range(11, 18)
BYTES, TEXT, PADDED, RECODED, SKIP_BYTES = range(20, 25)

# Columns of a Reading: the code above, its parameters, and the bytes to read (of the length prefix for the second
# group). A and B are: INT24 1 when unsigned; TIME, DATETIME, TIMESTAMP, old or not, fsp; DECIMAL precision and scale;
# BYTES 1 when they are compressed; PADDED the width of BINARY; RECODED the row of the recoding tables.
CODE, A, B, SIZE = range(4)

# Columns of a target table: address of the values (or bytes of strings), address of the int32 offsets, address of
# Arrow's bitmap of the rows that are not NULL, bytes of strings used so far, NULLs so far, 1 when a TEXT may be no
# UTF-8. The memory may hold anything: of each row everything is written.
VALUES, OFFSETS, VALID, USED, NULLS, DOUBTFUL = range(6)

WIDTHS = {COPY1: 1, COPY2: 2, COPY4: 4, COPY8: 8, INT24: 4, YEAR: 2, BIT: 8, ENUM: 2, SET: 8}
WIDTHS |= {DATE: 4, TIME: 8, DATETIME: 8, TIMESTAMP: 8, OLD_TIME: 8, OLD_DATETIME: 8, OLD_TIMESTAMP: 8}

STRING_LIMIT = 2**31 - 1  # bytes of one Arrow array of strings
DATES = (DATE, DATETIME, TIMESTAMP, OLD_DATETIME, OLD_TIMESTAMP)  # those that may be impossible

Table = npt.NDArray[np.int64]

_BLOCK_ROWS = 128  # a multiple of 8, so that a block begins at a byte of the bitmap
_BLOCK_PLACES = 1 << 14  # of both images together


class DecodeStatus(IntEnum):
    """How a call ended."""

    DONE = 0
    TRUNCATED = 1
    BAD_DECIMAL = 2
    BAD_LENGTH = 4
    TOO_MANY = 5


REASONS = {
    DecodeStatus.TRUNCATED: "the value reaches beyond the end of its event",
    DecodeStatus.BAD_DECIMAL: "a group of DECIMAL digits is out of range",
    DecodeStatus.BAD_LENGTH: "the value is longer than its column",
    DecodeStatus.TOO_MANY: "the event holds more rows than its bytes can, NULLs where the column has none",
}


@dataclass(frozen=True, slots=True)
class DecodeFault:
    """Where and why the kernel stopped; `image` 0 before, 1 after."""

    status: DecodeStatus
    event: int
    image: int
    column: int


# Fields of an image as the kernel knows it: addresses of its reading and target tables, of its columns' steps and
# places, and how many columns it has.
_READING, _TARGET, _STEPS, _PLACES, _COLUMNS = range(5)
# Fields of what all blocks share: bytes from one column's places to the next column's, the end of what may be read, and
# addresses of nothing, of the months, of the recoding tables, of the rows of a block with impossible dates, of the list
# of all such, of the code that reads a block.
_STRIDE, _LIMIT, _NOTHING, _MONTHS, _RECODING, _WRONG, _NOTES, _READER = range(8)


@inner
def _mark_nulls(places: intp, count: int64, nothing: int64, row: int64, out: intp) -> None:
    """Write the bitmap, and count the NULLs; eight rows at a time, of the last eight some may be none."""
    valid = load_i64(out + 8 * VALID) + (row >> 3)
    found = int64(0)
    for r in range(0, count, 8):
        nulls = equal8(places + 8 * r, nothing)
        if count - r < 8:
            nulls = uint8(nulls & ((1 << (count - r)) - 1))
        store_u8(valid + (r >> 3), uint8(~nulls))
        found += ones(nulls)
    store_i64(out + 8 * NULLS, load_i64(out + 8 * NULLS) + found)


@inner
def _temporal(code: int64, places: intp, count: int64, row: int64, how: intp, out: intp, shared: intp) -> int64:
    """A column of dates or times; returns how many are impossible."""
    values, fsp = load_i64(out), load_i64(how + 8 * A)
    nothing, months = load_i64(shared + 8 * _NOTHING), load_i64(shared + 8 * _MONTHS)
    wrong = load_i64(shared + 8 * _WRONG)
    if code == DATETIME:
        return temporal.datetimes(places, count, nothing, months, values + 8 * row, wrong, fsp)
    if code == TIMESTAMP:
        return temporal.timestamps(places, count, nothing, values + 8 * row, wrong, fsp)
    if code == DATE:
        return temporal.dates(places, count, nothing, months, values + 4 * row, wrong)
    if code == TIME:
        temporal.times(places, count, nothing, values + 8 * row, fsp)
        return int64(0)
    size = load_i64(how + 8 * SIZE)
    if code == OLD_DATETIME:
        return old_temporal.old_datetimes(places, count, nothing, months, values + 8 * row, wrong, fsp, size)
    if code == OLD_TIMESTAMP:
        return old_temporal.old_timestamps(places, count, nothing, values + 8 * row, wrong, fsp, size)
    old_temporal.old_times(places, count, nothing, values + 8 * row, fsp, size)
    return int64(0)


@inner
def _note_impossible(
    side: int64, k: int64, places: intp, row: int64, found: int64, code: int64, how: intp, out: intp, shared: intp
) -> None:
    """Make impossible dates NULL, and add them to the list whose length stands in front of it."""
    wrong, notes = load_i64(shared + 8 * _WRONG), load_i64(shared + 8 * _NOTES)
    noted = load_i64(notes)
    for i in range(found):
        r = load_i64(wrong + 8 * i)
        at = load_i64(places + 8 * r)
        packed = int64(0)
        if code == DATE:
            packed = temporal.packed_date(at)
        elif code == DATETIME:
            packed = temporal.packed_datetime(at, load_i64(how + 8 * A))
        elif code == OLD_DATETIME:
            packed = old_temporal.packed_old_datetime(at, load_i64(how + 8 * A), load_i64(how + 8 * SIZE))
        entry = notes + 8 + 32 * (noted + i)
        store_i64(entry, side)
        store_i64(entry + 8, k)
        store_i64(entry + 16, row + r)
        store_i64(entry + 24, packed)
        valid = load_i64(out + 8 * VALID) + ((row + r) >> 3)
        store_u8(valid, uint8(load_u8(valid) & ~(1 << ((row + r) & 7))))
    store_i64(notes, noted + found)
    store_i64(out + 8 * NULLS, load_i64(out + 8 * NULLS) + found)


@inner
def _strings(code: int64, places: intp, count: int64, row: int64, how: intp, out: intp, shared: intp) -> int64:
    """A column of strings; returns -1, or the row with a value longer than its column."""
    target, used, prefix = load_i64(out), load_i64(out + 8 * USED), load_i64(how + 8 * SIZE)
    ends = load_i64(out + 8 * OFFSETS) + 4 * (row + 1)
    limit, nothing = load_i64(shared + 8 * _LIMIT), load_i64(shared + 8 * _NOTHING)
    if code == PADDED:
        done = text.padded_strings(places, count, prefix, limit, target, ends, used, nothing, load_i64(how + 8 * B))
        if done < 0:
            return -1 - done
    elif code == RECODED:
        table = load_i64(shared + 8 * _RECODING) + 1024 * load_i64(how + 8 * B)
        done = text.recoded_strings(places, count, prefix, limit, target, ends, used, table)
    else:
        done = text.strings(places, count, prefix, limit, target, ends, used)
        if code == TEXT and not text.are_utf8(target, used, done, ends, count):
            store_i64(out + 8 * DOUBTFUL, 1)
    store_i64(out + 8 * USED, done)
    return int64(-1)


@inner
def _fixed(code: int64, places: intp, count: int64, row: int64, how: intp, out: intp, shared: intp) -> None:
    """A column of numbers of fixed width, none of which can be wrong."""
    values, size = load_i64(out), load_i64(how + 8 * SIZE)
    if code <= COPY8:
        numbers.copied(places, count, values + size * row, size)
    elif code == INT24:
        numbers.widened_24(places, count, values + 4 * row, load_i64(how + 8 * A) == 1)
    elif code == YEAR:
        numbers.years(places, count, values + 2 * row)
    elif code == BIT:
        numbers.bits(places, count, values + 8 * row, size)
    elif code == ENUM:
        labels.enums(places, count, load_i64(shared + 8 * _NOTHING), values + 2 * row, size)
    elif code == SET:
        labels.sets(places, count, values + 8 * row, size)


@kernel(has_wrapper=False)
def _read_block(side: int64, image: intp, count: int64, row: int64, shared: intp) -> tuple[int64, int64, int64]:
    """Read the `count` values of each column whose places are known, to the rows from `row` on.

    Returns (Status, row in the block, column).
    """
    stride, nothing = load_i64(shared + 8 * _STRIDE), load_i64(shared + 8 * _NOTHING)
    for k in range(load_i64(image + 8 * _COLUMNS)):
        how = load_i64(image + 8 * _READING) + 32 * k
        out = load_i64(image + 8 * _TARGET) + 48 * k
        places = load_i64(image + 8 * _PLACES) + stride * k
        code = load_i64(how)
        if code == SKIP or code == SKIP_BYTES:  # noqa: SIM109 - a kernel is slow to compile with tuples
            continue
        _mark_nulls(places, count, nothing, row, out)
        if code >= BYTES:
            bad = _strings(code, places, count, row, how, out, shared)
            if bad >= 0:
                return int64(4), bad, k
        elif code == DECIMAL:
            precision = load_i64(how + 8 * A)
            width = 16 if precision <= 38 else 32
            target = load_i64(out) + width * row
            bad = decimals.decimals(places, count, nothing, target, precision, load_i64(how + 8 * B))
            if bad >= 0:
                return int64(2), bad, k
        elif DATE <= code <= OLD_TIMESTAMP:
            found = _temporal(code, places, count, row, how, out, shared)
            if found > 0:
                _note_impossible(side, k, places, row, found, code, how, out, shared)
        else:
            _fixed(code, places, count, row, how, out, shared)
    return int64(0), int64(0), int64(0)


@inner
def _fill_absent(image: intp, count: int64, row: int64, widths: intp) -> None:
    """Rows whose operation has not this image: zeros, strings of no bytes, and no NULL."""
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
def _locate_missing(image: intp, ops: intp, lacking: int64, count: int64, shared: intp) -> None:
    """Places for the rows of a block whose operation, `lacking`, has not this image."""
    stride, nothing = load_i64(shared + 8 * _STRIDE), load_i64(shared + 8 * _NOTHING)
    for r in range(count):
        if load_i64(ops + 8 * r) == lacking:
            places = load_i64(image + 8 * _PLACES) + 8 * r
            locate_absent_values(load_i64(image + 8 * _COLUMNS), places, stride, nothing)


_READ_BLOCK_CODE = code_address(_read_block)
_read_block_at = call_by_address(_read_block)


@inner
def _finish_block(
    images: intp, ops: intp, widths: intp, count: int64, row: int64, shared: intp
) -> tuple[int64, int64, int64, int64]:
    """Read both images of the rows of a block; returns (Status, row in the block, image, column)."""
    for side in range(2):
        image = images + 40 * side
        lacking = int64(0 if side == 0 else 2)
        present = int64(0)
        for r in range(count):
            present += int64(load_i64(ops + 8 * r) != lacking)
        if present == 0:
            _fill_absent(image, count, row, load_i64(widths + 8 * side))
            continue
        if present < count:
            _locate_missing(image, ops, lacking, count, shared)
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
    """Returns (Status, event, image, column); writes no more than `most` rows. A block has `room` for rows: an array of
    their operations, and behind it one of their events.
    """
    block_events = block_ops + 8 * room
    before, after = images, images + 40
    stride, nothing = load_i64(shared + 8 * _STRIDE), load_i64(shared + 8 * _NOTHING)
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
                    load_i64(image + 8 * _PLACES) + 8 * count, stride, nothing,
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
    """How an image is read: a row of `reading` for each column, and the bytes that its values take in memory, 0 for
    strings.
    """

    reading: Table
    widths: npt.NDArray[np.int64]
    steps: npt.NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        sizes = self.reading[:, SIZE]
        object.__setattr__(self, "steps", np.where(self.reading[:, CODE] >= BYTES, -sizes, sizes))


def decode_rows(
    base: int,
    events: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int8]],
    readings: tuple[ImageSpec, ImageSpec],
    targets: tuple[Table, Table],
    notes: int,
    most: int,
) -> npt.NDArray[np.int64] | DecodeFault:
    """Decode all rows of `events` (offsets of first row and end from `base`, op), before and after images into
    `targets`.

    There is memory for `most` rows. `notes` is the address of a list of impossible dates: their number, 0 at first,
    then (image, column, row, packed value) of each.
    Returns the rows of each event, or the Fault that ended it.
    """
    columns = max(len(reading.reading) for reading in readings)
    size = max(8, min(_BLOCK_ROWS, _BLOCK_PLACES // max(2 * columns, 1) & ~7))
    # Columns are not a power of two apart, which would put them all in one place of the cache.
    places = np.empty((2, columns, size + 8), np.int64)
    images = np.array(
        [
            [address(reading.reading), address(target), address(reading.steps), address(own), len(reading.reading)]
            for reading, target, own in zip(readings, targets, places, strict=True)
        ],
        np.int64,
    )
    widths = np.array([address(reading.widths) for reading in readings])
    block, wrong = np.zeros((2, size), np.int64), np.empty(size + 1, np.int64)
    limit = base + int(events[1].max(initial=0))
    constants = [address(array) for array in (NOTHING, temporal.MONTHS, text.RECODING_TABLES, wrong)]
    shared = np.array([8 * (size + 8), limit, *constants, notes, _READ_BLOCK_CODE])
    counts = np.zeros(len(events[0]), np.int64)
    arrays = [address(array) for array in (*events, counts, images, widths, shared, block)]
    status, event, image, column = _decode(*[base, len(counts), *arrays, size, most])
    return DecodeFault(DecodeStatus(status), event, image, column) if status else counts
