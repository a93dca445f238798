"""Creates, places, drops and rewrites the table of a mirror in a DuckDB file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import duckdb
import pyarrow as pa

from binlogsync.errors import ConsumeError
from binlogsync.schema import TableSchema
from binlogsync.targets.duckdb.column_types import duck_type
from binlogsync.targets.duckdb.file import first_row, quote
from binlogsync.targets.duckdb.metadata_columns import METADATA_TYPES, constant_metadata
from binlogsync.targets.duckdb.names import (
    MIRRORS,
    RESERVED_SCHEMAS,
    fold_name,
    free_name,
    has_relation,
    is_taken,
    sibling_sql,
    spare_of,
    table_sql,
)
from binlogsync.targets.duckdb.soft_deletes import mark_deleted
from binlogsync.targets.duckdb.state import load_state, store_state
from binlogsync.targets.mirror_options import describe_taken_name
from binlogsync.targets.mirror_state import MirrorState

_ROWS = 20_000


def create_table(connection: duckdb.DuckDBPyConnection, state: MirrorState, schema: TableSchema) -> MirrorState:
    """Create an empty table; one that was kept after a DROP is archived. Raises ConsumeError if the name is in use."""
    state = free_location(connection, state)
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(*state.location[:2])}")
    connection.execute(
        f"CREATE TABLE {table_sql(state)} ({column_list(schema, state.deleted_at, state.policies.metadata)})"
    )
    return store_state(connection, replace(state, schema=schema))


def free_location(connection: duckdb.DuckDBPyConnection, state: MirrorState) -> MirrorState:
    """Archive the table that was kept after a DROP, if there is one; returns the state, which is not stored.

    Raises ConsumeError if the file has a table of the mirror's name that is not a mirror.
    """
    if state.policies.kept_us is not None:
        if has_relation(connection, *state.location[1:]):
            _archive_table(connection, state, state.policies.kept_us)
        state = replace(state, policies=replace(state.policies, kept_us=None))
    check_name_is_free(connection, state)
    return state


def check_name_is_free(connection: duckdb.DuckDBPyConnection, state: MirrorState) -> None:
    """Raise ConsumeError if the file has a table of the mirror's name that is not a mirror."""
    if has_relation(connection, *state.location[1:]):
        raise ConsumeError(
            f"{state.name}: the file has a table {quote(*state.location[1:])} that is not a mirror; rename or drop it, "
            "or mirror into another file"
        )


def column_list(schema: TableSchema, deleted_at: str | None = None, metadata: Sequence[str] = ()) -> str:
    """The columns as SQL for CREATE TABLE. Raises ConsumeError if the source has a column with the name of another."""
    added = [*metadata, *([] if deleted_at is None else [deleted_at])]
    names = {column.name.lower() for column in schema.columns}
    if taken := [name for name in added if name.lower() in names]:
        raise ConsumeError(describe_taken_name(schema.name, taken[0]))
    columns = [f"{quote(column.name)} {duck_type(column)}" for column in schema.columns]
    return ", ".join([*columns, *_declare_added(deleted_at, metadata)])


def _declare_added(deleted_at: str | None, metadata: Sequence[str]) -> list[str]:
    """The SQL of the columns that the mirror adds."""
    return [*map(declare_metadata, metadata), *([] if deleted_at is None else [declare_deleted_at(deleted_at)])]


def declare_metadata(name: str) -> str:
    """The SQL of a metadata column."""
    return f"{quote(name)} {METADATA_TYPES[name]}"


def declare_deleted_at(name: str) -> str:
    """The SQL of the column of soft deletes, which may have the name of a metadata column that the mirror has not."""
    return f"{quote(name)} TIMESTAMP WITH TIME ZONE"


