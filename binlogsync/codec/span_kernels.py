"""Kernels that convert JSON values, given as spans of a text, to the buffers of Arrow arrays.

A span is an int32 start in `data`, -1 for NULL, and an int32 size with the flags of json_scan.py. `valid` gets a byte
for each row, 0 for NULL. A kernel returns -1, or a number of rows that is not 0, if a value has another format than
those that the tail writes.
"""

from __future__ import annotations

from binlogsync.binlog.compiling import inner, kernel
from binlogsync.binlog.kernel_types import boolean, int32, int64, intp, uint8, uint16, uint32, uint64
from binlogsync.binlog.memory import (
    copy,
    load_i32,
    load_i64,
    load_u8,
    load_u64,
    same,
    store_i32,
    store_i64,
    store_u8,
    store_u16,
    store_u32,
    store_u64,
)
from binlogsync.codec.json_scan import ESCAPED, LENGTH, WIDE, number_end

_MOST_DIGITS = 18  # a number of so many digits fits into 64 bits with a sign
_SIGN = uint64(1 << 63)
_ZEROS, _SIXES, _UPPER_HALVES = (uint64(0x0101010101010101 * byte) for byte in (0x30, 6, 0xF0))
_PAIRS = uint64(0x000000FF000000FF)


@inner
def mark_null(starts: intp, row: int64, valid: intp) -> boolean:
    """Whether the row is NULL, which is stored in `valid`."""
    is_null = load_i32(starts + 4 * row) < 0
    store_u8(valid + row, uint8(0 if is_null else 1))
    return is_null


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


@kernel
def read_integers(
    data: intp, starts: intp, sizes: intp, rows: int64, width: int64, is_signed: int64, values: intp, valid: intp
) -> int64:
    """Integers of `width` bytes; returns how many are none, or out of range."""
    wrong = int64(0)
    most = (_SIGN >> uint64(64 - 8 * width)) - uint64(1) if is_signed else ~uint64(0) >> uint64(64 - 8 * width)
    for row in range(rows):
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
        if width == 8:
            store_u64(values + 8 * row, bits)
        elif width == 4:
            store_u32(values + 4 * row, uint32(bits))
        elif width == 2:
            store_u16(values + 2 * row, uint16(bits))
        else:
            store_u8(values + row, uint8(bits))
    return wrong


@kernel
def read_booleans(data: intp, starts: intp, rows: int64, values: intp, valid: intp) -> int64:
    """A byte 0 or 1 for false and true; returns how many values are none."""
    wrong = int64(0)
    for row in range(rows):
        byte = uint8(102)
        if not mark_null(starts, row, valid):
            byte = load_u8(data + load_i32(starts + 4 * row))
        store_u8(values + row, uint8(1 if byte == 116 else 0))
        wrong += 0 if byte == 116 or byte == 102 else 1
    return wrong


@kernel
def read_decimals(
    data: intp, starts: intp, sizes: intp, rows: int64, precision: int64, scale: int64, values: intp, valid: intp
) -> int64:
    """decimal128 of at most 18 digits, written with exactly their scale; returns how many are not."""
    wrong, limit = int64(0), int64(10) ** precision
    for row in range(rows):
        number = int64(0)
        if not mark_null(starts, row, valid):
            at = data + load_i32(starts + 4 * row)
            stop = at + load_i32(sizes + 4 * row)
            is_negative = load_u8(at) == 45 and stop > at
            if is_negative:
                at += 1
            point = stop - scale - 1 if scale > 0 else stop
            if point <= at:
                wrong += 1
                stop = at
            elif load_u8(at) == 48:
                at += 1
            if stop - at > _MOST_DIGITS + (1 if scale > 0 else 0):
                wrong += 1
                stop = at
            for k in range(at, stop):
                digit = int64(load_u8(k)) - 48
                if k == point:
                    wrong += 0 if digit == -2 else 1
                else:
                    wrong += 0 if 0 <= digit <= 9 else 1
                    number = number * 10 + digit
            wrong += 0 if number < limit else 1
            number = -number if is_negative else number
        store_i64(values + 16 * row, number)
        store_i64(values + 16 * row + 8, number >> 63)
    return wrong


@inner
def _hexadecimal(at: intp) -> int64:
    """The number of four hexadecimal digits."""
    number = int64(0)
    for k in range(4):
        byte = int64(load_u8(at + k))
        number = number * 16 + (byte - 48 if byte < 58 else (byte | 32) - 87)
    return number


@inner
def _put_character(at: intp, point: int64) -> intp:
    """Write a code point from 0x80 on as UTF-8."""
    if point < 0x800:
        store_u8(at, uint8(0xC0 | (point >> 6)))
    else:
        if point < 0x10000:
            store_u8(at, uint8(0xE0 | (point >> 12)))
        else:
            store_u8(at, uint8(0xF0 | (point >> 18)))
            at += 1
            store_u8(at, uint8(0x80 | ((point >> 12) & 63)))
        at += 1
        store_u8(at, uint8(0x80 | ((point >> 6) & 63)))
    store_u8(at + 1, uint8(0x80 | (point & 63)))
    return at + 2


