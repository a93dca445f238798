"""The flushes that one sink has not stored yet. Not for use by several threads at once.

A sink that merges flushes (`Sink.merges_flushes`) gets many eager flushes as one, when the other rules are due.
"""

from __future__ import annotations

import math
from collections import deque

from binlogsync.flush import Flush, FlushReason
from binlogsync.tail.accumulate import FlushRules

_MERGED: tuple[FlushReason, ...] = ("eager", "snapshot")
"""Reasons of flushes that wait for later ones."""


class SinkQueue:
    """Flushes in order, taken one at a time, or several at once if `merging` has the rules for it."""

    def __init__(self, merging: FlushRules | None = None) -> None:
        self._rules = merging
        self._flushes: deque[Flush] = deque()
        self._rows = self._bytes = 0
        self._opened_s = 0.0
        self._taken = 0
        self._unstored = 0
        self.is_reserved = False
        """True while only the thread of the sink may use it."""

    @property
    def is_empty(self) -> bool:
        """True when the sink has stored all flushes. Any thread may read it at any time."""
        return self._unstored == 0

    @property
    def is_taken(self) -> bool:
        """True while the sink stores flushes."""
        return self._taken > 0

    @property
    def merges(self) -> bool:
        """True when the sink gets several flushes as one."""
        return self._rules is not None

    def put(self, flush: Flush, now_s: float) -> None:
        """Append a flush; `now_s` is of a monotonic clock."""
        if not self._flushes:
            self._opened_s = now_s
        self._flushes.append(flush)
        self._unstored += 1
        self._rows += flush.changes
        self._bytes += flush.nbytes

    def due(self, now_s: float, is_ending: bool) -> FlushReason | None:
        """Why the sink has to store flushes now; None when there is nothing to store, or it waits for more.

        `now_s` is of the same clock; `is_ending` when no flush follows soon.
        """
        if not self._flushes or self._taken:
            return None
        last = self._flushes[-1].reason
        if self._rules is None or last not in _MERGED:
            return last
        if self._rows >= self._rules.rows:
            return "rows"
        if self._bytes >= self._rules.bytes:
            return "bytes"
        if is_ending:
            return "stop"
        return "interval" if self.wait_s(now_s) <= 0 else None

    def wait_s(self, now_s: float) -> float:
        """Seconds until the interval of the first flush is over."""
        if self._rules is None or not self._flushes:
            return math.inf
        return self._opened_s + self._rules.interval_s - now_s

    def take(self) -> list[Flush]:
        """The next flush, or all flushes if they are merged; `stored` has to follow."""
        taken = list(self._flushes) if self.merges else [self._flushes[0]]
        for flush in taken:
            self._flushes.popleft()
            self._rows -= flush.changes
            self._bytes -= flush.nbytes
        self._taken = len(taken)
        return taken

    def take_at_once(self) -> bool:
        """Take the flush that was just put, if it is eager and the sink is idle: its thread need not be woken."""
        if self.merges or self.is_reserved or self._taken or len(self._flushes) > 1:
            return False
        if self._flushes[0].reason != "eager":
            return False
        self.take()
        return True

    def put_back(self, flush: Flush) -> None:
        """Return the taken flush, which is not stored."""
        self._taken = 0
        self._flushes.appendleft(flush)
        self._rows += flush.changes
        self._bytes += flush.nbytes

    def following(self) -> Flush | None:
        """The flush after the taken one, if the sink gets it unchanged."""
        return self._flushes[0] if self._flushes and not self.merges else None

    def stored(self) -> None:
        """The sink has stored what was taken."""
        self._unstored -= self._taken
        self._taken = 0
