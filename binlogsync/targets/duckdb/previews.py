"""Row count and first rows of a table in a DuckDB file: of a mirror, or of any table of that name."""

from __future__ import annotations

import duckdb

from binlogsync.targets.duckdb.file import first_row
from binlogsync.targets.duckdb.names import has_relation, live_condition, locate, qualify
from binlogsync.targets.duckdb.state import ensure_meta, load_state


def count_rows(
    connection: duckdb.DuckDBPyConnection, database: str, table: str, *, with_deleted: bool = True
) -> int | None:
    """Number of rows; None if there is no such table."""
    condition = "true"
    if not with_deleted:
        ensure_meta(connection)
        condition = live_condition(load_state(connection, database, table))
    schema, name = locate(connection, database, table)
    if not has_relation(connection, schema, name):
        return None
    row = first_row(connection, f"SELECT count(*) FROM {qualify(connection, schema, name)} WHERE {condition}")
    return int(row[0]) if row else 0


def read_first_rows(
    connection: duckdb.DuckDBPyConnection, database: str, table: str, limit: int
) -> tuple[list[str], list[tuple[object, ...]]]:
    """(names of the columns, at most so many rows) of a table that exists."""
    path = qualify(connection, *locate(connection, database, table))
    found = connection.execute(f"SELECT * FROM {path} LIMIT {int(limit)}")
    return [column[0] for column in found.description or ()], found.fetchall()
