"""TIME, DATETIME and TIMESTAMP in the format before MySQL 5.6 and MariaDB 10.1, with and without a fraction.

Without a fraction, TIME is the number HHMMSS and DATETIME the number YYYYMMDDhhmmss, least significant byte first. The
format with a fraction is MariaDB's only: the value in units of the last digit, most significant byte first.
Source: Field_time, Field_datetime, Field_timestamp and Field_*_hires in sql/field.cc, pack_time in sql/compat56.cc of
MariaDB.
"""

from __future__ import annotations

from binlogsync.binlog.compiling import inner
from binlogsync.binlog.kernel_types import int32, int64, intp, uint64
from binlogsync.binlog.memory import load_be, load_i64, load_u24, load_u32, store_i64

_TIME_BYTES = (3, 4, 4, 5, 5, 5, 6)
_DATETIME_BYTES = (8, 6, 6, 7, 7, 7, 8)
_DAY = 86_400_000_000


def old_size(kind: str, fsp: int) -> int:
    """Bytes of a value of "time", "datetime" or "timestamp"."""
    if kind == "timestamp":
        return 4 + (fsp + 1) // 2
    return (_TIME_BYTES if kind == "time" else _DATETIME_BYTES)[fsp]


@inner
def _step(fsp: int64) -> int64:
    """Microseconds of the last digit."""
    step = int64(1)
    for _ in range(6 - fsp):
        step *= 10
    return step


@inner
def _old_time(source: intp, fsp: int64, size: int64) -> int64:
    """TIME as microseconds."""
    if fsp > 0:
        return int64(load_be(source, size)) * _step(fsp) - 3_020_400_000_000
    value = int64(load_u24(source))
    negative = value >= 0x800000
    if negative:
        value = 0x1000000 - value
    micros = (value // 10000 * 3600 + value // 100 % 100 * 60 + value % 100) * 1_000_000
    return -micros if negative else micros


@inner
def _old_datetime(source: intp, fsp: int64, size: int64) -> tuple[int64, int64, int64, int64]:
    """DATETIME as year, month, day and microseconds."""
    if fsp > 0:
        value = int64(load_be(source, size)) * _step(fsp)
        date = value // _DAY
        return date // 32 // 13, date // 32 % 13, date % 32, value % _DAY
    value = load_i64(source)
    clock, date = value % 1_000_000, value // 1_000_000
    micros = (clock // 10000 * 3600 + clock // 100 % 100 * 60 + clock % 100) * 1_000_000
    return date // 10000, date // 100 % 100, date % 100, micros


@inner(apart=True)
def old_times(pointers: intp, count: int64, zeros: intp, target: intp, fsp: int64, size: int64) -> None:
    """TIME to int64 microseconds, 0 for NULL."""
    for r in range(count):
        at = load_i64(pointers + 8 * r)
        store_i64(target + 8 * r, int64(0) if uint64(at - zeros) <= 1 else _old_time(at, fsp, size))


@inner(apart=True)
def old_datetimes(
    pointers: intp, count: int64, zeros: intp, months: intp, target: intp, wrong: intp, fsp: int64, size: int64
) -> int64:
    """DATETIME to int64 microseconds, 0 for NULL; handles impossible dates as temporal.dates does."""
    found = int64(0)
    for r in range(count):
        at = load_i64(pointers + 8 * r)
        year, month, day, micros = _old_datetime(at, fsp, size)
        entry = int64(0)
        if 0 <= year <= 9999 and 0 <= month <= 12:
            entry = int64(int32(load_u32(months + 4 * (year * 13 + month))))
        right = day > 0 and day <= (entry & 31) and micros < _DAY
        store_i64(target + 8 * r, ((entry >> 5) + day - 1) * _DAY + micros if right else int64(0))
        store_i64(wrong + 8 * found, r)
        found += int64(not right and uint64(at - zeros) > 1)
    return found


@inner
def packed_old_datetime(source: intp, fsp: int64, size: int64) -> int64:
    """DATETIME as temporal.packed_datetime packs it."""
    year, month, day, micros = _old_datetime(source, fsp, size)
    return (((year << 9) | (month << 5) | day) << 40) | micros


@inner(apart=True)
def old_timestamps(
    pointers: intp, count: int64, zeros: intp, target: intp, wrong: intp, fsp: int64, size: int64
) -> int64:
    """TIMESTAMP to int64 microseconds since 1970 UTC; 0 is the zero date, which is handled as in temporal.dates."""
    found = int64(0)
    for r in range(count):
        at = load_i64(pointers + 8 * r)
        if fsp > 0:
            micros = int64(load_be(at, 4)) * 1_000_000 + int64(load_be(at + 4, size - 4)) * _step(fsp)
        else:
            micros = int64(load_u32(at)) * 1_000_000
        store_i64(target + 8 * r, micros)
        store_i64(wrong + 8 * found, r)
        found += int64(micros == 0 and uint64(at - zeros) > 1)
    return found
