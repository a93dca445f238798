"""Kernels that convert numbers, booleans, labels and times, given as spans of a text, to the values of Arrow arrays.

Each reads the rows begin..end-1 of one field; for the arguments see field_layout.py.
"""

from __future__ import annotations

from binlogsync.binlog.compiling import inner
from binlogsync.binlog.kernel_types import boolean, int64, intp, uint8, uint16, uint32, uint64
from binlogsync.binlog.memory import (
    load_i32,
    load_i64,
    load_u8,
    load_u64,
    same,
    store_i64,
    store_u8,
    store_u16,
    store_u32,
    store_u64,
)
from binlogsync.codec.field_layout import ENDS, FLAGS, PARAMETER, TABLE, VALID, VALUES, WIDTH, WRONG, add_to, mark_null
from binlogsync.codec.json_scan import LENGTH
from binlogsync.codec.time_kernels import parse_time

_MOST_DIGITS = 18  # a number of so many digits fits into 64 bits with a sign
_SIGN = uint64(1 << 63)
_ZEROS, _SIXES, _UPPER_HALVES = (uint64(0x0101010101010101 * byte) for byte in (0x30, 6, 0xF0))
_PAIRS = uint64(0x000000FF000000FF)


@inner
def _put(values: intp, row: int64, width: int64, bits: uint64) -> None:
    """Store a number of `width` bytes."""
    if width == 8:
        store_u64(values + 8 * row, bits)
    elif width == 4:
        store_u32(values + 4 * row, uint32(bits))
    elif width == 2:
        store_u16(values + 2 * row, uint16(bits))
    else:
        store_u8(values + row, uint8(bits))


@inner
def _eight_digits(word: uint64) -> uint64:
    """The number of eight digits, each a byte from 0 to 9: neighbours are combined to two, four and eight digits."""
    word = word * uint64(10) + (word >> uint64(8))
    pairs = (word & _PAIRS) * uint64(100 + (1_000_000 << 32))
    fours = ((word >> uint64(16)) & _PAIRS) * uint64(1 + (10_000 << 32))
    return (pairs + fours) >> uint64(32)


@inner
def _has_others(word: uint64) -> boolean:
    """Whether a byte is above 9."""
    return (word | (word + _SIXES)) & _UPPER_HALVES != 0


@inner(apart=True)
def _natural(at: intp, stop: intp) -> tuple[uint64, boolean]:
    """(the number of these digits, whether it is one in JSON and below 2**64). Reads up to eight bytes before `at`."""
    left = stop - at
    if left < 1 or left > 20 or (left > 1 and load_u8(at) == 48):
        return uint64(0), False
    number, scale, is_bad = uint64(0), uint64(1), False
    while left > 8:
        word = load_u64(stop - 8) ^ _ZEROS
        is_bad = is_bad or _has_others(word)
        number += _eight_digits(word) * scale
        scale *= uint64(100_000_000)
        stop -= 8
        left -= 8
    shift = uint64(64 - 8 * left)
    word = ((load_u64(stop - 8) ^ _ZEROS) >> shift) << shift
    is_bad = is_bad or _has_others(word)
    first = _eight_digits(word)
    if left == 4 and scale == uint64(10_000_000_000_000_000):  # of 20 digits
        is_bad = is_bad or first > uint64(1844) or (first == uint64(1844) and number > uint64(6744073709551615))
    return number + first * scale, not is_bad


@inner(apart=True)
def read_integers(data: intp, starts: intp, sizes: intp, begin: int64, end: int64, field: intp) -> None:
    """Integers; the parameter is 1 if they are signed."""
    width, is_signed = load_i64(field + WIDTH), load_i64(field + PARAMETER)
    values, valid, wrong = load_i64(field + VALUES), load_i64(field + VALID), int64(0)
    most = (_SIGN >> uint64(64 - 8 * width)) - uint64(1) if is_signed else ~uint64(0) >> uint64(64 - 8 * width)
    for row in range(begin, end):
        bits = uint64(0)
        if not mark_null(starts, row, valid):
            at = data + load_i32(starts + 4 * row)
            stop = at + load_i32(sizes + 4 * row)
            is_negative = load_u8(at) == 45
            if is_negative:
                at += 1
            bits, is_good = _natural(at, stop)
            limit = most
            if is_negative:
                limit = most + uint64(1) if is_signed else uint64(0)
            wrong += 0 if is_good and bits <= limit else 1
            if is_negative:
                bits = uint64(0) - bits
        _put(values, row, width, bits)
    add_to(field + WRONG, wrong)


