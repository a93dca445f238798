"""XA transactions: changes are delivered at XA COMMIT, with its position, and restarts lose and repeat none."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest

from binlogsync.binlog import xa
from binlogsync.errors import MissingPrepareError
from binlogsync.position import BinlogPosition, Checkpoint, GtidSet, ResumePosition
from binlogsync.position_order import PositionOrder, compare
from tests.binlog.binlog_builder import ROWS, BinlogBuilder, rows_body
from tests.binlog.dump import DecodedDump, DumpRecording, end_of_log, record
from tests.binlog.restarts import checkpoints, delivered, flush_of
from tests.databases import FreshDatabase

# Session and statement; every session is a separate connection.
_DIALOGUE = """
a: XA START 'a', 'branch', 7
a: INSERT INTO t VALUES (1, 'a'), (2, 'a')
a: INSERT INTO left_out VALUES (1)
a: UPDATE t SET v = 'A' WHERE id = 2
b: INSERT INTO t VALUES (3, 'plain')
a: XA END 'a', 'branch', 7
a: XA PREPARE 'a', 'branch', 7
b: INSERT INTO t VALUES (4, 'plain')
c: XA START 'c'
c: INSERT INTO t VALUES (5, 'c')
c: XA END 'c'
c: XA PREPARE 'c'
b: FLUSH BINARY LOGS
d: XA START 'd'
d: INSERT INTO t VALUES (6, 'rolled back')
d: XA END 'd'
d: XA PREPARE 'd'
b: INSERT INTO t VALUES (7, 'plain')
c: XA COMMIT 'c'
d: XA ROLLBACK 'd'
b: INSERT INTO t VALUES (8, 'plain')
b: FLUSH BINARY LOGS
a: XA COMMIT 'a', 'branch', 7
b: DELETE FROM t WHERE id = 1
e: XA START 'e'
e: INSERT INTO t VALUES (9, 'e')
e: XA END 'e'
e: XA COMMIT 'e' ONE PHASE
b: INSERT INTO t VALUES (10, 'plain')
"""
_EXPECTED = [
    ("c", 3),
    ("c", 4),
    ("c", 7),
    ("c", 5),
    ("c", 8),
    ("c", 1),
    ("c", 2),
    ("u", 2),
    ("d", 1),
    ("c", 9),
    ("c", 10),
]


def _perform(database: FreshDatabase, dialogue: str) -> DumpRecording:
    """Execute each line in the session that it names."""
    database.execute("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))")
    database.execute("CREATE TABLE left_out (id INT PRIMARY KEY)")
    start = end_of_log(database.server)
    with ExitStack() as stack:
        sessions: dict[str, Any] = {}
        for line in dialogue.strip().splitlines():
            name, _, sql = line.partition(": ")
            if name not in sessions:
                connection = stack.enter_context(database.server.connect(database=database.name))
                sessions[name] = connection.cursor()
            sessions[name].execute(sql)
    return record(database.server, start, lambda name, table: (name, table) == (database.name, "t"))


@pytest.fixture(params=["mysql", "mariadb"])
def database(request: pytest.FixtureRequest) -> FreshDatabase:
    found: FreshDatabase = request.getfixturevalue(request.param)
    return found


def _brief(done: DecodedDump) -> list[tuple[str, int]]:
    return [(change.op, (change.after or change.before or {})["id"]) for change in done.changes]


@pytest.mark.server
def test_changes_are_delivered_at_commit_and_every_restart_is_exact(database: FreshDatabase) -> None:
    recording = _perform(database, _DIALOGUE)
    done = recording.decoded()
    assert done.error is None
    assert _brief(done) == _EXPECTED
    assert sum(decoded_range.dropped for decoded_range in done.ranges) == 1
    pointers = [change.source.coordinates for change in done.changes]
    assert pointers == sorted(set(pointers))
    assert len({change.id for change in done.changes}) == len(_EXPECTED)
    # The changes of one XA COMMIT are one transaction, with its GTID and position; a filtered row is counted.
    of_a = [change.source for change in done.changes[5:8]]
    assert [source.order for source in of_a] == [0, 1, 3]
    assert len({(source.gtid, source.pos) for source in of_a}) == 1
    flush = flush_of(done.ranges, recording.start)
    resumed = 0
    for number, checkpoint in enumerate(checkpoints(flush), 1):
        rest = delivered(database.server, recording, checkpoint)
        assert [(c.op, c.id) for c in rest] == [(c.op, c.id) for c in done.changes[number:]], checkpoint
        resumed += checkpoint.resume is not None
    assert resumed >= 6
    assert flush.checkpoint.resume is None


@pytest.mark.server
def test_any_chunks_give_the_same_changes(database: FreshDatabase) -> None:
    recording = _perform(database, _DIALOGUE)
    expected = [change.id for change in recording.changes()]
    done = recording.decoded(range(1, len(recording.raw), 13))
    assert [change.id for change in done.changes] == expected
    for decoded_range in done.ranges[::5]:
        stored = Checkpoint.from_text(decoded_range.checkpoint.to_text())
        rest = delivered(database.server, recording, stored)
        assert [change.id for change in rest] == expected[len(expected) - len(rest) :]
        so_far = done.ranges[: done.ranges.index(decoded_range) + 1]
        assert len(rest) + sum(len(b) for s in so_far for b in s.batches if b.ddl is None) == len(expected)


@pytest.mark.server
def test_an_xid_that_is_reused(database: FreshDatabase) -> None:
    """A rotation ends a range, after the first commit of an xid and the second XA PREPARE of it."""
    each = (
        "XA START 'x'\na: INSERT INTO t VALUES ({n}, 'x')\na: XA END 'x'\na: XA PREPARE 'x'\n"
        "b: FLUSH BINARY LOGS\na: XA {end} 'x'"
    )
    ends = ["COMMIT", "COMMIT", "ROLLBACK", "COMMIT", "ROLLBACK", "COMMIT"]
    dialogue = "\na: ".join(each.format(n=n, end=end) for n, end in enumerate(ends))
    recording = _perform(database, f"a: {dialogue}")
    done = recording.decoded()
    assert done.error is None
    assert _brief(done) == [("c", n) for n, end in enumerate(ends) if end == "COMMIT"]
    flush = flush_of(done.ranges, recording.start)
    for number, checkpoint in enumerate(checkpoints(flush), 1):
        rest = delivered(database.server, recording, checkpoint)
        assert [change.id for change in rest] == [change.id for change in done.changes[number:]], checkpoint


@pytest.mark.server
def test_a_prepared_transaction_is_not_delivered_and_a_restart_reads_from_before_it(
    database: FreshDatabase,
) -> None:
    lines = "a: XA START 'x'\na: INSERT INTO t VALUES (1, 'x')\na: XA END 'x'\na: XA PREPARE 'x'"
    recording = _perform(database, f"{lines}\nb: INSERT INTO t VALUES (2, 'plain')")
    try:
        done = recording.decoded()
        assert _brief(done) == [("c", 2)]
        last = done.ranges[-1].checkpoint
        assert last.resume is not None
        assert compare(last.read_start().position, recording.start.position).is_at_or_before
        assert compare(recording.start.position, last.position) is PositionOrder.BEFORE
        late = end_of_log(database.server)
    finally:
        database.execute("XA COMMIT 'x'")
    assert [change.after for change in delivered(database.server, recording, last)] == [{"id": 1, "v": "x"}]
    unknown = record(database.server, late, recording.options.captures).decoded()
    assert isinstance(unknown.error, MissingPrepareError)
    assert unknown.error.xid.startswith("X'78'")
    assert f"XA COMMIT {unknown.error.xid}" in str(unknown.error)
    assert unknown.error.pos >= late.position.pos


# Generated dumps


def _xa(script: BinlogBuilder, number: int, name: bytes, rows: list[bytes], *, one_phase: int = 0) -> BinlogBuilder:
    text = f"X'{name.hex()}',X'',1"
    script.gtid(number).query(f"XA START {text}").table()
    for row in rows:
        script.add(ROWS, rows_body([row, row]))
    body = bytes([one_phase]) + b"".join(n.to_bytes(4, "little") for n in (1, len(name), 0)) + name
    return script.query(f"XA END {text}").add(38, body)


def _values(done: DecodedDump) -> list[object]:
    return [change.after and change.after["b"] for change in done.changes]


def test_rows_are_decoded_under_the_schema_they_were_prepared_with() -> None:
    script = _xa(BinlogBuilder(), 1, b"q", [b"a", b"b"])
    script.gtid(2).query("ALTER TABLE t ADD c INT").gtid(3).query("XA COMMIT X'71',X'',1")
    done = script.decoded()
    assert _values(done) == [b"a", b"a", b"b", b"b"]
    assert [change.source.row for change in done.changes] == [0, 1, 2, 3]
    assert {change.source.pos for change in done.changes} == {script.pos}


def test_one_phase_is_a_transaction_like_any_other() -> None:
    script = _xa(BinlogBuilder(), 1, b"q", [b"a"], one_phase=1).begin(2).table().row(b"z").commit()
    done = script.decoded(range(1, len(script.raw()), 7))
    assert _values(done) == [b"a", b"a", b"z"]
    assert all(decoded_range.checkpoint.resume is None for decoded_range in done.ranges)


def test_a_commit_larger_than_a_range_can_be_resumed_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("binlogsync.binlog.assembler.KEPT_LIMIT", 50)
    script = _xa(BinlogBuilder(), 1, b"q", [bytes(20)] * 9).gtid(2).query("XA COMMIT X'71',X'',1")
    done = script.decoded()
    assert len(_values(done)) == 18
    inside = [s.checkpoint for s in done.ranges if s.checkpoint.skip]
    assert len(inside) > 2
    assert all(c.resume is not None and c.resume.position.pos == 4 for c in inside)
    assert done.ranges[-1].checkpoint.resume is None


def test_prepared_rows_above_the_limit_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xa, "HELD_LIMIT", 100)
    script = BinlogBuilder().begin(1).table().row(b"a").commit()
    _xa(script, 2, b"q", [bytes(20)] * 9)
    done = script.decoded()
    assert done.error is not None
    assert "XA transactions" in str(done.error)
    assert _values(done) == [b"a"]


@pytest.mark.parametrize(
    "break_off",
    [
        lambda script: script.gtid(2).query("BEGIN"),  # the next transaction before XA PREPARE
        lambda script: script.add(38, b"\0\1\0"),
        lambda script: script.query("XA COMMIT 'x'"),
    ],
)
def test_an_xa_transaction_in_wrong_order_is_an_error(break_off: Any) -> None:
    script = BinlogBuilder().gtid(1).query("XA START X'71',X'',1").table().row(b"a")
    break_off(script)
    done = script.decoded()
    assert done.error is not None
    assert not done.changes


def test_a_prepare_without_a_start_is_an_error() -> None:
    done = BinlogBuilder().begin(1).table().row(b"a").add(38, bytes(13)).decoded()
    assert done.error is not None
    assert "XA" in str(done.error)


def test_checkpoints_store_the_position_to_read_from() -> None:
    gtids = GtidSet.parse("d098c693-e779-11f1-9d1d-02fc00000001:1-4")
    resume_at = ResumePosition(BinlogPosition("binlog.000001", 200), gtids)
    for resume in (None, resume_at, ResumePosition(BinlogPosition("binlog.000001", 200))):
        checkpoint = Checkpoint(
            BinlogPosition("binlog.000002", 9), "u", gtids if resume is None or resume.gtids else None, 3, 5, resume
        )
        assert Checkpoint.from_text(checkpoint.to_text()) == checkpoint
    read = Checkpoint(BinlogPosition("binlog.000002", 9), "u", gtids, 3, 5, resume_at).read_start()
    assert read == Checkpoint(resume_at.position, "u", gtids, 0, 5)
