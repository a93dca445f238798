"""Logs in to a server as an application does, with the server's own defaults; for private servers and their tests.

The library itself opens all of its connections in `config`, which sets the session variables and guards the login.
"""

from __future__ import annotations

from typing import Any

import pymysql

from binlogsync.mysql.session import Connection


def connect(**options: Any) -> Connection:
    """A connection with utf8mb4 and autocommit; `options` are arguments of pymysql.connect. Raises its errors."""
    return pymysql.connect(**{"charset": "utf8mb4", "autocommit": True, **options})


def can_log_in(host: str, port: int, user: str, password: str, timeout_s: int) -> bool:
    """Whether the server accepts the account."""
    try:
        pymysql.connect(host=host, port=port, user=user, password=password, connect_timeout=timeout_s).close()
    except pymysql.MySQLError:
        return False
    return True