def place_mirror(connection: duckdb.DuckDBPyConnection, state: MirrorState, location: tuple[str, str]) -> MirrorState:
    """Give a new mirror this (schema, table). Raises ConsumeError if it has another one, or another mirror has it."""
    here, wanted = quote(*state.location[1:]), quote(*location)
    if state.is_known:
        if tuple(map(fold_name, state.location[1:])) == tuple(map(fold_name, location)):
            return state
        raise ConsumeError(
            f"{state.name}: the mirror is the table {here}, but target_schema and target_table name {wanted} now; keep "
            "the former name, or remove the mirror (binlogsync remove --drop), so that it is loaded under the new one"
        )
    if fold_name(location[0]) in RESERVED_SCHEMAS:
        raise ConsumeError(
            f"{state.name}: DuckDB or binlogsync reserves the schema {location[0]}; change target_schema"
        )
    if is_taken(connection, *location):
        raise ConsumeError(
            f"{state.name}: target_schema and target_table name {wanted}, which is the table or the history of another "
            "mirror in this file; write patterns that give each mirror a name of its own"
        )
    return replace(state, location=(state.location[0], *location))


def ensure_deleted_at(connection: duckdb.DuckDBPyConnection, state: MirrorState, name: str | None) -> MirrorState:
    """Add the column for soft deletes if it is missing. Raises ConsumeError if the mirror has another one."""
    if state.deleted_at == name:
        return state
    if state.deleted_at is not None:
        raise ConsumeError(
            f"{state.name}: the mirror marks deleted rows in column {state.deleted_at}, but deleted_at is {name} now; "
            f"keep the name, or drop the mirror's table and its row in {MIRRORS}"
        )
    _add_columns(connection, state, deleted_at=name)
    state = replace(state, deleted_at=name)
    return store_state(connection, state) if state.is_known else state


def ensure_metadata(connection: duckdb.DuckDBPyConnection, state: MirrorState, names: Sequence[str]) -> MirrorState:
    """Add the metadata columns that are missing, with NULL. Raises ConsumeError if the mirror has others."""
    there = state.policies.metadata
    if set(there) == set(names):
        return state
    if removed := [name for name in there if name not in names]:
        raise ConsumeError(
            f"{state.name}: the mirror has the metadata column {removed[0]}, which `metadata` does not list now; keep "
            "it, or remove the mirror (binlogsync remove --drop), so that it is loaded without the column"
        )
    added = [name for name in names if name not in there]
    _add_columns(connection, state, metadata=added)
    state = replace(state, policies=replace(state.policies, metadata=(*there, *added)))
    return store_state(connection, state) if state.is_known else state


def _add_columns(
    connection: duckdb.DuckDBPyConnection,
    state: MirrorState,
    deleted_at: str | None = None,
    metadata: Sequence[str] = (),
) -> None:
    """Add columns to the mirror's table, if there is one. Raises ConsumeError if the source has one of the names."""
    if state.schema is not None:
        column_list(state.schema, deleted_at, metadata)
        for column in _declare_added(deleted_at, metadata):
            connection.execute(f"ALTER TABLE {table_sql(state)} ADD COLUMN {column}")


def drop_table(connection: duckdb.DuckDBPyConnection, state: MirrorState) -> MirrorState:
    """Drop the table; its state stays stored."""
    if state.schema is not None:
        connection.execute(f"DROP TABLE {table_sql(state)}")
    return store_state(connection, replace(state, schema=None, is_rewritten=True))


def drop_or_keep_table(connection: duckdb.DuckDBPyConnection, state: MirrorState, gone_us: int) -> MirrorState:
    """The source has no such table any longer: drop, keep or archive the mirror's by its policy.

    `gone_us` is the commit time of the drop, microseconds since 1970 UTC. With soft deletes, all rows are marked as
    deleted then. An archived table is named `<table>__dropped_<gone_us>`, with a number if that is in use.
    """
    if state.schema is None:
        return drop_table(connection, state)
    if state.deleted_at is not None:
        mark_deleted(connection, state, gone_us)
    policies = state.policies
    if policies.on_drop == "keep":
        policies = replace(policies, kept_us=gone_us)
    elif policies.on_drop == "archive" or state.deleted_at is not None:
        _archive_table(connection, state, gone_us)
    else:
        return drop_table(connection, state)
    return store_state(connection, replace(state, schema=None, is_rewritten=True, policies=policies))


