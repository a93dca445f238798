"""Snapshots of tables without a key beside writers, on real servers: each is published as a whole, after a reset.

Each of the mutations takes a part of that away; the same simulation then finds wrong rows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from binlogsync import servers
from binlogsync.binlog.reader import BinlogReader
from binlogsync.change_batch import ChangeBatch
from binlogsync.codec.subjects import durable_name, snapshot_prefix
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.servers import NATSServer
from binlogsync.snapshot.view import TableSnapshot
from binlogsync.tail import snapshot_reader
from binlogsync.tail.snapshot_whole import WholeTable
from tests.databases import FreshDatabase, fresh_database
from tests.e2e.oracle import assert_mirrored, envelopes
from tests.e2e.snapshot_oracle import CheckedTable, StreamFaults
from tests.e2e.snapshot_scenario import Snapshots, crash_among_rows, use_small_slices
from tests.e2e.snapshot_writers import NUMBERS, SnapshotWriters
from tests.e2e.tailing import mirror
from tests.e2e.test_snapshot_simulation import altering, feed_late
from tests.e2e.whole_table_oracle import HEAP, HEAP_OPERATIONS, check_heap, create_heap, ops_in_order, stages
from tests.waiting import wait_until

pytestmark = pytest.mark.server


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    use_small_slices(monkeypatch)


def scenario_of(database: FreshDatabase, url: str, rows: int = 200) -> Snapshots:
    create_heap(database, rows)
    database.execute("CREATE TABLE numbers (id INT PRIMARY KEY, v INT, note VARCHAR(100))")
    return Snapshots(database, url, [NUMBERS])


def check(scenario: Snapshots, keyed: Sequence[CheckedTable] = ()) -> StreamFaults:
    return check_heap(scenario.config, scenario.url, scenario.database.name, scenario.database.execute, keyed)


def simulate(database: FreshDatabase, url: str, seed: int, *, rounds: int = 1, **options: Any) -> StreamFaults:
    """Snapshots beside writers, and one while nothing is written; `numbers`, with a key, is read in chunks."""
    scenario = scenario_of(database, url)
    database.execute("INSERT INTO numbers VALUES " + ", ".join(f"({n}, {n}, 'old')" for n in range(0, 400, 4)))
    with scenario.tail(**options) as tail:
        with SnapshotWriters(database, seed, operations=HEAP_OPERATIONS).running() as writers:
            wait_until(lambda: writers.transactions > 10, 60, "writers")
            for _ in range(rounds):
                scenario.complete(tail)
        status = scenario.complete(tail)
        scenario.catch_up(tail)
    [[rows]] = database.execute(f"SELECT COUNT(*) FROM {HEAP}")
    assert status.tables[0].rows == rows
    faults = check(scenario, scenario.tables)
    assert faults.published[HEAP] >= rounds + 1
    assert faults.published[NUMBERS.name] >= 100
    return faults


@pytest.mark.parametrize(
    ("seed", "rounds", "flush"), [(1, 1, "interval"), pytest.param(2, 2, "eager", marks=pytest.mark.exhaustive)]
)
def test_the_stream_equals_the_table_after_the_last_row(
    seed: int, rounds: int, flush: str, mysql: FreshDatabase, nats_server: NATSServer
) -> None:
    faults = simulate(mysql, nats_server.url, seed, rounds=rounds, flush=flush)
    assert not faults.sentences, faults


@pytest.mark.parametrize("flush", ["interval", pytest.param("eager", marks=pytest.mark.exhaustive)])
def test_mariadb(flush: str, mariadb: FreshDatabase, nats_server: NATSServer) -> None:
    faults = simulate(mariadb, nats_server.url, 3, flush=flush)
    assert not faults.sentences, faults


@pytest.mark.slow
def test_mysql_without_gtids(server_without_gtids: servers.MySQLServer, nats_server: NATSServer) -> None:
    with fresh_database(server_without_gtids) as database:
        faults = simulate(database, nats_server.url, 4)
    assert not faults.sentences, faults


@pytest.mark.slow
@pytest.mark.parametrize("flush", ["interval", pytest.param("eager", marks=pytest.mark.exhaustive)])
def test_statements_beside_writers(flush: str, mysql: FreshDatabase, nats_server: NATSServer) -> None:
    scenario = scenario_of(mysql, nats_server.url, 60)
    statements = [
        f"ALTER TABLE {HEAP} MODIFY a BIGINT",
        f"ALTER TABLE {HEAP} MODIFY a INT",
        f"ALTER TABLE {HEAP} MODIFY b VARCHAR(30)",
        f"ALTER TABLE {HEAP} COMMENT 'again'",
        f"TRUNCATE TABLE {HEAP}",
        f"INSERT INTO {HEAP} WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 60) "
        "SELECT i % 20, 'old' FROM n",
    ]
    with scenario.tail(flush=flush) as tail:
        writers = SnapshotWriters(mysql, 8, operations=HEAP_OPERATIONS, pause_s=0.1)
        with writers.running(), altering(mysql, 8, statements, most=15):
            for _ in range(3):
                scenario.complete(tail)
        scenario.catch_up(tail)
    faults = check(scenario)
    assert not faults.sentences, faults
    assert faults.published[HEAP] >= 3


def test_mirrors_from_the_stream_alone(mysql: FreshDatabase, nats_server: NATSServer, tmp_path: Path) -> None:
    scenario = scenario_of(mysql, nats_server.url)
    with scenario.tail() as tail:
        for _ in range(2):
            assert scenario.wait(scenario.request(HEAP), tail).state == "done"
            mysql.execute(f"DELETE FROM {HEAP} WHERE a = 3 LIMIT 2")
            mysql.execute(f"INSERT INTO {HEAP} VALUES (7, 'old'), (7, 'old')")
            scenario.catch_up(tail)
            mirror(nats_server.url, scenario.config.source, tmp_path / "mirror.db", (mysql.name, HEAP))
            assert_mirrored(mysql.server, tmp_path / "mirror.db", mysql.name, HEAP)


def test_stages_of_the_rows_and_of_an_empty_table(mysql: FreshDatabase, nats_server: NATSServer) -> None:
    scenario = scenario_of(mysql, nats_server.url)
    with scenario.tail() as tail:
        assert scenario.wait(scenario.request(HEAP), tail).rows == 200
        found = stages(nats_server.url, scenario.config.source, mysql.name)
        assert found == [("t", "first"), *[("r", "true")] * 199, ("r", "last")]
        mysql.execute(f"DELETE FROM {HEAP}")
        assert scenario.wait(scenario.request(HEAP), tail).rows == 0
    assert stages(nats_server.url, scenario.config.source, mysql.name) == [*found, ("t", "last")]


# A tail that is killed among the rows is in test_snapshot_killed.py, with the same checks.
@pytest.mark.exhaustive
def test_a_crash_among_the_rows_publishes_all_again(
    mysql: FreshDatabase, nats_server: NATSServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = scenario_of(mysql, nats_server.url)
    crash_among_rows(monkeypatch)
    with scenario.tail() as tail:
        with SnapshotWriters(mysql, 5, operations=HEAP_OPERATIONS).running():
            status = scenario.wait(scenario.request(HEAP), tail)
        scenario.catch_up(tail)
    assert ops_in_order(stages(nats_server.url, scenario.config.source, mysql.name)) == "trtr"
    faults = check(scenario)
    assert not faults.sentences, faults
    assert status.rows == stages(nats_server.url, scenario.config.source, mysql.name)[::-1].index(("t", "first"))


@pytest.mark.parametrize("state", ["paused", "cancelled"])
def test_a_table_that_was_reset_is_published_to_its_end(
    state: str, mysql: FreshDatabase, nats_server: NATSServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario, take = scenario_of(mysql, nats_server.url), WholeTable.take
    id = ""

    def stop(table: WholeTable, *arguments: int) -> ChangeBatch:
        if scenario.status(id).state == "running":
            scenario.set_state(id, state)
        return take(table, *arguments)

    monkeypatch.setattr(WholeTable, "take", stop)
    with scenario.tail() as tail:
        id = scenario.request()
        source = scenario.config.source
        wait_until(lambda: stages(nats_server.url, source, mysql.name)[-1:] == [("r", "last")], 30, "the last row")
        mysql.execute(f"INSERT INTO {HEAP} VALUES (1, 'later')")
        scenario.catch_up(tail)
        if state == "paused":
            scenario.set_state(id, "running")
        assert scenario.wait(id, tail).state == ("done" if state == "paused" else "cancelled")
    faults = check(scenario)
    assert not faults.sentences, faults
    assert faults.published[HEAP] == 1


@pytest.mark.parametrize("state", [pytest.param("paused", marks=pytest.mark.exhaustive), "cancelled"])
def test_a_table_that_was_reset_is_published_to_its_end_after_a_crash(
    state: str, mysql: FreshDatabase, nats_server: NATSServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = scenario_of(mysql, nats_server.url)
    id = ""
    crash_among_rows(monkeypatch, lambda: scenario.set_state(id, state))
    with scenario.tail() as tail:
        id = scenario.request()
        source = scenario.config.source
        wait_until(lambda: stages(nats_server.url, source, mysql.name)[-1:] == [("r", "last")], 60, "the last row")
        mysql.execute(f"INSERT INTO {HEAP} VALUES (1, 'later')")
        scenario.catch_up(tail)
        if state == "paused":
            assert scenario.status(id).state == "paused"
            scenario.set_state(id, "running")
        assert scenario.wait(id, tail).state == ("done" if state == "paused" else "cancelled")
        wait_until(lambda: scenario.status(id).ended_us, 30, "the end of the request")
    assert ops_in_order(stages(nats_server.url, source, mysql.name)) == "trtr"
    faults = check(scenario)
    assert not faults.sentences, faults


def test_a_table_that_was_reset_for_one_consumer_is_published_to_its_end_for_it(
    mysql: FreshDatabase, nats_server: NATSServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = scenario_of(mysql, nats_server.url)
    source, table, id = scenario.config.source, (mysql.name, HEAP), ""

    def for_one() -> list[tuple[str, str]]:
        envelopes_of_one = envelopes(nats_server.url, source, "one")
        return [(each["op"], each["source"]["snapshot"]) for each in envelopes_of_one]

    crash_among_rows(monkeypatch, lambda: scenario.set_state(id, "cancelled"))
    with scenario.tail() as tail:
        mysql.execute(f"INSERT INTO {HEAP} VALUES (1, 'new')")
        scenario.catch_up(tail)
        with StreamReader(NatsOptions(url=nats_server.url), source) as reader:
            reader.ensure_durable(durable_name("one", *table), *table, 1, client_id="one")
        id = scenario.request(HEAP, subject=snapshot_prefix(source, "one"))
        wait_until(lambda: for_one()[-1:] == [("r", "last")], 60, "the last row")
        wait_until(lambda: scenario.status(id).ended_us, 30, "the end of the request")
    found = for_one()
    assert ops_in_order(found) == "ctrtr"
    assert found[::-1].index(("t", "first")) == 201
    assert found[-1] == ("r", "last")
    assert not stages(nats_server.url, source, mysql.name)


def hold_reads(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """(set when a view is open, set it to let its rows be read)."""
    read, gate, batches = threading.Event(), threading.Event(), TableSnapshot.batches

    def wait(view: TableSnapshot, *arguments: Any) -> Iterator[ChangeBatch]:
        read.set()
        assert gate.wait(120)
        return batches(view, *arguments)

    monkeypatch.setattr(TableSnapshot, "batches", wait)
    return read, gate


def test_a_tail_can_be_stopped_while_changes_wait(
    mysql: FreshDatabase, nats_server: NATSServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario, (read, gate) = scenario_of(mysql, nats_server.url), hold_reads(monkeypatch)
    holds, is_held = WholeTable.holds, threading.Event()

    def note(*arguments: Any) -> bool:
        if holds(*arguments):
            is_held.set()
            return True
        return False

    monkeypatch.setattr(WholeTable, "holds", note)
    with scenario.tail():
        id = scenario.request(HEAP)
        assert read.wait(30)
        mysql.execute(f"INSERT INTO {HEAP} VALUES (1, 'waits')")
        assert is_held.wait(30)
    assert not scenario.status(id).has_ended
    gate.set()
    with scenario.tail() as tail:
        assert scenario.wait(id, tail).rows == 201
        scenario.catch_up(tail)
    faults = check(scenario)
    assert not faults.sentences, faults


def test_other_tables_flow_until_the_table_changes(
    mysql: FreshDatabase, nats_server: NATSServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the rows are read, a change of another table is published, and one of the table waits for its rows."""
    scenario, (read, gate) = scenario_of(mysql, nats_server.url), hold_reads(monkeypatch)
    with scenario.tail() as tail:
        id = scenario.request(HEAP)
        assert read.wait(30)
        mysql.execute("INSERT INTO numbers VALUES (1, 1, 'flows')")
        scenario.catch_up(tail)
        mysql.execute(f"INSERT INTO {HEAP} VALUES (1, 'waits')")
        mysql.execute("INSERT INTO numbers VALUES (2, 2, 'waits')")
        gate.set()
        assert scenario.wait(id, tail).rows == 200
        scenario.catch_up(tail)
    faults = check(scenario)
    assert not faults.sentences, faults


