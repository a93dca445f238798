"""Row count and first rows of a table, for asset pages."""

from collections.abc import Sequence
from datetime import datetime

import dagster as dg

from binlogsync.escaping import printable
from binlogsync.targets import TableStore

LONGEST = 60


def count_rows(tables: TableStore, database: str, table: str) -> int | None:
    """Number of rows. None if the table does not exist yet. Raises ConsumeError if a file cannot be opened."""
    with tables.begin() as transaction:
        return transaction.count_rows(database, table)


def first_rows(tables: TableStore, database: str, table: str, limit: int) -> dg.TableMetadataValue:
    """The first rows of an existing table, with all values as text."""
    # Dagster keeps the local variables of the first function that makes a TableSchema, so no connection is among them.
    names, rows = _read_rows(tables, database, table, limit)
    records = [dg.TableRecord(dict(zip(names, map(_cell, row), strict=True))) for row in rows]
    return dg.MetadataValue.table(records, dg.TableSchema([dg.TableColumn(name) for name in names]))


def _read_rows(
    tables: TableStore, database: str, table: str, limit: int
) -> tuple[list[str], Sequence[Sequence[object]]]:
    """Names of the columns, and the first rows."""
    with tables.begin() as transaction:
        names, rows = transaction.read_first_rows(database, table, limit)
    return [printable(name) for name in names], rows


def _cell(value: object) -> str:
    """The value in one line, truncated to LONGEST characters."""
    text = "NULL" if value is None else value.isoformat(" ") if isinstance(value, datetime) else str(value)
    text = printable(text).replace("\n", " ")
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
