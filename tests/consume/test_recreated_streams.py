"""A stream that was lost and written again: each change is handled once, runs end, and a gap is reported once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from binlogsync.codec.subjects import stream_name, table_subject
from binlogsync.consume import engine
from binlogsync.consume.delivery import TableDelivery
from binlogsync.consume.engine import ConsumeOptions, consume_together
from binlogsync.consume.gaps import acknowledge_gaps, gaps_of, open_gaps
from binlogsync.consume.handler import Handler
from binlogsync.consume.progress import ProgressKey, Tracker
from binlogsync.consume.start_position import Start
from binlogsync.errors import ConfigError
from binlogsync.mirror.catch_up import CatchUp, find_last_checkpoint
from binlogsync.mirror.target import Mirror
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.complete_reading import StreamRecreatedError
from binlogsync.nats.reader import StreamReader
from binlogsync.servers import NATSServer
from binlogsync.targets.duckdb.progress import PROGRESS
from binlogsync.targets.load_state import LoadState
from tests.consume.test_consume import NOTES, SAMPLES, SampleRow, SampleStream, ids, record, seen
from tests.duck import make_older, query
from tests.nats_commands import ask, delete_stream, purge_stream
from tests.samples import SampleOptions, SampleSource, SampleTransaction, sample_schema
from tests.waiting import wait_until

LIMITED = ConsumeOptions(idle_s=0.5, gather_s=0.05, max_s=60.0)


@pytest.fixture
def stream(nats_server: NATSServer, request: pytest.FixtureRequest) -> Iterator[SampleStream]:
    name = f"r{abs(hash(request.node.name)) % 10**9}"
    yield SampleStream(nats_server.url, name)
    delete_stream(nats_server.url, stream_name(name))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tables.duckdb"


@pytest.fixture
def checks_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine looks for a recreated stream after each fetch."""
    monkeypatch.setattr(engine, "_VERIFY_EVERY_S", 0.0)


@pytest.mark.usefixtures("checks_always")
def test_a_group_is_drained_after_its_stream_was_written_again(stream: SampleStream, path: Path) -> None:
    def run() -> tuple[int, bool]:
        with StreamReader(NatsOptions(url=stream.url), stream.name) as reader:
            targets = {table: Mirror(path, *table) for table in (SAMPLES, NOTES)}
            found = consume_together(reader, targets, LIMITED, threading.Event()).values()
        return sum(done.changes for done in found), all(done.is_drained for done in found)

    stream.write(6, 5)
    assert run() == (len(ids("samples", 6, 5)) + len(ids("notes", 6, 5)), True)
    stream.refill(6, 5)
    assert run() == (0, True)


@pytest.mark.usefixtures("checks_always")
def test_new_changes_after_many_applied_ones_are_handled(stream: SampleStream, path: Path) -> None:
    pair = [SampleTransaction((0, 1))]
    stream.write(pair * 40)
    stream.consume(Handler(SampleRow, record, path))
    stream.refill(pair * 40, pair)
    # Fetched in small parts: the applied changes alone take longer than the run may be idle.
    done = stream.consume(Handler(SampleRow, record, path), options=replace(LIMITED, max_changes=1))
    assert (done.changes, done.is_drained) == (len(ids("samples", pair * 41)) - len(ids("samples", pair * 40)), True)
    assert seen(path) == ids("samples", pair * 41)


def test_nothing_is_handled_twice_when_the_new_stream_drops_messages(nats_server: NATSServer, path: Path) -> None:
    stream = SampleStream(nats_server.url, "renumbered", changes_per_message=10)
    stream.write(6, 6)
    stream.consume(Handler(SampleRow, record, path))
    stream.options = replace(stream.options, changes_per_message=1)
    stream.refill(6, 6, shift=False)
    assert stream.consume(Handler(SampleRow, record, path)).changes == 0
    purge_stream(stream.url, stream_name(stream.name), keep=4)
    assert stream.consume(Handler(SampleRow, record, path)).changes == 0
    assert seen(path) == ids("samples", 6, 6)


