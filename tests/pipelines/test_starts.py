"""A consumer asset that begins at a bookmark, by its name, in a run against a real nats-server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

from binlogsync import Change
from binlogsync.bookmarks import Bookmark
from binlogsync.embedded import NATSServer
from binlogsync.stores.sqlite import SQLitePositionStore
from binlogsync.stream.client import NatsOptions
from binlogsync.stream.reader import StreamReader
from binlogsync.wire.subjects import stream_name
from pipelines.tables import consumers_asset, table_consumer
from resources import positions
from resources.jetstream import JetStream
from resources.mysql import MySQLSource
from resources.warehouse import Warehouse
from tests.consume.test_consume import SampleRow, SampleStream, ids
from tests.nats_commands import delete_stream
from tests.samples import SampleTransaction

ONE = [SampleTransaction((0,))]
"""A flush of one change."""


@dataclass
class BookmarkedStream:
    """A stream of four changes, and the folder of positions and warehouse."""

    stream: SampleStream
    folder: Path

    def run(self, start: str, client_id: str) -> tuple[dg.ExecuteInProcessResult, list[str]]:
        """A run of the consumer, and the ids of the changes that it handled."""
        seen: list[str] = []

        def handle(change: Change[SampleRow]) -> None:
            seen.append(change.id)

        source = self.stream.name
        backend = positions.SQLitePositionsConfig(path=str(self.folder / "p.db"))
        asset = table_consumer(SampleRow, handle, table="shop.samples", source=source, client_id=client_id, start=start)
        done = dg.materialize(
            [consumers_asset(source, "mysql", [asset])],
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
def site(nats_server: NATSServer, tmp_path: Path) -> Iterator[BookmarkedStream]:
    stream = SampleStream(nats_server.url, "starts")
    stream.write(*[ONE] * 4)
    with StreamReader(NatsOptions(url=stream.url), stream.name) as reader:
        second = reader.changes_from("shop", "samples", 2)[0].last_sequence
        place = reader.checkpoint_at(second)
    assert place is not None
    with closing(SQLitePositionStore(tmp_path / "p.db")) as store:
        store.put_bookmark(stream.name, Bookmark(place, "person", place.ts_us, place.ts_us, "before the sale"))
    yield BookmarkedStream(stream, tmp_path)
    delete_stream(stream.url, stream_name(stream.name))


def test_it_begins_there_and_then_goes_on_where_it_was(site: BookmarkedStream) -> None:
    everything = ids("samples", *[ONE] * 5)
    done, seen = site.run("before the sale", "a")
    assert (done.success, seen) == (True, everything[2:4])
    site.stream.write(ONE)
    done, seen = site.run("before the sale", "a")
    assert (done.success, seen) == (True, everything[4:])


def test_a_name_that_is_none_fails_the_run_with_those_that_are(site: BookmarkedStream) -> None:
    done, seen = site.run("before the fall", "b")
    [failure] = [event for event in done.all_events if event.is_step_failure]
    assert seen == []
    assert "'before the fall' is no bookmark of source starts; names are 'before the sale'" in str(failure)
