"""The table `progress` of META_SCHEMA: the progress of each consumer that stores rows in the file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

import duckdb
import pyarrow as pa

from binlogsync.targets.duckdb.arrow_statement import ROWS, execute_on
from binlogsync.targets.duckdb.file import META_SCHEMA, ensure_once, first_row
from binlogsync.targets.duckdb.names import MIRRORS, has_relation
from binlogsync.targets.progress import NO_PROGRESS, ConsumerProgress, ProgressKey
from binlogsync.targets.records import REPLAY_CLIENT

PROGRESS = f"{META_SCHEMA}.progress"
"""The table, as SQL."""
REPLAYS = f"{META_SCHEMA}.backfills"
"""The table of replays, as SQL."""
KEY_CONDITION = "client = ? AND source = ? AND database = ? AND table_name = ?"
"""SQL that selects the rows of a consumer, in each table of META_SCHEMA; its values are those of key_values."""
_KEY = "client, source, database, table_name"
_FIELDS = "server_uuid, gtid, file, pos, row, txn_order, sequence, seen, changes, epoch, stream"
_KEY_OF_P = ", ".join(f"p.{name}" for name in _KEY.split(", "))
_SET = ", ".join(f"{name} = v.{name}" for name in _FIELDS.split(", "))
_SAME = " AND ".join(f"p.{name} = v.{name}" for name in _KEY.split(", "))
_UNCHANGED = " AND ".join(f"p.{name} IS NOT DISTINCT FROM v.{name}_before" for name in _FIELDS.split(", "))
_TEXTS = ("server_uuid", "gtid", "file", "stream")
_VALUE_TYPES = {name: pa.string() if name in _TEXTS else pa.uint64() for name in _FIELDS.split(", ")}
_TYPES = {
    **dict.fromkeys(_KEY.split(", "), pa.string()),
    **_VALUE_TYPES,
    **{f"{name}_before": kind for name, kind in _VALUE_TYPES.items()},
}


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
    moved = [(key, replace(after, epoch=before.epoch + 1)) for key, before, after in moves]
    rows = _rows_of(moved, [before for _, before, _ in moves])
    # Not deleted and inserted: until the next checkpoint, each transaction would read the deleted rows too.
    update = (
        f"UPDATE {PROGRESS} AS p SET {_SET}, moved_at = now() FROM {ROWS} AS v WHERE {_SAME} AND {_UNCHANGED} "
        f"RETURNING {_KEY_OF_P}"
    )
    updated = {ProgressKey(*row) for row in execute_on(connection, update, rows).fetchall()}
    if len(updated) < len(moves):
        for key, before, _ in moves:
            if key not in updated:
                key.check(before, load_progress(connection, key))
        execute_on(
            connection,
            f"INSERT INTO {PROGRESS} ({_KEY}, {_FIELDS}, moved_at) "
            f"SELECT {_KEY}, {_FIELDS}, now() FROM {ROWS} ANTI JOIN {PROGRESS} USING ({_KEY})",
            rows,
        )
    return [after for _, after in moved]


def _rows_of(moved: Sequence[tuple[ProgressKey, ConsumerProgress]], before: Sequence[ConsumerProgress]) -> pa.Table:
    """The rows of the table PROGRESS, with values of the rows that they replace."""
    columns = [
        *zip(*((*key_values(key), *_values_of(after)) for key, after in moved), strict=True),
        *zip(*map(_values_of, before), strict=True),
    ]
    arrays = [pa.array(values, kind) for values, kind in zip(columns, _TYPES.values(), strict=True)]
    return pa.Table.from_arrays(arrays, names=list(_TYPES))


def _values_of(progress: ConsumerProgress) -> Iterator[Any]:
    return (getattr(progress, each.name) for each in fields(ConsumerProgress))


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
    """All consumers of a table with stored progress, without replays."""
    ensure_progress(connection)
    rows = connection.execute(
        f"SELECT client, source FROM {PROGRESS} WHERE database = ? AND table_name = ? "
        f"AND {_is_no_replay(connection)} ORDER BY ALL",
        [database, table],
    ).fetchall()
    return [ProgressKey(client, source, database, table) for client, source in rows]


def list_mirrors(connection: duckdb.DuckDBPyConnection, client: str, source: str) -> set[tuple[str, str]]:
    """(database, table) of the mirrors that the client keeps in the file."""
    ensure_progress(connection)
    connection.execute(
        f"SELECT database, table_name FROM {PROGRESS} JOIN {MIRRORS} USING (database, table_name) "
        f"WHERE client = ? AND source = ? AND {_is_no_replay(connection)}",
        [client, source],
    )
    return set(connection.fetchall())


def _is_no_replay(connection: duckdb.DuckDBPyConnection) -> str:
    """SQL that is true for the progress of a consumer: a replay has some too, but never the mirror of its table."""
    if not has_relation(connection, META_SCHEMA, "backfills"):
        return "true"
    return f"client NOT IN (SELECT '{REPLAY_CLIENT}' || number FROM {REPLAYS})"
