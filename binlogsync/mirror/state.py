"""What a DuckDB file knows of each mirror in it, and the table itself: made, dropped, and given another shape.

`binlogsync.mirrors` has a row for each table that is there: its schema, and how far a reading of it from the server
reaches (`read_at`), which changes that the stream still brings are in it already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import duckdb

from binlogsync.duckfile import META_SCHEMA, first_row, quote
from binlogsync.errors import ConsumeError
from binlogsync.mirror.schema import duck_type
from binlogsync.position import Checkpoint
from binlogsync.schema import TableSchema

_MIRRORS = f"{META_SCHEMA}.mirrors"
_FIELDS = "database, table_name, schema_json, read_at, deleted_at, left_out"


@dataclass(frozen=True, slots=True)
class MirrorOptions:
    """What a mirror keeps besides the rows that are there.

    Attributes:
        deleted_at: name of a further column: a row that MySQL deletes stays, with the time of the commit in it. None
            for none.
        history: True keeps every version of every row in the table `<table>__history` (mirror/history.py).
    """

    deleted_at: str | None = None
    history: bool = False


@dataclass(frozen=True, slots=True)
class MirrorState:
    """One mirror.

    Attributes:
        database, table: its name, as in MySQL.
        schema: of the DuckDB table; None when there is none, because MySQL has none or nothing is known of it yet.
        read_at: changes up to this place are in it, whatever the progress says; None without such a reading.
        is_known: False when nothing was heard of the table yet.
        deleted_at: the column of soft deletes, None for none.
        left_out: columns of MySQL's that the mirror does without (mirror/fitting.py); None when nobody has asked yet.
        is_rewritten: True when rows were changed by other means than changes of rows; not kept.
    """

    database: str
    table: str
    schema: TableSchema | None = None
    read_at: Checkpoint | None = None
    is_known: bool = False
    deleted_at: str | None = None
    left_out: tuple[str, ...] | None = None
    is_rewritten: bool = False

    @property
    def alive(self) -> str:
        """SQL that is true for rows that are not deleted."""
        return "true" if self.deleted_at is None else f"{quote(self.deleted_at)} IS NULL"

    @property
    def name(self) -> str:
        """ "database.table"."""
        return f"{self.database}.{self.table}"

    @property
    def target(self) -> str:
        """The DuckDB table, as SQL."""
        return quote(self.database, self.table)


def ensure_meta(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the table of the mirrors."""
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {META_SCHEMA}")
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {_MIRRORS} (database VARCHAR, table_name VARCHAR, schema_json VARCHAR, "
        "read_at VARCHAR, deleted_at VARCHAR, changed_at TIMESTAMPTZ, left_out VARCHAR[], "
        "PRIMARY KEY (database, table_name))"
    )
    connection.execute(f"ALTER TABLE {_MIRRORS} ADD COLUMN IF NOT EXISTS left_out VARCHAR[]")  # of an older version


def load_state(connection: duckdb.DuckDBPyConnection, database: str, table: str) -> MirrorState:
    """What is known of a mirror. Raises ConsumeError where a mirror's name differs from this one in case only."""
    row = first_row(
        connection,
        f"SELECT {_FIELDS} FROM {_MIRRORS} WHERE lower(database) = lower(?) AND lower(table_name) = lower(?)",
        [database, table],
    )
    if row is None:
        return MirrorState(database, table)
    if (row[0], row[1]) != (database, table):
        raise ConsumeError(
            f"{database}.{table}: this file mirrors {row[0]}.{row[1]} already, and DuckDB does not tell their names "
            "apart; mirror one of them into another file"
        )
    schema = None if row[2] is None else TableSchema.from_json(row[2])
    read_at = None if row[3] is None else Checkpoint.from_text(row[3])
    left_out = None if row[5] is None else tuple(row[5])
    return MirrorState(database, table, schema, read_at, is_known=True, deleted_at=row[4], left_out=left_out)


def store_state(connection: duckdb.DuckDBPyConnection, state: MirrorState) -> MirrorState:
    """Keep it in the open transaction; returns it as kept."""
    schema = None if state.schema is None else state.schema.to_json()
    read_at = None if state.read_at is None else state.read_at.to_text()
    left_out = None if state.left_out is None else list(state.left_out)
    connection.execute(
        f"INSERT OR REPLACE INTO {_MIRRORS} VALUES (?, ?, ?, ?, ?, now(), ?)",
        [state.database, state.table, schema, read_at, state.deleted_at, left_out],
    )
    return replace(state, is_known=True)


def create_table(connection: duckdb.DuckDBPyConnection, state: MirrorState, schema: TableSchema) -> MirrorState:
    """An empty table of that schema. Raises ConsumeError when there is a table of that name that is no mirror."""
    there = first_row(
        connection,
        "SELECT count(*) FROM (SELECT schema_name, table_name FROM duckdb_tables() UNION ALL "
        "SELECT schema_name, view_name FROM duckdb_views()) WHERE lower(schema_name) = lower(?) "
        "AND lower(table_name) = lower(?)",
        [state.database, state.table],
    )
    if there != (0,):
        raise ConsumeError(
            f"{state.name}: the file has a table of this name that is not a mirror; rename or drop it, or mirror into "
            "another file"
        )
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(state.database)}")
    connection.execute(f"CREATE TABLE {state.target} ({column_list(schema, state.deleted_at)})")
    return store_state(connection, replace(state, schema=schema))


