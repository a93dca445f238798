"""Copies of messages, published to the stream again with their headers, do not count as checkpoints of its tail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

import pytest
from nats.js import JetStreamContext

from binlogsync.codec import subjects
from binlogsync.codec.envelope import CHECKPOINT
from binlogsync.errors import PositionError
from binlogsync.nats.reader import StreamReader
from binlogsync.position import Checkpoint
from binlogsync.servers import NATSServer
from binlogsync.sinks.jetstream import JetStreamOptions, JetStreamSink
from tests.nats_commands import ask
from tests.sinks.jetstream_streams import new_source, samples

pytestmark = pytest.mark.server
Result = TypeVar("Result")


@pytest.fixture
def opened(nats_server: NATSServer) -> Iterator[Callable[[str], JetStreamSink]]:
    sinks: list[JetStreamSink] = []

    def make(source: str) -> JetStreamSink:
        sinks.append(JetStreamSink(JetStreamOptions(url=nats_server.url)))
        sinks[-1].open(source)
        return sinks[-1]

    yield make
    for sink in sinks:
        sink.close()


def reopened(sink: JetStreamSink, source: str) -> Checkpoint | None:
    """The checkpoint that the next tail finds."""
    again = JetStreamSink(sink.options)
    try:
        return again.open(source)
    finally:
        again.close()


def publish_copy(url: str, source: str, sequence: int, *, is_older: bool = False) -> None:
    """Publish a message again with its headers; `is_older`: in the form of an older version, without the sequence."""

    async def publish(js: JetStreamContext) -> None:
        message = await js.get_msg(subjects.stream_name(source), sequence)
        headers = {name: value for name, value in (message.headers or {}).items() if name.startswith("Cdc-")}
        if is_older:
            headers[CHECKPOINT] = replace(Checkpoint.from_text(headers[CHECKPOINT]), sequence=None, log=None).to_text()
        await js.publish(message.subject or "", message.data or b"", headers=headers)

    ask(url, publish)


@pytest.mark.parametrize("is_older", [False, True])
def test_a_copy_of_an_old_message_is_no_checkpoint(
    nats_server: NATSServer, opened: Callable[[str], JetStreamSink], is_older: bool
) -> None:
    source = new_source()
    sink, maker = opened(source), samples(source)
    flushes = [maker.flush(1) for _ in range(3)]
    for flush in flushes:
        sink.write(flush)
    for sequence in (1, 2):
        publish_copy(nats_server.url, source, sequence, is_older=is_older)
    found = reopened(sink, source)
    assert found == flushes[-1].checkpoint
    assert found is not None
    assert found.sequence == 3
    with StreamReader(sink.options, source) as reader:
        assert (reader.checkpoint_at(3), reader.checkpoint_at(5) is None) == (found, not is_older)
    flushes.append(maker.flush(1))
    sink.write(flushes[-1])  # the running tail continues after the copies
    assert reopened(sink, source) == flushes[-1].checkpoint


def test_a_copy_from_inside_an_atomic_batch_is_no_end(
    nats_server: NATSServer, opened: Callable[[str], JetStreamSink]
) -> None:
    source = new_source()
    sink, maker = opened(source), samples(source)
    flush = maker.flush(5)
    sink.write(flush)
    publish_copy(nats_server.url, source, 2)
    assert reopened(sink, source) == flush.checkpoint


def test_a_stream_of_an_older_version_is_accepted(
    nats_server: NATSServer, opened: Callable[[str], JetStreamSink]
) -> None:
    source = new_source()
    sink, maker = opened(source), samples(source)
    flush = maker.flush(1)
    sink.write(flush)
    publish_copy(nats_server.url, source, 1, is_older=True)
    ask(nats_server.url, lambda js: js.delete_msg(subjects.stream_name(source), 1))
    assert reopened(sink, source) == flush.checkpoint


def test_a_stream_of_copies_alone_is_refused(nats_server: NATSServer, opened: Callable[[str], JetStreamSink]) -> None:
    source = new_source()
    sink, maker = opened(source), samples(source)
    sink.write(maker.flush(1))
    publish_copy(nats_server.url, source, 1)
    ask(nats_server.url, lambda js: js.delete_msg(subjects.stream_name(source), 1))
    with pytest.raises(PositionError, match=r"stream .* is not empty .* nats stream purge"):
        reopened(sink, source)
