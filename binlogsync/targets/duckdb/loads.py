"""The spare table beside a mirror, and the state of the load that fills it, stored in the transaction of the rows.

The spare table (`MirrorState.spare`) replaces the mirror's at the end. The load that began or resumed last owns it:
another one, as of a rewind in another process, cannot add rows to it any longer. The location of the spare table is
stored with it: the names of a mirror may change until its first load is complete.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import duckdb
import pyarrow as pa

from binlogsync.change_batch import ChangeBatch
from binlogsync.errors import ConsumeError
from binlogsync.position import Checkpoint
from binlogsync.schema import TableSchema, is_date
from binlogsync.targets.duckdb.file import META_SCHEMA, ensure_once, first_row, quote
from binlogsync.targets.duckdb.key_dates import is_key_date
from binlogsync.targets.duckdb.mirror_tables import (
    column_list,
    declare_deleted_at,
    declare_metadata,
    drop_table,
    free_location,
)
from binlogsync.targets.duckdb.names import fold_sql, has_relation, sibling_sql, spare_of
from binlogsync.targets.duckdb.row_images import insert_table, row_images
from binlogsync.targets.duckdb.rows import apply_keyed
from binlogsync.targets.duckdb.soft_deletes import copy_deleted_rows
from binlogsync.targets.duckdb.state import store_state
from binlogsync.targets.duckdb.streamed_rows import insert_batches
from binlogsync.targets.duckdb.unique_keys import check_unique
from binlogsync.targets.load_state import LoadState
from binlogsync.targets.mirror_state import MirrorState

_LOADS = f"{META_SCHEMA}.loads"
_PLACE = "duck_schema, duck_table, spare_table"
_FIELDS = "start, start_sequence, server_uuid, schema_json, left_out, key, last_key, row_count, high, applied, stream"
_ADDED = ("stream", *_PLACE.split(", "))
"""Columns that files of older versions do not have: the stream, the mirror's table, and the spare one beside it."""
_PURPOSE = "reading"


def _spare(state: MirrorState) -> str:
    """The spare table, as SQL."""
    return sibling_sql(state, spare_of(state, _PURPOSE))


def begin_load(
    connection: duckdb.DuckDBPyConnection, state: MirrorState, schema: TableSchema | None, owner: str
) -> None:
    """Create an empty spare table, unless the schema is None, in place of that of an earlier load."""
    drop_load(connection, state)
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(*state.location[:2])}")
    if schema is not None:
        columns = column_list(schema, metadata=state.policies.metadata)
        connection.execute(f"CREATE TABLE {_spare(state)} ({columns})")
    connection.execute(
        f"INSERT INTO {_LOADS} (database, table_name, owner, {_PLACE}) VALUES (?, ?, ?, ?, ?, ?)",
        [state.database, state.table, owner, *_place(state)],
    )


def _place(state: MirrorState) -> tuple[str, str, str]:
    """The values of _PLACE."""
    return (*state.location[1:], spare_of(state, _PURPOSE))


def check_place(connection: duckdb.DuckDBPyConnection, state: MirrorState) -> None:
    """Raise ConsumeError if another mirror is being loaded for the first time, to become the table of this one."""
    _ensure_loads(connection)
    same = f"{fold_sql('duck_schema')} = {fold_sql('?')} AND {fold_sql('duck_table')} = {fold_sql('?')}"
    found = first_row(
        connection,
        f"SELECT database, table_name FROM {_LOADS} WHERE {same} AND (database, table_name) <> (?, ?)",
        [*state.location[1:], state.database, state.table],
    )
    if found is not None:
        other = ".".join(found)
        raise ConsumeError(
            f"{state.name}: target_schema and target_table name {quote(*state.location[1:])}, which a load of the "
            f"mirror of {other} has begun to fill; write patterns that give each mirror a name of its own, or, if that "
            f"load is abandoned: binlogsync remove {other} --drop"
        )


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


def drop_load(connection: duckdb.DuckDBPyConnection, state: MirrorState) -> bool:
    """Drop the spare table and the state of its load; False if there are none."""
    _ensure_loads(connection)
    sql = f"SELECT duck_schema, spare_table FROM {_LOADS} WHERE database = ? AND table_name = ?"
    stored = first_row(connection, sql, [state.database, state.table])
    places = {(state.location[1], spare_of(state, _PURPOSE))}
    places |= {stored} if stored is not None and all(stored) else set()
    there = [place for place in places if has_relation(connection, *place)]
    for place in there:
        connection.execute(f"DROP TABLE {quote(state.location[0], *place)}")
    _forget_load(connection, state)
    return bool(there) or stored is not None


def _forget_load(connection: duckdb.DuckDBPyConnection, state: MirrorState) -> None:
    """Delete the state of a load; the spare table stays."""
    _ensure_loads(connection)
    connection.execute(f"DELETE FROM {_LOADS} WHERE database = ? AND table_name = ?", [state.database, state.table])


