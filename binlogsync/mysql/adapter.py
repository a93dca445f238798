"""The one file that knows private names of mysql-replication and pymysql.

mysql-replication opens the connection and asks for the dump (checksum and heartbeat variables, registration as a
replica, COM_BINLOG_DUMP or COM_BINLOG_DUMP_GTID, MariaDB's variables); then its stream object is dropped and the bytes
are read from its socket. Its decoding, reconnecting and logging are not used. tests/mysql/test_adapter.py fails
when a name that is used here changes.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from pymysqlreplication import BinLogStreamReader

CONNECT_STEP: Final = "_BinLogStreamReader__connect_to_stream"
STREAM_CONNECTION: Final = "_stream_connection"
SOCKET: Final = "_sock"
WRITE: Final = "_write_bytes"
FORCE_CLOSE: Final = "_force_close"
_DUMP_GTID = 0x1E  # COM_BINLOG_DUMP_GTID of enum_server_command in include/my_command.h
_SET_AT = 4 + 1 + 2 + 4 + 4 + 3 + 8  # after header, command, flags, server id, and an empty file name and its position
_NO_SET = "00000000-0000-0000-0000-000000000000:1"  # is replaced by `encoded_gtids`


@dataclass(frozen=True, slots=True)
class DumpRequest:
    """What to ask for.

    Attributes:
        file, pos: where to start, when `gtids` is "".
        gtids: the transactions not to send; "" starts at file and position.
        encoded_gtids: the same as MySQL takes them (encode_gtids); None for MariaDB.
        mariadb: True for MariaDB's way of asking by GTID.
        server_id: the id of this reader.
        name, uuid: how SHOW REPLICAS lists us; None does not register.
        heartbeat_s: interval of the heartbeats while the source is idle.
        blocking: False ends the dump at the end of the log.
    """

    file: str
    pos: int
    gtids: str
    encoded_gtids: bytes | None
    mariadb: bool
    server_id: int
    name: str | None
    uuid: str | None
    heartbeat_s: float
    blocking: bool


class RawStream:
    """The socket on which the server sends packets after the request."""

    def __init__(self, connection: Any, sock: socket.socket) -> None:
        self._connection = connection
        self._socket = sock

    @property
    def encrypted(self) -> bool:
        """True over TLS."""
        return isinstance(self._socket, ssl.SSLSocket)

    def set_timeout(self, seconds: float) -> None:
        """How long a read may wait before it raises TimeoutError; 0 raises BlockingIOError, or SSLWantReadError."""
        self._socket.settimeout(seconds)

    def fileno(self) -> int:
        """For poll; -1 when closed."""
        return self._socket.fileno()

    def readinto(self, view: memoryview) -> int:
        """Bytes read, 0 at the end; raises OSError."""
        return self._socket.recv_into(view)

    def shutdown(self) -> None:
        """Ends a read in another thread; the socket stays open."""
        with contextlib.suppress(OSError):
            # Not SSLSocket.shutdown: it takes the TLS state away from under the reading thread.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket."""
        getattr(self._connection, FORCE_CLOSE)()
        self._socket.close()


def _exact(connection: Any, encoded_gtids: bytes | None) -> Any:
    """The connection, with packets cut to their length, and with `encoded_gtids` in MySQL's request by GTID.

    The request by MariaDB's GTIDs has one byte more. The server never reads it, and so resets the connection when
    the dump ends, which can cost the last packet. mysql-replication knows no tags in sets.
    """
    write = getattr(connection, WRITE)

    def send(data: bytes) -> None:
        if encoded_gtids is not None and data[4] == _DUMP_GTID:
            data = data[4:_SET_AT] + len(encoded_gtids).to_bytes(4, "little") + encoded_gtids
            data = len(data).to_bytes(4, "little") + data
        write(data[: 4 + int.from_bytes(data[:3], "little")])

    setattr(connection, WRITE, send)
    return connection


def open_stream(request: DumpRequest, connect: Callable[[], Any]) -> RawStream:
    """Ask for the dump over a connection that `connect` opens; raises what pymysql raises.

    The first packet that is read may be an error packet of the server.
    """
    reader = BinLogStreamReader(
        connection_settings={},
        server_id=request.server_id,
        blocking=request.blocking,
        resume_stream=True,
        log_file=request.file,
        log_pos=request.pos,
        auto_position=_NO_SET if request.encoded_gtids is not None else request.gtids or None,
        is_mariadb=request.mariadb and bool(request.gtids),
        report_slave=request.name,
        slave_uuid=request.uuid,
        slave_heartbeat=request.heartbeat_s,
        enable_logging=False,
        # Ours, so that the password stays with us and TLS is ours to set.
        pymysql_wrapper=lambda **_settings: _exact(connect(), request.encoded_gtids),
    )
    try:
        getattr(reader, CONNECT_STEP)()
    except BaseException:
        if (opened := getattr(reader, STREAM_CONNECTION, None)) is not None:
            getattr(opened, FORCE_CLOSE)()
        raise
    connection = getattr(reader, STREAM_CONNECTION)
    return RawStream(connection, getattr(connection, SOCKET))
