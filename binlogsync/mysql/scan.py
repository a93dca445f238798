"""Scans the event headers of a binlog: where transactions begin, and when they were committed.

Used to find a start position; row values are not decoded. Positions are followed by counting
bytes and checked against the events' own `end_log_pos`, which has 32 bits, is 0 inside MariaDB's transactions, and
jumps where a dump by GTID leaves transactions out.
"""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from binlogsync.binlog.event_index import EOF_PACKET, EOF_PACKET_LIMIT, ERROR_PACKET, PACKET_LIMIT
from binlogsync.binlog.events import TaggedGtid, parse_tagged_gtid
from binlogsync.binlog.scan_state import ARTIFICIAL
from binlogsync.errors import SourceError
from binlogsync.mysql.dump import BinlogDump
from binlogsync.mysql.server_errors import raise_server_error
from binlogsync.position import BinlogPosition


class EventType(IntEnum):
    """Event types that the scan distinguishes; see binlog/events.py."""

    QUERY = 2
    STOP = 3
    ROTATE = 4
    FORMAT_DESCRIPTION = 15
    HEARTBEAT = 27
    GTID = 33
    ANONYMOUS_GTID = 34
    PREVIOUS_GTIDS = 35
    HEARTBEAT_V2 = 41
    TAGGED_GTID = 42
    MARIADB_CHECKPOINT = 161
    MARIADB_GTID = 162
    MARIADB_GTID_LIST = 163
    MARIADB_ENCRYPTION = 164


BEGINS_TRANSACTION = frozenset(
    {EventType.GTID, EventType.ANONYMOUS_GTID, EventType.TAGGED_GTID, EventType.MARIADB_GTID}
)
BETWEEN_TRANSACTIONS = BEGINS_TRANSACTION | {
    EventType.STOP,
    EventType.ROTATE,
    EventType.FORMAT_DESCRIPTION,
    EventType.PREVIOUS_GTIDS,
    EventType.MARIADB_CHECKPOINT,
    EventType.MARIADB_GTID_LIST,
    EventType.MARIADB_ENCRYPTION,
}
_HEADER = struct.Struct("<IBIIIH")  # timestamp, type, server id, size, end_log_pos, flags
_COMMIT_TIME_AT = 42  # after flags, uuid, number, and the logical clock
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class ScannedEvent:
    """One event.

    Attributes:
        kind: event type.
        start: where it begins in its file.
        sequential: False when, by its end_log_pos, events before it were skipped.
        seconds: time of its header, seconds since 1970 UTC.
        body: what follows the header, the checksum included.
        server_id: of the server that it was first logged by.
    """

    kind: int
    start: BinlogPosition
    sequential: bool
    seconds: int
    body: bytes
    server_id: int = 0

    @property
    def committed_us(self) -> int:
        """Commit time in microseconds since 1970 UTC, if the event contains it; else that of the header."""
        if self.kind == EventType.TAGGED_GTID:
            return self._tagged().ts_us
        exact = self.kind in (EventType.GTID, EventType.ANONYMOUS_GTID) and len(self.body) >= _COMMIT_TIME_AT + 7
        if exact and (
            value := int.from_bytes(self.body[_COMMIT_TIME_AT : _COMMIT_TIME_AT + 7], "little") & (2**55 - 1)
        ):
            return value
        return self.seconds * 1_000_000

    @property
    def first_committed_us(self) -> int | None:
        """Commit time on the server that executed the transaction first, which replicas keep.

        None if it is not logged: by MariaDB, and by MySQL before 8.0.1, whose replicas log times of their own.
        """
        if self.kind == EventType.TAGGED_GTID:
            return self._tagged().first_committed_us
        if self.kind != EventType.GTID or len(self.body) < _COMMIT_TIME_AT + 7:
            return None
        if self.body[_COMMIT_TIME_AT + 6] & 0x80:
            return int.from_bytes(self.body[_COMMIT_TIME_AT + 7 : _COMMIT_TIME_AT + 14], "little") & (2**55 - 1)
        return self.committed_us

    @property
    def gtid(self) -> tuple[str, int] | None:
        """(key as GtidSet.with_run takes it, number) where a transaction with a GTID begins; None elsewhere."""
        if self.kind == EventType.GTID:
            return str(uuid.UUID(bytes=self.body[1:17])), int.from_bytes(self.body[17:25], "little")
        if self.kind == EventType.TAGGED_GTID:
            tagged = self._tagged()
            return tagged.key, tagged.number
        if self.kind == EventType.MARIADB_GTID:
            number, domain = struct.unpack_from("<QI", self.body)
            return f"{domain}-{self.server_id}", number
        return None

    def _tagged(self) -> TaggedGtid:
        try:
            return parse_tagged_gtid(self.body)
        except ValueError as error:
            raise SourceError(
                f"the GTID event at {self.start} cannot be read ({error}); inspect it with: mysqlbinlog "
                f"--start-position={self.start.pos} {self.start.file}"
            ) from error


