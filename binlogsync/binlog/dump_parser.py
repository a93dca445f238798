"""Bytes of a dump, cut anywhere -> parts of them with the events that they hold, in order.

The one place that knows how a dump is put together: packets that go on in the next bytes, events of several packets,
format descriptions, and how it ends. What the events say is for those who take the parts.
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
    """Bytes that are no binlog, or a damaged one; `stop` says which."""

    def __init__(self, stop: IndexStop) -> None:
        super().__init__(f"the bytes are no binlog ({stop.name})")
        self.stop = stop


class DumpParser:
    """Walks one dump.

    Args:
        index: where the events of a part are listed; taken over by the next part.
        read_format: gets the event of each format description; returns whether those behind it carry checksums, which
            are then verified.
    """

    def __init__(self, index: EventIndex, read_format: Callable[[bytes], bool]) -> None:
        self.server_error: bytes | None = None
        """Payload of the error packet with which the server has ended the dump."""
        self.ended = False
        """True when the server has no more to send."""
        self._index = index
        self._read_format = read_format
        self._checksum = False
        self._spill = Remainder()

    def parts(self, buffer: Bytes, start: int, end: int) -> Iterator[IndexedEvents]:
        """The events in buffer[start:end]; these bytes, and those in front of them, may be overwritten.

        Nothing of the buffer is kept, so a part has to be used before the next is asked for. Raises BrokenLogError.
        """
        buffer, at, end = self._spill.prepend(buffer, start, end)
        while True:
            count, at, stop = index_events(buffer, at, end, self._index, checksum=self._checksum)
            if count:
                yield self._part(buffer, count)
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
                yield self._part(event, 1)
            elif stop in (IndexStop.SERVER_ERROR, IndexStop.END):
                self.ended = stop == IndexStop.END
                self.server_error = _payload(buffer, at) if stop == IndexStop.SERVER_ERROR else None
                return
            elif stop == IndexStop.MORE:
                break
            elif stop != IndexStop.FULL:
                raise BrokenLogError(stop)
        self._spill.keep(buffer, at, end)

    def _part(self, buffer: Bytes, count: int) -> IndexedEvents:
        return IndexedEvents(buffer, self._index, count, CHECKSUM_SIZE if self._checksum else 0)


def _payload(buffer: Bytes, at: int) -> bytes:
    """The payload of the packet at `at`."""
    size = int.from_bytes(buffer[at : at + 3].tobytes(), "little")
    return buffer[at + 4 : at + 4 + size].tobytes()


def has_checksums(event: bytes) -> bool:
    """What a format description says of the events behind it. Raises ValueError when it is none."""
    return parse_format_description(event[HEADER_SIZE:]).checksum
