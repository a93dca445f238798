"""The audit log: exact rows, exactly once, one writer, readable between flushes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from binlogsync.change import RowChange
from binlogsync.errors import FencedError, SinkError
from binlogsync.flush import Flush, SchemaChange
from binlogsync.position_order import PositionOrder, compare
from binlogsync.sinks.audit import AuditSink
from tests.duck import query
from tests.forked import ForkedProcess
from tests.samples import SampleOptions, SampleSource, sample_schema
from tests.sinks.contract import SinkContract, Stored

pytestmark = pytest.mark.slow


def changes_of(*flushes: Flush) -> list[RowChange]:
    """The changes in binlog order."""
    found = [
        (seq, change)
        for flush in flushes
        for batch in flush.batches
        for seq, change in zip(batch.data.column("seq").to_pylist(), batch.changes(), strict=True)
    ]
    return [change for _, change in sorted(found, key=lambda pair: pair[0])]


class AuditHarness:
    """Sinks with one audit file."""

    source = "demo"

    def __init__(self, path: Path) -> None:
        self.path = path

    def sink(self) -> AuditSink:
        return AuditSink(self.path)

    def stored(self) -> Stored:
        return query(self.path, "SELECT file, txn_pos, txn_order, row, op FROM changes ORDER BY flush, rowid")


class TestAuditContract(SinkContract):
    @pytest.fixture
    def harness(self, path: Path) -> AuditHarness:
        return AuditHarness(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.duckdb"


def test_every_change_is_there_in_order(path: Path) -> None:
    source, sink = SampleSource(), AuditSink(path)
    assert sink.open("demo") is None
    flushes = [source.flush(5), source.flush(7)]
    for flush in flushes:
        sink.write(flush)
    sql = "SELECT op, table_name, id, file, pos, row, txn_pos, txn_order, gtid, committed_at, database FROM changes"
    expected = [
        (c.op, c.source.table, c.id, c.source.file, c.source.pos, c.source.row, c.source.order, c.source.gtid)
        for c in changes_of(*flushes)
    ]
    assert [(*row[:6], *row[7:9]) for row in query(path, sql)] == expected
    assert [row[9] for row in query(path, sql)] == [c.source.ts for c in changes_of(*flushes)]


def test_images_and_keys_are_exact_json(path: Path) -> None:
    source, sink = SampleSource(), AuditSink(path)
    sink.open("demo")
    flush = source.flush(8)
    sink.write(flush)
    rows = query(path, "SELECT op, key, before, after FROM changes")
    for change, (op, key, before, after) in zip(changes_of(flush), rows, strict=True):
        assert json.loads(key) == {"id": (change.after or change.before or {})["id"]}
        for image, text in ((change.before, before), (change.after, after)):
            assert (image is None) == (text is None), op
            if image is not None:
                _assert_same(image, json.loads(text, parse_float=str))


def _assert_same(image: dict[str, Any], read: dict[str, Any]) -> None:
    assert list(read) == list(image)
    for name in (
        "id",
        "c_ubigint",
        "c_bit64",
        "c_varchar",
        "c_text",
        "c_year",
        "c_enum",
        "c_set",
        "c_bit1",
        "c_bigint",
    ):
        assert read[name] == image[name], name
    for name in ("c_decimal", "c_wide_decimal"):
        assert read[name] == (None if image[name] is None else f"{image[name]:f}"), name
    if image["c_double"] is not None:
        assert float(read["c_double"]) == image["c_double"]


def test_zero_dates_keep_their_text(path: Path) -> None:
    source, sink = SampleSource(SampleOptions(impossible=True)), AuditSink(path)
    sink.open("demo")
    sink.write(source.flush(20))
    found = query(path, "SELECT DISTINCT after->>'c_date' FROM changes WHERE (after->>'id')::INT = 5")
    assert found == [("0000-00-00",)]


def test_a_table_without_a_key_has_none(path: Path) -> None:
    source, sink = SampleSource(SampleOptions(tables=(sample_schema(primary_key=()),))), AuditSink(path)
    sink.open("demo")
    sink.write(source.flush(2))
    assert query(path, "SELECT DISTINCT key FROM changes") == [(None,)]


def test_ids_without_gtids(path: Path) -> None:
    source, sink = SampleSource(SampleOptions(flavor=None)), AuditSink(path)
    sink.open("demo")
    flush = source.flush(4)
    sink.write(flush)
    assert query(path, "SELECT id FROM changes") == [(change.id,) for change in changes_of(flush)]


def test_flushes_and_their_counts(path: Path) -> None:
    source, sink = SampleSource(), AuditSink(path)
    sink.open("demo")
    flush = source.flush(6)
    sink.write(flush)
    [(number, reason, changes, dropped, end)] = query(
        path, "SELECT number, reason, changes, dropped, end_checkpoint FROM flushes"
    )
    assert (number, reason, changes, dropped, end) == (1, "rows", flush.changes, 0, flush.checkpoint.to_text())
    [(times_in_order,)] = query(path, "SELECT opened_at < closed_at AND closed_at < stored_at FROM flushes")
    assert times_in_order
    counts = query(path, "SELECT sum(changes) FROM flush_counts")
    assert counts == query(path, "SELECT count(*) FROM changes")


def test_schema_changes_are_kept(path: Path) -> None:
    source, sink = SampleSource(), AuditSink(path)
    sink.open("demo")
    plain = source.flush(1)
    ddl = SchemaChange("alter", (("shop", "notes"),), "ALTER TABLE ...", 1, plain.checkpoint.position, None, 1_000_000)
    sink.write(Flush("demo", 1, "schema", plain.batches, plain.start, plain.checkpoint, plain.runs, (ddl,)))
    assert query(path, "SELECT kind, tables, sql, epoch_us(executed_at) FROM schema_changes") == [
        ("alter", ["shop.notes"], "ALTER TABLE ...", 1_000_000)
    ]


def test_sources_do_not_meet(path: Path) -> None:
    first, second = SampleSource(), SampleSource(SampleOptions(source="other"))
    sinks = AuditSink(path), AuditSink(path)
    sinks[0].open("demo")
    sinks[1].open("other")
    for _ in range(2):
        sinks[0].write(first.flush(1))
        sinks[1].write(second.flush(1))
    assert query(path, "SELECT source, flush FROM flushes ORDER BY ALL") == [
        ("demo", 1),
        ("demo", 2),
        ("other", 1),
        ("other", 2),
    ]


def test_the_second_writer_is_fenced(path: Path) -> None:
    source = SampleSource()
    first, second = AuditSink(path), AuditSink(path)
    first.open("demo")
    second.open("demo")
    flush = source.flush(2)
    second.write(flush)
    with pytest.raises(FencedError, match="another tail"):
        first.write(flush)
    assert query(path, "SELECT count(*) FROM changes") == [(flush.changes,)]


def test_it_must_be_opened(path: Path) -> None:
    with pytest.raises(SinkError, match="call open first"):
        AuditSink(path).write(SampleSource().flush(1))


_READER = """
import duckdb, sys, time
counts, deadline = set(), time.monotonic() + 300
while (not counts or max(counts) < int(sys.argv[2])) and time.monotonic() < deadline:
    try:
        with duckdb.connect(sys.argv[1], read_only=True) as connection:
            count = connection.execute("SELECT count(*) FROM flushes").fetchall()[0][0]
        if count and not counts:
            print("reading", flush=True)
        counts.add(count)
    except duckdb.Error:
        pass
    time.sleep(0.01)