def _archive_table(connection: duckdb.DuckDBPyConnection, state: MirrorState, gone_us: int) -> None:
    name = free_name(connection, state.location[1], f"{state.location[2]}__dropped_{gone_us}")
    connection.execute(f"ALTER TABLE {table_sql(state)} RENAME TO {quote(name)}")


def drop_mirror(connection: duckdb.DuckDBPyConnection, state: MirrorState) -> None:
    """Drop the table, also one that was kept after a DROP, and its state."""
    if state.policies.kept_us is not None:
        connection.execute(f"DROP TABLE IF EXISTS {table_sql(state)}")
    drop_table(connection, state)
    connection.execute(f"DELETE FROM {MIRRORS} WHERE database = ? AND table_name = ?", [state.database, state.table])


def rewrite_table(
    connection: duckdb.DuckDBPyConnection, state: MirrorState, schema: TableSchema, values: Sequence[str]
) -> MirrorState:
    """Rewrite the table with another schema; `values` is SQL over the old columns, for each new column.

    The whole table is rewritten so that its columns have the order of the source.
    """
    connection.execute("SET TimeZone = 'UTC'")
    added = [quote(name) for name in state.added_columns]
    spare = sibling_sql(state, spare_of(state, "rebuilt"))
    connection.execute(f"CREATE TABLE {spare} ({column_list(schema, state.deleted_at, state.policies.metadata)})")
    names = ", ".join([*(quote(column.name) for column in schema.columns), *added])
    connection.execute(f"INSERT INTO {spare} ({names}) SELECT {', '.join([*values, *added])} FROM {table_sql(state)}")
    connection.execute(f"DROP TABLE {table_sql(state)}")
    connection.execute(f"ALTER TABLE {spare} RENAME TO {quote(state.location[2])}")
    return store_state(connection, replace(state, schema=schema, is_rewritten=True))


def insert_read(
    connection: duckdb.DuckDBPyConnection, state: MirrorState, schema: TableSchema, source: str, at_us: int
) -> None:
    """Insert rows that were read from the server at that time; `source` is what follows FROM, in SQL."""
    metadata, columns = state.policies.metadata, [quote(column.name) for column in schema.columns]
    names, values = [*columns, *map(quote, metadata)], [*columns, *constant_metadata(metadata, "r", at_us)]
    connection.execute(f"INSERT INTO {table_sql(state)} ({', '.join(names)}) SELECT {', '.join(values)} FROM {source}")


def has_row(connection: duckdb.DuckDBPyConnection, state: MirrorState, *conditions: str) -> bool:
    """True when the mirror has a row for which one of the conditions, as SQL, is true; without one, any row."""
    if state.schema is None:
        return False
    connection.execute("SET TimeZone = 'UTC'")
    wanted = " OR ".join(f"({condition})" for condition in conditions) or "true"
    return first_row(connection, f"SELECT 1 FROM {table_sql(state)} WHERE {wanted} LIMIT 1") is not None


def read_rows(connection: duckdb.DuckDBPyConnection, state: MirrorState) -> Iterator[pa.Table]:
    """The rows of the mirror with their metadata, in DuckDB's types, some thousand at a time."""
    assert state.schema is not None
    names = ", ".join(map(quote, (*(column.name for column in state.schema.columns), *state.policies.metadata)))
    connection.execute("SET TimeZone = 'UTC'")
    for batch in connection.sql(f"SELECT {names} FROM {table_sql(state)}").to_arrow_reader(_ROWS):
        yield pa.Table.from_batches([batch])


def move_table(connection: duckdb.DuckDBPyConnection, state: MirrorState, database: str, table: str) -> MirrorState:
    """Move the table of a mirror to the mirror of another name, which has none; returns the state of that one."""
    assert state.schema is not None
    moved = load_state(connection, database, table)
    moved = replace(moved, deleted_at=state.deleted_at, left_out=state.left_out, policies=state.policies)
    moved = create_table(connection, moved, replace(state.schema, database=database, table=table))
    connection.execute(f"INSERT INTO {table_sql(moved)} BY NAME FROM {table_sql(state)}")
    drop_table(connection, state)
    return moved
