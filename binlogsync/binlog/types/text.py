"""CHAR, VARCHAR, TEXT, BINARY, VARBINARY, BLOB: a length, then bytes; to Arrow's strings and binaries.

UTF-8 is copied (and checked afterwards where a byte above 0x7f was seen), a single-byte character set goes through a
table of 256 UTF-8 sequences, BINARY(n) gets back the zero bytes that the binlog leaves out.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from binlogsync.binlog.compiling import inner
from binlogsync.binlog.kernel_types import boolean, int32, int64, intp, uint8, uint32, uint64
from binlogsync.binlog.memory import (
    copy,
    copy64,
    high64,
    load_i32,
    load_i64,
    load_u8,
    load_u32,
    load_u64,
    lowest_bit,
    store_i32,
    store_u8,
    store_u32,
)
from binlogsync.binlog.types.recoding import MULTI_BYTE, SINGLE_BYTE, characters_of, multi_byte_decoder
from binlogsync.binlog.value_pointers import length

UTF8_CHARSETS = frozenset({"utf8mb4", "utf8mb3", "ascii"})


@inner
def is_ascii(source: intp, size: intp) -> boolean:
    """True when no byte is above 0x7f."""
    wide = size & ~63
    for i in range(0, wide, 64):
        if high64(source + i) != 0:
            return False
    seen = uint64(0)
    whole = size & ~7
    for i in range(wide, whole, 8):
        seen |= load_u64(source + i)
    for i in range(whole, size):
        seen |= uint64(load_u8(source + i))
    return (seen & uint64(0x8080808080808080)) == 0


@inner
def _sequence(source: intp, left: int64) -> int64:
    """Size of the UTF-8 character of several bytes at `source`, with `left` bytes remaining; 0 if it is invalid."""
    lead, second = load_u8(source), load_u8(source + 1) if left > 1 else uint8(0)
    if lead < 0xC2 or lead > 0xF4 or second & 0xC0 != 0x80:
        return int64(0)
    if lead < 0xE0:
        return int64(2)
    if left < 3 or load_u8(source + 2) & 0xC0 != 0x80:
        return int64(0)
    if lead < 0xF0:
        # Neither an overlong encoding nor half of a surrogate pair.
        bad = (lead == 0xE0 and second < 0xA0) or (lead == 0xED and second > 0x9F)
        return int64(0 if bad else 3)
    if left < 4 or load_u8(source + 3) & 0xC0 != 0x80:
        return int64(0)
    bad = (lead == 0xF0 and second < 0x90) or (lead == 0xF4 and second > 0x8F)
    return int64(0 if bad else 4)


@inner(apart=True)
def are_utf8(target: intp, first: int64, last: int64, ends: intp, count: int64) -> boolean:
    """True when the bytes first..last-1 of `target` are UTF-8, and no string ends inside a character."""
    if is_ascii(target + first, last - first):
        return True
    at = target + first
    end = target + last
    while at < end:
        if at + 64 <= end:
            high = high64(at)
            at += 64 if high == 0 else int64(lowest_bit(high))
            if high == 0:
                continue
        if load_u8(at) < 0x80:
            at += 1
        else:
            size = _sequence(at, end - at)
            if size == 0:
                return False
            at += size
    for r in range(count - 1):
        here = target + int64(load_i32(ends + 4 * r))
        if here < end and load_u8(here) & 0xC0 == 0x80:
            return False
    return True


@inner
def padded(target: intp, source: intp, size: intp, width: intp) -> None:
    """BINARY(width): the bytes, then zeros."""
    copy(target, source, size)
    for i in range(size, width):
        store_u8(target + i, uint8(0))


@inner
def through_table(target: intp, source: intp, size: intp, table: intp) -> int64:
    """Recode with the 256 entries at `table`. Returns the number of bytes written, at most three per character; may
    overwrite one more byte.
    """
    # All character sets but swe7 include ASCII; "@" at 0x40 differs in swe7.
    if load_u32(table + 4 * 0x40) == 0x01000040 and is_ascii(source, size):
        copy(target, source, size)
        return int64(size)
    at = target
    for i in range(size):
        entry = load_u32(table + 4 * intp(load_u8(source + i)))
        store_u32(at, entry)
        at += int64(entry >> uint32(24))
    return int64(at - target)


# Whole columns. `strings`, `padded_strings` and `recoded_strings` append to `target` after its first `used` bytes,
# write an end offset for each row, and return the bytes then used. They read no byte at or after `limit`, the end of
# the last event, and may write OVERRUN bytes after the last string.

OVERRUN = 64


@inner
def append(target: intp, source: intp, size: int64, limit: int64) -> None:
    """Copy `size` bytes, in steps of 64 where the bytes after them may be read; see above."""
    if source + size + 64 > limit:
        copy(target, source, size)
        return
    copy64(target, source)
    for i in range(64, size, 64):
        copy64(target + i, source + i)


@inner(apart=True)
def strings(pointers: intp, count: int64, prefix: int64, limit: int64, target: intp, ends: intp, used: int64) -> int64:
    """Strings that are copied without conversion."""
    for r in range(count):
        at = load_i64(pointers + 8 * r)
        size = length(at, prefix)
        append(target + used, at + prefix, size, limit)
        used += size
        store_i32(ends + 4 * r, int32(used))
    return used


@inner(apart=True)
def padded_strings(
    pointers: intp,
    count: int64,
    prefix: int64,
    limit: int64,
    target: intp,
    ends: intp,
    used: int64,
    zeros: intp,
    width: int64,
) -> int64:
    """BINARY(width), padded with zeros; returns -1 - row when a value is longer than that."""
    for r in range(count):
        at = load_i64(pointers + 8 * r)
        if uint64(at - zeros) > 1:
            size = length(at, prefix)
            if size == width:
                append(target + used, at + prefix, size, limit)
            elif size > width:
                return int64(-1 - r)
            else:
                padded(target + used, at + prefix, size, width)
            used += width
        store_i32(ends + 4 * r, int32(used))
    return used


@inner(apart=True)
def recoded_strings(
    pointers: intp, count: int64, prefix: int64, limit: int64, target: intp, ends: intp, used: int64, table: intp
) -> int64:
    """Strings of a single-byte character set, recoded with the 256 entries at `table`."""
    # Most text is ASCII, which all sets but swe7 include ("@" at 0x40 differs in swe7): copy and check it at once.
    if load_u32(table + 4 * 0x40) == 0x01000040:
        done = strings(pointers, count, prefix, limit, target, ends, used)
        if is_ascii(target + used, done - used):
            return done
    for r in range(count):
        at = load_i64(pointers + 8 * r)
        used += through_table(target + used, at + prefix, length(at, prefix), table)
        store_i32(ends + 4 * r, int32(used))
    return used


def recoding_table(characters: str) -> npt.NDArray[np.uint32]:
    """256 entries for 256 characters: UTF-8 bytes in the low three bytes, their count in the highest."""
    encoded = [character.encode() for character in characters]
    return np.array([int.from_bytes(item, "little") | len(item) << 24 for item in encoded], np.uint32)


RECODED_CHARSETS = tuple(sorted(SINGLE_BYTE))
RECODING_TABLES = np.array([recoding_table(characters_of(charset)) for charset in RECODED_CHARSETS])


def decode_text(data: bytes, charset: str) -> str:
    """Decode a string in one of MySQL's character sets; raises ValueError when the bytes are invalid in it."""
    if charset in UTF8_CHARSETS or charset == "binary":
        return data.decode()
    if charset in SINGLE_BYTE:
        characters = characters_of(charset)
        return "".join(characters[byte] for byte in data)
    if charset in MULTI_BYTE:
        return multi_byte_decoder(charset)(data)
    raise ValueError(f"character set {charset} is not known")
