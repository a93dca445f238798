"""Tracks the identity of the log at the current position: the head of its file, and the event before the position.

The kernel records each event that it scans in its state (ScanField.LAST_START and so on); this module records the
events that Python handles. Unknown parts are absent: an identity may have a head without an event, or be None.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from binlogsync.binlog.scan_state import ScanField
from binlogsync.log_identity import EventMark, LogIdentity, digest
from binlogsync.position import Checkpoint

_UNKNOWN = (-1, 0)


class LogTracker:
    """Tracks the log of one dump; `state` is the state of the scan."""

    def __init__(self, state: npt.NDArray[np.int64], checkpoint: Checkpoint) -> None:
        self._state = state
        self._known = checkpoint.log
        self._head: LogIdentity | None = None
        self._earlier = checkpoint.log  # of the position, until the head of its file is read
        self._current: EventMark | None = None
        self._before = (-1, *_UNKNOWN)  # end, start and mark of the event before the one that is handled
        state[ScanField.LAST_END] = -1
        log = checkpoint.log
        if log is not None and log.event is not None and log.file == checkpoint.position.file:
            self._note(log.event, checkpoint.position.pos)

    def begin_event(self, event: npt.NDArray[np.uint8], checksum: bytes) -> None:
        """Record the event that Python handles next."""
        self._current = EventMark.of(0, event.tobytes(), checksum)

    def end_event(self, header: bytes) -> None:
        """Record that the position is now after the event with this header, which is an event of the file."""
        mark, self._current = self._current, None
        start, end, packed = (
            int(self._state[field]) for field in (ScanField.LAST_START, ScanField.LAST_END, ScanField.LAST_MARK)
        )
        self._before = (end, start, packed)
        if mark is not None:
            end = int(self._state[ScanField.POS])
            self._note(replace(mark, start=end - int.from_bytes(header[9:13], "little")), end)

    def event_before(self, begin: int) -> tuple[int, int]:
        """Start and mark of the event that precedes the transaction whose first event was handled last."""
        end, start, packed = self._before
        return (start, packed) if end == begin else _UNKNOWN

    def record_format(self, file: str, header: bytes) -> None:
        """Record a format description: its header has the time and server id of the file's first event."""
        begun, server_id = int.from_bytes(header[:4], "little"), int.from_bytes(header[5:9], "little")
        head = LogIdentity(file, begun, server_id)
        known = self._head or self._known
        # A dump that begins inside a file, or by GTID, may not contain the GTIDs executed before the file.
        self._head = replace(head, previous=known.previous) if known is not None and known.is_same_head(head) else head

    def record_previous_gtids(self, body: bytes) -> None:
        """Record a Previous_gtids event or GTID list: the transactions executed before the file began."""
        if self._head is not None:
            self._head = replace(self._head, previous=digest(body))

    def rotate(self, *, moves: bool) -> None:
        """Record that a file begins. The identity is that of the preceding file until the head of this one is read.

        `moves` is False for the first rotation of a dump when it names the position that was requested.
        """
        if moves:
            self._earlier = self._head_with_event()
            self._state[ScanField.LAST_END] = -1
        self._head = None

    def head(self, file: str) -> LogIdentity | None:
        """The head of the file, if it has been read."""
        return self._head if self._head is not None and self._head.file == file else None

    def identity(self, file: str) -> LogIdentity | None:
        """The identity of the log at the position."""
        return self._earlier if self.head(file) is None else self._head_with_event()

    def _head_with_event(self) -> LogIdentity | None:
        if self._head is None:
            return None
        state, event = self._state, None
        if state[ScanField.LAST_END] == state[ScanField.POS]:
            event = EventMark.unpacked(int(state[ScanField.LAST_START]), int(state[ScanField.LAST_MARK]))
        return self._head.with_event(event)

    def _note(self, event: EventMark, end: int) -> None:
        state = self._state
        state[ScanField.LAST_START], state[ScanField.LAST_END], state[ScanField.LAST_MARK] = (
            event.start,
            end,
            event.packed,
        )
