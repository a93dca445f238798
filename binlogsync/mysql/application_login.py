"""Logs in to a server as an application does, with the server's own defaults; for private servers and their tests.

The library itself opens all of its connections in `config`, which sets the session variables and guards the login.
"""

from __future__ import annotations

import ssl
from typing import Any

import pymysql
import pymysql.connections

from binlogsync.mysql.guarded_connection import unverified_context
from binlogsync.mysql.session import Connection


class _Connection(pymysql.connections.Connection):
    def _create_ssl_ctx(self, sslp: Any) -> ssl.SSLContext:
        return sslp if isinstance(sslp, ssl.SSLContext) else unverified_context()


def connect(**options: Any) -> Connection:
    """A connection with utf8mb4 and autocommit; `options` are arguments of pymysql.connect. Raises its errors."""
    return _Connection(**{"charset": "utf8mb4", "autocommit": True, **options})


def can_log_in(host: str, port: int, user: str, password: str, timeout_s: int) -> bool:
    """Whether the server accepts the account."""
    try:
        _Connection(host=host, port=port, user=user, password=password, connect_timeout=timeout_s).close()
    except pymysql.MySQLError:
        return False
    return True
