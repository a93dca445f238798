"""Rows of a query in the text protocol, unbuffered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pymysql

from binlogsync.mysql.config import MySQLConfig, translate_errors
from binlogsync.mysql.session import Connection


def read_texts(config: MySQLConfig, connection: Connection, sql: str) -> Iterator[tuple[Any, ...]]:
    """The rows of a query as the server prints them, str or bytes. Raises SourceError."""
    decoders, connection.decoders = connection.decoders, {}
    try:
        with translate_errors(config), connection.cursor(pymysql.cursors.SSCursor) as cursor:
            cursor.execute(sql)
            yield from cursor
    finally:
        connection.decoders = decoders
