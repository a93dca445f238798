"""The private servers start, reply, stop, and keep their data across a restart and a kill."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import nats as nats_client
import nats.js.errors
import pymysql
import pytest
import redis as redis_client

from binlogsync import servers
from binlogsync.errors import EmbeddedServerError
from binlogsync.servers.database import DatabaseServer
from binlogsync.servers.process import free_port
from tests.nats_commands import PATIENCE_S
from tests.waiting import wait_until

pytestmark = pytest.mark.server

Start = Callable[..., AbstractContextManager[DatabaseServer]]
DATABASES = pytest.mark.parametrize("start", [servers.mysql, servers.mariadb], ids=["mysql", "mariadb"])
SHARED = pytest.mark.parametrize("name", ["mysql_server", "mariadb_server"])


def rows(server: DatabaseServer, sql: str) -> list[tuple[object, ...]]:
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def variable(server: DatabaseServer, name: str) -> object:
    return rows(server, f"SELECT @@GLOBAL.{name}")[0][0]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@SHARED
def test_database_is_ready_for_change_data_capture(name: str, request: pytest.FixtureRequest) -> None:
    server: DatabaseServer = request.getfixturevalue(name)
    assert variable(server, "log_bin") == 1
    assert variable(server, "binlog_format") == "ROW"
    assert variable(server, "binlog_row_metadata") == "FULL"
    assert variable(server, "bind_address") == "127.0.0.1"
    assert str(variable(server, "version")).startswith(server.version)
    with server.connect(user=server.cdc_user, password=server.cdc_password) as connection:
        connection.cursor().execute("FLUSH TABLES")
    with pytest.raises(pymysql.MySQLError):
        server.connect(password="")


def test_mysql_has_gtids_by_default(mysql_server: servers.MySQLServer) -> None:
    assert variable(mysql_server, "gtid_mode") == "ON"
    with servers.mysql(options={"gtid-mode": "OFF"}) as server:
        assert variable(server, "gtid_mode") == "OFF"
        assert variable(server, "server_uuid") != variable(mysql_server, "server_uuid")
        assert variable(server, "server_id") != variable(mysql_server, "server_id")


@DATABASES
def test_database_keeps_its_rows_across_stop_kill_and_a_new_block(start: Start, tmp_path: Path) -> None:
    with start(tmp_path / "data") as server:
        rows(server, "CREATE DATABASE d")
        rows(server, "CREATE TABLE d.t (a INT PRIMARY KEY)")
        rows(server, "INSERT INTO d.t VALUES (1)")
        port, password = server.port, server.password
        server.restart()
        assert rows(server, "SELECT a FROM d.t") == [(1,)]
        rows(server, "INSERT INTO d.t VALUES (2)")
        server.kill()
        server.restart()
        assert (server.port, server.password) == (port, password)
        pid = server.pid
    assert not is_running(pid)
    with start(tmp_path / "data") as again:
        assert again.password == password
        assert rows(again, "SELECT a FROM d.t") == [(1,), (2,)]


@SHARED
def test_credentials_are_readable_by_their_owner_only(name: str, request: pytest.FixtureRequest) -> None:
    server: DatabaseServer = request.getfixturevalue(name)
    mode = (server.data_dir / "binlogsync-credentials.json").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600
    assert server.password not in repr(server)
    assert server.password not in Path(f"/proc/{server.pid}/cmdline").read_text()


def test_two_databases_at_once(mariadb_server: servers.MariaDBServer) -> None:
    with servers.mariadb() as second:
        assert mariadb_server.port != second.port
        rows(second, "CREATE DATABASE only_here")
        assert rows(mariadb_server, "SHOW DATABASES LIKE 'only_here'") == []


async def _write(url: str, message: bytes) -> None:
    client = await nats_client.connect(url, connect_timeout=PATIENCE_S)
    stream = client.jetstream(timeout=PATIENCE_S)
    await stream.add_stream(name="KEPT", subjects=["kept"])
    await stream.publish("kept", message)
    await client.close()


async def _read(url: str) -> list[bytes | None]:
    client = await nats_client.connect(url, connect_timeout=PATIENCE_S)
    stream = client.jetstream(timeout=PATIENCE_S)
    try:
        state = (await stream.stream_info("KEPT")).state
        return [(await stream.get_msg("KEPT", seq)).data for seq in range(state.first_seq, state.last_seq + 1)]
    finally:
        await client.close()


def test_nats_keeps_its_stream(tmp_path: Path) -> None:
    with servers.nats(tmp_path / "store") as server:
        asyncio.run(_write(server.url, b"one"))
        server.restart()
        assert asyncio.run(_read(server.url)) == [b"one"]
        server.kill()
        server.restart()
        url = server.url
        assert asyncio.run(_read(url)) == [b"one"]
    with servers.nats(tmp_path / "store") as again, servers.nats() as other:
        assert asyncio.run(_read(again.url)) == [b"one"]
        with pytest.raises(nats.js.errors.NotFoundError):
            asyncio.run(_read(other.url))


def test_nats_accepts_options() -> None:
    async def max_payload(url: str) -> int:
        client = await nats_client.connect(url, connect_timeout=PATIENCE_S)
        size = client.max_payload
        await client.close()
        return size

    with servers.nats(options={"max_payload": "64KB", "jetstream.sync_interval": "always"}) as server:
        assert asyncio.run(max_payload(server.url)) == 64 * 1024


def test_redis_keeps_its_keys(tmp_path: Path) -> None:
    with servers.redis(tmp_path / "data") as server:
        with redis_client.Redis.from_url(server.url) as client:
            client.set("kept", "1")
        server.kill()
        server.restart()
        with redis_client.Redis.from_url(server.url) as client:
            assert client.get("kept") == b"1"


def test_redis_requires_its_password(redis_server: servers.RedisServer) -> None:
    with socket.create_connection((redis_server.host, redis_server.port), timeout=60) as connection:
        connection.sendall(b"PING\r\n")
        assert connection.recv(100).startswith(b"-NOAUTH")


def test_the_error_of_a_failed_start_contains_the_reason_and_the_log_path() -> None:
    with (
        pytest.raises(EmbeddedServerError, match="no-such-option") as failure,
        servers.mysql(options={"no_such_option": "1"}),
    ):
        pytest.fail("it started")
    assert "server.log" in str(failure.value)


def test_a_stopped_server_has_no_pid(nats_server: servers.NATSServer) -> None:
    with servers.nats(port=free_port()) as server:
        server.stop()
        server.stop()
        with pytest.raises(EmbeddedServerError, match="not running"):
            _ = server.pid


def test_servers_die_with_the_process_that_started_them(tmp_path: Path) -> None:
    program = (
        "import sys, time; from binlogsync import servers\n"
        f"with servers.nats({str(tmp_path)!r} and __import__('pathlib').Path({str(tmp_path)!r})) as server:\n"
        "    print(server.pid, flush=True); time.sleep(600)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    with owner, owner.stdout as output:
        pid = int(output.readline())
        assert is_running(pid)
        os.kill(owner.pid, signal.SIGKILL)
    wait_until(lambda: not is_running(pid), 10, "the server of a killed process to end")
