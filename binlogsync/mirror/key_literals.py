"""Keys that a verification found, given as text (verify_text.py), as SQL that selects their rows on the server.

The server compares by the collation of a column, so it may find more rows than the one with exactly this text.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from binlogsync.binlog.types.label_text import has_doubtful_labels
from binlogsync.mirror.verify_text import DATES, NO_DATE, read_date
from binlogsync.schema import BINARY_TYPES, INTEGER_BITS, Column, TableSchema
from binlogsync.snapshot.keys import KEY_TYPES, to_literal
from binlogsync.sql_identifiers import quote_mysql


def can_select_keys(schema: TableSchema) -> bool:
    """True if the table has a primary key whose values can be written as SQL."""
    columns = [schema.column(name) for name in schema.primary_key]
    return bool(columns) and all(
        column.type in KEY_TYPES or (column.type == "enum" and not has_doubtful_labels(column.labels))
        for column in columns
    )


def has_impossible_dates(keys: pa.Table) -> bool:
    """True if a key has a date like 2021-02-31: MySQL compares it as a date only if the session allows such dates.

    Dates of zeros, and with a month or day of zero, are compared as dates.
    """
    found = (
        read_date(text)
        for column in keys.columns
        for text in column.filter(pc.starts_with(column, NO_DATE)).to_pylist()
    )
    return any("-00" not in text for text in found)


def select_keys(schema: TableSchema, keys: Sequence[Sequence[str]]) -> str:
    """SQL after SELECT ... FROM <table> of the rows with these keys."""
    columns = [schema.column(name) for name in schema.primary_key]
    if len(columns) == 1:
        literals = ", ".join(_literal(columns[0], text) for (text,) in keys)
        return f"FORCE INDEX (PRIMARY) WHERE {quote_mysql(columns[0].name)} IN ({literals})"
    # MariaDB does not use the index for a comparison of row values.
    conditions = (
        " AND ".join(
            f"{quote_mysql(column.name)} = {_literal(column, text)}" for column, text in zip(columns, key, strict=True)
        )
        for key in keys
    )
    return f"FORCE INDEX (PRIMARY) WHERE ({') OR ('.join(conditions)})"


def _literal(column: Column, text: str) -> str:
    return to_literal(column, _value(column, text))


def _value(column: Column, text: str) -> Any:
    kind = column.type
    if kind in INTEGER_BITS or kind in ("bit", "year"):
        return int(text)
    if kind in ("float", "double"):
        return float(text)
    if kind == "decimal":
        return Decimal(text)
    if kind in BINARY_TYPES:
        return bytes.fromhex(text)
    if kind == "time":
        return timedelta(microseconds=int(text))
    return read_date(text) if kind in DATES else text
