"""Snapshots in the stream: restarts, requests, statements that alter a table, tables that are refused, formats."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from binlogsync.flush import Flush
from binlogsync.mysql import ServerInfo
from binlogsync.servers import NATSServer
from binlogsync.sinks.audit import AuditSink
from binlogsync.sinks.jetstream import JetStreamOptions, JetStreamSink
from binlogsync.snapshot.chunks import Chunk, ChunkReader
from binlogsync.snapshot.keys import ChunkKey
from tests.databases import FreshDatabase
from tests.duck import query
from tests.e2e.oracle import stream_changes
from tests.e2e.snapshot_oracle import CheckedTable
from tests.e2e.snapshot_scenario import Snapshots, use_small_slices
from tests.e2e.tailing import TailThread, options_of, stream_sink
from tests.waiting import wait_until

pytestmark = pytest.mark.server
T = CheckedTable("t", ("id",), ("v",))
ROWS = 200


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    use_small_slices(monkeypatch)


@pytest.fixture
def scenario(mysql: FreshDatabase, nats_server: NATSServer) -> Snapshots:
    """The table `t` with ROWS rows."""
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY, v INT)")
    mysql.execute("INSERT INTO t VALUES " + ", ".join(f"({n}, {n})" for n in range(ROWS)))
    return Snapshots(mysql, nats_server.url, [T])


class HeldReads:
    """Holds each chunk between its SELECT and its use."""

    def __init__(self) -> None:
        self.is_held = True
        self.read, self.gate = threading.Event(), threading.Event()

    def wait_read(self) -> None:
        """Wait until a chunk has been read."""
        assert self.read.wait(60)

    def release(self) -> None:
        """Hold no more."""
        self.is_held = False
        self.gate.set()


@pytest.fixture
def held_reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldReads]:
    held, original = HeldReads(), ChunkReader.read

    def read(reader: ChunkReader, *arguments: Any) -> Chunk:
        chunk = original(reader, *arguments)
        held.read.set()
        if held.is_held:
            held.gate.wait(60)
        return chunk

    monkeypatch.setattr(ChunkReader, "read", read)
    yield held
    held.release()


def test_a_restarted_tail_continues_after_the_last_row(scenario: Snapshots) -> None:
    id = scenario.request(rows_per_s=60)
    for _ in range(2):
        before = scenario.status(id).rows
        with scenario.tail() as tail:
            wait_until(lambda: scenario.status(id).rows > before, 30, "rows to be published")  # noqa: B023 - at once
            assert not scenario.status(id).has_ended
            scenario.database.execute("UPDATE t SET v = v + 1 WHERE id %% 3 = 0", ())
    with scenario.tail() as tail:
        status = scenario.wait(id, tail)
        scenario.catch_up(tail)
    faults = scenario.check()
    assert not faults.sentences, faults
    assert status.state == "done"
    assert status.rows == len(scenario.published())
    assert status.tables[0].state == "done"


def test_snapshots_on_an_idle_server_have_one_position_and_rising_ordinals(scenario: Snapshots) -> None:
    with scenario.tail(flush="eager") as tail:
        for _ in range(2):
            assert scenario.wait(scenario.request(), tail).rows == ROWS
    with scenario.tail(flush="eager") as tail:
        assert scenario.wait(scenario.request(), tail).rows == ROWS
    rows = scenario.published()
    assert len({(each["source"]["file"], each["source"]["pos"]) for each in rows}) == 1
    ordinals = [each["source"]["row"] for each in rows]
    assert ordinals == list(range(ordinals[0], ordinals[0] + 3 * ROWS))
    assert not scenario.check().sentences


def test_pause_and_cancel(scenario: Snapshots) -> None:
    with scenario.tail() as tail:
        id = scenario.request(rows_per_s=300)
        wait_until(lambda: scenario.status(id).rows, 30, "rows to be published")
        scenario.set_state(id, "paused")
        counts = Counter[int]()

        def is_quiet() -> bool:
            counts[scenario.status(id).rows] += 1
            return max(counts.values()) > 30

        wait_until(is_quiet, 30, "the snapshot to pause")
        assert scenario.status(id).state == "paused"
    with scenario.tail() as tail:  # a paused one stays paused, and its progress stays in the stream
        scenario.database.execute("INSERT INTO t VALUES (1000, 1)")
        scenario.catch_up(tail)
        scenario.set_state(id, "running")
        assert scenario.wait(id, tail).state == "done"
        cancelled = scenario.request(rows_per_s=300)
        wait_until(lambda: scenario.status(cancelled).rows, 30, "rows to be published")
        scenario.set_state(cancelled, "cancelled")
        assert scenario.wait(scenario.request(), tail).rows == ROWS + 1
        wait_until(lambda: scenario.status(cancelled).ended_us, 30, "the last report")
    status = scenario.status(cancelled)
    assert (status.state, status.tables[0].state) == ("cancelled", "cancelled")
    assert len(scenario.published()) == scenario.status(id).rows + status.rows + ROWS + 1
    faults = scenario.check()
    assert not faults.sentences, faults


@pytest.mark.parametrize(
    "statements",
    [
        ["ALTER TABLE t ADD COLUMN w INT DEFAULT 5"],
        ["ALTER TABLE t DROP PRIMARY KEY, ADD PRIMARY KEY (v, id)"],
        ["TRUNCATE TABLE t", "INSERT INTO t (id, v) VALUES (7, 70), (500, 5)"],
        [
            "CREATE TABLE other LIKE t",
            "INSERT INTO other SELECT id * 2, v + 1000 FROM t",
            "RENAME TABLE t TO old, other TO t",
        ],
        ["DROP TABLE t", "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t (id, v) VALUES (3, 30)"],
    ],
    ids=["alter", "key", "truncate", "rename", "create"],
)
def test_statements_discard_what_was_read(statements: list[str], scenario: Snapshots, held_reads: HeldReads) -> None:
    with scenario.tail() as tail:
        id = scenario.request("t")
        held_reads.wait_read()
        for statement in statements:
            scenario.database.execute(statement)
        scenario.catch_up(tail)
        held_reads.release()
        status = scenario.wait(id, tail)
        scenario.catch_up(tail)
    assert status.state == "done", status
    rows = [each["after"] for each in scenario.published()]
    if "w INT" in statements[0]:
        assert all(row["w"] == 5 for row in rows)
        assert len(rows) == ROWS
    wanted = dict(scenario.database.execute("SELECT id, v FROM t"))
    assert all(wanted[row["id"]] == row["v"] for row in rows)
    assert len(rows) == len({row["id"] for row in rows})
    if "RENAME" in statements[-1]:
        assert len(rows) == ROWS


def test_a_rename_in_the_middle_begins_the_table_again(scenario: Snapshots) -> None:
    database = scenario.database
    with scenario.tail() as tail:
        id = scenario.request("t", rows_per_s=300)
        wait_until(lambda: scenario.status(id).rows, 30, "rows to be published")
        database.execute("CREATE TABLE other LIKE t")
        database.execute("INSERT INTO other SELECT id, v + 1000 FROM t")
        database.execute("RENAME TABLE t TO old, other TO t")
        status = scenario.wait(id, tail)
    rows = [each["after"] for each in scenario.published()]
    assert status.rows == len(rows) > ROWS
    assert {row["id"]: row["v"] for row in rows} == dict(database.execute("SELECT id, v FROM t"))


def test_changes_between_reading_and_publishing_win(scenario: Snapshots, held_reads: HeldReads) -> None:
    with scenario.tail() as tail:
        id = scenario.request()
        held_reads.wait_read()
        scenario.database.execute("UPDATE t SET v = -1 WHERE id = 3")
        scenario.database.execute("DELETE FROM t WHERE id = 4")
        scenario.database.execute("UPDATE t SET id = 5000 WHERE id = 5")
        scenario.catch_up(tail)
        held_reads.release()
        status = scenario.wait(id, tail)
    published = {each["after"]["id"] for each in scenario.published()}
    assert not published & {3, 4, 5}
    assert status.rows == len(published) == ROWS - 2
    assert not scenario.check().sentences


class SlicesBesideChange(JetStreamSink):
    """Commits a change while it stores the third slice, and stores that once the tail has read the change."""

    def __init__(self, options: JetStreamOptions, commit: Callable[[], None]) -> None:
        super().__init__(options)
        self.flushes: list[Flush] = []
        self._commit = commit

    def write(self, flush: Flush) -> None:
        self.flushes.append(flush)
        if flush.has_snapshot_rows and sum(each.has_snapshot_rows for each in self.flushes) == 3:
            self._commit()
        super().write(flush)

    def start(self, flush: Flush, done: Callable[[Exception | None], None]) -> bool:
        """The thread of the sink stores all flushes."""
        return False


@pytest.mark.parametrize("flush_mode", ["eager", "interval"])
def test_a_change_comes_before_the_next_slice(flush_mode: str, scenario: Snapshots) -> None:
    before = 0

    def commit() -> None:
        nonlocal before
        before = tail.progress.bytes_read
        scenario.database.execute("INSERT INTO t VALUES (7000, 1)")
        wait_until(lambda: tail.progress.bytes_read > before + 200, 30, "the tail to read the change")

    sink = SlicesBesideChange(JetStreamOptions(url=scenario.url), commit)
    options = options_of(
        scenario.config.source, scenario.database.name, start="now", flush=flush_mode, flush_interval_s=30
    )
    tail = TailThread(scenario.config, [sink], scenario.store, options, snapshots=scenario.requests)
    with tail:
        tail.wait_begun()
        assert scenario.wait(scenario.request(), tail).state == "done"
    third = [at for at, flush in enumerate(sink.flushes) if flush.has_snapshot_rows][2]
    following = [flush.has_snapshot_rows for flush in sink.flushes[third + 1 :] if flush.changes]
    assert following.count(False) == 1
    # A tail with intervals may have a second slice on its way already.
    assert following.index(False) <= (0 if flush_mode == "eager" else 1)
    assert not scenario.check().sentences


def test_tables_that_cannot_be_published_are_left_out_with_advice(scenario: Snapshots) -> None:
    scenario.database.execute("CREATE TABLE keyless (a INT)")
    scenario.database.execute("CREATE TABLE old (a INT PRIMARY KEY) ENGINE=MyISAM")
    with scenario.tail(snapshot_keyless_rows=0) as tail:
        status = scenario.wait(scenario.request(), tail)
    assert status.state == "failed"
    assert [table.state for table in status.tables] == ["failed", "failed", "done"]
    assert "keyless has no primary key" in status.tables[0].error
    assert "raise BINLOGSYNC_SNAPSHOT_KEYLESS_ROWS" in status.tables[0].error
    assert "old has the engine myisam" in status.tables[1].error
    assert "keyless has no primary key" in status.error
    assert status.tables[2].rows == ROWS
    assert not scenario.check().sentences


def test_incomplete_row_images_are_refused(scenario: Snapshots, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ServerInfo, "binlog_row_image", "MINIMAL")
    with scenario.tail() as tail:
        status = scenario.wait(scenario.request(), tail)
    assert status.state == "failed"
    assert "binlog_row_image is MINIMAL on 127.0.0.1" in status.error
    assert not scenario.published()


REQUESTS: list[tuple[tuple[str, ...], dict[str, Any], str]] = [
    (("nothing",), {}, "no captured table matches"),
    (("*",), {"where": "id > 5"}, "a condition needs one table, and 2 match"),
    (("u",), {"where": "a IN (1, 2)"}, "request it without a condition"),
    (("t",), {"where": "id >"}, "You have an error in your SQL syntax"),
    (("t",), {"where": "missing = 1"}, "Unknown column"),
]


def test_requests_that_cannot_be_carried_out(scenario: Snapshots) -> None:
    """The next one is carried out."""
    scenario.database.execute("CREATE TABLE u (a INT)")
    with scenario.tail() as tail:
        for names, options, error in REQUESTS:
            status = scenario.wait(scenario.request(*names, **options), tail)
            assert (status.state, error in status.error) == ("failed", True), status
            assert scenario.wait(scenario.request("t"), tail).state == "done"


def test_a_condition_selects_rows(scenario: Snapshots) -> None:
    with scenario.tail() as tail:
        status = scenario.wait(scenario.request("t", where="id % 10 = 3 OR id = 4 -- and no other"), tail)
    found = [each["after"]["id"] for each in scenario.published()]
    assert found == [n for n in range(ROWS) if n % 10 == 3 or n == 4]
    assert status.rows == len(found)


def test_a_condition_that_few_rows_meet_is_read_by_ranges(scenario: Snapshots, monkeypatch: pytest.MonkeyPatch) -> None:
    clauses: list[str] = []

    def note(key: ChunkKey, *arguments: Any) -> str:
        clauses.append(range_clauses(key, *arguments))
        return clauses[-1]

    range_clauses = ChunkKey.range_clauses
    monkeypatch.setattr(ChunkKey, "range_clauses", note)
    with scenario.tail() as tail:
        wait_for = scenario.wait(scenario.request("t", where="id IN (3, 150, 151)"), tail)
        assert (wait_for.state, wait_for.rows) == ("done", 3)
        assert scenario.wait(scenario.request("t", where="id < 0"), tail).rows == 0
    assert [each["after"]["id"] for each in scenario.published()] == [3, 150, 151]
    assert len(clauses) == 2 * (ROWS // 40 + 1)
    assert "(`id` <= 39)" in clauses[0]
    assert "(`id` > 39)" in clauses[1]


@pytest.mark.parametrize("stream", [{"changes_per_message": 20}, {"format": "arrow"}], ids=["lines", "arrow"])
def test_formats_of_several_changes(stream: dict[str, Any], scenario: Snapshots) -> None:
    scenario.stream.update(stream)
    with scenario.tail() as tail:
        status = scenario.wait(scenario.request(), tail)
    changes = stream_changes(scenario.url, scenario.config.source, scenario.database.name, "t")
    assert [(each.op, each.after) for each in changes] == [("r", {"id": n, "v": n}) for n in range(ROWS)]
    assert len({each.id for each in changes}) == status.rows == ROWS


def test_the_audit_log_has_changes_alone(scenario: Snapshots, tmp_path: Path) -> None:
    audit = tmp_path / "audit.duckdb"
    for flush in ("eager", "interval"):
        options = options_of(scenario.config.source, scenario.database.name, start="now", flush=flush)
        sinks = [stream_sink(scenario.url), AuditSink(audit)]
        with TailThread(scenario.config, sinks, scenario.store, options, snapshots=scenario.requests) as tail:
            tail.wait_begun()
            scenario.database.execute("INSERT INTO t VALUES (%s, 1)", (len(flush) * 1000,))
            scenario.wait(scenario.request(), tail)
            scenario.catch_up(tail)
    assert query(audit, "SELECT op, count(*) FROM changes GROUP BY op") == [("c", 2)]
    assert len(scenario.published()) >= 2 * ROWS
    assert not scenario.check().sentences
