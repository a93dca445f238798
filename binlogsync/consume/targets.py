"""Targets: what a consumer does with the changes of its table. One is a mirror (mirror/target.py), one calls a handler.

A target stores progress with its rows in the same DuckDB transaction, or after it applied the changes. It gets changes
in order, and has applied all of them when `take` returns. If it raises, the changes before the failed one are stored
with their progress, and no later change was applied.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol

from binlogsync.consume.progress import ProgressStore, Tracker
from binlogsync.stream.reader import StreamBatch


class Target(Protocol):
    """Receives the changes from `consume`."""

    @property
    def store(self) -> ProgressStore:
        """The store of its progress."""

    def take(self, batches: Sequence[StreamBatch], tracker: Tracker, stop: threading.Event) -> None:
        """Apply the changes, store progress with them, advance the tracker; returns early and cleanly on `stop`."""
