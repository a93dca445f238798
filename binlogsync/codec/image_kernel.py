"""Writes the row images of a few row events as JSON text, from the bytes of the events, in one kernel call.

It decodes with the kernels of binlog/types and writes with those of json_kernels.py, a value at a time. It checks each
value against the end of its event before reading it. An event with a value that it cannot write, or that is invalid,
is left out: the decoder of columns (binlog/rows.py) then handles it, or raises the error.
"""

from __future__ import annotations

from binlogsync.binlog.compiling import inner, kernel
from binlogsync.binlog.kernel_types import int32, int64, intp, uint8, uint32, uint64
from binlogsync.binlog.memory import (
    copy,
    load_be,
    load_i32,
    load_i64,
    load_u8,
    load_u16,
    load_u24,
    load_u32,
    load_u64,
    lowest_bit,
    store_i64,
    store_u8,
    store_u32,
)
from binlogsync.binlog.types import decimals, temporal, text
from binlogsync.binlog.value_pointers import length
from binlogsync.codec.json_kernels import (
    put_base64,
    put_boolean,
    put_datetime,
    put_day,
    put_duration,
    put_null,
    put_number,
    put_pointed,
    put_signed,
    put_string,
)

# How a value is written. A and B are: INTEGER 1 when unsigned; TIME, DATETIME, TIMESTAMP fsp; DECIMAL precision and
# scale; RECODED the address of its table of 256 entries; PADDED the width of BINARY; APART a number that only the
# caller uses.
INTEGER, YEAR, BIT, BOOLEAN, ENUM, SET, DECIMAL, DATE, TIME, DATETIME, TIMESTAMP, APART, SKIP = range(13)
TEXT, RECODED, BINARY, PADDED, APART_BYTES, SKIP_BYTES = range(13, 19)

# Fields of a column: the code above, A, B, size of its values (of the length prefix from TEXT on), address and size of
# the text before the value (`{"name":`), for labels their number, address of their end offsets and of their texts.
CODE, A, B, SIZE, NAME, NAME_SIZE, LABELS, LABEL_ENDS, LABEL_TEXTS = range(9)
FIELDS = 9
_STRIDE = 8 * FIELDS
# Fields of a plan: number of columns and address of the first, of the image before and of the image after.
PLAN_FIELDS = 4
# Addresses shared by all events.
ZEROS, MONTHS, TABLES, SCRATCH, APART_LIST = range(5)
SHARED_FIELDS = 5
SCRATCH_BYTES = 192
APART_FIELDS = 4
"""Numbers of a value that the caller has to write: offset in the output, address, size, A of its column."""
MOST_APART = 256
_GROUP, _GROUPS = uint64(1_000_000_000), 9  # nine digits; groups in 32 bytes
_VALUE_ROOM = 512  # for a value without text


@inner
def _unsigned(source: intp, size: int64) -> uint64:
    """A little-endian integer of 1, 2, 3, 4 or 8 bytes."""
    if size == 4:
        return uint64(load_u32(source))
    if size == 8:
        return load_u64(source)
    if size == 1:
        return uint64(load_u8(source))
    if size == 2:
        return uint64(load_u16(source))
    return load_u24(source)


@inner
def _put_label(at: intp, column: intp, number: int64, tables: intp) -> intp:
    """The label of that number, from 0."""
    ends = load_i64(column + 8 * LABEL_ENDS) + 8 * number
    start = load_i64(ends)
    return put_string(at, load_i64(column + 8 * LABEL_TEXTS) + start, load_i64(ends + 8) - start, tables)


@inner
def _put_labelled(code: int64, column: intp, source: intp, at: intp, limit: intp, tables: intp) -> intp:
    """ENUM or SET; -1 for a number without a label, or without room."""
    size, labels = load_i64(column + 8 * SIZE), load_i64(column + 8 * LABELS)
    value = uint64(0)
    for i in range(size):
        value |= uint64(load_u8(source + i)) << uint64(8 * i)
    texts = load_i64(load_i64(column + 8 * LABEL_ENDS) + 8 * labels)
    if at + 6 * texts + 4 * labels + _VALUE_ROOM > limit:
        return -1
    if code == ENUM:
        if value > uint64(labels):
            return -1
        if value == 0:
            return put_string(at, at, 0, tables)
        return _put_label(at, column, int64(value) - 1, tables)
    if labels < 64 and value >> uint64(labels) != 0:
        return -1
    store_u8(at, uint8(91))
    at += 1
    is_first = True
    while value:
        if not is_first:
            store_u8(at, uint8(44))
            at += 1
        is_first = False
        at = _put_label(at, column, int64(lowest_bit(value)), tables)
        value &= value - uint64(1)
    store_u8(at, uint8(93))
    return at + 1


