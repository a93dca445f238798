"""Where consumers store their progress (targets/progress.py): in the transaction of their rows, or elsewhere.

A consumer whose target does not store it stores it after it applied the changes (ProgressStore).
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from binlogsync.errors import ConfigError
from binlogsync.targets.progress import NO_PROGRESS, ConsumerProgress, ProgressKey, progress_at

if TYPE_CHECKING:
    from binlogsync.change_batch import ChangeBatch
    from binlogsync.targets import TableStore, TableTransaction
    from binlogsync.targets.records import ConsumerGap, Skip

__all__ = [
    "NO_PROGRESS",
    "ConsumerProgress",
    "TableProgress",
    "ProgressKey",
    "ProgressStore",
    "Tracker",
    "progress_at",
]


class ProgressStore(Protocol):
    """Stores the progress of consumers.

    A store is a subclass: it implements `load` and `move`, and overrides the other methods if it supports them.
    """

    @property
    def tables(self) -> TableStore | None:
        """Where a target can store rows and progress in one transaction; None for other stores.

        Gaps, skips and rewinds of such a store are stored there too, and the methods below are not called for them.
        """
        return None

    @property
    def is_held(self) -> bool:
        """True while a resource is open for which other processes wait."""
        return False

    def release(self) -> None:
        """Release that resource."""
        return

    @abstractmethod
    def load(self, key: ProgressKey) -> ConsumerProgress:
        """The stored progress; NO_PROGRESS for a new consumer."""

    def peek(self, key: ProgressKey) -> ConsumerProgress:
        """Like `load`, but the next `move` still fails if another process has changed the progress before this call."""
        return self.load(key)

    @abstractmethod
    def move(self, key: ProgressKey, before: ConsumerProgress, after: ConsumerProgress) -> ConsumerProgress:
        """Store `after` if `before` is still stored; returns it as stored. Raises ConsumeError otherwise."""

    def gaps(self, key: ProgressKey) -> Sequence[ConsumerGap]:
        """All gaps of a consumer, in order; empty if the store does not store gaps."""
        return ()

    def put_gaps(self, key: ProgressKey, gaps: Sequence[ConsumerGap]) -> None:
        """Replace what `gaps` returned last. Raises ConsumeError when another process has changed it since."""
        return

    def skips(self, key: ProgressKey) -> Sequence[Skip]:
        """The skips of a consumer, in order; empty if the store does not support them."""
        return ()

    def skip(self, key: ProgressKey, tracker: Tracker, done: tuple[ChangeBatch, int], skip: Skip) -> ConsumerProgress:
        """Store the skip, and move progress past its change; returns progress as stored.

        Raises ConfigError if the store does not support skips.
        """
        raise ConfigError(f"{key}: its progress store does not support skips")

    def record_move(self, key: ProgressKey, line: str) -> None:
        """Append a line to the record of rewinds, if the store has one."""
        return


class TableProgress(ProgressStore):
    """Progress in the target: one that writes rows updates it in the same transaction."""

    def __init__(self, tables: TableStore) -> None:
        self._tables = tables

    @property
    def tables(self) -> TableStore:
        """Where rows and progress are stored."""
        return self._tables

    @property
    def is_held(self) -> bool:
        """True while other processes wait."""
        return self._tables.is_open

    def release(self) -> None:
        """Let other processes in."""
        self._tables.release()

    def load(self, key: ProgressKey) -> ConsumerProgress:
        """See ProgressStore."""
        with self._tables.begin() as transaction:
            return transaction.load_progress(key)

    def move(self, key: ProgressKey, before: ConsumerProgress, after: ConsumerProgress) -> ConsumerProgress:
        """See ProgressStore."""
        with self._tables.begin() as transaction:
            return transaction.move_progress(key, before, after)


class Tracker:
    """Progress of a running consumer: stored in a transaction, confirmed after its commit."""

    def __init__(self, key: ProgressKey, progress: ConsumerProgress) -> None:
        self.key = key
        self.progress = progress
        self.counts: Counter[str] = Counter()
        self.applied = 0  # number of changes that were confirmed, with schema changes
        self.stream: str | None = None  # the stream that is read, once it is proven where to start in it
        self.first: ConsumerProgress | None = None
        self.lag_s: float | None = None

    def move(self, transaction: TableTransaction, done: Sequence[tuple[ChangeBatch, int]]) -> ConsumerProgress:
        """Store progress after these batches in the open transaction; each comes with its last change's sequence."""
        return transaction.move_progress(self.key, self.progress, self.after(done))

    def advance(self, store: ProgressStore, done: Sequence[tuple[ChangeBatch, int]]) -> None:
        """Store progress after these batches in a separate transaction, and confirm it."""
        moved = store.move(self.key, self.progress, self.after(done))
        self.confirm(moved, [batch for batch, _ in done])

    def after(self, done: Sequence[tuple[ChangeBatch, int]]) -> ConsumerProgress:
        """Progress after these batches."""
        moved, stream = self.progress, self.stream or self.progress.stream
        for batch, sequence in done:
            moved = moved.after(batch, sequence, stream)
        return moved if done else replace(moved, stream=stream)

    def confirm(self, moved: ConsumerProgress, batches: Sequence[ChangeBatch]) -> None:
        """Adopt the progress that `move` returned, after its transaction was committed."""
        self.progress = moved
        for batch in batches:
            self.applied += len(batch)
            if batch.ddl is not None:
                continue
            if self.first is None:
                self.first = progress_at(batch, 0, 0, 0)
            self.counts.update(batch.count_ops())
        self.lag_s = time.time() - batches[-1].source_values(len(batches[-1]) - 1).ts_us / 1e6

    def begin(self, store: ProgressStore, sequence: int, stream: str | None) -> None:
        """Store that the messages of the stream before `sequence` need not be delivered."""
        moved = replace(self.progress, sequence=0, seen=sequence - 1, stream=stream)
        self.progress = store.move(self.key, self.progress, moved)

    def see(self, store: ProgressStore, sequence: int) -> None:
        """Store that the stream has no further changes of this table up to `sequence`, if it is proven."""
        if not self.progress.epoch or self.stream is None:
            return
        moved = replace(self.progress, seen=max(sequence, self.progress.seen), stream=self.stream)
        if moved != self.progress:
            self.progress = store.move(self.key, self.progress, moved)
