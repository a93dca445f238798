"""Kernels that convert dates and times, as the tail writes them in JSON, to the numbers of Arrow arrays."""

from __future__ import annotations

from binlogsync.binlog.compiling import inner
from binlogsync.binlog.kernel_types import boolean, int64, intp, uint64
from binlogsync.binlog.memory import load_u8

DAYS, MICROSECONDS, INSTANTS, DURATIONS = range(4)
"""Days since 1970; microseconds since 1970, without and with Z after them; microseconds of a duration."""
_DAY_US = 86_400_000_000


@inner
def _number(data: intp, start: int64, stop: int64) -> int64:
    """A number of digits only; -1 for any other text."""
    value = 0
    for k in range(start, stop):
        if load_u8(data + k) < 48 or load_u8(data + k) > 57:
            return -1
        value = value * 10 + (load_u8(data + k) - 48)
    return value if stop > start else -1


@inner
def _pair(at: intp) -> int64:
    """The number of two digits; far below 0 for other text."""
    tens, ones = uint64(load_u8(at)) - uint64(48), uint64(load_u8(at + 1)) - uint64(48)
    return int64(tens * uint64(10) + ones) if tens <= uint64(9) and ones <= uint64(9) else -(10**6)


@inner
def _day(data: intp, at: int64) -> int64:
    """Days since 1970 of the ten bytes YYYY-MM-DD, or a value below any date when the date is impossible."""
    none = -(2**62)
    year, month, day = 100 * _pair(data + at) + _pair(data + at + 2), _pair(data + at + 5), _pair(data + at + 8)
    if load_u8(data + at + 4) != 45 or load_u8(data + at + 7) != 45 or year < 1 or month < 1 or month > 12 or day < 1:
        return none
    is_leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    longest = 30 + ((month + (month >> 3)) & 1) if month != 2 else (29 if is_leap else 28)
    if day > longest:
        return none
    shifted = year - 1 if month <= 2 else year
    era = shifted // 400
    year_of_era = shifted - era * 400
    day_of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    return era * 146097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719468


@inner
def _clock(data: intp, at: int64, stop: int64, hour_digits: int64) -> int64:
    """Microseconds of HH:MM:SS with a fraction of 0 to 6 digits, or -1."""
    colon = at + hour_digits
    if stop < colon + 6 or load_u8(data + colon) != 58 or load_u8(data + colon + 3) != 58:
        return -1
    hours = _pair(data + at) if hour_digits == 2 else _number(data, at, colon)
    minutes, seconds = _pair(data + colon + 1), _pair(data + colon + 4)
    if hours < 0 or minutes < 0 or minutes > 59 or seconds < 0 or seconds > 59:
        return -1
    micros, digits = 0, stop - colon - 7
    if stop > colon + 6:
        if load_u8(data + colon + 6) != 46 or digits > 6:
            return -1
        micros = _number(data, colon + 7, stop)
        if micros < 0:
            return -1
        for _ in range(digits, 6):
            micros *= 10
    return ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + micros


@inner(apart=True)
def parse_time(data: intp, start: int64, stop: int64, kind: int64) -> tuple[int64, boolean]:
    """(the number, True) of the text data[start:stop]; (0, False) for an impossible date, or another format."""
    if kind == DURATIONS:
        is_negative = stop > start and load_u8(data + start) == 45
        start += 1 if is_negative else 0
        clock = _clock(data, start, stop, 3 if stop - start > 8 and load_u8(data + start + 3) == 58 else 2)
        return -clock if is_negative else clock, clock >= 0
    if stop - start < 10:
        return int64(0), False
    day = _day(data, start)
    if day < -(2**61):
        return int64(0), False
    if kind == DAYS:
        return day, stop - start == 10
    if kind == INSTANTS:
        stop -= 1
        if load_u8(data + stop) != 90:
            return int64(0), False
    if stop - start < 19 or load_u8(data + start + 10) != 84:
        return int64(0), False
    clock = _clock(data, start + 11, stop, 2)
    return day * _DAY_US + clock, 0 <= clock < _DAY_US
