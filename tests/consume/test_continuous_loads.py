"""A mirror of a continuous pool that has to be loaded again, which can take hours: the others of its file stay live."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from binlogsync.change_batch import ChangeBatch
from binlogsync.consume.delivery import TableDelivery
from binlogsync.consume.engine import ConsumeOptions
from binlogsync.consume.live_state import LiveState
from binlogsync.consume.pool import ConsumerTask
from binlogsync.consume.progress import NO_PROGRESS, ConsumerProgress, ProgressKey
from binlogsync.mirror.apply import RebuildReason
from binlogsync.mirror.target import Mirror
from binlogsync.mysql.config import MySQLConfig
from binlogsync.nats.complete_reading import StreamRecreatedError
from binlogsync.position import BinlogPosition, Checkpoint
from binlogsync.servers import NATSServer
from binlogsync.targets import TableTransaction
from binlogsync.targets.duckdb.store import DuckStore
from binlogsync.targets.mirror_options import MirrorOptions
from binlogsync.targets.records import new_gap
from tests.consume.live_pool import ALL, TABLES, SixTables, live, mirror, six_tables
from tests.duck import SERVER_UUID
from tests.samples import SampleTransaction


@pytest.fixture
def stream(nats_server: NATSServer) -> Iterator[SixTables]:
    with six_tables(nats_server.url) as made:
        yield made


class MirrorWithLongLoad(Mirror):
    """A mirror with another key than its table, so that the table has to be loaded; a load lasts until `end`."""

    def __init__(self, path: Path, table: str) -> None:
        super().__init__(path, "shop", table, options=MirrorOptions(key=("id",)))
        self.begun, self.end = threading.Event(), threading.Event()

    def rebuild_before(self, reason: RebuildReason, following: ChangeBatch, key: ProgressKey) -> None:
        """Load the table. Without a source, it then fails."""
        self.begun.set()
        self.end.wait(60)
        super().rebuild_before(reason, following, key)


class MirrorOfSource(Mirror):
    """A mirror that repairs gaps by loads that last until `end`, and are followed by a pause."""

    def __init__(self, path: Path, table: str, pause_s: float) -> None:
        super().__init__(path, "shop", table, MySQLConfig(host="db.invalid", user="u", password="p"))
        self.loads, self.begun, self.end, self._pause_s = 0, threading.Event(), threading.Event(), pause_s

    def rebuild(
        self,
        key: ProgressKey,
        applied: ConsumerProgress = NO_PROGRESS,
        also: Callable[[TableTransaction], None] = lambda transaction: None,
    ) -> Checkpoint:
        """Load the table, which resolves its gaps."""
        self.begun.set()
        self.end.wait(60)
        self.loads += 1
        with self.tables.begin() as transaction:
            transaction.resolve_gaps(key, "loaded", "the mirror", until=datetime.now(UTC))
        self._next_read_at = time.monotonic() + self._pause_s
        return Checkpoint(BinlogPosition("binlog.000001", 4), SERVER_UUID)

    def insert_gap(self, key: ProgressKey) -> None:
        with self.tables.begin() as transaction:
            transaction.insert_gap(key, new_gap("retention", "1 to 5", is_mirror=True))

    def has_gap(self, key: ProgressKey) -> bool:
        with self.tables.another().begin() as transaction:
            return any(not gap.resolution for gap in transaction.load_gaps(key))


@pytest.mark.parametrize("first", [ALL, SampleTransaction((0,))], ids=["beside others", "alone"])
def test_a_load_does_not_delay_the_other_mirrors_of_the_file(
    stream: SixTables,
    tmp_path: Path,
    first: SampleTransaction,
) -> None:
    path, others = tmp_path / "w.duckdb", TABLES[1:]
    stream.write(ALL)
    with live(stream, [mirror(table, path) for table in TABLES]) as running:
        running.wait(lambda: all(running.changes[table] == 1 for table in TABLES), "the first changes")
    loaded = MirrorWithLongLoad(path, "t0")
    tasks = [ConsumerTask(("shop", "t0"), loaded, ConsumeOptions()), *(mirror(table, path) for table in others)]
    with live(stream, tasks) as running:
        running.wait_quiet()
        stream.write(first)
        running.wait(loaded.begun.is_set, "the load")
        for _ in range(3):
            stream.write(ALL)
            running.wait(
                lambda: all(running.changes[table] == len(stream.ids[table]) - 1 for table in others), "all changes"
            )
        assert not loaded.end.is_set()
        assert not running.errors.get("t0")
        loaded.end.set()
        running.wait(lambda: running.errors.get("t0") is not None, "the error of the load")
        assert "give the mirror a connection to its source" in str(running.errors["t0"])
        assert not {report.table for report in running.reports if report.error is not None} - {("shop", "t0")}


def test_a_mirror_is_applied_with_others_again_after_its_changes_were_applied(tmp_path: Path) -> None:
    state = LiveState(mirror("t0", tmp_path / "w.duckdb"), 0, 0.0)
    scopes = [state.scope]
    for until_applied in (True, False):  # False: after a failure of unknown cause, for some time
        state.set_alone(until_applied=until_applied)
        scopes.append(state.scope)
        state.end_alone()
        scopes.append(state.scope)
    assert scopes == [str(tmp_path / "w.duckdb"), None, str(tmp_path / "w.duckdb"), None, None]


@pytest.mark.parametrize("applied", [20, 400])
def test_a_load_begins_although_applied_changes_are_delivered_again(
    stream: SixTables,
    tmp_path: Path,
    applied: int,
) -> None:
    path, key = tmp_path / "w.duckdb", stream.key("t0")
    stream.write(ALL, *[SampleTransaction((0,))] * applied)
    with live(stream, [mirror(table, path) for table in TABLES[:3]]) as running:
        running.wait(lambda: running.changes["t0"] == len(stream.ids["t0"]), "the first changes")
    with DuckStore(path).begin() as transaction:  # as after a change of the stream
        before = transaction.load_progress(key)
        transaction.move_progress(key, before, replace(before, sequence=0, seen=0))
    loaded = MirrorWithLongLoad(path, "t0")
    loaded.end.set()
    tasks = [
        ConsumerTask(("shop", "t0"), loaded, ConsumeOptions(max_changes=100)),
        *(mirror(table, path) for table in TABLES[1:3]),
    ]
    with live(stream, tasks) as running:
        running.wait_quiet()
        stream.write(SampleTransaction((0, 1, 2)))
        running.wait(loaded.begun.is_set, "the load")


def test_a_gap_is_repaired_when_the_pause_after_a_load_is_over(
    stream: SixTables,
    tmp_path: Path,
) -> None:
    path, key = tmp_path / "w.duckdb", stream.key("t0")
    stream.write(ALL)
    with live(stream, [mirror("t0", path)]) as running:
        running.wait(lambda: running.changes["t0"] == 1, "the first change")
    repaired = MirrorOfSource(path, "t0", 2.0)
    repaired.end.set()
    repaired.insert_gap(key)
    with live(stream, [ConsumerTask(("shop", "t0"), repaired, ConsumeOptions())], reload_s=0.2) as running:
        running.wait(lambda: not repaired.has_gap(key), "the first load")
        repaired.insert_gap(key)
        repaired.repair(key, repaired.store.load(key))  # as after the message that reports the gap: within the pause
        running.wait(lambda: not repaired.has_gap(key), "the second load")
        assert repaired.loads == 2


def test_a_load_after_a_change_of_the_stream_does_not_delay_the_other_mirrors(
    stream: SixTables,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, others, fetch, is_changed = tmp_path / "w.duckdb", TABLES[1:3], TableDelivery.fetch, threading.Event()

    def fetch_or_raise(self: TableDelivery, limit: int, wait_s: float) -> bool:
        if is_changed.is_set() and self.tracker.key.table == "t0":
            is_changed.clear()
            raise StreamRecreatedError
        return fetch(self, limit, wait_s)

    stream.write(ALL)
    with live(stream, [mirror(table, path) for table in TABLES[:3]]) as running:
        running.wait(lambda: all(running.changes[table] == 1 for table in TABLES[:3]), "the first changes")
    monkeypatch.setattr(TableDelivery, "fetch", fetch_or_raise)
    loaded = MirrorOfSource(path, "t0", 1.0)
    tasks = [ConsumerTask(("shop", "t0"), loaded, ConsumeOptions()), *(mirror(table, path) for table in others)]
    with live(stream, tasks) as running:
        running.wait_quiet()
        loaded.insert_gap(stream.key("t0"))
        is_changed.set()
        stream.write(SampleTransaction((0,)))
        running.wait(loaded.begun.is_set, "the load")
        stream.write(SampleTransaction((1, 2)))
        running.wait(lambda: all(running.changes[table] == 1 for table in others), "changes of the others")
        assert not loaded.loads
        loaded.end.set()
        running.wait(lambda: running.changes["t0"] == 1, "the change of the loaded mirror")
