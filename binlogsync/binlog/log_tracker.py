"""Which log is being read: the head of its file, and the last event before the position, while events go by.

The kernel notes the events that it walks over in the state (Field.LAST_START and so on); events that Python handles are
noted here. What is not known is left out: a position may have a head without an event, or neither.
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
    """Follows one dump; `state` is that of the walk."""

    def __init__(self, state: npt.NDArray[np.int64], checkpoint: Checkpoint) -> None:
        self._state = state
        self._known = checkpoint.log
        self._head: LogIdentity | None = None
        self._earlier = checkpoint.log  # of the position, until the head of its file is read
        self._looked_at: EventMark | None = None
        self._before = (-1, *_UNKNOWN)  # end, start and mark of the event before the one that is handled
        state[ScanField.LAST_END] = -1
        log = checkpoint.log
        if log is not None and log.event is not None and log.file == checkpoint.position.file:
            self._note(log.event, checkpoint.position.pos)

    def look_at(self, event: npt.NDArray[np.uint8], checksum: bytes) -> None:
        """The event that Python handles next."""
        self._looked_at = EventMark.of(0, event.tobytes(), checksum)

    def passed(self, header: bytes) -> None:
        """The position is behind the event with this header, one of the file itself."""
        mark, self._looked_at = self._looked_at, None
        start, end, packed = (
            int(self._state[field]) for field in (ScanField.LAST_START, ScanField.LAST_END, ScanField.LAST_MARK)
        )
        self._before = (end, start, packed)
        if mark is not None:
            end = int(self._state[ScanField.POS])
            self._note(replace(mark, start=end - int.from_bytes(header[9:13], "little")), end)

    def before(self, begin: int) -> tuple[int, int]:
        """Start and mark of the event before the transaction that begins with the event handled last."""
        end, start, packed = self._before
        return (start, packed) if end == begin else _UNKNOWN

    def see_format(self, file: str, header: bytes) -> None:
        """A format description: its header has the time and the server of the file's first event."""
        begun, server_id = int.from_bytes(header[:4], "little"), int.from_bytes(header[5:9], "little")
        head = LogIdentity(file, begun, server_id)
        known = self._head or self._known
        # A dump that begins inside a file, or by GTID, may leave out what was executed before the file.
        self._head = replace(head, previous=known.previous) if known is not None and known.is_same_head(head) else head

    def see_previous(self, body: bytes) -> None:
        """A Previous_gtids event or GTID list: the transactions that were executed before the file began."""
        if self._head is not None:
            self._head = replace(self._head, previous=digest(body))

    def rotate(self, *, moves: bool) -> None:
        """A file begins. Behind another file the position is the end of that one, until the head of this one is read.

        The first rotation of a dump `moves` to another position, as a dump by GTID does, or not.
        """
        if moves:
            self._earlier = self._head_with_event()
            self._state[ScanField.LAST_END] = -1
        self._head = None

    def head(self, file: str) -> LogIdentity | None:
        """The head of the file that is read."""
        return self._head if self._head is not None and self._head.file == file else None

    def identity(self, file: str) -> LogIdentity | None:
        """The log of the position."""
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
