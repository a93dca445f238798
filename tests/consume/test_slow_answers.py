"""A server that answers slowly: a run is not idle, and does not end, while changes are pending."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from binlogsync import Change
from binlogsync.codec.subjects import stream_name
from binlogsync.consume.handler import Handler
from binlogsync.nats.reader import StreamBatch, StreamReader
from binlogsync.servers import NATSServer
from tests.consume.test_consume import SampleRow, SampleStream, ids
from tests.consume.test_consumer import client, seen_by
from tests.nats_commands import delete_stream

_SLOW_FETCHES = 4


@pytest.fixture
def stream(
    nats_server: NATSServer, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SampleStream]:
    """The first fetches of each durable end without a message, after longer than a run may be idle."""
    fetch, counts = StreamReader.fetch, Counter[str]()

    def slow(
        self: StreamReader, durable: str, max_messages: int = 1000, timeout_s: float = 1.0
    ) -> Sequence[StreamBatch]:
        counts[durable] += 1
        if counts[durable] <= _SLOW_FETCHES:
            time.sleep(0.2)
            return []
        return fetch(self, durable, max_messages, timeout_s)

    monkeypatch.setattr(StreamReader, "fetch", slow)
    name = f"slow{abs(hash(request.node.name)) % 10**9}"
    yield SampleStream(nats_server.url, name)
    delete_stream(nats_server.url, stream_name(name))


def test_a_run_is_drained_when_the_server_has_no_more_changes(stream: SampleStream, tmp_path: Path) -> None:
    stream.write(4)
    found: list[Change[SampleRow]] = []
    done = stream.consume(Handler(SampleRow, found.append, tmp_path / "progress.duckdb"))
    assert [change.id for change in found] == ids("samples", 4)
    assert done.is_drained


@pytest.mark.parametrize("max_workers", [1, 2])
def test_a_client_that_ends_when_it_is_idle_has_handled_all_changes(stream: SampleStream, max_workers: int) -> None:
    stream.write(4)
    consumer, notes = client(stream, max_workers=max_workers), list[object]()
    consumer.register(SampleRow, notes.append, table="shop.notes")
    assert seen_by(consumer) == ids("samples", 4)
    assert len(notes) == len(ids("notes", 4))
