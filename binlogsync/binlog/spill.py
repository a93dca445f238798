"""What is left of one buffer for the next: the start of an event that is not whole, and events of many packets."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from binlogsync.binlog.frames import PACKET_LIMIT

Bytes = npt.NDArray[np.uint8]


class Spill:
    """Keeps the end of a buffer until the rest of it comes."""

    def __init__(self) -> None:
        self._store: Bytes = np.empty(1 << 16, np.uint8)
        self._size = 0

    def keep(self, buffer: Bytes, start: int, end: int) -> None:
        """Keep buffer[start:end] for the next `prepend`."""
        size = end - start
        if buffer is self._store:
            if start:
                self._store[:size] = self._store[start:end].copy()
        else:
            self._grow(size, keep=0)
            self._store[:size] = buffer[start:end]
        self._size = size

    def prepend(self, buffer: Bytes, start: int, end: int) -> tuple[Bytes, int, int]:
        """What was kept and then buffer[start:end], as (buffer, start, end).

        In place when the buffer has room in front; else behind what was kept, in memory that grows by doubling, so
        that an event of many buffers is not copied again for each.
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
            grown = np.empty(max(size, 2 * len(self._store)), np.uint8)
            grown[:keep] = self._store[:keep]
            self._store = grown


def join_packets(buffer: Bytes, at: int, end: int) -> tuple[Bytes, int] | None:
    """The event whose packets begin at `at`, and the offset behind them; None while the last packet is not whole.

    A packet of 16 MiB - 1 bytes goes on in the next one; the first starts with the byte 0x00 that is not the event's.
    """
    parts: list[Bytes] = []
    while True:
        if at + 4 > end:
            return None
        size = int.from_bytes(buffer[at : at + 3].tobytes(), "little")
        if at + 4 + size > end:
            return None
        parts.append(buffer[at + 4 : at + 4 + size])
        at += 4 + size
        if size < PACKET_LIMIT:
            return np.concatenate(parts)[1:].copy(), at
