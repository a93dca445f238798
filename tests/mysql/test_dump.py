"""The raw bytes: over TLS and without, ended by the server and by us, and what happens when things break."""

from __future__ import annotations

import threading
import time
import zlib
from dataclasses import replace

import pytest

from binlogsync import servers
from binlogsync.errors import PositionError, SourceError
from binlogsync.mysql import TLS, BinlogDump, inspect_server, raise_server_error, resolve_start
from binlogsync.mysql.dump import find_dump_start
from binlogsync.mysql.scan import packets
from binlogsync.mysql.server import BinlogFile, ServerInfo
from binlogsync.position import BinlogPosition, Checkpoint, GtidSet
from binlogsync.server_version import ServerFlavor
from binlogsync.servers.database import DatabaseServer
from tests.mysql.sources import ENCRYPTED, PLAIN, run, source_of

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
SERVERS = pytest.mark.parametrize("server_name", ["mysql_server", "mariadb_server"])


@pytest.fixture
def server(server_name: str, request: pytest.FixtureRequest) -> DatabaseServer:
    """With a table `dump.t`."""
    running: DatabaseServer = request.getfixturevalue(server_name)
    run(running, "CREATE DATABASE IF NOT EXISTS dump", "CREATE TABLE IF NOT EXISTS dump.t (a LONGBLOB)")
    return running


def payloads(dump: BinlogDump) -> list[bytes]:
    return [bytes(payload) for payload in packets(dump)]


@SERVERS
@pytest.mark.parametrize("tls", [PLAIN, ENCRYPTED], ids=lambda tls: tls.mode)
def test_a_non_blocking_dump_ends_at_the_end_of_the_log(server: DatabaseServer, tls: TLS) -> None:
    config = source_of(server, tls=tls)
    now = resolve_start(config)
    run(server, "INSERT INTO dump.t VALUES (REPEAT('x', 100000))")
    with BinlogDump(config, now, blocking=False) as dump:
        assert dump.encrypted == (tls is ENCRYPTED)
        found = payloads(dump)
    assert found[-1][0] == 0xFE
    assert all(payload[0] == 0 for payload in found[:-1])
    assert any(b"x" * 100000 in payload for payload in found)


@SERVERS
def test_the_socket(server: DatabaseServer) -> None:
    config = source_of(server, unix_socket=str(server.socket))
    with BinlogDump(config, resolve_start(config), blocking=False) as dump:
        assert not dump.encrypted
        assert payloads(dump)[-1][0] == 0xFE


@SERVERS
@pytest.mark.parametrize("by_gtid", [True, False])
def test_events_keep_their_checksums(server: DatabaseServer, by_gtid: bool) -> None:
    config = source_of(server)
    now = resolve_start(config)
    run(server, "INSERT INTO dump.t VALUES ('checked')")
    with BinlogDump(config, now if by_gtid else replace(now, gtids=None), blocking=False) as dump:
        found = payloads(dump)
    row = next(payload[1:] for payload in found if b"checked" in payload)
    assert zlib.crc32(row[:-4]) == int.from_bytes(row[-4:], "little")


def test_files_with_checksums_keep_them_when_they_are_turned_off_now(own_mysql: servers.MySQLServer) -> None:
    config = source_of(own_mysql)
    run(own_mysql, "CREATE DATABASE IF NOT EXISTS dump", "CREATE TABLE IF NOT EXISTS dump.c (a TEXT)")
    now = resolve_start(config)
    run(own_mysql, "INSERT INTO dump.c VALUES ('checked')", "SET GLOBAL binlog_checksum = NONE")
    try:
        run(own_mysql, "INSERT INTO dump.c VALUES ('bare')")
        with BinlogDump(config, now, blocking=False) as dump:
            found = payloads(dump)
    finally:
        run(own_mysql, "SET GLOBAL binlog_checksum = CRC32")
    row = next(payload[1:] for payload in found if b"checked" in payload)
    assert zlib.crc32(row[:-4]) == int.from_bytes(row[-4:], "little")
    assert next(payload for payload in found if b"bare" in payload).endswith(b"bare")


@SERVERS
def test_an_event_over_16_mib_comes_in_several_packets(server: DatabaseServer) -> None:
    config = source_of(server)
    now = resolve_start(config)
    run(server, "INSERT INTO dump.t VALUES (REPEAT('x', 20000000))", "INSERT INTO dump.t VALUES ('behind')")
    with BinlogDump(config, now, blocking=False) as dump:
        found = payloads(dump)
    assert max(map(len, found)) == 0xFFFFFF
    assert any(b"behind" in payload for payload in found)


@SERVERS
def test_close_in_another_thread_ends_a_read(server: DatabaseServer) -> None:
    config = source_of(server)
    with BinlogDump(config, resolve_start(config)) as dump:
        ended = threading.Event()

        def read() -> None:
            buffer = memoryview(bytearray(1 << 16))
            while dump.readinto(buffer):
                pass
            ended.set()

        reader = threading.Thread(target=read)
        reader.start()
        time.sleep(0.2)
        assert not ended.is_set()
        dump.close()
        assert ended.wait(60)
        reader.join()


