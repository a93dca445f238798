"""Row count and first rows of a DuckDB table, for asset pages."""

from datetime import datetime

import dagster as dg

from binlogsync.escaping import printable
from binlogsync.targets.duckdb.file import DuckFile, first_row
from binlogsync.targets.duckdb.names import has_relation, locate, qualify

LONGEST = 60


def count_rows(file: DuckFile, schema: str, table: str) -> int | None:
    """Number of rows. None if the table does not exist yet. Raises ConsumeError if the file cannot be opened."""
    with file.transaction() as connection:
        schema, table = locate(connection, schema, table)
        if not has_relation(connection, schema, table):
            return None
        row = first_row(connection, f"SELECT count(*) FROM {qualify(connection, schema, table)}")
        return int(row[0]) if row else 0


def first_rows(file: DuckFile, schema: str, table: str, limit: int) -> dg.TableMetadataValue:
    """The first rows of an existing table, with all values as text."""
    # Dagster keeps the local variables of the first function that makes a TableSchema, so no connection is among them.
    names, rows = _read_rows(file, schema, table, limit)
    records = [dg.TableRecord(dict(zip(names, map(_cell, row), strict=True))) for row in rows]
    return dg.MetadataValue.table(records, dg.TableSchema([dg.TableColumn(name) for name in names]))


def _read_rows(file: DuckFile, schema: str, table: str, limit: int) -> tuple[list[str], list[tuple[object, ...]]]:
    """Names of the columns, and the first rows."""
    with file.transaction() as connection:
        path = qualify(connection, *locate(connection, schema, table))
        found = connection.execute(f"SELECT * FROM {path} LIMIT {int(limit)}")
        return [printable(column[0]) for column in found.description or ()], found.fetchall()


def _cell(value: object) -> str:
    """The value in one line, truncated to LONGEST characters."""
    text = "NULL" if value is None else value.isoformat(" ") if isinstance(value, datetime) else str(value)
    text = printable(text).replace("\n", " ")
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
