"""Reads a table in one read view at a known binlog position, with the types of the stream.

    with read_table(config, "shop", "orders") as snapshot:
        snapshot.at, snapshot.schema
        for batch in snapshot.batches(): ...

The rows contain every change of the table up to `at` and no later change. On MariaDB and on MySQL with GTIDs, a view of
an InnoDB table is opened without a lock: the server reports its position, or it is opened again until no transaction
was being committed meanwhile. Otherwise the table is locked against writes (LOCK TABLES ... READ) for a few
milliseconds; a table of a non-transactional engine stays locked until it has been read. The account needs SELECT, and
LOCK TABLES for the lock.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any

from binlogsync.change_batch import ChangeBatch
from binlogsync.errors import SourceError
from binlogsync.mysql.config import MySQLConfig, connect, error_code, fetch
from binlogsync.mysql.information_schema import describe_table, generated_columns
from binlogsync.mysql.result_set.reader import BATCH_ROWS
from binlogsync.mysql.server import ServerInfo, clock_us, inspect
from binlogsync.mysql.session import Connection
from binlogsync.mysql.table_errors import CHANGED, DENIED, LOCKED, MISSING
from binlogsync.mysql.text_rows import read_texts
from binlogsync.position import Checkpoint
from binlogsync.schema import TableSchema, remove_columns
from binlogsync.server_version import ServerFlavor
from binlogsync.snapshot.position import BEGIN_VIEW, PositionReader
from binlogsync.snapshot.rows import RowOrigin, read_batches
from binlogsync.sql_identifiers import quote_mysql
from binlogsync.waiting import backoff_s

log = logging.getLogger(__name__)

READ_TIMEOUT_S = 3600.0
LOCK_PATIENCE_S = 60.0
"""How long a lock that writers do not leave room for is tried again."""
_LOCK_WAIT_S = 1
_SHORT_WAIT = f"SET SESSION lock_wait_timeout = {_LOCK_WAIT_S}"
_TRIES_WITHOUT_LOCK = 40
_TRIES = 8
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0
TRANSACTIONAL = frozenset({"innodb", "rocksdb"})
_NEVER = threading.Event()


class LockRequiredError(Exception):
    """The table can only be read at a known position if it is locked for a moment."""


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
    _batches: Callable[[int, str], Iterator[ChangeBatch]]
    left_out: tuple[str, ...] = ()

    def select(self, columns: str) -> Iterator[tuple[Any, ...]]:
        """These SQL expressions of each row, as the server prints them. Only within the block of `read_table`."""
        return iter(()) if self.schema is None else self._select(columns)

    def batches(self, size: int = BATCH_ROWS, clauses: str = "") -> Iterator[ChangeBatch]:
        """The rows, `size` at a time, as changes with op "r" at `at`. Only within the block of `read_table`.

        `clauses` is SQL that follows the name of the table in the SELECT; "" selects all rows.
        """
        return iter(()) if self.schema is None else self._batches(size, clauses)


@contextmanager
def read_table(
    config: MySQLConfig, database: str, table: str, *, stop: threading.Event = _NEVER, may_lock: bool = True
) -> Iterator[TableSnapshot]:
    """The table as it is now; a table that does not exist has no schema and no rows.

    Raises SourceError when the server cannot be reached, the account may not read or lock the table, or a lock that is
    needed was not available for LOCK_PATIENCE_S or until `stop`; LockRequiredError if it needs one and `may_lock` is
    False.
    """
    with ExitStack() as held:
        reading = held.enter_context(closing(connect(config, read_timeout_s=READ_TIMEOUT_S)))
        yield _ViewOpener(config, (database, table), reading, held, stop).open(may_lock=may_lock)


class _ViewOpener:
    """One call of `read_table`. `held` closes its connections: one may have the table locked."""

    def __init__(
        self, config: MySQLConfig, name: tuple[str, str], reading: Connection, held: ExitStack, stop: threading.Event
    ) -> None:
        self._config = config
        self._name = name
        self._reading = reading
        self._held = held
        self._stop = stop
        self._quoted = quote_mysql(*name)

    def open(self, *, may_lock: bool) -> TableSnapshot:
        """The open view; see `read_table`."""
        fetch(self._config, self._reading, _SHORT_WAIT)
        info = inspect(self._config, self._reading)
        before = Checkpoint(info.end(), info.server_uuid, info.executed, 0, clock_us(self._config, self._reading))
        ends_at, failures = time.monotonic() + LOCK_PATIENCE_S, 0
        while True:
            try:
                return self._open(info, may_lock=may_lock)
            except SourceError as error:
                if error_code(error) in MISSING:
                    return TableSnapshot(before, None, _server(info), lambda _: iter(()), lambda *_: iter(()))
                if error_code(error) in DENIED:
                    raise explain_denied(error, self._config, self._name) from error
                if error_code(error) not in LOCKED:
                    raise
                failures += 1
                _pause(failures, self._stop, ends_at, error, self._name)

    def _open(self, info: ServerInfo, *, may_lock: bool) -> TableSnapshot:
        for _ in range(_TRIES):
            found = self._without_lock(info)
            if found is not None:
                return self._snapshot(info, *found)
        if not may_lock:
            raise LockRequiredError
        return self._snapshot(info, *self._locked(info))

    def _without_lock(self, info: ServerInfo) -> tuple[Checkpoint, Description] | None:
        """A view at a known position, and the table's description; None if a lock is needed, or DDL ran meanwhile."""
        description = describe(self._config, self._reading, info, self._name)
        if find_engine(self._config, self._reading, self._name) not in TRANSACTIONAL:
            return None
        positions = PositionReader(self._config, self._reading, info)
        for _ in range(_TRIES_WITHOUT_LOCK):
            if (at := positions.exact_view()) is not None:
                break
        else:
            return None
        try:
            fetch(self._config, self._reading, f"SELECT 1 FROM {self._quoted} LIMIT 1")
            if describe(self._config, self._reading, info, self._name) == description:
                return at, description
        except SourceError as error:
            if error_code(error) not in CHANGED - MISSING | LOCKED:
                raise
        fetch(self._config, self._reading, "ROLLBACK")
        return None

    def _locked(self, info: ServerInfo) -> tuple[Checkpoint, Description]:
        """A view that is opened while the table is locked; the lock of a non-transactional table is kept."""
        fetch(self._config, self._reading, "ROLLBACK")
        locking = self._held.enter_context(closing(connect(self._config, read_timeout_s=READ_TIMEOUT_S)))
        lock_table(self._config, locking, self._name, self._stop)
        now = inspect(self._config, self._reading)
        at = Checkpoint(now.end(), now.server_uuid, now.executed, 0, clock_us(self._config, self._reading))
        if find_engine(self._config, locking, self._name) not in TRANSACTIONAL:
            # A SELECT of another connection would wait for the writers that wait for the lock.
            self._reading = locking
            return at, describe(self._config, locking, info, self._name)
        fetch(self._config, self._reading, BEGIN_VIEW)
        description = describe(self._config, self._reading, info, self._name)
        fetch(self._config, locking, "UNLOCK TABLES")
        return at, description

    def _snapshot(self, info: ServerInfo, at: Checkpoint, description: Description) -> TableSnapshot:
        config, reading, schema = self._config, self._reading, description.schema
        origin = RowOrigin(at, _server(info))
        return TableSnapshot(
            at,
            schema,
            origin.server,
            lambda columns: read_texts(config, reading, f"SELECT {columns} FROM {self._quoted}"),
            lambda size, clauses: read_batches(config, reading, schema, origin, clauses, size),
            description.left_out,
        )


