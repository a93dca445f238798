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
        self._unsaved: Checkpoint | None = None
        self._lock = threading.Lock()

    def save(self, checkpoint: Checkpoint) -> None:
        """Save the checkpoint, now or later."""
        with self._lock:
            self._unsaved = checkpoint
            self._save_if_due()

    def save_later(self) -> None:
        """Save the last checkpoint if the interval is over."""
        if self._unsaved is not None and self._lock.acquire(blocking=False):
            try:
                self._save_if_due()
            finally:
                self._lock.release()

    def close(self) -> None:
        """Save the last checkpoint."""
        with self._lock:
            if self._unsaved is not None:
                self._save_unsaved(self._unsaved)

    def _save_if_due(self) -> None:
        if self._unsaved is not None and self._interval.is_due():
            self._save_unsaved(self._unsaved)

    def _save_unsaved(self, checkpoint: Checkpoint) -> None:
        self._save(checkpoint)
        self._unsaved = None