print(max(counts))
"""


@pytest.mark.slow
def test_another_process_reads_between_flushes(path: Path) -> None:
    """Neither process blocks the other, and the reader sees the log grow."""
    source, sink, total = SampleSource(), AuditSink(path), 25
    sink.open("demo")
    command = [sys.executable, "-c", _READER, str(path), str(total)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        sink.write(source.flush(2))
        assert reader.stdout.readline() == "reading\n"
        for _ in range(total - 1):
            sink.write(source.flush(2))
        output, _ = reader.communicate(timeout=300)
    assert output.split() == [str(total)]


def write_after_input(path: str) -> None:
    """What the killed process does: it waits for a line of input before each flush, and prints a line afterwards."""
    source, sink = SampleSource(), AuditSink(Path(path))
    stored = sink.open("demo")
    print("open", flush=True)  # noqa: T201
    for _ in range(30):
        flush = source.flush(3)
        if stored is None or compare(stored, flush.checkpoint) is PositionOrder.BEFORE:
            sys.stdin.readline()
            sink.write(flush.without_stored(stored))
            print("stored", flush=True)  # noqa: T201


@pytest.mark.slow
@pytest.mark.parametrize("kills", [(1, 9), pytest.param((1, 9, 5, 2, 8), marks=pytest.mark.exhaustive)])
def test_killed_writers_leave_each_change_once(path: Path, kills: tuple[int, ...]) -> None:
    for kill_after in (*kills, None):
        with ForkedProcess(
            "tests.sinks.test_audit",
            str(path),
            function="write_after_input",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as writer:
            assert writer.stdin is not None
            assert writer.stdout is not None
            # It may store one more flush than it has reported: the kill comes meanwhile.
            writer.stdin.write("\n" * (100 if kill_after is None else kill_after + 1))
            writer.stdin.flush()
            for number, _ in enumerate(writer.stdout):
                if number == kill_after:
                    writer.kill()
    source = SampleSource()
    expected = [change.id for change in changes_of(*(source.flush(3) for _ in range(30)))]
    assert [row[0] for row in query(path, "SELECT id FROM changes ORDER BY flush, rowid")] == expected
