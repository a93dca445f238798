"""Builds an index of the binlog events in a buffer of MySQL packets.

One pass of a kernel finds packets and event headers, and verifies checksums while the bytes are in the processor cache.
It stops at the first bytes that are not one complete event in one packet, and returns the reason, an `IndexStop`. The
next call continues there.

Sources: "Binlog Network Stream" and "MySQL Packets" of MySQL's protocol documentation; header layout in
libs/mysql/binlog/event/binlog_event.h (Log_event_header).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from binlogsync.binlog.compiling import kernel
from binlogsync.binlog.crc import TABLES, crc32
from binlogsync.binlog.events import FORMAT_DESCRIPTION
from binlogsync.binlog.kernel_types import boolean, int64, intp, uint8
from binlogsync.binlog.memory import address, load_u8, load_u24, load_u32, store_i64, store_u8

_TABLES = address(TABLES)
HEADER_SIZE = 19  # LOG_EVENT_HEADER_LEN in libs/mysql/binlog/event/binlog_event.h
CHECKSUM_SIZE = 4  # BINLOG_CHECKSUM_LEN in the same file
# The client/server protocol ("Protocol Basics" in MySQL's source documentation): MAX_PACKET_LENGTH, and the first byte
# of an ERR and of an EOF packet, which has less than EOF_PACKET_LIMIT bytes.
PACKET_LIMIT = 0xFFFFFF
ERROR_PACKET, EOF_PACKET, EOF_PACKET_LIMIT = 0xFF, 0xFE, 9


class IndexStop(IntEnum):
    """Why indexing stopped."""

    MORE = 0  # the last packet is incomplete
    FULL = 1  # no room in the index
    SPLIT = 2  # a packet of 16 MiB - 1 bytes: its event continues in the next packet
    SERVER_ERROR = 3  # an error packet
    END = 4  # the server has no more to send (non-blocking dump)
    BAD_LENGTH = 5  # the event's length is not the packet's
    BAD_CHECKSUM = 6
    BAD_PACKET = 7  # a packet that starts with none of 0x00, 0xfe, 0xff
    FORMAT = 8  # a format description, which determines whether the following events have checksums


@dataclass(frozen=True, slots=True)
class EventIndex:
    """Events by number: offset of the header in the buffer, size of header and body, type.

    `size` does not include the checksum, which follows the body where there is one.
    """

    offset: npt.NDArray[np.int64]
    size: npt.NDArray[np.int64]
    kind: npt.NDArray[np.uint8]
    addresses: tuple[int, int, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "addresses", (address(self.offset), address(self.size), address(self.kind)))

    @classmethod
    def room_for(cls, events: int) -> EventIndex:
        """An index with room for this number of events."""
        return cls(np.empty(events, np.int64), np.empty(events, np.int64), np.empty(events, np.uint8))

    def __len__(self) -> int:
        return len(self.offset)


@dataclass(frozen=True, slots=True)
class IndexedEvents:
    """A buffer and its first `count` indexed events; a checksum of `trailer` bytes (0 or 4) follows each event."""

    buffer: npt.NDArray[np.uint8]
    index: EventIndex
    count: int
    trailer: int

    def event(self, i: int) -> npt.NDArray[np.uint8]:
        """Header and body of the i-th event, as a view of the buffer."""
        start = int(self.index.offset[i])
        return self.buffer[start : start + int(self.index.size[i])]

    def checksum(self, i: int) -> bytes:
        """The checksum of the i-th event; b"" where there are no checksums."""
        end = int(self.index.offset[i]) + int(self.index.size[i])
        return self.buffer[end : end + self.trailer].tobytes()


@kernel
def _index(
    base: intp,
    start: int64,
    end: int64,
    offset: intp,
    size: intp,
    kind: intp,
    room: int64,
    checksum: boolean,
    tables: intp,
) -> tuple[int64, int64, int64]:
    """Returns (events found, offset of the first byte not indexed, Stop)."""
    count = 0
    at = start
    trailer = CHECKSUM_SIZE if checksum else 0
    while True:
        if at + 4 > end:
            return count, at, 0
        length = int64(load_u24(base + at))
        if at + 4 + length > end:
            return count, at, 2 if length == PACKET_LIMIT else 0
        if length == PACKET_LIMIT:
            return count, at, 2
        if count == room:
            return count, at, 1
        first = load_u8(base + at + 4) if length > 0 else uint8(1)
        if first != 0:
            return (
                count,
                at,
                3 if first == ERROR_PACKET else (4 if first == EOF_PACKET and length < EOF_PACKET_LIMIT else 7),
            )
        event = at + 5
        total = length - 1
        if total < HEADER_SIZE or int64(load_u32(base + event + 9)) != total:
            return count, at, 5
        code = load_u8(base + event + 4)
        if code == FORMAT_DESCRIPTION:
            return count, at, 8
        if total < HEADER_SIZE + trailer:
            return count, at, 5
        if checksum and crc32(base + event, total - 4, tables) != load_u32(base + event + total - 4):
            return count, at, 6
        store_i64(offset + 8 * count, event)
        store_i64(size + 8 * count, total - trailer)
        store_u8(kind + count, code)
        count += 1
        at = at + 4 + length


def index_events(
    buffer: npt.NDArray[np.uint8], start: int, end: int, into: EventIndex, *, checksum: bool
) -> tuple[int, int, IndexStop]:
    """Index the packets in buffer[start:end]. Returns the number of events, where the next call has to start, and why
    indexing stopped there.
    """
    arrays = (*into.addresses, len(into))
    count, at, stop = _index(address(buffer), start, end, *arrays, checksum, _TABLES)
    return count, at, IndexStop(stop)


@kernel
def _index_bare(
    base: intp, start: int64, end: int64, offset: intp, size: intp, kind: intp, room: int64
) -> tuple[int64, int64, int64]:
    """Returns (events found, offset of the first byte not indexed, Stop)."""
    count = 0
    at = start
    while at + HEADER_SIZE <= end:
        total = int64(load_u32(base + at + 9))
        if total < HEADER_SIZE:
            return count, at, 5
        if at + total > end:
            break
        if count == room:
            return count, at, 1
        store_i64(offset + 8 * count, at)
        store_i64(size + 8 * count, total)
        store_u8(kind + count, load_u8(base + at + 4))
        count += 1
        at += total
    return count, at, 0


def index_bare_events(
    buffer: npt.NDArray[np.uint8], start: int, end: int, into: EventIndex
) -> tuple[int, int, IndexStop]:
    """Index consecutive events that have neither packet headers nor checksums; returns the same as index_events."""
    arrays = (*into.addresses, len(into))
    count, at, stop = _index_bare(address(buffer), start, end, *arrays)
    return count, at, IndexStop(stop)


def index_event(event: npt.NDArray[np.uint8], into: EventIndex, *, checksum: bool) -> IndexStop:
    """Index a single event, joined from several packets; returns IndexStop.MORE when it is valid."""
    size = len(event)
    if size < HEADER_SIZE + CHECKSUM_SIZE or int.from_bytes(event[9:13].tobytes(), "little") != size:
        return IndexStop.BAD_LENGTH
    trailer = CHECKSUM_SIZE if checksum else 0
    body = event[: size - CHECKSUM_SIZE]
    if checksum and zlib.crc32(body) != int.from_bytes(event[-CHECKSUM_SIZE:].tobytes(), "little"):  # type: ignore[arg-type]
        return IndexStop.BAD_CHECKSUM
    into.offset[0], into.size[0], into.kind[0] = 0, size - trailer, event[4]
    return IndexStop.MORE
