"""Prepares and executes one SELECT without parameters, for rows in the binary protocol.

COM_STMT_EXECUTE without a cursor: a cursor would make the server store the whole result first. The connection is
usable for other statements once the rows were read to their end, or to an error packet.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from binlogsync.binlog.bytes import ByteReader
from binlogsync.mysql.guarded_connection import GuardedConnection

_PREPARE, _EXECUTE, _CLOSE = 0x16, 0x17, 0x19
_UNSIGNED = 32
_NO_CURSOR, _ITERATIONS = 0, 1


@dataclass(frozen=True, slots=True)
class ResultColumn:
    """A column of a result set: name, number of its type and collation, and whether it is an unsigned number."""

    name: str
    type: int
    charset: int
    unsigned: bool


def parse_column(payload: bytes) -> ResultColumn:
    """Read a column definition packet; raises ValueError."""
    data = ByteReader(payload)
    texts = [data.string(data.packed()) for _ in range(6)]  # catalog, schema, table twice, name twice
    data.packed()
    charset, _, kind, flags = data.integer(2), data.integer(4), data.integer(1), data.integer(2)
    return ResultColumn(texts[4].decode("utf-8", "replace"), kind, charset, bool(flags & _UNSIGNED))


class PreparedStatement:
    """A prepared SELECT. Raises what pymysql raises, and ValueError for an answer that makes no sense.

    Attributes:
        columns: the definitions of its columns; those of the result, once it was executed.
        is_unread: True while the server has bytes to send for it.
    """

    def __init__(self, connection: GuardedConnection, sql: str) -> None:
        """Prepare it."""
        self.is_unread = False
        self._connection = connection
        connection.send_command(_PREPARE, sql.encode("utf-8"))
        answer = ByteReader(connection.read_payload())
        answer.string(1)
        self._id, columns, parameters = answer.integer(4), answer.integer(2), answer.integer(2)
        self._read_definitions(parameters)
        self.columns = self._read_definitions(columns)
        if parameters:
            self.finish()
            raise ValueError(f"the statement has {parameters} parameters already: {sql[:200]}")

    def execute(self) -> None:
        """Execute it; the next bytes are those of the rows."""
        self._connection.send_command(_EXECUTE, struct.pack("<IBI", self._id, _NO_CURSOR, _ITERATIONS))
        count = ByteReader(self._connection.read_payload()).packed()
        self.is_unread = True
        self.columns = self._read_definitions(count)

    def mark_read(self) -> None:
        """The server has sent the last packet of the result."""
        self.is_unread = False

    def finish(self) -> None:
        """Free it in the server, which does not answer; close the connection if the result was not read to its end."""
        if self.is_unread:
            self._connection.discard()
        elif self._connection.open:
            self._connection.send_command(_CLOSE, struct.pack("<I", self._id))

    def _read_definitions(self, count: int) -> list[ResultColumn]:
        """The definitions, and the packet that ends them."""
        columns = [parse_column(self._connection.read_payload()) for _ in range(count)]
        if count:
            self._connection.read_payload()
        return columns
