"""The state of each mirror in a DuckDB file.

The table `mirrors` (in META_SCHEMA) has a row for each mirror: its schema, its name in DuckDB (names.py), its policies,
and `read_at`, the checkpoint of the snapshot that it was built from: the stream's changes before it are in the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import duckdb

from binlogsync.position import Checkpoint
from binlogsync.schema import TableSchema
from binlogsync.targets.duckdb.file import META_SCHEMA, ensure_once, first_row
from binlogsync.targets.duckdb.names import MIRRORS, find_location, has_relation
from binlogsync.targets.mirror_options import MirrorPolicies
from binlogsync.targets.mirror_state import MirrorState

_FIELDS = "schema_json, read_at, deleted_at, left_out, duck_schema, duck_table, history_table, policies"


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
    return _read_state(catalog, (database, table), row)


def load_stored_states(
    connection: duckdb.DuckDBPyConnection, names: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], MirrorState]:
    """The states that are stored for these (database, table), with one statement."""
    marks = ", ".join(["(?, ?)"] * len(names))
    rows = connection.execute(
        f"SELECT current_database(), database, table_name, {_FIELDS} FROM {MIRRORS} "
        f"WHERE (database, table_name) IN ({marks})",
        list(chain.from_iterable(names)),
    ).fetchall()
    return {(row[1], row[2]): _read_state(row[0], (row[1], row[2]), row[3:]) for row in rows}


def _read_state(catalog: str, name: tuple[str, str], row: tuple[Any, ...]) -> MirrorState:
    """The state from the columns `_FIELDS` of its row."""
    database, table = name
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