@inner(apart=True)
def _put_unescaped(at: intp, source: intp, stop: intp) -> intp:
    """Write a string without its escapes, which json_scan.py has checked; -1 for half of a surrogate pair."""
    while source < stop:
        byte = load_u8(source)
        if byte != 92:
            store_u8(at, byte)
            at += 1
            source += 1
            continue
        letter = load_u8(source + 1)
        source += 2
        if letter == 117:
            point = _hexadecimal(source)
            source += 4
            if 0xD800 <= point < 0xE000:
                if point >= 0xDC00 or source + 6 > stop or load_u8(source) != 92 or load_u8(source + 1) != 117:
                    return -1
                low = _hexadecimal(source + 2)
                if low < 0xDC00 or low > 0xDFFF:
                    return -1
                point = 0x10000 + ((point - 0xD800) << 10) + low - 0xDC00
                source += 6
            if point >= 0x80:
                at = _put_character(at, point)
                continue
            letter = uint8(point)
        elif letter == 110:
            letter = uint8(10)
        elif letter == 116:
            letter = uint8(9)
        elif letter == 114:
            letter = uint8(13)
        elif letter == 98:
            letter = uint8(8)
        elif letter == 102:
            letter = uint8(12)
        store_u8(at, letter)
        at += 1
    return at


@kernel
def read_strings(
    data: intp, starts: intp, sizes: intp, rows: int64, offsets: intp, out: intp, valid: intp
) -> tuple[int64, int64]:
    """(bytes written, or -1 for an invalid escape; WIDE if a text has bytes above 0x7f, or may have)."""
    at, flags = out, int64(0)
    store_i32(offsets, int32(0))
    for row in range(rows):
        if not mark_null(starts, row, valid):
            source, size = data + load_i32(starts + 4 * row), int64(load_i32(sizes + 4 * row))
            flags |= size
            if size & ESCAPED != 0:
                at = _put_unescaped(at, source, source + (size & LENGTH))
                if at < 0:
                    return -1, 0
            else:
                size &= LENGTH
                copy(at, source, size)
                at += size
        store_i32(offsets + 4 * row + 4, int32(at - out))
    return at - out, flags & (WIDE | ESCAPED)


@kernel
def check_numbers(data: intp, starts: intp, sizes: intp, rows: int64) -> int64:
    """Returns how many values are no JSON number."""
    wrong = int64(0)
    for row in range(rows):
        start = load_i32(starts + 4 * row)
        if start >= 0:
            stop = data + start + load_i32(sizes + 4 * row)
            wrong += 0 if number_end(data + start, stop) == stop else 1
    return wrong


@kernel
def read_base64(
    data: intp, starts: intp, sizes: intp, rows: int64, offsets: intp, out: intp, valid: intp, letters: intp
) -> int64:
    """Bytes written, or -1 for a text that is not padded base64; `letters` is the address of BASE64_VALUES."""
    at = out
    store_i32(offsets, int32(0))
    for row in range(rows):
        if not mark_null(starts, row, valid):
            source, size = data + load_i32(starts + 4 * row), int64(load_i32(sizes + 4 * row))
            if size & 3 != 0 or size > LENGTH:
                return -1
            padding = int64(0)
            if size > 0 and load_u8(source + size - 1) == 61:
                padding = 2 if load_u8(source + size - 2) == 61 else 1
            seen = int64(0)
            for k in range(source, source + size, 4):
                first, second = int64(load_u8(letters + load_u8(k))), int64(load_u8(letters + load_u8(k + 1)))
                third, fourth = int64(load_u8(letters + load_u8(k + 2))), int64(load_u8(letters + load_u8(k + 3)))
                if padding > 0 and k == source + size - 4:
                    fourth = 0
                    third = 0 if padding == 2 else third
                seen |= first | second | third | fourth
                bits = (first << 18) | (second << 12) | (third << 6) | fourth
                store_u8(at, uint8(bits >> 16))
                store_u8(at + 1, uint8(bits >> 8))
                store_u8(at + 2, uint8(bits))
                at += 3
            if seen > 63:
                return -1
            at -= padding
        store_i32(offsets + 4 * row + 4, int32(at - out))
    return at - out


@kernel
def read_labels(
    data: intp,
    starts: intp,
    sizes: intp,
    rows: int64,
    labels: intp,
    ends: intp,
    count: int64,
    values: intp,
    valid: intp,
) -> int64:
    """The int32 number of each label, given as JSON texts without quotes; returns how many values are none."""
    wrong = int64(0)
    for row in range(rows):
        found = int64(0)
        if not mark_null(starts, row, valid):
            source, size = data + load_i32(starts + 4 * row), int64(load_i32(sizes + 4 * row)) & LENGTH
            found = int64(-1)
            for k in range(count):
                begin = load_i64(ends + 8 * k)
                if load_i64(ends + 8 * k + 8) - begin == size and same(source, labels + begin, size):
                    found = k
                    break
            wrong += 1 if found < 0 else 0
        store_i32(values + 4 * row, int32(found))
    return wrong
