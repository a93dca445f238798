"""Servers that restart, sinks that hang, purged positions: a clear error, and no change is lost."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import nats
import pytest

from binlogsync import servers
from binlogsync.codec import subjects
from binlogsync.codec.envelope import GAP
from binlogsync.errors import PositionError, SinkError
from binlogsync.servers import NATSServer
from binlogsync.servers.process import bound_to_this_process
from binlogsync.sinks import Sink
from binlogsync.sinks.audit import AuditSink
from binlogsync.stores.memory import MemoryPositionStore
from binlogsync.stores.redis import RedisOptions, RedisPositionStore
from tests.databases import FreshDatabase, fresh_database
from tests.duck import query
from tests.e2e.oracle import (
    assert_exact,
    assert_same,
    audit_coordinates,
    coordinates,
    stream_changes,
    stream_coordinates,
)
from tests.e2e.tailing import TailThread, config_of, options_of, stream_sink
from tests.e2e.writers import Writers
from tests.waiting import wait_until

PAUSE_S = 0.3
"""The longest pause of a writer: an outage takes seconds, and what is written meanwhile is checked too."""
_HOLD = """
import duckdb, sys, time
while True:
    try:
        connection = duckdb.connect(sys.argv[1])
        break
    except duckdb.IOException:
        time.sleep(0.01)  # the tail has it, for a moment
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def own_nats() -> Iterator[NATSServer]:
    with servers.nats() as server:
        yield server


@pytest.fixture(scope="module")
def own_server() -> Iterator[servers.MySQLServer]:
    """A server that tests of this file stop, and whose binlogs they purge."""
    with servers.mysql() as server:
        yield server


@pytest.fixture
def own_mysql(own_server: servers.MySQLServer) -> Iterator[FreshDatabase]:
    with fresh_database(own_server) as database:
        yield database


