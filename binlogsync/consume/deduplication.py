"""Deduplication for handlers with effects elsewhere: apply an effect once, although a change may be delivered again.

    seen = SeenIds(connection)                      # of the database that the handler writes to

    def on_order(change: Change[Order]) -> None:
        with seen.once(change) as is_first:
            if is_first:
                cursor.execute("INSERT INTO invoices ...")

`SeenIds` writes `change.id` into a table in the same transaction as the effect: everything that this connection writes
is applied exactly once. It takes a connection of Python's DB-API (PyMySQL, psycopg, sqlite3, ...) or of DuckDB, without
autocommit.

`RedisSeenIds` is for effects outside a transaction (a mail, an API call): the id is written after the effect. An effect
is repeated only if the program died between the two, and it is never omitted.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from binlogsync.change import Change
from binlogsync.errors import ConfigError

_MARKS = {"qmark": "?", "format": "%s", "pyformat": "%s", "numeric": None, "named": None}
_DAY_S = 86400


class SeenIds:
    """Ids of handled changes, in a table of the database that the handler writes to.

    Args:
        connection: a DB-API or DuckDB connection, used by one thread. `once` begins, commits and rolls back its
            transactions.
        scope: separates the ids of handlers that write into one database; give each its own.
        table: name of the table, created when it does not exist.

    Raises ConfigError for a connection with autocommit, or of an unsupported kind.
    """

    def __init__(self, connection: Any, scope: str = "", table: str = "binlogsync_seen") -> None:
        self._connection = connection
        self._scope = scope
        self._table = table
        self._mark = _mark(connection)
        if getattr(connection, "isolation_level", "") is None or _autocommits(connection):
            raise ConfigError(
                f"{type(connection).__name__} commits by itself (autocommit), so the effect and its id would not be "
                "stored in one transaction; open it without autocommit"
            )
        self._execute(
            f"CREATE TABLE IF NOT EXISTS {table} (scope VARCHAR(100) NOT NULL, id VARCHAR(300) NOT NULL, "
            "seen_at DOUBLE PRECISION NOT NULL, PRIMARY KEY (scope, id))"
        )
        connection.commit()

    @contextmanager
    def once(self, change: Change[Any]) -> Iterator[bool]:
        """Yields True when the change was not handled yet. The end of the block commits the effect with the id.

        If the block raises, both are rolled back.
        """
        begin = getattr(self._connection, "begin", None)
        if begin is not None:
            begin()
        try:
            where = (self._scope, change.id)
            is_first = not self._execute(f"SELECT 1 FROM {self._table} WHERE scope = ? AND id = ?", where)
            if is_first:
                self._execute(f"INSERT INTO {self._table} VALUES (?, ?, ?)", (*where, time.time()))
            yield is_first
            self._connection.commit()
        except BaseException:
            self._connection.rollback()
            raise

    def forget(self, older_than_s: float = 30 * _DAY_S) -> None:
        """Delete the ids of changes handled longer ago; a redelivery comes after hours at most, not after months."""
        self._execute(
            f"DELETE FROM {self._table} WHERE scope = ? AND seen_at < ?", (self._scope, time.time() - older_than_s)
        )
        self._connection.commit()

    def _execute(self, sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
        cursor = self._connection.cursor() if not _is_duckdb(self._connection) else self._connection
        cursor.execute(sql.replace("?", self._mark), values)
        return list(cursor.fetchall()) if sql.startswith("SELECT") else []


class RedisClient(Protocol):
    """The methods of redis.Redis that `RedisSeenIds` uses."""

    def exists(self, *names: str) -> Any:
        """The number of the keys that exist."""

    def set(self, name: str, value: str, *, ex: int) -> Any:
        """Store a value for `ex` seconds."""


class RedisSeenIds:
    """Ids of handled changes in Redis, written after the effect and kept for `keep_s` seconds."""

    def __init__(self, client: RedisClient, scope: str = "", keep_s: int = 30 * _DAY_S) -> None:
        self._client = client
        self._scope = scope
        self._keep_s = keep_s

    @contextmanager
    def once(self, change: Change[Any]) -> Iterator[bool]:
        """Yields True when the change was not handled yet. The end of the block stores the id, unless it raises."""
        key = f"binlogsync:seen:{self._scope}:{change.id}"
        is_first = not self._client.exists(key)
        yield is_first
        if is_first:
            self._client.set(key, "1", ex=self._keep_s)


def _is_duckdb(connection: Any) -> bool:
    return "duckdb" in type(connection).__module__


def _mark(connection: Any) -> str:
    """The placeholder for a value in the SQL of the connection's module."""
    module = sys.modules.get(type(connection).__module__.partition(".")[0])
    style = "qmark" if _is_duckdb(connection) else getattr(module, "paramstyle", None)
    mark = _MARKS.get(style or "")
    if mark is None:
        raise ConfigError(
            f"{type(connection).__module__}.{type(connection).__name__} is not supported by SeenIds: its paramstyle is "
            f"{style!r}; use a module with qmark, format or pyformat"
        )
    return mark


def _autocommits(connection: Any) -> bool:
    """Whether autocommit is on; PyMySQL has a method, psycopg an attribute, sqlite3 an attribute that may be -1."""
    method = getattr(connection, "get_autocommit", None)
    return bool(method()) if method is not None else getattr(connection, "autocommit", False) is True
