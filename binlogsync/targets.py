"""What a consumer does with the changes of its table: keep a mirror of it, or call the user's handler (handling.py).

A target stores progress with its rows: in the same DuckDB transaction, or behind what it did. It gets the changes in
order, and has done all of them when `take` returns; where it raises, what it did before is stored with its progress,
and nothing behind the failed change was touched.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from binlogsync import mirror
from binlogsync.duckfile import DuckFile
from binlogsync.errors import ConfigError, ConsumeError
from binlogsync.progress import DuckProgress, ProgressStore, Tracker
from binlogsync.stream import StreamBatch


class Target(Protocol):
    """What `consume` hands the changes to."""

    @property
    def store(self) -> ProgressStore:
        """Where its progress is kept."""

    def take(self, batches: Sequence[StreamBatch], tracker: Tracker, stop: threading.Event) -> None:
        """Do the changes, store progress with them, move the tracker; returns early, in good order, on `stop`."""


class Mirror:
    """A DuckDB table `database.table` in the file `path` that stays equal to MySQL's (see mirror.py)."""

    def __init__(self, path: str | Path, database: str, table: str) -> None:
        self.file = DuckFile(path, error=ConsumeError)
        self.store: ProgressStore = DuckProgress(self.file)
        self.database = database
        self.table = table

    def take(self, batches: Sequence[StreamBatch], tracker: Tracker, stop: threading.Event) -> None:
        """All of them in one transaction."""
        for item in batches:
            if (item.batch.schema.database, item.batch.schema.table) != (self.database, self.table):
                raise ConfigError(
                    f"the mirror of {self.database}.{self.table} was given changes of {item.batch.schema.name}"
                )
        with self.file.transaction(keep_open=True) as connection:
            mirror.apply(connection, [item.batch for item in batches])
            moved = tracker.move(connection, [(item.batch, item.last_sequence) for item in batches])
        tracker.confirm(moved, [item.batch for item in batches])