@SERVERS
def test_heartbeats_come_when_nothing_happens(server: DatabaseServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("binlogsync.mysql.dump.SILENCE_HEARTBEATS", 600)  # a busy machine delays several
    config = source_of(server, heartbeat_s=0.2)
    with BinlogDump(config, resolve_start(config)) as dump:
        kinds = []
        for payload in packets(dump):
            kinds.append(payload[5])
            if kinds[-3:] in ([27, 27, 27], [41, 41, 41]):
                break


def test_an_account_that_may_not_read_the_binlog(mysql_server: servers.MySQLServer) -> None:
    config = source_of(mysql_server)
    now = resolve_start(config)
    run(mysql_server, "CREATE USER looker IDENTIFIED BY 'x'", "GRANT REPLICATION CLIENT ON *.* TO looker")
    try:
        with (
            pytest.raises(SourceError, match=r"REPLICATION SLAVE.*binlogsync doctor"),
            BinlogDump(replace(config, user="looker", password="x"), now),
        ):
            pass
    finally:
        run(mysql_server, "DROP USER looker")


def test_the_older_of_two_readers_with_one_id_is_told(mysql_server: servers.MySQLServer) -> None:
    config = source_of(mysql_server, source="twice")
    now = resolve_start(config)
    with BinlogDump(config, now) as older, BinlogDump(config, now):
        last = next(payload for payload in payloads(older) if payload[0] == 0xFF)
    with pytest.raises(SourceError, match="another reader with this server_id.*BINLOGSYNC_MYSQL_SERVER_ID"):
        raise_server_error(last)


def server_info(**changes: object) -> ServerInfo:
    info = ServerInfo(
        version="9.7.4",
        flavor=ServerFlavor.MYSQL,
        server_uuid=UUID,
        server_id=1,
        gtids=True,
        executed=GtidSet(),
        purged=GtidSet(),
        files=(BinlogFile("binlog.000001", 6 * 2**30), BinlogFile("binlog.000002", 500)),
        position=BinlogPosition("binlog.000002", 500),
        may_see_files=True,
        filtered="",
        expire_s=None,
        variables={},
    )
    return replace(info, **changes)  # type: ignore[arg-type]


PLACE = BinlogPosition("binlog.000001", 700)
SET = GtidSet.parse(f"{UUID}:1-5")
TAGGED = GtidSet.parse(f"{UUID}:tag:1-5")


@pytest.mark.parametrize(
    ("checkpoint", "changes", "by"),
    [
        (Checkpoint(PLACE, UUID, SET), {}, SET),
        (Checkpoint(PLACE, "other", SET), {}, SET),
        (Checkpoint(PLACE, UUID, SET), {"gtids": False}, PLACE),
        (Checkpoint(PLACE, "other", TAGGED), {}, TAGGED),
        (Checkpoint(PLACE, UUID, GtidSet()), {}, PLACE),
        (Checkpoint(PLACE, "other", GtidSet()), {}, BinlogPosition("binlog.000001", 4)),
        (Checkpoint(BinlogPosition("binlog.000001", 6 * 2**30 - 44), UUID), {}, BinlogPosition("binlog.000002", 4)),
        (Checkpoint(BinlogPosition("binlog.000001", 6 * 2**30 - 44), UUID, SET), {}, SET),
    ],
)
def test_how_a_checkpoint_is_asked_for(checkpoint: Checkpoint, changes: dict[str, object], by: object) -> None:
    place = find_dump_start(checkpoint, server_info(**changes))
    assert (place.gtids or place.position) == by


@pytest.mark.parametrize(
    ("checkpoint", "changes", "reason"),
    [
        (Checkpoint(PLACE, "other"), {}, "belongs to server other"),
        (Checkpoint(PLACE, "other", SET), {"gtids": False}, "belongs to server other"),
        (Checkpoint(PLACE, "other", GtidSet()), {"purged": SET}, "belongs to server other"),
        (Checkpoint(PLACE, UUID, SET), {"flavor": ServerFlavor.MARIADB}, "the server is mariadb"),
        (Checkpoint(BinlogPosition("binlog.000001", 5 * 2**30), UUID), {}, "beyond 4 GiB"),
    ],
)
def test_what_cannot_be_asked_for(checkpoint: Checkpoint, changes: dict[str, object], reason: str) -> None:
    with pytest.raises(PositionError, match=reason):
        find_dump_start(checkpoint, server_info(**changes))


def test_flavors_name_their_server(mysql_server: servers.MySQLServer, mariadb_server: servers.MariaDBServer) -> None:
    assert len(inspect_server(source_of(mysql_server)).server_uuid) == 36
    mariadb = inspect_server(source_of(mariadb_server))
    assert mariadb.server_uuid == f"mariadb:{mariadb.server_id}"
