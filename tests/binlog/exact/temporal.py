"""Samples of DATE, TIME, DATETIME and TIMESTAMP of every precision, in the current format and in MariaDB's old one,
including impossible dates."""

from __future__ import annotations

from dataclasses import replace

from tests.binlog.exact.type_sample import MARIADB, MARIADB_10, TypeSample

_DATES = (
    "'1000-01-01'",
    "'9999-12-31'",
    "'1970-01-01'",
    "'1969-12-31'",
    "'2000-02-29'",
    "'1900-02-28'",
    "'0001-01-01'",
)
_IMPOSSIBLE = ("'0000-00-00'", "'2024-02-31'", "'2023-02-29'", "'2024-00-00'", "'2024-05-00'", "'0000-05-05'")


def _temporals() -> list[TypeSample]:
    impossible = (*_IMPOSSIBLE, "'2024-04-31'", "'1900-02-29'", "'0000-12-31'")
    found = [TypeSample("DATE", "date", _DATES + impossible)]
    for fsp in range(7):
        part = ("." + "123456"[:fsp]) if fsp else ""
        nines = ("." + "9" * fsp) if fsp else ""
        one = ("." + "0" * (fsp - 1) + "1") if fsp else ""
        moments = [f"{day[:-1]} 23:59:59{nines}'" for day in (*_DATES, *impossible)]
        moments += [f"{day[:-1]} 00:00:00{one}'" for day in _DATES] + [f"'2024-06-15 12:34:56{part}'"]
        zero = ["'0000-00-00 00:00:00'"]
        found.append(TypeSample(f"DATETIME({fsp})", "datetime", (*moments, *zero)))
        stamps = (
            f"'1970-01-01 00:00:01{part}'",
            f"'2038-01-19 03:14:07{nines}'",
            "'0000-00-00 00:00:00'",
            f"'2024-06-15 12:34:56{part}'",
            f"'2001-09-09 01:46:40{one}'",
        )
        found.append(TypeSample(f"TIMESTAMP({fsp})", "timestamp", stamps))
        times = ["00:00:00", f"00:00:00{one}", f"12:34:56{part}", "838:59:59", f"837:59:59{nines}", f"23:59:59{nines}"]
        times += ["00:00:01", f"100:00:00{one}", f"00:01:00{part}"]
        signed = [f"'{sign}{value}'" for value in times for sign in ("", "-")]
        found.append(TypeSample(f"TIME({fsp})", "time", tuple(signed)))
    return found


def _old(samples: list[TypeSample]) -> list[TypeSample]:
    """The same samples in the format before MariaDB 10.1."""
    return [replace(sample, servers=(MARIADB, MARIADB_10), old=True) for sample in samples if sample.type != "date"]


# MariaDB 11.5 extended the range of the seconds by one bit.
_LATE = ("'2106-02-07 06:28:15.999999'", "'2038-01-19 03:14:08'")

TEMPORAL = (
    *_temporals(),
    *_old(_temporals()),
    TypeSample("TIMESTAMP(6)", "timestamp", _LATE, (MARIADB,)),
)
