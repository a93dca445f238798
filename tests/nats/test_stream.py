"""The stream reader with a real nats-server: order, durables, gaps, acks, and invalid messages."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from binlogsync.codec import subjects
from binlogsync.errors import ConfigError, SinkError, WireError
from binlogsync.nats.adapter import send_framed
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import DurableState, StreamBatch, StreamReader
from binlogsync.nats.stream_status import read_stream_status
from binlogsync.schema import Column, TableSchema
from binlogsync.servers import NATSServer
from binlogsync.sinks.jetstream import JetStreamOptions, JetStreamSink
from tests.nats_commands import ask
from tests.samples import SampleOptions, SampleSource, SampleTransaction, sample_schema
from tests.sinks.jetstream_streams import fetch_all
from tests.sinks.nats_proxy import NatsProxy
from tests.waiting import wait_until

_NUMBERS = itertools.count(1)
_S = 60.0
"""Time limit of a fetch that finds messages."""
_COLUMNS = (Column("id", "bigint", False, True), Column("c_varchar", "varchar"))
TABLES = (TableSchema("shop", "small", _COLUMNS, ("id",)), TableSchema("höhe.*", "odd > name", _COLUMNS, ("id",)))
FORMATS: list[dict[str, Any]] = [{}, {"changes_per_message": 4, "compression": "s2"}, {"format": "arrow"}]


class FilledStream:
    """A stream with flushes of two tables."""

    def __init__(self, server: NATSServer, tables: tuple[TableSchema, ...] = TABLES, **options: Any) -> None:
        self.source = f"stream{next(_NUMBERS)}"
        self.server = server
        self.samples = SampleSource(SampleOptions(source=self.source, tables=tables))
        self.sink = JetStreamSink(JetStreamOptions(url=server.url, **options))
        self.sink.open(self.source)
        self.rows: list[dict[str, Any]] = []

    def write(self, transactions: int) -> None:
        """Write `transactions` transactions; `rows` collects the changes of the first table."""
        flush = self.samples.flush(transactions)
        self.sink.write(flush)
        for batch in flush.batches:
            if batch.schema.name == TABLES[0].name:
                self.rows += without_seq(batch.data)

    def reader(self, url: str | None = None) -> StreamReader:
        return StreamReader(NatsOptions(url=url or self.server.url), self.source)


def without_seq(data: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = data.drop_columns(["seq"]).to_pylist()
    return rows


def drain(reader: StreamReader, durable: str = "d", size: int = 7) -> list[StreamBatch]:
    return fetch_all(reader, durable, size)


def rows_of(batches: list[StreamBatch]) -> list[dict[str, Any]]:
    return [row for item in batches for row in without_seq(item.batch.data)]


@pytest.fixture
def fill(nats_server: NATSServer) -> Iterator[Callable[..., FilledStream]]:
    made: list[FilledStream] = []

    def make(**options: Any) -> FilledStream:
        made.append(FilledStream(nats_server, **options))
        return made[-1]

    yield make
    for filled in made:
        filled.sink.close()


@pytest.mark.parametrize("options", FORMATS, ids=["json", "lines", "arrow"])
def test_a_table_reads_back_in_order(options: dict[str, Any], fill: Callable[..., FilledStream]) -> None:
    filled = fill(**options)
    for _ in range(3):
        filled.write(9)
    with filled.reader() as reader:
        reader.ensure_durable("d", "shop", "small", 1)
        batches = drain(reader)
        assert rows_of(batches) == filled.rows
        sequences = [s for item in batches for s in item.sequences.tolist()]
        assert sequences == sorted(sequences)
        assert [s for item in batches for s in item.batch.data.column("seq").to_pylist()] == sequences
        assert set(reader.tables()) == {("shop", "small"), ("höhe.*", "odd > name")}


@pytest.mark.parametrize("compression", ["none", "s2"])
def test_compression_of_a_new_stream(compression: str, nats_server: NATSServer) -> None:
    made = FilledStream(nats_server, compression=compression)
    info = ask(nats_server.url, lambda js: js.stream_info(subjects.stream_name(made.source)))
    assert str(info.config.compression) == compression
    made.sink.close()
    # An existing stream is used as it is.
    JetStreamSink(JetStreamOptions(url=nats_server.url)).open(made.source)


def test_a_durable_begins_where_it_is_told(fill: Callable[..., FilledStream]) -> None:
    filled = fill()
    filled.write(12)
    with filled.reader() as reader:
        reader.ensure_durable("d", "shop", "small", 1)
        batches = drain(reader)
        sequences = [s for item in batches for s in item.sequences.tolist()]
        assert reader.pending("d") == DurableState(0, len(sequences), sequences[-1])
        for start in (sequences[5], sequences[5] + 1, 1, sequences[-1]):
            reader.ensure_durable("d", "shop", "small", start)
            again = drain(reader)
            assert [s for item in again for s in item.sequences.tolist()] == [s for s in sequences if s >= start]
        reader.ensure_durable("d", "shop", "small", 4)
        assert reader.pending("d") == DurableState(len([s for s in sequences if s >= 4]), 0, 3)
        reader.delete_durable("d")
        assert reader.pending("d") is None
        reader.delete_durable("d")


def test_an_ack_clears_what_lies_before_it_and_a_restart_goes_on(fill: Callable[..., FilledStream]) -> None:
    filled = fill()
    filled.write(12)
    with filled.reader() as reader:
        reader.ensure_durable("d", "shop", "small", 1)
        first = reader.fetch("d", 4, _S)
        rest = drain(reader)
        reader.ack(first[-1])
        pending = reader.pending("d")
        assert pending is not None
        assert pending.num_ack_pending == len(rows_of(rest))
        reader.ack(rest[-1])
        assert reader.pending("d") == DurableState(0, 0, rest[-1].last_sequence)
    filled.write(2)
    with filled.reader() as reader:
        reader.ensure_durable("d", "shop", "small", rest[-1].last_sequence + 1)
        assert rows_of([*first, *rest, *drain(reader)]) == filled.rows


def test_what_was_not_acked_comes_first_after_a_crash(fill: Callable[..., FilledStream]) -> None:
    filled = fill()
    filled.write(12)
    with filled.reader() as reader:
        reader.ensure_durable("d", "shop", "small", 1)
        first = reader.fetch("d", 3, _S)
        reader.ack(first[-1])
        reader.fetch("d", 3, _S)
    with filled.reader() as reader:
        reader.ensure_durable("d", "shop", "small", first[-1].last_sequence + 1)
        assert rows_of([*first, *drain(reader)]) == filled.rows


def test_nothing_is_missed_over_broken_connections(fill: Callable[..., FilledStream], nats_server: NATSServer) -> None:
    filled = fill()
    filled.write(30)
    with NatsProxy(nats_server.host, nats_server.port) as proxy, filled.reader(proxy.url) as reader:
        reader.ensure_durable("d", "shop", "small", 1)
        batches: list[StreamBatch] = []
        for number in range(4):
            if number % 2:
                proxy.cut()
            else:
                proxy.lose_next(b"MSG")
            batches += reader.fetch("d", 3, _S)
        assert proxy.cuts >= 1
        batches += drain(reader)
        assert rows_of(batches) == filled.rows
        reader.ack(batches[-1])


def test_looking_at_single_messages(fill: Callable[..., FilledStream]) -> None:
    filled = fill()
    with filled.reader() as reader:
        assert (reader.first_sequence(), reader.last_sequence()) == (1, 0)
        filled.write(3)
        filled.sink.write(filled.samples.flush([SampleTransaction((None,))]))
        last = reader.last_sequence()
        assert reader.first_sequence() == 1
        assert reader.change_at(last) is None
        assert reader.change_at(0) is None
        assert reader.checkpoint_at(0) is None
        assert reader.change_at(last + 1) is None
        change = reader.change_at(1)
        assert change is not None
        assert without_seq(change.data) == filled.rows[:1]


def test_nothing_comes_in_time(fill: Callable[..., FilledStream]) -> None:
    filled = fill()
    with filled.reader() as reader:
        reader.ensure_durable("d", "shop", "small", 1)
        assert reader.fetch("d", 10, 0.2) == []
        filled.write(1)
        assert rows_of(list(reader.fetch("d", 10, _S))) == filled.rows


FOREIGN_HEADERS: list[dict[str, str] | None] = [None, {"Content-Type": "application/json"}, {"X-Bridge": "höhe"}]


@pytest.mark.parametrize("headers", FOREIGN_HEADERS, ids=["none", "json", "other"])
@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
def test_a_message_that_no_tail_wrote_is_ignored(
    fill: Callable[..., FilledStream],
    nats_server: NATSServer,
    caplog: pytest.LogCaptureFixture,
    headers: dict[str, str] | None,
    first: bool,
) -> None:
    filled = fill()
    subject = subjects.table_subject(filled.source, "shop", "small")

    def publish() -> None:
        for body in (b"x", b"", b'{"op": "c"}'):
            ask(nats_server.url, lambda js: js.publish(subject, body, headers=headers))  # noqa: B023 - called at once

    if first:
        publish()
    filled.write(1)
    publish()
    filled.write(1)
    if not first:
        publish()
    with filled.reader() as reader:
        reader.ensure_durable("d", "shop", "small", 1)
        rows: list[dict[str, Any]] = []
        while (batches := reader.fetch("d", 2, 0.1)) or not reader.has_all("d"):
            rows += rows_of(list(batches))
            if batches:
                reader.ack(batches[-1])
        assert rows == filled.rows
        assert reader.foreign == 6
        pending = reader.pending("d")
        assert pending is not None
        assert (pending.num_pending, pending.num_ack_pending) == (0, 0), "a sensor would start run after run"
        assert reader.changes_from("shop", "small", 1)[0].last_sequence >= 1
    assert sum("no tail wrote it" in record.message for record in caplog.records) == 1
    assert reader.foreign == 6


def test_subjects_that_are_no_table_s_are_left_out(fill: Callable[..., FilledStream], nats_server: NATSServer) -> None:
    filled = fill()
    filled.write(1)
    for rest in ("a", "a.b.c", "a.b%", "a.b%2e"):
        ask(nats_server.url, lambda js: js.publish(f"cdc.{filled.source}.{rest}", b"x"))  # noqa: B023 - called at once
    with filled.reader() as reader:
        assert set(reader.tables()) <= {(table.database, table.table) for table in TABLES}
        for sequence in range(1, reader.last_sequence() + 1):
            reader.change_at(sequence)


DAMAGED_HEADERS = {"Cdc-Schema": "0" * 16, "Cdc-Checkpoint": "{}"}


def test_a_damaged_message_stops_the_table_until_it_is_gone(
    fill: Callable[..., FilledStream], nats_server: NATSServer
) -> None:
    filled = fill()
    filled.write(1)
    subject = subjects.table_subject(filled.source, "shop", "small")
    ask(nats_server.url, lambda js: js.publish(subject, b"x", headers=DAMAGED_HEADERS))
    with filled.reader() as reader:
        reader.ensure_durable("d", "shop", "small", 1)
        for _ in range(2):
            with pytest.raises(WireError, match=r"stream sequence 2: content type None"):
                reader.fetch("d", 10, _S)
        ask(nats_server.url, lambda js: js.delete_msg(subjects.stream_name(filled.source), 2))
        assert rows_of(drain(reader)) == filled.rows


def test_a_missing_schema_says_what_to_do(fill: Callable[..., FilledStream], nats_server: NATSServer) -> None:
    filled = fill()
    filled.write(1)
    ask(nats_server.url, lambda js: js.delete_key_value(subjects.schema_bucket(filled.source)))
    with filled.reader() as reader:
        reader.ensure_durable("d", "shop", "small", 1)
        with pytest.raises(WireError, match=r"has no table schema [0-9a-f]{16}.*restore the bucket"):
            reader.fetch("d", 10, _S)


@pytest.mark.parametrize("options", FORMATS, ids=["json", "lines", "arrow"])
def test_a_schema_larger_than_a_message(
    options: dict[str, Any], fill: Callable[..., FilledStream], nats_server: NATSServer
) -> None:
    """Like the schema of 25 columns with 2,600 labels."""
    enum = sample_schema().column("c_enum")
    labels = (*enum.labels, *(f"a label of about thirty letters {n}" for n in range(65_000 - len(enum.labels))))
    wide = TableSchema("shop", "small", (*_COLUMNS, replace(enum, labels=labels)), ("id",))
    filled = fill(tables=(wide, TABLES[1]), **options)
    filled.write(6)
    filled.sink.close()
    filled.sink.open(filled.source)  # stores the schema again
    filled.write(1)
    with filled.reader() as reader:
        reader.ensure_durable("d", "shop", "small", 1)
        batches = drain(reader)
        assert rows_of(batches) == filled.rows
        assert {batch.batch.schema for batch in batches} == {wide}
    if "format" not in options:
        ask(nats_server.url, lambda js: js.delete_object_store(subjects.schema_bucket(filled.source)))
        with filled.reader() as reader, pytest.raises(WireError, match=r"has no table schema [0-9a-f]{16}"):
            reader.schema(batches[0].batch.schema.fingerprint)


def test_no_stream_yet(nats_server: NATSServer) -> None:
    with pytest.raises(WireError, match=r"has no stream CDC_MISSING yet; start its tail"):
        StreamReader(NatsOptions(url=nats_server.url), "missing").open()


def test_no_server() -> None:
    with pytest.raises(SinkError, match="cannot be reached"):
        StreamReader(NatsOptions(url="nats://127.0.0.1:1", connect_timeout_s=_S), "missing").open()


def test_an_unknown_durable(fill: Callable[..., FilledStream]) -> None:
    with fill().reader() as reader, pytest.raises(ConfigError, match="call ensure_durable first"):
        reader.fetch("x")


def test_a_durable_that_nobody_uses_is_removed_and_made_again_where_progress_is(
    fill: Callable[..., FilledStream],
) -> None:
    filled = fill()
    filled.write(3)
    with filled.reader() as reader:
        reader.ensure_durable("d", "shop", "small", 1, 0.3)
        batches = drain(reader)
        reader.ack(batches[-1])
        reader.leave("d")
        wait_until(lambda: reader.pending("d") is None, 30, "the server to remove the durable")
        reader.ensure_durable("d", "shop", "small", reader.first_sequence())
        assert rows_of(drain(reader)) == rows_of(batches) == filled.rows
        config = ask(filled.server.url, lambda js: js.consumer_info(reader.stream, "d")).config
    assert config.inactive_threshold == 14 * 86400


def test_a_stream_takes_more_durables_than_the_server_allows_by_default(fill: Callable[..., FilledStream]) -> None:
    filled = fill()

    async def make(js: Any) -> int:
        for number in range(1001):
            await js.add_consumer(subjects.stream_name(filled.source), durable_name=f"d{number}", ack_policy="all")
        return int((await js.stream_info(subjects.stream_name(filled.source))).state.consumer_count)

    assert ask(filled.server.url, make) == 1001
    options = JetStreamOptions(url=filled.server.url)
    look = read_stream_status(options, options.stream_spec(filled.source))
    assert look.consumers == (1001, 100_000)


RAW_HEADERS = [
    b"X: \xff\xfe",
    b"X\xe9: 1",
    b"no colon",
    b": empty",
    b"Cdc-Schema",
    b"A: 1\r\nA: 2",
    b"=?utf-8?q?=FF?=: x",
]


def test_headers_that_are_no_text_harm_nobody(fill: Callable[..., FilledStream], nats_server: NATSServer) -> None:
    """A message with bytes of another character set must not break the connections of consumers."""
    filled = fill()
    subject = subjects.table_subject(filled.source, "shop", "small")

    async def publish(js: Any) -> None:
        for header in RAW_HEADERS:
            head = b"NATS/1.0\r\n" + header + b"\r\n\r\n"
            text = f"HPUB {subject} {len(head)} {len(head) + 1}\r\n".encode() + head + b"x\r\n"
            await send_framed(js._nc, text)  # noqa: SLF001 - nats-py checks headers that it sends
        await js._nc.flush()  # noqa: SLF001

    filled.write(1)
    ask(nats_server.url, publish)
    filled.write(1)
    ask(nats_server.url, publish)
    with filled.reader() as reader:
        reader.ensure_durable("d", "shop", "small", 1)
        assert rows_of(drain(reader)) == filled.rows
        assert reader.foreign == 2 * len(RAW_HEADERS)
        for sequence in range(1, reader.last_sequence() + 1):
            reader.change_at(sequence)
            reader.checkpoint_at(sequence)
    again = JetStreamSink(filled.sink.options)
    assert again.open(filled.source) is not None
    again.close()
