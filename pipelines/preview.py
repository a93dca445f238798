"""What an asset page shows of a DuckDB table: how many rows it has, and where it is allowed the first few."""

from datetime import datetime

import dagster as dg
import duckdb

from binlogsync.duckfile import DuckFile, first_row, quote
from binlogsync.escaping import printable
from binlogsync.mirror.names import has_relation, locate

LONGEST = 60


def count_rows(file: DuckFile, schema: str, table: str) -> int | None:
    """Rows of the table; None when there is no such table yet. Raises what the file raises."""
    with file.transaction() as connection:
        schema, table = locate(connection, schema, table)
        if not has_relation(connection, schema, table):
            return None
        row = first_row(connection, f"SELECT count(*) FROM {_path(connection, schema, table)}")
        return int(row[0]) if row else 0


def first_rows(file: DuckFile, schema: str, table: str, limit: int) -> dg.TableMetadataValue:
    """The first rows; the table has to be there. Every value is a text, which the page shows as it is."""
    with file.transaction() as connection:
        path = _path(connection, *locate(connection, schema, table))
        found = connection.execute(f"SELECT * FROM {path} LIMIT {int(limit)}")
        names = [printable(column[0]) for column in found.description or ()]
        rows = found.fetchall()
    records = [dg.TableRecord(dict(zip(names, map(_cell, row), strict=True))) for row in rows]
    return dg.MetadataValue.table(records, dg.TableSchema([dg.TableColumn(name) for name in names]))


def _path(connection: duckdb.DuckDBPyConnection, schema: str, table: str) -> str:
    """The table with its catalog, whose name may be the schema's too."""
    (catalog,) = first_row(connection, "SELECT current_database()") or ("",)
    return quote(catalog, schema, table)


def _cell(value: object) -> str:
    """A value in one line, cut where it is long."""
    text = "NULL" if value is None else value.isoformat(" ") if isinstance(value, datetime) else str(value)
    text = printable(text).replace("\n", " ")
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
