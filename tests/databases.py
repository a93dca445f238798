"""A separate database for one test, on a shared server."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pymysql
import pytest

from binlogsync.servers.database import DatabaseServer

MARIADB_TOO = pytest.param("mariadb", marks=pytest.mark.exhaustive)
"""The fixture `mariadb` as a parameter of a test whose code MariaDB reaches in other tests as well."""


@dataclass(frozen=True, slots=True)
class FreshDatabase:
    """An empty database and an autocommit connection that uses it.

    Attributes:
        server: the server, shared with other tests.
        name: name of the database.
        connection: a connection as root.
    """

    server: DatabaseServer
    name: str
    connection: pymysql.Connection[Any]

    def execute(self, sql: str, arguments: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Execute one statement and return its rows."""
        with self.connection.cursor() as cursor:
            cursor.execute(sql, arguments)
            return list(cursor.fetchall())


@contextmanager
def fresh_database(server: DatabaseServer) -> Iterator[FreshDatabase]:
    """Create a database with a unique name; drop it at the end of the block."""
    name = f"t_{secrets.token_hex(4)}"
    connection = server.connect(ssl_disabled=True)  # with TLS it takes ten times as long
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
            cursor.execute(f"USE {name}")
        yield FreshDatabase(server, name, connection)
    finally:
        connection.close()
        with server.connect(ssl_disabled=True) as cleaning, cleaning.cursor() as cursor:
            # A failed test may have left a prepared transaction that holds a lock; its failure must be reported.
            cursor.execute("SET SESSION lock_wait_timeout = 60")
            cursor.execute(f"DROP DATABASE IF EXISTS {name}")
