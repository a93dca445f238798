"""A range of a stream that changes while the range is read."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator

import pytest

from binlogsync.codec.subjects import stream_name
from binlogsync.errors import SinkError
from binlogsync.nats import complete_reading, pull
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.replay.from_stream import StreamRangeReader
from binlogsync.replay.ranges import ReplayRange
from binlogsync.servers import NATSServer
from tests.consume.test_consume import SAMPLES, SampleStream, ids
from tests.nats_commands import delete_stream, purge_stream
from tests.samples import SampleTransaction

pytestmark = pytest.mark.server
FLUSHES = [[SampleTransaction((0,))]] * 30


@pytest.fixture
def stream(nats_server: NATSServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[SampleStream]:
    monkeypatch.setattr(complete_reading, "_FETCH", 3)
    monkeypatch.setattr(complete_reading, "_AHEAD", 3)
    monkeypatch.setattr(pull, "_MOST_BUFFERED_BYTES", 0)  # otherwise all have been received when the stream changes
    made = SampleStream(nats_server.url, f"range-{secrets.token_hex(4)}")
    made.write(*FLUSHES)
    yield made
    delete_stream(nats_server.url, stream_name(made.name))


@pytest.fixture
def reader(stream: SampleStream) -> Iterator[StreamReader]:
    with StreamReader(NatsOptions(url=stream.url), stream.name) as opened:
        yield opened


def whole_range(reader: StreamReader) -> tuple[StreamRangeReader, ReplayRange]:
    table = StreamRangeReader(reader, *SAMPLES)
    oldest, end = table.oldest(), table.end()
    assert oldest is not None
    assert end is not None
    return table, ReplayRange("all", oldest[0], end)


def test_all_changes_are_read_in_small_fetches(reader: StreamReader) -> None:
    table, range_ = whole_range(reader)
    steps = list(table.read(range_, threading.Event()))
    assert [change.id for step in steps for item in step.items for change in item.batch.changes()] == ids(
        "samples", *FLUSHES
    )
    assert len(steps) > 5
    assert steps[-1].share == 1.0


def test_messages_that_are_dropped_before_they_are_read_are_an_error(
    stream: SampleStream, reader: StreamReader
) -> None:
    table, range_ = whole_range(reader)
    steps = table.read(range_, threading.Event())
    next(steps)
    purge_stream(stream.url, stream_name(stream.name), keep=5)
    with pytest.raises(SinkError, match=r"dropped messages of the range all after sequence .* start the replay again"):
        list(steps)


def test_a_stream_that_is_recreated_is_an_error(stream: SampleStream, reader: StreamReader) -> None:
    table, range_ = whole_range(reader)
    steps = table.read(range_, threading.Event())
    next(steps)
    stream.refill(*FLUSHES, *FLUSHES)
    with pytest.raises(SinkError, match="was recreated, or dropped messages"):
        list(steps)
