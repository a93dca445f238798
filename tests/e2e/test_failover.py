"""The server that is tailed is killed several times while writers write, and its replica is promoted.

The tail resumes from that replica: the stream, the audit log and a mirror have each change of the last server's history
once, in order, including transactions that were stored in part when the server was killed. A replica without stored
transactions is refused, and the error contains their GTIDs.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from binlogsync import servers
from binlogsync.errors import PositionError
from binlogsync.mysql import TLS, MySQLConfig, inspect_server
from binlogsync.servers import NATSServer
from binlogsync.servers.database import DatabaseServer
from binlogsync.sinks import Sink
from binlogsync.sinks.audit import AuditSink
from binlogsync.stores.memory import MemoryPositionStore
from tests.duck import query
from tests.e2e.oracle import assert_mirrored, assert_same, assert_same_history
from tests.e2e.replicas import (
    NAME,
    ServerAddress,
    database_on,
    log_in,
    promote,
    replicate,
    stop_replicating,
    wait_for_all,
)
from tests.e2e.tailing import TailThread, config_of, mirror, options_of, stream_sink
from tests.e2e.writers import TABLES, Writers
from tests.mysql.sources import run
from tests.waiting import wait_until

KILLS = 2
KINDS = ("mysql", "mariadb")
SESSIONS = {
    "mysql": ("SET gtid_next = 'AUTOMATIC'", "SET gtid_next = 'AUTOMATIC:blue'", "SET gtid_next = 'AUTOMATIC:red'"),
    "mariadb": ("SET gtid_domain_id = 0", "SET gtid_domain_id = 1", "SET gtid_domain_id = 0"),
}
MIDDLE = b"number 600 of nine hundred"
PASSWORD = "the same on all of them"


@dataclass
class ReplicationPair:
    """A primary, its replica, and a fixed address of the current primary for clients."""

    kind: str
    servers: ExitStack
    primary: DatabaseServer = field(init=False)
    replica: DatabaseServer = field(init=False)
    address: ServerAddress = field(init=False)

    def __post_init__(self) -> None:
        self.primary = self._server()
        log_in(self.primary)
        self.address = ServerAddress(self.primary)
        self.servers.callback(self.address.close)

    def add_replica(self) -> None:
        """Start a new replica, which receives everything from the first transaction on."""
        self.replica = self._server()
        replicate(self.replica, self.primary)

    def kill(self) -> None:
        """Cut off the tail, wait until the replica has everything that it may have read, and kill the primary."""
        wait_for_all(self.replica, self.primary)
        self.primary.kill()

    def move(self) -> None:
        """Promote the replica."""
        promote(self.replica)
        self.primary = self.replica
        log_in(self.primary)
        self.address.move_to(self.primary)

    def config(self, source: str) -> MySQLConfig:
        """The configuration of a tail, with the fixed address, which sees the data as they are."""
        return replace(config_of(self.primary, source), port=self.address.port)

    def _server(self) -> DatabaseServer:
        options = {"log_slave_updates": "ON"}
        server: DatabaseServer
        if self.kind == "mysql":
            server = self.servers.enter_context(servers.mysql(options=options))
        else:
            server = self.servers.enter_context(servers.mariadb(options=options))
        server.cdc_password = PASSWORD
        run(server, "SET sql_log_bin = 0", f"ALTER USER '{server.cdc_user}'@'%' IDENTIFIED BY '{PASSWORD}'")
        return server


@pytest.fixture(scope="module", params=KINDS)
def cluster(request: pytest.FixtureRequest) -> Iterator[ReplicationPair]:
    with ExitStack() as stack:
        yield ReplicationPair(request.param, stack)


class RestartedTails:
    """The tails of one source, run sequentially with one position store."""

    def __init__(self, cluster: ReplicationPair, source: str, url: str, audit: Path) -> None:
        self._cluster = cluster
        self._source = source
        self._url = url
        self._audit = audit
        self._ended: list[str] = []
        self._store = MemoryPositionStore()
        self.tail = self._start()

    def restart_if_ended(self) -> None:
        """The tail reconnects by itself; restart it if it has ended."""
        if self.tail.has_ended:
            self._ended += self.tail.progress.recoveries
            self.tail = self._start()

    def moves(self) -> list[str]:
        """The log messages about each server that a tail resumed from."""
        said = [*self._ended, *self.tail.progress.recoveries]
        return [each for each in said if "resuming by GTID from" in each]

    def wait_for_moves(self, count: int) -> None:
        """Wait until the tail reads from the current primary."""

        def has_moved() -> bool:
            self.restart_if_ended()
            return len(self.moves()) >= count

        wait_until(has_moved, 60, f"{count} moves")

    def _start(self) -> TailThread:
        sinks: list[Sink] = [stream_sink(self._url), AuditSink(self._audit)]
        options = options_of(self._source, NAME, retry_s=60.0)
        return TailThread(self._cluster.config(self._source), sinks, self._store, options, take_over=True).__enter__()


def write_big(server: DatabaseServer) -> None:
    """Commit a transaction with more rows than a flush."""
    database = database_on(server)
    database.execute("CREATE TABLE IF NOT EXISTS loads (id INT PRIMARY KEY AUTO_INCREMENT, n INT, note VARCHAR(60))")
    database.execute("BEGIN")
    with database.connection.cursor() as cursor:
        rows = [(number, f"number {number:03} of nine hundred, a bit longer") for number in range(900)]
        cursor.executemany("INSERT INTO loads (n, note) VALUES (%s, %s)", rows)
        cursor.execute("UPDATE loads SET n = n + 1 ORDER BY id DESC LIMIT 300")
    database.execute("COMMIT")
    database.connection.close()


@pytest.mark.server
@pytest.mark.slow
def test_exactly_once_through_failovers(cluster: ReplicationPair, nats_server: NATSServer, tmp_path: Path) -> None:
    chance, source, audit = random.Random(8), f"moving-{cluster.kind}", tmp_path / "audit.duckdb"
    tails = RestartedTails(cluster, source, nats_server.url, audit)
    for number in range(KILLS):
        writers = Writers(
            database_on(cluster.primary), number, pause_s=0.2, sessions=SESSIONS[cluster.kind], may_lose=True
        )
        with writers.running():
            cluster.add_replica()
            tails.wait_for_moves(number)
            tails.tail.catch_up()
            mirror(nats_server.url, source, tmp_path / "orders.db", (NAME, "orders"), max_s=1.0)
            if number % 2 == 0:  # in the middle of a large transaction, which the tail stores in part; else anywhere
                cluster.address.cut_at(MIDDLE)
            else:
                cluster.address.cut_after(chance.randrange(1, 60_000))
            while not cluster.address.is_cut:
                write_big(cluster.primary)
            cluster.kill()
        if number % 3 == 1:
            tails.tail.stop()
        cluster.move()
        tails.restart_if_ended()
    tails.tail.catch_up()
    tails.tail.stop()
    assert len(tails.moves()) >= KILLS
    assert [each for each in tails.moves() if "+" in each], "no server died with a transaction stored in part"

    last = (config_of(cluster.primary, source), NAME)
    wanted = assert_same_history(last, nats_server.url, source, keyless=["visits"])
    ids = [change.id for change in wanted]
    assert_same([row[0] for row in query(audit, "SELECT id FROM changes WHERE op <> 's' ORDER BY rowid")], ids, "audit")
    for table in (*TABLES, "loads"):
        path = tmp_path / ("orders.db" if table == "orders" else "others.db")
        mirror(nats_server.url, source, path, (NAME, table))
        assert_mirrored(cluster.primary, path, NAME, table)


@pytest.mark.server
@pytest.mark.slow
def test_a_replica_without_stored_transactions_is_refused(cluster: ReplicationPair, nats_server: NATSServer) -> None:
    source = f"missing-{cluster.kind}"
    cluster.add_replica()
    database = database_on(cluster.primary)
    database.execute("CREATE TABLE IF NOT EXISTS late (id INT PRIMARY KEY)")
    wait_for_all(cluster.replica, cluster.primary)
    stop_replicating(cluster.replica)
    options = options_of(source, NAME, start="now", retry_s=60.0)
    hosts = ",".join(f"{each.host}:{each.port}" for each in (cluster.replica, cluster.primary))
    config = replace(config_of(cluster.primary, source, TLS()), host=hosts)
    with TailThread(config, [stream_sink(nats_server.url)], MemoryPositionStore(), options) as tail:
        tail.wait_begun()
        database.execute("INSERT INTO late VALUES (1)")
        tail.catch_up()
        lost = _last_gtid(cluster)
        cluster.primary.kill()
        wait_until(
            lambda: "ReplicaBehindError" in str(tail.progress.recoveries), 30, "the lagging replica to be refused"
        )
        cluster.move()
        error = tail.end()
    assert isinstance(error, PositionError)
    assert f"does not have stored transactions: {lost}; it was promoted without them" in str(error)
    assert "choose: continue with a server that has them, restore them on this one, or rebuild" in str(error)


def _last_gtid(cluster: ReplicationPair) -> str:
    """The GTID of the last transaction in the default domain, without a tag."""
    executed = inspect_server(config_of(cluster.primary, "look")).executed
    assert executed is not None
    if cluster.kind == "mariadb":
        return str(executed).split(",")[0]
    uuid = run(cluster.primary, "SELECT @@server_uuid")[0][0]
    return f"{uuid}:{executed.members[str(uuid)][-1][1]}"
