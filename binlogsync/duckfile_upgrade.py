"""DuckDB files of earlier versions, brought to the present layout when they are opened.

Earlier versions kept their own tables in the schema `binlogsync`, which a MySQL database can be called too. They move
to a schema that no MySQL database can be, in one transaction; a table there that mirrors MySQL's stays where it is.
"""

from __future__ import annotations

import duckdb

REPLAY_MARK = " "
"""Behind the database name of a replay's table in `mirrors`: names of MySQL do not end in a space."""

_OLD_SCHEMA = "binlogsync"
_STATE_TABLES = ("mirrors", "progress", "skips", "rewinds", "gaps", "audit", "backfills")


def upgrade(connection: duckdb.DuckDBPyConnection, schema: str) -> None:
    """Move the tables of an earlier version to `schema`; nothing happens where there are none."""
    found = connection.execute(
        "SELECT schema_name, table_name, sql FROM duckdb_tables() WHERE database_name = current_database() "
        "AND schema_name IN (?, ?)",
        [schema, _OLD_SCHEMA],
    ).fetchall()
    old = {name: sql for at, name, sql in found if at == _OLD_SCHEMA}
    state = [name for name in _STATE_TABLES if name in old]
    if not state or any(at == schema for at, _, _ in found):
        return
    with connection.cursor() as cursor:
        cursor.begin()
        (catalog,) = cursor.execute("SELECT current_database()").fetchone() or ("",)
        mirrored = _mirrored_here(cursor, _path(catalog, _OLD_SCHEMA, "mirrors")) if "mirrors" in old else set()
        cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {_path(catalog, schema)}")
        for name in state:
            if name not in mirrored:
                _move(cursor, old[name], (catalog, _OLD_SCHEMA, name), (catalog, schema, name))
        for name in old:
            if name.startswith("verification") and name not in mirrored:  # requests, which are made again
                cursor.execute(f"DROP TABLE {_path(catalog, _OLD_SCHEMA, name)}")
        _mark_replays(cursor, catalog, schema)
        cursor.commit()


def _path(*names: str) -> str:
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def _mirrored_here(cursor: duckdb.DuckDBPyConnection, mirrors: str) -> set[str]:
    """Tables of the old schema that are mirrors of a MySQL database of its name."""
    rows = cursor.execute(
        f"SELECT table_name FROM {mirrors} WHERE lower(database) = ? AND schema_json IS NOT NULL", [_OLD_SCHEMA]
    ).fetchall()
    return {str(name) for (name,) in rows}


def _move(cursor: duckdb.DuckDBPyConnection, sql: str, old: tuple[str, ...], new: tuple[str, ...]) -> None:
    """Create the table again, with its constraints, and fill it."""
    columns = sql[sql.index("(") :]
    cursor.execute(f"CREATE TABLE {_path(*new)}{columns}")
    cursor.execute(f"INSERT INTO {_path(*new)} FROM {_path(*old)}")
    cursor.execute(f"DROP TABLE {_path(*old)}")


def _has(cursor: duckdb.DuckDBPyConnection, schema: str, *tables: str) -> bool:
    rows = cursor.execute(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = current_database() AND schema_name = ?", [schema]
    ).fetchall()
    return set(tables) <= {name for (name,) in rows}


def _mark_replays(cursor: duckdb.DuckDBPyConnection, catalog: str, schema: str) -> None:
    """Tables that a replay made are told from mirrors of a MySQL database called `replay_...`."""
    if not _has(cursor, schema, "mirrors", "backfills"):
        return
    mirrors, backfills = _path(catalog, schema, "mirrors"), _path(catalog, schema, "backfills")
    live = "SELECT 'replay_', ''"
    if _has(cursor, schema, "progress"):
        live = f"SELECT database, table_name FROM {_path(catalog, schema, 'progress')}"
    cursor.execute(
        f"UPDATE {mirrors} SET database = database || '{REPLAY_MARK}' WHERE (database, table_name) IN "
        f"(SELECT ('replay_' || database, table_name) FROM {backfills} WHERE target LIKE 'table replay_%') "
        f"AND (database, table_name) NOT IN ({live})"
    )
