"""Several units in flight, single messages and atomic batches: no change is lost, duplicated or out of order if replies
are lost, the connection breaks, the server restarts, or another writer intervenes.
"""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import nats
import pytest

from binlogsync import servers
from binlogsync.errors import FencedError, SinkError
from binlogsync.flush import Flush
from binlogsync.servers import NATSServer
from binlogsync.sinks.jetstream import JetStreamOptions, JetStreamSink
from tests.samples import SampleTransaction
from tests.sinks.contract import Stored, coordinates
from tests.sinks.jetstream_streams import new_source, samples, stored
from tests.sinks.nats_cluster import nats_cluster
from tests.sinks.nats_proxy import NatsProxy
from tests.waiting import wait_until

BATCHES: dict[str, Any] = {"changes_per_message": 1}
LINES: dict[str, Any] = {"changes_per_message": 5}
FORMATS = pytest.mark.parametrize("options", [BATCHES, LINES, {"format": "arrow"}], ids=["batches", "lines", "arrow"])


def flushes(source: str, count: int, changes: int) -> list[Flush]:
    maker = samples(source)
    return [maker.flush([SampleTransaction((0,) * changes)]) for _ in range(count)]


def opened(url: str, source: str, **options: Any) -> JetStreamSink:
    sink = JetStreamSink(JetStreamOptions(url=url, **options))
    sink.open(source)
    return sink


def write_all(sink: JetStreamSink, todo: list[Flush]) -> list[int]:
    """Write the flushes as the tail does: each is prepared while the previous one is written. Returns the sequence
    after each.
    """
    ends = []
    for flush, following in zip(todo, [*todo[1:], None], strict=True):
        if following is not None:
            sink.prepare(following)
        sink.write(flush)
        ends.append(sink.last_sequence)
    sink.close()
    return ends


