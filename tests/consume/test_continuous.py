"""The continuous pool with a real nats-server: tables stay live, share transactions, and fail alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from binlogsync import Change, HandlerError
from binlogsync.codec.subjects import durable_name
from binlogsync.consume import continuous
from binlogsync.consume.continuous import ContinuousOptions, ContinuousPool
from binlogsync.consume.engine import ConsumeOptions
from binlogsync.consume.handler import Handler
from binlogsync.consume.pool import ConsumerTask
from binlogsync.consume.progress import NO_PROGRESS, ProgressKey, TableProgress
from binlogsync.consume.progress_nats import NatsProgress
from binlogsync.errors import ConfigError, ConsumeError
from binlogsync.mirror.target import Mirror
from binlogsync.nats.client import ConnectionLostError, NatsConnection
from binlogsync.nats.reader import StreamReader
from binlogsync.servers import NATSServer
from binlogsync.targets.duckdb.progress import PROGRESS
from binlogsync.targets.duckdb.store import DuckStore
from tests.consume.live_pool import ALL, TABLES, IdRow, Live, Recorder, SixTables, live, mirror, six_tables
from tests.duck import locked_by_another, query, query_elsewhere
from tests.samples import SampleTransaction
from tests.waiting import wait_until


@pytest.fixture
def stream(nats_server: NATSServer) -> Iterator[SixTables]:
    with six_tables(nats_server.url) as made:
        yield made


def test_handlers_and_mirrors_stay_live(stream: SixTables, tmp_path: Path) -> None:
    stream.write(ALL)
    seen, path = Recorder(), tmp_path / "w.duckdb"
    tasks = [seen.task(table, path) for table in TABLES[:3]] + [mirror(table, path) for table in TABLES[3:]]
    with live(stream, tasks) as running:
        running.wait_quiet()
        for _ in range(4):
            stream.write(ALL, SampleTransaction((0, 0, 3)))
            running.wait(lambda: all(seen.ids[t] == stream.ids[t] for t in TABLES[:3]), "the changes in the handlers")
            running.wait(lambda: all(running.changes[t] == len(stream.ids[t]) for t in TABLES), "all changes")
        running.wait_quiet()
        assert not any(running.errors.values())
        with DuckStore(path).begin() as transaction:  # mirrors and handlers have let other connections in
            assert transaction.load_progress(stream.key("t3")).changes == len(stream.ids["t3"])
    assert query_elsewhere(path, "SELECT 1") == "[(1,)]"  # no mirror keeps the file open after the end of the pool
    for table in TABLES[3:]:
        rows = query(path, f"SELECT count(*) FROM shop.{table}")
        assert rows[0][0] > 0
    with DuckStore(path).begin() as transaction:
        found = {table: transaction.load_progress(stream.key(table)).changes for table in TABLES}
    assert found == {table: len(ids) for table, ids in stream.ids.items()}


def test_readers_get_the_file_of_mirrors_while_the_next_changes_are_gathered(
    stream: SixTables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(continuous, "_RELEASE_S", 600.0)  # a busy mirror is never quiet for so long
    path = tmp_path / "w.duckdb"
    with live(stream, [mirror(table, path) for table in TABLES]) as running:
        for _ in range(4):
            stream.write(ALL)
            running.wait(lambda: all(running.changes[t] == len(stream.ids[t]) for t in TABLES), "all changes")
            written = sum(len(ids) for ids in stream.ids.values())
            assert query_elsewhere(path, f"SELECT sum(changes)::INT FROM {PROGRESS}") == f"[({written},)]"


def test_a_file_that_another_process_has_open_fails_nothing(
    stream: SixTables, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "w.duckdb"
    # For each other, as when they are opened together, mirrors wait longer than for the process.
    stores = {table: DuckStore(path, timeout_s=120.0, error=ConsumeError) for table in TABLES}
    for store in stores.values():
        store.holder_wait_s = 1.0
    tasks = [ConsumerTask(("shop", t), Mirror(stores[t], "shop", t), ConsumeOptions()) for t in TABLES]
    stream.write(ALL)
    with live(stream, tasks) as running:
        running.wait(lambda: all(running.changes[table] == 1 for table in TABLES), "the first changes")
        running.wait_quiet()
        running.wait(lambda: not any(store.is_open for store in stores.values()), "the file is closed")
        with locked_by_another(path, 30) as process:
            stream.write(ALL)
            running.wait(lambda: "Waiting for it" in caplog.text, "the warning")
            [warning] = [record.message for record in caplog.records if "Waiting for it" in record.message]
            assert f"{path} was locked by process {process.pid}" in warning
            assert all(running.changes[table] == 1 for table in TABLES)
        running.wait(lambda: all(running.changes[table] == 2 for table in TABLES), "the other changes")
    assert not [report for report in running.reports if report.error is not None]


def test_a_stop_ends_the_wait_for_a_file_that_another_process_has_open(stream: SixTables, tmp_path: Path) -> None:
    path, seen = tmp_path / "w.duckdb", Recorder()
    stores = {table: DuckStore(path, timeout_s=3600, error=ConsumeError) for table in TABLES}
    tasks = [ConsumerTask(("shop", t), Mirror(stores[t], "shop", t), ConsumeOptions()) for t in TABLES[:3]]
    tasks += [seen.task(table, TableProgress(stores[table])) for table in TABLES[3:]]
    stream.write(ALL)
    with live(stream, tasks) as running:
        running.wait(lambda: all(running.changes[table] == 1 for table in TABLES), "the first changes")
        running.wait_quiet()
        running.wait(lambda: not any(store.is_open for store in stores.values()), "the file is closed")
        with locked_by_another(path, 30):
            stream.write(ALL)
            running.wait(lambda: stores["t0"].holder is not None, "the wait")
            running.wait(lambda: all(len(seen.ids[table]) == 2 for table in TABLES[3:]), "the handlers")
            running.pool.end()
    assert not [report for report in running.reports if report.error is not None]
    with live(stream, [mirror(table, path) for table in TABLES[:3]]) as again:
        again.wait(lambda: all(again.changes[table] == 1 for table in TABLES[:3]), "the other changes")


def test_a_failing_handler_blocks_its_own_table_only(stream: SixTables, tmp_path: Path) -> None:
    stream.write(ALL)
    seen = Recorder(bad={"t1"}, gates={"t2": threading.Event()})
    with live(stream, [seen.task(table, tmp_path / "w.duckdb") for table in TABLES]) as running:
        running.wait(lambda: isinstance(running.errors.get("t1"), HandlerError), "the error")
        others = [table for table in TABLES if table not in ("t1", "t2")]
        for _ in range(3):
            stream.write(ALL)
            running.wait(lambda: all(seen.ids[t] == stream.ids[t] for t in others), "the other tables")
        assert not seen.ids["t1"]
        assert not seen.ids["t2"], "its handler has not returned"
        seen.gates["t2"].set()
        seen.bad.clear()
        running.wait(lambda: seen.ids == stream.ids, "the blocked tables")
        running.wait(lambda: not any(running.errors.values()), "no error")


def test_a_moved_mirror_fails_alone_and_continues_where_it_was_moved(stream: SixTables, tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    stream.write(ALL)
    with live(stream, [mirror(table, path) for table in TABLES]) as running:
        running.wait(lambda: all(running.changes[table] == 1 for table in TABLES), "the first changes")
        running.wait_quiet()
        with DuckStore(path).begin() as transaction:
            before = transaction.load_progress(stream.key("t0"))
            transaction.move_progress(stream.key("t0"), before, replace(before, changes=100))
        stream.write(ALL, ALL)
        running.wait(lambda: all(running.changes[table] == 3 for table in TABLES), "all changes")
        assert not {report.table for report in running.reports if report.error is not None} - {("shop", "t0")}
    with DuckStore(path).begin() as transaction:
        found = {table: transaction.load_progress(stream.key(table)).changes for table in TABLES}
    assert found == {table: 102 if table == "t0" else 3 for table in TABLES}


def test_a_quiet_table_notices_that_it_was_rewound(stream: SixTables, tmp_path: Path) -> None:
    path, seen = tmp_path / "w.duckdb", Recorder()
    stream.write(ALL)
    with live(stream, [seen.task("t0", path)], reload_s=0.2) as running:
        running.wait(lambda: seen.ids["t0"] == stream.ids["t0"], "the change")
        running.wait_quiet()
        key = stream.key("t0")
        wait_until(lambda: progress_of(path, key) is not None, 20, "its progress")
        with DuckStore(path).begin() as transaction:
            before = transaction.load_progress(key)
            transaction.move_progress(key, before, replace(NO_PROGRESS, seen=0))
        running.wait(lambda: seen.ids["t0"] == 2 * stream.ids["t0"], "the change again")


def test_a_quiet_table_with_progress_in_nats_stays_quiet_until_it_is_rewound(stream: SixTables) -> None:
    seen, key = Recorder(), stream.key("t0")
    stream.write(ALL)
    with NatsConnection(stream.options, "one") as one, NatsConnection(stream.options, "two") as two:
        other = NatsProgress(two, stream.name)
        with live(stream, [seen.task("t0", NatsProgress(one, stream.name))], reload_s=0.1) as running:
            running.wait(lambda: seen.ids["t0"] == stream.ids["t0"], "the change")
            wait_until(lambda: other.peek(key) != NO_PROGRESS, 20, "its progress")
            running.wait(lambda: running.pool.quiet_s() > 1.0, "no activity although its progress is compared")
            other.move(key, other.load(key), replace(NO_PROGRESS, seen=0))
            running.wait(lambda: seen.ids["t0"] == 2 * stream.ids["t0"], "the change again")


def progress_of(path: Path, key: ProgressKey) -> object:
    with DuckStore(path).begin() as transaction:
        found = transaction.load_progress(key)
        return None if found == NO_PROGRESS else found


def test_a_table_is_removed_and_added_again(stream: SixTables, tmp_path: Path) -> None:
    path, seen = tmp_path / "w.duckdb", Recorder()
    stream.write(ALL)
    with live(stream, [seen.task(table, path) for table in TABLES[:2]]) as running:
        running.wait(lambda: all(seen.ids[table] == stream.ids[table] for table in TABLES[:2]), "the first changes")
        assert running.pool.remove(("shop", "t0"))
        assert running.pool.tables == (("shop", "t1"),)
        with DuckStore(path).begin() as transaction:
            assert transaction.load_progress(stream.key("t0")).changes == 1, "stored at once"
        stream.write(ALL)
        running.wait(lambda: seen.ids["t1"] == stream.ids["t1"], "the table that stays")
        assert len(seen.ids["t0"]) == 1
        running.pool.add(seen.task("t0", path))
        with pytest.raises(ConfigError, match="listed twice"):
            running.pool.add(seen.task("t0", path))
        running.wait(lambda: seen.ids["t0"] == stream.ids["t0"], "the change while it was removed")
        seen.gates["t0"] = threading.Event()
        stream.write(ALL)
        wait_until(lambda: "t0" in seen.called, 20, "a call of the handler")
        assert not running.pool.remove(("shop", "t0"), 0.2), "its handler has not returned"
        seen.gates["t0"].set()
        running.wait(lambda: seen.ids["t0"] == stream.ids["t0"], "its change")


def test_tables_stay_live_after_a_lost_connection(stream: SixTables, tmp_path: Path) -> None:
    seen, path, stop = Recorder(), tmp_path / "w.duckdb", threading.Event()
    stream.write(ALL)
    with NatsConnection(stream.options, "shared") as connection:
        tasks = [seen.task(table, path) for table in TABLES]
        open_reader = partial(StreamReader, stream.options, stream.name, connection)
        with ContinuousPool(tasks, open_reader, ContinuousOptions(first_wait_s=0.2), stop) as pool:
            running = Live(pool)
            running.wait(lambda: seen.ids == stream.ids, "the first changes")
            with suppress(ConnectionLostError):
                connection.call(lambda client: client.close())
            stream.write(ALL)
            running.wait(lambda: seen.ids == stream.ids, "the changes after it")


def test_a_new_pool_resumes_exactly(stream: SixTables, tmp_path: Path) -> None:
    path, seen = tmp_path / "w.duckdb", Recorder()
    for _ in range(3):
        stream.write(ALL, ALL)
        with live(stream, [seen.task(table, path) for table in TABLES]) as running:
            running.wait(lambda: all(len(seen.ids[table]) >= len(stream.ids[table]) for table in TABLES), "changes")
    assert seen.ids == stream.ids


def test_a_mirror_that_joins_others_leaves_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DuckStore, "hold_s", 600.0)
    path = tmp_path / "w.duckdb"
    one, two = Mirror(path, "shop", "a"), Mirror(path, "shop", "b")
    with two.tables.begin(keep_open=True):
        pass
    assert two.tables.is_open
    alone = two.tables
    one.join([two])
    assert not alone.is_open
    assert query_elsewhere(path, "SELECT 1") == "[(1,)]"


def test_changes_that_arrive_while_a_handler_is_busy_do_not_wait_for_the_next_look(
    stream: SixTables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read ahead is little, and messages have been reported after it: they must not be forgotten."""
    monkeypatch.setattr(continuous, "_LOOK_S", 3600.0)
    many = [SampleTransaction((0,)) for _ in range(280)]
    gates = {2: threading.Event(), 3: threading.Event(), 203: threading.Event()}
    """Before these calls of the handler; the last one is for what was read ahead."""
    got: list[str] = []

    def on_row(change: Change[IdRow]) -> None:
        got.append(change.id)
        if len(got) in gates:
            gates[len(got)].wait(60)

    durable = durable_name("binlogsync", "shop", "t0")
    stream.write(ALL)
    task = ConsumerTask(("shop", "t0"), Handler(IdRow, on_row, tmp_path / "w.duckdb"), ConsumeOptions(max_changes=200))
    with live(stream, [task]) as running, stream.reader() as reader:

        def wait_delivered() -> None:
            wait_until(lambda: (state := reader.pending(durable)) and not state.num_pending, 30, "the delivery")

        running.wait(lambda: len(got) == 1, "the first change")
        running.wait(lambda: running.pool.quiet_s() > 1.5, "the proof that there is no other")
        stream.write(ALL)
        running.wait(lambda: len(got) == 2, "a change")
        stream.write(*many)
        wait_delivered()
        gates[2].set()
        running.wait(lambda: len(got) == 3, "the first of many changes")
        time.sleep(0.3)  # reading ahead has ended, most of the time
        stream.write(*many[:30])
        wait_delivered()
        gates[3].set()
        running.wait(lambda: len(got) == 203, "the first change that was read ahead")
        time.sleep(1.2)  # its ack is due
        gates[203].set()
        running.wait(lambda: got == stream.ids["t0"], "all changes")
