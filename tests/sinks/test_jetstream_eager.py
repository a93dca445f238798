"""Small eager flushes: each message is a unit with a checkpoint; a writer resumes after any of them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from queue import Queue

import nats
import pytest
from nats.js.api import DiscardPolicy

from binlogsync.codec import subjects
from binlogsync.codec.envelope import CHECKPOINT
from binlogsync.errors import FencedError, SinkError
from binlogsync.flush import Flush
from binlogsync.position import Checkpoint
from binlogsync.servers import NATSServer
from binlogsync.sinks.jetstream import JetStreamSink
from tests.nats_commands import ask
from tests.samples import SampleTransaction
from tests.sinks.contract import coordinates
from tests.sinks.jetstream_streams import new_source, samples, stored
from tests.sinks.nats_proxy import NatsProxy
from tests.sinks.test_jetstream_in_flight import opened, write_all


def eager_flushes(source: str, count: int, changes: int) -> list[Flush]:
    """Each flush ends within its second transaction."""
    maker, half = samples(source), changes // 2
    transactions = [SampleTransaction((0,) * half), SampleTransaction((0,) * changes, take=changes - half)]
    return [replace(maker.flush(transactions if n == 0 else transactions[1:]), reason="eager") for n in range(count)]


def checkpoints_of(url: str, source: str) -> list[Checkpoint | None]:
    """The checkpoint of each message."""

    async def read() -> list[Checkpoint | None]:
        client = await nats.connect(url)
        js, stream = client.jetstream(), subjects.stream_name(source)
        state = (await js.stream_info(stream)).state
        messages = [await js.get_msg(stream, number) for number in range(1, state.last_seq + 1)]
        await client.close()
        texts = [(message.headers or {}).get(CHECKPOINT) for message in messages]
        return [Checkpoint.from_text(text) if text is not None else None for text in texts]

    return asyncio.run(read())


def test_each_message_of_a_small_eager_flush_has_a_checkpoint(nats_server: NATSServer) -> None:
    source = new_source()
    small, large = eager_flushes(source, 2, 12), 100
    write_all(opened(nats_server.url, source), small)
    rows = [row for flush in small for row in coordinates(flush)]
    assert stored(nats_server.url, source) == rows
    found = checkpoints_of(nats_server.url, source)
    assert len(found) == len(rows)
    positions = [(each.position.pos, each.skip) for each in found if each is not None]
    assert positions == sorted(set(positions))
    assert len(positions) == len(rows)
    with_batch = new_source()
    write_all(opened(nats_server.url, with_batch), eager_flushes(with_batch, 1, large))
    assert [each is not None for each in checkpoints_of(nats_server.url, with_batch)] == [False] * (large - 1) + [True]


async def delete_after(url: str, source: str, last: int) -> None:
    """Delete the later messages: their writer was killed before it sent them."""
    client = await nats.connect(url)
    js, stream = client.jetstream(), subjects.stream_name(source)
    state = (await js.stream_info(stream)).state
    for number in range(last + 1, state.last_seq + 1):
        await js.delete_msg(stream, number)
    await client.close()


@pytest.mark.parametrize("nth", [1, 2, 11, 12, 13])
def test_any_acknowledgement_of_eager_flushes_may_be_lost(nth: int, nats_server: NATSServer) -> None:
    source = new_source()
    todo = eager_flushes(source, 3, 12)
    with NatsProxy(nats_server.host, nats_server.port) as proxy:
        sink = opened(proxy.url, source)
        proxy.lose_next(b'"seq":', nth)
        write_all(sink, todo)
        assert proxy.cuts == 1
    assert stored(nats_server.url, source) == [row for flush in todo for row in coordinates(flush)]


def start_all(sink: JetStreamSink, todo: list[Flush]) -> list[Exception | None]:
    """Start each flush, or write it if it cannot be started or fails; returns how the started ones ended."""
    ends = []
    for flush in todo:
        ended: Queue[Exception | None] = Queue()
        if sink.start(flush, ended.put):
            ends.append(ended.get(timeout=60))
            if ends[-1] is None:
                continue
        sink.write(flush)
    return ends


def test_flushes_are_started_once_the_schemas_are_stored(nats_server: NATSServer) -> None:
    source = new_source()
    todo = eager_flushes(source, 4, 12)
    sink = opened(nats_server.url, source)
    assert start_all(sink, todo) == [None, None, None]
    assert sink.last_sequence == sum(flush.changes for flush in todo)
    assert stored(nats_server.url, source) == [row for flush in todo for row in coordinates(flush)]
    assert not sink.start(replace(samples(source).flush(1), reason="interval"), print)
    sink.close()
    assert not sink.start(todo[0], print)


@pytest.mark.parametrize("changes", [2, 12])
def test_the_acknowledgement_of_a_started_flush_may_be_lost(changes: int, nats_server: NATSServer) -> None:
    source = new_source()
    todo = eager_flushes(source, 3, changes)
    with NatsProxy(nats_server.host, nats_server.port) as proxy:
        sink = opened(proxy.url, source)
        sink.write(todo[0])
        proxy.lose_next(b'"seq":')
        ends = start_all(sink, todo[1:2])
        assert isinstance(ends[0], SinkError)
        start_all(sink, todo[2:])
        assert proxy.cuts == 1
    assert stored(nats_server.url, source) == [row for flush in todo for row in coordinates(flush)]


@pytest.mark.parametrize("nth", [1, 2, 7, 12])
def test_a_connection_may_break_within_a_started_flush(nth: int, nats_server: NATSServer) -> None:
    source = new_source()
    todo = eager_flushes(source, 3, 12)
    with NatsProxy(nats_server.host, nats_server.port) as proxy:
        sink = opened(proxy.url, source)
        sink.write(todo[0])
        proxy.cut_before(b"HPUB ", nth)
        ends = start_all(sink, todo[1:2])
        assert isinstance(ends[0], SinkError)
        start_all(sink, todo[2:])
        assert proxy.cuts == 1
    assert stored(nats_server.url, source) == [row for flush in todo for row in coordinates(flush)]


def test_only_the_last_message_of_a_started_flush_is_acknowledged(nats_server: NATSServer) -> None:
    """The server refuses a message if the one before is not stored, so the reply to the last one is enough."""
    source = new_source()
    todo = eager_flushes(source, 2, 12)
    with NatsProxy(nats_server.host, nats_server.port) as proxy:
        sink = opened(proxy.url, source)
        sink.write(todo[0])
        proxy.lose_next(b'"seq":', 2)
        assert start_all(sink, todo[1:]) == [None]
        assert proxy.cuts == 0
    assert stored(nats_server.url, source) == [row for flush in todo for row in coordinates(flush)]


def test_a_started_flush_of_which_a_message_is_refused_is_an_error(nats_server: NATSServer) -> None:
    source = new_source()
    first, second = eager_flushes(source, 2, 12)
    sink = opened(nats_server.url, source)
    sink.write(first)
    config = ask(nats_server.url, lambda js: js.stream_info(subjects.stream_name(source))).config
    refusing = config.evolve(max_msgs=first.changes + 5, discard=DiscardPolicy.NEW)
    ask(nats_server.url, lambda js: js.update_stream(refusing))
    ended: Queue[Exception | None] = Queue()
    assert sink.start(second, ended.put)
    assert ended.get(timeout=60) is not None
    with pytest.raises(SinkError, match="maximum messages exceeded"):
        sink.write(second)
    ask(nats_server.url, lambda js: js.update_stream(config))
    next_sink = JetStreamSink(sink.options)
    next_sink.write(second.without_stored(next_sink.open(source)))
    assert stored(nats_server.url, source) == [row for flush in (first, second) for row in coordinates(flush)]


def test_a_started_flush_that_is_not_acknowledged_in_time_is_written_again(nats_server: NATSServer) -> None:
    source = new_source()
    todo = eager_flushes(source, 3, 12)
    with NatsProxy(nats_server.host, nats_server.port) as proxy:
        sink = opened(proxy.url, source, request_timeout_s=2.0)
        sink.write(todo[0])
        proxy.hold()
        ended: Queue[Exception | None] = Queue()
        assert sink.start(todo[1], ended.put)
        assert isinstance(ended.get(timeout=60), SinkError)
        assert proxy.has_held
        proxy.release()
        sink.write(todo[1])
        start_all(sink, todo[2:])
    assert stored(nats_server.url, source) == [row for flush in todo for row in coordinates(flush)]


def test_a_started_flush_is_refused_after_another_writer(nats_server: NATSServer) -> None:
    source = new_source()
    todo = eager_flushes(source, 2, 2)
    ours = opened(nats_server.url, source)
    ours.write(todo[0])
    opened(nats_server.url, source).write(todo[1])
    ended: Queue[Exception | None] = Queue()
    assert ours.start(todo[1], ended.put)
    assert ended.get(timeout=60) is not None
    with pytest.raises(FencedError):
        ours.write(todo[1])


def test_a_tail_resumes_within_a_small_eager_flush(nats_server: NATSServer) -> None:
    """A writer that ended after some messages of a flush: the next one continues after them."""
    source = new_source()
    todo = eager_flushes(source, 2, 12)
    write_all(opened(nats_server.url, source), todo[:1])
    rows = [row for flush in todo for row in coordinates(flush)]
    checkpoints = checkpoints_of(nats_server.url, source)
    asyncio.run(delete_after(nats_server.url, source, 7))
    sink = opened(nats_server.url, source)
    at = sink.open(source)
    assert at == checkpoints[6]
    write_all(sink, [todo[0].without_stored(at), todo[1]])
    assert stored(nats_server.url, source) == rows