@dataclass(frozen=True, slots=True)
class Description:
    """The schema of a table without the columns `left_out` (generated columns on MariaDB)."""

    schema: TableSchema
    left_out: tuple[str, ...]


def describe(config: MySQLConfig, connection: Connection, info: ServerInfo, name: tuple[str, str]) -> Description:
    """The table as it is defined now. In a transaction, DDL on it then waits until the end of the transaction.

    Raises SourceError, also if the account may read only some columns, which is all that information_schema shows.
    """
    fetch(config, connection, f"SELECT * FROM {quote_mysql(*name)} LIMIT 0")
    left_out = generated_columns(config, connection, *name) if info.flavor == ServerFlavor.MARIADB else ()
    return Description(remove_columns(describe_table(config, connection, *name), left_out), left_out)


def lock_table(config: MySQLConfig, connection: Connection, name: tuple[str, str], stop: threading.Event) -> None:
    """LOCK TABLES ... READ, in attempts of one second, so that no writer waits longer for us. Raises SourceError."""
    fetch(config, connection, _SHORT_WAIT)
    ends_at, failures = time.monotonic() + LOCK_PATIENCE_S, 0
    while True:
        try:
            fetch(config, connection, f"LOCK TABLES {quote_mysql(*name)} READ")
            return
        except SourceError as error:
            if error_code(error) not in LOCKED:
                raise
            failures += 1
            _pause(failures, stop, ends_at, error, name)


def _pause(failures: int, stop: threading.Event, ends_at: float, error: SourceError, name: tuple[str, str]) -> None:
    """Wait before the next attempt; raises SourceError after the time limit or a stop."""
    if stop.wait(backoff_s(_FIRST_PAUSE_S, _LONGEST_PAUSE_S, failures)) or time.monotonic() > ends_at:
        raise SourceError(
            f"{'.'.join(name)}: found no moment without writers or DDL in {failures} attempts to lock the table, of "
            f"{_LOCK_WAIT_S} s each. Choose: read the table at a quieter hour, give it a primary key and the engine "
            "InnoDB, or turn GTIDs on (gtid_mode=ON); an InnoDB table with a key and GTIDs needs no lock"
        ) from error


def find_engine(config: MySQLConfig, connection: Connection, name: tuple[str, str]) -> str:
    """The storage engine in lower case; "" if there is no such table."""
    sql = "SELECT ENGINE AS engine FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s"
    rows = fetch(config, connection, sql, name)
    return str(rows[0]["engine"]).lower() if rows else ""


def explain_denied(error: SourceError, config: MySQLConfig, name: tuple[str, str]) -> SourceError:
    """The error about a missing privilege (DENIED), with the grants."""
    return SourceError(
        f"{name[0]}.{name[1]}: cannot read a snapshot at a known position: {error}; "
        f"run: GRANT SELECT, LOCK TABLES ON `{name[0]}`.* TO the account {config.user}"
    )


def _server(info: ServerInfo) -> tuple[str, int]:
    return info.server_uuid, info.server_id
