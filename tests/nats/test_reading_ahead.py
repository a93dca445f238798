"""A reader that receives and decodes messages in another thread, while its caller processes those before."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from binlogsync.codec import subjects
from binlogsync.errors import WireError
from binlogsync.nats.messages import StreamBatch
from binlogsync.nats.read_ahead import reading_ahead
from binlogsync.nats.reader import StreamReader
from binlogsync.servers import NATSServer
from tests.nats.test_stream import DAMAGED_HEADERS, FilledStream, rows_of
from tests.nats_commands import ask
from tests.sinks.jetstream_streams import fetch_all
from tests.waiting import wait_until

_S = 5.0


@pytest.fixture
def filled(nats_server: NATSServer) -> Iterator[FilledStream]:
    made = FilledStream(nats_server)
    made.write(20)
    yield made
    made.sink.close()


def _open(reader: StreamReader) -> StreamReader:
    reader.ensure_durable("d", "shop", "small", 1)
    return reader


def _wait_for_all(reader: StreamReader) -> None:
    """Wait until the server has delivered all messages; with another reader, as the block must not use its own."""

    def is_delivered() -> bool:
        found = reader.pending("d")
        return found is not None and not found.num_pending

    wait_until(is_delivered, 30, "the delivery of all messages")


def _fetch_to_error(reader: StreamReader, batches: list[StreamBatch]) -> None:
    while items := reader.fetch("d", 1000, _S):
        batches += items


def test_what_was_read_ahead_comes_next_and_nothing_twice(filled: FilledStream) -> None:
    with filled.reader() as reader:
        batches = list(_open(reader).fetch("d", 3, _S))
        with reader.reading_ahead("d", 1000):
            _wait_for_all(reader.beside())
        assert not reader.has_all("d")
        ahead = reader.fetch("d", 1, _S)
        assert len(rows_of(list(ahead))) > 1
        batches += ahead
        filled.write(5)
        batches += fetch_all(reader, "d", 7)
        assert rows_of(batches) == filled.rows
        assert reader.has_all("d")


def test_a_durable_that_begins_again_forgets_what_was_read_ahead(filled: FilledStream) -> None:
    with filled.reader() as reader:
        first = _open(reader).fetch("d", 3, _S)
        with reader.reading_ahead("d", 1000):
            _wait_for_all(reader.beside())
        reader.ensure_durable("d", "shop", "small", first[-1].last_sequence + 1)
        assert rows_of([*first, *fetch_all(reader, "d", 7)]) == filled.rows


def test_a_message_that_cannot_be_read_is_reported_by_the_fetch_after_it(
    filled: FilledStream, nats_server: NATSServer
) -> None:
    subject = subjects.table_subject(filled.source, "shop", "small")
    ask(nats_server.url, lambda js: js.publish(subject, b"x", headers=DAMAGED_HEADERS))
    with filled.reader() as reader:
        batches = list(_open(reader).fetch("d", 3, _S))
        with reader.reading_ahead("d", 1000):
            _wait_for_all(reader.beside())
        for _ in range(2):
            with pytest.raises(WireError, match="content type None"):
                _fetch_to_error(reader, batches)
        ask(nats_server.url, lambda js: js.delete_msg(subjects.stream_name(filled.source), reader.last_sequence()))
        batches += fetch_all(reader, "d", 7)
        assert rows_of(batches) == filled.rows


def test_reading_ahead_ends_at_its_limit_and_when_nothing_is_left(filled: FilledStream) -> None:
    with filled.reader() as reader:
        [batch, *_] = _open(reader).fetch("d", 1, _S)
    calls: list[int] = []
    is_read = threading.Event()

    def read(last: int) -> list[StreamBatch]:
        calls.append(1)
        if len(calls) == last:
            is_read.set()
        return [] if len(calls) > 5 else [batch]

    for most, last, count in ((3, 3, 3), (1000, 6, 5)):
        calls.clear()
        is_read.clear()
        with reading_ahead(lambda last=last: read(last), most) as found:  # type: ignore[misc]
            assert is_read.wait(30)
        assert (len(calls), len(found)) == (last, count)
