"""Which client keeps which mirror of a DuckDB file.

A file has one mirror of a table, and its rows belong to the progress of one client. These functions find the mirrors of
a client, and refuse a client that would apply the changes of a table to the rows or the progress of another consumer.
"""

from __future__ import annotations

import duckdb

from binlogsync.errors import ConfigError
from binlogsync.targets.duckdb.names import MIRRORS
from binlogsync.targets.duckdb.progress import PROGRESS, ensure_progress, load_progress
from binlogsync.targets.duckdb.state import ensure_meta, load_state
from binlogsync.targets.progress import ProgressKey


def list_mirrors(connection: duckdb.DuckDBPyConnection, client_id: str, source: str) -> set[tuple[str, str]]:
    """(database, table) of the mirrors that the client keeps in the file."""
    ensure_meta(connection)
    ensure_progress(connection)
    connection.execute(
        f"SELECT database, table_name FROM {PROGRESS} JOIN {MIRRORS} USING (database, table_name) "
        "WHERE client = ? AND source = ?",
        [client_id, source],
    )
    return set(connection.fetchall())


def check_client(connection: duckdb.DuckDBPyConnection, key: ProgressKey) -> None:
    """Raise ConfigError if the client cannot keep the mirror of this table in this file.

    That is so if its progress is that of a handler, or if another client or source keeps the mirror.
    """
    ensure_meta(connection)
    progress = load_progress(connection, key)
    is_mirror = load_state(connection, key.database, key.table).is_known
    if progress.changes and not is_mirror:
        raise ConfigError(
            f"{key}: the file has its progress, but no mirror, because a handler consumes the table under this client "
            "id; use another client id"
        )
    if not is_mirror or progress.epoch:
        return
    connection.execute(
        f"SELECT client, source FROM {PROGRESS} WHERE database = ? AND table_name = ?", [key.database, key.table]
    )
    for client, source in connection.fetchall():
        raise ConfigError(
            f"{key}: client {client!r} of source {source!r} keeps the mirror of this table in the file; use that "
            "client id, or another file"
        )
