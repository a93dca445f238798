"""Where a start leads, on real binlogs."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from binlogsync import servers
from binlogsync.errors import ConfigError, PositionError
from binlogsync.mysql import BinlogDump, inspect_server, resolve_start, validate
from binlogsync.mysql.gtid_sets import encode_gtids, parse_previous_gtids
from binlogsync.mysql.scan import BEGINS_TRANSACTION, EventType, scan
from binlogsync.position import BinlogPosition, GtidSet
from binlogsync.position_order import PositionOrder, compare
from binlogsync.server_version import ServerFlavor
from binlogsync.servers.database import DatabaseServer
from binlogsync.start_notation import StartAt, parse_start
from tests.mysql.sources import plain_source_of as source_of
from tests.mysql.sources import run, transactions

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
SERVERS = ["own_mysql", "plain_mysql", "own_mariadb"]


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("now", "now"),
        (" Oldest ", "oldest"),
        ("binlog.000042:1187", BinlogPosition("binlog.000042", 1187)),
        (f"{UUID}:1-5", GtidSet.parse(f"{UUID}:1-5")),
        ("0-1-100,1-2-7", GtidSet.parse("0-1-100,1-2-7")),
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31 14:00+02:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
    ],
)
def test_starts_as_text(text: str, start: StartAt) -> None:
    assert parse_start(text) == start


@pytest.mark.parametrize("text", ["2026-01-31T12:00:00", "2026-01-31", "yesterday", "binlog:x", "", f"{UUID}:0"])
def test_starts_that_are_not_understood(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_start(text)


def test_previous_gtids_of_both_formats() -> None:
    sid = bytes.fromhex(UUID.replace("-", ""))
    numbers = [1, 6, 8, 9]
    intervals = (2).to_bytes(8, "little") + b"".join(n.to_bytes(8, "little") for n in numbers)
    assert str(parse_previous_gtids((1).to_bytes(8, "little") + sid + intervals)) == f"{UUID}:1-5:8"
    head = (1 << 56 | 1 << 8 | 1).to_bytes(8, "little")
    assert str(parse_previous_gtids(head + sid + b"\x06tag" + intervals)) == f"{UUID}:tag:1-5:8"


@pytest.mark.parametrize("text", ["", f"{UUID}:1-5:8", f"{UUID}:1-3,{UUID}:a_1:7:9-12,{UUID}:tag:1-5"])
def test_a_set_is_asked_for_as_binlogs_write_it(text: str) -> None:
    assert str(parse_previous_gtids(encode_gtids(GtidSet.parse(text)))) == text


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> DatabaseServer:
    """A server with three transactions in each of two files, and a third file."""
    running: DatabaseServer = request.getfixturevalue(request.param)
    run(running, "DROP DATABASE IF EXISTS start", "CREATE DATABASE start", "CREATE TABLE start.t (a INT)")
    for _ in range(2):
        run(running, "FLUSH BINARY LOGS", *["INSERT INTO start.t VALUES (1)"] * 3)
    run(running, "FLUSH BINARY LOGS")
    return running


def test_now_is_the_end(server: DatabaseServer) -> None:
    config = source_of(server)
    now = resolve_start(config)
    assert transactions(config, now) == []
    run(server, "INSERT INTO start.t VALUES (2)")
    with BinlogDump(config, replace(now, gtids=None), blocking=False) as dump:
        events = list(scan(dump))
    # MariaDB writes its checkpoints in the background, whenever it gets to it.
    kinds = [event.kind for event in events if event.kind != EventType.MARIADB_CHECKPOINT]
    assert events[0].start == now.position
    assert kinds[0] in BEGINS_TRANSACTION
    assert [event.start for event in transactions(config, now)] == [
        event.start for event in events if event.kind in BEGINS_TRANSACTION
    ]


def test_oldest_is_everything(server: DatabaseServer) -> None:
    config = source_of(server)
    oldest = resolve_start(config, "oldest")
    assert oldest.position == BinlogPosition(inspect_server(config).files[0].name, 4)
    assert len(transactions(config, oldest)) >= 8


def test_every_transaction_is_a_place_to_start_with_the_gtids_before_it(server: DatabaseServer) -> None:
    config = source_of(server)
    every = transactions(config, resolve_start(config, "oldest"))
    for number, event in list(enumerate(every))[-5:]:
        checkpoint = resolve_start(config, event.start)
        assert checkpoint.position == event.start
        validate(config, checkpoint)
        assert [later.start for later in transactions(config, checkpoint)] == [e.start for e in every[number:]]


def test_a_gtid_set_leads_to_the_transaction_behind_it(server: DatabaseServer) -> None:
    config = source_of(server)
    every = transactions(config, resolve_start(config, "oldest"))
    at = resolve_start(config, every[-3].start)
    if at.gtids is None:
        with pytest.raises(PositionError, match="no GTIDs"):
            resolve_start(config, GtidSet.parse(f"{UUID}:1-5"))
        return
    assert resolve_start(config, at.gtids) == at


def test_a_place_inside_a_transaction_is_refused(server: DatabaseServer) -> None:
    config = source_of(server)
    event = transactions(config, resolve_start(config, "oldest"))[-1]
    inside = run(server, f"SHOW BINLOG EVENTS IN '{event.start.file}' FROM {event.start.pos}")[3][1]
    assert isinstance(inside, int)
    for pos in (inside, event.start.pos + 1):
        with pytest.raises(PositionError):
            resolve_start(config, BinlogPosition(event.start.file, pos))


def test_a_file_or_position_that_does_not_exist_is_refused(server: DatabaseServer) -> None:
    config = source_of(server)
    end = inspect_server(config).end()
    for place in (BinlogPosition("binlog.999999", 4), BinlogPosition(end.file, end.pos + 1000)):
        with pytest.raises(PositionError):
            resolve_start(config, place)


def test_a_time_leads_to_the_first_transaction_from_then_on(server: DatabaseServer) -> None:
    config = source_of(server)
    run(server, "INSERT INTO start.t VALUES (3)")
    before = transactions(config, resolve_start(config, "oldest"))
    time.sleep(1.1)  # the header of an event has whole seconds
    moment = datetime.now(UTC)
    time.sleep(1.1)
    run(server, "INSERT INTO start.t VALUES (4)", "FLUSH BINARY LOGS", "INSERT INTO start.t VALUES (5)")
    found = resolve_start(config, moment)
    after = transactions(config, found)
    assert found.position == after[0].start
    assert len(after) == 2
    assert compare(before[-1].start, found.position) is PositionOrder.BEFORE
    for event in (after[1], before[-1]):
        exact = datetime.fromtimestamp(event.committed_us // 1_000_000, UTC)
        assert compare(resolve_start(config, exact).position, event.start).is_at_or_before
    assert transactions(config, resolve_start(config, datetime.now(UTC))) in ([], after[1:], after)


def test_the_time_before_the_first_file_is_the_first_file_while_nothing_was_purged(server: DatabaseServer) -> None:
    config = source_of(server)
    first = inspect_server(config).files[0]
    long_ago = datetime.now(UTC) - timedelta(days=30)
    if first.number == 1:
        assert resolve_start(config, long_ago).position.file == first.name
    else:
        with pytest.raises(PositionError, match="reach back to"):
            resolve_start(config, long_ago)


def test_the_future_is_refused(server: DatabaseServer) -> None:
    with pytest.raises(PositionError, match="has not come yet"):
        resolve_start(source_of(server), datetime.now(UTC) + timedelta(hours=1))


def test_a_new_server_starts_now_before_any_transaction(own_mysql: servers.MySQLServer) -> None:
    run(own_mysql, "RESET BINARY LOGS AND GTIDS")
    config = source_of(own_mysql)
    now = resolve_start(config)
    assert now.gtids == GtidSet(ServerFlavor.MYSQL)
    run(own_mysql, "CREATE DATABASE IF NOT EXISTS start")
    assert len(transactions(config, now)) == 1
    validate(config, now)


def test_tagged_transactions_count_as_others_do(own_mysql: servers.MySQLServer) -> None:
    run(own_mysql, "RESET BINARY LOGS AND GTIDS", "CREATE DATABASE IF NOT EXISTS start")
    run(own_mysql, "SET gtid_next = 'AUTOMATIC:tag'", "CREATE TABLE IF NOT EXISTS start.tagged (a INT)")
    config = source_of(own_mysql)
    now = resolve_start(config)
    assert transactions(config, now) == []
    run(own_mysql, "INSERT INTO start.tagged VALUES (1)", "FLUSH BINARY LOGS")
    run(own_mysql, "SET gtid_next = 'AUTOMATIC:other'", "INSERT INTO start.tagged VALUES (2)")
    later = [each.gtid for each in transactions(config, now)]
    uuid = inspect_server(config).server_uuid
    assert later == [(uuid, 2), (f"{uuid}:other", 1)]
    behind = resolve_start(config, GtidSet.parse(f"{uuid}:1-2,{uuid}:tag:1"))
    assert [each.gtid for each in transactions(config, behind)] == later[1:]
    by_place = resolve_start(config, behind.position)
    assert by_place.gtids == behind.gtids == GtidSet.parse(f"{uuid}:1-2,{uuid}:tag:1")
    run(own_mysql, "DROP TABLE start.tagged", "RESET BINARY LOGS AND GTIDS")
