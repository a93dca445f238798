"""For handlers with effects elsewhere: do for each change what has to be done once, though it may be delivered again.

    seen = SeenIds(connection)                      # of the database that the effect goes to

    def on_order(change: Change[Order]) -> None:
        with seen.once(change) as is_first:
            if is_first:
                cursor.execute("INSERT INTO invoices ...")

`SeenIds` writes `change.id` into a table in the very transaction of the effect, so both are there or neither: exactly
once, for whatever the same connection writes. It takes a connection of Python's DB-API (PyMySQL, psycopg, sqlite3, ...)
or of DuckDB, which must not commit by itself.

`RedisSeenIds` is for effects that no transaction holds (a mail, a call of somebody's API): the id is written behind the
effect. So a change comes twice only where the program died between the two, and never not at all.
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
    """Ids of handled changes in a table beside what the handler writes.

    Args:
        connection: of the DB-API or DuckDB, used by one thread. `once` begins, commits and rolls back its transactions.
        scope: whose ids: two handlers that write into one database need two.
        table: is made when it is missing.

    Raises ConfigError for a connection that commits by itself, or is of a kind that is not known.
    """

    def __init__(self, connection: Any, scope: str = "", table: str = "binlogsync_seen") -> None:
        self._connection = connection
        self._scope = scope
        self._table = table
        self._mark = _mark(connection)
        if getattr(connection, "isolation_level", "") is None or _autocommits(connection):
            raise ConfigError(
                f"{type(connection).__name__} commits by itself, so the effect and its mark would not be one "
                "transaction; open it without autocommit"
            )
        self._execute(
            f"CREATE TABLE IF NOT EXISTS {table} (scope VARCHAR(100) NOT NULL, id VARCHAR(300) NOT NULL, "
            "seen_at DOUBLE PRECISION NOT NULL, PRIMARY KEY (scope, id))"
        )
        connection.commit()

    @contextmanager
    def once(self, change: Change[Any]) -> Iterator[bool]:
        """True when this change was not handled yet; committed with its mark at the end of the block.

        Rolled back, mark and all, when the block raises.
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
        """Remove marks that are older: what is delivered again is hours old, not months."""
        self._execute(
            f"DELETE FROM {self._table} WHERE scope = ? AND seen_at < ?", (self._scope, time.time() - older_than_s)
        )
        self._connection.commit()

    def _execute(self, sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
        cursor = self._connection.cursor() if not _is_duckdb(self._connection) else self._connection
        cursor.execute(sql.replace("?", self._mark), values)
        return list(cursor.fetchall()) if sql.startswith("SELECT") else []


class RedisClient(Protocol):
    """What `RedisSeenIds` needs of redis.Redis."""

    def exists(self, *names: str) -> Any:
        """How many of the keys there are."""

    def set(self, name: str, value: str, *, ex: int) -> Any:
        """Keep a value for so many seconds."""


class RedisSeenIds:
    """Ids of handled changes in Redis, written behind the effect and kept for `keep_s` seconds."""

    def __init__(self, client: RedisClient, scope: str = "", keep_s: int = 30 * _DAY_S) -> None:
        self._client = client
        self._scope = scope
        self._keep_s = keep_s

    @contextmanager
    def once(self, change: Change[Any]) -> Iterator[bool]:
        """True when this change was not handled yet; marked at the end of the block, unless the block raises."""
        key = f"binlogsync:seen:{self._scope}:{change.id}"
        is_first = not self._client.exists(key)
        yield is_first
        if is_first:
            self._client.set(key, "1", ex=self._keep_s)


def _is_duckdb(connection: Any) -> bool:
    return "duckdb" in type(connection).__module__


def _mark(connection: Any) -> str:
    """How the connection's module marks a value in SQL."""
    module = sys.modules.get(type(connection).__module__.partition(".")[0])
    style = "qmark" if _is_duckdb(connection) else getattr(module, "paramstyle", None)
    mark = _MARKS.get(style or "")
    if mark is None:
        raise ConfigError(
            f"{type(connection).__module__}.{type(connection).__name__} is no connection that SeenIds knows to use: "
            f"its paramstyle is {style!r}, and qmark, format or pyformat is needed"
        )
    return mark


def _autocommits(connection: Any) -> bool:
    """Whether it says that it commits by itself; PyMySQL has a method, psycopg an attribute, sqlite3 -1 for neither."""
    said = getattr(connection, "get_autocommit", None)
    return bool(said()) if said is not None else getattr(connection, "autocommit", False) is True
