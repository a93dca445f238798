"""Collects the progress of several handlers, and stores it in one transaction at intervals.

A transaction of a file takes about as long for twenty handlers as for one, and longer than many handlers take for a
change. Until progress is stored, a kill repeats the changes since the last time, as it does within `Handler`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from binlogsync.consume.progress import ConsumerProgress, ProgressKey, ProgressStore, Tracker
from binlogsync.errors import BinlogSyncError

if TYPE_CHECKING:
    from binlogsync.change_batch import ChangeBatch
    from binlogsync.targets import TableStore
    from binlogsync.targets.records import ConsumerGap, Skip

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Buffered:
    """Progress of one consumer: as stored, as it will be stored (None: it is stored), and why storing it failed."""

    stored: ConsumerProgress
    latest: ConsumerProgress | None = None
    error: BinlogSyncError | None = None


class ProgressBuffer:
    """Buffers the progress that is written through its stores, see `wrap`. Thread-safe."""

    def __init__(self) -> None:
        self._flushing = threading.RLock()
        self._stores: list[BufferedProgress] = []

    def wrap(self, store: ProgressStore) -> BufferedProgress:
        """A store for one consumer that writes to this buffer; progress reaches `store` by `flush`."""
        made = BufferedProgress(store, self._flushing)
        with self._flushing:
            self._stores.append(made)
        return made

    def unwrap(self, store: ProgressStore) -> ProgressStore:
        """Flush and forget a store of `wrap`; returns the one it was made of, or another store as it is."""
        if not isinstance(store, BufferedProgress):
            return store
        store.flush()
        with self._flushing:
            self._stores = [each for each in self._stores if each is not store]
        return store.inner

    def flush(self) -> None:
        """Store all progress. An error of one consumer is raised by its next `move`."""
        with self._flushing:
            by_tables: dict[str | int, list[BufferedProgress]] = {}
            for store in self._stores:
                if store.is_waiting:
                    tables = store.inner.tables
                    by_tables.setdefault(id(store) if tables is None else tables.address, []).append(store)
            for stores in by_tables.values():
                if len(stores) == 1 or not _flush_together(stores):
                    for store in stores:
                        store.flush()


def _flush_together(stores: Sequence[BufferedProgress]) -> bool:
    """Store progress in one transaction; False, and nothing is stored, if that fails for one of them."""
    tables = stores[0].inner.tables
    assert tables is not None
    waiting = [(store, *each) for store in stores for each in store.waiting()]
    try:
        with tables.begin(is_small=True) as transaction:
            moved = transaction.move_all_progress([(key, item.stored, latest) for _, key, item, latest in waiting])
    except BinlogSyncError as error:
        log.debug("storing progress of %d consumers: %s; storing it one by one", len(stores), error)
        return False
    for (store, _, item, latest), one in zip(waiting, moved, strict=True):
        store.confirm(item, latest, one)
    return True


class BufferedProgress(ProgressStore):
    """The progress store of one consumer, see ProgressBuffer.wrap; `inner` is where progress is stored in the end.

    `move` does not wait while progress is being stored.
    """

    def __init__(self, inner: ProgressStore, flushing: threading.RLock) -> None:
        self.inner = inner
        self._flushing = flushing
        self._lock = threading.Lock()
        self._buffered: dict[ProgressKey, _Buffered] = {}

    @property
    def is_waiting(self) -> bool:
        """True if progress is not stored yet."""
        return bool(self.waiting())

    @property
    def tables(self) -> TableStore | None:
        """See ProgressStore."""
        return self.inner.tables

    @property
    def is_held(self) -> bool:
        """See ProgressStore."""
        return self.inner.is_held

    def release(self) -> None:
        """See ProgressStore."""
        self.inner.release()

    def load(self, key: ProgressKey) -> ConsumerProgress:
        """See ProgressStore; what is buffered is stored before. An error of that was raised or is obsolete."""
        with self._flushing:
            self.flush()
            stored = self.inner.load(key)
            with self._lock:
                self._buffered[key] = _Buffered(stored)
            return stored

    def peek(self, key: ProgressKey) -> ConsumerProgress:
        """See ProgressStore: what is stored, not what is buffered."""
        return self.inner.peek(key)

    def move(self, key: ProgressKey, before: ConsumerProgress, after: ConsumerProgress) -> ConsumerProgress:
        """Buffer `after`. Raises the error with which an earlier progress could not be stored."""
        with self._lock:
            item = self._buffered.setdefault(key, _Buffered(before))
            if item.error is not None:
                raise item.error
            item.latest = after
            return replace(after, epoch=before.epoch + 1)

    def flush(self) -> None:
        """Store what is buffered; an error is kept for `move`."""
        with self._flushing:
            for key, item, latest in self.waiting():
                try:
                    self.confirm(item, latest, self.inner.move(key, item.stored, latest))
                except BinlogSyncError as error:
                    item.error = error

    def waiting(self) -> list[tuple[ProgressKey, _Buffered, ConsumerProgress]]:
        """What is buffered, with the progress to store."""
        with self._lock:
            return [
                (key, item, item.latest)
                for key, item in self._buffered.items()
                if item.latest is not None and item.error is None
            ]

    def confirm(self, item: _Buffered, latest: ConsumerProgress, moved: ConsumerProgress) -> None:
        """`latest` was stored as `moved`; later progress may have been buffered meanwhile."""
        with self._lock:
            item.stored = moved
            item.latest = None if item.latest is latest else item.latest

    def stored(self, key: ProgressKey) -> ConsumerProgress | None:
        """What this store has stored last; None while later progress is buffered."""
        with self._lock:
            item = self._buffered.get(key)
            return None if item is None or item.latest is not None else item.stored

    def gaps(self, key: ProgressKey) -> Sequence[ConsumerGap]:
        """See ProgressStore."""
        return self.inner.gaps(key)

    def put_gaps(self, key: ProgressKey, gaps: Sequence[ConsumerGap]) -> None:
        """See ProgressStore."""
        self.inner.put_gaps(key, gaps)

    def skips(self, key: ProgressKey) -> Sequence[Skip]:
        """See ProgressStore."""
        return self.inner.skips(key)

    def skip(self, key: ProgressKey, tracker: Tracker, done: tuple[ChangeBatch, int], skip: Skip) -> ConsumerProgress:
        """See ProgressStore."""
        self.flush()
        return self.inner.skip(key, tracker, done, skip)

    def record_move(self, key: ProgressKey, line: str) -> None:
        """See ProgressStore."""
        self.inner.record_move(key, line)