@contextmanager
def hold_file_open(path: Path) -> Iterator[int]:
    """Open the DuckDB file in another process for the duration of the block; yields its process id."""
    process = subprocess.Popen(
        bound_to_this_process([sys.executable, "-c", _HOLD, str(path)]), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    try:
        yield process.pid
    finally:
        process.communicate()


def test_the_broker_restarts(mysql: FreshDatabase, own_nats: NATSServer) -> None:
    source = f"nats-{mysql.name}"
    config, writers = config_of(mysql.server, source), Writers(mysql, seed=5, pause_s=PAUSE_S)
    with (
        writers.running(),
        TailThread(config, [stream_sink(own_nats.url)], MemoryPositionStore(), options_of(source, mysql.name)) as tail,
    ):
        for stop in (own_nats.stop, own_nats.kill, own_nats.kill):
            tail.wait_stored(tail.progress.changes + 100)
            stop()
            writers.write_big(450)
            own_nats.start()
        writers.stop()
        tail.catch_up()
    assert_exact((config, mysql.name), own_nats.url, source)


def test_mysql_restarts(own_mysql: FreshDatabase, nats_server: NATSServer) -> None:
    source, server = f"mysql-{own_mysql.name}", own_mysql.server
    config, options = config_of(server, source), options_of(source, own_mysql.name, retry_s=240.0)
    with TailThread(config, [stream_sink(nats_server.url)], MemoryPositionStore(), options) as tail:
        own_mysql.execute("CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, n INT)")
        for stop in (server.stop, server.kill):
            stored = tail.progress.changes
            with server.connect(database=own_mysql.name) as connection, connection.cursor() as cursor:
                cursor.executemany("INSERT INTO t (n) VALUES (%s)", [(n,) for n in range(250)])
                cursor.execute("UPDATE t SET n = n + 1 WHERE id % 3 = 0")
            tail.wait_stored(stored + 100)
            seen = len(tail.progress.recoveries)
            stop()
            try:
                wait_until(lambda seen=seen: len(tail.progress.recoveries) > seen, 20, "the outage to be noticed")  # type: ignore[misc]
            finally:
                server.start()  # other tests use it too
        with server.connect(database=own_mysql.name) as connection, connection.cursor() as cursor:
            cursor.execute("DELETE FROM t WHERE id % 5 = 0")
        tail.catch_up()
    assert "SourceError" in "\n".join(tail.progress.recoveries)
    assert_exact((config, own_mysql.name), nats_server.url, source)


def test_the_position_store_restarts(mysql: FreshDatabase, nats_server: NATSServer) -> None:
    source = f"redis-{mysql.name}"
    config, writers = config_of(mysql.server, source), Writers(mysql, seed=6, pause_s=PAUSE_S)
    with servers.redis() as redis:
        store = RedisPositionStore(RedisOptions(port=redis.port, password=redis.password, timeout_s=0.5))
        with (
            writers.running(),
            TailThread(config, [stream_sink(nats_server.url)], store, options_of(source, mysql.name)) as tail,
        ):
            for stop in (redis.stop, redis.kill):
                tail.wait_stored(tail.progress.changes + 100)
                stop()
                seen = len(tail.progress.recoveries)
                wait_until(lambda seen=seen: len(tail.progress.recoveries) > seen, 20, "the outage to be noticed")  # type: ignore[misc]
                redis.start()
            writers.stop()
            tail.catch_up()
            last = tail.stop()
        assert "StoreError" in "\n".join(last.recoveries)
        assert store.checkpoints.load(source) == last.checkpoint
        store.close()
    assert_exact((config, mysql.name), nats_server.url, source)


def test_the_audit_log_is_locked_by_another_process(
    mysql: FreshDatabase, nats_server: NATSServer, tmp_path: Path
) -> None:
    source, audit, store = f"audit-{mysql.name}", tmp_path / "audit.duckdb", MemoryPositionStore()
    config, writers = config_of(mysql.server, source), Writers(mysql, seed=7, pause_s=PAUSE_S)

    def tail(retry_s: float) -> TailThread:
        sinks: list[Sink] = [stream_sink(nats_server.url), AuditSink(audit, timeout_s=0.5)]
        return TailThread(config, sinks, store, options_of(source, mysql.name, retry_s=retry_s))

    with writers.running():
        with tail(retry_s=1.0) as short:
            short.wait_stored(100)
            with hold_file_open(audit) as pid:
                error = short.end()
        assert isinstance(error, SinkError)
        assert f"{audit} was locked by process {pid}" in str(error)
        with tail(retry_s=240.0) as patient:
            patient.wait_stored(100)
            with hold_file_open(audit):
                wait_until(lambda: patient.progress.recoveries, 20, "the outage to be noticed")
            writers.stop()
            patient.catch_up()
    changes = assert_exact((config, mysql.name), nats_server.url, source)
    assert_same(audit_coordinates(audit), [coordinates(change) for change in changes], "audit log")


def test_a_purged_position_is_an_error_with_the_choices(own_mysql: FreshDatabase, nats_server: NATSServer) -> None:
    source, store = f"purged-{own_mysql.name}", MemoryPositionStore()
    config, options = config_of(own_mysql.server, source), options_of(source, own_mysql.name)
    own_mysql.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    own_mysql.execute("INSERT INTO t VALUES (1)")
    with TailThread(config, [stream_sink(nats_server.url)], store, options) as tail:
        tail.catch_up()
    own_mysql.execute("INSERT INTO t VALUES (2)")
    own_mysql.execute("FLUSH BINARY LOGS")
    own_mysql.execute("INSERT INTO t VALUES (3)")
    last = own_mysql.execute("SHOW BINARY LOGS")[-1][0]
    own_mysql.execute(f"PURGE BINARY LOGS TO '{last}'")
    before = stream_coordinates(nats_server.url, source)
    with TailThread(config, [stream_sink(nats_server.url)], store, options) as again:
        error = again.end()
    assert not again.progress.recoveries, "it does not try again"
    assert isinstance(error, PositionError)
    assert "the server has purged transactions that were not read yet" in str(error)
    assert "choose: start at 'oldest' and accept the gap, take a new snapshot, or continue on another" in str(error)
    assert stream_coordinates(nats_server.url, source) == before


@pytest.mark.server
def test_a_gap_is_accepted_for_a_reason_and_recorded(
    own_mysql: FreshDatabase, own_nats: NATSServer, tmp_path: Path
) -> None:
    source, audit = f"hole-{own_mysql.name}", tmp_path / "audit.duckdb"
    config, options = config_of(own_mysql.server, source), options_of(source, own_mysql.name)
    sinks: list[Sink] = [stream_sink(own_nats.url), AuditSink(audit)]
    own_mysql.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    own_mysql.execute("INSERT INTO t VALUES (1)")
    with TailThread(config, sinks, MemoryPositionStore(), options) as tail:
        tail.catch_up()
    own_mysql.execute("INSERT INTO t VALUES (2)")
    own_mysql.execute("FLUSH BINARY LOGS")
    own_mysql.execute(f"PURGE BINARY LOGS TO '{own_mysql.execute('SHOW BINARY LOGS')[-1][0]}'")
    own_mysql.execute("INSERT INTO t VALUES (3)")
    accepting = replace(options, accept_gap="2 is in the backup of Monday")
    with TailThread(config, sinks, MemoryPositionStore(), accepting) as again:
        again.catch_up()
        said = again.stop().recoveries
    assert "a GAP was accepted from" in said[0]
    assert "purged transactions that were not read yet" in said[0]
    there = stream_changes(own_nats.url, source, own_mysql.name, "t")
    assert [change.after for change in there] == [{"id": 1}, {"id": 3}]
    ((reason, note),) = query(audit, "SELECT reason, note FROM flushes WHERE note IS NOT NULL")
    assert (reason, json.loads(note)["reason"]) == ("gap", "2 is in the backup of Monday")
    assert query(audit, "SELECT after->>'id' FROM changes WHERE op = 'c' ORDER BY rowid") == [("1",), ("3",)]
    message = stream_message(own_nats.url, source, subjects.checkpoint_subject(source), GAP)
    assert json.loads(message) == json.loads(note)
    with TailThread(config, sinks, MemoryPositionStore(), options) as afterwards:
        afterwards.catch_up()


def stream_message(url: str, source: str, subject: str, header: str) -> str:
    """The value of a header, from the message of the subject that has it."""

    async def read() -> str:
        client = await nats.connect(url)
        try:
            reader = await client.jetstream().pull_subscribe(subject, stream=subjects.stream_name(source))
            for message in await reader.fetch(100, timeout=60):
                if header in (message.headers or {}):
                    return str((message.headers or {})[header])
            raise AssertionError(f"no {header} on {subject}")
        finally:
            await client.close()

    return asyncio.run(read())


def test_a_filter_drops_and_counts(mysql: FreshDatabase, nats_server: NATSServer) -> None:
    source = f"filter-{mysql.name}"
    config = config_of(mysql.server, source)
    for table in ("kept", "lost"):
        mysql.execute(f"CREATE TABLE {table} (id INT PRIMARY KEY)")
    mysql.execute("BEGIN")
    for number in range(10):
        mysql.execute("INSERT INTO kept VALUES (%s)", [number])
        mysql.execute("INSERT INTO lost VALUES (%s), (%s)", [2 * number, 2 * number + 1])
    mysql.execute("COMMIT")
    options = options_of(source, mysql.name, exclude=(f"{mysql.name}.l*t",), flush_rows=3)
    with TailThread(config, [stream_sink(nats_server.url)], MemoryPositionStore(), options) as tail:
        tail.catch_up()
        progress = tail.stop()
    assert progress.changes == 10
    assert progress.tables == {(mysql.name, "kept"): 10}
    assert progress.dropped >= 20  # the server is shared: other databases are filtered out too
    assert [each[5] for each in stream_coordinates(nats_server.url, source)] == ["kept"] * 10


def test_a_stop_flushes_what_is_pending(mysql: FreshDatabase, nats_server: NATSServer) -> None:
    source = f"stop-{mysql.name}"
    config = config_of(mysql.server, source)
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    options = options_of(source, mysql.name, flush_interval_s=600.0, flush_rows=10_000, idle_checkpoint_s=600.0)
    with TailThread(config, [stream_sink(nats_server.url)], MemoryPositionStore(), options) as tail:
        tail.catch_up()
        wait_until(lambda: tail.error or tail.progress.lag_s == 0, 20, "the backlog to be stored")
        flushed = tail.progress.flushes
        mysql.execute("INSERT INTO t VALUES (1), (2), (3)")
        wait_until(lambda: tail.progress.lag_s > 0, 20, "the rows to be read")
        progress = tail.stop()
    assert progress.last_flush_reason == "stop"
    assert progress.flushes == flushed + 1
    assert len(assert_exact((config, mysql.name), nats_server.url, source)) == 3


def test_a_stop_does_not_wait_indefinitely_for_a_hanging_broker(mysql: FreshDatabase, own_nats: NATSServer) -> None:
    source, store = f"hangs-{mysql.name}", MemoryPositionStore()
    config = config_of(mysql.server, source)
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    options = options_of(source, mysql.name, stop_s=2.0)
    before = {thread.name for thread in threading.enumerate()}
    with TailThread(config, [stream_sink(own_nats.url, reconnect_timeout_s=60.0)], store, options) as tail:
        tail.catch_up()
        wait_until(lambda: tail.error or tail.progress.lag_s == 0, 20, "the backlog to be stored")
        os.kill(own_nats.pid, signal.SIGSTOP)
        mysql.execute("INSERT INTO t VALUES (1), (2), (3)")
        wait_until(lambda: tail.progress.lag_s > 0.5, 20, "the rows to be read, and to wait")
        tail.stopping.set()
        error = tail.end()
    os.kill(own_nats.pid, signal.SIGCONT)
    assert isinstance(error, SinkError)
    assert "jetstream stored nothing for 2 s" in str(error)
    wait_until(lambda: {thread.name for thread in threading.enumerate()} <= before, 30, "its threads to end")
    with TailThread(config, [stream_sink(own_nats.url)], store, options) as again:
        again.catch_up()
    assert len(assert_exact((config, mysql.name), own_nats.url, source)) == 3
