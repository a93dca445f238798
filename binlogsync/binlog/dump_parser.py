"""Splits the bytes of a dump, received in arbitrary chunks, into indexed events, in order.

This module handles the framing of a dump: packets that continue in the next chunk, events of several packets, format
descriptions, and the end of the dump. Its callers interpret the events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from binlogsync.binlog.event_index import (
    CHECKSUM_SIZE,
    HEADER_SIZE,
    EventIndex,
    IndexedEvents,
    IndexStop,
    index_event,
    index_events,
)
from binlogsync.binlog.events import parse_format_description
from binlogsync.binlog.remainder import Remainder, join_packets

Bytes = npt.NDArray[np.uint8]


class BrokenLogError(ValueError):
    """The bytes are not a binlog, or a damaged one; `stop` is the reason."""

    def __init__(self, stop: IndexStop) -> None:
        super().__init__(f"the bytes are not a valid binlog ({stop.name})")
        self.stop = stop


class DumpParser:
    """Parses one dump.

    Args:
        index: receives the events; overwritten by the next ones.
        read_format: called with each format description; returns whether the events after it have checksums, which are
            then verified.
    """

    def __init__(self, index: EventIndex, read_format: Callable[[bytes], bool]) -> None:
        self.server_error: bytes | None = None
        """Payload of the error packet with which the server ended the dump."""
        self.ended = False
        """True when the server has no more events to send."""
        self._index = index
        self._read_format = read_format
        self._checksum = False
        self._spill = Remainder()

    def parse(self, buffer: Bytes, start: int, end: int) -> Iterator[IndexedEvents]:
        """Index the events in buffer[start:end]. These bytes, and those before them, may be overwritten.

        The events refer to the buffer, so the caller has to process them before it requests the next ones. Raises
        BrokenLogError.
        """
        buffer, at, end = self._spill.prepend(buffer, start, end)
        while True:
            count, at, stop = index_events(buffer, at, end, self._index, checksum=self._checksum)
            if count:
                yield self._indexed(buffer, count)
            if stop == IndexStop.FORMAT:
                payload = _payload(buffer, at)
                self._checksum = self._read_format(payload[1:])
                at += 4 + len(payload)
            elif stop == IndexStop.SPLIT:
                joined = join_packets(buffer, at, end)
                if joined is None:
                    break
                event, at = joined
                bad = index_event(event, self._index, checksum=self._checksum)
                if bad != IndexStop.MORE:
                    raise BrokenLogError(bad)
                yield self._indexed(event, 1)
            elif stop in (IndexStop.SERVER_ERROR, IndexStop.END):
                self.ended = stop == IndexStop.END
                self.server_error = _payload(buffer, at) if stop == IndexStop.SERVER_ERROR else None
                return
            elif stop == IndexStop.MORE:
                break
            elif stop != IndexStop.FULL:
                raise BrokenLogError(stop)
        self._spill.keep(buffer, at, end)

    def _indexed(self, buffer: Bytes, count: int) -> IndexedEvents:
        return IndexedEvents(buffer, self._index, count, CHECKSUM_SIZE if self._checksum else 0)


def _payload(buffer: Bytes, at: int) -> bytes:
    """The payload of the packet at `at`."""
    size = int.from_bytes(buffer[at : at + 3].tobytes(), "little")
    return buffer[at + 4 : at + 4 + size].tobytes()


def has_checksums(event: bytes) -> bool:
    """True when the events after this format description have checksums. Raises ValueError when it is invalid."""
    return parse_format_description(event[HEADER_SIZE:]).checksum
