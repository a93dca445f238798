"""All keys of a bucket are listed, also when nats-py reports the end of a watch before its values have arrived."""

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
