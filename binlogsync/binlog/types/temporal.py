"""DATE, TIME, DATETIME and TIMESTAMP with their fractions, to days and microseconds.

A value that no calendar has (zero date, zero month or day, 31 February, year 0) cannot be an Arrow date: the kernel
returns it packed instead, `impossible_text` prints it as MySQL does. Source: my_time_packed_from_binary,
my_datetime_packed_from_binary and my_timestamp_from_binary in mysys/my_time.cc.
"""

from __future__ import annotations

from numba import njit, types

from binlogsync.binlog.memory import KERNEL, load_be, load_be32, load_be40, load_u8, load_u24, store_i32, store_i64

POSSIBLE = -1
MICROS_PER_DAY = 86_400_000_000


@njit("int64(int64, int64, int64)", **KERNEL)
def days_since_epoch(year, month, day):  # type: ignore[no-untyped-def]
    """Days from 1970-01-01 to a date of the proleptic Gregorian calendar, from the year 0 on.

    Years begin in March here, so that the leap day is the last; unsigned, so that a division is one multiplication.
    """
    late = types.uint64(1 if month > 2 else 0)
    y = types.uint64(year) + types.uint64(399) + late  # 400 years more, so that January of the year 0 has one before it
    era = y // types.uint64(400)
    year_of_era = y - era * types.uint64(400)
    day_of_year = (
        types.uint64(153) * (types.uint64(month + 9) - types.uint64(12) * late) + types.uint64(2)
    ) // types.uint64(5)
    days = year_of_era * types.uint64(365) + year_of_era // types.uint64(4) - year_of_era // types.uint64(100)
    return types.int64(era * types.uint64(146097) + days + day_of_year) + day - 1 - 719468 - 146097


@njit("boolean(int64, int64, int64)", **KERNEL)
def possible(year, month, day):  # type: ignore[no-untyped-def]
    """True when the calendar has that date, and Python and Arrow can hold it (year 1 to 9999)."""
    if year < 1 or year > 9999 or month < 1 or month > 12 or day < 1:
        return False
    if day <= 28:
        return True
    if month == 2:
        leap = (year % 4 == 0 and year % 100 != 0) or year % 400 == 0
        return day <= (29 if leap else 28)
    return day <= (30 if month == 4 or month == 6 or month == 9 or month == 11 else 31)


@njit("int64(intp, intp)", **KERNEL)
def fraction(source, fsp):  # type: ignore[no-untyped-def]
    """Microseconds from the (fsp + 1) // 2 bytes behind the whole seconds."""
    if fsp == 0:
        return types.int64(0)
    if fsp <= 2:
        return types.int64(load_u8(source)) * 10000
    if fsp <= 4:
        return ((types.int64(load_u8(source)) << 8) | types.int64(load_u8(source + 1))) * 100
    return (
        (types.int64(load_u8(source)) << 16)
        | (types.int64(load_u8(source + 1)) << 8)
        | types.int64(load_u8(source + 2))
    )


@njit("int64(intp, intp)", **KERNEL)
def date(target, source):  # type: ignore[no-untyped-def]
    """DATE to int32 days; returns POSSIBLE, or the packed impossible date."""
    packed = types.int64(load_u24(source))
    year, month, day = packed >> 9, (packed >> 5) & 15, packed & 31
    if possible(year, month, day):
        store_i32(target, types.int32(days_since_epoch(year, month, day)))
        return types.int64(-1)
    return packed << 40


@njit("int64(intp, intp, intp)", **KERNEL)
def datetime(target, source, fsp):  # type: ignore[no-untyped-def]
    """DATETIME to int64 microseconds since 1970, without a zone; returns POSSIBLE, or the packed impossible value."""
    packed = types.int64(load_be40(source)) - 0x8000000000
    days = packed >> 17
    months = types.uint64(days >> 5) & types.uint64(0x1FFFFF)
    year, month, day = types.int64(months // types.uint64(13)), types.int64(months % types.uint64(13)), days & 31
    seconds = ((packed >> 12) & 31) * 3600 + ((packed >> 6) & 63) * 60 + (packed & 63)
    micros = seconds * 1_000_000 + fraction(source + 5, fsp)
    if possible(year, month, day) and micros < 86_400_000_000:
        store_i64(target, days_since_epoch(year, month, day) * 86_400_000_000 + micros)
        return types.int64(-1)
    return (((year << 9) | (month << 5) | day) << 40) | micros


@njit("int64(intp, intp, intp)", **KERNEL)
def timestamp(target, source, fsp):  # type: ignore[no-untyped-def]
    """TIMESTAMP to int64 microseconds since 1970 UTC; zero is the zero date; returns POSSIBLE, or that packed."""
    seconds = types.int64(load_be32(source))
    micros = fraction(source + 4, fsp)
    if seconds == 0 and micros == 0:
        return types.int64(0)
    store_i64(target, seconds * 1_000_000 + micros)
    return types.int64(-1)


@njit("void(intp, intp, intp)", **KERNEL)
def time(target, source, fsp):  # type: ignore[no-untyped-def]
    """TIME to int64 microseconds, -838:59:59.999999 to 838:59:59.999999.

    The whole number, fraction included, is biased by half its range, so that a negative time borrows from its seconds.
    """
    size = 3 + (fsp + 1) // 2
    packed = types.int64(load_be(source, size)) - (types.int64(1) << (8 * size - 1))
    negative = packed < 0
    if negative:
        packed = -packed
    bits = 8 * (size - 3)
    part = packed & ((types.int64(1) << bits) - 1)
    micros = part * 10000 if size == 4 else (part * 100 if size == 5 else part)
    clock = packed >> bits
    value = (((clock >> 12) & 1023) * 3600 + ((clock >> 6) & 63) * 60 + (clock & 63)) * 1_000_000 + micros
    store_i64(target, -value if negative else value)


def impossible_text(packed: int, kind: str, fsp: int) -> str:
    """The text MySQL prints for a value that date, datetime or timestamp returned packed."""
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
