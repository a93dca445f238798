"""Saves checkpoints in the position store, at most one in an interval: the sinks have their own."""

from __future__ import annotations

import threading
from collections.abc import Callable

from binlogsync.position import Checkpoint
from binlogsync.waiting import Interval


class CheckpointSaver:
    """Saves the last of many checkpoints. Used by the threads of the sinks and by the thread of the tail.

    A checkpoint that was not saved when a session fails is not needed: a restart begins at that of the sinks.
    """

    def __init__(self, save: Callable[[Checkpoint], None], interval_s: float) -> None:
        """With an interval of 0, each checkpoint is saved at once."""
        self._save = save
        self._interval = Interval(interval_s)
        self._last: Checkpoint | None = None
        self._saved: Checkpoint | None = None
        self._lock = threading.Lock()

    def save(self, checkpoint: Checkpoint) -> None:
        """Save the checkpoint, now or later."""
        with self._lock:
            self._last = checkpoint
            if self._interval.is_due():
                self._save_last()

    def note(self, checkpoint: Checkpoint) -> None:
        """Save the checkpoint at a later `save_later`; never waits."""
        self._last = checkpoint

    def save_later(self) -> None:
        """Save the last checkpoint if the interval is over."""
        if self._last is not self._saved and self._lock.acquire(blocking=False):
            try:
                if self._interval.is_due():
                    self._save_last()
            finally:
                self._lock.release()

    def close(self) -> None:
        """Save the last checkpoint."""
        with self._lock:
            self._save_last()

    def _save_last(self) -> None:
        last = self._last  # another may be noted meanwhile
        if last is not None and last is not self._saved:
            self._save(last)
            self._saved = last
