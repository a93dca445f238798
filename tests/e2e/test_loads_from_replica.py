"""A mirror is loaded from a replica of the stream's source: both watermarks are GTID sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from binlogsync.errors import SourceError
from binlogsync.mirror.target import Mirror
from binlogsync.servers import NATSServer
from tests.databases import MARIADB_TOO, fresh_database
from tests.e2e.loads import TableWriters, create_table, loads
from tests.e2e.mirrored_tables import mirror_table_rows
from tests.e2e.replicas import replicated_pair, stop_replicating, wait_for_all
from tests.e2e.tailing import config_of

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.usefixtures("small_chunks")]


@pytest.mark.parametrize("flavor", ["mysql", MARIADB_TOO])
def test_a_mirror_is_loaded_from_a_replica(
    flavor: str, nats_server: NATSServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with replicated_pair(flavor) as (source, replica), fresh_database(source) as database:
        create_table(database)
        wait_for_all(replica, source)
        with loads(database, nats_server.url, tmp_path) as scenario:
            mirror = Mirror(scenario.path, database.name, "t", config_of(replica, scenario.config.source))
            with TableWriters(database, seed=5, pause_s=0.1):
                scenario.tail.wait_stored(20)
                mirrored = (scenario.path, (database.name, "t"))
                scenario.consume_until(lambda: mirror_table_rows(*mirrored) is not None, mirror)
            scenario.drain(mirror)
            mariadb = flavor == "mariadb"
            assert mirror_table_rows(*mirrored) == scenario.server_rows("t", mariadb=mariadb)
            stop_replicating(replica)
            database.execute("INSERT INTO t VALUES (9999, 'x', 0, NULL)")
            scenario.catch_up()
            monkeypatch.setattr("binlogsync.snapshot.watermarks.WAIT_S", 1.0)
            late = Mirror(tmp_path / "late.duckdb", database.name, "t", config_of(replica, scenario.config.source))
            with pytest.raises(SourceError, match="a replica that lags behind it"):
                scenario.consume(late)
