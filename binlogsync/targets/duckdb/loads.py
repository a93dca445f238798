"""Stores how far the load of a mirror is, in the transaction of the rows of each chunk, so that a load can be resumed.

The rows are in a spare table beside the mirror (`MirrorState.spare`), which replaces the mirror at the end. The load
that began or resumed last owns it: another one, as of a rewind in another process, cannot add rows to it any longer.
"""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from binlogsync.errors import ConsumeError
from binlogsync.position import Checkpoint
from binlogsync.schema import TableSchema
from binlogsync.targets.duckdb.file import META_SCHEMA, first_row, quote
from binlogsync.targets.duckdb.names import has_relation
from binlogsync.targets.duckdb.state import column_list
from binlogsync.targets.mirror_state import MirrorState

_LOADS = f"{META_SCHEMA}.loads"
_FIELDS = "start, start_sequence, server_uuid, schema_json, left_out, key, last_key, row_count, high, applied, stream"


@dataclass(frozen=True, slots=True)
class LoadState:
    """A load that has begun.

    Attributes:
        start: checkpoint of the stream at its beginning: the changes after it are applied to the rows.
        start_sequence: stream sequence of that checkpoint.
        server_uuid: of the server that is read.
        schema: of the spare table; its primary key is `key`.
        left_out: columns of the source that the mirror will not have.
        last_key: SQL literals of the last key that was read; None before the first chunk.
        rows: number of rows read.
        high: the rows can contain changes up to this checkpoint; None until all chunks were read.
        applied: stream sequence up to which changes were applied to the rows.
        stream: when the stream was created (StreamReader.created_at); None if it is not known.
    """

    start: Checkpoint
    start_sequence: int
    server_uuid: str
    schema: TableSchema
    left_out: tuple[str, ...]
    key: tuple[str, ...]
    applied: int
    last_key: tuple[str, ...] | None = None
    rows: int = 0
    high: Checkpoint | None = None
    stream: str | None = None


def spare_state(state: MirrorState, schema: TableSchema) -> MirrorState:
    """The spare table of a mirror as if it were the mirror, without soft deletes."""
    location = (*state.location[:2], state.spare("reading"))
    return MirrorState(state.database, state.table, location, schema=schema, is_known=True)


def create_spare(
    connection: duckdb.DuckDBPyConnection, state: MirrorState, schema: TableSchema | None, owner: str
) -> str:
    """Create an empty spare table, unless the schema is None, and forget an earlier load; returns its name as SQL.

    `owner` is any text that no other load uses.
    """
    spare = drop_load(connection, state)
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(*state.location[:2])}")
    if schema is not None:
        connection.execute(f"CREATE TABLE {spare} ({column_list(schema)})")
    values = [state.database, state.table, owner]
    connection.execute(f"INSERT INTO {_LOADS} (database, table_name, owner) VALUES (?, ?, ?)", values)
    return spare


def take_over(connection: duckdb.DuckDBPyConnection, state: MirrorState, owner: str) -> None:
    """Make another owner the owner of the spare table."""
    values = [owner, state.database, state.table]
    connection.execute(f"UPDATE {_LOADS} SET owner = ? WHERE database = ? AND table_name = ?", values)


def check_owner(connection: duckdb.DuckDBPyConnection, state: MirrorState, owner: str) -> None:
    """Raise ConsumeError unless the owner still owns the spare table."""
    _ensure_loads(connection)
    values = [state.database, state.table]
    found = first_row(connection, f"SELECT owner FROM {_LOADS} WHERE database = ? AND table_name = ?", values)
    if found != (owner,):
        raise ConsumeError(
            f"{state.name}: another process has begun to load or rewind this mirror, so this load stores no more "
            "rows, and is tried again. Run one of them at a time"
        )


def drop_load(connection: duckdb.DuckDBPyConnection, state: MirrorState) -> str:
    """Drop the spare table and the state of its load, if there are any; returns the table's name as SQL."""
    spare = state.beside(state.spare("reading"))
    if has_relation(connection, state.location[1], state.spare("reading")):
        connection.execute(f"DROP TABLE {spare}")
    forget_load(connection, state)
    return spare


def forget_load(connection: duckdb.DuckDBPyConnection, state: MirrorState) -> None:
    """Delete the state of a load; the spare table stays."""
    _ensure_loads(connection)
    connection.execute(f"DELETE FROM {_LOADS} WHERE database = ? AND table_name = ?", [state.database, state.table])


def find_load(connection: duckdb.DuckDBPyConnection, state: MirrorState) -> LoadState | None:
    """The load of the mirror that has begun; None if there is none, or if its spare table is missing."""
    _ensure_loads(connection)
    sql = f"SELECT {_FIELDS} FROM {_LOADS} WHERE database = ? AND table_name = ?"
    row = first_row(connection, sql, [state.database, state.table])
    if row is None or row[0] is None or not has_relation(connection, state.location[1], state.spare("reading")):
        return None
    return LoadState(
        start=Checkpoint.from_text(row[0]),
        start_sequence=row[1],
        server_uuid=row[2],
        schema=TableSchema.from_json(row[3]),
        left_out=tuple(row[4]),
        key=tuple(row[5]),
        last_key=None if row[6] is None else tuple(row[6]),
        rows=row[7],
        high=None if row[8] is None else Checkpoint.from_text(row[8]),
        applied=row[9],
        stream=row[10],
    )


def store_load(connection: duckdb.DuckDBPyConnection, state: MirrorState, load: LoadState, owner: str) -> None:
    """Store the state of the load, which that owner owns, in the open transaction."""
    forget_load(connection, state)
    last_key = None if load.last_key is None else list(load.last_key)
    high = None if load.high is None else load.high.to_text()
    place = [load.start.to_text(), load.start_sequence, load.server_uuid, load.schema.to_json()]
    columns = [list(load.left_out), list(load.key), last_key, load.rows, high, load.applied, load.stream]
    connection.execute(
        f"INSERT INTO {_LOADS} (database, table_name, {_FIELDS}, owner, changed_at) "
        f"VALUES ({', '.join('?' * 14)}, now())",
        [state.database, state.table, *place, *columns, owner],
    )


def _ensure_loads(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {META_SCHEMA}")
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {_LOADS} (database VARCHAR, table_name VARCHAR, start VARCHAR, "
        "start_sequence BIGINT, server_uuid VARCHAR, schema_json VARCHAR, left_out VARCHAR[], key VARCHAR[], "
        "last_key VARCHAR[], row_count BIGINT, high VARCHAR, applied BIGINT, owner VARCHAR, "
        "changed_at TIMESTAMPTZ, stream VARCHAR)"
    )
    connection.execute(f"ALTER TABLE {_LOADS} ADD COLUMN IF NOT EXISTS stream VARCHAR")  # for older files
