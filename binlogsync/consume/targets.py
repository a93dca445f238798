"""What a consumer does with the changes of its table: keep a mirror of it (mirror/target.py), or call a handler.

A target stores progress with its rows: in the same DuckDB transaction, or behind what it did. It gets the changes in
order, and has done all of them when `take` returns; where it raises, what it did before is stored with its progress,
and nothing behind the failed change was touched.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol

from binlogsync.consume.progress import ProgressStore, Tracker
from binlogsync.mirror.target import Mirror
from binlogsync.stream.reader import StreamBatch

__all__ = ["Mirror", "Target"]


class Target(Protocol):
    """What `consume` hands the changes to."""

    @property
    def store(self) -> ProgressStore:
        """Where its progress is kept."""

    def take(self, batches: Sequence[StreamBatch], tracker: Tracker, stop: threading.Event) -> None:
        """Do the changes, store progress with them, move the tracker; returns early, in good order, on `stop`."""
