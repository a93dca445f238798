"""The lag of a replica of MariaDB that replicates through several channels."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

from binlogsync.mysql.config import connect
from binlogsync.snapshot.replica_lag import find_lagging
from tests.databases import FreshDatabase
from tests.e2e.tailing import config_of


def test_a_named_channel_counts(mariadb: FreshDatabase) -> None:
    server = mariadb.server
    # The account of the tail may not see the status.
    config = replace(config_of(server, "lag"), user=server.user, password=server.password)
    mariadb.execute("CHANGE MASTER 'archive' TO MASTER_HOST = '127.0.0.1', MASTER_PORT = 1, MASTER_USER = 'none'")
    try:
        with closing(connect(config)) as connection:
            found = find_lagging(config, connection, 10.0, is_replica=True)
    finally:
        mariadb.execute("RESET SLAVE 'archive' ALL")
    assert found is not None
    assert f"replica {config.address}, channel archive, does not replicate" in found
    with closing(connect(config)) as connection:
        assert find_lagging(config, connection, 10.0, is_replica=True) is None
