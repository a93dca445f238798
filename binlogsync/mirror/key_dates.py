"""Zero and impossible dates in a primary key, as dates that no row of MySQL has, so that each key stays one key.

Elsewhere in a mirror such a date is NULL. In a column of the primary key the date YEAR-MONTH-DAY is the day
`DATE '20000-01-01 (BC)' + (YEAR * 16 + MONTH) * 32 + DAY`, with its time of day: 0000-00-00 is 20000-01-01 (BC). All of
them are before 5000 BC, and MySQL's dates begin with the year 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from binlogsync.duckfile import quote
from binlogsync.schema import Column, TableSchema, arrow_type

_TEXT = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?)?Z?\Z")
_FIRST_DAY = -8_024_012  # DATE '20000-01-01 (BC)', in days since 1970
_DAY_US = 86_400_000_000
_KINDS = frozenset({"date", "datetime", "timestamp"})


def replace_key_dates(column: Column, values: pa.Array, texts: pa.StringArray) -> pa.Array:
    """The values of a key column, where `texts` has an impossible date with that as the module describes."""
    storage = pa.int32() if column.type == "date" else pa.int64()
    numbers = pa.array([None if text is None else _number(column, text) for text in texts.to_pylist()], storage)
    return pc.if_else(texts.is_valid(), numbers.cast(arrow_type(column)), values)


def date_keys(schema: TableSchema) -> frozenset[str]:
    """Names of the columns of dates in the primary key."""
    return frozenset(c.name for c in schema.columns if c.type in _KINDS and c.name in schema.primary_key)


def is_date(column: Column) -> bool:
    """True for a column whose values may be impossible dates."""
    return column.type in _KINDS


def key_date_condition(names: Iterable[str]) -> str:
    """SQL that is true for a row with an impossible date in one of these columns, in a key or not; "" without any.

    Expects the session's time zone to be UTC.
    """
    columns = [quote(name) for name in sorted(names)]
    return " OR ".join(f"({name} IS NULL OR {name} < DATE '1000-01-01 (BC)')" for name in columns)


def _number(column: Column, text: str) -> int:
    match = _TEXT.match(text)
    if match is None:
        raise ValueError(f"{column.name}: {text!r} is no date as MySQL prints it")
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    days = _FIRST_DAY + (year * 16 + month) * 32 + day
    if column.type == "date":
        return days
    micros = int((match[7] or "").ljust(6, "0"))
    return days * _DAY_US + ((hour * 60 + minute) * 60 + second) * 1_000_000 + micros
