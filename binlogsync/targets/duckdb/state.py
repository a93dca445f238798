"""The state of each mirror in a DuckDB file, and the functions that create, drop and rewrite its table.

The table `mirrors` (in META_SCHEMA) has a row for each mirror: its schema, its name in DuckDB (names.py), and
`read_at`, the checkpoint of the snapshot that it was built from: the stream's changes before it are in the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import duckdb
import pyarrow as pa

from binlogsync.errors import ConsumeError
from binlogsync.position import Checkpoint
from binlogsync.schema import TableSchema
from binlogsync.targets.duckdb.column_types import duck_type
from binlogsync.targets.duckdb.file import META_SCHEMA, ensure_once, first_row, quote
from binlogsync.targets.duckdb.metadata_columns import METADATA_TYPES, constant_metadata
from binlogsync.targets.duckdb.names import (
    MIRRORS,
    RESERVED_SCHEMAS,
    find_location,
    fold_name,
    free_name,
    has_relation,
    is_taken,
)
from binlogsync.targets.mirror_options import MirrorPolicies, describe_taken_name
from binlogsync.targets.mirror_state import MirrorState

_FIELDS = "schema_json, read_at, deleted_at, left_out, duck_schema, duck_table, history_table, policies"
_ROWS = 20_000


def ensure_meta(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the table of mirror states, or add its missing columns."""
    if not ensure_once(connection, MIRRORS):
        return
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {META_SCHEMA}")
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {MIRRORS} (database VARCHAR, table_name VARCHAR, schema_json VARCHAR, "
        "read_at VARCHAR, deleted_at VARCHAR, changed_at TIMESTAMPTZ, left_out VARCHAR[], "
        "PRIMARY KEY (database, table_name))"
    )
    added = (
        "left_out VARCHAR[]",
        *(f"{name} VARCHAR" for name in ("duck_schema", "duck_table", "history_table", "policies")),
    )
    for column in added:
        connection.execute(f"ALTER TABLE {MIRRORS} ADD COLUMN IF NOT EXISTS {column}")  # file of an older version


def load_state(connection: duckdb.DuckDBPyConnection, database: str, table: str) -> MirrorState:
    """Load the state of a mirror, or a new state."""
    (catalog,) = first_row(connection, "SELECT current_database()") or ("",)
    row = first_row(
        connection, f"SELECT {_FIELDS} FROM {MIRRORS} WHERE database = ? AND table_name = ?", [database, table]
    )
    if row is None:
        return MirrorState(database, table, (catalog, *find_location(connection, database, table)))
    return MirrorState(
        database,
        table,
        (catalog, row[4] or database, row[5] or table),
        schema=None if row[0] is None else TableSchema.from_json(row[0]),
        read_at=None if row[1] is None else Checkpoint.from_text(row[1]),
        is_known=True,
        history_table=row[6],
        deleted_at=row[2],
        left_out=None if row[3] is None else tuple(row[3]),
        policies=MirrorPolicies.from_json(row[7]),
    )


def load_mirror_names(connection: duckdb.DuckDBPyConnection) -> frozenset[tuple[str, str]]:
    """(database, table) in MySQL of every mirror that the file has a state of. Changes nothing in the file."""
    if not has_relation(connection, META_SCHEMA, "mirrors"):
        return frozenset()
    return frozenset(connection.execute(f"SELECT database, table_name FROM {MIRRORS}").fetchall())


def store_state(connection: duckdb.DuckDBPyConnection, state: MirrorState) -> MirrorState:
    """Store the state in the open transaction; returns it as stored."""
    schema = None if state.schema is None else state.schema.to_json()
    read_at = None if state.read_at is None else state.read_at.to_text()
    left_out = None if state.left_out is None else list(state.left_out)
    values = [state.database, state.table, schema, read_at, state.deleted_at, left_out, *state.location[1:]]
    connection.execute(
        f"INSERT OR REPLACE INTO {MIRRORS} (database, table_name, {_FIELDS}, changed_at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, now())",
        [*values, state.history_table, state.policies.to_json()],
    )
    return replace(state, is_known=True)


def create_table(connection: duckdb.DuckDBPyConnection, state: MirrorState, schema: TableSchema) -> MirrorState:
    """Create an empty table; one that was kept after a DROP is archived. Raises ConsumeError if the name is in use."""
    state = free_place(connection, state)
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(*state.location[:2])}")
    connection.execute(
        f"CREATE TABLE {state.target} ({column_list(schema, state.deleted_at, state.policies.metadata)})"
    )
    return store_state(connection, replace(state, schema=schema))


def free_place(connection: duckdb.DuckDBPyConnection, state: MirrorState) -> MirrorState:
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
    return ", ".join([*columns, *(declare_column(name) for name in added)])


def declare_column(name: str) -> str:
    """The SQL of a column that the mirror adds."""
    return f"{quote(name)} {METADATA_TYPES.get(name, 'TIMESTAMP WITH TIME ZONE')}"


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
    _add_columns(connection, state, [name or ""])
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
    _add_columns(connection, state, added)
    state = replace(state, policies=replace(state.policies, metadata=(*there, *added)))
    return store_state(connection, state) if state.is_known else state