@inner(apart=True)
def read_booleans(data: intp, starts: intp, begin: int64, end: int64, field: intp) -> None:
    """A byte 0 or 1 for false and true."""
    values, valid, wrong = load_i64(field + VALUES), load_i64(field + VALID), int64(0)
    for row in range(begin, end):
        byte = uint8(102)
        if not mark_null(starts, row, valid):
            byte = load_u8(data + load_i32(starts + 4 * row))
        store_u8(values + row, uint8(1 if byte == 116 else 0))
        wrong += 0 if byte == 116 or byte == 102 else 1
    add_to(field + WRONG, wrong)


@inner
def _decimal(at: intp, stop: intp, scale: int64) -> tuple[int64, boolean]:
    """(a number of at most 18 digits without its sign and its point, whether it is one with exactly that scale)."""
    point = stop - scale - 1 if scale > 0 else stop
    if point <= at:
        return int64(0), False
    if load_u8(at) == 48:
        at += 1
    if stop - at > _MOST_DIGITS + (1 if scale > 0 else 0):
        return int64(0), False
    number, wrong = int64(0), int64(0)
    for k in range(at, stop):
        digit = int64(load_u8(k)) - 48
        if k == point:
            wrong += 0 if digit == -2 else 1
        else:
            wrong += 0 if 0 <= digit <= 9 else 1
            number = number * 10 + digit
    return number, wrong == 0


@inner(apart=True)
def read_decimals(data: intp, starts: intp, sizes: intp, begin: int64, end: int64, field: intp) -> None:
    """decimal128 of at most 18 digits, written with exactly their scale, which is the parameter. TABLE is not an
    address here, but the limit below which they must be.
    """
    limit, scale = load_i64(field + TABLE), load_i64(field + PARAMETER)
    values, valid, wrong = load_i64(field + VALUES), load_i64(field + VALID), int64(0)
    for row in range(begin, end):
        number = int64(0)
        if not mark_null(starts, row, valid):
            at = data + load_i32(starts + 4 * row)
            stop = at + load_i32(sizes + 4 * row)
            is_negative = load_u8(at) == 45 and stop > at
            number, is_good = _decimal(at + 1 if is_negative else at, stop, scale)
            wrong += 0 if is_good and number < limit else 1
            number = -number if is_negative else number
        store_i64(values + 16 * row, number)
        store_i64(values + 16 * row + 8, number >> 63)
    add_to(field + WRONG, wrong)


@inner(apart=True)
def read_labels(data: intp, starts: intp, sizes: intp, begin: int64, end: int64, field: intp) -> None:
    """The number of each label. The tables are the labels, as JSON texts without quotes, joined, and the offset after
    each; the parameter is how many there are.
    """
    width, count = load_i64(field + WIDTH), load_i64(field + PARAMETER)
    labels, ends = load_i64(field + TABLE), load_i64(field + ENDS)
    values, valid, wrong = load_i64(field + VALUES), load_i64(field + VALID), int64(0)
    for row in range(begin, end):
        found = int64(0)
        if not mark_null(starts, row, valid):
            source, size = data + load_i32(starts + 4 * row), int64(load_i32(sizes + 4 * row)) & LENGTH
            found = int64(-1)
            for k in range(count):
                first = load_i64(ends + 8 * k)
                if load_i64(ends + 8 * k + 8) - first == size and same(source, labels + first, size):
                    found = k
                    break
            wrong += 1 if found < 0 else 0
        _put(values, row, width, uint64(found))
    add_to(field + WRONG, wrong)


@inner(apart=True)
def read_times(data: intp, starts: intp, sizes: intp, begin: int64, end: int64, field: intp) -> None:
    """Dates, times and durations; the parameter is the kind (time_kernels.py). Those of another format, and impossible
    dates, become NULL.
    """
    width, kind = load_i64(field + WIDTH), load_i64(field + PARAMETER)
    values, valid, wrong, flags = load_i64(field + VALUES), load_i64(field + VALID), int64(0), int64(0)
    for row in range(begin, end):
        number = int64(0)
        if not mark_null(starts, row, valid):
            start, size = int64(load_i32(starts + 4 * row)), int64(load_i32(sizes + 4 * row))
            flags |= size
            number, is_good = parse_time(data, start, start + (size & LENGTH), kind)
            if not is_good:
                number = int64(0)
                store_u8(valid + row, uint8(0))
                wrong += 1
        _put(values, row, width, uint64(number))
    add_to(field + WRONG, wrong)
    store_i64(field + FLAGS, load_i64(field + FLAGS) | flags)
