"""DATE, TIME, DATETIME and TIMESTAMP with their fractions, to days and microseconds.

A value that no calendar has (zero date, zero month or day, 31 February, year 0) cannot be an Arrow date: a kernel
lists its row, and `impossible_text` prints it as MySQL does. Source: my_time_packed_from_binary,
my_datetime_packed_from_binary and my_timestamp_from_binary in mysys/my_time.cc.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from binlogsync.binlog.compiling import inner
from binlogsync.binlog.kernel_types import int32, int64, intp, uint64
from binlogsync.binlog.memory import (
    load_be,
    load_be16,
    load_be24,
    load_be32,
    load_be40,
    load_i64,
    load_u8,
    load_u24,
    load_u32,
    store_i32,
    store_i64,
)

MICROS_PER_DAY = 86_400_000_000


def _month_table() -> npt.NDArray[np.int32]:
    """The months of the years 1 to 9999, which Python and Arrow can hold, by year * 13 + month as DATETIME counts them.

    Of each the days from 1970 to its first day and, in the low five bits, how many days it has: 0 for no month.
    """
    numbers = np.arange(13, 10_000 * 13)
    numbers = numbers[numbers % 13 > 0]
    months = (numbers // 13 - 1970) * 12 + numbers % 13 - 1
    first, following = (
        count.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) for count in (months, months + 1)
    )
    table = np.zeros(1 << 17, np.int32)
    table[numbers] = first << 5 | (following - first)
    return table


MONTHS = _month_table()


@inner
def fraction(source: intp, fsp: intp) -> int64:
    """Microseconds from the (fsp + 1) // 2 bytes after the seconds."""
    if fsp == 0:
        return int64(0)
    if fsp <= 2:
        return int64(load_u8(source)) * 10000
    if fsp <= 4:
        return int64(load_be16(source)) * 100
    return int64(load_be24(source))


@inner(apart=True)
def dates(pointers: intp, count: int64, zeros: intp, months: intp, target: intp, wrong: intp) -> int64:
    """DATE to int32 days, 0 for NULL; writes the rows with impossible dates to `wrong` and returns their number."""
    found = int64(0)
    for r in range(count):
        at = load_i64(pointers + 8 * r)
        packed = int64(load_u24(at))
        month = (packed >> 9) * 13 + ((packed >> 5) & 15)
        entry = int64(int32(load_u32(months + 4 * (month & 0x1FFFF))))
        day = packed & 31
        right = day > 0 and day <= (entry & 31) and month < 130_000 and ((packed >> 5) & 15) <= 12
        store_i32(target + 4 * r, int32((entry >> 5) + day - 1 if right else 0))
        store_i64(wrong + 8 * found, r)
        found += int64(not right and uint64(at - zeros) > 1)
    return found


@inner(apart=True)
def datetimes(pointers: intp, count: int64, zeros: intp, months: intp, target: intp, wrong: intp, fsp: int64) -> int64:
    """DATETIME to int64 microseconds since 1970, without a zone; handles impossible dates as `dates` does."""
    found = int64(0)
    for r in range(count):
        at = load_i64(pointers + 8 * r)
        packed = int64(load_be40(at)) - 0x8000000000
        entry = int64(int32(load_u32(months + 4 * ((packed >> 22) & 0x1FFFF))))
        day = (packed >> 17) & 31
        seconds = ((packed >> 12) & 31) * 3600 + ((packed >> 6) & 63) * 60 + (packed & 63)
        micros = seconds * 1_000_000 + fraction(at + 5, fsp)
        right = packed >= 0 and day > 0 and day <= (entry & 31) and micros < 86_400_000_000
        store_i64(target + 8 * r, ((entry >> 5) + day - 1) * 86_400_000_000 + micros if right else int64(0))
        store_i64(wrong + 8 * found, r)
        found += int64(not right and uint64(at - zeros) > 1)
    return found


