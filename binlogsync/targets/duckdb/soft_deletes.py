"""Deletes all rows of a mirror, or marks them as deleted, and keeps deleted rows when a load replaces its table."""

from __future__ import annotations

from dataclasses import replace

import duckdb

from binlogsync.schema import TableSchema
from binlogsync.targets.duckdb.column_types import duck_type
from binlogsync.targets.duckdb.file import quote
from binlogsync.targets.duckdb.metadata_columns import constant_metadata
from binlogsync.targets.duckdb.names import live_condition, table_sql
from binlogsync.targets.mirror_state import MirrorState


def delete_rows(connection: duckdb.DuckDBPyConnection, state: MirrorState, gone_us: int) -> MirrorState:
    """Delete all rows; with soft deletes, mark them as deleted at `gone_us`, microseconds since 1970 UTC."""
    if state.deleted_at is None:
        connection.execute(f"DELETE FROM {table_sql(state)}")
    else:
        mark_deleted(connection, state, gone_us)
    return replace(state, is_rewritten=True)


def copy_deleted_rows(
    connection: duckdb.DuckDBPyConnection, state: MirrorState, other: tuple[str, TableSchema], gone_us: int
) -> None:
    """Copy the soft-deleted rows of a mirror into another table (SQL, schema), in the columns that both have.

    Live rows whose key is missing in the other table were deleted before `gone_us`; they are copied as deleted at that
    time. In a table without a key such rows cannot be identified and are not copied.
    """
    if state.schema is None or state.deleted_at is None:
        return
    target, schema = other
    mine = {column.name.lower(): column.name for column in state.schema.columns}
    shared = [column for column in schema.columns if column.name.lower() in mine]
    values = [f"TRY_CAST(o.{quote(mine[c.name.lower()])} AS {duck_type(c)})" for c in shared]
    metadata = state.policies.metadata
    names = ", ".join([*(quote(column.name) for column in shared), *map(quote, (state.deleted_at, *metadata))])
    gone = [f"coalesce(o.{quote(state.deleted_at)}, make_timestamptz({gone_us}))"]
    gone += [
        f"CASE WHEN o.{quote(state.deleted_at)} IS NULL THEN {value} ELSE o.{quote(name)} END"
        for name, value in zip(metadata, constant_metadata(metadata, "d", gone_us), strict=True)
    ]
    condition = f"o.{quote(state.deleted_at)} IS NOT NULL"
    key = schema.primary_key
    if key and all(name.lower() in mine for name in key):
        pairs = " AND ".join(
            f"n.{quote(name)} = TRY_CAST(o.{quote(mine[name.lower()])} AS {duck_type(schema.column(name))})"
            for name in key
        )
        condition = f"NOT EXISTS (SELECT 1 FROM {target} AS n WHERE {pairs})"
    connection.execute(
        f"INSERT INTO {target} ({names}) SELECT {', '.join([*values, *gone])} FROM {table_sql(state)} AS o "
        f"WHERE {condition}"
    )


def mark_deleted(connection: duckdb.DuckDBPyConnection, state: MirrorState, gone_us: int) -> None:
    """Mark all live rows as deleted at that time."""
    connection.execute(f"UPDATE {table_sql(state)} SET {deletion_sql(state, gone_us)} WHERE {live_condition(state)}")


def deletion_sql(state: MirrorState, gone_us: int) -> str:
    """What UPDATE sets for rows that are deleted at that time, by no row change of the stream."""
    values = constant_metadata(state.policies.metadata, "d", gone_us)
    pairs = [
        (state.deleted_at or "", f"make_timestamptz({gone_us})"),
        *zip(state.policies.metadata, values, strict=True),
    ]
    return ", ".join(f"{quote(name)} = {value}" for name, value in pairs)
