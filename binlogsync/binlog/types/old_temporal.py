"""TIME, DATETIME and TIMESTAMP in the format of before MySQL 5.6 and MariaDB 10.1, without and with a fraction.

Without one, TIME is the number HHMMSS and DATETIME the number YYYYMMDDhhmmss, least significant byte first. MariaDB's
fractions came before MySQL's and look otherwise: all is counted in the smallest digit, most significant byte first.
Source: Field_time, Field_datetime, Field_timestamp and Field_*_hires in sql/field.cc, pack_time in sql/compat56.cc of
MariaDB.
"""

from __future__ import annotations

from numba import types

from binlogsync.binlog.compiling import inner
from binlogsync.binlog.memory import load_be, load_i64, load_u24, load_u32, store_i64

_TIME_BYTES = (3, 4, 4, 5, 5, 5, 6)
_DATETIME_BYTES = (8, 6, 6, 7, 7, 7, 8)
_DAY = 86_400_000_000


def old_size(kind: str, fsp: int) -> int:
    """Bytes of a value of "time", "datetime" or "timestamp"."""
    if kind == "timestamp":
        return 4 + (fsp + 1) // 2
    return (_TIME_BYTES if kind == "time" else _DATETIME_BYTES)[fsp]


@inner("int64(int64)")
def _step(fsp):  # type: ignore[no-untyped-def]
    """Microseconds of the last digit."""
    step = types.int64(1)
    for _ in range(6 - fsp):
        step *= 10
    return step


@inner("int64(intp, int64, int64)")
def _old_time(source, fsp, size):  # type: ignore[no-untyped-def]
    """TIME as microseconds."""
    if fsp > 0:
        return types.int64(load_be(source, size)) * _step(fsp) - 3_020_400_000_000
    value = types.int64(load_u24(source))
    negative = value >= 0x800000
    if negative:
        value = 0x1000000 - value
    micros = (value // 10000 * 3600 + value // 100 % 100 * 60 + value % 100) * 1_000_000
    return -micros if negative else micros


@inner("UniTuple(int64, 4)(intp, int64, int64)")
def _old_datetime(source, fsp, size):  # type: ignore[no-untyped-def]
    """DATETIME as year, month, day and microseconds."""
    if fsp > 0:
        value = types.int64(load_be(source, size)) * _step(fsp)
        date = value // _DAY
        return date // 32 // 13, date // 32 % 13, date % 32, value % _DAY
    value = load_i64(source)
    clock, date = value % 1_000_000, value // 1_000_000
    micros = (clock // 10000 * 3600 + clock // 100 % 100 * 60 + clock % 100) * 1_000_000
    return date // 10000, date // 100 % 100, date % 100, micros


@inner("void(intp, int64, intp, intp, int64, int64)", apart=True)
def old_times(places, count, nothing, target, fsp, size):  # type: ignore[no-untyped-def]
    """TIME to int64 microseconds, 0 where there is none."""
    for r in range(count):
        at = load_i64(places + 8 * r)
        store_i64(target + 8 * r, types.int64(0) if types.uint64(at - nothing) <= 1 else _old_time(at, fsp, size))


@inner("int64(intp, int64, intp, intp, intp, intp, int64, int64)", apart=True)
def old_datetimes(places, count, nothing, months, target, wrong, fsp, size):  # type: ignore[no-untyped-def]
    """DATETIME to int64 microseconds, 0 where there is none; impossible ones as temporal.dates does."""
    found = types.int64(0)
    for r in range(count):
        at = load_i64(places + 8 * r)
        year, month, day, micros = _old_datetime(at, fsp, size)
        entry = types.int64(0)
        if 0 <= year <= 9999 and 0 <= month <= 12:
            entry = types.int64(types.int32(load_u32(months + 4 * (year * 13 + month))))
        right = day > 0 and day <= (entry & 31) and micros < _DAY
        store_i64(target + 8 * r, ((entry >> 5) + day - 1) * _DAY + micros if right else types.int64(0))
        store_i64(wrong + 8 * found, r)
        found += types.int64(not right and types.uint64(at - nothing) > 1)
    return found


@inner("int64(intp, int64, int64)")
def packed_old_datetime(source, fsp, size):  # type: ignore[no-untyped-def]
    """DATETIME as temporal.packed_datetime packs it."""
    year, month, day, micros = _old_datetime(source, fsp, size)
    return (((year << 9) | (month << 5) | day) << 40) | micros


@inner("int64(intp, int64, intp, intp, intp, int64, int64)", apart=True)
def old_timestamps(places, count, nothing, target, wrong, fsp, size):  # type: ignore[no-untyped-def]
    """TIMESTAMP to int64 microseconds since 1970 UTC; zero is the zero date; impossible ones as temporal.dates does."""
    found = types.int64(0)
    for r in range(count):
        at = load_i64(places + 8 * r)
        if fsp > 0:
            micros = types.int64(load_be(at, 4)) * 1_000_000 + types.int64(load_be(at + 4, size - 4)) * _step(fsp)
        else:
            micros = types.int64(load_u32(at)) * 1_000_000
        store_i64(target + 8 * r, micros)
        store_i64(wrong + 8 * found, r)
        found += types.int64(micros == 0 and types.uint64(at - nothing) > 1)
    return found