@inner(apart=True)
def timestamps(pointers: intp, count: int64, zeros: intp, target: intp, wrong: intp, fsp: int64) -> int64:
    """TIMESTAMP to int64 microseconds since 1970 UTC; 0 is the zero date, which is handled as in `dates`."""
    found = int64(0)
    for r in range(count):
        at = load_i64(pointers + 8 * r)
        micros = int64(load_be32(at)) * 1_000_000 + fraction(at + 4, fsp)
        store_i64(target + 8 * r, micros)
        store_i64(wrong + 8 * found, r)
        found += int64(micros == 0 and uint64(at - zeros) > 1)
    return found


@inner
def packed_date(source: intp) -> int64:
    """DATE in the packed form for `impossible_text`."""
    return int64(load_u24(source)) << 40


@inner
def packed_datetime(source: intp, fsp: int64) -> int64:
    """DATETIME in the packed form for `impossible_text`: year, month and day, above 40 bits of microseconds."""
    packed = int64(load_be40(source)) - 0x8000000000
    months = (packed >> 22) & 0x1FFFFF
    seconds = ((packed >> 12) & 31) * 3600 + ((packed >> 6) & 63) * 60 + (packed & 63)
    micros = seconds * 1_000_000 + fraction(source + 5, fsp)
    return ((((months // 13) << 9) | ((months % 13) << 5) | ((packed >> 17) & 31)) << 40) | micros


@inner
def time(source: intp, fsp: intp) -> int64:
    """TIME to microseconds, -838:59:59.999999 to 838:59:59.999999.

    The whole number, fraction included, is biased by half its range, so that a negative time borrows from its seconds.
    """
    size = 3 + (fsp + 1) // 2
    whole = load_be24(source) if size == 3 else load_be(source, size)
    packed = int64(whole) - (int64(1) << (8 * size - 1))
    negative = packed < 0
    if negative:
        packed = -packed
    bits = 8 * (size - 3)
    part = packed & ((int64(1) << bits) - 1)
    micros = part * 10000 if size == 4 else (part * 100 if size == 5 else part)
    clock = packed >> bits
    value = (((clock >> 12) & 1023) * 3600 + ((clock >> 6) & 63) * 60 + (clock & 63)) * 1_000_000 + micros
    return -value if negative else value


@inner(apart=True)
def times(pointers: intp, count: int64, zeros: intp, target: intp, fsp: int64) -> None:
    """TIME to int64 microseconds, 0 for NULL."""
    for r in range(count):
        at = load_i64(pointers + 8 * r)
        store_i64(target + 8 * r, int64(0) if uint64(at - zeros) <= 1 else time(at, fsp))


def impossible_text(packed: int, kind: str, fsp: int) -> str:
    """The text MySQL prints for an impossible date, packed as packed_date and packed_datetime do; TIMESTAMP's is 0."""
    day, micros = packed >> 40, packed & ((1 << 40) - 1)
    text = f"{day >> 9:04}-{day >> 5 & 15:02}-{day & 31:02}"
    if kind == "date":
        return text
    seconds, micros = divmod(micros, 1_000_000)
    text += f" {seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{text}.{micros:06}"[: len(text) + 1 + fsp] if fsp else text


def packed_datetime_text(packed: int, *, date_only: bool) -> str:
    """A DATE or DATETIME inside JSON, packed as TIME_to_longlong_datetime_packed does, always with six fraction
    digits.
    """
    days = packed >> 41
    text = f"{(days >> 5) // 13:04}-{(days >> 5) % 13:02}-{days & 31:02}"
    if date_only:
        return text
    clock = packed >> 24
    return f"{text} {clock >> 12 & 31:02}:{clock >> 6 & 63:02}:{clock & 63:02}.{packed & 0xFFFFFF:06}"


def packed_time_text(packed: int) -> str:
    """A TIME inside JSON, packed as TIME_to_longlong_time_packed does."""
    sign, packed = ("-", -packed) if packed < 0 else ("", packed)
    clock = packed >> 24
    return f"{sign}{clock >> 12 & 1023:02}:{clock >> 6 & 63:02}:{clock & 63:02}.{packed & 0xFFFFFF:06}"
