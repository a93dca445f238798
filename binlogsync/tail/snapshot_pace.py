"""How many rows of an incremental snapshot are published at a time, and when.

A change waits at most for the slices of rows that are being stored. A slice has as many rows as the stream stores in a
few milliseconds, if the tail is eager; otherwise in a small part of the flush interval, because large slices cost less,
and then two may be on their way. While changes wait for all rows of a table, slices are as large as they may be.
"""

from __future__ import annotations

from collections import deque

_EAGER_S = 0.01
"""How long storing a slice may take, if the tail is eager."""
_INTERVALS = 0.1
_LONGEST_S = 0.25
"""The same, if it is not: that part of the flush interval, and at most so many seconds."""
_FIRST_ROWS = 500
_FEWEST, _MOST = 50, 20_000
_EAGER_BYTES, _BYTES = 1 << 20, 8 << 20
_BURST_S = 0.2


class SnapshotPace:
    """See the module. Times are seconds of one clock.

    Attributes:
        rows, bytes: largest size of a slice.
        next_s: no slice is published before.
    """

    def __init__(self, interval_s: float, *, is_eager: bool) -> None:
        """How the tail flushes."""
        self.rows = _FIRST_ROWS
        self.next_s = 0.0
        self._own = (_EAGER_S, 1, _EAGER_BYTES)
        if not is_eager:
            self._own = (max(_EAGER_S, min(_LONGEST_S, interval_s * _INTERVALS)), 2, _BYTES)
        self._slice_s, self._in_flight, self.bytes = self._own
        self._rows_per_s: float | None = None
        self._limit = _MOST
        self._sent: deque[float] = deque()
        self._stored_s = 0.0

    def begin(self, rows_per_s: float | None) -> None:
        """A request with this limit begins, or continues after `begin_whole`."""
        self._slice_s, self._in_flight, self.bytes = self._own
        self._rows_per_s = rows_per_s
        # With a limit, slices of at most a fifth of a second, so that the rate is even.
        self._limit = _MOST if rows_per_s is None else max(1, min(_MOST, int(rows_per_s / 5)))
        self.rows = min(_FIRST_ROWS, self._limit)
        self.next_s = 0.0

    def begin_whole(self) -> None:
        """Rows follow for which all changes wait: without a limit, and in the largest slices."""
        self.begin(None)
        self._slice_s, self._in_flight, self.bytes = _LONGEST_S, 2, _BYTES

    def may_publish(self, now_s: float) -> bool:
        """True when a slice may be published now."""
        return len(self._sent) < self._in_flight and now_s >= self.next_s

    def publish(self, rows: int, now_s: float) -> None:
        """A slice is published."""
        self._sent.append(now_s)
        if self._rows_per_s is not None:
            self.next_s = max(self.next_s, now_s - _BURST_S) + rows / self._rows_per_s

    def stored(self, rows: int, now_s: float) -> None:
        """The oldest slice on its way is stored."""
        if not rows or not self._sent:
            return
        seconds = now_s - max(self._sent.popleft(), self._stored_s)
        self._stored_s = now_s
        if rows >= self.rows // 2:
            fitting = int(rows * self._slice_s / max(seconds, 1e-4))
            self.rows = max(min(_FEWEST, self._limit), min(self._limit, fitting, self.rows * 2))
