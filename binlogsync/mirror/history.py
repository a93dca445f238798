"""Every version of every row of a mirror: the table `<table>__history`, or with a number behind where that is taken.

It has the mirror's columns, and the time in which a version was the row: from `valid_from` until `valid_to`, which is
no part of it and NULL for what is there now; both are commit times. `from_file`, `from_pos`, `from_row` and `to_file`,
`to_pos`, `to_row` are the places of the changes in the binlog: they tell versions of one transaction apart, which have
the same times, and put them in order.

A column of MySQL's that has the name of one of these columns, or `rowid`, has an underscore more in front here, as
have those of such names with underscores in front.

Columns are never dropped: one that MySQL drops is NULL in later versions, and one whose type changes stays for the
earlier versions under the name `<column>__<n>`. Where a schema change alters the rows themselves, or the table is read
again, all versions end there and new ones begin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import duckdb
import numpy as np
import pyarrow as pa

from binlogsync.duckfile import quote
from binlogsync.mirror.names import ROW_ID, fold_name, fold_sql, free_name, has_relation, is_taken
from binlogsync.mirror.row_images import VIEW, RowImages, positional_names, rows_as_view, sign_columns, stack
from binlogsync.mirror.schema import duck_type
from binlogsync.mirror.state import MirrorState, store_state
from binlogsync.schema import TableSchema

_PLACE = ("ts_us", "file", "pos", "row")
_BOUNDS = tuple(
    (f"{end}_{name}" if name else f"valid_{end}", kind)
    for end in ("from", "to")
    for name, kind in (("", "TIMESTAMP WITH TIME ZONE"), ("file", "VARCHAR"), ("pos", "UBIGINT"), ("row", "UINTEGER"))
)
_OWN_NAMES = frozenset(name for name, _ in _BOUNDS) | {ROW_ID}
_RETIRED = "values from before the type of the column changed"
_FROM, _TO = ([quote(name) for name, _ in _BOUNDS[i : i + 4]] for i in (0, 4))


@dataclass(frozen=True, slots=True)
class ChangePosition:
    """When and where: microseconds since 1970 UTC, and a place in the binlog."""

    ts_us: int
    file: str
    pos: int
    row: int = 0

    @property
    def values(self) -> list[str]:
        """As SQL, in the order of the columns."""
        return [
            f"make_timestamptz({self.ts_us})",
            "'" + self.file.replace("'", "''") + "'",
            str(self.pos),
            str(self.row),
        ]


def history_column(name: str) -> str:
    """The name that a column of MySQL's has in the table of the versions."""
    return f"_{name}" if name.lstrip("_").lower() in _OWN_NAMES else name


