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
from binlogsync.mirror_schema import duck_type
from binlogsync.position import Checkpoint
from binlogsync.schema import TableSchema

_MIRRORS = f"{META_SCHEMA}.mirrors"
_FIELDS = "database, table_name, schema_json, read_at"


@dataclass(frozen=True, slots=True)
class MirrorState:
    """One mirror.

    Attributes:
        database, table: its name, as in MySQL.
        schema: of the DuckDB table; None when there is none, because MySQL has none or nothing is known of it yet.
        read_at: changes up to this place are in it, whatever the progress says; None without such a reading.
        is_known: False when nothing was heard of the table yet.
    """

    database: str
    table: str
    schema: TableSchema | None = None
    read_at: Checkpoint | None = None
    is_known: bool = False

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
        "read_at VARCHAR, changed_at TIMESTAMPTZ, PRIMARY KEY (database, table_name))"
    )


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
    return MirrorState(database, table, schema, read_at, is_known=True)


def store_state(connection: duckdb.DuckDBPyConnection, state: MirrorState) -> MirrorState:
    """Keep it in the open transaction; returns it as kept."""
    schema = None if state.schema is None else state.schema.to_json()
    read_at = None if state.read_at is None else state.read_at.to_text()
    connection.execute(
        f"INSERT OR REPLACE INTO {_MIRRORS} VALUES (?, ?, ?, ?, now())", [state.database, state.table, schema, read_at]
    )
    return replace(state, is_known=True)


def create_table(connection: duckdb.DuckDBPyConnection, state: MirrorState, schema: TableSchema) -> MirrorState:
    """An empty table of that schema. Raises ConsumeError when there is a table of that name that is no mirror."""
    there = first_row(
        connection,
        "SELECT count(*) FROM information_schema.tables "
        "WHERE lower(table_schema) = lower(?) AND lower(table_name) = lower(?)",
        [state.database, state.table],
    )
    if there != (0,):
        raise ConsumeError(
            f"{state.name}: the file has a table of this name that is not a mirror; rename or drop it, or mirror into "
            "another file"
        )
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(state.database)}")
    connection.execute(f"CREATE TABLE {state.target} ({column_list(schema)})")
    return store_state(connection, replace(state, schema=schema))


def column_list(schema: TableSchema) -> str:
    """Names and types of the columns, as CREATE TABLE has them."""
    return ", ".join(f"{quote(column.name)} {duck_type(column)}" for column in schema.columns)


def drop_table(connection: duckdb.DuckDBPyConnection, state: MirrorState) -> MirrorState:
    """No table any more; its state stays known."""
    if state.schema is not None:
        connection.execute(f"DROP TABLE {state.target}")
    return store_state(connection, replace(state, schema=None))


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
    picked = ", ".join(f"{value} AS {quote(column.name)}" for value, column in zip(values, schema.columns, strict=True))
    spare = state.table + "__rebuilt"
    connection.execute(f"CREATE TABLE {quote(state.database, spare)} ({column_list(schema)})")
    connection.execute(f"INSERT INTO {quote(state.database, spare)} SELECT {picked} FROM {state.target}")
    connection.execute(f"DROP TABLE {state.target}")
    connection.execute(f"ALTER TABLE {quote(state.database, spare)} RENAME TO {quote(state.table)}")
    return store_state(connection, replace(state, schema=schema))