def test_a_gap_that_was_acknowledged_stays_so(stream: SampleStream, path: Path) -> None:
    stream.write(6)
    handler = Handler(SampleRow, record, path)
    stream.consume(handler)
    key = ProgressKey("binlogsync", stream.name, *SAMPLES)

    def lose() -> None:
        """The stream is lost, with changes of the table; what is written then has only the other table."""
        delete_stream(stream.url, stream_name(stream.name))
        stream.source = SampleSource(SampleOptions(source=stream.name))
        stream.source.flush([SampleTransaction((0,))] * 12)
        stream.write([SampleTransaction((1,))] * 3)

    for number in (1, 2):
        lose()
        assert stream.consume(handler).gap is not None
        assert len(open_gaps(handler.store, key)) == 1
        acknowledge_gaps(handler.store, key, "accepted", "a test")
        assert stream.consume(handler).gap is None, "the recreated stream is known"
        assert not open_gaps(handler.store, key)
        assert len(gaps_of(handler.store, key)) == number, "another loss is another gap"


@pytest.mark.parametrize("start", ["all", "new"])
def test_changes_that_a_grown_new_stream_dropped_are_a_gap(stream: SampleStream, path: Path, start: Start) -> None:
    """The new stream has more messages than were read of the former one, and no longer has its first changes."""
    handler = Handler(SampleRow, record, path)
    options = replace(LIMITED, start=start)
    stream.write([SampleTransaction((0,))], *[[SampleTransaction((1,))]] * 20)
    stream.consume(handler, options=options)
    delete_stream(stream.url, stream_name(stream.name))
    stream.write(*[[SampleTransaction((0,))]] * 7, *[[SampleTransaction((1,))]] * 30)
    purge_stream(stream.url, stream_name(stream.name), keep=30)
    done = stream.consume(handler, options=options)
    assert done.gap is not None
    assert "was recreated" in done.gap
    key = ProgressKey("binlogsync", stream.name, *SAMPLES)
    assert [gap.kind for gap in open_gaps(handler.store, key)] == ["recreated"]
    assert stream.consume(handler, options=options).gap is None, "it is reported once"


def test_a_fetch_from_a_new_stream_that_has_grown_is_noticed(stream: SampleStream, path: Path) -> None:
    """Its next message has the next sequence, but other changes before it."""
    stream.write([SampleTransaction((0,))])
    handler, key = Handler(SampleRow, record, path), ProgressKey("me", stream.name, *SAMPLES)
    with StreamReader(NatsOptions(url=stream.url), stream.name) as reader:
        delivery = TableDelivery(reader, "grown", handler, Tracker(key, handler.store.load(key)), "warn")
        delivery.begin()
        assert delivery.fetch(10, 5.0)
        stream.refill(*[[SampleTransaction((0,))]] * 8)
        with pytest.raises(StreamRecreatedError):
            wait_until(lambda: delivery.fetch(10, 0.2), 20, "a fetch from the new stream")


def test_progress_without_a_creation_time_is_completed(stream: SampleStream, path: Path) -> None:
    """Progress of an older version."""
    stream.write(3)
    handler = Handler(SampleRow, record, path)
    stream.consume(handler)
    created = query(path, f"SELECT stream FROM {PROGRESS}")
    make_older(path, f"ALTER TABLE {PROGRESS} DROP COLUMN stream")
    done = stream.consume(handler)
    assert (done.changes, done.gap) == (0, None)
    assert query(path, f"SELECT stream FROM {PROGRESS}") == created
    assert created[0][0] is not None


def test_a_load_ends_although_another_program_wrote_to_the_subject(stream: SampleStream) -> None:
    stream.write([SampleTransaction((1,))])
    with StreamReader(NatsOptions(url=stream.url), stream.name) as reader:
        found = find_last_checkpoint(reader)
        assert found is not None
        start, sequence = found
        ask(stream.url, lambda jetstream: jetstream.publish(table_subject(stream.name, *NOTES), b"hello"))
        stream.write([SampleTransaction((0,))])
        last = find_last_checkpoint(reader)
        assert last is not None
        load = LoadState(
            start, sequence, start.server_uuid, sample_schema("notes"), (), ("id",), sequence, high=last[0]
        )
        stop = threading.Event()
        limit = threading.Timer(60.0, stop.set)
        limit.start()
        assert CatchUp(reader, load, lambda state, change: None, lambda: None, stop).run() == last[0]
        limit.cancel()


def test_several_tables_cannot_share_a_durable(stream: SampleStream, path: Path) -> None:
    targets = {table: Mirror(path, *table) for table in (SAMPLES, NOTES)}
    reader = StreamReader(NatsOptions(url=stream.url), stream.name)
    with pytest.raises(ConfigError, match="need a durable each"):
        consume_together(reader, targets, replace(LIMITED, durable="mine"), threading.Event())