def record_versions(
    connection: duckdb.DuckDBPyConnection, state: MirrorState, parts: Sequence[RowImages]
) -> MirrorState:
    """Add what these changes began and ended, in the open transaction; returns the mirror with its history.

    An ended version is the oldest open one of its key, or of its values in a table without a key: equal rows cannot be
    told apart. All versions that a batch holds are matched at once.
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
        places = [_plain(part.batch.data.column(name)) for name in _PLACE]
        for image, letters, found in (("before", "ud", ended), ("after", "cur", begun)):
            kept = [part.keep(array, letters) for array in (steps, *places)]
            found.append([*part.image(image, names, letters), *kept])
    for name, rows in (("begun", begun), ("ended", ended)):
        with rows_as_view(connection, stack(rows, [*positional_names(schema), "step", *_PLACE])):
            connection.execute(f"CREATE OR REPLACE TEMP TABLE binlogsync_{name} AS FROM {VIEW}")
    _match(connection, table, schema)
    return state


def close_versions(connection: duckdb.DuckDBPyConnection, state: MirrorState, at: ChangePosition) -> None:
    """Every open version ends: the table was emptied, dropped or rewritten."""
    table = _history_name(connection, state)
    if has_relation(connection, state.location[1], table):
        ends = ", ".join(f"{column} = {value}" for column, value in zip(_TO, at.values, strict=True))
        connection.execute(f"UPDATE {state.beside(table)} SET {ends} WHERE valid_to IS NULL")


def open_versions(connection: duckdb.DuckDBPyConnection, state: MirrorState, at: ChangePosition) -> MirrorState:
    """A version begins for every row of the mirror; returns the mirror with its history."""
    if state.schema is None:
        return state
    schema = state.schema
    state, table = ensure_history(connection, state, schema)
    columns = [quote(column.name) for column in schema.columns]
    names = [quote(history_column(column.name)) for column in schema.columns]
    connection.execute(
        f"INSERT INTO {table} ({', '.join([*names, *_FROM])}) SELECT {', '.join([*columns, *at.values])} "
        f"FROM {state.target} WHERE {state.alive}"
    )
    return state


def ensure_history(
    connection: duckdb.DuckDBPyConnection, state: MirrorState, schema: TableSchema
) -> tuple[MirrorState, str]:
    """The mirror with its history, and the table of the versions as SQL, with every column of the schema."""
    name = _history_name(connection, state)
    if state.history_table != name:
        state = store_state(connection, replace(state, history_table=name))
    table = state.beside(name)
    there = _columns(connection, state, name)
    if not there:
        own = ", ".join(f"{quote(name)} {kind}" for name, kind in _BOUNDS)
        columns = ", ".join(f"{quote(history_column(column.name))} {duck_type(column)}" for column in schema.columns)
        connection.execute(f"CREATE TABLE {table} ({columns}, {own})")
        return state, table
    for column in schema.columns:
        wanted, kind = history_column(column.name), duck_type(column)
        found, found_kind, is_retired = there.get(fold_name(wanted), ("", "", False))
        if found_kind == kind and not is_retired:
            continue
        if found:
            number = next(n for n in range(1, len(there) + 2) if fold_name(f"{found}__{n}") not in there)
            retired = f"{found}__{number}"
            there[fold_name(retired)] = (retired, found_kind, True)
            connection.execute(f"ALTER TABLE {table} RENAME COLUMN {quote(found)} TO {quote(retired)}")
            connection.execute(f"COMMENT ON COLUMN {table}.{quote(retired)} IS '{_RETIRED}'")
        connection.execute(f"ALTER TABLE {table} ADD COLUMN {quote(wanted)} {kind}")
        there[fold_name(wanted)] = (wanted, kind, False)
    return state, table


def _history_name(connection: duckdb.DuckDBPyConnection, state: MirrorState) -> str:
    """Of the table of the versions, of an earlier version of this program too, which did not store it."""
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
    """Lower-case name -> (name, type, True when only earlier versions have values in it); none without the table."""
    rows = connection.execute(
        "SELECT column_name, data_type, comment FROM duckdb_columns() WHERE database_name = ? AND "
        f"{fold_sql('schema_name')} = {fold_sql('?')} AND {fold_sql('table_name')} = {fold_sql('?')}",
        [*state.location[:2], table],
    ).fetchall()
    return {fold_name(name): (name, kind, comment == _RETIRED) for name, kind, comment in rows}


def _plain(array: pa.Array) -> pa.Array:
    return array.cast(pa.string()) if pa.types.is_dictionary(array.type) else array


def _match(connection: duckdb.DuckDBPyConnection, table: str, schema: TableSchema) -> None:
    """The n-th end of a key (or value) ends its n-th version that is open or begins here."""
    places = positional_names(schema)
    pairs = [
        (quote(history_column(column.name)), place, column)
        for column, place in zip(schema.columns, places, strict=True)
        if not schema.primary_key or column.name in schema.primary_key
    ]
    here = [part for _, place, column in pairs for part in (place, *sign_columns(place, column))]
    there = [part for name, _, column in pairs for part in (name, *sign_columns(name, column))]
    marks = [f"i{n}" for n in range(len(here))]
    same = " AND ".join(f"o.{mark} IS NOT DISTINCT FROM e.{mark}" for mark in marks)
    named = [", ".join(f"{part} AS {mark}" for part, mark in zip(side, marks, strict=True)) for side in (there, here)]
    by = ", ".join(marks)
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE binlogsync_matched AS "
        f"WITH e AS (SELECT step, {named[1]} FROM binlogsync_ended), "
        f"opened AS (SELECT rowid AS ref, {named[0]} FROM {table} WHERE valid_to IS NULL), "
        f"versions AS (SELECT 0 AS kind, o.* FROM opened o SEMI JOIN e ON {same} "
        f"UNION ALL SELECT 1, step, {named[1]} FROM binlogsync_begun), "
        f"numbered AS (SELECT *, row_number() OVER (PARTITION BY {by} ORDER BY kind, ref) AS n FROM versions), "
        f"ends AS (SELECT *, row_number() OVER (PARTITION BY {by} ORDER BY step) AS n FROM e) "
        f"SELECT o.kind, o.ref, e.step FROM numbered o JOIN ends e ON o.n = e.n AND {same}"
    )
    ends = ", ".join(f"{column} = e.{name}" for column, name in zip(_TO, _PLACE, strict=True))
    connection.execute(
        f"UPDATE {table} AS h SET {ends} FROM binlogsync_matched m JOIN binlogsync_ended e ON e.step = m.step "
        "WHERE m.kind = 0 AND h.rowid = m.ref"
    )
    names = ", ".join([*(quote(history_column(column.name)) for column in schema.columns), *_FROM, *_TO])
    picked = ", ".join([*(f"b.{place}" for place in places), *(f"b.{name}" for name in _PLACE)])
    connection.execute(
        f"INSERT INTO {table} ({names}) SELECT {picked}, {', '.join(f'e.{name}' for name in _PLACE)} "
        "FROM binlogsync_begun b LEFT JOIN binlogsync_matched m ON m.kind = 1 AND m.ref = b.step "
        "LEFT JOIN binlogsync_ended e ON e.step = m.step ORDER BY b.step"
    )
