"""Kernels that convert strings and base64, given as spans of a text, to the buffers of Arrow arrays.

Each reads the rows begin..end-1 of one field; for the arguments see field_layout.py. The caller provides room.
"""

from __future__ import annotations

from binlogsync.binlog.compiling import inner
from binlogsync.binlog.kernel_types import int32, int64, intp, uint8
from binlogsync.binlog.memory import copy, load_i32, load_i64, load_u8, store_i32, store_i64, store_u8
from binlogsync.codec.field_layout import (
    FLAGS,
    OFFSETS,
    PARAMETER,
    TABLE,
    USED,
    VALID,
    VALUES,
    WRONG,
    add_to,
    mark_null,
)
from binlogsync.codec.json_scan import ESCAPED, LENGTH, number_end


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


@inner(apart=True)
def read_strings(data: intp, starts: intp, sizes: intp, begin: int64, end: int64, field: intp) -> None:
    """Strings without their escapes; if the parameter is 1, the bytes of numbers."""
    offsets, out, valid = load_i64(field + OFFSETS), load_i64(field + VALUES), load_i64(field + VALID)
    are_numbers, at, flags, wrong = load_i64(field + PARAMETER), out + load_i64(field + USED), int64(0), int64(0)
    for row in range(begin, end):
        if not mark_null(starts, row, valid):
            source, size = data + load_i32(starts + 4 * row), int64(load_i32(sizes + 4 * row))
            flags |= size
            if size & ESCAPED != 0:
                after = _put_unescaped(at, source, source + (size & LENGTH))
                wrong += 1 if after < 0 else 0
                at = max(at, after)
            else:
                size &= LENGTH
                if are_numbers and number_end(source, source + size) != source + size:
                    wrong += 1
                copy(at, source, size)
                at += size
        store_i32(offsets + 4 * row + 4, int32(at - out))
    store_i64(field + USED, at - out)
    store_i64(field + FLAGS, load_i64(field + FLAGS) | flags)
    add_to(field + WRONG, wrong)


@inner(apart=True)
def read_base64(data: intp, starts: intp, sizes: intp, begin: int64, end: int64, field: intp) -> None:
    """Bytes of padded base64; the table has the 6 bits of each letter (lookup_tables.BASE64_VALUES)."""
    offsets, out, valid = load_i64(field + OFFSETS), load_i64(field + VALUES), load_i64(field + VALID)
    letters, at, wrong = load_i64(field + TABLE), out + load_i64(field + USED), int64(0)
    for row in range(begin, end):
        if not mark_null(starts, row, valid):
            source, size = data + load_i32(starts + 4 * row), int64(load_i32(sizes + 4 * row))
            if size & 3 != 0 or size > LENGTH:
                wrong, size = wrong + 1, int64(0)
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
            wrong += 1 if seen > 63 else 0
            at -= padding
        store_i32(offsets + 4 * row + 4, int32(at - out))
    store_i64(field + USED, at - out)
    add_to(field + WRONG, wrong)
