"""What an asset page shows of a DuckDB table: how many rows it has, and the first few."""

from datetime import datetime

import duckdb

from binlogsync.duckfile import DuckFile, first_row, quote
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


def first_rows(file: DuckFile, schema: str, table: str, limit: int) -> str:
    """The first rows as a Markdown table; the table has to be there."""
    with file.transaction() as connection:
        path = _path(connection, *locate(connection, schema, table))
        found = connection.execute(f"SELECT * FROM {path} LIMIT {int(limit)}")
        names = [column[0] for column in found.description or ()]
        rows = found.fetchall()
    lines = [names, ["---"] * len(names), *([_cell(value) for value in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _path(connection: duckdb.DuckDBPyConnection, schema: str, table: str) -> str:
    """The table with its catalog, whose name may be the schema's too."""
    (catalog,) = first_row(connection, "SELECT current_database()") or ("",)
    return quote(catalog, schema, table)


def _cell(value: object) -> str:
    """A value in one line of Markdown, cut where it is long."""
    text = "" if value is None else value.isoformat(" ") if isinstance(value, datetime) else str(value)
    text = text.replace("\n", " ").replace("|", "\\|")
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
