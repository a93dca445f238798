"""A load pauses while a replica lags: the one that is read, or one that the settings of its source name."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from binlogsync.errors import SourceError
from binlogsync.mirror.target import Mirror
from binlogsync.mysql import MySQLConfig
from binlogsync.mysql.config import connect
from binlogsync.servers import MariaDBServer, NATSServer
from binlogsync.servers.database import DatabaseServer
from binlogsync.snapshot import throttle
from binlogsync.snapshot.replica_lag import find_lagging
from binlogsync.snapshot.throttle import LoadLimits
from tests.databases import fresh_database
from tests.e2e.held_loads import HeldLoads, finish, held_loads
from tests.e2e.loads import Loads, create_table, loads
from tests.e2e.mirrored_tables import mirror_table_rows
from tests.e2e.replicas import replicated_pair, stop_replicating, wait_for_all
from tests.e2e.tailing import config_of
from tests.mysql.sources import run
from tests.waiting import wait_until

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.usefixtures("small_chunks"), pytest.mark.exhaustive]
LAG_S = 1.0


class LagScenario:
    """A source with a replica, and a table that is mirrored."""

    def __init__(self, loads: Loads, source: DatabaseServer, replica: DatabaseServer) -> None:
        self.loads = loads
        self.source, self.replica = source, replica
        self.is_mariadb = isinstance(replica, MariaDBServer)

    def delay(self, seconds: int) -> None:
        """Let the replica apply changes so many seconds late."""
        if self.is_mariadb:
            run(self.replica, "STOP SLAVE", f"CHANGE MASTER TO MASTER_DELAY = {seconds}", "START SLAVE")
        else:
            change = f"CHANGE REPLICATION SOURCE TO SOURCE_DELAY = {seconds}"
            run(self.replica, "STOP REPLICA", change, "START REPLICA")

    def start_replicating(self) -> None:
        """Start what `stop_replicating` has stopped."""
        run(self.replica, "START SLAVE" if self.is_mariadb else "START REPLICA")

    def mirror(self, config: MySQLConfig, path: Path) -> Mirror:
        """A mirror that is loaded slowly, from that server."""
        self.loads.path = path
        limits = LoadLimits(rows_per_s=100.0, replica_lag_s=LAG_S)
        return Mirror(path, self.loads.database.name, "t", config, limits=limits)

    def begin_load(self, config: MySQLConfig, path: Path, held: HeldLoads) -> tuple[Mirror, threading.Thread]:
        """A load that has stored rows, and is held."""
        mirror = self.mirror(config, path)
        loading = threading.Thread(target=self.loads.consume, args=(mirror,), daemon=True)
        loading.start()
        held.wait(loading)
        return mirror, loading

    def check_equal(self, mirror: Mirror) -> None:
        """Compare the mirror with the table of the source."""
        self.loads.drain(mirror)
        wanted = self.loads.server_rows("t", mariadb=self.is_mariadb)
        assert mirror_table_rows(self.loads.path, mirror.names) == wanted


@pytest.fixture(params=["mysql", "mariadb"])
def scenario(request: pytest.FixtureRequest, nats_server: NATSServer, tmp_path: Path) -> Iterator[LagScenario]:
    with replicated_pair(request.param) as (source, replica), fresh_database(source) as database:
        create_table(database)
        with loads(database, nats_server.url, tmp_path) as running:
            database.execute("CREATE TABLE other (id INT PRIMARY KEY)")  # the stream has a checkpoint
            running.catch_up()
            wait_for_all(replica, source)
            yield LagScenario(running, source, replica)


def test_a_load_pauses_while_a_replica_lags(
    scenario: LagScenario, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger=throttle.__name__)
    source, replica = scenario.source, scenario.replica
    address = f"{replica.host}:{replica.port}"
    config = replace(scenario.loads.config, replicas=address)
    if scenario.is_mariadb:
        with pytest.raises(SourceError, match="the lag of replica .* GRANT SLAVE MONITOR"):
            scenario.loads.consume(scenario.mirror(config, tmp_path / "denied.duckdb"))
        for server in (source, replica):
            run(server, "SET sql_log_bin = 0", f"GRANT SLAVE MONITOR ON *.* TO '{server.cdc_user}'@'%'")

    with held_loads() as held:
        mirror, loading = scenario.begin_load(config, tmp_path / "watched.duckdb", held)
        scenario.delay(3600)
        scenario.loads.database.execute("UPDATE t SET v = v + 1 WHERE a < 100")
        with closing(connect(config)) as connection:
            wait_until(lambda: find_lagging(config, connection, LAG_S, is_replica=False), 60, "the lag")
    wait_until(lambda: f"reading pauses while replica {address} is " in caplog.text, 30, "the pause")
    wait_until(lambda: not mirror.tables.is_open, 10, "the file to be closed during the pause")
    assert loading.is_alive()
    scenario.delay(0)
    finish(loading)
    scenario.check_equal(mirror)

    wait_for_all(replica, source)
    with held_loads() as held:
        mirror, loading = scenario.begin_load(config_of(replica, config.source), tmp_path / "read.duckdb", held)
        stop_replicating(replica)
    wait_until(lambda: f"reading pauses while replica {address} does not replicate" in caplog.text, 30, "the pause")
    assert loading.is_alive()
    scenario.start_replicating()
    finish(loading)
    scenario.check_equal(mirror)
