"""Stores every version of every row of a mirror in the table `<table>__history` (with a number if the name is in use).

It has the mirror's columns, and the interval in which a version was current: from `valid_from` (inclusive) to
`valid_to` (exclusive; NULL for the current version). Both are commit times. `from_file`, `from_pos`, `from_row` and
`to_file`, `to_pos`, `to_row` are the binlog coordinates of the changes; they order the versions within a transaction,
which have equal times.

A column of the source with the name of one of these columns, or `rowid`, gets an underscore as prefix, as does a column
that has such a name with underscores as prefix.

Columns are never dropped: a column that the source drops is NULL in later versions; if its type changes, the column is
kept for the earlier versions as `<column>__<n>`. When a schema change alters rows, or the mirror is rebuilt, all
current versions end and new versions start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import duckdb
import numpy as np
import pyarrow as pa

from binlogsync.schema import TableSchema
from binlogsync.targets.duckdb.arrow_statement import ROWS, execute_on
from binlogsync.targets.duckdb.column_types import duck_type
from binlogsync.targets.duckdb.file import quote
from binlogsync.targets.duckdb.names import (
    fold_name,
    fold_sql,
    free_name,
    has_relation,
    is_taken,
    live_condition,
    sibling_sql,
    table_sql,
)
from binlogsync.targets.duckdb.row_images import RowImages, positional_names, sign_columns, stack
from binlogsync.targets.duckdb.state import store_state
from binlogsync.targets.mirror_state import ROW_ID, ChangePosition, MirrorState

_COORDINATES = ("ts_us", "file", "pos", "row")
_BOUNDS = tuple(
    (f"{end}_{name}" if name else f"valid_{end}", kind)
    for end in ("from", "to")
    for name, kind in (("", "TIMESTAMP WITH TIME ZONE"), ("file", "VARCHAR"), ("pos", "UBIGINT"), ("row", "UINTEGER"))
)
_OWN_NAMES = frozenset(name for name, _ in _BOUNDS) | {ROW_ID}
_RETIRED = "values from before the type of the column changed"
_FROM, _TO = ([quote(name) for name, _ in _BOUNDS[i : i + 4]] for i in (0, 4))


def _values(at: ChangePosition) -> list[str]:
    """The position as SQL, in the order of the columns."""
    return [f"make_timestamptz({at.ts_us})", "'" + at.file.replace("'", "''") + "'", str(at.pos), str(at.row)]


def history_column(name: str) -> str:
    """The name of a column of the source in the history table."""
    return f"_{name}" if name.lstrip("_").lower() in _OWN_NAMES else name


def record_versions(
    connection: duckdb.DuckDBPyConnection, state: MirrorState, parts: Sequence[RowImages]
) -> MirrorState:
    """Store the versions that these changes start and end, in the open transaction; returns the updated state.

    A change ends the oldest current version of its key; in a table without a key, of its row value, because equal rows
    cannot be distinguished. All versions of the batches are matched in one statement.
    """
    schema = state.schema
    assert schema is not None
    state, table = ensure_history(connection, state, schema)
    names = [column.name for column in schema.columns]
    begun: list[list[pa.Array]] = []
    ended: list[list[pa.Array]] = []
    count = 0
    for part in parts:
        steps = pa.array((np.arange(len(part.ops), dtype=np.int64) + count) * 2)
        count += len(steps)
        coordinates = [_decode_dictionary(part.batch.data.column(name)) for name in _COORDINATES]
        for image, letters, found in (("before", "ud", ended), ("after", "cur", begun)):
            kept = [part.filter(array, letters) for array in (steps, *coordinates)]
            found.append([*part.image(image, names, letters), *kept])
    for name, rows in (("begun", begun), ("ended", ended)):
        images = stack(rows, [*positional_names(schema), "step", *_COORDINATES])
        execute_on(connection, f"CREATE OR REPLACE TEMP TABLE binlogsync_{name} AS FROM {ROWS}", images)
    _match(connection, table, schema)
    return state


def close_versions(connection: duckdb.DuckDBPyConnection, state: MirrorState, at: ChangePosition) -> None:
    """End every current version: the table was emptied, dropped or rewritten."""
    table = _history_name(connection, state)
    if has_relation(connection, state.location[1], table):
        ends = ", ".join(f"{column} = {value}" for column, value in zip(_TO, _values(at), strict=True))
        connection.execute(f"UPDATE {sibling_sql(state, table)} SET {ends} WHERE valid_to IS NULL")


def open_versions(connection: duckdb.DuckDBPyConnection, state: MirrorState, at: ChangePosition) -> MirrorState:
    """Start a version for every row of the mirror; returns the updated state."""
    if state.schema is None:
        return state
    schema = state.schema
    state, table = ensure_history(connection, state, schema)
    columns = [quote(column.name) for column in schema.columns]
    names = [quote(history_column(column.name)) for column in schema.columns]
    connection.execute(
        f"INSERT INTO {table} ({', '.join([*names, *_FROM])}) SELECT {', '.join([*columns, *_values(at)])} "
        f"FROM {table_sql(state)} WHERE {live_condition(state)}"
    )
    return state


def replace_versions(
    connection: duckdb.DuckDBPyConnection, state: MirrorState, at: ChangePosition, ended: str, begun: str
) -> MirrorState:
    """End the current versions for which `ended` is true, and start one for each row of `begun`; returns the new state.

    Both are SQL: a condition on the history table, and what follows FROM in a query of rows with the mirror's columns.
    """
    schema = state.schema
    assert schema is not None
    state, table = ensure_history(connection, state, schema)
    ends = ", ".join(f"{column} = {value}" for column, value in zip(_TO, _values(at), strict=True))
    connection.execute(f"UPDATE {table} SET {ends} WHERE valid_to IS NULL AND {ended}")
    columns = [quote(column.name) for column in schema.columns]
    names = [quote(history_column(column.name)) for column in schema.columns]
    connection.execute(
        f"INSERT INTO {table} ({', '.join([*names, *_FROM])}) SELECT {', '.join([*columns, *_values(at)])} FROM {begun}"
    )
    return state


def ensure_history(
    connection: duckdb.DuckDBPyConnection, state: MirrorState, schema: TableSchema
) -> tuple[MirrorState, str]:
    """Create the history table or add its missing columns; returns (updated state, the table as SQL)."""
    name = _history_name(connection, state)
    if state.history_table != name:
        state = store_state(connection, replace(state, history_table=name))
    table = sibling_sql(state, name)
    existing = _columns(connection, state, name)
    if not existing:
        own = ", ".join(f"{quote(name)} {kind}" for name, kind in _BOUNDS)
        columns = ", ".join(f"{quote(history_column(column.name))} {duck_type(column)}" for column in schema.columns)
        connection.execute(f"CREATE TABLE {table} ({columns}, {own})")
        return state, table
    for column in schema.columns:
        wanted, kind = history_column(column.name), duck_type(column)
        found, found_kind, is_retired = existing.get(fold_name(wanted), ("", "", False))
        if found_kind == kind and not is_retired:
            continue
        if found:
            number = next(n for n in range(1, len(existing) + 2) if fold_name(f"{found}__{n}") not in existing)
            retired = f"{found}__{number}"
            existing[fold_name(retired)] = (retired, found_kind, True)
            connection.execute(f"ALTER TABLE {table} RENAME COLUMN {quote(found)} TO {quote(retired)}")
            connection.execute(f"COMMENT ON COLUMN {table}.{quote(retired)} IS '{_RETIRED}'")
        connection.execute(f"ALTER TABLE {table} ADD COLUMN {quote(wanted)} {kind}")
        existing[fold_name(wanted)] = (wanted, kind, False)
    return state, table


def _history_name(connection: duckdb.DuckDBPyConnection, state: MirrorState) -> str:
    """Name of the history table; finds also one of an earlier release, which did not store the name."""
    if state.history_table is not None:
        return state.history_table
    _, schema, table = state.location
    wanted = f"{table}__history"
    if not is_taken(connection, schema, wanted) and {"valid_from", "valid_to"} <= set(
        _columns(connection, state, wanted)
    ):
        return wanted
    return free_name(connection, schema, wanted)


def _columns(connection: duckdb.DuckDBPyConnection, state: MirrorState, table: str) -> dict[str, tuple[str, str, bool]]:
    """Folded name -> (name, type, True if only earlier versions use the column); empty without the table."""
    rows = connection.execute(
        "SELECT column_name, data_type, comment FROM duckdb_columns() WHERE database_name = ? AND "
        f"{fold_sql('schema_name')} = {fold_sql('?')} AND {fold_sql('table_name')} = {fold_sql('?')}",
        [*state.location[:2], table],
    ).fetchall()
    return {fold_name(name): (name, kind, comment == _RETIRED) for name, kind, comment in rows}


def _decode_dictionary(array: pa.Array) -> pa.Array:
    return array.cast(pa.string()) if pa.types.is_dictionary(array.type) else array


def _match(connection: duckdb.DuckDBPyConnection, table: str, schema: TableSchema) -> None:
    """End versions: the n-th end of a key (or row value) ends its n-th version that is current or starts here.

    An end does not count if no version is left that began before it: a mirror may have started without the row.
    """
    positions = positional_names(schema)
    pairs = [
        (quote(history_column(column.name)), position, column)
        for column, position in zip(schema.columns, positions, strict=True)
        if not schema.primary_key or column.name in schema.primary_key
    ]
    changed = [part for _, position, column in pairs for part in (position, *sign_columns(position, column))]
    stored = [part for name, _, column in pairs for part in (name, *sign_columns(name, column))]
    marks = [f"i{n}" for n in range(len(changed))]
    same = " AND ".join(f"o.{mark} IS NOT DISTINCT FROM e.{mark}" for mark in marks)
    named = [
        ", ".join(f"{part} AS {mark}" for part, mark in zip(side, marks, strict=True)) for side in (stored, changed)
    ]
    by = ", ".join(marks)
    in_order = f"PARTITION BY {by} ORDER BY step, delta"  # a change ends a version before it begins one
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE binlogsync_matched AS "
        f"WITH e AS (SELECT step, {named[1]} FROM binlogsync_ended), "
        f"opened AS (SELECT rowid AS ref, {named[0]} FROM {table} WHERE valid_to IS NULL), "
        f"versions AS (SELECT 0 AS kind, o.* FROM opened o SEMI JOIN e ON {same} "
        f"UNION ALL SELECT 1, step, {named[1]} FROM binlogsync_begun), "
        f"numbered AS (SELECT *, row_number() OVER (PARTITION BY {by} ORDER BY kind, ref) AS n FROM versions), "
        "events AS (SELECT CASE kind WHEN 0 THEN -1 ELSE ref END AS step, 1 AS delta, "
        f"{by} FROM versions UNION ALL SELECT step, -1, {by} FROM e), "
        f"counted AS (SELECT *, sum(delta) OVER ({in_order} ROWS UNBOUNDED PRECEDING) AS open FROM events), "
        f"lowest AS (SELECT *, min(open) OVER ({in_order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS low "
        "FROM counted), "
        f"ends AS (SELECT *, row_number() OVER (PARTITION BY {by} ORDER BY step) AS n FROM lowest "
        "WHERE delta < 0 AND open >= least(0, coalesce(low, 0))) "
        f"SELECT o.kind, o.ref, e.step FROM numbered o JOIN ends e ON o.n = e.n AND {same}"
    )
    ends = ", ".join(f"{column} = e.{name}" for column, name in zip(_TO, _COORDINATES, strict=True))
    connection.execute(
        f"UPDATE {table} AS h SET {ends} FROM binlogsync_matched m JOIN binlogsync_ended e ON e.step = m.step "
        "WHERE m.kind = 0 AND h.rowid = m.ref"
    )
    names = ", ".join([*(quote(history_column(column.name)) for column in schema.columns), *_FROM, *_TO])
    picked = ", ".join([*(f"b.{position}" for position in positions), *(f"b.{name}" for name in _COORDINATES)])
    connection.execute(
        f"INSERT INTO {table} ({names}) SELECT {picked}, {', '.join(f'e.{name}' for name in _COORDINATES)} "
        "FROM binlogsync_begun b LEFT JOIN binlogsync_matched m ON m.kind = 1 AND m.ref = b.step "
        "LEFT JOIN binlogsync_ended e ON e.step = m.step ORDER BY b.step"
    )
