"""Maps zero and invalid dates in a primary key to dates that MySQL cannot have, so that keys stay unique.

In other columns of a mirror such a date is NULL. In a column of the primary key the date YEAR-MONTH-DAY becomes
`DATE '20000-01-01 (BC)' + (YEAR * 16 + MONTH) * 32 + DAY`, with its time of day: 0000-00-00 is 20000-01-01 (BC). All
these dates are before 5000 BC; MySQL's dates start with the year 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from binlogsync.schema import Column, arrow_type
from binlogsync.targets.duckdb.file import quote

_TEXT = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?)?Z?\Z")
_FIRST_DAY = -8_024_012  # DATE '20000-01-01 (BC)', in days since 1970
_DAY_US = 86_400_000_000


def replace_key_dates(column: Column, values: pa.Array, texts: pa.StringArray) -> pa.Array:
    """The values of a key column, with the invalid dates in `texts` mapped as described above."""
    storage = pa.int32() if column.type == "date" else pa.int64()
    numbers = pa.array([None if text is None else _number(column, text) for text in texts.to_pylist()], storage)
    return pc.if_else(texts.is_valid(), numbers.cast(arrow_type(column)), values)


def key_date_condition(names: Iterable[str]) -> str:
    """SQL that is true for a row with an invalid date in one of these columns, in a key or not; "" for no columns.

    Expects the session's time zone to be UTC.
    """
    return " OR ".join(f"({quote(name)} IS NULL OR {is_key_date(name)})" for name in sorted(names))


def is_key_date(name: str) -> str:
    """SQL that is true for a value of this column that stands for an invalid date. Expects the time zone UTC too."""
    return f"{quote(name)} < DATE '1000-01-01 (BC)'"


def _number(column: Column, text: str) -> int:
    match = _TEXT.match(text)
    if match is None:
        raise ValueError(f"{column.name}: {text!r} is not a date in MySQL's format")
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    days = _FIRST_DAY + (year * 16 + month) * 32 + day
    if column.type == "date":
        return days
    micros = int((match[7] or "").ljust(6, "0"))
    return days * _DAY_US + ((hour * 60 + minute) * 60 + second) * 1_000_000 + micros
