"""Positions in memory, shared by threads and lost with the process: for tests, and tails whose sinks suffice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from binlogsync.bookmarks import Bookmark
from binlogsync.position import Checkpoint
from binlogsync.stores import Lease, PositionStore
from binlogsync.stores.lease import ClaimRequest, LeaseRecord, check_held, claim_lease


class MemoryPositionStore(PositionStore):
    """A PositionStore in a dictionary; `clock` returns seconds."""

    name = "memory"

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._checkpoints: dict[str, Checkpoint] = {}
        self._claims: dict[str, LeaseRecord] = {}
        self._bookmarks: dict[str, dict[str, Bookmark]] = {}
        self._facts: dict[str, str] = {}

    def load(self, source: str) -> Checkpoint | None:
        with self._lock:
            return self._checkpoints.get(source)

    def save(self, lease: Lease, checkpoint: Checkpoint) -> None:
        with self._lock:
            self._renew(lease)
            self._checkpoints[lease.source] = checkpoint

    def claim(self, source: str, owner: str, *, take_over: bool = False, stale_s: float = 45.0) -> Lease:
        with self._lock:
            now_s = self._clock()
            claim = claim_lease(source, self._seen(source, now_s), ClaimRequest(owner, take_over, stale_s), now_s)
            self._claims[source] = claim
            return claim.lease(source, now_s)

    def heartbeat(self, lease: Lease) -> None:
        with self._lock:
            self._renew(lease)

    def release(self, lease: Lease) -> None:
        with self._lock:
            held = self._claims.get(lease.source)
            if held is not None and (held.owner, held.epoch) == (lease.owner, lease.epoch):
                self._claims[lease.source] = replace(held, released=True)

    def lease(self, source: str) -> Lease | None:
        with self._lock:
            now_s = self._clock()
            held = self._seen(source, now_s)
            return None if held is None else held.lease(source, now_s)

    def bookmarks(self, source: str) -> Sequence[Bookmark]:
        with self._lock:
            return [each for _, each in sorted(self._bookmarks.get(source, {}).items())]

    def put_bookmark(self, source: str, bookmark: Bookmark) -> None:
        with self._lock:
            self._bookmarks.setdefault(source, {})[bookmark.key] = bookmark

    def delete_bookmark(self, source: str, key: str) -> bool:
        with self._lock:
            return self._bookmarks.get(source, {}).pop(key, None) is not None

    def facts(self, source: str) -> str | None:
        with self._lock:
            return self._facts.get(source)

    def put_facts(self, source: str, text: str) -> None:
        with self._lock:
            self._facts[source] = text

    def close(self) -> None:
        """Keeps its contents, so that a test can open the same store again."""

    def _renew(self, lease: Lease) -> None:
        held = check_held(lease, self._claims.get(lease.source))
        self._claims[lease.source] = replace(held, heard_s=self._clock())

    def _seen(self, source: str, now_s: float) -> LeaseRecord | None:
        """The stored lease; after the clock was set back, its renewal time becomes the current time."""
        held = self._claims.get(source)
        if held is not None:
            held = self._claims[source] = held.at(now_s)
        return held