@FORMATS
def test_flushes_run_into_each_other(options: dict[str, Any], nats_server: NATSServer) -> None:
    source = new_source()
    todo = flushes(source, 4, 333)
    ends = write_all(opened(nats_server.url, source, **options), todo)
    assert stored(nats_server.url, source) == [row for flush in todo for row in coordinates(flush)]
    # The reported last sequence is that of the flush itself, even if messages of the next one are already stored.
    each = -(-333 // options.get("changes_per_message", 333))
    # A batch that another one follows ends with a checkpoint message.
    extra = 1 if options == BATCHES else 0
    assert ends[:-1] == [(each + extra) * n for n in (1, 2, 3)]


@pytest.mark.parametrize(
    ("nth", "options", "changes"),
    [*((nth, LINES, 333) for nth in (1, 2, 7, 30, 66, 67, 68)), *((nth, BATCHES, 2500) for nth in (1, 2, 3, 4, 6, 9))],
)
def test_any_acknowledgement_may_be_lost(
    nth: int, options: dict[str, Any], changes: int, nats_server: NATSServer
) -> None:
    source = new_source()
    todo = flushes(source, 3, changes)
    with NatsProxy(nats_server.host, nats_server.port) as proxy:
        sink = opened(proxy.url, source, **options)
        proxy.lose_next(b'"seq":', nth)
        write_all(sink, todo)
        assert proxy.cuts == 1
    assert stored(nats_server.url, source) == [row for flush in todo for row in coordinates(flush)]


@FORMATS
def test_a_connection_that_breaks_all_the_time(options: dict[str, Any], nats_server: NATSServer) -> None:
    source = new_source()
    todo = flushes(source, 12, 400)
    with NatsProxy(nats_server.host, nats_server.port) as proxy, ThreadPoolExecutor(1) as pool:
        written = pool.submit(write_all, opened(proxy.url, source, **options), todo)
        pause = 0.02
        while not written.done():
            time.sleep(pause)
            proxy.cut()
            pause *= 1.1
        written.result()
    assert stored(nats_server.url, source) == [row for flush in todo for row in coordinates(flush)]


@pytest.mark.server
@pytest.mark.parametrize(
    ("options", "changes"),
    [pytest.param(LINES, 3000, marks=pytest.mark.exhaustive), (BATCHES, 10_000)],
    ids=["lines", "batches"],
)
def test_a_server_that_is_killed_all_the_time(options: dict[str, Any], changes: int) -> None:
    source = new_source()
    todo = flushes(source, 6, changes)
    with servers.nats() as server:
        sink = opened(server.url, source, **options)
        with ThreadPoolExecutor(1) as pool:
            written = pool.submit(write_all, sink, todo)
            for delay in (0.02, 0.05, 0.1, 0.2):
                time.sleep(delay)
                server.kill()
                server.start()
            written.result(300)
        assert stored(server.url, source) == [row for flush in todo for row in coordinates(flush)]


@FORMATS
def test_two_writers_at_once_never_mix(options: dict[str, Any], nats_server: NATSServer) -> None:
    source = new_source()
    sinks = [opened(nats_server.url, source, **options) for _ in range(3)]
    todo = flushes(source, 1, 2000)[0]
    start, results = threading.Barrier(len(sinks)), []

    def write(sink: JetStreamSink) -> None:
        start.wait()
        try:
            sink.write(todo)
            results.append("stored")
        except FencedError:
            results.append("fenced")

    with ThreadPoolExecutor(len(sinks)) as pool:
        list(pool.map(write, sinks))
    found = stored(nats_server.url, source)
    assert results.count("fenced") >= 2
    assert found == coordinates(todo)[: len(found)]
    rest = todo.without_stored(opened(nats_server.url, source).open(source))
    opened(nats_server.url, source, **options).write(rest)
    assert stored(nats_server.url, source) == coordinates(todo)


def test_no_message_is_stored_after_a_foreign_message(nats_server: NATSServer) -> None:
    """Messages for sequences 2, 3, 4, ... are in flight when another writer takes sequence 2: none may be stored."""
    source = new_source()
    foreign = samples(source).flush(1)
    todo = flushes(source, 1, 100)[0]
    with NatsProxy(nats_server.host, nats_server.port) as proxy, ThreadPoolExecutor(1) as pool:
        ours, other = opened(proxy.url, source, **LINES), opened(nats_server.url, source, **LINES)
        ours.write(
            flushes(source, 1, 1)[0]
        )  # makes the connection subscribe to replies before the proxy holds data back
        other.open(source)
        proxy.hold()
        written = pool.submit(ours.write, todo)
        wait_until(lambda: proxy.has_held, 30, "messages in flight")
        other.write(foreign)
        proxy.release()
        with pytest.raises(FencedError):
            written.result(120)
        other.close()
    assert len(stored(nats_server.url, source)) == 1 + foreign.changes


def test_a_batch_is_refused_although_foreign_messages_have_the_sequences_of_its_predecessor(
    nats_server: NATSServer,
) -> None:
    """Three batches of 1,000 messages are in flight when another program publishes 1,000: the second batch, which is
    fenced to the sequence after the first, must not be stored before it.
    """
    source = new_source()
    one, *todo = flushes(source, 3, 2997)

    async def publish_foreign() -> None:
        client = await nats.connect(nats_server.url)
        js = client.jetstream()
        for _ in range(1000):
            await js.publish(f"cdc.{source}.foreign.table", b"")
        await client.close()

    with NatsProxy(nats_server.host, nats_server.port) as proxy, ThreadPoolExecutor(1) as pool:
        ours = opened(proxy.url, source, **BATCHES)
        ours.write(one)
        proxy.hold()
        written = pool.submit(write_all, ours, todo)
        wait_until(lambda: proxy.has_held, 30, "messages in flight")
        asyncio.run(publish_foreign())
        proxy.release()
        written.result(120)
    assert stored(nats_server.url, source) == [row for flush in (one, *todo) for row in coordinates(flush)]


def test_a_sink_that_ends_between_two_flushes_resumes_at_the_end_of_the_stream(nats_server: NATSServer) -> None:
    """Some messages of the flush that was only prepared may be stored; the checkpoint includes them."""
    source = new_source()
    one, two = flushes(source, 2, 1000)
    sink = opened(nats_server.url, source, **LINES)
    sink.prepare(two)
    sink.write(one)
    sink.close()
    again = JetStreamSink(JetStreamOptions(url=nats_server.url, **LINES))
    checkpoint = again.open(source)
    rest = two.without_stored(checkpoint)
    assert stored(nats_server.url, source) + coordinates(rest) == coordinates(one) + coordinates(two)
    again.write(rest)
    again.close()
    assert stored(nats_server.url, source) == coordinates(one) + coordinates(two)


def test_another_flush_than_the_one_that_was_prepared(nats_server: NATSServer) -> None:
    source = new_source()
    one, two = flushes(source, 2, 5000)
    sink = opened(nats_server.url, source, **LINES)
    sink.prepare(two)
    sink.write(one)
    with pytest.raises(SinkError, match="flush 2 differs from the prepared one"):
        sink.write(replace(two, note="another"))
    sink.close()


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.parametrize("options", [LINES, BATCHES], ids=["lines", "batches"])
def test_in_a_cluster_one_unit_is_in_flight_at_a_time(options: dict[str, Any], tmp_path: Path) -> None:
    source, expected = new_source(), Stored()
    with nats_cluster(tmp_path) as url:
        todo = flushes(source, 3, 333)
        one, two = (opened(url, source, replicas=3, **options) for _ in range(2))
        write_all(one, todo)
        for flush in todo:
            expected += coordinates(flush)
        with pytest.raises(FencedError):
            two.write(todo[0])
        two.close()
        assert stored(url, source) == expected
