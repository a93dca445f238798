"""Positions in memory, shared by threads and lost with the process: for tests, and tails whose sinks suffice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from binlogsync.bookmarks import Bookmark
from binlogsync.position import Checkpoint
from binlogsync.stores import BookmarkStore, CheckpointStore, Lease, LeaseStore, PositionStore
from binlogsync.stores.lease import ClaimRequest, LeaseRecord, check_held, claim_lease


class MemoryLeases(LeaseStore):
    """A LeaseStore in a dictionary; `clock` returns seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.lock = threading.RLock()
        self._clock = clock
        self._records: dict[str, LeaseRecord] = {}

    def load(self, source: str) -> Lease | None:
        with self.lock:
            now_s = self._clock()
            held = self._seen(source, now_s)
            return None if held is None else held.lease(source, now_s)

    def claim(self, source: str, owner: str, *, take_over: bool = False, stale_s: float = 45.0) -> Lease:
        with self.lock:
            now_s = self._clock()
            claim = claim_lease(source, self._seen(source, now_s), ClaimRequest(owner, take_over, stale_s), now_s)
            self._records[source] = claim
            return claim.lease(source, now_s)

    def renew(self, lease: Lease) -> None:
        with self.lock:
            held = check_held(lease, self._records.get(lease.source))
            self._records[lease.source] = replace(held, heard_s=self._clock())

    def release(self, lease: Lease) -> None:
        with self.lock:
            held = self._records.get(lease.source)
            if held is not None and (held.owner, held.epoch) == (lease.owner, lease.epoch):
                self._records[lease.source] = replace(held, released=True)

    def _seen(self, source: str, now_s: float) -> LeaseRecord | None:
        """The stored lease; after the clock was set back, its renewal time becomes the current time."""
        held = self._records.get(source)
        if held is not None:
            held = self._records[source] = held.at(now_s)
        return held


class MemoryCheckpoints(CheckpointStore):
    """A CheckpointStore in a dictionary; a save renews the lease."""

    def __init__(self, leases: MemoryLeases) -> None:
        self._leases = leases
        self._checkpoints: dict[str, Checkpoint] = {}
        self._facts: dict[str, str] = {}

    def load(self, source: str) -> Checkpoint | None:
        return self._checkpoints.get(source)

    def save(self, lease: Lease, checkpoint: Checkpoint) -> None:
        with self._leases.lock:
            self._leases.renew(lease)
            self._checkpoints[lease.source] = checkpoint

    def delete(self, lease: Lease) -> None:
        with self._leases.lock:
            self._leases.renew(lease)
            self._checkpoints.pop(lease.source, None)
            self._facts.pop(lease.source, None)

    def load_facts(self, source: str) -> str | None:
        return self._facts.get(source)

    def save_facts(self, source: str, text: str) -> None:
        self._facts[source] = text


class MemoryBookmarks(BookmarkStore):
    """A BookmarkStore in a dictionary."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bookmarks: dict[str, dict[str, Bookmark]] = {}

    def load(self, source: str) -> Sequence[Bookmark]:
        with self._lock:
            return [each for _, each in sorted(self._bookmarks.get(source, {}).items())]

    def put(self, source: str, bookmark: Bookmark) -> None:
        with self._lock:
            self._bookmarks.setdefault(source, {})[bookmark.key] = bookmark

    def delete(self, source: str, key: str) -> bool:
        with self._lock:
            return self._bookmarks.get(source, {}).pop(key, None) is not None


class MemoryPositionStore(PositionStore):
    """The three stores in memory; `close` keeps their contents, so that a test can open the same store again."""

    name = "memory"

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        leases = MemoryLeases(clock)
        super().__init__(MemoryCheckpoints(leases), MemoryBookmarks(), leases)
