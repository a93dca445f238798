"""Backfills from MariaDB: its GTIDs have domains, its binlogs other events."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from binlogsync.mysql import inspect_server
from binlogsync.replay.origin import Origin
from binlogsync.replay.run import ReplayTask, replay_ranges
from binlogsync.replay.targets import MemoryTarget
from binlogsync.servers import NATSServer
from binlogsync.sinks.audit import AuditSink
from binlogsync.stores.sqlite import SQLitePositionStore
from tests.databases import FreshDatabase
from tests.e2e.backfill_workload import TailedWorkload, assert_rows, rows_of
from tests.e2e.tailing import TailThread, config_of, options_of, stream_sink

pytestmark = [pytest.mark.server, pytest.mark.slow]


def test_ranges_equal_the_audit_log_from_the_stream_and_from_the_binlog(
    mariadb: FreshDatabase, nats_server: NATSServer, position_store: SQLitePositionStore, tmp_path: Path
) -> None:
    source, audit = f"back-{mariadb.name}", tmp_path / "audit.duckdb"
    config, store = config_of(mariadb.server, source), position_store
    tailed = TailedWorkload(config, mariadb.name, nats_server, audit, tmp_path / "positions.db", store)
    places: list[str] = []

    def write(first: int) -> None:
        for n in range(first, first + 30):
            mariadb.execute(f"SET SESSION gtid_domain_id = {n % 2}")
            mariadb.execute(f"INSERT INTO t VALUES ({n}, 'x'), ({n + 1000}, 'y')")
        info = inspect_server(config)
        places.extend((str(info.position), str(info.executed)))

    mariadb.execute("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(9))")
    options = options_of(source, mariadb.name, bookmark_s=0.01, start=str(inspect_server(config).position))
    with TailThread(config, [stream_sink(nats_server.url), AuditSink(audit)], store, options) as tail:
        write(0)
        mariadb.execute("FLUSH BINARY LOGS")
        write(100)
        write(200)
        tail.catch_up()
    rows = [row.row for row in tailed.rows("t")]
    assert len(rows) == 180
    origins: tuple[Origin, ...] = ("stream", "binlog")
    with tailed.sources("t") as sources:
        for start in places[:2]:
            for until, last in ((places[2], 120), (places[3], 120), ("head", 180)):
                span = sources.resolve_range(start, until)
                for origin in origins:
                    target = MemoryTarget()
                    replay_ranges(ReplayTask(sources, tailed.plan("t", span), target, origin), threading.Event())
                    assert_rows(rows_of(target.batches), rows[60:last], f"{start} .. {until} from the {origin}")
