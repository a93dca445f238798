"""A checkpoint that the server can no longer serve raises an error with the reason and the options."""

from __future__ import annotations

from dataclasses import replace

import pytest

from binlogsync import servers
from binlogsync.errors import PositionError
from binlogsync.mysql import inspect_server, resolve_start, validate
from binlogsync.position import BinlogPosition, Checkpoint, GtidSet
from binlogsync.server_version import ServerFlavor
from binlogsync.servers.database import DatabaseServer
from tests.mysql.sources import run, source_of

OTHER = "3e11fa47-71ca-11e1-9e33-c80aa9429562"


@pytest.fixture(params=["own_mysql", "plain_mysql", "own_mariadb"])
def server(request: pytest.FixtureRequest) -> DatabaseServer:
    """A server with a table and a few transactions."""
    running: DatabaseServer = request.getfixturevalue(request.param)
    run(running, "DROP DATABASE IF EXISTS kept", "CREATE DATABASE kept", "CREATE TABLE kept.t (a INT)")
    return running


def reset(server: DatabaseServer) -> None:
    mysql = isinstance(server, servers.MySQLServer)
    run(server, "RESET BINARY LOGS AND GTIDS" if mysql else "RESET MASTER")


def test_a_checkpoint_stays_good_while_the_log_grows_and_the_server_restarts(server: DatabaseServer) -> None:
    config = source_of(server)
    now = resolve_start(config)
    validate(config, now)
    run(server, "INSERT INTO kept.t VALUES (1)", "FLUSH BINARY LOGS")
    validate(config, now)
    server.restart()
    validate(config, now)


def test_purged(server: DatabaseServer) -> None:
    config = source_of(server)
    old = resolve_start(config)
    run(server, "INSERT INTO kept.t VALUES (1)", "FLUSH BINARY LOGS", "INSERT INTO kept.t VALUES (2)")
    if isinstance(server, servers.MariaDBServer):  # it does not purge what a crash might still need
        server.restart()
    newest = inspect_server(config).end().file
    run(server, f"PURGE BINARY LOGS TO '{newest}'")
    with pytest.raises(PositionError, match=r"purged.*choose: "):
        validate(config, replace(old, ts_us=1_700_000_000_000_000))


def test_a_purged_file_does_not_matter_when_its_transactions_were_read(server: DatabaseServer) -> None:
    config = source_of(server)
    if not inspect_server(config).gtids:
        pytest.skip("needs GTIDs")
    run(server, "INSERT INTO kept.t VALUES (1)")
    read = resolve_start(config)
    run(server, "FLUSH BINARY LOGS")
    if isinstance(server, servers.MariaDBServer):  # it does not purge what a crash might still need
        server.restart()
    run(server, f"PURGE BINARY LOGS TO '{inspect_server(config).end().file}'")
    validate(config, read)


def test_another_server_without_gtids(server: DatabaseServer) -> None:
    config = source_of(server)
    here = resolve_start(config)
    foreign = Checkpoint(here.position, OTHER)
    with pytest.raises(PositionError, match=f"belongs to server {OTHER}"):
        validate(config, foreign)


def test_another_server_that_has_the_same_gtids(server: DatabaseServer) -> None:
    config = source_of(server)
    here = resolve_start(config)
    if here.gtids is None:
        pytest.skip("needs GTIDs")
    validate(config, Checkpoint(BinlogPosition("elsewhere.000999", 4), OTHER, here.gtids))


def test_gtids_that_the_server_never_had(server: DatabaseServer) -> None:
    config = source_of(server)
    here = resolve_start(config)
    if here.gtids is None:
        pytest.skip("needs GTIDs")
    more = "9-9-9" if here.gtids.flavor == ServerFlavor.MARIADB else f"{OTHER}:1-5"
    foreign = replace(here, gtids=here.gtids.union(GtidSet.parse(more)))
    with pytest.raises(PositionError, match="does not know transactions"):
        validate(config, foreign)


def test_reset(server: DatabaseServer) -> None:
    config = source_of(server)
    run(server, "FLUSH BINARY LOGS", "INSERT INTO kept.t VALUES (1)")
    before = resolve_start(config)
    reset(server)
    with pytest.raises(PositionError, match="choose: "):
        validate(config, before)


def test_reset_and_grown_beyond_the_old_gtids(own_mysql: servers.MySQLServer) -> None:
    config = source_of(own_mysql)
    reset(own_mysql)
    run(own_mysql, "CREATE DATABASE IF NOT EXISTS kept", "CREATE TABLE IF NOT EXISTS kept.t (a INT)")
    before = resolve_start(config)
    reset(own_mysql)
    run(own_mysql, *["INSERT INTO kept.t VALUES (1)"] * 20)
    with pytest.raises(PositionError, match="choose: "):
        validate(config, before)


def test_beyond_the_end(server: DatabaseServer) -> None:
    config = source_of(server)
    now = resolve_start(config)
    beyond = replace(now, position=BinlogPosition(now.position.file, now.position.pos + 5000))
    with pytest.raises(PositionError, match="ends at"):
        validate(config, beyond)


def test_a_server_of_the_other_kind(own_mysql: servers.MySQLServer, own_mariadb: servers.MariaDBServer) -> None:
    checkpoint = resolve_start(source_of(own_mysql))
    with pytest.raises(PositionError, match="the server is mariadb"):
        validate(source_of(own_mariadb), replace(checkpoint, gtids=GtidSet.parse(f"{OTHER}:1-5")))
