"""Every version of every row of a mirror: the table `<table>__history`.

It has the mirror's columns, and the time in which a version was the row: from `valid_from` until `valid_to`, which is
no part of it and NULL for what is there now; both are commit times. `from_file`, `from_pos`, `from_row` and `to_file`,
`to_pos`, `to_row` are the places of the changes in the binlog: they tell versions of one transaction apart, which have
the same times, and put them in order.

Columns are never dropped: one that MySQL drops is NULL in later versions, and one whose type changes stays for the
earlier versions under the name `<column>__<n>`. Where a schema change alters the rows themselves, or the table is read
again, all versions end there and new ones begin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa

from binlogsync.duckfile import quote
from binlogsync.mirror.parts import VIEW, Part, places_of, seen_as_view, signs_of, stack
from binlogsync.mirror.schema import duck_type
from binlogsync.mirror.state import MirrorState
from binlogsync.schema import TableSchema

_PLACE = ("ts_us", "file", "pos", "row")
_BOUNDS = tuple(
    (f"{end}_{name}" if name else f"valid_{end}", kind)
    for end in ("from", "to")
    for name, kind in (("", "TIMESTAMP WITH TIME ZONE"), ("file", "VARCHAR"), ("pos", "UBIGINT"), ("row", "UINTEGER"))
)
_FROM, _TO = ([quote(name) for name, _ in _BOUNDS[i : i + 4]] for i in (0, 4))


@dataclass(frozen=True, slots=True)
class Moment:
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


def history_table(state: MirrorState) -> str:
    """The table of the versions, as SQL."""
    return quote(state.database, f"{state.table}__history")


def record(connection: duckdb.DuckDBPyConnection, state: MirrorState, parts: Sequence[Part]) -> None:
    """Add what these changes began and ended, in the open transaction.

    An ended version is the oldest open one of its key, or of its values in a table without a key: equal rows cannot be
    told apart. All versions that a batch holds are matched at once.
    """
    schema = state.schema
    assert schema is not None
    ensure_history(connection, state, schema)
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
        with seen_as_view(connection, stack(rows, [*places_of(schema), "step", *_PLACE])):
            connection.execute(f"CREATE OR REPLACE TEMP TABLE binlogsync_{name} AS FROM {VIEW}")
    _match(connection, history_table(state), schema)


def end_all(connection: duckdb.DuckDBPyConnection, state: MirrorState, at: Moment) -> None:
    """Every open version ends: the table was emptied, dropped or rewritten."""
    table = history_table(state)
    if _columns(connection, state):
        ends = ", ".join(f"{column} = {value}" for column, value in zip(_TO, at.values, strict=True))
        connection.execute(f"UPDATE {table} SET {ends} WHERE valid_to IS NULL")


def begin_all(connection: duckdb.DuckDBPyConnection, state: MirrorState, at: Moment) -> None:
    """A version begins for every row of the mirror."""
    if state.schema is None:
        return
    ensure_history(connection, state, state.schema)
    names = [quote(column.name) for column in state.schema.columns]
    connection.execute(
        f"INSERT INTO {history_table(state)} ({', '.join([*names, *_FROM])}) SELECT {', '.join([*names, *at.values])} "
        f"FROM {state.target} WHERE {state.alive}"
    )


def ensure_history(connection: duckdb.DuckDBPyConnection, state: MirrorState, schema: TableSchema) -> None:
    """The table of the versions, with every column of the schema in its type."""
    table, there = history_table(state), _columns(connection, state)
    if not there:
        own = ", ".join(f"{quote(name)} {kind}" for name, kind in _BOUNDS)
        columns = ", ".join(f"{quote(column.name)} {duck_type(column)}" for column in schema.columns)
        connection.execute(f"CREATE TABLE {table} ({columns}, {own})")
        return
    for column in schema.columns:
        kind = duck_type(column)
        name, found = there.get(column.name.lower(), ("", ""))
        if found == kind:
            continue
        if found:
            number = next(n for n in range(1, len(there) + 2) if f"{name}__{n}".lower() not in there)
            connection.execute(f"ALTER TABLE {table} RENAME COLUMN {quote(name)} TO {quote(f'{name}__{number}')}")
        connection.execute(f"ALTER TABLE {table} ADD COLUMN {quote(column.name)} {kind}")


def _columns(connection: duckdb.DuckDBPyConnection, state: MirrorState) -> dict[str, tuple[str, str]]:
    """Names in lower case -> (name, type) of the columns that there are; none without the table."""
    rows = connection.execute(
        "SELECT column_name, data_type FROM duckdb_columns() WHERE schema_name = ? AND table_name = ?",
        [state.database, f"{state.table}__history"],
    ).fetchall()
    return {name.lower(): (name, kind) for name, kind in rows}


def _plain(array: pa.Array) -> pa.Array:
    return array.cast(pa.string()) if pa.types.is_dictionary(array.type) else array


def _match(connection: duckdb.DuckDBPyConnection, table: str, schema: TableSchema) -> None:
    """The n-th end of a key (or value) ends its n-th version that is open or begins here."""
    places = places_of(schema)
    pairs = [
        (quote(column.name), place, column)
        for column, place in zip(schema.columns, places, strict=True)
        if not schema.primary_key or column.name in schema.primary_key
    ]
    here = [part for _, place, column in pairs for part in (place, *signs_of(place, column))]
    there = [part for name, _, column in pairs for part in (name, *signs_of(name, column))]
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
    names = ", ".join([*(quote(column.name) for column in schema.columns), *_FROM, *_TO])
    picked = ", ".join([*(f"b.{place}" for place in places), *(f"b.{name}" for name in _PLACE)])
    connection.execute(
        f"INSERT INTO {table} ({names}) SELECT {picked}, {', '.join(f'e.{name}' for name in _PLACE)} "
        "FROM binlogsync_begun b LEFT JOIN binlogsync_matched m ON m.kind = 1 AND m.ref = b.step "
        "LEFT JOIN binlogsync_ended e ON e.step = m.step ORDER BY b.step"
    )
