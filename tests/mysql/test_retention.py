"""How long a position is still there: by age, by size, for the file that is written to, and on another server."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from binlogsync import servers
from binlogsync.bookmarks import Bookmark
from binlogsync.codec.subjects import stream_name
from binlogsync.consume.progress import NO_PROGRESS, ProgressKey
from binlogsync.consume.progress_nats import NatsProgress, load_all_progress
from binlogsync.errors import ConsumeError, PositionError
from binlogsync.mysql import ServerInfo, inspect_server, resolve_start
from binlogsync.mysql.retention import BinlogRetention, clock_ahead_s
from binlogsync.nats.client import NatsConnection, NatsOptions
from binlogsync.position import BinlogPosition, Checkpoint
from binlogsync.retention_report import (
    RequiredPosition,
    check_retention,
    describe_retention,
    required_by_bookmarks,
    required_by_consumers,
    required_by_nats_consumers,
    required_by_tail,
)
from binlogsync.server_facts import ServerFacts
from binlogsync.servers import NATSServer
from binlogsync.servers.database import DatabaseServer
from binlogsync.targets.duckdb.store import DuckStore
from binlogsync.targets.records import ReplayRecord
from tests.mysql.sources import run, source_of
from tests.nats_commands import delete_stream

OTHER = "11111111-2222-3333-4444-555555555555"


@pytest.fixture(params=["own_mysql", "plain_mysql", "own_mariadb"])
def server(request: pytest.FixtureRequest) -> DatabaseServer:
    """A server with a table, that keeps its binlogs for two hours."""
    running: DatabaseServer = request.getfixturevalue(request.param)
    run(running, "SET GLOBAL binlog_expire_logs_seconds = 7200", "DROP DATABASE IF EXISTS kept", "CREATE DATABASE kept")
    run(running, "CREATE TABLE kept.t (a INT)")
    return running


def test_hours_of_each_position(server: DatabaseServer) -> None:
    config = source_of(server)
    early = resolve_start(config)
    run(server, "INSERT INTO kept.t VALUES (1)", "FLUSH BINARY LOGS", "INSERT INTO kept.t VALUES (2)")
    late, info = resolve_start(config), inspect_server(config)
    retention = BinlogRetention(config, info)
    first, last = retention.assess(early), retention.assess(late)
    assert (first.file, last.file) == (info.files[-2].name, info.files[-1].name)
    assert last.seconds == 7200
    assert first.seconds is not None
    assert 7000 < first.seconds <= 7200
    assert first.bytes_after == info.files[-2].size + info.files[-1].size
    assert "retained for 2.0 hours" in describe_retention(retention)
    if isinstance(server, servers.MariaDBServer):  # it does not purge what a crash might still need
        server.restart()
    newest = inspect_server(config)
    run(server, f"PURGE BINARY LOGS TO '{newest.files[-1].name}'")
    after = BinlogRetention(config, inspect_server(config))
    tail, bookmark = (
        RequiredPosition("the tail", early, is_essential=True),
        RequiredPosition("bookmark a", resolve_start(config)),
    )
    gone, kept = check_retention(after, inspect_server(config), [bookmark, tail])
    assert (gone.position, gone.hours, kept.position) == (tail, 0.0, bookmark)
    assert f"the tail at {early}: LOST: {early}: no binlog of" in str(gone)
    assert re.search(r"retained (for at least [\d.]+ hours|until purged manually) \(0.0 MB from", str(kept))


def test_the_same_transactions_on_another_server(server: DatabaseServer) -> None:
    config = source_of(server)
    run(server, "INSERT INTO kept.t VALUES (1)", "FLUSH BINARY LOGS")
    here = resolve_start(config)
    info = inspect_server(config)
    elsewhere = replace(here, server_uuid=OTHER, position=BinlogPosition("binlog.000999", 4))
    retention = BinlogRetention(config, info)
    if here.gtids is None:
        with pytest.raises(PositionError, match="no binlog of"):
            retention.assess(elsewhere)
        return
    assert retention.assess(elsewhere).file == info.files[-1].name
    (status,) = check_retention(retention, info, required_by_tail([elsewhere, None]))
    assert f"the tail at binlog.000999:4 of server {OTHER}: retained for" in str(status)


def test_a_limit_of_size_counts_too(own_mysql: servers.MySQLServer) -> None:
    config = source_of(own_mysql)
    here, info = resolve_start(config), inspect_server(config)

    def left(**variables: str) -> float | None:
        with_them = replace(info, variables={**info.variables, **variables})
        return BinlogRetention(config, with_them).assess(here).seconds

    assert left(max_binlog_total_size="10") == 0
    assert left(binlog_expire_logs_auto_purge="OFF") is None
    rated = replace(info, variables={**info.variables, "binlog_space_limit": str(10**12)})
    rate = BinlogRetention(config, rated).bytes_per_s()
    assert rate is None or rate > 0


def test_the_clock(own_mysql: servers.MySQLServer) -> None:
    assert abs(clock_ahead_s(source_of(own_mysql))) < 60


def test_what_changed_about_a_server(own_mysql: servers.MySQLServer) -> None:
    info: ServerInfo = inspect_server(source_of(own_mysql))
    then = ServerFacts.of(info, 1_700_000_000.0)
    assert ServerFacts.from_text(then.to_text()) == then
    assert ServerFacts.from_text("{}") is None
    now = ServerFacts.of(replace(info, variables={**info.variables, "binlog_row_image": "MINIMAL"}), 1_800_000_000.0)
    assert now.changes_since(then) == ["binlog_row_image is MINIMAL, it was FULL"]
    assert now.changes_since(now) == []
    moved = replace(then, server_uuid=OTHER, settings={**then.settings, "server_id": "77"})
    assert moved.changes_since(then) == [f"the server is {OTHER}, it was {then.server_uuid}"]


def test_who_needs_a_position(tmp_path: Path) -> None:
    early, late = (Checkpoint(BinlogPosition("binlog.000001", pos), OTHER) for pos in (100, 200))
    assert required_by_tail([None, late, early]) == [RequiredPosition("the tail", early, is_essential=True)]
    assert required_by_tail([None]) == []
    marks = [Bookmark(early, "interval", 1, 1), Bookmark(late, "person", 1, 1, "monday")]
    assert [need.user for need in required_by_bookmarks(marks)] == ["bookmark monday"]
    file = DuckStore(tmp_path / "warehouse.duckdb", 5.0, ConsumeError)
    assert required_by_consumers(file, "main", 50) == []
    replay = ReplayRecord("n1", "main", "shop", "orders", "oldest..head", "table", "{}")
    with file.begin() as transaction:
        transaction.insert_replay(replay)
        for client, seen in (("slow", 7), ("quick", 60), (replay.key.client, 7)):
            key = ProgressKey(client, "main", "shop", "orders")
            done = replace(NO_PROGRESS, server_uuid=OTHER, file="binlog.000001", pos=100, sequence=5, seen=seen)
            transaction.move_progress(key, transaction.load_progress(key), done)
    assert required_by_consumers(file, "main", 50) == [
        RequiredPosition("unfinished replay 'oldest..head' of shop.orders", early),
        RequiredPosition("consumer slow of shop.orders", early),
    ]


def test_consumers_with_progress_in_nats_need_a_position_too(nats_server: NATSServer) -> None:
    source = f"worth-{time.time_ns()}"
    with NatsConnection(NatsOptions(url=nats_server.url), "test") as connection:
        assert load_all_progress(connection, source) == {}  # asking makes no bucket
        connection.call(lambda client: client.jetstream().add_stream(name=stream_name(source), subjects=[source]))
        store = NatsProgress(connection, source)
        for client, seen in (("slow", 7), ("quick", 60), ("a.b", 7)):
            key = ProgressKey(client, source, "sh op", "orders")
            done = replace(NO_PROGRESS, server_uuid=OTHER, file="binlog.000001", pos=100, sequence=5, seen=seen)
            store.move(key, store.load(key), done)
            store.record_move(key, "by hand")
        new = ProgressKey("new", source, "sh op", "orders")
        store.move(new, store.load(new), replace(NO_PROGRESS, seen=3))
        long = ProgressKey("c" * 100, source, "shop", "orders" * 20)
        store.move(long, store.load(long), done)
        kept = load_all_progress(connection, source)
        for name in (f"{stream_name(source)}", f"KV_{stream_name(source)}_progress"):
            delete_stream(nats_server.url, name)
    early = Checkpoint(BinlogPosition("binlog.000001", 100), OTHER)
    names = [need.user for need in required_by_nats_consumers(kept, 50)]
    assert names[0] == "consumer a.b of sh op.orders"
    assert names[1].startswith("consumer ccc")
    assert required_by_nats_consumers(kept, 50)[2:] == [RequiredPosition("consumer slow of sh op.orders", early)]
