"""Keeps the incomplete event at the end of a buffer for the next one, and joins events of several packets."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from binlogsync.binlog.event_index import PACKET_LIMIT

Bytes = npt.NDArray[np.uint8]


_LARGEST_EVENT = (1 << 30) + (1 << 26)  # the maximum of max_allowed_packet, 1 GiB, and room for overhead
_LARGE = 64 << 20
_SMALL = 1 << 16


class Remainder:
    """Stores the incomplete event at the end of a buffer until the next buffer is received."""

    def __init__(self) -> None:
        self._store: Bytes = np.empty(_SMALL, np.uint8)
        self._size = 0

    def keep(self, buffer: Bytes, start: int, end: int) -> None:
        """Store buffer[start:end] for the next `prepend`; frees the memory of an earlier, much larger event."""
        size = end - start
        if len(self._store) > max(_LARGE, 8 * size):
            self._store = np.empty(max(_SMALL, size), np.uint8)
        if buffer is self._store:
            if start:
                self._store[:size] = self._store[start:end].copy()
        else:
            self._grow(size, keep=0)
            self._store[:size] = buffer[start:end]
        self._size = size

    def prepend(self, buffer: Bytes, start: int, end: int) -> tuple[Bytes, int, int]:
        """The stored bytes followed by buffer[start:end], as (buffer, start, end).

        Copies the stored bytes before `start` if there is room. Otherwise appends the buffer to the stored bytes, in
        memory for the complete event if its size is known, so that it is not copied again for each buffer.
        """
        if not self._size:
            return buffer, start, end
        if self._size <= start:
            buffer[start - self._size : start] = self._store[: self._size]
            return buffer, start - self._size, end
        total = self._size + end - start
        self._grow(total, keep=self._size)
        self._store[self._size : total] = buffer[start:end]
        return self._store, 0, total

    def _grow(self, size: int, keep: int) -> None:
        if size > len(self._store):
            expected = _packets_size(self._store[:keep]) + size - keep
            grown = np.empty(max(size, expected or 2 * len(self._store)), np.uint8)
            grown[:keep] = self._store[:keep]
            self._store = grown


def _packets_size(kept: Bytes) -> int:
    """Total size of the packets of the event that begins here, when it has several; else 0."""
    head = kept[:18].tobytes()
    if len(head) < 18 or int.from_bytes(head[:3], "little") < PACKET_LIMIT:
        return 0
    size = int.from_bytes(head[14:18], "little")
    return size + 5 + 4 * (size // PACKET_LIMIT + 1) if size <= _LARGEST_EVENT else 0


def join_packets(buffer: Bytes, at: int, end: int) -> tuple[Bytes, int] | None:
    """The event whose packets begin at `at`, and the offset after them; None while the last packet is incomplete.

    A packet of 16 MiB - 1 bytes continues in the next one. The first begins with a byte 0x00 that is not part of the
    event. The event is joined within the buffer, by overwriting the packet headers.
    """
    pieces: list[tuple[int, int]] = []
    behind, size = at, PACKET_LIMIT
    while size == PACKET_LIMIT:
        if behind + 4 > end:
            return None
        size = int.from_bytes(buffer[behind : behind + 3].tobytes(), "little")
        pieces.append((behind + 4, size))
        behind += 4 + size
    if behind > end:
        return None
    whole = at + 4
    for start, size in pieces:
        if start != whole:
            buffer[whole : whole + size] = buffer[start : start + size]
        whole += size
    return buffer[at + 5 : whole], behind
