"""Snapshots beside writers, on real servers: at each published row and at the end, the stream equals the tables.

Each of the mutations takes a part of the merge away; the same simulation then finds wrong rows.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import pytest

from binlogsync import servers
from binlogsync.binlog.reader import BinlogReader, DecodedRange
from binlogsync.change_batch import ChangeBatch
from binlogsync.mysql import TLS
from binlogsync.position_order import compare
from binlogsync.servers import NATSServer
from binlogsync.snapshot.watermarks import ExecutedGtids, MomentaryLock
from binlogsync.tail import snapshot_table, snapshot_window
from binlogsync.tail.snapshot_table import TableChunks
from tests.databases import FreshDatabase, fresh_database
from tests.e2e.snapshot_oracle import StreamFaults
from tests.e2e.snapshot_scenario import Snapshots, use_small_slices
from tests.e2e.snapshot_writers import TABLES, SnapshotWriters, create_tables
from tests.waiting import paced, wait_until

pytestmark = pytest.mark.server
_EXHAUSTIVE = [pytest.mark.slow, pytest.mark.exhaustive]
ROWS = 150
"""Four chunks of each table: the writers of a snapshot cost more than its rows, and they write until its end."""
_SAFE = {"sync_binlog": 1, "binlog_group_commit_sync_delay": 0}


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    use_small_slices(monkeypatch)


@contextmanager
def server_variables(database: FreshDatabase, **values: int) -> Iterator[None]:
    """Global variables of the server during the block."""
    before = {name: database.execute(f"SELECT @@GLOBAL.{name}")[0][0] for name in values}
    try:
        for name, value in values.items():
            database.execute(f"SET GLOBAL {name} = {value}")
        yield
    finally:
        for name, value in before.items():
            database.execute(f"SET GLOBAL {name} = {value}")


def simulate(
    database: FreshDatabase,
    url: str,
    seed: int,
    *,
    rounds: int = 1,
    rows: int = ROWS,
    xa: bool = True,
    **options: Any,
) -> StreamFaults:
    """Snapshots of both tables beside writers, and one while nothing is written.

    With TLS: without its delays, several times as many simulations are needed to find what a mutation makes wrong.
    """
    scenario = Snapshots(database, url, TABLES, tls=TLS())
    create_tables(database, rows)
    with scenario.tail(**options) as tail:
        with SnapshotWriters(database, seed, xa=xa, pause_s=0.004, restful=False).running() as writers:
            wait_until(lambda: writers.transactions > 10, 60, "writers")
            for _ in range(rounds):
                scenario.complete(tail)
        status = scenario.complete(tail)
        scenario.catch_up(tail)
    faults = scenario.check()
    assert sum(faults.published.values()) >= status.rows
    return faults


@pytest.mark.parametrize(
    ("seed", "flush", "variables"),
    [
        (1, "interval", {"sync_binlog": 0, "binlog_group_commit_sync_delay": 3000}),
        (2, "eager", _SAFE),
        pytest.param(3, "interval", {"sync_binlog": 1, "binlog_group_commit_sync_delay": 3000}, marks=_EXHAUSTIVE),
        pytest.param(4, "eager", {"sync_binlog": 2, "binlog_group_commit_sync_delay": 1000}, marks=_EXHAUSTIVE),
    ],
)
def test_the_stream_equals_the_tables_at_each_row(
    seed: int, flush: str, variables: dict[str, int], mysql: FreshDatabase, nats_server: NATSServer
) -> None:
    with server_variables(mysql, **variables):
        faults = simulate(mysql, nats_server.url, seed, flush=flush)
    assert not faults.sentences, faults


@contextmanager
def altering(
    database: FreshDatabase, seed: int, statements: Sequence[str] = (), most: int | None = None
) -> Iterator[None]:
    """Alters and truncates the tables, or executes these statements, until the end of the block.

    At `most` that many: each begins the snapshot of a table again, and on a busy machine one takes longer than a pause.
    """
    stop, chance = threading.Event(), random.Random(seed)
    failures: list[BaseException] = []

    def alter() -> None:
        try:
            with database.server.connect(database=database.name, autocommit=True) as connection:
                for _ in islice(paced(stop, chance, 0.15), most):
                    with connection.cursor() as cursor:
                        cursor.execute(chance.choice(statements or _STATEMENTS))
        except BaseException as error:  # noqa: BLE001 - raised at the end of the block
            failures.append(error)

    thread = threading.Thread(target=alter)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert not failures, failures


_STATEMENTS = (
    "ALTER TABLE numbers MODIFY v BIGINT",
    "ALTER TABLE numbers MODIFY v INT",
    "ALTER TABLE numbers MODIFY note VARCHAR(200)",
    "ALTER TABLE words COMMENT 'again'",
    "TRUNCATE TABLE words",
    "TRUNCATE TABLE numbers",
)


@pytest.mark.slow
@pytest.mark.parametrize("flush", ["interval", pytest.param("eager", marks=pytest.mark.exhaustive)])
def test_statements_beside_writers(flush: str, mysql: FreshDatabase, nats_server: NATSServer) -> None:
    scenario = Snapshots(mysql, nats_server.url, TABLES)
    create_tables(mysql, ROWS)
    with scenario.tail(flush=flush) as tail:
        with SnapshotWriters(mysql, 8, xa=False).running(), altering(mysql, 8, most=15):
            for _ in range(3):
                scenario.complete(tail, rows_per_s=400)
        scenario.catch_up(tail)
    faults = scenario.check()
    assert not faults.sentences, faults


# On such servers test_snapshot_whole_tables.py reads a table with a key too, and test_loads_late_commits.py has commits
# that a SELECT does not show yet.
@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize(("seed", "flush"), [(5, "interval"), (6, "eager")])
def test_mariadb(seed: int, flush: str, mariadb: FreshDatabase, nats_server: NATSServer) -> None:
    faults = simulate(mariadb, nats_server.url, seed, flush=flush)
    assert not faults.sentences, faults


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("mode", ["OFF", "ON_PERMISSIVE"])
def test_mysql_without_gtids(mode: str, server_without_gtids: servers.MySQLServer, nats_server: NATSServer) -> None:
    with fresh_database(server_without_gtids) as database:
        if mode == "ON_PERMISSIVE":
            for statement in ("enforce_gtid_consistency = ON", "gtid_mode = OFF_PERMISSIVE", f"gtid_mode = {mode}"):
                database.execute(f"SET GLOBAL {statement}")
        faults = simulate(database, nats_server.url, 7)
    assert not faults.sentences, faults


def _do_not_wait(*_: object) -> None:
    return


def _wait_for_the_position(watermarks: ExecutedGtids, _: object, stop: threading.Event) -> None:
    """The low watermark as a position: that the binlog has it does not mean that a SELECT shows it."""
    while compare(watermarks.positions.end(), watermarks.start.position).may_be_before:
        time.sleep(0.001)


def _touch_nothing(*_: object) -> None:
    return


def _only_keys_after(batch: ChangeBatch, names: Sequence[str]) -> Iterator[snapshot_window.Key]:
    yield from (key for key in snapshot_window.image_keys(batch, "after", names) if key is not None)


def _is_always_ready(chunks: TableChunks, _: object) -> bool:
    return bool(chunks._windows) and chunks._windows[0].chunk is not None  # noqa: SLF001 - replaces a method


_feed = BinlogReader.feed


def feed_late(reader: BinlogReader, buffer: Any, start: int, end: int) -> Iterator[DecodedRange]:
    """A tail that is behind what a SELECT shows."""
    time.sleep(0.03)
    return _feed(reader, buffer, start, end)


MUTATIONS: dict[str, tuple[object, str, Callable[..., Any]]] = {
    "no wait": (ExecutedGtids, "prepare", _do_not_wait),
    "position as low watermark": (ExecutedGtids, "prepare", _wait_for_the_position),
    "no touched keys": (TableChunks, "touch", _touch_nothing),
    "no keys before": (snapshot_table, "changed_keys", _only_keys_after),
    "no high watermark": (TableChunks, "is_ready", _is_always_ready),
}


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_without_a_part_of_the_merge_rows_are_wrong(
    mutation: str, mysql: FreshDatabase, nats_server: NATSServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(*MUTATIONS[mutation])
    if mutation == "no high watermark":
        monkeypatch.setattr(BinlogReader, "feed", feed_late)
    with server_variables(mysql, sync_binlog=0, binlog_group_commit_sync_delay=10_000):
        assert _find_faults(mysql, nats_server.url)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_without_the_momentary_lock_rows_are_wrong(
    server_without_gtids: servers.MySQLServer, nats_server: NATSServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MomentaryLock, "prepare", _do_not_wait)
    with (
        fresh_database(server_without_gtids) as database,
        server_variables(database, sync_binlog=0, binlog_group_commit_sync_delay=10_000),
    ):
        assert _find_faults(database, nats_server.url)


def _find_faults(database: FreshDatabase, url: str) -> bool:
    """Whether a simulation finds wrong rows, in one of many runs."""
    for seed in range(12):
        with fresh_database(database.server) as other:
            faults = simulate(other, url, seed, rounds=2, rows=300)
        if faults.counts["wrong"] or faults.counts["missing"]:
            return True
    return False
