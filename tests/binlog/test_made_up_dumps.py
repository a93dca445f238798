"""The reader on made-up dumps: huge events, offsets beyond 4 GiB, and what has to be refused. No server."""

from __future__ import annotations

import numpy as np
import pytest

from tests.binlog.script import Script, rotate


@pytest.mark.parametrize("size", [0xFFFFFF, 2 * 0xFFFFFF - 60])
def test_an_event_of_many_packets(size: int) -> None:
    value = np.random.default_rng(1).integers(0, 256, size, np.uint8).tobytes()
    script = Script().begin(1).table().row(b"a").row(value).row(b"z").commit()
    for cuts in ((), tuple(range(1 << 20, len(script.raw()), 1 << 22))):
        done = script.decoded(cuts)
        assert done.error is None
        assert [change.after for change in done.changes] == [{"b": b"a"}, {"b": value}, {"b": b"z"}]


@pytest.mark.parametrize("around", range(0xFFFFFF - 2, 0xFFFFFF + 2))
def test_an_event_that_ends_about_where_a_packet_does(around: int) -> None:
    overhead = 1 + 19 + 6 + 2 + 2 + 2 + 1 + 4 + 4
    value = bytes(around - overhead)
    done = Script().begin(1).table().row(value).row(b"z").commit().decoded()
    assert done.error is None
    assert [len(change.after["b"]) for change in done.changes if change.after] == [len(value), 1]


def test_offsets_go_on_beyond_4_gib() -> None:
    near = 2**32 - 150
    script = Script(near).begin(1).table().row(b"a").commit().begin(2).table().row(b"b").commit()
    done = script.decoded(pos=near)
    assert done.error is None
    assert [change.source.pos for change in done.changes] == sorted(change.source.pos for change in done.changes)
    assert done.changes[-1].source.pos > 2**32
    assert done.reader.position.pos == script.pos > 2**32
    assert done.stretches[-1].checkpoint.position.pos == script.pos


def test_an_error_packet_is_kept_for_the_caller() -> None:
    script = Script().begin(1).table().row(b"a").commit()
    script.payloads.append(b"\xff\xd4\x04#HY000Could not find first log file name in binary log index file")
    done = script.decoded()
    assert done.reader.server_error is not None
    assert b"Could not find" in done.reader.server_error
    assert not done.reader.ended
    assert len(done.changes) == 1


def test_the_end_packet_ends_it() -> None:
    assert Script().decoded().reader.ended


def test_a_bad_checksum_delivers_what_lies_before() -> None:
    script = Script().begin(1).table().row(b"a").commit().begin(2).table().row(b"b")
    script.payloads[-1] = script.payloads[-1][:-1] + bytes([script.payloads[-1][-1] ^ 1])
    done = script.decoded()
    assert done.error is not None
    assert "checksum" in str(done.error)
    assert done.error.file == "binlog.000001"
    assert [change.after for change in done.changes] == [{"b": b"a"}]


def test_rows_of_an_unknown_table_id_are_an_error() -> None:
    done = Script().begin(1).table().row(b"a").row(b"x", table_id=8).commit().decoded()
    assert done.error is not None
    assert "TABLE_MAP" in str(done.error)
    assert len(done.changes) == 1


def test_table_ids_mean_nothing_in_the_next_file() -> None:
    script = Script().begin(1).table().row(b"a").commit()
    script.payloads += [rotate("binlog.000002", 4), script.payloads[1]]
    script.pos = 4
    done = script.begin(2).row(b"b").commit().decoded()
    assert done.error is not None
    assert done.error.file == "binlog.000002"


def test_rows_outside_a_transaction_are_an_error() -> None:
    done = Script().table().row(b"a").decoded()
    assert done.error is not None
    assert "outside a transaction" in str(done.error)


def test_two_tables_whose_ids_share_their_low_bits() -> None:
    script = Script().begin(1).table(7).row(b"a").table(7 + 65536, "u").row(b"b", 7 + 65536).table(7).row(b"c").commit()
    done = script.decoded()
    assert done.error is None
    assert [(change.source.table, change.after) for change in done.changes] == [
        ("t", {"b": b"a"}),
        ("u", {"b": b"b"}),
        ("t", {"b": b"c"}),
    ]


def test_a_table_that_is_opened_anew_a_thousand_times_takes_no_more_memory() -> None:
    script = Script()
    for number in range(1000):
        script.begin(number + 1).table(100 + number).row(b"x", 100 + number).commit()
    done = script.decoded()
    assert done.error is None
    assert len(done.changes) == 1000
    assert len({batch.schema.fingerprint for stretch in done.stretches for batch in stretch.batches}) == 1


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
def test_statements_that_change_rows_unseen_are_errors(sql: str, word: str) -> None:
    done = Script().begin(1).table().row(b"a").commit().begin(2).table().row(b"b").query(sql).decoded()
    assert done.error is not None
    assert word in str(done.error)
    delivered = [change.after for change in done.changes]
    assert delivered[0] == {"b": b"a"}
    if "rolled" in word:
        assert len(delivered) == 1
        assert done.stretches[-1].checkpoint.skip == 0
        assert done.stretches[-1].checkpoint.position.pos < done.error.pos


def test_a_file_that_ends_inside_a_transaction_is_an_error() -> None:
    script = Script().begin(1).table().row(b"a")
    script.payloads.append(rotate("binlog.000002", 4))
    done = script.decoded()
    assert done.error is not None
    assert "inside a transaction" in str(done.error)