@inner
def _write_digits(number: intp, width: intp, end: intp) -> intp:
    """Write the digits of a number of `width` bytes in two's complement, which is destroyed, before the address `end`;
    returns where they begin.
    """
    is_negative = load_i64(number + width - 8) < 0
    if is_negative:
        decimals.negate(number, width)
    at = end
    for _ in range(_GROUPS):
        rest = uint64(0)
        for k in range(width - 4, -1, -4):
            dividend = rest << uint64(32) | uint64(load_u32(number + k))
            rest = dividend % _GROUP
            store_u32(number + k, uint32(dividend // _GROUP))
        for _ in range(9):
            at -= 1
            store_u8(at, uint8(uint64(48) + rest % uint64(10)))
            rest //= uint64(10)
    while at < end - 1 and load_u8(at) == 48:
        at += 1
    if is_negative:
        at -= 1
        store_u8(at, uint8(45))
    return at


@inner
def _put_decimal(column: intp, source: intp, at: intp, scratch: intp, tables: intp) -> intp:
    """DECIMAL; -1 for invalid digits."""
    precision, scale = load_i64(column + 8 * A), load_i64(column + 8 * B)
    width = 16 if precision <= 38 else 32
    if not decimals.decimal(scratch, width, source, precision, scale):
        return -1
    digits = scratch + 64
    if precision <= 18:
        return put_pointed(at, digits, put_signed(digits, load_i64(scratch), tables) - digits, scale)
    end = digits + 96
    digits = _write_digits(scratch, width, end)
    return put_pointed(at, digits, end - digits, scale)


@inner
def _put_temporal(code: int64, column: intp, source: intp, at: intp, shared: intp) -> intp:
    """DATE, TIME, DATETIME or TIMESTAMP; -1 for an impossible date."""
    zeros, months = load_i64(shared + 8 * ZEROS), load_i64(shared + 8 * MONTHS)
    tables, scratch = load_i64(shared + 8 * TABLES), load_i64(shared + 8 * SCRATCH)
    fsp, value, wrong = load_i64(column + 8 * A), scratch + 8, scratch + 16
    store_i64(scratch, source)
    if code == TIME:
        return put_duration(at, temporal.time(source, fsp), fsp, tables)
    if code == DATE:
        if temporal.dates(scratch, 1, zeros, months, value, wrong) > 0:
            return -1
        return put_day(at, int64(load_i32(value)), tables)
    if code == DATETIME:
        if temporal.datetimes(scratch, 1, zeros, months, value, wrong, fsp) > 0:
            return -1
        return put_datetime(at, load_i64(value), fsp, 0, tables)
    if temporal.timestamps(scratch, 1, zeros, value, wrong, fsp) > 0:
        return -1
    return put_datetime(at, load_i64(value), fsp, 1, tables)


@inner
def _put_fixed(column: intp, source: intp, at: intp, limit: intp, shared: intp) -> intp:
    """A value of fixed size; -1 if it cannot be written."""
    code, tables = load_i64(column), load_i64(shared + 8 * TABLES)
    if code == INTEGER:
        size = load_i64(column + 8 * SIZE)
        value = _unsigned(source, size)
        if load_i64(column + 8 * A) == 1:
            return put_number(at, value, tables)
        sign = uint64(1) << uint64(8 * size - 1)
        return put_signed(at, int64((value ^ sign) - sign), tables)
    if code == YEAR:
        years = uint64(load_u8(source))
        return put_number(at, years + uint64(1900) if years != 0 else uint64(0), tables)
    if code == BIT:
        return put_number(at, load_be(source, load_i64(column + 8 * SIZE)), tables)
    if code == BOOLEAN:
        return put_boolean(at, load_u8(source) != 0)
    if code == DECIMAL:
        return _put_decimal(column, source, at, load_i64(shared + 8 * SCRATCH), tables)
    if code == ENUM or code == SET:  # noqa: SIM109 - a kernel is slow to compile with tuples
        return _put_labelled(code, column, source, at, limit, tables)
    return _put_temporal(code, column, source, at, shared)


@inner
def _put_bytes(column: intp, source: intp, size: int64, at: intp, limit: intp, tables: intp) -> intp:
    """A value with a length prefix; -1 if it cannot be written. Text in another form goes to free memory first."""
    code, width = load_i64(column), load_i64(column + 8 * B)
    if at + 9 * size + 3 * width + _VALUE_ROOM > limit:
        return -1
    if code == TEXT:
        if not text.are_utf8(source, 0, size, 0, 1):
            return -1
        return put_string(at, source, size, tables)
    if code == BINARY:
        return put_base64(at, source, size, tables)
    if code == PADDED:
        if size > width:
            return -1
        free = at + 2 * width + 128
        text.padded(free, source, size, width)
        return put_base64(at, free, width, tables)
    free = at + 6 * size + 128
    return put_string(at, free, text.through_table(free, source, size, load_i64(column + 8 * A)), tables)


@inner
def _note_apart(column: intp, source: intp, size: int64, offset: int64, shared: intp) -> int64:
    """Append a value to the list of those that the caller writes, which begins with its length; -1 if it is full."""
    listed = load_i64(shared + 8 * APART_LIST)
    count = load_i64(listed)
    if count == MOST_APART:
        return int64(-1)
    entry = listed + 8 + 8 * APART_FIELDS * count
    store_i64(entry, offset)
    store_i64(entry + 8, source)
    store_i64(entry + 16, size)
    store_i64(entry + 24, load_i64(column + 8 * A))
    store_i64(listed, count + 1)
    return int64(0)


@inner
def _put_image(
    source: intp, end: int64, plan: intp, at: intp, out: intp, limit: intp, shared: intp
) -> tuple[int64, int64]:
    """Write one image; returns (where the image ends, where its text ends), or (-1, 0)."""
    columns, column = load_i64(plan), load_i64(plan + 8)
    bits = source
    source += (columns + 7) >> 3
    if source > end:
        return int64(-1), int64(0)
    if columns == 0:
        store_u8(at, uint8(123))
        at += 1
    for k in range(columns):
        name = load_i64(column + 8 * NAME_SIZE)
        if at + name + _VALUE_ROOM > limit:
            return int64(-1), int64(0)
        copy(at, load_i64(column + 8 * NAME), name)
        at += name
        code, size = load_i64(column), load_i64(column + 8 * SIZE)
        is_fixed = code < TEXT
        if (load_u8(bits + (k >> 3)) >> (k & 7)) & 1 != 0:
            at = put_null(at)
        else:
            if source + size > end:
                return int64(-1), int64(0)
            if not is_fixed:
                prefix, size = size, length(source, size)
                source += prefix
                if source + size > end:
                    return int64(-1), int64(0)
            if code == APART or code == APART_BYTES:  # noqa: SIM109 - a kernel is slow to compile with tuples
                if _note_apart(column, source, size, at - out, shared) < 0:
                    return int64(-1), int64(0)
            elif code != SKIP and code != SKIP_BYTES:
                if is_fixed:
                    at = _put_fixed(column, source, at, limit, shared)
                else:
                    at = _put_bytes(column, source, size, at, limit, load_i64(shared + 8 * TABLES))
                if at < 0:
                    return int64(-1), int64(0)
            source += size
        column += _STRIDE
    store_u8(at, uint8(125))
    return int64(source), int64(at + 1)


@kernel
def write_images(
    count: int64,
    starts: intp,
    ends: intp,
    layouts: intp,
    ops: intp,
    plans: intp,
    out: intp,
    limit: intp,
    counts: intp,
    rows: intp,
    most: int64,
    shared: intp,
) -> tuple[int64, int64]:
    """Write the images of `count` row events, given by the addresses of the arrays of RowEvents.

    `plans` has the address of the plan of each layout, or 0. Writes to `counts` the number of rows of each event, or -1
    if it was left out; to `rows`, for each of up to `most` rows, where the texts of its images before and after end.
    Returns (rows, bytes of text); an image that the operation does not have is `null`.
    """
    at, row = out, int64(0)
    listed = load_i64(shared + 8 * APART_LIST)
    store_i64(listed, 0)
    for e in range(count):
        source, end = load_i64(starts + 8 * e), load_i64(ends + 8 * e)
        op, plan = int64(load_u8(ops + e)), load_i64(plans + 8 * int64(int32(load_i32(layouts + 4 * e))))
        begun, first, apart = at, row, load_i64(listed)
        if plan == 0:
            source = -1
        while 0 <= source < end:
            if row == most or at + _VALUE_ROOM > limit:
                source = -1
                break
            for side in range(2):
                if source < 0:
                    continue
                if op == 2 * side:
                    at = put_null(at)
                else:
                    source, at = _put_image(source, end, plan + 16 * side, at, out, limit, shared)
                store_i64(rows + 16 * row + 8 * side, at - out)
            row += 1
        if source < 0:
            at, row = begun, first
            store_i64(listed, apart)
        store_i64(counts + 8 * e, row - first if source >= 0 else int64(-1))
    return row, int64(at - out)