def _add_columns(connection: duckdb.DuckDBPyConnection, state: MirrorState, names: Sequence[str]) -> None:
    """Add columns to the mirror's table, if there is one. Raises ConsumeError if the source has one of the names."""
    if state.schema is not None:
        column_list(state.schema, metadata=names)
        for name in names:
            connection.execute(f"ALTER TABLE {state.target} ADD COLUMN {declare_column(name)}")


def drop_table(connection: duckdb.DuckDBPyConnection, state: MirrorState) -> MirrorState:
    """Drop the table; its state stays stored."""
    if state.schema is not None:
        connection.execute(f"DROP TABLE {state.target}")
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
    connection.execute(f"ALTER TABLE {state.target} RENAME TO {quote(name)}")


def delete_rows(connection: duckdb.DuckDBPyConnection, state: MirrorState, gone_us: int) -> MirrorState:
    """Delete all rows; with soft deletes, mark them as deleted at `gone_us`, microseconds since 1970 UTC."""
    if state.deleted_at is None:
        connection.execute(f"DELETE FROM {state.target}")
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
        f"INSERT INTO {target} ({names}) SELECT {', '.join([*values, *gone])} FROM {state.target} AS o "
        f"WHERE {condition}"
    )


def mark_deleted(connection: duckdb.DuckDBPyConnection, state: MirrorState, gone_us: int) -> None:
    """Mark all live rows as deleted at that time."""
    connection.execute(f"UPDATE {state.target} SET {deletion_sql(state, gone_us)} WHERE {state.live_condition}")


def deletion_sql(state: MirrorState, gone_us: int) -> str:
    """What UPDATE sets for rows that are deleted at that time, by no row change of the stream."""
    values = constant_metadata(state.policies.metadata, "d", gone_us)
    pairs = [
        (state.deleted_at or "", f"make_timestamptz({gone_us})"),
        *zip(state.policies.metadata, values, strict=True),
    ]
    return ", ".join(f"{quote(name)} = {value}" for name, value in pairs)


def drop_mirror(connection: duckdb.DuckDBPyConnection, database: str, table: str) -> None:
    """Drop the table, also one that was kept after a DROP, and its state."""
    ensure_meta(connection)
    state = load_state(connection, database, table)
    if state.policies.kept_us is not None:
        connection.execute(f"DROP TABLE IF EXISTS {state.target}")
    drop_table(connection, state)
    connection.execute(f"DELETE FROM {MIRRORS} WHERE database = ? AND table_name = ?", [database, table])


def rewrite_table(
    connection: duckdb.DuckDBPyConnection, state: MirrorState, schema: TableSchema, values: Sequence[str]
) -> MirrorState:
    """Rewrite the table with another schema; `values` is SQL over the old columns, for each new column.

    The whole table is rewritten so that its columns have the order of the source.
    """
    connection.execute("SET TimeZone = 'UTC'")
    added = [quote(name) for name in state.added_columns]
    spare = state.beside(state.spare("rebuilt"))
    connection.execute(f"CREATE TABLE {spare} ({column_list(schema, state.deleted_at, state.policies.metadata)})")
    names = ", ".join([*(quote(column.name) for column in schema.columns), *added])
    connection.execute(f"INSERT INTO {spare} ({names}) SELECT {', '.join([*values, *added])} FROM {state.target}")
    connection.execute(f"DROP TABLE {state.target}")
    connection.execute(f"ALTER TABLE {spare} RENAME TO {quote(state.location[2])}")
    return store_state(connection, replace(state, schema=schema, is_rewritten=True))


def has_row(connection: duckdb.DuckDBPyConnection, state: MirrorState, *conditions: str) -> bool:
    """True when the mirror has a row for which one of the conditions, as SQL, is true; without one, any row."""
    if state.schema is None:
        return False
    connection.execute("SET TimeZone = 'UTC'")
    wanted = " OR ".join(f"({condition})" for condition in conditions) or "true"
    return first_row(connection, f"SELECT 1 FROM {state.target} WHERE {wanted} LIMIT 1") is not None


def read_rows(connection: duckdb.DuckDBPyConnection, state: MirrorState) -> Iterator[pa.Table]:
    """The rows of the mirror with their metadata, in DuckDB's types, some thousand at a time."""
    assert state.schema is not None
    names = ", ".join(map(quote, (*(column.name for column in state.schema.columns), *state.policies.metadata)))
    connection.execute("SET TimeZone = 'UTC'")
    for batch in connection.sql(f"SELECT {names} FROM {state.target}").to_arrow_reader(_ROWS):
        yield pa.Table.from_batches([batch])


def move_table(connection: duckdb.DuckDBPyConnection, state: MirrorState, database: str, table: str) -> MirrorState:
    """Move the table of a mirror to the mirror of another name, which has none; returns the state of that one."""
    assert state.schema is not None
    moved = load_state(connection, database, table)
    moved = replace(moved, deleted_at=state.deleted_at, left_out=state.left_out, policies=state.policies)
    moved = create_table(connection, moved, replace(state.schema, database=database, table=table))
    connection.execute(f"INSERT INTO {moved.target} BY NAME FROM {state.target}")
    drop_table(connection, state)
    return moved
