"""The bytes of a result set, received into one reusable buffer."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
import pymysql
from pymysql.constants import CR

from binlogsync.errors import SourceError
from binlogsync.mysql.result_set.decoding import HEADER, LONG_PACKET

BUFFER_BYTES = 1 << 20
LONGEST_ROW = 2**31 - 2**16
"""Bytes of a row; Arrow's strings end at 2 GiB."""
_EAGER_BYTES = 256 << 10
_LINGER_MS = 1
_END_BYTES = HEADER + 5


class ByteSource(Protocol):
    """The methods of GuardedConnection that give the bytes of an answer."""

    def take_buffered(self) -> bytes: ...
    def readinto(self, view: memoryview) -> int: ...
    def has_bytes(self, timeout_ms: int) -> bool: ...


class ReceiveBuffer:
    """data[start:end] are the received bytes that are not decoded yet. Raises what pymysql and sockets raise."""

    def __init__(self, connection: ByteSource, size: int = BUFFER_BYTES) -> None:
        self._connection = connection
        self.data: npt.NDArray[np.uint8] = np.empty(size, np.uint8)
        self.start = self.end = 0
        self._is_direct = False

    def fill(self) -> None:
        """Wait for bytes, then receive what comes without a pause, up to the size of the buffer."""
        self._make_room()
        view = self.data.data
        self.end += self._require(view[self.end :])
        while self.end - self.start < _EAGER_BYTES and self.end < len(self.data) and not self._may_be_complete():
            if not self._connection.has_bytes(_LINGER_MS):
                return
            count = self._receive(view[self.end :])
            self.end += count
            if count == 0:  # what came before the end may be an error packet that names the reason
                return

    def packet(self) -> npt.NDArray[np.uint8]:
        """The payload of the complete packet at `start`."""
        size = self._size_at_start()
        return self.data[self.start + HEADER : self.start + HEADER + size]

    def take_long_row(self, sequence: int) -> tuple[npt.NDArray[np.uint8], int]:
        """(payload of the row that begins at `start` and takes several packets, next sequence number).

        Raises ValueError when a packet is missing, SourceError when the row is longer than LONGEST_ROW.
        """
        parts, total, size = list[npt.NDArray[np.uint8]](), 0, LONG_PACKET
        while size == LONG_PACKET:
            while self.end - self.start < HEADER:
                self.fill()
            size = self._size_at_start()
            if int(self.data[self.start + 3]) != sequence:
                raise ValueError("a packet is missing")
            sequence, total = (sequence + 1) & 255, total + size
            if total > LONGEST_ROW:
                raise SourceError("a row of more than 2 GiB is not supported; exclude the table with a filter")
            self.start += HEADER
            parts.append(self._take(size))
        return np.concatenate(parts), sequence

    def _take(self, size: int) -> npt.NDArray[np.uint8]:
        found = np.empty(size, np.uint8)
        have = min(size, self.end - self.start)
        found[:have] = self.data[self.start : self.start + have]
        self.start += have
        while have < size:
            have += self._require(found.data[have:])
        return found

    def _make_room(self) -> None:
        """Move the bytes to the front of the buffer, which grows to the size of the packet that they begin."""
        left = self.end - self.start
        size = HEADER + self._size_at_start() if left >= HEADER else 0
        if size > len(self.data):
            data = np.empty(size + BUFFER_BYTES, np.uint8)
        elif self.start == 0 and left < len(self.data):
            return
        else:
            data = self.data
        data[:left] = self.data[self.start : self.end].copy()
        self.data, self.start, self.end = data, 0, left

    def _size_at_start(self) -> int:
        return int.from_bytes(self.data[self.start : self.start + 3].tobytes(), "little")

    def _may_be_complete(self) -> bool:
        """True when the bytes end as a result set does, with a packet of five bytes that begins with 0xfe."""
        end = self.end
        return end - self.start >= _END_BYTES and self.data[end - 9] == 5 and self.data[end - 5] == 0xFE

    def _require(self, view: memoryview) -> int:
        """Bytes received, at least one."""
        count = self._receive(view)
        if count == 0:
            raise pymysql.OperationalError(CR.CR_SERVER_LOST, "the server closed the connection during a result")
        return count

    def _receive(self, view: memoryview) -> int:
        if not self._is_direct:
            # pymysql reads through its own buffer, which may hold the first rows.
            self._is_direct = True
            found = self._connection.take_buffered()
            count = len(found)
            if count > len(view):
                raise ValueError("more bytes are buffered than expected")
            view[:count] = found
        else:
            count = self._connection.readinto(view)
        return count