def scan(dump: BinlogDump) -> Iterator[ScannedEvent]:
    """The events of an open dump that are in the binlog itself, in order; heartbeats and the like are left out.

    Raises PositionError, SourceError when the server ends the dump with an error.
    """
    file, at = dump.checkpoint.position.file, dump.checkpoint.position.pos
    for payload in packets(dump):
        if payload[0] == ERROR_PACKET:
            raise_server_error(payload)
        if payload[0] == EOF_PACKET and len(payload) < EOF_PACKET_LIMIT:
            return
        if len(payload) < 1 + _HEADER.size:
            raise SourceError(
                f"after {file}:{at} the server sent a packet of {len(payload)} bytes, too short for an event"
            )
        seconds, kind, server_id, size, end, flags = _HEADER.unpack_from(payload, 1)
        body = payload[1 + _HEADER.size :]
        if kind in (EventType.HEARTBEAT, EventType.HEARTBEAT_V2):
            continue
        if flags & ARTIFICIAL or (kind == EventType.FORMAT_DESCRIPTION and end == 0):
            if kind == EventType.ROTATE:
                file, at = _next_file(payload)
            continue
        skipped = (end - size - at) % 2**32 if end else 0
        at += skipped
        yield ScannedEvent(kind, BinlogPosition(file, at), not skipped, seconds, bytes(body), server_id)
        at += size
        if kind == EventType.ROTATE:
            file, at = _next_file(payload)


def packets(dump: BinlogDump) -> Iterator[memoryview]:
    """Payloads of the dump's packets, valid until the next one; of an event over 16 MiB the first packet only."""
    buffer = bytearray(_CHUNK)
    begin = end = 0
    continued = False
    while True:
        while end - begin >= 4:
            length = int.from_bytes(buffer[begin : begin + 3], "little")
            if end - begin < 4 + length:
                break
            if length and not continued:
                yield memoryview(buffer)[begin + 4 : begin + 4 + length]
            continued = length == PACKET_LIMIT
            begin += 4 + length
        needed = 4 + (int.from_bytes(buffer[begin : begin + 3], "little") if end - begin >= 4 else 0)
        if begin + max(needed, _CHUNK // 2) > len(buffer):
            tail = buffer[begin:end]
            buffer = bytearray(max(len(buffer), needed + _CHUNK))
            buffer[: len(tail)] = tail
            begin, end = 0, len(tail)
        count = dump.readinto(memoryview(buffer)[end:])
        if count == 0:
            return
        end += count


def _next_file(payload: memoryview) -> tuple[str, int]:
    """(file, position) of a rotate event; whether it has a checksum is found by computing it."""
    event = bytes(payload[1:])
    if zlib.crc32(event[:-4]) == int.from_bytes(event[-4:], "little"):
        event = event[:-4]
    position = int.from_bytes(event[_HEADER.size : _HEADER.size + 8], "little")
    return event[_HEADER.size + 8 :].decode(), position
