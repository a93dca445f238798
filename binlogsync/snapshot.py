"""Reads a consistent snapshot of one table from the server, at a known binlog position, with the types of the stream.

    with read_table(config, "shop", "orders") as snapshot:
        snapshot.at, snapshot.schema
        for batch in snapshot.batches(): ...

The table is locked against writes (LOCK TABLES ... READ) for a few milliseconds, while the position is read and an
InnoDB snapshot is opened; a table of a non-transactional engine stays locked until it has been read. The rows contain
every change of the table up to `at` and no later change. The account needs SELECT and LOCK TABLES.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pymysql
from pymysql.constants import ER

from binlogsync.change import OP_TYPE, ChangeBatch, ImageName, build_batch
from binlogsync.errors import SourceError
from binlogsync.mysql.config import MySQLConfig, connect, error_code, fetch, translate_errors
from binlogsync.mysql.information_schema import describe_table, generated_columns
from binlogsync.mysql.result_set import TableRows, read_rows
from binlogsync.mysql.result_set.reader import BATCH_ROWS
from binlogsync.mysql.server import ServerInfo, clock_us, inspect
from binlogsync.mysql.session import Connection
from binlogsync.position import Checkpoint
from binlogsync.schema import TableSchema, remove_columns
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
    _read: Callable[[int], Iterator[TableRows]]
    left_out: tuple[str, ...] = ()

    def select(self, columns: str) -> Iterator[tuple[Any, ...]]:
        """These SQL expressions of each row, as the server prints them. Only within the block of `read_table`."""
        return iter(()) if self.schema is None else self._select(columns)

    def batches(self, size: int = BATCH_ROWS) -> Iterator[ChangeBatch]:
        """The rows, up to `size` at a time, as changes with op "r" at `at`. Only within the block of `read_table`."""
        first = 0
        for rows in self._read(size):
            yield self._batch(rows, first)
            first += len(rows)

    def _batch(self, rows: TableRows, first: int) -> ChangeBatch:
        assert self.schema is not None
        count = len(rows)
        numbers = pa.array(np.arange(first, first + count))
        position = self.at.position
        source = {
            "ts_us": pa.repeat(pa.scalar(self.at.ts_us, pa.int64()), count),
            "gtid": pa.nulls(count, pa.string()),
            "file": pa.repeat(pa.scalar(position.file), count),
            "pos": pa.repeat(pa.scalar(position.pos, pa.uint64()), count),
            "row": numbers,
            "txn_pos": pa.repeat(pa.scalar(position.pos, pa.uint64()), count),
            "order": numbers,
            "seq": numbers,
        }
        ops = pa.repeat(pa.scalar("r"), count).dictionary_encode().cast(OP_TYPE)
        none = pa.nulls(count, self.schema.image_type())
        impossible: dict[tuple[ImageName, str], pa.StringArray] = {
            ("after", name): texts for name, texts in rows.impossible.items()
        }
        return build_batch(self.schema, ops, (none, rows.image), source, self.server, impossible)


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
                return TableSnapshot(before[0], None, before[1], lambda _: iter(()), lambda _: iter(()))
            if error_code(error) in _DENIED:
                raise SourceError(
                    f"{name[0]}.{name[1]}: cannot read a snapshot at a known position: {error}; "
                    f"run: GRANT SELECT, LOCK TABLES ON `{name[0]}`.* TO the account {config.user}"
                ) from error
            if error_code(error) not in _LOCK_TIMEOUTS or attempt == _TRIES:
                raise
    return TableSnapshot(
        at[0],
        schema,
        at[1],
        lambda columns: _rows(config, reading, f"SELECT {columns} FROM {quoted}"),
        lambda size: read_rows(config, reading, schema, batch_rows=size),
        left_out,
    )


def _read_position(info: ServerInfo, now_us: int) -> tuple[Checkpoint, tuple[str, int]]:
    at = Checkpoint(info.end(), info.server_uuid, info.executed, 0, now_us)
    return at, (info.server_uuid, info.server_id)


def _engine(config: MySQLConfig, connection: Connection, name: tuple[str, str]) -> str:
    sql = "SELECT ENGINE AS engine FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s"
    rows = fetch(config, connection, sql, name)
    return str(rows[0]["engine"]).lower() if rows else ""


def _rows(config: MySQLConfig, connection: Connection, sql: str) -> Iterator[tuple[Any, ...]]:
    """The rows as the server prints them, str or bytes, unbuffered."""
    connection.decoders = {}
    with translate_errors(config), connection.cursor(pymysql.cursors.SSCursor) as cursor:
        cursor.execute(sql)
        yield from cursor
