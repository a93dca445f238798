"""The consumer engine with a real nats-server: exactly once through kills, recreated streams and failing handlers."""

from __future__ import annotations

import logging
import random
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from binlogsync.change import Change
from binlogsync.codec.subjects import stream_name, table_subject
from binlogsync.consume.engine import ConsumeOptions, ConsumeResult, consume, consume_together
from binlogsync.consume.handler import Handler
from binlogsync.consume.progress import ProgressKey, Tracker
from binlogsync.consume.retry import Retry
from binlogsync.consume.targets import Target
from binlogsync.errors import ConfigError, ConsumeError, HandlerError, ModelError
from binlogsync.mirror.target import Mirror
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.server_version import ServerFlavor
from binlogsync.servers import NATSServer
from binlogsync.sinks.jetstream import JetStreamOptions, JetStreamSink
from binlogsync.targets.duckdb.file import META_SCHEMA
from binlogsync.targets.duckdb.store import DuckStore
from tests.duck import mirror_rows, query
from tests.forked import ForkedProcess
from tests.nats_commands import ask, delete_stream, purge_stream
from tests.samples import SampleOptions, SampleSource, SampleTransaction

QUICK = ConsumeOptions(idle_s=0.1, gather_s=0.05)
SAMPLES, NOTES = ("shop", "samples"), ("shop", "notes")


@dataclass
class SampleRow:
    """A model with two of the columns."""

    __tablename__ = "samples"

    id: int
    c_varchar: str | None


class SampleStream:
    """A source's stream on the shared server, filled from a SampleSource."""

    def __init__(self, url: str, name: str, **options: Any) -> None:
        self.url, self.name = url, name
        self.options = JetStreamOptions(url=url, **options)
        self.source = SampleSource(SampleOptions(source=name))

    def write(self, *flushes: int | list[SampleTransaction]) -> None:
        sink = JetStreamSink(self.options)
        sink.open(self.name)
        for transactions in flushes:
            sink.write(self.source.flush(transactions))
        sink.close()

    def consume(
        self, target: Target, table: tuple[str, str] = SAMPLES, options: ConsumeOptions = QUICK
    ) -> ConsumeResult:
        with StreamReader(NatsOptions(url=self.url), self.name) as reader:
            return consume(reader, table, target, options, threading.Event())

    def refill(self, *flushes: int | list[SampleTransaction], shift: bool = True) -> None:
        """Delete the stream and write it again from the beginning; its sequences then differ."""
        delete_stream(self.url, stream_name(self.name))
        self.source = SampleSource(SampleOptions(source=self.name))
        if shift:
            self.options = JetStreamOptions(url=self.url, changes_per_message=3)
        self.write(*flushes)


@pytest.fixture
def stream(nats_server: NATSServer, request: pytest.FixtureRequest) -> Iterator[SampleStream]:
    name = f"c{abs(hash(request.node.name)) % 10**9}"
    yield SampleStream(nats_server.url, name)
    delete_stream(nats_server.url, stream_name(name))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tables.duckdb"


def record(change: Change[SampleRow], connection: duckdb.DuckDBPyConnection) -> None:
    """A handler that writes the ids of changes in its transaction."""
    connection.execute("CREATE TABLE IF NOT EXISTS seen (n INT, id VARCHAR, op VARCHAR)")
    connection.execute("INSERT INTO seen SELECT count(*), ?, ? FROM seen", [change.id, change.op])


def seen(path: Path) -> list[str]:
    return [row[0] for row in query(path, "SELECT id FROM seen ORDER BY n")]


def ids(table: str, *flushes: int | list[SampleTransaction]) -> list[str]:
    """The ids of the changes of that table in the flushes."""
    source = SampleSource()
    batches = [batch for transactions in flushes for batch in source.flush(transactions).batches]
    return [change.id for batch in batches if batch.schema.table == table for change in batch.changes()]


