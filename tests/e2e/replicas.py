"""Private servers that replicate from each other by GTID, and the address at which a tail reaches the one in charge."""

from __future__ import annotations

import socket
from contextlib import suppress

from binlogsync import embedded
from binlogsync.embedded.database import DatabaseServer
from tests.databases import FreshDatabase
from tests.mysql.sources import run
from tests.sinks.nats_proxy import NatsProxy

NAME = "moving"


def replicate(replica: DatabaseServer, source: DatabaseServer) -> None:
    """`replica`, a new server, gets all that `source` has, from its binlogs; nobody else may write to it."""
    where = "'{1}', {0}_PORT = {2}, {0}_USER = '{3}', {0}_PASSWORD = '{4}', {0}_CONNECT_RETRY = 1"
    login = (source.host, source.port, source.user, source.password)
    if isinstance(replica, embedded.MySQLServer):
        more = "SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1"
        statement = f"CHANGE REPLICATION SOURCE TO SOURCE_HOST = {where.format('SOURCE', *login)}, {more}"
        run(replica, statement, "SET GLOBAL super_read_only = ON", "START REPLICA")
    else:
        more = "MASTER_USE_GTID = slave_pos, MASTER_SSL = 0, MASTER_SSL_VERIFY_SERVER_CERT = 0"
        statement = f"CHANGE MASTER TO MASTER_HOST = {where.format('MASTER', *login)}, {more}"
        run(replica, statement, "SET GLOBAL read_only = ON", "START SLAVE")


def wait_for_all(replica: DatabaseServer, source: DatabaseServer) -> None:
    """Until the replica has applied what the source has executed now."""
    if isinstance(replica, embedded.MySQLServer):
        executed = run(source, "SELECT @@GLOBAL.gtid_executed")[0][0]
        done = run(replica, f"SELECT WAIT_FOR_EXECUTED_GTID_SET('{executed}', 60)")
    else:
        executed = run(source, "SELECT @@GLOBAL.gtid_binlog_pos")[0][0]
        done = run(replica, f"SELECT MASTER_GTID_WAIT('{executed}', 60)")
    assert done == [(0,)], status(replica)


def status(replica: DatabaseServer) -> list[tuple[object, ...]]:
    """For messages."""
    return run(replica, "SHOW REPLICA STATUS" if isinstance(replica, embedded.MySQLServer) else "SHOW SLAVE STATUS")


def stop_replicating(replica: DatabaseServer) -> None:
    """It falls behind."""
    run(replica, "STOP REPLICA" if isinstance(replica, embedded.MySQLServer) else "STOP SLAVE")


def promote(replica: DatabaseServer) -> None:
    """It takes writes from now on, and no others from its source."""
    if isinstance(replica, embedded.MySQLServer):
        run(replica, "STOP REPLICA", "RESET REPLICA ALL", "SET GLOBAL super_read_only = OFF, GLOBAL read_only = OFF")
    else:
        run(replica, "STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL read_only = OFF")


def database_on(server: DatabaseServer) -> FreshDatabase:
    """The database of these tests on one of the servers."""
    run(server, f"CREATE DATABASE IF NOT EXISTS {NAME}")
    return FreshDatabase(server, NAME, server.connect(database=NAME))


class ServerAddress(NatsProxy):
    """Where the server in charge is: one address that moves, and can be cut off in the middle of what it sends."""

    def __init__(self, server: DatabaseServer) -> None:
        self._left: int | None = None
        super().__init__(server.host, server.port)

    @property
    def port(self) -> int:
        """On 127.0.0.1."""
        return int(self._listener.getsockname()[1])

    def cut_after(self, size: int) -> None:
        """Let so many bytes through yet; then nothing, and nobody new, until it is moved."""
        self._left = size

    @property
    def is_cut(self) -> bool:
        """True when nothing comes through any more."""
        return self._left == 0

    def move_to(self, server: DatabaseServer) -> None:
        """Another server is in charge."""
        self._target = (server.host, server.port)
        self._left = None

    def _copy(self, source: socket.socket, target: socket.socket, is_server: bool) -> None:
        with suppress(OSError):
            while self._left != 0 and (data := source.recv(2048 if is_server else 65536)):
                if is_server and self._left is not None:
                    data = data[: self._left]
                    self._left -= len(data)
                target.sendall(data)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
