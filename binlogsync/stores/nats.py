"""Stores in a NATS key-value bucket: for tails that may start on any machine, without a further server.

Keys are `position/<source>` (checkpoint and lease as JSON), `facts/<source>` and `bookmarks/<source>.<key>`, with names
in hex. An update is conditional on the revision that was read; times come from the server's clock.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from functools import partial
from typing import NamedTuple

from binlogsync.bookmarks import Bookmark
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.key_value import KeyValueBucket
from binlogsync.nats.lazy_bucket import LazyBucket
from binlogsync.position import Checkpoint
from binlogsync.stores import BookmarkStore, CheckpointStore, Lease, LeaseStore, PositionStore
from binlogsync.stores.lease import ClaimRequest, LeaseRecord, check_held, claim_lease


class PositionRecord(NamedTuple):
    """The stored lease, and the checkpoint's text."""

    lease: LeaseRecord | None
    checkpoint: str | None


class PositionBucket(LazyBucket):
    """The bucket that the three stores share."""

    def __init__(self, options: NatsOptions, name: str) -> None:
        super().__init__(options, name, "positions")

    def get(self, key: str) -> str | None:
        """The text of a key."""
        found = self.call(lambda bucket: bucket.get(key))
        return None if found is None else found[0].decode()

    def load(self, source: str) -> tuple[PositionRecord, int]:
        """(record of the source, its revision). Raises StoreError."""

        def load(bucket: KeyValueBucket) -> tuple[PositionRecord, int]:
            found = bucket.get(f"position/{_hex(source)}")
            if found is None:
                return PositionRecord(None, None), 0
            record = json.loads(found[0])
            return PositionRecord(LeaseRecord(**record["claim"]), record["checkpoint"]), found[1]

        return self.call(load)

    def change(self, source: str, change: Callable[[PositionRecord, float], PositionRecord]) -> PositionRecord:
        """Apply `change` to the stored record, and retry while another process updates it; returns the new record."""
        while True:
            kept, revision = self.load(source)
            changed = change(kept, self.now_s())
            record = {"claim": changed.lease and asdict(changed.lease), "checkpoint": changed.checkpoint}
            key, value = f"position/{_hex(source)}", json.dumps(record).encode()
            put = partial(KeyValueBucket.put, key=key, value=value, revision=revision)
            if changed == kept or self.call(put) is not None:
                return changed

    def renew(self, lease: Lease, checkpoint: str | None = None) -> None:
        """Renew the lease, and store the checkpoint with it."""

        def renewed(kept: PositionRecord, now_s: float) -> PositionRecord:
            return PositionRecord(replace(check_held(lease, kept.lease), heard_s=now_s), checkpoint or kept.checkpoint)

        self.change(lease.source, renewed)

    def delete_checkpoint(self, lease: Lease) -> None:
        """Renew the lease, and delete the checkpoint with it."""

        def deleted(kept: PositionRecord, now_s: float) -> PositionRecord:
            return PositionRecord(replace(check_held(lease, kept.lease), heard_s=now_s), None)

        self.change(lease.source, deleted)

    def now_s(self) -> float:
        """The server's clock."""

        def ask(bucket: KeyValueBucket) -> float:
            request = f"$JS.API.STREAM.INFO.KV_{bucket.name}"
            answer = json.loads(self.connection.retry(lambda client: client.request(request)).data)
            return datetime.fromisoformat(answer["ts"]).timestamp()

        return self.call(ask)


class NatsCheckpoints(CheckpointStore):
    """The checkpoint in a source's record, and the key of facts; a save renews the lease."""

    def __init__(self, bucket: PositionBucket) -> None:
        self._bucket = bucket

    def load(self, source: str) -> Checkpoint | None:
        text = self._bucket.load(source)[0].checkpoint
        return None if text is None else self._bucket.call(lambda _: Checkpoint.from_text(text))

    def save(self, lease: Lease, checkpoint: Checkpoint) -> None:
        self._bucket.renew(lease, checkpoint.to_text())

    def delete(self, lease: Lease) -> None:
        self._bucket.delete_checkpoint(lease)
        facts = f"facts/{_hex(lease.source)}"
        if self._bucket.get(facts) is not None:
            self._bucket.call(lambda bucket: bucket.delete(facts))

    def load_facts(self, source: str) -> str | None:
        return self._bucket.get(f"facts/{_hex(source)}")

    def save_facts(self, source: str, text: str) -> None:
        self._bucket.call(lambda bucket: bucket.put(f"facts/{_hex(source)}", text.encode()))


class NatsBookmarks(BookmarkStore):
    """One key for each bookmark."""

    def __init__(self, bucket: PositionBucket) -> None:
        self._bucket = bucket

    def load(self, source: str) -> Sequence[Bookmark]:
        def load(bucket: KeyValueBucket) -> Sequence[Bookmark]:
            texts = bucket.values(f"bookmarks/{_hex(source)}.*")
            return sorted(map(Bookmark.from_text, texts), key=lambda each: each.key)

        return self._bucket.call(load)

    def put(self, source: str, bookmark: Bookmark) -> None:
        name = f"bookmarks/{_hex(source)}.{_hex(bookmark.key)}"
        self._bucket.call(lambda bucket: bucket.put(name, bookmark.to_text().encode()))

    def delete(self, source: str, key: str) -> bool:
        name = f"bookmarks/{_hex(source)}.{_hex(key)}"
        if self._bucket.get(name) is None:
            return False
        self._bucket.call(lambda bucket: bucket.delete(name))
        return True


class NatsLeases(LeaseStore):
    """The lease in a source's record."""

    def __init__(self, bucket: PositionBucket) -> None:
        self._bucket = bucket

    def load(self, source: str) -> Lease | None:
        held, now_s = self._bucket.load(source)[0].lease, self._bucket.now_s()
        return None if held is None else held.at(now_s).lease(source, now_s)

    def claim(self, source: str, owner: str, *, take_over: bool = False, stale_s: float = 45.0) -> Lease:
        def claimed(kept: PositionRecord, now_s: float) -> PositionRecord:
            request = ClaimRequest(owner, take_over, stale_s)
            return PositionRecord(claim_lease(source, kept.lease, request, now_s), kept.checkpoint)

        held = self._bucket.change(source, claimed).lease
        return Lease(source, owner, held.epoch if held is not None else 0)

    def renew(self, lease: Lease) -> None:
        self._bucket.renew(lease)

    def release(self, lease: Lease) -> None:
        def released(kept: PositionRecord, now_s: float) -> PositionRecord:
            held = kept.lease
            is_ours = held is not None and (held.owner, held.epoch) == (lease.owner, lease.epoch)
            return kept._replace(lease=replace(held, released=True)) if held is not None and is_ours else kept

        self._bucket.change(lease.source, released)


class NatsPositionStore(PositionStore):
    """The three stores in the bucket `bucket`."""

    name = "nats"

    def __init__(self, options: NatsOptions, bucket: str = "binlogsync_positions") -> None:
        self._bucket = shared = PositionBucket(options, bucket)
        super().__init__(NatsCheckpoints(shared), NatsBookmarks(shared), NatsLeases(shared))

    def close(self) -> None:
        self._bucket.close()

    def describe(self) -> str:
        return f"key-value bucket of NATS at {self._bucket.options.address}"


def _hex(name: str) -> str:
    return f"x{name.encode().hex()}"
