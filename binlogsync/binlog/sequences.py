"""MariaDB's sequences: tables of one row. Each new state of the row is logged as an INSERT.

Such a table has no key, although each INSERT replaces the row. Its minimum value, which only ALTER SEQUENCE changes, is
used as the key.
"""

from __future__ import annotations

from dataclasses import replace

from binlogsync.schema import TableSchema

_COLUMNS = (
    ("next_not_cached_value", "minimum_value", "maximum_value", "start_value", "increment")
    + ("cache_size", "cycle_option", "cycle_count")
)  # fmt: skip
_KEY = ("minimum_value",)


def is_like_sequence(schema: TableSchema) -> bool:
    """True when the table has the columns of a sequence."""
    return tuple(column.name for column in schema.columns) == _COLUMNS


def add_sequence_key(schema: TableSchema) -> TableSchema:
    """The schema of a sequence with that key."""
    return replace(schema, primary_key=_KEY)
