"""Upgrades DuckDB files of earlier versions to the current layout when they are opened.

Earlier versions kept their own tables in the schema `binlogsync`, which is also a valid name of a MySQL database. They
are moved, in one transaction, to a schema whose name no MySQL database can have. Mirrors of tables of a MySQL database
`binlogsync` stay in their schema.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from binlogsync.sql_identifiers import quote_ansi
from binlogsync.targets.mirror_state import REPLAY_MARK

if TYPE_CHECKING:
    import duckdb

_OLD_SCHEMA = "binlogsync"
_STATE_TABLES = ("mirrors", "progress", "skips", "rewinds", "gaps", "audit", "backfills")


def upgrade(connection: duckdb.DuckDBPyConnection, schema: str) -> None:
    """Move the tables of an earlier version to `schema`; does nothing if there are none."""
    # A file is opened for each transaction, and a query of its tables takes ten times as long as one of its schemas.
    if (_OLD_SCHEMA,) not in connection.execute("SELECT schema_name FROM duckdb_schemas()").fetchall():
        return
    found = connection.execute(
        "SELECT schema_name, table_name, sql FROM duckdb_tables() WHERE database_name = current_database() "
        "AND schema_name IN (?, ?)",
        [schema, _OLD_SCHEMA],
    ).fetchall()
    old = {name: sql for at, name, sql in found if at == _OLD_SCHEMA}
    state = [name for name in _STATE_TABLES if name in old]
    if not state or any(at == schema for at, _, _ in found):
        return
    connection.begin()
    (catalog,) = connection.execute("SELECT current_database()").fetchone() or ("",)
    mirrored = (
        _find_mirrored_tables(connection, quote_ansi(catalog, _OLD_SCHEMA, "mirrors")) if "mirrors" in old else set()
    )
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote_ansi(catalog, schema)}")
    for name in state:
        if name not in mirrored:
            _move(connection, old[name], (catalog, _OLD_SCHEMA, name), (catalog, schema, name))
    for name in old:
        if name.startswith("verification") and name not in mirrored:  # requests are created again
            connection.execute(f"DROP TABLE {quote_ansi(catalog, _OLD_SCHEMA, name)}")
    _mark_replays(connection, catalog, schema)
    connection.commit()


def _find_mirrored_tables(cursor: duckdb.DuckDBPyConnection, mirrors: str) -> set[str]:
    """Tables of the old schema that mirror tables of a MySQL database with its name."""
    rows = cursor.execute(
        f"SELECT table_name FROM {mirrors} WHERE lower(database) = ? AND schema_json IS NOT NULL", [_OLD_SCHEMA]
    ).fetchall()
    return {str(name) for (name,) in rows}


def _move(cursor: duckdb.DuckDBPyConnection, sql: str, old: tuple[str, ...], new: tuple[str, ...]) -> None:
    """Create the table in the new schema, with its constraints, and copy its rows."""
    columns = sql[sql.index("(") :]
    cursor.execute(f"CREATE TABLE {quote_ansi(*new)}{columns}")
    cursor.execute(f"INSERT INTO {quote_ansi(*new)} FROM {quote_ansi(*old)}")
    cursor.execute(f"DROP TABLE {quote_ansi(*old)}")


def _has(cursor: duckdb.DuckDBPyConnection, schema: str, *tables: str) -> bool:
    rows = cursor.execute(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = current_database() AND schema_name = ?", [schema]
    ).fetchall()
    return set(tables) <= {name for (name,) in rows}


def _mark_replays(cursor: duckdb.DuckDBPyConnection, catalog: str, schema: str) -> None:
    """Add the suffix to tables that a replay made, to distinguish them from mirrors of a database `replay_...`."""
    if not _has(cursor, schema, "mirrors", "backfills"):
        return
    mirrors, backfills = quote_ansi(catalog, schema, "mirrors"), quote_ansi(catalog, schema, "backfills")
    live = "SELECT 'replay_', ''"
    if _has(cursor, schema, "progress"):
        live = f"SELECT database, table_name FROM {quote_ansi(catalog, schema, 'progress')}"
    cursor.execute(
        f"UPDATE {mirrors} SET database = database || '{REPLAY_MARK}' WHERE (database, table_name) IN "
        f"(SELECT ('replay_' || database, table_name) FROM {backfills} WHERE target LIKE 'table replay_%') "
        f"AND (database, table_name) NOT IN ({live})"
    )
