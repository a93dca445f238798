"""TIME, DATETIME and TIMESTAMP in the format of before MySQL 5.6 and MariaDB 10.1, without and with a fraction.

Without one, TIME is the number HHMMSS and DATETIME the number YYYYMMDDhhmmss, least significant byte first. MariaDB's
fractions came before MySQL's and look otherwise: all is counted in the smallest digit, most significant byte first.
Source: Field_time, Field_datetime, Field_timestamp and Field_*_hires in sql/field.cc, pack_time in sql/compat56.cc of
MariaDB.
"""

from __future__ import annotations

from numba import njit, types

from binlogsync.binlog.memory import KERNEL, load_be, load_i64, load_u24, load_u32, store_i64
from binlogsync.binlog.types.temporal import days_since_epoch, possible

_TIME_BYTES = (3, 4, 4, 5, 5, 5, 6)
_DATETIME_BYTES = (8, 6, 6, 7, 7, 7, 8)
_DAY = 86_400_000_000


def old_size(kind: str, fsp: int) -> int:
    """Bytes of a value of "time", "datetime" or "timestamp"."""
    if kind == "timestamp":
        return 4 + (fsp + 1) // 2
    return (_TIME_BYTES if kind == "time" else _DATETIME_BYTES)[fsp]


@njit("int64(int64)", **KERNEL)
def _step(fsp):  # type: ignore[no-untyped-def]
    """Microseconds of the last digit."""
    step = types.int64(1)
    for _ in range(6 - fsp):
        step *= 10
    return step


@njit("void(intp, intp, int64, int64)", **KERNEL)
def old_time(target, source, fsp, size):  # type: ignore[no-untyped-def]
    """TIME to int64 microseconds."""
    if fsp > 0:
        store_i64(target, types.int64(load_be(source, size)) * _step(fsp) - 3_020_400_000_000)
        return
    value = types.int64(load_u24(source))
    negative = value >= 0x800000
    if negative:
        value = 0x1000000 - value
    micros = (value // 10000 * 3600 + value // 100 % 100 * 60 + value % 100) * 1_000_000
    store_i64(target, -micros if negative else micros)


@njit("int64(intp, intp, int64, int64)", **KERNEL)
def old_datetime(target, source, fsp, size):  # type: ignore[no-untyped-def]
    """DATETIME to int64 microseconds; returns -1, or the impossible value packed as temporal.datetime packs it."""
    if fsp > 0:
        value = types.int64(load_be(source, size)) * _step(fsp)
        micros = value % _DAY
        date = value // _DAY
        day, month, year = date % 32, date // 32 % 13, date // 32 // 13
    else:
        value = load_i64(source)
        clock, date = value % 1_000_000, value // 1_000_000
        micros = (clock // 10000 * 3600 + clock // 100 % 100 * 60 + clock % 100) * 1_000_000
        day, month, year = date % 100, date // 100 % 100, date // 10000
    if possible(year, month, day) and micros < _DAY:
        store_i64(target, days_since_epoch(year, month, day) * _DAY + micros)
        return types.int64(-1)
    return (((year << 9) | (month << 5) | day) << 40) | micros


@njit("int64(intp, intp, int64, int64)", **KERNEL)
def old_timestamp(target, source, fsp, size):  # type: ignore[no-untyped-def]
    """TIMESTAMP to int64 microseconds since 1970 UTC; zero is the zero date; returns -1, or that packed."""
    if fsp > 0:
        seconds = types.int64(load_be(source, 4))
        micros = types.int64(load_be(source + 4, size - 4)) * _step(fsp)
    else:
        seconds, micros = types.int64(load_u32(source)), types.int64(0)
    if seconds == 0 and micros == 0:
        return types.int64(0)
    store_i64(target, seconds * 1_000_000 + micros)
    return types.int64(-1)
