"""Rows of a snapshot for one client in a real stream: who reads them, and what is found at the end of the stream."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from nats.aio.client import Client

from binlogsync.codec import subjects
from binlogsync.codec.snapshot_state import FIRST_ORDINAL
from binlogsync.errors import ConfigError, SinkError
from binlogsync.flush import Flush, SnapshotProgress
from binlogsync.nats import durable, snapshot_readers
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamBatch
from binlogsync.nats.snapshot_readers import direct_rows, find_snapshot_readers, list_readers
from binlogsync.nats.stream_status import read_stream_status
from binlogsync.nats.stream_tables import list_followed_tables
from binlogsync.servers import NATSServer
from binlogsync.sinks.jetstream import JetStreamSink
from tests.nats.test_stream import FORMATS, TABLES, FilledStream, drain
from tests.nats_commands import ask, delete_stream
from tests.published_rows import PublishedAt, publish_rows
from tests.sinks.nats_proxy import NatsProxy

TABLE = ("shop", "small")
CLIENT = "app: one.*"
_ANNOUNCEMENTS = 15


class RowStream(FilledStream):
    """A stream with changes, and rows for single clients."""

    ordinal = FIRST_ORDINAL

    def allow_rows(self) -> RowStream:
        """Add the subjects of rows for one client."""
        find_snapshot_readers(self.sink.options, self.source)
        return self

    def changes(self) -> Flush:
        """Write changes of both tables."""
        flush = self.samples.flush(3)
        self.sink.write(flush)
        return flush

    def publish(self, count: int, client_id: str | None = CLIENT) -> Flush:
        """Write rows of the first table after the last change; the stream has to have their subjects."""
        at = self.samples.checkpoint
        where = PublishedAt("x1", self.ordinal, at.position.pos, at.position.file)
        self.ordinal += count
        rows = publish_rows(TABLES[0], [{"id": n, "c_varchar": f"row {n}"} for n in range(count)], where)
        prefix = None if client_id is None else subjects.snapshot_prefix(self.source, client_id)
        progress = SnapshotProgress(f"to {self.ordinal}", lambda done: f"after {done}", prefix)
        flush = Flush(self.source, 0, "snapshot", (rows,), at, at, snapshot=progress)
        self.sink.write(replace(flush, number=self.ordinal))
        return flush

    @property
    def stream(self) -> str:
        return subjects.stream_name(self.source)

    def filters(self, durable: str) -> list[str]:
        config = ask(self.server.url, lambda js: js.consumer_info(self.stream, durable)).config
        return list(config.filter_subjects or [config.filter_subject])


@pytest.fixture
def fill(nats_server: NATSServer) -> Iterator[Callable[..., RowStream]]:
    made: list[RowStream] = []

    def make(**options: Any) -> RowStream:
        made.append(RowStream(nats_server, **options))
        return made[-1]

    yield make
    for filled in made:
        filled.sink.close()
        delete_stream(filled.server.url, filled.stream)


def ops(batches: Sequence[StreamBatch]) -> str:
    return "".join(op for item in batches for op in item.batch.data.column("op").to_pylist())


def count_changes(flush: Flush) -> int:
    return sum(len(batch) for batch in flush.batches if batch.schema.name == TABLES[0].name)


@pytest.mark.parametrize("options", FORMATS, ids=["json", "lines", "arrow"])
def test_one_client_reads_the_rows_in_stream_order(options: dict[str, Any], fill: Callable[..., RowStream]) -> None:
    filled = fill(**options).allow_rows()
    first = filled.changes()
    filled.publish(1500)
    second = filled.changes()
    filled.publish(2, "other")
    with filled.reader() as reader:
        reader.ensure_durable("own", *TABLE, 1, client_id=CLIENT)
        reader.ensure_durable("all", *TABLE, 1)
        reader.ensure_durable("other", *TABLE, 1, client_id="other")
        own = drain(reader, "own", 100)
        before, after = count_changes(first), count_changes(second)
        assert ops(own)[before:-after] == "r" * 1500
        assert "r" not in ops(own)[:before] + ops(own)[-after:]
        rows = [row["after"]["id"] for item in own for row in item.batch.data.to_pylist() if row["op"] == "r"]
        assert rows == list(range(1500))
        sequences = [each for item in own for each in item.sequences.tolist()]
        assert sequences == sorted(sequences)
        assert ops(drain(reader, "all")) == ops(own).replace("r", "")
        assert ops(drain(reader, "other")) == ops(own).replace("r", "") + "rr"
        place = int(own[-1].sequences[0])
        assert reader.change_at(place) is not None
        assert set(reader.tables()) == {TABLE, ("höhe.*", "odd > name")}


def test_a_tail_continues_after_rows_for_one_client(fill: Callable[..., RowStream]) -> None:
    filled = fill().allow_rows()
    filled.changes()
    for count in (1, 3, 2500):
        flush = filled.publish(count)
        again = JetStreamSink(filled.sink.options)
        assert again.open(filled.source) == flush.checkpoint
        assert again.stored_snapshot == f"to {filled.ordinal}"
        again.close()
    assert read_stream_status(filled.sink.options, filled.sink.options.stream_spec(filled.source)).problem == ""


def test_a_broken_connection_loses_no_row(fill: Callable[..., RowStream], nats_server: NATSServer) -> None:
    filled = fill().allow_rows()
    filled.changes()
    filled.publish(30)
    with NatsProxy(nats_server.host, nats_server.port) as proxy, filled.reader(proxy.url) as reader:
        reader.ensure_durable("d", *TABLE, 1, client_id=CLIENT)
        batches = list(reader.fetch("d", 10, 60.0))
        proxy.cut()
        batches += reader.fetch("d", 10, 60.0)
        filled.publish(3)
        batches += drain(reader)
    assert ops(batches).count("r") == 33
    assert len(filled.filters("d")) == 2


def test_a_durable_reads_the_rows_for_its_client_as_long_as_there_are_some(fill: Callable[..., RowStream]) -> None:
    filled = fill()
    filled.changes()
    name, options = subjects.durable_name(CLIENT, *TABLE), filled.sink.options
    prefix = subjects.snapshot_prefix(filled.source, CLIENT)
    own = [subjects.table_subject(filled.source, *TABLE), subjects.snapshot_subject(prefix, *TABLE)]
    with filled.reader() as reader, filled.reader() as other:
        reader.ensure_durable(name, *TABLE, 1, client_id=CLIENT)
        other.ensure_durable(subjects.durable_name("other", *TABLE), *TABLE, 1, client_id="other")
        batches = list(reader.fetch(name, 2, 60.0))
        assert filled.filters(name) == own[:1]
        assert find_snapshot_readers(options, filled.source) == {CLIENT: {TABLE}, "other": {TABLE}}
        direct_rows(options, filled.source, prefix, [TABLE, ("shop", "elsewhere")])
        assert filled.filters(name) == own
        assert len(filled.filters(subjects.durable_name("other", *TABLE))) == 1
        filled.publish(3)
        reader.narrow(name)  # does nothing
        filled.changes()
        direct_rows(options, filled.source, None, ())
        reader.narrow(name)
        assert filled.filters(name) == own
        batches += drain(reader, name)
        reader.ack(batches[-1])
        reader.narrow(name)
        filled.changes()
        batches += drain(reader, name)
        assert filled.filters(name) == own[:1]
        assert ops(batches).strip("cud") == "rrr"
        sequences = [each for item in batches for each in item.sequences.tolist()]
        assert sequences == sorted(sequences)
        assert list_followed_tables(options, filled.source) == {TABLE}
    with filled.reader() as reader:  # a rewind to a place before the rows
        reader.ensure_durable(name, *TABLE, 1, client_id=CLIENT)
        assert filled.filters(name) == own
        assert ops(drain(reader, name)) == ops(batches)
        reader.ensure_durable(name, *TABLE, sequences[-1] + 1, client_id=CLIENT)
        assert filled.filters(name) == own[:1]


def test_a_durable_that_is_created_after_the_announcement_reads_both(fill: Callable[..., RowStream]) -> None:
    filled = fill()
    filled.changes()
    name, options = subjects.durable_name(CLIENT, *TABLE), filled.sink.options
    assert find_snapshot_readers(options, filled.source) == {}
    direct_rows(options, filled.source, subjects.snapshot_prefix(filled.source, CLIENT), [TABLE])
    with filled.reader() as reader:
        reader.ensure_durable(name, *TABLE, 1, client_id=CLIENT)
        reader.ensure_durable("other", *TABLE, 1, client_id="app")
        assert (len(filled.filters(name)), len(filled.filters("other"))) == (2, 1)
        filled.publish(1)
        assert ops(drain(reader, name)).endswith("r")


def test_no_row_is_passed_by_a_reader_that_creates_its_durable_again_and_again(fill: Callable[..., RowStream]) -> None:
    filled = fill()
    name, prefix = subjects.durable_name(CLIENT, *TABLE), subjects.snapshot_prefix(filled.source, CLIENT)
    found: list[StreamBatch] = []
    is_over, errors = threading.Event(), list[BaseException]()

    def read() -> None:
        try:
            with filled.reader() as reader:
                last = 0
                while not is_over.is_set() or last < reader.last_sequence():
                    reader.ensure_durable(name, *TABLE, last + 1, client_id=CLIENT)  # the last fetch was not acked
                    found.extend(reader.fetch(name, 5, 0.05))
                    last = found[-1].last_sequence if found else 0
                    if is_over.is_set() and reader.has_all(name):
                        return
        except BaseException as error:  # noqa: BLE001 - the test fails with it
            errors.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        filled.allow_rows()
        for number in range(_ANNOUNCEMENTS):
            filled.changes()
            direct_rows(filled.sink.options, filled.source, prefix, [TABLE])
            filled.publish(1 + number % 3)
            filled.changes()
            direct_rows(filled.sink.options, filled.source, None, ())
    finally:
        is_over.set()
        thread.join()
    assert not errors, errors
    with filled.reader() as reader:
        reader.ensure_durable("all", *TABLE, 1, client_id=CLIENT)
        wanted = drain(reader, "all")
    assert [s for item in found for s in item.sequences.tolist()] == [
        s for item in wanted for s in item.sequences.tolist()
    ]
    assert ops(found).count("r") == sum(1 + number % 3 for number in range(_ANNOUNCEMENTS))


# Streams


def test_the_first_snapshot_for_one_adds_the_subjects_and_keeps_all_settings(fill: Callable[..., RowStream]) -> None:
    filled = fill()
    options, spec = filled.sink.options, filled.sink.options.stream_spec(filled.source)
    before = ask(filled.server.url, lambda js: js.stream_info(filled.stream)).config
    assert before.subjects == [subjects.all_subjects(filled.source)]
    find_snapshot_readers(options, filled.source)
    direct_rows(options, filled.source, subjects.snapshot_prefix(filled.source, CLIENT), [TABLE])
    direct_rows(options, filled.source, None, ())
    after = ask(filled.server.url, lambda js: js.stream_info(filled.stream)).config
    assert after.subjects == subjects.stream_subjects(filled.source)
    assert after.evolve(subjects=before.subjects) == before
    assert read_stream_status(options, spec).problem == ""
    filled.sink.watch()
    filled.sink.open(filled.source)


def test_a_consumer_runs_although_the_subjects_were_removed(
    fill: Callable[..., RowStream], caplog: pytest.LogCaptureFixture
) -> None:
    filled = fill().allow_rows()
    filled.publish(2)
    config = ask(filled.server.url, lambda js: js.stream_info(filled.stream)).config
    older = config.evolve(subjects=[subjects.all_subjects(filled.source)])
    ask(filled.server.url, lambda js: js.update_stream(older))
    filled.changes()
    with filled.reader() as reader:
        reader.ensure_durable("d", *TABLE, 1, client_id=CLIENT)
        assert "r" not in ops(drain(reader))
    assert "no longer has the subject cdc_snapshot." in caplog.text


def test_a_stream_that_cannot_have_the_subjects_is_used_without_them(
    fill: Callable[..., RowStream], nats_server: NATSServer
) -> None:
    filled = fill()
    taken = subjects.all_snapshot_subjects(filled.source)
    ask(nats_server.url, lambda js: js.add_stream(name="TAKEN", subjects=[taken]))
    try:
        with pytest.raises(ConfigError, match=r"cannot have the subjects cdc_snapshot\..*overlap"):
            find_snapshot_readers(filled.sink.options, filled.source)
        filled.changes()
    finally:
        delete_stream(nats_server.url, "TAKEN")


def test_temporary_durables_are_no_consumers(fill: Callable[..., RowStream]) -> None:
    filled = fill()
    filled.changes()
    with filled.reader() as reader:
        for client_id in ("look-0123abcd", "backfill-0123abcd"):
            reader.ensure_durable(subjects.durable_name(client_id, *TABLE), *TABLE, 1)
        reader.ensure_durable("someone-else", *TABLE, 1)
        reader.ensure_durable(subjects.durable_name("look", *TABLE), *TABLE, 1)
        assert list_readers(NatsOptions(url=filled.server.url), filled.source) == {"look": {TABLE}}


def test_the_reason_why_a_durable_cannot_be_changed_is_reported(
    fill: Callable[..., RowStream], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reader deletes it each time after it was listed."""
    filled, list_them = fill(), durable.list_configs
    filled.changes()
    name, prefix = subjects.durable_name(CLIENT, *TABLE), subjects.snapshot_prefix(filled.source, CLIENT)

    async def list_and_delete(client: Client, stream: str) -> dict[str, dict[str, Any]]:
        return {name: {"durable_name": name, "ack_policy": "explicit"}, **await list_them(client, stream)}

    monkeypatch.setattr(snapshot_readers, "list_configs", list_and_delete)
    with pytest.raises(
        SinkError, match=r"durables of 'app: one.*cannot be changed: consumer does not exist \(code 10149\); see nats"
    ):
        direct_rows(filled.sink.options, filled.source, prefix, [TABLE])
