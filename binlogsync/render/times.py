"""DATE, DATETIME, TIMESTAMP and TIME as the text MySQL prints, with `T` before the time of day and `Z` behind a
TIMESTAMP.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numba import njit, types

from binlogsync.render.fragments import (
    INNER,
    KERNEL,
    MADE,
    R8,
    R64,
    Fragments,
    fixed_values,
    put_digits,
    put_null,
    validity,
)

_DAY_US = 86_400_000_000
_ROOM = 32


@njit("int64(uint8[::1], int64, int64)", **INNER)
def _put_date(out, at, days):  # type: ignore[no-untyped-def]
    """YYYY-MM-DD of a day since 1970, in the calendar that MySQL extends backwards; years begin in March inside."""
    shifted = days + 719468
    era = shifted // 146097
    day_of_era = shifted - era * 146097
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month + 2) // 5 + 1
    month = month + 3 if month < 10 else month - 9
    year = year_of_era + era * 400 + (1 if month <= 2 else 0)
    at = put_digits(out, at, year, 4)
    out[at] = 45
    at = put_digits(out, at + 1, month, 2)
    out[at] = 45
    return put_digits(out, at + 1, day, 2)


@njit("int64(uint8[::1], int64, int64, int64, int64)", **INNER)
def _put_time(out, at, hours, rest_us, fsp):  # type: ignore[no-untyped-def]
    """HH:MM:SS and the fraction; `rest_us` is what is left of the hour."""
    at = put_digits(out, at, hours, 3 if hours > 99 else 2)
    out[at] = 58
    at = put_digits(out, at + 1, rest_us // 60_000_000, 2)
    out[at] = 58
    at = put_digits(out, at + 1, rest_us // 1_000_000 % 60, 2)
    if fsp > 0:
        out[at] = 46
        at = put_digits(out, at + 1, rest_us % 1_000_000 // 10 ** (6 - fsp), fsp)
    return at


@njit(MADE(R64, types.int64, types.int64, R8), **KERNEL)
def _times(values, kind, fsp, valid):  # type: ignore[no-untyped-def]
    """kind: 0 days, 1 microseconds since 1970, 2 the same in UTC, 3 a duration in microseconds."""
    rows = len(values)
    out = np.empty(rows * _ROOM + 1, np.uint8)
    ends = np.empty(rows + 1, np.int64)
    ends[0] = at = 0
    for i in range(rows):
        if not valid[i]:
            at = put_null(out, at)
            ends[i + 1] = at
            continue
        out[at] = 34
        at += 1
        value = values[i]
        if kind == 0:
            at = _put_date(out, at, value)
        elif kind == 3:
            if value < 0:
                out[at] = 45
                at += 1
                value = -value
            at = _put_time(out, at, value // 3_600_000_000, value % 3_600_000_000, fsp)
        else:
            days = value // _DAY_US
            rest = value - days * _DAY_US
            at = _put_date(out, at, days)
            out[at] = 84
            at = _put_time(out, at + 1, rest // 3_600_000_000, rest % 3_600_000_000, fsp)
            if kind == 2:
                out[at] = 90
                at += 1
        out[at] = 34
        at += 1
        ends[i + 1] = at
    return out[:at].copy(), ends


def render_dates(array: pa.Array) -> Fragments:
    """date32."""
    return Fragments(*_times(fixed_values(array, np.int32).astype(np.int64), 0, 0, validity(array)))


def render_datetimes(array: pa.Array, fsp: int) -> Fragments:
    """timestamp[us]; with `Z` when the type has a zone (which is UTC)."""
    kind = 1 if array.type.tz is None else 2
    return Fragments(*_times(fixed_values(array, np.int64), kind, fsp, validity(array)))


def render_durations(array: pa.Array, fsp: int) -> Fragments:
    """duration[us] of TIME, from -838:59:59 to 838:59:59."""
    return Fragments(*_times(fixed_values(array, np.int64), 3, fsp, validity(array)))
