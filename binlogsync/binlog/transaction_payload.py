"""Decompresses the events in a TRANSACTION_PAYLOAD event, in chunks.

With binlog_transaction_compression a whole transaction is one event: fields, then zstd-compressed events that have
neither packet headers nor checksums. Memory use is bounded by the chunk size and the largest event, not by the size of
the transaction.

Source: libs/mysql/binlog/event/compression/payload_event_buffer_istream.h and codecs/binary.cpp
(Transaction_payload).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import zstandard

from binlogsync.binlog.bytes import ByteReader
from binlogsync.binlog.event_index import HEADER_SIZE, EventIndex, IndexedEvents, IndexStop, index_bare_events

Bytes = npt.NDArray[np.uint8]
PIECE = 8 << 20
_EVENT_LIMIT = 1 << 31  # twice the maximum of max_allowed_packet
_END, _SIZE, _ALGORITHM, _UNFOLDED = range(4)
_ZSTD, _NONE = 0, 255
_UNKNOWN_SIZE = -1  # the frame does not contain its decompressed size
_FIELDS_LIMIT = 256  # bytes; four fields of at most nine bytes each, and room for fields of newer servers


@dataclass(frozen=True, slots=True)
class Payload:
    """The events of a transaction, compressed or not, and their total decompressed size."""

    is_compressed: bool
    size: int
    data: Bytes


def parse_payload(body: Bytes) -> Payload:
    """Read the event's body. Raises ValueError."""
    head = body[:_FIELDS_LIMIT].tobytes()
    reader = ByteReader(head)
    fields: dict[int, int] = {}
    while (field := reader.packed()) != _END:
        value = ByteReader(reader.string(reader.packed()))
        fields[field] = value.packed()
    data = body[len(head) - reader.left :]
    if fields.get(_SIZE, len(data)) != len(data):
        raise ValueError(f"a payload of {fields[_SIZE]} bytes in an event with {len(data)} bytes of payload")
    algorithm = fields.get(_ALGORITHM, _NONE)
    if algorithm not in (_ZSTD, _NONE):
        raise ValueError(f"compression {algorithm} is not known; run: SET GLOBAL binlog_transaction_compression = OFF")
    return Payload(algorithm == _ZSTD, fields.get(_UNFOLDED, len(data)), data)


def payload_events(payload: Payload, index: EventIndex) -> Iterator[IndexedEvents]:
    """The events, in order. The index is overwritten when the next ones are requested, the buffer is not.

    Raises ValueError when the events are invalid, or do not have the declared size.
    """
    if not payload.is_compressed:
        if len(payload.data) != payload.size:
            raise ValueError(f"a payload of {payload.size} bytes with {len(payload.data)} bytes of events")
        if (yield from _indexed(payload.data, index)) != payload.size:
            raise ValueError("the payload ends inside an event")
        return
    try:
        if payload.size <= PIECE:
            yield from _whole(payload, index)
            return
        with zstandard.ZstdDecompressor().stream_reader(payload.data.data, read_across_frames=True) as stream:
            yield from _unfolded(stream, payload.size, index)
            if stream.read(1):
                raise ValueError(f"the payload is longer than the {payload.size} bytes that it declares")
    except zstandard.ZstdError as error:
        raise ValueError(f"the payload cannot be decompressed: {error}") from error


def _whole(payload: Payload, index: EventIndex) -> Iterator[IndexedEvents]:
    """Decompress a small payload at once."""
    declared = zstandard.frame_content_size(payload.data[:_FIELDS_LIMIT].tobytes())
    if declared not in (_UNKNOWN_SIZE, payload.size):
        raise ValueError(f"a payload of {payload.size} bytes whose first frame has {declared}")
    unzipper = zstandard.ZstdDecompressor()
    data = unzipper.decompress(payload.data.data, max_output_size=payload.size, allow_extra_data=False)
    if len(data) != payload.size:
        raise ValueError(f"the payload ends after {len(data)} of {payload.size} bytes")
    if (yield from _indexed(np.frombuffer(data, np.uint8), index)) != payload.size:
        raise ValueError("the payload ends inside an event")


def _unfolded(stream: zstandard.ZstdDecompressionReader, size: int, index: EventIndex) -> Iterator[IndexedEvents]:
    """Decompress in chunks; an incomplete event at the end of a chunk moves to the start of the next one."""
    rest, total = np.empty(0, np.uint8), 0
    while total < size:
        piece = np.empty(min(max(_size_of(rest), PIECE), len(rest) + size - total), np.uint8)
        piece[: len(rest)] = rest
        filled = len(rest)
        while filled < len(piece):
            count = stream.readinto(piece.data[filled:])
            if not count:
                raise ValueError(f"the payload ends after {total} of {size} bytes")
            filled += count
            total += count
        rest = piece[(yield from _indexed(piece, index)) :]
    if len(rest):
        raise ValueError("the payload ends inside an event")


def _size_of(event: Bytes) -> int:
    """Size of an event from its first bytes; 0 when its header is incomplete."""
    if len(event) < HEADER_SIZE:
        return 0
    size = int.from_bytes(event[9:13].tobytes(), "little")
    if size > _EVENT_LIMIT:
        raise ValueError(f"an event of {size} bytes in the payload")
    return size


def _indexed(buffer: Bytes, index: EventIndex) -> Generator[IndexedEvents, None, int]:
    """Index the complete events of a buffer, as many at a time as the index has room for; returns where they end."""
    at, stop = 0, IndexStop.FULL
    while stop == IndexStop.FULL:
        count, at, stop = index_bare_events(buffer, at, len(buffer), index)
        if count:
            yield IndexedEvents(buffer, index, count, 0)
    if stop == IndexStop.BAD_LENGTH:
        raise ValueError("an event in the payload is shorter than its header")
    return at
