"""Error packets of the dump, as the servers word them."""

from __future__ import annotations

import pytest

from binlogsync.errors import PositionError, SourceError
from binlogsync.mysql import raise_server_error
from binlogsync.mysql.server_errors import parse_error_packet


def packet(code: int, text: str, state: str = "HY000") -> bytes:
    return b"\xff" + code.to_bytes(2, "little") + b"#" + state.encode() + text.encode()


GONE = [
    (1236, "Could not find first log file name in binary log index file"),
    (
        1236,
        "Cannot replicate because the source purged required binary logs. Replicate the missing transactions from "
        "elsewhere, or provision a new replica from backup.",
    ),
    (1236, "Client requested source to start replication from position > file size"),
    (1236, "Client requested master to start replication from impossible position"),
    (1236, "Replica has more GTIDs than the source has, using the source's SERVER_UUID."),
    (
        1236,
        "Could not find GTID state requested by slave in any binlog files. Probably the slave state is too old and "
        "required binlog files have been purged.",
    ),
    (1236, "Error: connecting slave requested to start from GTID 0-1-9, which is not in the master's binlog"),
    (1236, "Cannot replicate anonymous transaction when AUTO_POSITION = 1, at file ./binlog.000001, position 158."),
    (1236, "Cannot replicate anonymous transaction when @@GLOBAL.GTID_MODE = ON, at file ./binlog.000001, position 4."),
    (1373, "Target log not found in binlog index"),
    (1789, "The source is configured to use purged GTIDs"),
]
OTHER = [
    (1236, "A replica with the same server_uuid/server_id as this replica has connected to the source", "server_id"),
    (1236, "A slave with the same server_uuid as this slave has connected to the master", "server_id"),
    (1236, "Binary log is not open", "log_bin"),
    (1236, "log event entry exceeded max_allowed_packet; Increase max_allowed_packet on source", "max_allowed_packet"),
    (1236, "bogus data in log event; the first event '' at 4", "mysqlbinlog"),
    (1227, "Access denied; you need (at least one of) the REPLICATION SLAVE privilege(s)", "GRANT REPLICATION SLAVE"),
    (1053, "Server shutdown in progress", "reconnect"),
    (9999, "something new", "reconnect"),
]


@pytest.mark.parametrize(("code", "text"), GONE)
def test_a_position_that_is_gone_says_the_choices(code: int, text: str) -> None:
    with pytest.raises(PositionError, match="choose: ") as caught:
        raise_server_error(packet(code, text))
    assert text in str(caught.value)


@pytest.mark.parametrize(("code", "text", "step"), OTHER)
def test_other_errors_say_what_to_do(code: int, text: str, step: str) -> None:
    with pytest.raises(SourceError, match=step) as caught:
        raise_server_error(packet(code, text))
    assert not isinstance(caught.value, PositionError)


def test_an_error_without_state() -> None:
    assert parse_error_packet(b"\xff\x15\x04Access denied") == (1045, "Access denied")


@pytest.mark.parametrize("wrong", [b"", b"\xff", b"\x00\x01\x02", b"\xfe"])
def test_what_is_no_error_packet_is_refused(wrong: bytes) -> None:
    with pytest.raises(SourceError, match="out of step"):
        raise_server_error(wrong)
