"""Decodes the cells of one column, of `count` rows, into Arrow's values. NULLs are written as 0.

A kernel that checks its values returns -1, or the row of the first value that is invalid.
"""

from __future__ import annotations

from binlogsync.binlog.compiling import inner
from binlogsync.binlog.kernel_types import boolean, int32, int64, intp, uint16, uint64
from binlogsync.binlog.memory import (
    load_be,
    load_i32,
    load_i64,
    load_u8,
    load_u16,
    load_u32,
    load_u64,
    store_i32,
    store_i64,
    store_u16,
    store_u64,
)
from binlogsync.binlog.types.decimals import multiply_add, negate, power_of_ten
from binlogsync.binlog.types.labels import INVALID
from binlogsync.binlog.types.text import append
from binlogsync.mysql.result_set.cells import cell

_DAY = 86_400_000_000
_MOST_DAYS = 34  # 838 hours


@inner(apart=True)
def enums(pointers: intp, count: int64, zeros: intp, target: intp) -> int64:
    """Numbers of labels in eight bytes to uint16, as labels.enum_array takes them: INVALID for number 0."""
    for r in range(count):
        at = load_i64(pointers + 8 * r)
        number = load_u64(at)
        if number >= uint64(INVALID):
            return int64(r)
        store_u16(target + 2 * r, uint16(INVALID) if number == 0 and at != zeros else uint16(number))
    return int64(-1)


@inner(apart=True)
def bits(pointers: intp, count: int64, target: intp) -> int64:
    """BIT: bytes, most significant first, to uint64."""
    for r in range(count):
        at, size = cell(load_i64(pointers + 8 * r))
        if size > 8:
            return int64(r)
        store_u64(target + 8 * r, load_be(at, size))
    return int64(-1)


@inner(apart=True)
def strings(pointers: intp, count: int64, limit: intp, target: intp, ends: intp, used: int64) -> int64:
    """Append the bytes to `target` after its first `used`, and write an end offset for each row; see types/text.py."""
    for r in range(count):
        at, size = cell(load_i64(pointers + 8 * r))
        append(target + used, at, size, limit)
        used += size
        store_i32(ends + 4 * r, int32(used))
    return used


@inner
def _date(at: intp, size: int64, months: intp) -> tuple[int64, int64]:
    """(days since 1970, packed date) of 0 or at least four bytes; the days of an impossible date are below any other.

    A packed date is `year << 9 | month << 5 | day`.
    """
    if size == 0:
        return int64(-(2**40)), int64(0)
    year, month, day = int64(load_u16(at)), int64(load_u8(at + 2)), int64(load_u8(at + 3))
    entry = int64(load_i32(months + 4 * (year * 13 + month))) if year <= 9999 and month <= 12 else int64(0)
    packed = year << 9 | (month & 15) << 5 | (day & 31)
    return (entry >> 5) + day - 1 if 0 < day <= entry & 31 else int64(-(2**40)), packed


@inner(apart=True)
def dates(pointers: intp, count: int64, zeros: intp, months: intp, target: intp, wrong: intp) -> tuple[int64, int64]:
    """DATE to int32 days. Writes (row, packed value) of impossible dates to `wrong`, as temporal.impossible_text takes
    them; returns (-1 or the row of an invalid value, number of impossible dates).
    """
    found = int64(0)
    for r in range(count):
        pointer = load_i64(pointers + 8 * r)
        at, size = cell(pointer)
        if size != 4 and size != 0:  # noqa: PLR1714 - a kernel is slow to compile with tuples
            return int64(r), found
        days, packed = _date(at, size, months)
        is_wrong = days < -(2**39)
        store_i32(target + 4 * r, int32(0 if is_wrong else days))
        store_i64(wrong + 16 * found, r)
        store_i64(wrong + 16 * found + 8, packed << 40)
        found += int64(is_wrong and pointer != zeros)
    return int64(-1), found


