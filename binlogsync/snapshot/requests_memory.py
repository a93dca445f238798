"""Snapshot requests in memory, shared by threads and lost with the process: for tests."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from binlogsync.errors import StoreError
from binlogsync.snapshot.requests import (
    SnapshotRequest,
    SnapshotRequests,
    SnapshotStatus,
    StoredSnapshot,
    ids_to_forget,
    in_order,
)


class MemorySnapshotRequests(SnapshotRequests):
    """SnapshotRequests in a dictionary."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stored: dict[str, StoredSnapshot] = {}

    def create(self, request: SnapshotRequest) -> StoredSnapshot:
        """See SnapshotRequests."""
        with self._lock:
            if request.id in self._stored:
                raise StoreError(f"a snapshot request {request.id} exists; use another id")
            for id in ids_to_forget(list(self._stored.values())):
                del self._stored[id]
            self._stored[request.id] = stored = StoredSnapshot(request, SnapshotStatus(), 1)
            return stored

    def list(self) -> Sequence[StoredSnapshot]:
        """See SnapshotRequests."""
        with self._lock:
            return in_order(list(self._stored.values()))

    def load(self, id: str) -> StoredSnapshot | None:
        """See SnapshotRequests."""
        with self._lock:
            return self._stored.get(id)

    def update(
        self, before: StoredSnapshot, status: SnapshotStatus, request: SnapshotRequest | None = None
    ) -> StoredSnapshot | None:
        """See SnapshotRequests."""
        id, revision = before.request.id, before.revision
        with self._lock:
            stored = self._stored.get(id)
            if stored is None:
                raise StoreError(f"there is no snapshot request {id}; it was deleted")
            if stored.revision != revision:
                return None
            self._stored[id] = changed = StoredSnapshot(request or stored.request, status, revision + 1)
            return changed
