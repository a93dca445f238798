"""Consumers get each row that a snapshot publishes once, and in order, also on an idle server, where all of them have
the same position.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from binlogsync.bookmarks import Bookmark
from binlogsync.change import Change
from binlogsync.codec.subjects import stream_name
from binlogsync.consume.deduplication import SeenIds
from binlogsync.consume.engine import ConsumeOptions, consume_together
from binlogsync.consume.handler import Handler
from binlogsync.consume.progress import ProgressKey
from binlogsync.consume.progress_nats import NatsProgress
from binlogsync.consume.retry import Retry
from binlogsync.errors import HandlerError
from binlogsync.flush import Flush, TransactionRun
from binlogsync.mirror.target import Mirror
from binlogsync.nats.client import NatsConnection, NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.position import FIRST_ORDINAL
from binlogsync.servers import NATSServer
from binlogsync.sinks.jetstream import JetStreamSink
from tests.consume.test_consume import NOTES, QUICK, SAMPLES, SampleRow, SampleStream, record, seen
from tests.duck import query
from tests.nats_commands import delete_stream
from tests.published_rows import PublishedAt, publish_rows
from tests.samples import sample_row, sample_schema

FORMATS: list[dict[str, Any]] = [{}, {"changes_per_message": 3}, {"format": "arrow"}]
FORMAT_NAMES = ["json", "lines", "arrow"]


class PublishingStream(SampleStream):
    """A sample stream into which rows of a snapshot can be published, at the end of its last flush."""

    ordinal = FIRST_ORDINAL

    def publish(self, *numbers: int, table: str = "samples", snapshot: str = "s1", **values: Any) -> list[str]:
        """Publish rows of a table, with these values, as one flush; returns their ids."""
        return self._publish([{**sample_row(number, 5), **values} for number in numbers], table, snapshot, ())

    def publish_whole(self, *numbers: int) -> list[str]:
        """Publish a reset of the table, and these rows, as one flush; returns their ids."""
        stages = ["first", *["true"] * (len(numbers) - 1), "last"]
        return self._publish([None, *(sample_row(number, 5) for number in numbers)], "samples", "s1", stages)

    def _publish(
        self, rows: Sequence[dict[str, Any] | None], table: str, snapshot: str, stages: Sequence[str]
    ) -> list[str]:
        at = self.source.checkpoint
        place = PublishedAt(snapshot, self.ordinal, at.position.pos, at.position.file)
        self.ordinal += len(rows)
        batch = publish_rows(sample_schema(table), rows, place, stages=stages)
        sink = JetStreamSink(self.options)
        sink.open(self.name)
        run = TransactionRun(None, 0, at.position.file, [at.position.pos], [0])
        sink.write(Flush(self.name, 1, "rows", (batch,), at, at, (run,)))
        sink.close()
        return [str(each) for each in batch.ids().to_pylist()]


@pytest.fixture(
    params=[FORMATS[0], pytest.param(FORMATS[1], marks=pytest.mark.exhaustive), FORMATS[2]],
    ids=FORMAT_NAMES,
)
def stream(nats_server: NATSServer, request: pytest.FixtureRequest) -> Iterator[PublishingStream]:
    name = f"p{abs(hash(request.node.name)) % 10**9}"
    yield PublishingStream(nats_server.url, name, **request.param)
    delete_stream(nats_server.url, stream_name(name))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tables.duckdb"


def all_ids(stream: PublishingStream, table: tuple[str, str] = SAMPLES) -> list[str]:
    """The ids of all changes of the table in the stream, in order."""
    found: list[str] = []
    with StreamReader(NatsOptions(url=stream.url), stream.name) as reader:
        sequence = reader.first_sequence()
        while items := reader.changes_from(*table, sequence):
            sequence = items[-1].last_sequence + 1
            found += [str(each) for item in items for each in item.batch.ids().to_pylist()]
    return found


@pytest.mark.parametrize("stream", FORMATS, ids=FORMAT_NAMES, indirect=True)
def test_rows_that_share_a_position_come_once_and_in_order(stream: PublishingStream, path: Path) -> None:
    stream.write(2)
    published = stream.publish(11, 12, 13)
    target = Handler(SampleRow, record, path)
    few = replace(QUICK, max_changes=2)
    stream.consume(target, options=few)
    published += stream.publish(14, 15) + stream.publish(11, 16, snapshot="s2")  # the server was idle meanwhile
    stream.consume(target, options=few)
    stream.write(2)
    stream.consume(target, options=few)
    found = seen(path)
    assert found == all_ids(stream)
    assert [each for each in found if each.startswith("snapshot:")] == published
    assert len(set(found)) == len(found)
    assert {op for (op,) in query(path, "SELECT op FROM seen WHERE id LIKE 'snapshot:%'")} == {"r"}


def test_a_run_that_stops_among_them_continues_there(stream: PublishingStream, nats_server: NATSServer) -> None:
    stream.write(1)
    stream.publish(11, 12, 13, 14, 15, 16, 17)
    stream.write(1)
    handled: list[str] = []

    def handle(change: Change[SampleRow]) -> None:
        assert change.before is None or change.op != "r"
        if len(handled) in failures:
            failures.remove(len(handled))
            raise ValueError("stop here")
        handled.append(change.id)

    failures = {2, 5}
    with NatsConnection(NatsOptions(url=nats_server.url), "test") as connection:
        for _ in range(3):
            store = NatsProgress(connection, stream.name)
            with suppress(HandlerError):
                stream.consume(Handler(SampleRow, handle, store, Retry(tries=1)))
    assert handled == all_ids(stream)


def test_a_refilled_stream_repeats_none(stream: PublishingStream, path: Path) -> None:
    def fill() -> None:
        stream.ordinal = FIRST_ORDINAL
        stream.write(2)
        stream.publish(11, 12, 13)

    fill()
    target = Handler(SampleRow, record, path)
    stream.consume(target)
    before = seen(path)
    stream.refill(shift=False)
    fill()
    later = stream.publish(14, 15)
    stream.consume(target)
    assert seen(path) == before + later


def test_ids_deduplicate_effects(stream: PublishingStream, path: Path, tmp_path: Path) -> None:
    stream.write(1)
    published = stream.publish(11, 12) + stream.publish(11)
    database = sqlite3.connect(tmp_path / "effects.sqlite")
    database.execute("CREATE TABLE effects (id TEXT)")
    ids = SeenIds(database)

    def handle(change: Change[SampleRow]) -> None:
        with ids.once(change) as is_first:
            if is_first:
                database.execute("INSERT INTO effects VALUES (?)", (change.id,))

    for client in ("one", "two"):
        stream.consume(Handler(SampleRow, handle, path), options=replace(QUICK, client_id=client))
    found = [row[0] for row in database.execute("SELECT id FROM effects ORDER BY rowid")]
    database.close()
    assert found == all_ids(stream)
    assert found[-3:] == published


def test_a_mirror_from_the_stream_alone_has_the_published_rows(stream: PublishingStream, path: Path) -> None:
    stream.publish(21, 22)
    stream.write(2)
    stream.publish(23, 1, 22)
    stream.consume(Mirror(path, *SAMPLES))
    rows = dict(query(path, "SELECT id, c_varchar FROM shop.samples"))
    assert {number: rows[number] for number in (21, 22, 23, 1)} == {
        number: sample_row(number, 5)["c_varchar"] for number in (21, 22, 23, 1)
    }


def test_a_whole_table_comes_once_and_in_order(stream: PublishingStream, path: Path) -> None:
    stream.write(3)
    published = stream.publish_whole(11, 12, 12)
    stream.write(1)
    few = replace(QUICK, max_changes=2)
    for _ in range(4):
        stream.consume(Handler(SampleRow, record, path), options=few)
    found = seen(path)
    assert found == all_ids(stream)
    assert [each for each in found if each.startswith("snapshot:")] == published
    assert [each.split(":")[2] for each in published] == ["first", "true", "true", "last"]
    assert [op for (op,) in query(path, "SELECT op FROM seen WHERE id LIKE 'snapshot:%'")] == ["t", "r", "r", "r"]


def test_a_mirror_has_the_rows_of_a_whole_table_alone(stream: PublishingStream, path: Path) -> None:
    stream.write(3)
    stream.publish_whole(21, 22)
    stream.consume(Mirror(path, *SAMPLES), options=replace(QUICK, max_changes=2))
    stream.consume(Mirror(path, *SAMPLES))
    assert sorted(query(path, "SELECT id FROM shop.samples")) == [(21,), (22,)]


def test_joined_mirrors_apply_them_on_an_idle_server(stream: PublishingStream, path: Path) -> None:
    stream.write(3)
    stream.publish(21, 22)
    stream.publish(31, table="notes")
    stream.publish(23)
    mirrors = {table: Mirror(path, *table) for table in (SAMPLES, NOTES)}
    with StreamReader(NatsOptions(url=stream.url), stream.name) as reader:
        done = consume_together(reader, mirrors, replace(QUICK, max_changes=2), threading.Event())
    assert [done[table].counts.get("r") for table in (SAMPLES, NOTES)] == [3, 1]
    for table, numbers in (("samples", {21, 22, 23}), ("notes", {31})):
        assert numbers <= {number for (number,) in query(path, f"SELECT id FROM shop.{table}")}


def test_a_client_that_starts_at_a_bookmark_gets_the_rows_published_there(stream: PublishingStream, path: Path) -> None:
    stream.write(2)
    stream.publish(11)
    stream.write(2)
    at = stream.source.checkpoint
    later = stream.publish(12, 13)
    stream.write(1)
    options = ConsumeOptions(idle_s=0.1, gather_s=0.05, start=Bookmark(at, "interval", at.ts_us, at.ts_us))
    stream.consume(Handler(SampleRow, record, path), options=options)
    found = seen(path)
    assert found[:2] == later
    assert found == all_ids(stream)[-len(found) :]


def test_rows_larger_than_a_message(stream: PublishingStream, path: Path) -> None:
    stream.write(1)
    stream.publish(11, 12, c_longtext="x" * 1_500_000)
    stream.publish(13)
    sizes: list[tuple[str, int]] = []

    def handle(change: Change[SampleRow]) -> None:
        after = change.rows[1]
        sizes.append((change.op, len((after or {}).get("c_longtext") or "")))

    stream.consume(Handler(SampleRow, handle, path))
    assert sizes[-3:-1] == [("r", 1_500_000)] * 2
    assert sizes[-1][1] < 1000


def test_progress_names_the_last_row(stream: PublishingStream, path: Path) -> None:
    stream.write(1)
    stream.publish(11, 12)
    target = Mirror(path, *SAMPLES)
    done = stream.consume(target)
    key = ProgressKey(QUICK.client_id, stream.name, *SAMPLES)
    progress = target.store.load(key)
    target.store.release()
    assert (progress.gtid, progress.row, progress.order) == ("snapshot:s1", FIRST_ORDINAL + 1, FIRST_ORDINAL + 1)
    assert done.counts["r"] == 2
    assert stream.consume(target).changes == 0
