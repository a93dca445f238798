"""Applies rows that a snapshot has published into the stream, where it matters whether the table has them already.

Such a row is what the table of the source contains at that point of the stream. A mirror that has the same row is right
already: its history gets no version, and a table without a primary key, whose rows have another unique key on the
server, gets no second row. A row that the mirror does not have, or has with other values, is inserted or replaced.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from binlogsync.change_batch import ChangeBatch
from binlogsync.schema import TableSchema
from binlogsync.targets.duckdb.file import first_row, quote
from binlogsync.targets.duckdb.history import history_column, replace_versions
from binlogsync.targets.duckdb.mirror_tables import column_list, insert_read
from binlogsync.targets.duckdb.names import live_condition, table_sql
from binlogsync.targets.duckdb.row_images import insert_rows, row_images, sign_columns
from binlogsync.targets.duckdb.unique_keys import check_changes
from binlogsync.targets.mirror_state import ChangePosition, MirrorState

_READ, _NEW = "binlogsync_published", "binlogsync_published_new"


def apply_published(
    connection: duckdb.DuckDBPyConnection,
    state: MirrorState,
    batches: Sequence[ChangeBatch],
    at: ChangePosition,
    *,
    has_history: bool,
) -> MirrorState:
    """Insert or replace the rows that the mirror's table does not have; new versions of its history begin at `at`.

    Returns the updated state.
    """
    schema = batches[0].schema
    if state.policies.key:
        check_changes(connection, state, schema, row_images(batches))
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {_READ} ({column_list(schema)})")
    for batch in batches:
        insert_rows(connection, _READ, batch)
    key = ", ".join(map(quote, schema.primary_key))
    last = f"FROM {_READ} QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY rowid DESC) = 1"
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {_NEW} AS SELECT n.* FROM "
        f"({last if key else f'SELECT DISTINCT * FROM {_READ}'}) AS n "
        f"ANTI JOIN (FROM {table_sql(state)} WHERE {live_condition(state)}) AS t ON {_is_same(schema)}"
    )
    if not (first_row(connection, f"SELECT count(*) FROM {_NEW}") or (0,))[0]:
        return state
    if key:
        same = " AND ".join(f"t.{name} = n.{name}" for name in map(quote, schema.primary_key))
        connection.execute(f"DELETE FROM {table_sql(state)} AS t USING {_NEW} AS n WHERE {same}")
    insert_read(connection, state, schema, _NEW, at.ts_us)
    if not has_history:
        return state
    return replace_versions(connection, state, at, _has_new_key(schema) if key else "false", _NEW)


def _is_same(schema: TableSchema) -> str:
    """SQL that is true for equal rows t and n; floats are compared by bits (0.0 is not -0.0)."""
    pairs = []
    for column in schema.columns:
        one, other = (f"{side}.{quote(column.name)}" for side in "tn")
        pairs += [(one, other), *zip(sign_columns(one, column), sign_columns(other, column), strict=True)]
    return " AND ".join(f"{one} IS NOT DISTINCT FROM {other}" for one, other in pairs)


def _has_new_key(schema: TableSchema) -> str:
    """SQL that is true for a version of the history with the key of a new row."""
    stored = ", ".join(quote(history_column(name)) for name in schema.primary_key)
    keys = ", ".join(map(quote, schema.primary_key))
    return f"({stored}) IN (SELECT {keys} FROM {_NEW})"
