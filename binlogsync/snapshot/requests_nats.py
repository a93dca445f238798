"""Snapshot requests in the key-value bucket CDC_<SOURCE>_snapshots of NATS, one key for each."""

from __future__ import annotations

import builtins
import logging
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from binlogsync.codec.subjects import key_value_bucket, stream_name
from binlogsync.errors import SinkError, StoreError
from binlogsync.nats.client import NatsConnection, NatsOptions
from binlogsync.nats.key_value import KeyValueBucket
from binlogsync.snapshot.requests import (
    SnapshotRequest,
    SnapshotRequests,
    SnapshotStatus,
    StoredSnapshot,
    from_json,
    ids_to_forget,
    in_order,
    to_json,
)

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class NatsSnapshotRequests(SnapshotRequests):
    """SnapshotRequests in NATS. It connects when it is first used.

    Args:
        options: how to connect.
        source: name of the source.
    """

    def __init__(self, options: NatsOptions, source: str) -> None:
        stream = stream_name(source)
        self._options = options
        self._connection = NatsConnection(options, "binlogsync snapshots")
        self._bucket = KeyValueBucket(self._connection, key_value_bucket(source, "snapshots"), stream=stream)
        self._lock = threading.Lock()
        self._opened = self._closed = False
        self._unreadable: set[tuple[str, int]] = set()
        self._listed: tuple[tuple[object, ...], list[StoredSnapshot]] | None = None

    def create(self, request: SnapshotRequest) -> StoredSnapshot:
        """See SnapshotRequests. The stream of the source has to exist."""
        status = SnapshotStatus()

        def create() -> int | None:
            stored = self._read_all()
            for id in ids_to_forget(stored):
                self._bucket.delete(id)
            if any(each.request.id == request.id for each in stored):
                return None
            return self._bucket.put(request.id, to_json(request, status), 0)

        revision = self._call(create)
        if revision is None:
            raise StoreError(f"a snapshot request {request.id} exists; use another id")
        return StoredSnapshot(request, status, revision)

    def list(self) -> Sequence[StoredSnapshot]:
        """See SnapshotRequests."""
        return self._call(self._list)

    def load(self, id: str) -> StoredSnapshot | None:
        """See SnapshotRequests."""
        found = self._call(lambda: self._bucket.get(id))
        return None if found is None else from_json(*found)

    def update(
        self, id: str, revision: int, status: SnapshotStatus, request: SnapshotRequest | None = None
    ) -> StoredSnapshot | None:
        """See SnapshotRequests."""
        if request is None:
            stored = self.load(id)
            if stored is None:
                raise StoreError(f"there is no snapshot request {id}; it was deleted")
            if stored.revision != revision:
                return None
            request = stored.request
        new = request
        changed = self._call(lambda: self._bucket.put(id, to_json(new, status), revision))
        if changed is None and self.load(id) is None:
            raise StoreError(f"there is no snapshot request {id}; it was deleted")
        return None if changed is None else StoredSnapshot(new, status, changed)

    def close(self) -> None:
        """See SnapshotRequests."""
        self._closed = True
        self._connection.close()

    def _list(self) -> builtins.list[StoredSnapshot]:
        """All requests: one request to the server while nothing has changed."""
        state = self._bucket.state()
        if state is None:
            return []
        if self._listed is None or self._listed[0] != state:
            self._listed = (state, in_order(self._read_all()))
        return self._listed[1]

    def _read_all(self) -> builtins.list[StoredSnapshot]:
        """All requests that can be read; there is one warning about each other record."""
        found = []
        for key, (text, revision) in self._bucket.entries("*").items():
            try:
                found.append(from_json(text, revision))
            except StoreError as error:
                if (key, revision) not in self._unreadable:
                    self._unreadable.add((key, revision))
                    log.warning("bucket %s, key %s: %s; it is left out", self._bucket.name, key, error)
        return found

    def _call(self, work: Callable[[], Result]) -> Result:
        if self._closed:
            raise StoreError(f"NATS at {self._options.address}: these snapshot requests are closed; make new ones")
        try:
            with self._lock:
                if not self._opened:
                    self._connection.open()
                    self._opened = True
            return work()
        except SinkError as error:
            raise StoreError(f"snapshot requests in the bucket {self._bucket.name}: {error}") from error
