"""Private servers that replicate from each other by GTID, and a fixed address of the current primary."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from binlogsync import servers
from binlogsync.mysql import TLS, inspect_server
from binlogsync.servers.database import DatabaseServer
from tests.databases import FreshDatabase
from tests.e2e.tailing import config_of
from tests.mysql.sources import run
from tests.sinks.nats_proxy import NatsProxy

NAME = "moving"


def replicate(replica: DatabaseServer, source: DatabaseServer) -> None:
    """Make `replica`, a new server, replicate all of `source` from its binlogs; it is read-only."""
    where = "'{1}', {0}_PORT = {2}, {0}_USER = '{3}', {0}_PASSWORD = '{4}', {0}_CONNECT_RETRY = 1"
    login = (source.host, source.port, source.user, source.password)
    if isinstance(replica, servers.MySQLServer):
        more = "SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1"
        statement = f"CHANGE REPLICATION SOURCE TO SOURCE_HOST = {where.format('SOURCE', *login)}, {more}"
        run(replica, statement, "SET GLOBAL super_read_only = ON", "START REPLICA")
    else:
        more = "MASTER_USE_GTID = slave_pos, MASTER_SSL = 0, MASTER_SSL_VERIFY_SERVER_CERT = 0"
        statement = f"CHANGE MASTER TO MASTER_HOST = {where.format('MASTER', *login)}, {more}"
        run(replica, statement, "SET GLOBAL read_only = ON", "START SLAVE")


@contextmanager
def replicated_pair(flavor: str) -> Iterator[tuple[DatabaseServer, DatabaseServer]]:
    """Two new servers, "mysql" or "mariadb": a source, and a replica that logs what it receives."""
    start = servers.mysql if flavor == "mysql" else servers.mariadb
    options = {"log_slave_updates": "ON"}
    with start(options=options) as source, start(options=options) as replica:
        for server in (source, replica):  # the accounts are replicated
            server.cdc_password = "secret"
            run(server, "SET sql_log_bin = 0", f"ALTER USER '{server.cdc_user}'@'%' IDENTIFIED BY 'secret'")
        replicate(replica, source)
        wait_for_all(replica, source)
        for server in (source, replica):
            log_in(server)
        yield source, replica


def log_in(server: DatabaseServer) -> None:
    """Log in with TLS: then the server has the password, and logins without TLS need no key."""
    inspect_server(config_of(server, "look", TLS()))


def wait_for_all(replica: DatabaseServer, source: DatabaseServer) -> None:
    """Wait until the replica has applied everything that the source has executed."""
    if isinstance(replica, servers.MySQLServer):
        executed = run(source, "SELECT @@GLOBAL.gtid_executed")[0][0]
        done = run(replica, f"SELECT WAIT_FOR_EXECUTED_GTID_SET('{executed}', 240)")
    else:
        executed = run(source, "SELECT @@GLOBAL.gtid_binlog_pos")[0][0]
        done = run(replica, f"SELECT MASTER_GTID_WAIT('{executed}', 240)")
    assert done == [(0,)], status(replica)


def status(replica: DatabaseServer) -> list[tuple[object, ...]]:
    """The name for messages."""
    return run(replica, "SHOW REPLICA STATUS" if isinstance(replica, servers.MySQLServer) else "SHOW SLAVE STATUS")


def stop_replicating(replica: DatabaseServer) -> None:
    """Stop replication, so that the replica lags."""
    run(replica, "STOP REPLICA" if isinstance(replica, servers.MySQLServer) else "STOP SLAVE")


def promote(replica: DatabaseServer) -> None:
    """Make the replica writable and stop its replication."""
    if isinstance(replica, servers.MySQLServer):
        run(replica, "STOP REPLICA", "RESET REPLICA ALL", "SET GLOBAL super_read_only = OFF, GLOBAL read_only = OFF")
    else:
        run(replica, "STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL read_only = OFF")


def database_on(server: DatabaseServer) -> FreshDatabase:
    """The database of these tests on a server."""
    run(server, f"CREATE DATABASE IF NOT EXISTS {NAME}")
    return FreshDatabase(server, NAME, server.connect(database=NAME))


class ServerAddress(NatsProxy):
    """A proxy with a fixed address in front of the primary; can be moved, and cut off in the middle of the data."""

    def __init__(self, server: DatabaseServer) -> None:
        self._left: int | None = None
        self._text: bytes | None = None
        super().__init__(server.host, server.port)

    @property
    def port(self) -> int:
        """The port on 127.0.0.1."""
        return int(self._listener.getsockname()[1])

    def cut_after(self, size: int) -> None:
        """Pass the given number of bytes, then block data and new connections until the next move."""
        self._left = size

    def cut_at(self, text: bytes) -> None:
        """Like `cut_after`, before the end of that text."""
        self._text = text

    @property
    def is_cut(self) -> bool:
        """True when the proxy passes no more data."""
        return self._left == 0

    def move_to(self, server: DatabaseServer) -> None:
        """Forward to another server."""
        self._target = (server.host, server.port)
        self._left = None

    def _copy(self, source: socket.socket, target: socket.socket, is_server: bool) -> None:
        passed = b""
        with suppress(OSError):
            while self._left != 0 and (data := source.recv(2048 if is_server else 65536)):
                if is_server and self._text is not None:
                    passed = passed[-100:] + data
                    if self._text in passed:
                        self._left, self._text = 0, None
                if is_server and self._left is not None:
                    data = data[: self._left]
                    self._left -= len(data)
                target.sendall(data)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
