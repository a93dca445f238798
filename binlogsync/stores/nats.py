"""Positions in a NATS key-value bucket: for tails that may start on any machine, without a further server.

Keys are `position/<source>` (checkpoint and lease as JSON), `facts/<source>` and `bookmarks/<source>.<key>`, with names
in hex. An update is conditional on the revision that was read; times come from the server's clock.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from functools import partial
from typing import TypeVar

from binlogsync.bookmarks import Bookmark
from binlogsync.errors import PositionError, SinkError, StoreError
from binlogsync.nats.client import NatsConnection, NatsOptions
from binlogsync.nats.key_value import KeyValueBucket
from binlogsync.position import Checkpoint
from binlogsync.stores import Lease, PositionStore
from binlogsync.stores.lease import ClaimRequest, LeaseRecord, check_held, claim_lease

Result = TypeVar("Result")
Kept = tuple[LeaseRecord | None, str | None]  # the lease, and the checkpoint's text


class NatsPositionStore(PositionStore):
    """A PositionStore in the bucket `bucket`, created if missing. It connects at the first call."""

    name = "nats"

    def __init__(self, options: NatsOptions, bucket: str = "binlogsync_positions") -> None:
        self.options = options
        self._connection = NatsConnection(options, "binlogsync positions")
        self._bucket = KeyValueBucket(self._connection, bucket)
        self._opening = threading.Lock()
        self._opened = self._closed = False

    def describe(self) -> str:
        return f"key-value bucket of NATS at {self.options.address}"

    def load(self, source: str) -> Checkpoint | None:
        text = self._call(lambda: self._kept(source)[1])[1]
        return None if text is None else self._call(lambda: Checkpoint.from_text(text))

    def save(self, lease: Lease, checkpoint: Checkpoint) -> None:
        self._renew(lease, checkpoint.to_text())

    def claim(self, source: str, owner: str, *, take_over: bool = False, stale_s: float = 45.0) -> Lease:
        def claimed(kept: Kept, now_s: float) -> Kept:
            return claim_lease(source, kept[0], ClaimRequest(owner, take_over, stale_s), now_s), kept[1]

        claim = self._change(source, claimed)[0]
        return Lease(source, owner, claim.epoch if claim is not None else 0)

    def heartbeat(self, lease: Lease) -> None:
        self._renew(lease)

    def release(self, lease: Lease) -> None:
        def released(kept: Kept, now_s: float) -> Kept:
            claim = kept[0]
            is_ours = claim is not None and (claim.owner, claim.epoch) == (lease.owner, lease.epoch)
            return (replace(claim, released=True), kept[1]) if claim is not None and is_ours else kept

        self._change(lease.source, released)

    def lease(self, source: str) -> Lease | None:
        claim, now_s = self._call(lambda: (self._kept(source)[1][0], self._now_s()))
        return None if claim is None else claim.at(now_s).lease(source, now_s)

    def bookmarks(self, source: str) -> Sequence[Bookmark]:
        texts = self._call(lambda: self._bucket.values(f"bookmarks/{_hex(source)}.*"))
        return self._call(lambda: sorted(map(Bookmark.from_text, texts), key=lambda each: each.key))

    def put_bookmark(self, source: str, bookmark: Bookmark) -> None:
        self._put(f"bookmarks/{_hex(source)}.{_hex(bookmark.key)}", bookmark.to_text())

    def delete_bookmark(self, source: str, key: str) -> bool:
        name = f"bookmarks/{_hex(source)}.{_hex(key)}"
        found = self._call(lambda: self._bucket.get(name))
        if found is not None:
            self._call(lambda: self._bucket.delete(name))
        return found is not None

    def facts(self, source: str) -> str | None:
        found = self._call(lambda: self._bucket.get(f"facts/{_hex(source)}"))
        return None if found is None else found[0].decode()

    def put_facts(self, source: str, text: str) -> None:
        self._put(f"facts/{_hex(source)}", text)

    def close(self) -> None:
        self._closed = True
        self._connection.close()

    def _renew(self, lease: Lease, checkpoint: str | None = None) -> None:
        def renewed(kept: Kept, now_s: float) -> Kept:
            return replace(check_held(lease, kept[0]), heard_s=now_s), checkpoint or kept[1]

        self._change(lease.source, renewed)

    def _change(self, source: str, change: Callable[[Kept, float], Kept]) -> Kept:
        """Apply `change` to the stored record, and retry while another process updates it; returns the new record."""
        while True:
            revision, kept = self._call(lambda: self._kept(source))
            changed = change(kept, self._call(self._now_s))
            record = {"claim": changed[0] and asdict(changed[0]), "checkpoint": changed[1]}
            put = partial(self._bucket.put, f"position/{_hex(source)}", json.dumps(record).encode(), revision)
            if changed == kept or self._call(put) is not None:
                return changed

    def _kept(self, source: str) -> tuple[int, Kept]:
        found = self._bucket.get(f"position/{_hex(source)}")
        if found is None:
            return 0, (None, None)
        record = json.loads(found[0])
        return found[1], (LeaseRecord(**record["claim"]), record["checkpoint"])

    def _now_s(self) -> float:
        request = f"$JS.API.STREAM.INFO.KV_{self._bucket.name}"
        answer = json.loads(self._connection.retry(lambda client: client.request(request)).data)
        return datetime.fromisoformat(answer["ts"]).timestamp()

    def _put(self, name: str, text: str) -> None:
        self._call(lambda: self._bucket.put(name, text.encode()))

    def _call(self, ask: Callable[[], Result]) -> Result:
        if self._closed:
            raise StoreError(f"NATS at {self.options.address}: this store is closed; make a new one")
        try:
            with self._opening:
                if not self._opened:
                    self._connection.open()
                    self._opened = True
            return ask()
        except (SinkError, PositionError, ValueError, KeyError) as error:
            raise StoreError(f"positions in the bucket {self._bucket.name}: {error}") from error


def _hex(name: str) -> str:
    return f"x{name.encode().hex()}"