def find_load(connection: duckdb.DuckDBPyConnection, state: MirrorState) -> LoadState | None:
    """The load of the mirror that has begun; None if there is none, or if its spare table is missing."""
    _ensure_loads(connection)
    sql = f"SELECT {_FIELDS} FROM {_LOADS} WHERE database = ? AND table_name = ?"
    row = first_row(connection, sql, [state.database, state.table])
    if row is None or row[0] is None or not has_relation(connection, state.location[1], spare_of(state, _PURPOSE)):
        return None
    for name in state.policies.metadata:  # the load may have begun before they were requested
        connection.execute(f"ALTER TABLE {_spare(state)} ADD COLUMN IF NOT EXISTS {declare_metadata(name)}")
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
    """Store the state of the load, which that owner owns from now on."""
    _forget_load(connection, state)
    last_key = None if load.last_key is None else list(load.last_key)
    high = None if load.high is None else load.high.to_text()
    start = [load.start.to_text(), load.start_sequence, load.server_uuid, load.schema.to_json()]
    columns = [list(load.left_out), list(load.key), last_key, load.rows, high, load.applied, load.stream]
    connection.execute(
        f"INSERT INTO {_LOADS} (database, table_name, {_FIELDS}, owner, {_PLACE}, changed_at) "
        f"VALUES ({', '.join('?' * 17)}, now())",
        [state.database, state.table, *start, *columns, owner, *_place(state)],
    )


def insert_rows(
    connection: duckdb.DuckDBPyConnection, state: MirrorState, schema: TableSchema, batches: Iterable[ChangeBatch]
) -> int:
    """Insert rows of a snapshot (op "r") into the spare table; returns their number. See insert_batches."""
    return insert_batches(connection, _spare(state), schema, batches, state.policies.metadata)


def copy_rows(connection: duckdb.DuckDBPyConnection, state: MirrorState, rows: pa.Table) -> None:
    """Insert rows, in DuckDB's types, into the spare table."""
    insert_table(connection, _spare(state), rows)


def apply_to_spare(
    connection: duckdb.DuckDBPyConnection, state: MirrorState, schema: TableSchema, batches: Sequence[ChangeBatch]
) -> None:
    """Apply changes by the key of the schema to the spare table, as to a mirror without soft deletes."""
    location = (*state.location[:2], spare_of(state, _PURPOSE))
    spare = MirrorState(state.database, state.table, location, schema, is_known=True, policies=state.policies)
    apply_keyed(connection, spare, schema, row_images(batches))


def replace_table(
    connection: duckdb.DuckDBPyConnection, state: MirrorState, schema: TableSchema, gone_us: int
) -> MirrorState:
    """Replace the mirror by its spare table; with soft deletes, rows that are missing in it become deleted rows."""
    spare = _spare(state)
    _remove_key_dates(connection, state, schema, spare)
    check_unique(connection, state, schema, spare)
    if state.deleted_at is not None:
        column_list(schema, state.deleted_at)  # raises ConsumeError for a name in use
        connection.execute(f"ALTER TABLE {spare} ADD COLUMN {declare_deleted_at(state.deleted_at)}")
    copy_deleted_rows(connection, state, (spare, schema), gone_us)
    state = free_location(connection, drop_table(connection, state))
    connection.execute(f"ALTER TABLE {spare} RENAME TO {quote(state.location[2])}")
    _forget_load(connection, state)
    return store_state(connection, replace(state, schema=schema))


def _remove_key_dates(
    connection: duckdb.DuckDBPyConnection, state: MirrorState, schema: TableSchema, spare: str
) -> None:
    """Set invalid dates outside of the key of the options to NULL: the rows were loaded by the key of the server."""
    if not state.policies.key:
        return
    connection.execute("SET TimeZone = 'UTC'")
    for column in schema.columns:
        if is_date(column) and column.name not in schema.primary_key:
            name = quote(column.name)
            connection.execute(f"UPDATE {spare} SET {name} = NULL WHERE {is_key_date(column.name)}")


def _ensure_loads(connection: duckdb.DuckDBPyConnection) -> None:
    if not ensure_once(connection, _LOADS):
        return
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {META_SCHEMA}")
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {_LOADS} (database VARCHAR, table_name VARCHAR, start VARCHAR, "
        "start_sequence BIGINT, server_uuid VARCHAR, schema_json VARCHAR, left_out VARCHAR[], key VARCHAR[], "
        "last_key VARCHAR[], row_count BIGINT, high VARCHAR, applied BIGINT, owner VARCHAR, "
        "changed_at TIMESTAMPTZ)"
    )
    for name in _ADDED:
        connection.execute(f"ALTER TABLE {_LOADS} ADD COLUMN IF NOT EXISTS {name} VARCHAR")