def column_list(schema: TableSchema, deleted_at: str | None = None) -> str:
    """Names and types of the columns, as CREATE TABLE has them; raises ConsumeError where MySQL has a `deleted_at`."""
    columns = [f"{quote(column.name)} {duck_type(column)}" for column in schema.columns]
    if deleted_at is not None:
        if any(column.name.lower() == deleted_at.lower() for column in schema.columns):
            raise ConsumeError(
                f"{schema.name} has a column {deleted_at} of its own; give the mirror's deleted_at another name"
            )
        columns.append(f"{quote(deleted_at)} TIMESTAMP WITH TIME ZONE")
    return ", ".join(columns)


def with_deleted_at(connection: duckdb.DuckDBPyConnection, state: MirrorState, name: str | None) -> MirrorState:
    """The mirror with that column for soft deletes, added where it is missing. Raises ConsumeError for another one."""
    if state.deleted_at == name:
        return state
    if state.deleted_at is not None:
        raise ConsumeError(
            f"{state.name}: the mirror keeps deleted rows, told apart by column {state.deleted_at}, and is asked for "
            f"{name or 'none'} now; keep the name, or drop the mirror's table and its row of binlogsync.mirrors"
        )
    if state.schema is not None:
        column_list(state.schema, name)
        connection.execute(f"ALTER TABLE {state.target} ADD COLUMN {quote(name or '')} TIMESTAMP WITH TIME ZONE")
    return (
        store_state(connection, replace(state, deleted_at=name)) if state.is_known else replace(state, deleted_at=name)
    )


def drop_table(connection: duckdb.DuckDBPyConnection, state: MirrorState) -> MirrorState:
    """No table any more; its state stays known."""
    if state.schema is not None:
        connection.execute(f"DROP TABLE {state.target}")
    return store_state(connection, replace(state, schema=None, is_rewritten=True))


def leave_table(connection: duckdb.DuckDBPyConnection, state: MirrorState, gone_us: int) -> MirrorState:
    """MySQL has no such table any more: drop it, or keep its rows, deleted, as `<table>__dropped_<gone_us>`.

    `gone_us` is the time of it, microseconds since 1970 UTC.
    """
    if state.schema is None or state.deleted_at is None:
        return drop_table(connection, state)
    mark_deleted(connection, state, gone_us)
    aside = quote(f"{state.table}__dropped_{gone_us}")
    connection.execute(f"ALTER TABLE {state.target} RENAME TO {aside}")
    return store_state(connection, replace(state, schema=None, is_rewritten=True))


def keep_deleted(
    connection: duckdb.DuckDBPyConnection, state: MirrorState, other: tuple[str, TableSchema], gone_us: int
) -> None:
    """Take the deleted rows of a mirror over into another table (as SQL, and its schema), as far as columns fit.

    Rows that live here and whose key the other table lacks were deleted before `gone_us`, and count as deleted then;
    without a key nothing tells which those are, and they are left out.
    """
    if state.schema is None or state.deleted_at is None:
        return
    target, schema = other
    mine = {column.name.lower(): column.name for column in state.schema.columns}
    shared = [column for column in schema.columns if column.name.lower() in mine]
    values = [f"TRY_CAST(o.{quote(mine[c.name.lower()])} AS {duck_type(c)})" for c in shared]
    names = ", ".join([*(quote(column.name) for column in shared), quote(state.deleted_at)])
    gone = f"coalesce(o.{quote(state.deleted_at)}, make_timestamptz({gone_us}))"
    condition = f"o.{quote(state.deleted_at)} IS NOT NULL"
    key = schema.primary_key
    if key and all(name.lower() in mine for name in key):
        pairs = " AND ".join(
            f"n.{quote(name)} = TRY_CAST(o.{quote(mine[name.lower()])} AS {duck_type(schema.column(name))})"
            for name in key
        )
        condition = f"NOT EXISTS (SELECT 1 FROM {target} AS n WHERE {pairs})"
    connection.execute(
        f"INSERT INTO {target} ({names}) SELECT {', '.join([*values, gone])} FROM {state.target} AS o WHERE {condition}"
    )


def mark_deleted(connection: duckdb.DuckDBPyConnection, state: MirrorState, gone_us: int) -> None:
    """All rows that live are deleted, at that time."""
    connection.execute(
        f"UPDATE {state.target} SET {quote(state.deleted_at or '')} = make_timestamptz({gone_us}) WHERE {state.alive}"
    )


def forget(connection: duckdb.DuckDBPyConnection, database: str, table: str) -> None:
    """No table any more, and nothing known of it: as if nothing had been heard of it yet."""
    ensure_meta(connection)
    drop_table(connection, load_state(connection, database, table))
    connection.execute(f"DELETE FROM {_MIRRORS} WHERE database = ? AND table_name = ?", [database, table])


def is_empty(connection: duckdb.DuckDBPyConnection, state: MirrorState) -> bool:
    """True when the mirror has no row, or is not there."""
    return state.schema is None or first_row(connection, f"SELECT 1 FROM {state.target} LIMIT 1") is None


def reshape(
    connection: duckdb.DuckDBPyConnection, state: MirrorState, schema: TableSchema, values: Sequence[str]
) -> MirrorState:
    """The table under another schema, its rows kept: `values` is SQL over the old columns, for each of the new ones.

    It is written anew, so that the order of the columns is MySQL's.
    """
    connection.execute("SET TimeZone = 'UTC'")
    picked = ", ".join([*values, *([quote(state.deleted_at)] if state.deleted_at is not None else [])])
    spare = state.table + "__rebuilt"
    connection.execute(f"CREATE TABLE {quote(state.database, spare)} ({column_list(schema, state.deleted_at)})")
    connection.execute(f"INSERT INTO {quote(state.database, spare)} SELECT {picked} FROM {state.target}")
    connection.execute(f"DROP TABLE {state.target}")
    connection.execute(f"ALTER TABLE {quote(state.database, spare)} RENAME TO {quote(state.table)}")
    return store_state(connection, replace(state, schema=schema, is_rewritten=True))