def expected_rows(transactions: int) -> list[tuple[Any, ...]]:
    """The expected rows of the mirror of shop.samples."""
    alive: dict[int, dict[str, Any]] = {}
    for batch in SampleSource().flush(transactions).batches:
        for change in batch.changes() if batch.schema.table == "samples" else ():
            row = change.after or change.before or {}
            alive.pop(row["id"], None)
            if change.after is not None:
                wide = row["c_wide_decimal"]
                alive[row["id"]] = row | {"c_wide_decimal": None if wide is None else f"{wide:f}"}
    return sorted((tuple(row.values()) for row in alive.values()), key=repr)


def test_a_mirror_follows_the_stream(stream: SampleStream, path: Path) -> None:
    stream.write(6, 6)
    done = stream.consume(Mirror(path, *SAMPLES))
    assert mirror_rows(path, *SAMPLES) == expected_rows(12)
    assert done.changes == sum(done.counts.values()) == len(ids("samples", 12))
    assert done.first is not None
    assert done.last is not None
    assert done.first.coordinates < done.last.coordinates
    assert done.is_drained
    assert done.lag_s is not None
    assert done.lag_s > 0
    stream.write(4)
    assert stream.consume(Mirror(path, *SAMPLES)).changes == len(ids("samples", 16)) - len(ids("samples", 12))
    assert stream.consume(Mirror(path, *SAMPLES)).changes == 0
    assert mirror_rows(path, *SAMPLES) == expected_rows(16)


@pytest.mark.parametrize("options", [{"format": "arrow"}, {"changes_per_message": 5}], ids=["arrow", "lines"])
def test_other_formats(nats_server: NATSServer, path: Path, options: dict[str, Any]) -> None:
    stream = SampleStream(nats_server.url, "other-" + "-".join(options), **options)
    stream.write(6, 6)
    stream.consume(Mirror(path, *SAMPLES))
    assert mirror_rows(path, *SAMPLES) == expected_rows(12)


def test_two_clients_get_everything_each(stream: SampleStream, path: Path) -> None:
    stream.write(6)
    for client in ("a", "b"):
        options = ConsumeOptions(client_id=client, idle_s=0.1)
        done = stream.consume(Handler(SampleRow, lambda change: None, path), options=options)
        assert done.changes == len(ids("samples", 6))


def test_a_handler_gets_models(stream: SampleStream, path: Path) -> None:
    found: list[Change[SampleRow]] = []
    stream.write(8)
    stream.consume(Handler(SampleRow, found.append, path))
    assert [change.id for change in found] == ids("samples", 8)
    assert found[0].op == "c"
    assert found[0].before is None
    assert isinstance(found[0].after, SampleRow)
    assert found[0].after.id == 1
    assert "c_varchar" in found[1].changed()


@pytest.mark.parametrize("shift", [True, False], ids=["other-sequences", "same-sequences"])
def test_coordinates_decide_when_the_stream_was_filled_anew(
    stream: SampleStream, path: Path, caplog: pytest.LogCaptureFixture, shift: bool
) -> None:
    stream.write(6, 5)
    stream.consume(Handler(SampleRow, record, path))
    stream.refill(6, 5, 9, shift=shift)
    with caplog.at_level(logging.WARNING):
        done = stream.consume(Handler(SampleRow, record, path))
    assert seen(path) == ids("samples", 6, 5, 9)
    if shift:
        assert "was recreated" in caplog.text
        assert done.skipped == len(ids("samples", 6, 5))


def test_a_stream_that_lost_its_end_and_got_it_again(stream: SampleStream, path: Path) -> None:
    pair = [SampleTransaction((0, 1))]
    stream.write(pair * 11)
    stream.consume(Handler(SampleRow, record, path))
    stream.refill(pair * 4, shift=False)
    assert stream.consume(Handler(SampleRow, record, path)).changes == 0
    stream.write(pair * 7, pair * 6)
    stream.consume(Handler(SampleRow, record, path))
    assert seen(path) == ids("samples", pair * 17)


def test_another_server_without_common_gtids_is_refused(stream: SampleStream, path: Path) -> None:
    stream.write(3)
    stream.consume(Handler(SampleRow, record, path))
    delete_stream(stream.url, stream_name(stream.name))
    stream.source = SampleSource(SampleOptions(source=stream.name, flavor=ServerFlavor.MARIADB))
    stream.write(3)
    with pytest.raises(ConsumeError, match="no GTID identifies the applied changes"):
        stream.consume(Handler(SampleRow, record, path))


