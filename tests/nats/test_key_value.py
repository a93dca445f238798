"""Keys of a bucket change, and watches end, while they are read."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from nats.js.kv import KeyValue

from binlogsync.codec.subjects import stream_name
from binlogsync.nats.client import NatsConnection, NatsOptions
from binlogsync.nats.key_value import KeyValueBucket
from binlogsync.servers import NATSServer
from tests.nats_commands import delete_stream


@pytest.mark.parametrize("is_early", [False, True])
def test_all_keys_that_match_are_listed(
    nats_server: NATSServer, monkeypatch: pytest.MonkeyPatch, is_early: bool
) -> None:
    name, watch = f"{stream_name(f'keys-{time.time_ns()}')}_progress", KeyValue.watch

    async def watch_ends_early(self: KeyValue, *arguments: Any, **options: Any) -> Any:
        watcher = await watch(self, *arguments, **options)
        watcher._updates = asyncio.Queue()  # noqa: SLF001 - what the library does too early
        watcher._updates.put_nowait(None)  # noqa: SLF001
        return watcher

    if is_early:
        monkeypatch.setattr(KeyValue, "watch", watch_ends_early)
    with NatsConnection(NatsOptions(url=nats_server.url), "test") as connection:
        bucket = KeyValueBucket(connection, name)
        assert bucket.items("*") == {}  # creates no bucket
        for key in ("a", "b", "c.d"):
            bucket.put(key, key.encode())
        assert bucket.items("*") == {"a": b"a", "b": b"b"}
        assert bucket.items("c.*") == {"c.d": b"c.d"}
        bucket.delete("b")
        assert bucket.items("*") == {"a": b"a"}
        bucket.delete("a")
        assert bucket.items("*") == {}
    delete_stream(nats_server.url, f"KV_{name}")


def test_a_key_is_created_when_another_one_expires_meanwhile(
    nats_server: NATSServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, get = f"{stream_name(f'keys-{time.time_ns()}')}_leases", KeyValue._get  # noqa: SLF001

    async def get_after_expiry(self: KeyValue, key: str, *arguments: Any, **options: Any) -> Any:
        await self._js.purge_stream(self._stream, subject=f"{self._pre}{key}")  # noqa: SLF001
        return await get(self, key, *arguments, **options)

    with NatsConnection(NatsOptions(url=nats_server.url), "test") as connection:
        bucket = KeyValueBucket(connection, name)
        bucket.put("lease", b"one")
        assert bucket.put("lease", b"two", 0) is None
        monkeypatch.setattr(KeyValue, "_get", get_after_expiry)
        revision = bucket.put("lease", b"two", 0)
        monkeypatch.undo()
        assert bucket.get("lease") == (b"two", revision)
    delete_stream(nats_server.url, f"KV_{name}")
