"""The reader on generated dumps: huge events, offsets beyond 4 GiB, and invalid events. No server."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.binlog.binlog_builder import (
    FORMAT,
    ROWS,
    TABLE_MAP,
    BinlogBuilder,
    description,
    event_of,
    rotate,
    rows_body,
    table_body,
)


@pytest.mark.slow
@pytest.mark.parametrize("size", [0xFFFFFF, 2 * 0xFFFFFF - 60])
def test_an_event_of_many_packets(size: int) -> None:
    value = np.random.default_rng(1).integers(0, 256, size, np.uint8).tobytes()
    script = BinlogBuilder().begin(1).table().row(b"a").row(value).row(b"z").commit()
    for cuts in ((), tuple(range(1 << 20, len(script.raw()), 1 << 22))):
        done = script.decoded(cuts)
        assert done.error is None
        assert [change.after for change in done.changes] == [{"b": b"a"}, {"b": value}, {"b": b"z"}]


@pytest.mark.parametrize("around", range(0xFFFFFF - 2, 0xFFFFFF + 2))
def test_an_event_that_ends_near_the_end_of_a_packet(around: int) -> None:
    overhead = 1 + 19 + 6 + 2 + 2 + 2 + 1 + 4 + 4
    value = bytes(around - overhead)
    done = BinlogBuilder().begin(1).table().row(value).row(b"z").commit().decoded()
    assert done.error is None
    assert [len(change.after["b"]) for change in done.changes if change.after] == [len(value), 1]


def test_offsets_continue_beyond_4_gib() -> None:
    near = 2**32 - 150
    script = BinlogBuilder(near).begin(1).table().row(b"a").commit().begin(2).table().row(b"b").commit()
    done = script.decoded(pos=near)
    assert done.error is None
    assert [change.source.pos for change in done.changes] == sorted(change.source.pos for change in done.changes)
    assert done.changes[-1].source.pos > 2**32
    assert done.reader.position.pos == script.pos > 2**32
    assert done.ranges[-1].checkpoint.position.pos == script.pos


def test_an_error_packet_is_available_to_the_caller() -> None:
    script = BinlogBuilder().begin(1).table().row(b"a").commit()
    script.payloads.append(b"\xff\xd4\x04#HY000Could not find first log file name in binary log index file")
    done = script.decoded()
    assert done.reader.server_error is not None
    assert b"Could not find" in done.reader.server_error
    assert not done.reader.ended
    assert len(done.changes) == 1


def test_the_eof_packet_ends_the_dump() -> None:
    assert BinlogBuilder().decoded().reader.ended


def test_changes_before_a_bad_checksum_are_delivered() -> None:
    script = BinlogBuilder().begin(1).table().row(b"a").commit().begin(2).table().row(b"b")
    script.payloads[-1] = script.payloads[-1][:-1] + bytes([script.payloads[-1][-1] ^ 1])
    done = script.decoded()
    assert done.error is not None
    assert "checksum" in str(done.error)
    assert done.error.file == "binlog.000001"
    assert [change.after for change in done.changes] == [{"b": b"a"}]


def test_rows_of_an_unknown_table_id_are_an_error() -> None:
    done = BinlogBuilder().begin(1).table().row(b"a").row(b"x", table_id=8).commit().decoded()
    assert done.error is not None
    assert "TABLE_MAP" in str(done.error)
    assert len(done.changes) == 1


def test_table_ids_are_invalid_in_the_next_file() -> None:
    script = BinlogBuilder().begin(1).table().row(b"a").commit()
    script.payloads += [rotate("binlog.000002", 4), script.payloads[1]]
    script.pos = 4
    done = script.begin(2).row(b"b").commit().decoded()
    assert done.error is not None
    assert done.error.file == "binlog.000002"


def test_rows_outside_a_transaction_are_an_error() -> None:
    done = BinlogBuilder().table().row(b"a").decoded()
    assert done.error is not None
    assert "outside a transaction" in str(done.error)


def test_two_tables_whose_ids_share_their_low_bits() -> None:
    script = (
        BinlogBuilder()
        .begin(1)
        .table(7)
        .row(b"a")
        .table(7 + 65536, "u")
        .row(b"b", 7 + 65536)
        .table(7)
        .row(b"c")
        .commit()
    )
    done = script.decoded()
    assert done.error is None
    assert [(change.source.table, change.after) for change in done.changes] == [
        ("t", {"b": b"a"}),
        ("u", {"b": b"b"}),
        ("t", {"b": b"c"}),
    ]


def test_a_table_that_is_reopened_a_thousand_times_takes_no_more_memory() -> None:
    script = BinlogBuilder()
    for number in range(1000):
        script.begin(number + 1).table(100 + number).row(b"x", 100 + number).commit()
    done = script.decoded()
    assert done.error is None
    assert len(done.changes) == 1000
    assert len({batch.schema.fingerprint for decoded_range in done.ranges for batch in decoded_range.batches}) == 1


@pytest.mark.parametrize(
    ("sql", "word"),
    [
        ("INSERT INTO t VALUES (1)", "binlog_format"),
        ("UPDATE t SET b = 1", "binlog_format"),
        ("SELECT `d`.`f`()", "binlog_format"),
        ("ROLLBACK", "rolled back"),
        ("ROLLBACK TO `s`", "rolled back"),
    ],
)
def test_statements_that_change_rows_are_errors(sql: str, word: str) -> None:
    done = BinlogBuilder().begin(1).table().row(b"a").commit().begin(2).table().row(b"b").query(sql).decoded()
    assert done.error is not None
    assert word in str(done.error)
    delivered = [change.after for change in done.changes]
    assert delivered[0] == {"b": b"a"}
    if "rolled" in word:
        assert len(delivered) == 1
        assert done.ranges[-1].checkpoint.skip == 0
        assert done.ranges[-1].checkpoint.position.pos < done.error.pos


def test_a_file_that_ends_inside_a_transaction_is_an_error() -> None:
    script = BinlogBuilder().begin(1).table().row(b"a")
    script.payloads.append(rotate("binlog.000002", 4))
    done = script.decoded()
    assert done.error is not None
    assert "inside a transaction" in str(done.error)


# Format descriptions, and events without rows

# Sizes of post-headers; these servers log neither a checksum nor its algorithm.
_HEADS_51 = bytes([56, 13, 0, 8, 0, 18, 0, 4, 4, 4, 4, 18, 0, 0, 84, 0, 4, 26, 8, 0, 0, 0, 8, 8, 8, 2])


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"binlog": 3}, "binlog version 3"),
        ({"version": "5.0.96", "heads": b"\x38\x0d", "header": 13}, "server 5.0.96"),
        ({"version": "5.1.5-beta", "heads": bytes(18) + b"\6"}, "server 5.1.5-beta"),
        ({"version": "5.5.68-MariaDB-log", "heads": _HEADS_51}, "server 5.5.68-MariaDB-log"),
        ({"version": "5.6.0-m4", "heads": _HEADS_51}, "server 5.6.0-m4"),
    ],
)
def test_binlogs_of_unsupported_servers_are_refused(options: dict[str, Any], word: str) -> None:
    script = BinlogBuilder().begin(1).table().row(b"a").commit()
    script.payloads[1] = b"\0" + event_of(FORMAT, description(**options), 0)
    _assert_names_the_version(script, word)


def _assert_names_the_version(script: BinlogBuilder, word: str) -> None:
    done = script.decoded()
    assert done.error is not None
    assert word in str(done.error)
    assert "not supported" in str(done.error)
    assert "FLUSH BINARY LOGS" in str(done.error)
    assert "damaged" not in str(done.error)


@pytest.mark.parametrize("version", ["5.1.73-log", "5.5.62-log", "5.1.67-MariaDB", "5.2.14-MariaDB-log"])
def test_binlogs_without_checksum_algorithm_are_refused_by_their_version(version: str) -> None:
    heads = _HEADS_51 + (b"\0" if version.startswith("5.5") else b"")
    body = description(version, heads=heads)[:-1]
    script = BinlogBuilder()
    for end in (0, 4 + 19 + len(body)):  # artificial, and as in the file
        event = event_of(FORMAT, body, end)[:-4]
        size = (19 + len(body)).to_bytes(4, "little")
        script.payloads[1] = b"\0" + event[:9] + size + event[13:]
        _assert_names_the_version(script, f"server {version}")


@pytest.mark.parametrize("version", ["5.7.44-log", "8.0.40", "8.4.3", "9.7.0"])
@pytest.mark.parametrize("code", [23, 30])
def test_row_events_of_both_versions_from_every_server_version(version: str, code: int) -> None:
    body = rows_body([b"a", b"b"])
    script = BinlogBuilder()
    script.payloads[1] = b"\0" + event_of(FORMAT, description(version), 0)
    script.begin(1).table().add(code, body if code == 30 else body[:8] + body[10:]).commit()
    script.add(27, b"binlog.000001").add(41, b"\1\x0dbinlog.000001\2\x08" + (2**33).to_bytes(8, "little") + b"\0")
    done = script.begin(2).table().row(b"c").commit().decoded()
    assert done.error is None
    assert [change.after for change in done.changes] == [{"b": b"a"}, {"b": b"b"}, {"b": b"c"}]


@pytest.mark.parametrize("kind", [3, 5, 13, 14, 29, 35, 36, 37, 160, 161, 163, 200])
def test_events_without_rows_are_skipped(kind: int) -> None:
    """Known event types, and an unknown one with the ignorable flag."""
    script = BinlogBuilder().begin(1).table().row(b"a")
    body = bytes(30)
    script.pos += 19 + len(body) + 4
    script.payloads.append(b"\0" + event_of(kind, body, script.pos, flags=0x80 if kind == 200 else 0))
    done = script.row(b"b").commit().decoded()
    assert done.error is None
    assert [change.after for change in done.changes] == [{"b": b"a"}, {"b": b"b"}]


@pytest.mark.parametrize(
    ("kind", "word"),
    [(26, "take a new snapshot"), (164, "encrypted"), (200, "may contain changes"), (20, "PRE_GA"), (6, "LOAD")],
)
def test_events_that_may_contain_rows_are_errors_with_their_position(kind: int, word: str) -> None:
    script = BinlogBuilder().begin(1).table().row(b"a").commit()
    position = script.pos
    done = script.add(kind, bytes(30)).begin(2).table().row(b"b").commit().decoded()
    assert done.error is not None
    assert word in str(done.error)
    assert (done.error.file, done.error.pos) == ("binlog.000001", position)
    assert [change.after for change in done.changes] == [{"b": b"a"}]
    assert done.ranges[-1].checkpoint.position.pos == position


def test_changes_before_an_undecodable_value_are_delivered() -> None:
    """Invalid UTF-8 in the middle of a transaction."""
    text = table_body(9, "x").replace(b"\x02\x01\x3f", b"\x02\x01\x2d")  # utf8mb4, so a LONGTEXT
    script = BinlogBuilder().begin(1).table().row(b"a").add(TABLE_MAP, text).add(ROWS, rows_body([b"b"], 9)).commit()
    script.begin(2).table().row(b"c").add(TABLE_MAP, text).add(ROWS, rows_body([b"d"], 9))
    script.add(ROWS, rows_body([b"\xff"], 9)).row(b"not delivered").commit()
    done = script.decoded()
    assert done.error is not None
    assert (done.error.table, done.error.column) == ("d.x", "b")
    assert [change.after and change.after["b"] for change in done.changes] == [b"a", "b", b"c", "d"]
    last = done.ranges[-1].checkpoint
    assert last.skip == 2
    assert last.gtids is not None
    assert str(last.gtids).endswith(":1")