def test_dropped_messages_are_said(stream: SampleStream, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stream.write(6)
    stream.consume(Handler(SampleRow, record, path))
    stream.write(8)
    purge_stream(stream.url, stream_name(stream.name), keep=2)
    strict = ConsumeOptions(idle_s=0.1, on_gap="fail")
    with pytest.raises(ConsumeError, match="dropped sequences"):
        stream.consume(Handler(SampleRow, record, path), options=strict)
    with caplog.at_level(logging.ERROR):
        assert stream.consume(Handler(SampleRow, record, path)).gap is not None
    assert "changes of this table may be missing" in caplog.text


def test_dropped_messages_that_were_seen_are_not_reported(stream: SampleStream, path: Path) -> None:
    stream.write([SampleTransaction((0,))], [SampleTransaction((1,))] * 5)
    stream.consume(Handler(SampleRow, record, path))
    purge_stream(stream.url, stream_name(stream.name), keep=1)
    stream.write([SampleTransaction((0,))])
    done = stream.consume(Handler(SampleRow, record, path), options=ConsumeOptions(idle_s=0.1, on_gap="fail"))
    assert (done.changes, done.gap) == (1, None)


class FailingHandler:
    """Fails for one change, a number of times."""

    def __init__(self, change_id: str, times: int) -> None:
        self.change_id, self.times = change_id, times
        self.calls: list[str] = []

    def plain(self, change: Change[SampleRow]) -> None:
        self.calls.append(change.id)
        if change.id == self.change_id and self.times:
            self.times -= 1
            raise RuntimeError("not today")

    def stored(self, change: Change[SampleRow], connection: duckdb.DuckDBPyConnection) -> None:
        record(change, connection)
        self.plain(change)


RETRY = Retry(tries=3, first_wait_s=0.01)


@pytest.mark.parametrize("per_message", [1, 4])
def test_a_failing_handler_blocks_its_own_table_only(nats_server: NATSServer, path: Path, per_message: int) -> None:
    stream = SampleStream(nats_server.url, f"failing{per_message}", changes_per_message=per_message)
    stream.write(12)
    wanted = ids("samples", 12)
    bad = FailingHandler(wanted[6], times=100)
    for run in range(2):
        with pytest.raises(HandlerError, match="not today") as caught:
            stream.consume(Handler(SampleRow, bad.plain, path, RETRY))
        assert (caught.value.change_id, caught.value.tries, caught.value.table) == (wanted[6], 3, "shop.samples")
        assert isinstance(caught.value.__cause__, RuntimeError)
        assert bad.calls == wanted[:6] + [wanted[6]] * 3 * (run + 1)
    assert stream.consume(Handler(SampleRow, lambda change: None, path), NOTES).changes == len(ids("notes", 12))
    bad.times = 0
    stream.consume(Handler(SampleRow, bad.plain, path, RETRY))
    assert bad.calls[12:] == wanted[6:]


@pytest.mark.parametrize("per_message", [1, 4])
def test_what_a_handler_stores_is_there_once_whatever_fails(
    nats_server: NATSServer, path: Path, per_message: int
) -> None:
    stream = SampleStream(nats_server.url, f"stores{per_message}", changes_per_message=per_message)
    stream.write(12)
    wanted = ids("samples", 12)
    with pytest.raises(HandlerError):
        stream.consume(Handler(SampleRow, FailingHandler(wanted[6], times=3).stored, path, RETRY))
    assert seen(path) == wanted[:6]
    stream.consume(Handler(SampleRow, FailingHandler(wanted[8], times=2).stored, path, RETRY))
    assert seen(path) == wanted


def test_a_model_that_does_not_fit_stops_before_any_row(stream: SampleStream, path: Path) -> None:
    @dataclass
    class Wrong:
        id: str

    stream.write(2)
    with pytest.raises(ModelError, match=r"Wrong\.id does not fit shop\.samples\.id: the column is bigint unsigned"):
        stream.consume(Handler(Wrong, lambda change: None, path))


def test_a_handler_of_a_wrong_shape_is_refused(path: Path) -> None:
    with pytest.raises(ConfigError, match="takes 3 arguments"):
        Handler(SampleRow, lambda a, b, c: None, path)


def test_two_consumers_of_one_name_cannot_both_move_on(path: Path) -> None:
    batch = SampleSource().flush(2).batches[0]
    key, file = ProgressKey("a", "demo", *SAMPLES), DuckStore(path, error=ConsumeError)
    with file.begin() as transaction:
        first, second = (Tracker(key, transaction.load_progress(key)) for _ in range(2))
    with file.begin() as transaction:
        first.move(transaction, [(batch, 1)])
    with pytest.raises(ConsumeError, match="progress was changed by another process"), file.begin() as transaction:
        second.move(transaction, [(batch, 1)])


def test_tables_that_change_together_pass_over_messages_of_other_programs(stream: SampleStream, path: Path) -> None:
    """Such a message is the last one of a table, so no later change of that table shows that it was delivered."""
    stream.write(8)
    ask(stream.url, lambda jetstream: jetstream.publish(table_subject(stream.name, *SAMPLES), b"hello"))
    stream.write([])
    mirrors = {table: Mirror(path, *table) for table in (SAMPLES, NOTES)}
    with StreamReader(NatsOptions(url=stream.url), stream.name) as reader:
        done = consume_together(reader, mirrors, replace(QUICK, max_s=20.0), threading.Event())
        assert reader.foreign == 1
    assert {table: (each.changes, each.is_drained) for table, each in done.items()} == {
        table: (len(ids(table[1], 8)), True) for table in (SAMPLES, NOTES)
    }
    assert mirror_rows(path, *SAMPLES) == expected_rows(8)


def test_stop_ends_a_run_in_good_order(stream: SampleStream, path: Path) -> None:
    stream.write(6)
    stop = threading.Event()
    with StreamReader(NatsOptions(url=stream.url), stream.name) as reader:
        handler = Handler(SampleRow, lambda change: stop.set(), path)
        done = consume(reader, SAMPLES, handler, ConsumeOptions(idle_s=60), stop)
    assert not done.is_drained
    assert stream.consume(Handler(SampleRow, lambda change: None, path)).changes + done.changes == len(
        ids("samples", 6)
    )


def test_max_s_ends_a_run_that_would_stay(stream: SampleStream, path: Path) -> None:
    stream.write(2)
    done = stream.consume(Mirror(path, *SAMPLES), options=ConsumeOptions(idle_s=60, max_s=0.5))
    assert not done.is_drained
    assert done.seconds < 60


@pytest.mark.slow
@pytest.mark.parametrize("kills", [(3, 9), pytest.param((3, 15, 8, 1), marks=pytest.mark.exhaustive)])
def test_killed_consumers_leave_each_change_once(stream: SampleStream, path: Path, kills: tuple[int, ...]) -> None:
    stream.write(*[8] * 20)
    dice, stored = random.Random(7), set[tuple[Any, ...]]()
    for kill_after in (*kills, None):
        with ForkedProcess(
            "tests.consume.killed_consumer",
            *(stream.url, stream.name, str(path)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as consumer:
            assert consumer.stdin is not None
            assert consumer.stdout is not None
            # It may store once more than it has reported: the kill comes then, at any point of that.
            consumer.stdin.write("\n" * (1000 if kill_after is None else kill_after + 1))
            consumer.stdin.flush()
            for count, _ in enumerate(consumer.stdout, 1):
                if count == kill_after:
                    time.sleep(dice.uniform(0, 0.02))
                    consumer.kill()
            code = consumer.wait(60)
        if path.exists():
            stored.add(tuple(query(path, f"SELECT table_name, changes FROM {META_SCHEMA}.progress ORDER BY ALL")))
    assert code == 0
    assert len(stored) == len(kills) + 1, "no kill came while changes were handled"
    assert seen(path) == ids("samples", *[8] * 20)
    [(count,)] = query(path, f"SELECT sum(changes)::INT FROM {META_SCHEMA}.progress")
    assert count == len(ids("samples", *[8] * 20)) + len(ids("notes", *[8] * 20))
