"""A consumer asset that starts at a bookmark, by name, in a run with a real nats-server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

from binlogsync import Change
from binlogsync.bookmarks import Bookmark
from binlogsync.codec.subjects import stream_name
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.servers import NATSServer
from binlogsync.stores.sqlite import SQLitePositionStore
from dagster_binlogsync.consumers_asset import build_consumers_asset
from dagster_binlogsync.resource_keys import ResourceKeys
from dagster_binlogsync.resources import positions
from dagster_binlogsync.resources.jetstream import JetStream
from dagster_binlogsync.resources.mysql import MySQLSource
from dagster_binlogsync.resources.warehouse import Warehouse
from dagster_binlogsync.tables import table_consumer
from tests.consume.test_consume import SampleRow, SampleStream, ids
from tests.nats_commands import delete_stream
from tests.samples import SampleTransaction

ONE = [SampleTransaction((0,))]
"""A flush of one change."""


@dataclass
class BookmarkedStream:
    """A stream of four changes with a bookmark in the middle, and the folder of position store and warehouse."""

    stream: SampleStream
    folder: Path

    def run(self, start: str, client_id: str) -> tuple[dg.ExecuteInProcessResult, list[str]]:
        """Run the consumer. Returns the result and the ids of the handled changes."""
        seen: list[str] = []

        def handle(change: Change[SampleRow]) -> None:
            seen.append(change.id)

        source = self.stream.name
        backend = positions.SQLitePositionsConfig(path=str(self.folder / "p.db"))
        asset = table_consumer(SampleRow, handle, table="shop.samples", source=source, client_id=client_id, start=start)
        done = dg.materialize(
            [build_consumers_asset(source, ResourceKeys(), [asset])],
            resources={
                "mysql": MySQLSource(),
                "jetstream": JetStream(url=self.stream.url),
                "warehouse": Warehouse(path=str(self.folder / "warehouse.duckdb")),
                "positions": positions.Positions(backend=backend),
            },
            run_config={"ops": {f"consumers_{source}": {"config": {"idle_s": 0.5, "retry_s": 60.0}}}},
            raise_on_error=False,
        )
        return done, seen


@pytest.fixture
def bookmarked(nats_server: NATSServer, tmp_path: Path) -> Iterator[BookmarkedStream]:
    stream = SampleStream(nats_server.url, "starts")
    stream.write(*[ONE] * 4)
    with StreamReader(NatsOptions(url=stream.url), stream.name) as reader:
        second = reader.changes_from("shop", "samples", 2)[0].last_sequence
        position = reader.checkpoint_at(second)
    assert position is not None
    with closing(SQLitePositionStore(tmp_path / "p.db")) as store:
        store.bookmarks.put(
            stream.name, Bookmark(position, "person", position.ts_us, position.ts_us, "before the sale")
        )
    yield BookmarkedStream(stream, tmp_path)
    delete_stream(stream.url, stream_name(stream.name))


def test_it_starts_at_the_bookmark_and_then_resumes(bookmarked: BookmarkedStream) -> None:
    everything = ids("samples", *[ONE] * 5)
    done, seen = bookmarked.run("before the sale", "a")
    assert (done.success, seen) == (True, everything[2:4])
    bookmarked.stream.write(ONE)
    done, seen = bookmarked.run("before the sale", "a")
    assert (done.success, seen) == (True, everything[4:])


def test_an_unknown_bookmark_fails_the_run_with_the_known_ones(bookmarked: BookmarkedStream) -> None:
    done, seen = bookmarked.run("before the fall", "b")
    [failure] = [event for event in done.all_events if event.is_step_failure]
    assert seen == []
    assert "'before the fall' is not a bookmark of source starts; names are 'before the sale'" in str(failure)
