"""Reads a consistent snapshot of one table from the server, at a known binlog position, with the types of the stream.

    with read_table(config, "shop", "orders") as snapshot:
        snapshot.at, snapshot.schema
        for batch in snapshot.batches(): ...

The table is locked against writes (LOCK TABLES ... READ) for a few milliseconds, while the position is read and an
InnoDB snapshot is opened; a table of a non-transactional engine stays locked until it has been read. The rows contain
every change of the table up to `at` and no later change. The account needs SELECT and LOCK TABLES.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pymysql
from pymysql.constants import ER

from binlogsync.binlog.charsets import BINARY
from binlogsync.binlog.types.label_text import label_text, members
from binlogsync.change import ChangeBatch, build_batch
from binlogsync.codec.column_parser import TEMPORAL_TYPES, read_column
from binlogsync.errors import SourceError
from binlogsync.mysql.config import MySQLConfig, connect, error_code, fetch, translate_errors
from binlogsync.mysql.information_schema import describe_table, generated_columns
from binlogsync.mysql.server import ServerInfo, clock_us, inspect
from binlogsync.mysql.session import Connection
from binlogsync.position import Checkpoint
from binlogsync.schema import (
    BINARY_TYPES,
    GEOMETRY_TYPES,
    INTEGER_BITS,
    Column,
    TableSchema,
    arrow_type,
    remove_columns,
)
from binlogsync.server_version import ServerFlavor, flavor_of

_TRIES = 6
_READ_TIMEOUT_S = 3600.0
_TRANSACTIONAL = frozenset({"innodb", "rocksdb"})
_DENIED = frozenset(
    {
        ER.TABLEACCESS_DENIED_ERROR,
        ER.COLUMNACCESS_DENIED_ERROR,
        ER.DBACCESS_DENIED_ERROR,
        ER.SPECIFIC_ACCESS_DENIED_ERROR,
    }
)
_LOCK_TIMEOUTS = frozenset({ER.LOCK_WAIT_TIMEOUT, ER.LOCK_DEADLOCK, ER.TABLE_DEF_CHANGED})


@dataclass(frozen=True, slots=True)
class TableSnapshot:
    """A table as it was at `at`.

    Attributes:
        at: the binlog position; its `ts_us` is the server's time.
        schema: of the table; None when the table does not exist. On MariaDB without generated columns, which its
            binlog does not contain in updates (mirror/image_columns.py).
        server: (server_uuid, server_id).
        left_out: names of the generated columns that were left out.
    """

    at: Checkpoint
    schema: TableSchema | None
    server: tuple[str, int]
    _select: Callable[[str], Iterator[tuple[Any, ...]]]
    left_out: tuple[str, ...] = ()

    def select(self, columns: str) -> Iterator[tuple[Any, ...]]:
        """These SQL expressions of each row, as the server prints them. Only within the block of `read_table`."""
        return iter(()) if self.schema is None else self._select(columns)

    def batches(self, size: int = 20_000) -> Iterator[ChangeBatch]:
        """The rows, `size` at a time, as changes with op "r" at `at`. Only within the block of `read_table`."""
        if self.schema is None:
            return
        first, rows = 0, list[tuple[Any, ...]]()
        for row in self._select(select_list(self.schema)):
            rows.append(row)
            if len(rows) == size:
                yield self._batch(rows, first)
                first, rows = first + size, []
        if rows:
            yield self._batch(rows, first)

    def _batch(self, rows: Sequence[tuple[Any, ...]], first: int) -> ChangeBatch:
        assert self.schema is not None
        count = len(rows)
        arrays: list[pa.Array] = []
        impossible: dict[tuple[Literal["before", "after"], str], pa.StringArray] = {}
        for column, values in zip(self.schema.columns, zip(*rows, strict=True), strict=True):
            array, texts = column_values(column, values, mariadb=flavor_of(self.server[0]) == ServerFlavor.MARIADB)
            arrays.append(array)
            if texts is not None:
                impossible["after", column.name] = texts
        after = pa.StructArray.from_arrays(arrays, names=[column.name for column in self.schema.columns])
        numbers = pa.array(range(first, first + count))
        position = self.at.position
        source = {
            "ts_us": pa.array([self.at.ts_us] * count, pa.int64()),
            "gtid": pa.nulls(count, pa.string()),
            "file": pa.repeat(pa.scalar(position.file), count),
            "pos": pa.repeat(pa.scalar(position.pos, pa.uint64()), count),
            "row": numbers,
            "txn_pos": pa.repeat(pa.scalar(position.pos, pa.uint64()), count),
            "order": numbers,
            "seq": numbers,
        }
        none = pa.nulls(count, self.schema.image_type())
        return build_batch(self.schema, ["r"] * count, (none, after), source, self.server, impossible)


@contextmanager
def read_table(config: MySQLConfig, database: str, table: str) -> Iterator[TableSnapshot]:
    """The table as it is now; a table that does not exist has no schema and no rows.

    Raises SourceError when the server cannot be reached, or the account may not read or lock the table.
    """
    locking = connect(config, read_timeout_s=_READ_TIMEOUT_S)
    try:
        reading = connect(config, read_timeout_s=_READ_TIMEOUT_S)
        try:
            yield _begin(config, (locking, reading), (database, table))
        finally:
            reading.close()
    finally:
        locking.close()


def _begin(config: MySQLConfig, connections: tuple[Connection, Connection], name: tuple[str, str]) -> TableSnapshot:
    """Lock the table, read the position, open the snapshot, and unlock."""
    locking, reading = connections
    quoted = ".".join("`" + part.replace("`", "``") + "`" for part in name)
    for attempt in range(1, _TRIES + 1):
        before = _read_position(inspect(config, reading), clock_us(config, reading))
        try:
            fetch(config, locking, f"LOCK TABLES {quoted} READ")
            at = _read_position(inspect(config, reading), clock_us(config, reading))
            engine = _engine(config, reading, name)
            stays_locked = engine not in _TRANSACTIONAL
            if not stays_locked:
                fetch(config, reading, "START TRANSACTION WITH CONSISTENT SNAPSHOT")
            # Blocks DDL until the end. Needs access to all columns: information_schema hides others.
            fetch(config, reading, f"SELECT * FROM {quoted} LIMIT 0")
            left_out = generated_columns(config, reading, *name) if flavor_of(at[1][0]) == ServerFlavor.MARIADB else ()
            schema = remove_columns(describe_table(config, reading, *name), left_out)
            if not stays_locked:
                fetch(config, locking, "UNLOCK TABLES")
            break
        except SourceError as error:
            fetch(config, locking, "UNLOCK TABLES")
            fetch(config, reading, "ROLLBACK")
            if error_code(error) in (ER.NO_SUCH_TABLE, ER.BAD_DB_ERROR):
                return TableSnapshot(before[0], None, before[1], lambda _: iter(()))
            if error_code(error) in _DENIED:
                raise SourceError(
                    f"{name[0]}.{name[1]}: cannot read a snapshot at a known position: {error}; "
                    f"run: GRANT SELECT, LOCK TABLES ON `{name[0]}`.* TO the account {config.user}"
                ) from error
            if error_code(error) not in _LOCK_TIMEOUTS or attempt == _TRIES:
                raise
    return TableSnapshot(
        at[0], schema, at[1], lambda columns: _rows(config, reading, f"SELECT {columns} FROM {quoted}"), left_out
    )


def _read_position(info: ServerInfo, now_us: int) -> tuple[Checkpoint, tuple[str, int]]:
    at = Checkpoint(info.end(), info.server_uuid, info.executed, 0, now_us)
    return at, (info.server_uuid, info.server_id)


def _engine(config: MySQLConfig, connection: Connection, name: tuple[str, str]) -> str:
    sql = "SELECT ENGINE AS engine FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s"
    rows = fetch(config, connection, sql, name)
    return str(rows[0]["engine"]).lower() if rows else ""


def select_list(schema: TableSchema) -> str:
    """SQL of the columns, in forms that keep the exact value.

    The server prints a FLOAT with six digits, so it is multiplied by 1e0 (adding 0 would turn -0 into 0). pymysql
    decodes a VECTOR as ASCII unless it is bytes.
    """
    forms = {"float": "{} * 1e0", "bit": "{} + 0", "year": "{} + 0", "vector": "CAST({} AS BINARY)"}
    parts = []
    for column in schema.columns:
        name = "`" + column.name.replace("`", "``") + "`"
        form = "UNHEX(HEX({}))" if has_doubtful_labels(column) else forms.get(column.type, "{}")
        parts.append(form.format(name))
    return ", ".join(parts)


def _rows(config: MySQLConfig, connection: Connection, sql: str) -> Iterator[tuple[Any, ...]]:
    """The rows as the server prints them, str or bytes, unbuffered."""
    connection.decoders = {}
    with translate_errors(config), connection.cursor(pymysql.cursors.SSCursor) as cursor:
        cursor.execute(sql)
        yield from cursor


def has_doubtful_labels(column: Column) -> bool:
    """True when the declared labels may differ from the stored ones: the server shows invalid text as ?."""
    return any(not label or label.startswith("x'") or "?" in label or "\ufffd" in label for label in column.labels)


def _texts_of_labels(column: Column, values: Sequence[Any], *, mariadb: bool) -> list[Any]:
    """Values of ENUM or SET, from the stored bytes."""
    read = members if column.type == "set" else label_text
    known = {data: read(data, column.charset or BINARY, mariadb=mariadb) for data in set(values) - {None}}
    return [None if data is None else known[data] for data in values]


def column_values(column: Column, values: Sequence[Any], *, mariadb: bool) -> tuple[pa.Array, pa.StringArray | None]:
    """(array of schema.arrow_type(column), text of invalid dates or None) from values as the server prints them."""
    kind = column.type
    if kind in TEMPORAL_TYPES:
        zone = "Z" if kind == "timestamp" else ""
        array, texts = read_column(column, [None if v is None else v.replace(" ", "T") + zone for v in values])
        # Invalid dates keep the text that the server printed.
        return array, texts and pc.if_else(texts.is_valid(), pa.array(values, pa.string()), texts)
    if kind in BINARY_TYPES:
        return pa.array(values, pa.binary()), None
    if kind in INTEGER_BITS or kind in ("year", "float", "double", "decimal"):
        return pa.array(values, pa.string()).cast(arrow_type(column)), None
    if kind == "bit":
        numbers = pa.array(values, pa.string()).cast(pa.uint64())
        return numbers.cast(arrow_type(column)), None
    if has_doubtful_labels(column):
        return read_column(column, _texts_of_labels(column, values, mariadb=mariadb))
    if kind == "set":
        return pa.array([None if v is None else v.split(",") if v else [] for v in values], pa.list_(pa.string())), None
    if kind == "json":
        return pa.array(values, pa.string()), None
    if kind in GEOMETRY_TYPES:
        parts = [None if v is None else {"srid": int.from_bytes(v[:4], "little"), "wkb": v[4:]} for v in values]
        return pa.array(parts, arrow_type(column)), None
    if kind == "vector":
        return pa.array([None if v is None else np.frombuffer(v, "<f4") for v in values], arrow_type(column)), None
    return read_column(column, values)
