"""The table `progress` of META_SCHEMA: the progress of each consumer that stores rows in the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import duckdb

from binlogsync.targets.duckdb.file import META_SCHEMA, ensure_once, first_row
from binlogsync.targets.duckdb.names import MIRRORS, has_relation
from binlogsync.targets.progress import NO_PROGRESS, ConsumerProgress, ProgressKey

PROGRESS = f"{META_SCHEMA}.progress"
"""The table, as SQL."""
KEY_CONDITION = "client = ? AND source = ? AND database = ? AND table_name = ?"
"""SQL that selects the rows of a consumer, in each table of META_SCHEMA; its values are those of key_values."""
_KEY = "(client, source, database, table_name)"
_FIELDS = "server_uuid, gtid, file, pos, row, txn_order, sequence, seen, changes, epoch, stream"


def key_values(key: ProgressKey) -> list[str]:
    """The values of KEY_CONDITION."""
    return [key.client, key.source, key.database, key.table]


def ensure_progress(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the table of progress when it does not exist."""
    if not ensure_once(connection, PROGRESS):
        return
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {META_SCHEMA}")
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {PROGRESS} (client VARCHAR, source VARCHAR, database VARCHAR, "
        "table_name VARCHAR, server_uuid VARCHAR, gtid VARCHAR, file VARCHAR, pos UBIGINT, row UINTEGER, "
        "txn_order UBIGINT, sequence UBIGINT, seen UBIGINT, changes UBIGINT, epoch UBIGINT, "
        "moved_at TIMESTAMPTZ, stream VARCHAR)"
    )
    connection.execute(f"ALTER TABLE {PROGRESS} ADD COLUMN IF NOT EXISTS stream VARCHAR")  # for older files


def load_progress(connection: duckdb.DuckDBPyConnection, key: ProgressKey) -> ConsumerProgress:
    """The stored progress; NO_PROGRESS for a new consumer. Creates the table when it does not exist."""
    ensure_progress(connection)
    row = first_row(connection, f"SELECT {_FIELDS} FROM {PROGRESS} WHERE {KEY_CONDITION}", key_values(key))
    return NO_PROGRESS if row is None else ConsumerProgress(*row)


def move_progress(
    connection: duckdb.DuckDBPyConnection, key: ProgressKey, before: ConsumerProgress, after: ConsumerProgress
) -> ConsumerProgress:
    """Store `after` in the open transaction if `before` is still stored; returns it as stored. Raises ConsumeError."""
    return move_all_progress(connection, [(key, before, after)])[0]


def move_all_progress(
    connection: duckdb.DuckDBPyConnection, moves: Sequence[tuple[ProgressKey, ConsumerProgress, ConsumerProgress]]
) -> list[ConsumerProgress]:
    """`move_progress` for several consumers (key, before, after), in as many statements as for one."""
    if not moves:
        return []
    ensure_progress(connection)
    keys = ", ".join(["(?, ?, ?, ?)"] * len(moves))
    values = [value for key, _, _ in moves for value in key_values(key)]
    rows = connection.execute(
        f"SELECT client, source, database, table_name, {_FIELDS} FROM {PROGRESS} WHERE {_KEY} IN ({keys})", values
    ).fetchall()
    stored = {ProgressKey(*row[:4]): ConsumerProgress(*row[4:]) for row in rows}
    moved = []
    for key, before, after in moves:
        key.check(before, stored.get(key, NO_PROGRESS))
        moved.append(replace(after, epoch=before.epoch + 1))
    connection.execute(f"DELETE FROM {PROGRESS} WHERE {_KEY} IN ({keys})", values)
    places = ", ".join([f"({', '.join('?' * 15)}, now())"] * len(moves))
    connection.execute(
        f"INSERT INTO {PROGRESS} (client, source, database, table_name, {_FIELDS}, moved_at) VALUES {places}",
        [
            value
            for (key, _, _), one in zip(moves, moved, strict=True)
            for value in (*key_values(key), *(getattr(one, each.name) for each in fields(ConsumerProgress)))
        ],
    )
    return moved


def load_all_progress(connection: duckdb.DuckDBPyConnection) -> dict[ProgressKey, ConsumerProgress]:
    """The progress of all consumers in the file. Changes nothing in a file without progress."""
    if not has_relation(connection, META_SCHEMA, "progress"):
        return {}
    ensure_progress(connection)
    rows = connection.execute(f"SELECT client, source, database, table_name, {_FIELDS} FROM {PROGRESS}").fetchall()
    return {ProgressKey(*row[:4]): ConsumerProgress(*row[4:]) for row in rows}


def forget_progress(connection: duckdb.DuckDBPyConnection, key: ProgressKey) -> None:
    """Delete the progress: the consumer is new again."""
    connection.execute(f"DELETE FROM {PROGRESS} WHERE {KEY_CONDITION}", key_values(key))


def list_consumers(connection: duckdb.DuckDBPyConnection, database: str, table: str) -> list[ProgressKey]:
    """All consumers of a table with stored progress."""
    ensure_progress(connection)
    rows = connection.execute(
        f"SELECT client, source FROM {PROGRESS} WHERE database = ? AND table_name = ? ORDER BY ALL", [database, table]
    ).fetchall()
    return [ProgressKey(client, source, database, table) for client, source in rows]


def list_mirrors(connection: duckdb.DuckDBPyConnection, client: str, source: str) -> set[tuple[str, str]]:
    """(database, table) of the mirrors that the client keeps in the file."""
    ensure_progress(connection)
    connection.execute(
        f"SELECT database, table_name FROM {PROGRESS} JOIN {MIRRORS} USING (database, table_name) "
        "WHERE client = ? AND source = ?",
        [client, source],
    )
    return set(connection.fetchall())
