"""A replay into a table waits while another process has its file open."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from binlogsync.codec.subjects import stream_name
from binlogsync.consume.boundaries import drop_first, take_first
from binlogsync.consume.handler import Handler
from binlogsync.consume.patience import log
from binlogsync.consume.progress import TableProgress
from binlogsync.consume.targets import TableChanges, Target
from binlogsync.errors import ConsumeError
from binlogsync.mysql import MySQLConfig
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.replay.from_stream import StreamRangeReader
from binlogsync.replay.ranges import ReplayPlan, ReplayRange
from binlogsync.replay.run import ReplayResult, ReplayTask, replay_ranges
from binlogsync.replay.sources import ChangeSources
from binlogsync.replay.targets import ReplayTarget
from binlogsync.replay.to_tables import HandlerTarget, TableTarget
from binlogsync.servers import NATSServer
from binlogsync.stores.sqlite import SQLitePositionStore
from binlogsync.targets.duckdb.store import DuckStore
from tests.consume.test_consume import SAMPLES, SampleStream, expected_rows, ids
from tests.duck import locked_by_another, mirror_rows, query
from tests.nats_commands import delete_stream
from tests.waiting import wait_until

pytestmark = pytest.mark.server
TRANSACTIONS = 6


@pytest.fixture
def stream(nats_server: NATSServer) -> Iterator[SampleStream]:
    made = SampleStream(nats_server.url, f"busy-{secrets.token_hex(4)}")
    made.write(TRANSACTIONS)
    yield made
    delete_stream(nats_server.url, stream_name(made.name))


@pytest.fixture
def store(tmp_path: Path) -> DuckStore:
    return DuckStore(tmp_path / "warehouse.duckdb", timeout_s=0.05, error=ConsumeError)


def replay(stream: SampleStream, target: ReplayTarget, folder: Path, stop: threading.Event) -> ReplayResult:
    with (
        StreamReader(NatsOptions(url=stream.url), stream.name) as reader,
        closing(SQLitePositionStore(folder / "positions.db")) as positions,
    ):
        table = StreamRangeReader(reader, *SAMPLES)
        oldest, end = table.oldest(), table.end()
        assert oldest is not None
        assert end is not None
        plan = ReplayPlan(stream.name, *SAMPLES, "all", (ReplayRange("all", oldest[0], end),), secrets.token_hex(4))
        sources = ChangeSources(stream.name, MySQLConfig(source=stream.name), table, positions)
        return replay_ranges(ReplayTask(sources, plan, target, "stream"), stop)


def test_a_replay_waits_for_a_file(stream: SampleStream, store: DuckStore, caplog: pytest.LogCaptureFixture) -> None:
    target, stop = TableTarget(store, *SAMPLES), threading.Event()
    with locked_by_another(store.path) as process, ThreadPoolExecutor() as pool:
        replayed = pool.submit(replay, stream, target, store.path.parent, stop)
        wait_until(lambda: "Waiting for it" in caplog.text, 60, "the warning")
        assert process.stdin is not None
        process.stdin.close()
        assert replayed.result(120).is_finished
    assert mirror_rows(store.path, f"replay_{SAMPLES[0]}", SAMPLES[1]) == expected_rows(TRANSACTIONS)
    [warning] = [record.message for record in caplog.records if "Waiting for it" in record.message]
    assert f"{store.path} was locked by process {process.pid}" in warning


class InterruptedTarget(Target):
    """Applies the first change; then another process has the file open for a second."""

    def __init__(self, inner: Target, path: Path, opened: ExitStack) -> None:
        self.store = inner.store
        self._inner, self._path, self._opened = inner, path, opened
        self.has_locked = False

    def take(self, work: Sequence[TableChanges], stop: threading.Event) -> None:
        [changes] = work
        if not self.has_locked:
            self._inner.take([replace(changes, batches=take_first(changes.batches, 1))], stop)
            self.store.release()
            process = self._opened.enter_context(locked_by_another(self._path, 30.0))
            self.has_locked = True
            assert process.stdin is not None
            threading.Timer(1.0, process.stdin.close).start()
            changes = replace(changes, batches=drop_first(changes.batches, 1))
        self._inner.take([changes], stop)


def test_what_was_applied_before_a_wait_is_not_applied_again(
    stream: SampleStream, store: DuckStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", log.name)

    def handle(batch: pa.RecordBatch, connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute("CREATE TABLE IF NOT EXISTS ids (id VARCHAR)")
        connection.execute("INSERT INTO ids SELECT unnest(?)", [batch["id"].to_pylist()])

    with ExitStack() as opened:
        inner = InterruptedTarget(Handler(None, handle, TableProgress(store)), store.path, opened)
        done = replay(stream, HandlerTarget(lambda: inner), store.path.parent, threading.Event())
    assert done.is_finished
    assert inner.has_locked
    assert "Waiting for it" in caplog.text
    found = [name for (name,) in query(store.path, "SELECT id FROM ids ORDER BY rowid")]
    assert found == ids(SAMPLES[1], TRANSACTIONS)


def test_a_stop_ends_the_wait(stream: SampleStream, store: DuckStore) -> None:
    store.timeout_s = 3600
    target, stop = TableTarget(store, *SAMPLES), threading.Event()
    with locked_by_another(store.path), ThreadPoolExecutor() as pool:
        replayed = pool.submit(replay, stream, target, store.path.parent, stop)
        wait_until(lambda: store.holder is not None, 60, "the wait")
        stop.set()
        assert not replayed.result(120).is_finished
