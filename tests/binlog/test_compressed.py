"""Compressed transactions (TRANSACTION_PAYLOAD): the same changes as without compression, at increasing positions."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import pyarrow.compute as pc
import pytest
import zstandard

from binlogsync.binlog.mariadb_compression import decompress_record
from binlogsync.binlog.transaction_payload import PIECE
from binlogsync.change import Change, Row
from tests.binlog.binlog_builder import ROWS, TABLE_MAP, XID, BinlogBuilder, bare_event, payload, rows_body, table_body
from tests.binlog.damage import packets
from tests.binlog.dump import DecodedDump, end_of_log, record
from tests.databases import FreshDatabase

_STATEMENTS = (
    "CREATE TABLE a (id INT PRIMARY KEY, v VARCHAR(300))",
    "CREATE TABLE b (id INT PRIMARY KEY AUTO_INCREMENT, n INT)",
    "CREATE TABLE left_out (id INT)",
    "INSERT INTO a VALUES (1, repeat('x', 250)), (2, NULL)",
    "BEGIN",
    "INSERT INTO b (n) VALUES (7), (8), (9)",
    "INSERT INTO left_out VALUES (1), (2)",
    "UPDATE a SET v = concat(v, '!')",
    "SAVEPOINT s",
    "DELETE FROM b WHERE id = 2",
    "COMMIT",
    "SET SESSION binlog_row_image = MINIMAL",
    "UPDATE a SET v = 'y' WHERE id = 1",
    "SET SESSION binlog_row_image = FULL",
    "CREATE TABLE c AS SELECT * FROM a",
    "TRUNCATE TABLE b",
    "INSERT INTO b (n) SELECT n FROM (VALUES ROW(1), ROW(2)) AS v (n)",
)


def _run(database: FreshDatabase, *settings: str) -> DecodedDump:
    """Execute the statements in a new session."""
    start = end_of_log(database.server)
    connection = database.server.connect(database=database.name)
    try:
        with connection.cursor() as cursor:
            for statement in (*settings, *_STATEMENTS, "DROP TABLE a, b, c, left_out"):
                cursor.execute(statement)
    finally:
        connection.close()
    recording = record(database.server, start, lambda name, table: name == database.name and table != "left_out")
    whole = recording.decoded()
    in_pieces = recording.decoded(range(1, len(recording.raw), 97))
    assert [_what(change) for change in in_pieces.changes] == [_what(change) for change in whole.changes]
    return whole


_MARIADB = (
    "CREATE TABLE a (id INT PRIMARY KEY, v LONGTEXT, n INT) COMMENT '%s'" % ("long " * 100),
    "INSERT INTO a VALUES (1, repeat('x', 3000), 1), (2, NULL, 2)",
    "BEGIN",
    "UPDATE a SET v = concat(v, '!')",
    "INSERT INTO left_out VALUES (repeat('z', 999)), ('q')",
    "SET SESSION binlog_row_image = MINIMAL",
    "UPDATE a SET v = repeat('y', 70000) WHERE id = 2",
    "SET SESSION binlog_row_image = FULL",
    "DELETE FROM a",
    "COMMIT",
    "TRUNCATE /* %s */ TABLE a" % ("long " * 100),
)


def test_compressed_events_of_mariadb_equal_uncompressed_ones(mariadb: FreshDatabase) -> None:
    mariadb.execute("CREATE TABLE left_out (v TEXT)")
    outcomes = []
    for setting in ("OFF", "ON"):
        mariadb.execute(f"SET GLOBAL log_bin_compress = {setting}")
        start = end_of_log(mariadb.server)
        try:
            for statement in _MARIADB:
                mariadb.execute(statement)
        finally:
            mariadb.execute("SET GLOBAL log_bin_compress = OFF")
        mariadb.execute("DROP TABLE a")
        recording = record(mariadb.server, start, lambda name, table: name == mariadb.name and table == "a")
        outcomes.append(recording.decoded())
        kinds = {packet[5] for packet in packets(recording.raw)[:-1]}
        assert kinds >= ({165, 166, 167, 168} if setting == "ON" else {2, 23, 24, 25})
    plain, compressed = outcomes
    assert plain.error is None
    assert compressed.error is None
    assert [change.op for change in compressed.changes] == [*"ccuuddt"]
    assert [_what(change) for change in compressed.changes] == [_what(change) for change in plain.changes]
    kinds_of = [[s.kind for decoded_range in done.ranges for s in decoded_range.schema_changes] for done in outcomes]
    assert kinds_of == [["create", "truncate", "drop"]] * 2
    assert [sum(decoded_range.dropped for decoded_range in done.ranges) for done in outcomes] == [2, 2]


@pytest.mark.parametrize(
    "data", [b"", b"\x00abc", b"\x91\x03abc", b"\x81\x03abc", b"\x84\xff", b"\x81\x02" + zlib.compress(b"abc")]
)
def test_damaged_compressed_bytes_are_errors(data: bytes) -> None:
    with pytest.raises(ValueError, match="compress"):
        decompress_record(data)


def _what(change: Change[Row]) -> tuple[object, ...]:
    return change.op, change.source.table, change.before, change.after, change.source.order


def test_a_compressed_transaction_equals_an_uncompressed_one(mysql: FreshDatabase) -> None:
    plain = _run(mysql)
    compressed = _run(mysql, "SET SESSION binlog_transaction_compression = ON")
    assert plain.error is None
    assert compressed.error is None
    assert [change.op for change in plain.changes] == [*"cccccudu", *"cc", "t", *"cc"]
    assert [_what(change) for change in compressed.changes] == [_what(change) for change in plain.changes]
    assert sum(s.dropped for s in compressed.ranges) == sum(s.dropped for s in plain.ranges) == 2
    pointers = [change.source.coordinates for change in compressed.changes]
    assert pointers == sorted(set(pointers))
    assert len({change.source.pos for change in compressed.changes}) == 6  # one for each transaction


def _made_up(events: Sequence[tuple[int, bytes]], **options: int) -> DecodedDump:
    """A transaction of these events in one payload, followed by an uncompressed transaction."""
    data = b"".join(bare_event(kind, body) for kind, body in events)
    script = BinlogBuilder().gtid(1)
    script.add(40, payload(data, **options))
    return script.begin(2).table().row(b"z").commit().decoded()


def _values(done: DecodedDump) -> list[object]:
    return [change.after and change.after["b"] for change in done.changes]


@pytest.mark.parametrize("algorithm", [0, 255])
def test_rows_count_up_through_a_payload(algorithm: int) -> None:
    rows = [(ROWS, rows_body([b"a", b"b"])), (TABLE_MAP, table_body(8, "u")), (ROWS, rows_body([b"c"], 8))]
    done = _made_up([(TABLE_MAP, table_body()), *rows, (ROWS, rows_body([b"d"])), (XID, bytes(8))], algorithm=algorithm)
    assert done.error is None
    assert _values(done) == [b"a", b"b", b"c", b"d", b"z"]
    assert [change.source.row for change in done.changes] == [0, 1, 2, 3, 0]
    assert [change.source.order for change in done.changes] == [0, 1, 2, 3, 0]
    assert len({change.source.pos for change in done.changes}) == 2


def test_a_payload_of_many_chunks_and_ranges() -> None:
    """A payload of several chunks, with more events than an index has room for, and an event larger than a chunk."""
    large = np.random.default_rng(2).integers(0, 256, PIECE + 1000, np.uint8).tobytes()
    small = [(ROWS, rows_body([number.to_bytes(4, "little")])) for number in range(140_000)]
    done = _made_up([(TABLE_MAP, table_body()), *small, (ROWS, rows_body([large])), *small[:10], (XID, bytes(8))])
    assert done.error is None
    assert len(done.ranges) > 1
    batches = [batch.data for decoded_range in done.ranges for batch in decoded_range.batches]
    assert [row for data in batches for row in data.column("row").to_pylist()] == [*range(140_011), 0]
    assert (
        sum(pc.sum(pc.equal(pc.struct_field(data.column("after"), "b"), large)).as_py() or 0 for data in batches) == 1
    )
    assert done.ranges[0].checkpoint.skip == sum(len(batch) for batch in done.ranges[0].batches)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"cut": 5}, "payload"),
        ({"size": PIECE + 1}, "payload ends after"),
        ({"size": 10_000}, "payload of 10000 bytes"),
        ({"size": 30}, "payload of 30 bytes"),
        ({"size": 30, "algorithm": 255}, "payload of 30 bytes"),
        ({"algorithm": 3}, "compression 3"),
        ({"flip": 2}, "payload"),
    ],
)
def test_a_damaged_payload_is_an_error_with_its_position(options: dict[str, int], word: str) -> None:
    rows = [(TABLE_MAP, table_body()), (ROWS, rows_body([bytes(range(256))])), (XID, bytes(8))]
    done = _made_up(rows, **options)
    assert done.error is not None
    assert word in str(done.error)
    assert done.error.file == "binlog.000001"
    assert done.error.pos == 4 + 19 + 42 + 4  # of the payload, after the GTID
    assert not done.changes


@pytest.mark.parametrize("kind", [33, 4, 40, 26])
def test_events_that_cannot_be_in_a_payload_are_errors(kind: int) -> None:
    done = _made_up([(TABLE_MAP, table_body()), (ROWS, rows_body([b"a"])), (kind, bytes(60)), (XID, bytes(8))])
    assert done.error is not None
    assert done.error.pos == 4 + 19 + 42 + 4
    assert done.ranges[-1].checkpoint.position.pos == 4  # the transaction begins there


def test_an_empty_payload_has_no_changes() -> None:
    assert zstandard.decompress(zstandard.compress(b"")) == b""
    done = _made_up([])
    assert done.error is None
    assert _values(done) == [b"z"]