@inner(apart=True)
def datetimes(
    pointers: intp, count: int64, zeros: intp, months: intp, target: intp, wrong: intp
) -> tuple[int64, int64]:
    """DATETIME and TIMESTAMP to int64 microseconds since 1970; handles impossible dates as `dates` does."""
    found = int64(0)
    for r in range(count):
        pointer = load_i64(pointers + 8 * r)
        at, size = cell(pointer)
        micros = int64(0)
        if size == 7 or size == 11:  # noqa: PLR1714
            clock = int64(load_u8(at + 4)) * 3600 + int64(load_u8(at + 5)) * 60 + int64(load_u8(at + 6))
            micros = clock * 1_000_000
            if size == 11:
                micros += int64(load_u32(at + 7))
        elif size != 4 and size != 0:  # noqa: PLR1714
            return int64(r), found
        days, packed = _date(at, size, months)
        if micros >= _DAY:
            return int64(r), found
        is_wrong = days < -(2**39)
        store_i64(target + 8 * r, int64(0) if is_wrong else days * _DAY + micros)
        store_i64(wrong + 16 * found, r)
        store_i64(wrong + 16 * found + 8, packed << 40 | micros)
        found += int64(is_wrong and pointer != zeros)
    return int64(-1), found


@inner(apart=True)
def times(pointers: intp, count: int64, target: intp) -> int64:
    """TIME to int64 microseconds."""
    for r in range(count):
        at, size = cell(load_i64(pointers + 8 * r))
        if size == 0:
            store_i64(target + 8 * r, int64(0))
            continue
        if (size != 8 and size != 12) or load_u8(at) > 1 or load_u32(at + 1) > _MOST_DAYS:  # noqa: PLR1714
            return int64(r)
        hours = int64(load_u32(at + 1)) * 24 + int64(load_u8(at + 5))
        value = (hours * 3600 + int64(load_u8(at + 6)) * 60 + int64(load_u8(at + 7))) * 1_000_000
        if size == 12:
            value += int64(load_u32(at + 8))
        store_i64(target + 8 * r, -value if load_u8(at) else value)
    return int64(-1)


@inner
def _digits(at: intp, count: int64) -> int64:
    """The number of up to 18 decimal digits; -1 for any other text."""
    value, wrong = int64(0), False
    for i in range(count):
        digit = int64(load_u8(at + i)) - 48
        wrong |= digit < 0 or digit > 9
        value = value * 10 + digit
    return int64(-1) if wrong else value


@inner
def _append_digits(target: intp, width: int64, at: intp, count: int64) -> boolean:
    """Append decimal digits to the number at `target`; False for any other text."""
    while count > 0:
        part = min(count, 9)
        group = _digits(at, part)
        if group < 0:
            return False
        multiply_add(target, width, power_of_ten(part), uint64(group))
        at += part
        count -= part
    return True


@inner
def _store_zero(target: intp, width: int64) -> None:
    for k in range(0, width, 8):
        store_u64(target + k, uint64(0))


@inner(apart=True)
def decimals(pointers: intp, count: int64, zeros: intp, target: intp, precision: int64, scale: int64) -> int64:
    """DECIMAL, as text with `scale` digits after the point, to 16 bytes, or 32 for more than 38 digits."""
    width = int64(16 if precision <= 38 else 32)
    for r in range(count):
        pointer, out = load_i64(pointers + 8 * r), target + width * r
        at, size = cell(pointer)
        if pointer == zeros:
            _store_zero(out, width)
            continue
        is_negative = size > 0 and load_u8(at) == 45
        if is_negative:
            at, size = at + 1, size - 1
        whole = size - scale - 1 if scale > 0 else size
        # A number below 1 has a zero before the point; ZEROFILL has zeros up to the precision.
        if whole < 1 or whole > max(precision - scale, 1) or (scale > 0 and load_u8(at + whole) != 46):
            return int64(r)
        if precision == scale and load_u8(at) != 48:
            return int64(r)
        if precision > 17:
            _store_zero(out, width)
            if not (_append_digits(out, width, at, whole) and _append_digits(out, width, at + whole + 1, scale)):
                return int64(r)
            if is_negative:
                negate(out, width)
            continue
        high, low = _digits(at, whole), _digits(at + whole + 1, scale)
        if high < 0 or low < 0:
            return int64(r)
        value = high
        for _ in range(scale):
            value *= 10
        value += low
        value = -value if is_negative else value
        store_i64(out, value)
        store_i64(out + 8, value >> 63)
    return int64(-1)
