"""The JetStream sink with a real nats-server: the contract in each format, fences, lost replies, lost data, unusual
streams.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import nats
import pyarrow as pa
import pytest
from nats.js.api import StreamConfig

from binlogsync import servers
from binlogsync.codec import subjects
from binlogsync.errors import ConfigError, FencedError, PositionError, SinkError
from binlogsync.servers import NATSServer
from binlogsync.sinks.jetstream import JetStreamOptions, JetStreamSink
from tests.nats_commands import ask
from tests.samples import SampleOptions, SampleTransaction, sample_schema
from tests.sinks.contract import SinkContract, Stored, coordinates
from tests.sinks.jetstream_streams import new_source, read_all, samples, stored
from tests.sinks.nats_proxy import NatsProxy

EVERY_FORMAT = pytest.mark.parametrize(
    "format_", [{}, {"changes_per_message": 3}, {"format": "arrow"}], ids=["json", "lines", "arrow"]
)


class JetStreamHarness:
    def __init__(self, options: JetStreamOptions) -> None:
        self.source = new_source()
        self.options = options

    def sink(self) -> JetStreamSink:
        return JetStreamSink(self.options)

    def stored(self) -> Stored:
        found = stored(self.options.url, self.source)
        if self.options.format == "json" and self.options.changes_per_message == 1:
            return found
        return sorted(found)  # a unit keeps order within a table, not across tables, see test_stream.py


@pytest.fixture(
    params=[{}, {"changes_per_message": 7}, {"format": "arrow"}, {"max_batch_bytes": 20_000}],
    ids=["json", "lines", "arrow", "small-batches"],
)
def harness(request: pytest.FixtureRequest, nats_server: NATSServer) -> JetStreamHarness:
    return JetStreamHarness(JetStreamOptions(url=nats_server.url, **request.param))


class TestJetStreamContract(SinkContract):
    pass


@pytest.fixture
def opened(nats_server: NATSServer) -> Iterator[Callable[..., JetStreamSink]]:
    sinks = []

    def make(source: str, **options: Any) -> JetStreamSink:
        sink = JetStreamSink(JetStreamOptions(**{"url": nats_server.url, **options}))
        sink.open(source)
        sinks.append(sink)
        return sink

    yield make
    for sink in sinks:
        sink.close()


@pytest.fixture
def own_server() -> Iterator[NATSServer]:
    with servers.nats() as server:
        yield server


@pytest.mark.parametrize(
    ("count", "messages"), [(1, 1), (998, 998), (999, 999), (1000, 1001), (1998, 1999), (1999, 2001)]
)
def test_batches_at_the_limit(
    count: int, messages: int, opened: Callable[..., JetStreamSink], nats_server: NATSServer
) -> None:
    source = new_source()
    sink = opened(source)
    flush = samples(source).flush([SampleTransaction((0,) * count)])
    sink.write(flush)
    assert sink.last_sequence == messages
    assert stored(nats_server.url, source) == coordinates(flush)


@pytest.mark.slow
def test_twenty_thousand_changes(opened: Callable[..., JetStreamSink], nats_server: NATSServer) -> None:
    source = new_source()
    sink = opened(source)
    flush = samples(source).flush([SampleTransaction((0,) * 20_000)])
    sink.write(flush)
    assert sink.last_sequence == 20_000 + 20  # 20 of the 21 batches end with a checkpoint message
    assert stored(nats_server.url, source) == coordinates(flush)


def test_the_second_of_two_writers_is_fenced_off(opened: Callable[..., JetStreamSink], nats_server: NATSServer) -> None:
    source = new_source()
    one, two = opened(source), opened(source)
    flush = samples(source).flush([SampleTransaction((0,) * 3000)])
    one.write(flush)
    with pytest.raises(FencedError, match="another writer has written to stream"):
        two.write(flush)
    assert stored(nats_server.url, source) == coordinates(flush)


def test_two_writers_at_once_never_mix(opened: Callable[..., JetStreamSink], nats_server: NATSServer) -> None:
    source = new_source()
    flush = samples(source).flush([SampleTransaction((0,) * 8000)])
    results: list[str] = []

    def write(sink: JetStreamSink) -> None:
        try:
            sink.write(flush)
            results.append("stored")
        except FencedError:
            results.append("fenced")

    threads = [threading.Thread(target=write, args=(opened(source),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = stored(nats_server.url, source)
    assert "fenced" in results
    assert found == coordinates(flush)[: len(found)]
    checkpoint = JetStreamSink(JetStreamOptions(url=nats_server.url)).open(source)
    rest = flush.without_stored(checkpoint)
    opened(source).write(rest)
    assert stored(nats_server.url, source) == coordinates(flush)


@pytest.mark.parametrize("count", [1, 500, 2500])
def test_a_lost_acknowledgement(count: int, nats_server: NATSServer) -> None:
    source = new_source()
    with NatsProxy(nats_server.host, nats_server.port) as proxy:
        sink = JetStreamSink(JetStreamOptions(url=proxy.url))
        sink.open(source)
        maker = samples(source)
        flush = maker.flush([SampleTransaction((0,) * count)])
        proxy.lose_next(b'"seq":')
        sink.write(flush)
        assert proxy.cuts == 1
        more = maker.flush(2)
        sink.write(more)
        sink.close()
    assert stored(nats_server.url, source) == coordinates(flush) + coordinates(more)


def test_a_cut_between_flushes(nats_server: NATSServer) -> None:
    source = new_source()
    with NatsProxy(nats_server.host, nats_server.port) as proxy:
        sink = JetStreamSink(JetStreamOptions(url=proxy.url))
        sink.open(source)
        maker, expected = samples(source), Stored()
        for _ in range(3):
            proxy.cut()
            flush = maker.flush(3)
            sink.write(flush)
            expected += coordinates(flush)
        sink.close()
    assert stored(nats_server.url, source) == expected


@pytest.mark.parametrize("options", [{"max_batch_bytes": 4000}, {"max_batch_bytes": 4000, "changes_per_message": 3}])
def test_the_checkpoint_is_right_at_every_cut(options: dict[str, Any], nats_server: NATSServer) -> None:
    """The stream is truncated to the end of each atomic batch; the reopened sink then stores exactly the rest."""
    source = new_source()
    sink = JetStreamSink(JetStreamOptions(url=nats_server.url, **options))
    sink.open(source)
    plan = [SampleTransaction((0,) * n, file=1 + n // 5) for n in (1, 2, 7, 1, 5, 9, 1, 3)]
    flush = samples(source).flush(plan)
    sink.write(flush)
    ends = _checkpoint_sequences(nats_server.url, source)
    assert len(ends) > 3
    for end in reversed(ends):
        _cut_back(nats_server.url, source, end)
        checkpoint = sink.open(source)
        kept = stored(nats_server.url, source)
        assert kept + coordinates(flush.without_stored(checkpoint)) == coordinates(flush)
    sink.write(flush.without_stored(sink.open(source)))
    assert stored(nats_server.url, source) == coordinates(flush)
    sink.close()


@pytest.mark.server
def test_the_server_is_killed_in_the_middle(own_server: NATSServer) -> None:
    source = new_source()
    sink = JetStreamSink(JetStreamOptions(url=own_server.url))
    sink.open(source)
    maker, expected = samples(source), Stored()
    for delay in (0.0, 0.05, 0.2):
        flush = maker.flush([SampleTransaction((0,) * 6000)])
        with ThreadPoolExecutor(1) as pool:
            # The server ends with the thread that starts it, so this thread must start it.
            written = pool.submit(sink.write, flush)
            wait([written], timeout=delay)
            own_server.kill()
            own_server.start()
            written.result(300)
        expected += coordinates(flush)
    sink.close()
    assert stored(own_server.url, source) == expected


@pytest.mark.server
def test_acknowledged_messages_that_are_lost_are_noticed(own_server: NATSServer, tmp_path: Path) -> None:
    source = new_source()
    sink = JetStreamSink(JetStreamOptions(url=own_server.url))
    sink.open(source)
    maker = samples(source)
    flushes = [maker.flush([SampleTransaction((0,) * 50)]) for _ in range(3)]
    sink.write(flushes[0])
    own_server.stop()
    shutil.copytree(own_server.store_dir / "jetstream", tmp_path / "earlier")
    own_server.start()
    sink.write(flushes[1])
    own_server.stop()
    shutil.rmtree(own_server.store_dir / "jetstream")
    shutil.copytree(tmp_path / "earlier", own_server.store_dir / "jetstream")
    own_server.start()

    with pytest.raises(SinkError, match=r"LOST MESSAGES .* ends at sequence 50, and 100 was acknowledged"):
        sink.write(flushes[2])

    checkpoint = sink.open(source)
    assert checkpoint == flushes[0].checkpoint
    for flush in flushes[1:]:
        sink.write(flush)
    sink.close()
    assert stored(own_server.url, source) == [c for flush in flushes for c in coordinates(flush)]


@EVERY_FORMAT
def test_a_message_larger_than_the_server_takes(
    format_: dict[str, Any], opened: Callable[..., JetStreamSink], nats_server: NATSServer
) -> None:
    source = new_source()
    sink = opened(source, **format_)
    flush = samples(source).flush([SampleTransaction((0,) * 5)])
    long = "ä" * 1_500_000
    data = flush.batches[0].data
    rows = data.to_pylist()
    rows[2]["after"] = {"id": 7, "c_varchar": long}
    batch = replace(flush.batches[0], data=pa.RecordBatch.from_pylist(rows, schema=data.schema))
    flush = replace(flush, batches=(batch,))
    sink.write(flush)
    found = read_all(nats_server.url, source)
    if not format_:
        assert [sequence for sequence, _ in found] == [1, 2, 3, 4, 5]
    assert found[2][1]["after"] == {"id": 7, "c_varchar": long}
    assert stored(nats_server.url, source) == coordinates(flush)


def test_no_server() -> None:
    sink = JetStreamSink(JetStreamOptions(url="nats://127.0.0.1:1", connect_timeout_s=60))
    with pytest.raises(SinkError, match=r"NATS at nats://127.0.0.1:1 cannot be reached .*check the address"):
        sink.open("main")


@pytest.mark.server
def test_wrong_password() -> None:
    options = {"authorization": '{ user: "u", password: "right" }'}
    with servers.nats(options=options) as server:
        url = f"nats://u:wrong@{server.host}:{server.port}"
        with pytest.raises(SinkError, match="refuses the credentials") as caught:
            JetStreamSink(JetStreamOptions(url=url)).open("main")
        assert "wrong" not in str(caught.value)
        sink = JetStreamSink(JetStreamOptions(url=server.url, user="u", password="right"))
        assert sink.open("main") is None
        sink.close()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("allow_atomic", False),
        ("allow_direct", False),
        ("storage", "memory"),
        ("retention", "workqueue"),
        ("max_msgs_per_subject", 3),
    ],
)
def test_a_stream_of_another_shape(setting: str, value: Any, nats_server: NATSServer) -> None:
    source = new_source()
    shape: dict[str, Any] = {"allow_atomic": True, "allow_direct": True, setting: value}
    config = StreamConfig(name=subjects.stream_name(source), subjects=[subjects.all_subjects(source)], **shape)
    ask(nats_server.url, lambda js: js.add_stream(config))
    with pytest.raises(SinkError, match=rf"{setting} is .* and must be"):
        JetStreamSink(JetStreamOptions(url=nats_server.url)).open(source)


def test_a_foreign_last_message(nats_server: NATSServer, opened: Callable[..., JetStreamSink]) -> None:
    source = new_source()
    opened(source)
    ask(nats_server.url, lambda js: js.publish(f"cdc.{source}.a.b", b"x"))
    with pytest.raises(PositionError, match=r"is not empty .* no message in it carries a checkpoint .* stream purge"):
        JetStreamSink(JetStreamOptions(url=nats_server.url)).open(source)


def test_the_stream_is_deleted_meanwhile(nats_server: NATSServer, opened: Callable[..., JetStreamSink]) -> None:
    source = new_source()
    sink = opened(source, reconnect_timeout_s=1.0)
    maker = samples(source)
    sink.write(maker.flush(1))
    ask(nats_server.url, lambda js: js.delete_stream(subjects.stream_name(source)))
    with pytest.raises(SinkError, match=r"deleted while the tail ran|does not store|failed"):
        sink.write(maker.flush(1))


@EVERY_FORMAT
@pytest.mark.server
def test_a_full_server(format_: dict[str, Any]) -> None:
    with servers.nats(options={"jetstream.max_file_store": "1MB"}) as server:
        source = new_source()
        patience: dict[str, Any] = {"reconnect_timeout_s": 2.0, "request_timeout_s": 3.0}
        sink = JetStreamSink(JetStreamOptions(url=server.url, **patience, **format_))
        sink.open(source)
        flush = samples(source, SampleOptions(tables=(sample_schema(),))).flush([SampleTransaction((0,) * 2000)])
        with pytest.raises(SinkError, match=r"free (disk )?space, or raise max_file_store"):
            sink.write(flush)
        checkpoint = sink.open(source)
        kept = stored(server.url, source)
        assert kept + coordinates(flush.without_stored(checkpoint)) == coordinates(flush)
        sink.close()


@pytest.mark.parametrize(
    "options",
    [{"changes_per_message": 0}, {"format": "xml"}, {"replicas": 0}, {"max_age_s": -1}, {"compression": "zip"}],
)
def test_impossible_options(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        JetStreamOptions(**options)


def test_options_do_not_show_secrets() -> None:
    assert "secret" not in repr(JetStreamOptions(password="secret", token="secret"))


def _checkpoint_sequences(url: str, source: str) -> list[int]:
    async def look(js: Any) -> list[int]:
        stream = subjects.stream_name(source)
        last = (await js.stream_info(stream)).state.last_seq
        messages = [await js.get_msg(stream, sequence) for sequence in range(1, last + 1)]
        return [message.seq for message in messages if "Cdc-Checkpoint" in (message.headers or {})]

    found: list[int] = ask(url, look)
    return found


def _cut_back(url: str, source: str, end: int) -> None:
    """Delete every message after `end`."""

    async def cut(js: Any) -> None:
        stream = subjects.stream_name(source)
        last = (await js.stream_info(stream)).state.last_seq
        for sequence in range(end + 1, last + 1):
            try:
                await js.delete_msg(stream, sequence)
            except nats.js.errors.APIError:
                continue

    ask(url, cut)
