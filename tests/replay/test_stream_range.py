"""A range of a stream that changes while the range is read."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator

import pytest

from binlogsync.codec.subjects import stream_name
from binlogsync.errors import SinkError
from binlogsync.nats import complete_reading, pull
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.complete_reading import fetch_next
from binlogsync.nats.reader import StreamReader
from binlogsync.replay.from_stream import StreamRangeReader
from binlogsync.replay.ranges import ReplayRange
from binlogsync.servers import NATSServer
from tests.consume.test_consume import SAMPLES, SampleStream, ids
from tests.nats_commands import delete_stream, purge_stream
from tests.samples import SampleTransaction
from tests.waiting import wait_until

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


def read_ahead(reader: StreamReader, is_enough: Callable[[], bool]) -> None:
    """Add to what the next fetch returns, a few messages at a time."""

    def read() -> bool:
        with reader.reading_ahead("d", 3):
            reader.beside().pending("d")  # the other thread reads meanwhile
        return is_enough()

    wait_until(read, 30, "enough messages")


def is_delivered(reader: StreamReader) -> bool:
    """True when no message is left to request: all but those of the last request have been read."""
    found = reader.pending("d")
    return found is not None and found.num_pending == 0


@pytest.mark.parametrize("tables", [(0,), (0, 1)], ids=["contiguous", "among others"])
def test_messages_that_are_dropped_between_two_reads_ahead_are_an_error(
    stream: SampleStream, reader: StreamReader, tables: tuple[int, ...]
) -> None:
    stream.refill(*[[SampleTransaction(tables)]] * 30, shift=False)
    reader.ensure_durable("d", *SAMPLES, 1)
    newest = fetch_next(reader, "d", 0, 3, stream=None)[-1].last_sequence
    read_ahead(reader, lambda: reader.has_read_ahead("d"))
    purge_stream(stream.url, stream_name(stream.name), keep=5)
    read_ahead(reader, lambda: is_delivered(reader))
    with pytest.raises(complete_reading.StreamRecreatedError):
        fetch_next(reader, "d", newest, 100, stream=None)


def test_a_fetch_with_messages_of_other_tables_between_asks_once_for_the_first_sequence(
    stream: SampleStream, reader: StreamReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream.refill(*[[SampleTransaction(tables)] for tables in ((0,), (1, 0), (0,))] * 10, shift=False)
    calls: list[int] = []
    first_after_fetch = reader.first_after_fetch

    def ask(durable: str) -> int:
        calls.append(first_after_fetch(durable))
        return calls[-1]

    monkeypatch.setattr(reader, "first_after_fetch", ask)
    reader.ensure_durable("d", *SAMPLES, 1)
    newest = fetch_next(reader, "d", 0, 3, stream=None)[-1].last_sequence
    calls.clear()
    purge_stream(stream.url, stream_name(stream.name), keep=reader.last_sequence() - newest)
    read_ahead(reader, lambda: is_delivered(reader))
    sequences = {sequence for item in fetch_next(reader, "d", newest, 100, stream=None) for sequence in item.sequences}
    assert len(sequences) > 3
    assert len(calls) == 1


def test_a_stream_that_is_recreated_is_an_error(stream: SampleStream, reader: StreamReader) -> None:
    table, range_ = whole_range(reader)
    steps = table.read(range_, threading.Event())
    next(steps)
    stream.refill(*FLUSHES, *FLUSHES)
    with pytest.raises(SinkError, match="was recreated, or dropped messages"):
        list(steps)
