"""The server is killed in a snapshot, and its replica promoted: the snapshot continues there, after its last row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from pymysql.cursors import DictCursor

from binlogsync.servers import NATSServer
from binlogsync.snapshot.requests import new_request
from binlogsync.snapshot.requests_memory import MemorySnapshotRequests
from binlogsync.stores.memory import MemoryPositionStore
from tests.databases import MARIADB_TOO, FreshDatabase
from tests.e2e.oracle import envelopes
from tests.e2e.replicas import NAME, database_on
from tests.e2e.snapshot_oracle import delivered_rows
from tests.e2e.snapshot_scenario import use_small_slices
from tests.e2e.snapshot_writers import TABLES, SnapshotWriters, create_tables
from tests.e2e.tailing import TailThread, options_of, stream_sink
from tests.e2e.test_failover import ReplicationPair
from tests.waiting import wait_until

pytestmark = [pytest.mark.server, pytest.mark.slow]
ROWS = 200
"""Of each table; the snapshot takes eight seconds."""
PAUSE_S = 0.1
"""The longest pause of a writer: the tail and two servers work for each of its transactions."""


@pytest.fixture(params=["mysql", MARIADB_TOO])
def cluster(request: pytest.FixtureRequest) -> Iterator[ReplicationPair]:
    with ExitStack() as stack:
        yield ReplicationPair(request.param, stack)


def test_a_snapshot_goes_on_after_a_failover(
    cluster: ReplicationPair, nats_server: NATSServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_small_slices(monkeypatch)
    source = f"snapmove-{cluster.kind}"
    database = database_on(cluster.primary)
    create_tables(database, ROWS)
    cluster.add_replica()
    requests = MemorySnapshotRequests()
    options = options_of(source, NAME, start="now", flush_interval_s=0.05, retry_s=120.0)
    sinks = [stream_sink(nats_server.url)]
    config = cluster.config(source)
    with TailThread(config, sinks, MemoryPositionStore(), options, snapshots=requests) as tail:
        tail.wait_begun()
        id = requests.create(new_request([f"{NAME}.*"], rows_per_s=50)).request.id

        def rows() -> int:
            stored = requests.load(id)
            assert stored is not None
            return stored.status.rows

        with SnapshotWriters(database, 1, pause_s=PAUSE_S).running():
            wait_until(lambda: tail.error or rows() > 30, 60, "rows to be published")
        cluster.kill()
        cluster.move()
        database = database_on(cluster.primary)
        before = rows()
        with SnapshotWriters(database, 2, pause_s=PAUSE_S).running():
            wait_until(lambda: tail.error or rows() > before + 30, 120, "rows of the other server")
            wait_until(lambda: tail.error or requests.load(id).status.has_ended, 120, "the end")  # type: ignore[union-attr]
        if tail.error is None:
            tail.catch_up()
    stored = requests.load(id)
    assert stored is not None
    assert stored.status.state == "done", stored.status
    stream = envelopes(nats_server.url, source)
    for table in TABLES:
        wanted = {key: value for key, value in map(table.split, _select(database, table.name))}
        assert delivered_rows(table, stream) == wanted
        keys = Counter(table.split(each["after"])[0] for each in stream
                       if each["op"] == "r" and each["source"]["table"] == table.name)  # fmt: skip
        assert set(keys.values()) == {1}
    ordinals = [each["source"]["row"] for each in stream if each["op"] == "r"]
    assert ordinals == list(range(ordinals[0], ordinals[0] + stored.status.rows))
    servers = [each["source"]["server_uuid"] for each in stream if each["op"] == "r"]
    assert len(set(servers)) == 2


def _select(database: FreshDatabase, table: str) -> list[dict[str, object]]:
    with database.server.connect(database=NAME) as connection, connection.cursor(DictCursor) as cursor:
        cursor.execute(f"SELECT * FROM {table}")
        return list(cursor.fetchall())
