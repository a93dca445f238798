"""Snapshot requests in the key-value bucket CDC_<SOURCE>_snapshots of NATS, one key for each."""

from __future__ import annotations

import builtins
import logging
from collections.abc import Sequence

from binlogsync.codec.subjects import key_value_bucket, stream_name
from binlogsync.errors import StoreError
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.key_value import KeyValueBucket
from binlogsync.nats.lazy_bucket import LazyBucket
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


class NatsSnapshotRequests(SnapshotRequests):
    """SnapshotRequests in NATS. It connects when it is first used.

    Args:
        options: how to connect.
        source: name of the source.
    """

    def __init__(self, options: NatsOptions, source: str) -> None:
        name = key_value_bucket(source, "snapshots")
        self._bucket = LazyBucket(options, name, "snapshot requests", stream_name(source))
        self._unreadable: set[tuple[str, int]] = set()
        self._listed: tuple[tuple[object, ...], list[StoredSnapshot]] | None = None

    def create(self, request: SnapshotRequest) -> StoredSnapshot:
        """See SnapshotRequests. The stream of the source has to exist."""
        status = SnapshotStatus()

        def create(bucket: KeyValueBucket) -> int | None:
            stored = self._read_all(bucket)
            for id in ids_to_forget(stored):
                bucket.delete(id)
            if any(each.request.id == request.id for each in stored):
                return None
            return bucket.put(request.id, to_json(request, status), 0)

        revision = self._bucket.call(create)
        if revision is None:
            raise StoreError(f"a snapshot request {request.id} exists; use another id")
        return StoredSnapshot(request, status, revision)

    def list(self) -> Sequence[StoredSnapshot]:
        """See SnapshotRequests."""
        return self._bucket.call(self._list)

    def load(self, id: str) -> StoredSnapshot | None:
        """See SnapshotRequests."""
        found = self._bucket.call(lambda bucket: bucket.get(id))
        return None if found is None else from_json(*found)

    def update(
        self, before: StoredSnapshot, status: SnapshotStatus, request: SnapshotRequest | None = None
    ) -> StoredSnapshot | None:
        """See SnapshotRequests."""
        id, new = before.request.id, request or before.request
        changed = self._bucket.call(lambda bucket: bucket.put(id, to_json(new, status), before.revision))
        if changed is None and self.load(id) is None:
            raise StoreError(f"there is no snapshot request {id}; it was deleted")
        return None if changed is None else StoredSnapshot(new, status, changed)

    def close(self) -> None:
        """See SnapshotRequests."""
        self._bucket.close()

    def _list(self, bucket: KeyValueBucket) -> builtins.list[StoredSnapshot]:
        """All requests: one request to the server while nothing has changed."""
        state = bucket.state()
        if state is None:
            return []
        if self._listed is None or self._listed[0] != state:
            self._listed = (state, in_order(self._read_all(bucket)))
        return self._listed[1]

    def _read_all(self, bucket: KeyValueBucket) -> builtins.list[StoredSnapshot]:
        """All requests that can be read; there is one warning about each other record."""
        found = []
        for key, (text, revision) in bucket.entries("*").items():
            try:
                found.append(from_json(text, revision))
            except StoreError as error:
                if (key, revision) not in self._unreadable:
                    self._unreadable.add((key, revision))
                    log.warning("bucket %s, key %s: %s; it is left out", self._bucket.name, key, error)
        return found