def test_a_table_of_too_many_rows_or_bytes_is_refused(
    mysql: FreshDatabase, nats_server: NATSServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other reasons are in test_snapshots.py. More rows cannot be allowed for a table of too many bytes."""
    scenario = scenario_of(mysql, nats_server.url)
    with scenario.tail(snapshot_keyless_rows=150) as tail:
        status = scenario.wait(scenario.request(HEAP), tail)
        assert (status.state, "more than 150 rows" in status.error) == ("failed", True), status
        mysql.execute(f"DELETE FROM {HEAP} LIMIT 60")
        monkeypatch.setattr(snapshot_reader, "_WHOLE_BYTES", 100)
        status = scenario.wait(scenario.request(HEAP), tail)
    assert status.state == "failed"
    assert "more than 0 MiB" in status.error
    assert "load it directly into a mirror" in status.error
    assert "BINLOGSYNC" not in status.error
    assert not scenario.published()


def _is_ready_at_once(table: WholeTable, _: object) -> bool:
    return table._rows is not None and not table.is_read  # noqa: SLF001 - replaces a method


def _hold_nothing(*_: object) -> bool:
    return False


MUTATIONS: dict[str, tuple[str, Callable[..., Any]]] = {
    "no position": ("is_ready", _is_ready_at_once),
    "no hold": ("holds", _hold_nothing),
}


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_without_a_part_of_it_rows_are_wrong(
    mutation: str, mysql: FreshDatabase, nats_server: NATSServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WholeTable, *MUTATIONS[mutation])
    if mutation == "no position":
        monkeypatch.setattr(BinlogReader, "feed", feed_late)
    for seed in range(12):
        with fresh_database(mysql.server) as database:
            faults = simulate(database, nats_server.url, seed, rounds=3)
        if faults.sentences:
            return
    pytest.fail("no fault was found")
