"""BinlogPosition, GtidSet and Checkpoint: they print what they parse, order as MySQL does and keep the laws of sets."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binlogsync.errors import PositionError
from binlogsync.log_identity import EventMark, LogIdentity
from binlogsync.position import BinlogPosition, Checkpoint, GtidSet
from binlogsync.server_version import ServerFlavor

UUIDS = (
    "3e11fa47-71ca-11e1-9e33-c80aa9429562",
    "00000000-0000-0000-0000-000000000001",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
)
KEYS = (*UUIDS, f"{UUIDS[0]}:blue", f"{UUIDS[0]}:_1", f"{UUIDS[1]}:blue")

Model = dict[str, set[int]]
"""The naive set: transaction numbers by "uuid" or "uuid:tag"."""

models = st.dictionaries(st.sampled_from(KEYS), st.sets(st.integers(1, 30), min_size=1))
mariadb_positions = st.dictionaries(st.integers(0, 12), st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 2**64 - 1)))


def built(model: Model) -> GtidSet:
    """The set, one transaction at a time, in no order."""
    gtids = GtidSet()
    for key in model:
        for number in model[key]:
            gtids = gtids.with_gtid(f"{key}:{number}")
    return gtids


def mariadb(position: dict[int, tuple[int, int]]) -> GtidSet:
    return GtidSet.parse(",".join(f"{d}-{server}-{seq}" for d, (server, seq) in position.items()), ServerFlavor.MARIADB)


files = st.builds(
    "{}{:0{}d}".format,
    st.sampled_from(("binlog.", "mysql-bin57.", "a.b.", "", "log")),
    st.integers(0, 10**7),
    st.just(6),
)
positions = st.builds(BinlogPosition, files, st.integers(0, 2**63))
gtid_sets = (
    st.none()
    | st.builds(built, models)
    | st.builds(mariadb, mariadb_positions)
    | st.just(GtidSet(ServerFlavor.MARIADB))
)
checkpoints = st.builds(
    Checkpoint,
    positions,
    st.sampled_from((UUIDS[0], "mariadb:7")),
    gtid_sets,
    st.integers(0, 10**9),
    st.integers(0, 2**53),
)

# BinlogPosition


@given(positions)
def test_a_position_is_read_as_it_is_printed(position: BinlogPosition) -> None:
    assert BinlogPosition.parse(str(position)) == position


@pytest.mark.parametrize(
    ("file", "number"),
    [("binlog.000042", 42), ("mysql-bin57.000007", 7), ("binlog42", 42), ("000042", 42), ("a.1.2", 2)],
)
def test_the_file_number_ends_the_name(file: str, number: int) -> None:
    assert BinlogPosition(file, 4).file_number == number


@pytest.mark.parametrize(
    "text",
    ["", ":", "binlog.000042", "binlog.000042:", "binlog.000042:x", "binlog:4", "binlog.000042:-1", "binlog.000042:²"],
)
def test_what_is_no_position_is_named(text: str) -> None:
    with pytest.raises(PositionError, match="is not a binlog position; write it as"):
        BinlogPosition.parse(text)


def test_a_file_without_a_number_is_named() -> None:
    with pytest.raises(PositionError, match="'binlog' is not a binlog file name"):
        _ = BinlogPosition("binlog", 4).file_number


# GtidSet, MySQL


@given(models)
def test_a_mysql_set_is_read_as_it_is_printed(model: Model) -> None:
    gtids = built(model)
    again = GtidSet.parse(str(gtids))
    assert (again, str(again)) == (gtids, str(gtids))


@given(models, models)
def test_mysql_sets_keep_the_laws_of_sets(a: Model, b: Model) -> None:
    left, right = built(a), built(b)
    assert left.contains(right) == all(b[key] <= a.get(key, set()) for key in b)
    both = {key: a.get(key, set()) | b.get(key, set()) for key in {*a, *b}}
    assert left.union(right) == right.union(left) == built(both)
    assert str(left.union(right)) == str(right.union(left)) == str(built(both))
    assert left.union(right).contains(left)
    assert (left == right) == (a == b) == (left.contains(right) and right.contains(left))
    assert bool(left) == bool(a)


@given(models, st.sampled_from(KEYS), st.integers(1, 40), st.integers(0, 40))
def test_a_run_adds_its_transactions(model: Model, key: str, first: int, length: int) -> None:
    run = set(range(first, first + length + 1))
    assert built(model).with_run(key, first, first + length) == built({**model, key: model.get(key, set()) | run})


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("", ""),
        (f"{UUIDS[0].upper()}:1-5", f"{UUIDS[0]}:1-5"),
        (f"{UUIDS[0]}:1-5:6:8-9", f"{UUIDS[0]}:1-6:8-9"),
        (f" {UUIDS[0]}:7 ,\n{UUIDS[0]}:1-5 , ", f"{UUIDS[0]}:1-5:7"),
        (f"{UUIDS[0]}:1-5:blue:2:red:3-4", f"{UUIDS[0]}:1-5,{UUIDS[0]}:blue:2,{UUIDS[0]}:red:3-4"),
    ],
)
def test_every_way_mysql_writes_a_set_is_read(text: str, printed: str) -> None:
    assert str(GtidSet.parse(text)) == printed


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "x:1",
        UUIDS[0],
        f"{UUIDS[0]}:",
        f"{UUIDS[0]}:0",
        f"{UUIDS[0]}:5-1",
        f"{UUIDS[0]}:1-",
        f"{UUIDS[0]}:²",
        f"{UUIDS[0]}:1,0-1-2",
    ],
)
def test_what_is_no_set_is_named(text: str) -> None:
    with pytest.raises(PositionError, match="is not a GTID set"):
        GtidSet.parse(text)


_U = UUIDS[0]  # 36 characters


@pytest.mark.parametrize(
    ("text", "character", "reason"),
    [
        (f"{_U}:foo:bar:1-2", 38, "a tag without an interval"),
        (f"{_U}:1:foo", 40, "a tag without an interval"),
        (f"{_U}:foo:1:bar", 44, "a tag without an interval"),
        (",", 1, "a UUID is expected"),
        (" , ", 2, "a UUID is expected"),
        (f",{_U}:1", 1, "a UUID is expected"),
        (f"{_U}:1,,{_U}:2", 40, "a UUID is expected"),
        (f"{_U}:1,,", 40, "a UUID is expected"),
        (f"{_U}:1, x{_U}:2", 41, "a UUID is expected"),
        (_U, 37, "an interval is expected"),
        (f"{_U}:1::3", 40, "an interval is expected"),
        (f"{_U}:1 2", 38, "an interval is expected"),
        (f"{_U}:1-2-3", 38, "an interval is expected"),
        (f"{_U}:f-o:1", 38, "an interval is expected"),
        (f"{_U}:{'a' * 33}:1", 38, "an interval is expected"),
        (f"{_U}:+1", 38, "an interval is expected"),
        (f"{_U}:\u0661", 38, "an interval is expected"),
        (f"{_U}:1:5-3", 40, "an interval has to rise"),
        (f"{_U}:0-3", 38, "an interval has to rise"),
        (f"{_U}:1-9223372036854775807", 38, "an interval has to rise"),
    ],
)
def test_the_position_of_a_fault_is_named(text: str, character: int, reason: str) -> None:
    for flavor in (None, ServerFlavor.MYSQL):
        with pytest.raises(PositionError, match=rf"is not a GTID set: {reason}.* at character {character} "):
            GtidSet.parse(text, flavor)


@given(models, st.data())
def test_a_damaged_text_is_an_error_or_another_set_never_a_part_of_it(model: Model, data: st.DataObject) -> None:
    """A character put in somewhere never makes members vanish in silence.

    An underscore is not among them: it can make the tag `_1` of the interval `1`, which is another set.
    """
    text = str(built(model))
    at, mark = data.draw(st.integers(0, len(text))), data.draw(st.sampled_from(":,-x 7"))
    try:
        read = GtidSet.parse(text[:at] + mark + text[at:], ServerFlavor.MYSQL)
    except PositionError:
        return
    assert len(read.members) >= len(built(model).members)


# GtidSet, MariaDB


@given(mariadb_positions)
def test_a_mariadb_position_is_read_as_it_is_printed(position: dict[int, tuple[int, int]]) -> None:
    gtids = mariadb(position)
    again = GtidSet.parse(str(gtids), ServerFlavor.MARIADB)
    assert (again, str(again)) == (gtids, str(gtids))
    assert gtids.members == {str(domain): (pair,) for domain, pair in position.items()}


@given(mariadb_positions, mariadb_positions)
def test_mariadb_positions_keep_the_laws_of_sets(a: dict[int, tuple[int, int]], b: dict[int, tuple[int, int]]) -> None:
    left, right = mariadb(a), mariadb(b)
    assert left.contains(right) == all(domain in a and a[domain][1] >= b[domain][1] for domain in b)
    union = left.union(right)
    assert union.contains(left)
    assert union.contains(right)
    assert {key: pairs[0][1] for key, pairs in union.members.items()} == {
        str(domain): max(side[domain][1] for side in (a, b) if domain in side) for domain in {*a, *b}
    }


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("0-1-100,1-2-7", "0-1-100,1-2-7"),
        ("1-2-7,0-1-100", "0-1-100,1-2-7"),
        ("0-2-30,0-1-20", "0-2-30"),
        ("00-01-007", "0-1-7"),
    ],
)
def test_a_mariadb_position_has_one_text(text: str, printed: str) -> None:
    assert str(GtidSet.parse(text)) == printed


@pytest.mark.parametrize(
    ("text", "character", "reason"),
    [
        ("0-1", 1, "a domain"),
        (",", 1, "a domain"),
        ("0-1-5,", 7, "a domain"),
        ("0-1-5, 0 -1-6", 8, "a domain"),
        ("0-1-5-6", 1, "a domain"),
        ("0-1-5,4294967296-1-1", 7, "a number above 4294967295"),
        ("1-4294967296-1", 3, "a number above 4294967295"),
        ("1-1-18446744073709551616", 5, "a number above 18446744073709551615"),
    ],
)
def test_what_is_no_mariadb_position_is_named(text: str, character: int, reason: str) -> None:
    with pytest.raises(PositionError, match=rf"is not a MariaDB GTID position: {reason}.* at character {character} "):
        GtidSet.parse(text, ServerFlavor.MARIADB)


def test_the_greatest_numbers_are_read() -> None:
    for text in ("4294967295-4294967295-18446744073709551615", f"{_U}:9223372036854775806"):
        assert str(GtidSet.parse(text)) == text


def test_sets_of_two_flavours_are_not_joined() -> None:
    mysql, maria = GtidSet.parse(f"{UUIDS[0]}:1"), GtidSet.parse("0-1-1")
    assert not mysql.contains(maria)
    assert not maria.contains(mysql)
    for left, right in ((mysql, maria), (maria, mysql)):
        with pytest.raises(PositionError, match="cannot be joined"):
            left.union(right)
        assert left.union(GtidSet(right.flavor)) == left


# Checkpoint


@given(checkpoints)
def test_a_checkpoint_is_read_as_it_is_printed(checkpoint: Checkpoint) -> None:
    text = checkpoint.to_text()
    assert "\n" not in text
    for form in (text, text.encode()):
        assert Checkpoint.from_text(form) == checkpoint
    assert Checkpoint.from_text(text).to_text() == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "null",
        "7",
        '{"file":"binlog.000001"}',
        b"\xff",
        '{"file":"binlog.000001","pos":"x","server":"s","skip":0,"ts_us":0}',
    ]
    + [
        json.dumps({"file": "b.1", "pos": 4, "server": "s", "skip": 0, "ts_us": 0, "flavor": "mysql", "gtids": g})
        for g in (7, "x")
    ]
    + [json.dumps({"file": "b.1", "pos": 4, "server": "s", "skip": 0, "ts_us": 0, "flavor": "oracle", "gtids": ""})],
)
def test_what_is_no_checkpoint_is_named(text: str | bytes) -> None:
    with pytest.raises(PositionError, match="not a checkpoint|is not a GTID set"):
        Checkpoint.from_text(text)


def test_at_boundary_forgets_the_part_of_a_transaction() -> None:
    checkpoint = Checkpoint(BinlogPosition("b.1", 4), UUIDS[0], GtidSet(), 7, 9)
    assert checkpoint.at_boundary() == Checkpoint(BinlogPosition("b.1", 4), UUIDS[0], GtidSet(), 0, 9)
    assert (str(checkpoint), str(checkpoint.at_boundary())) == ("b.1:4+7", "b.1:4")


OLDER_TEXT = (
    '{"file":"binlog.000042","pos":1187,"server":"x","flavor":"mysql","gtids":"","skip":3,"ts_us":9,"inside":"x:5"}'
)


def test_a_checkpoint_of_an_older_version_is_read_and_tells_of_no_log() -> None:
    checkpoint = Checkpoint.from_text(OLDER_TEXT)
    assert (checkpoint.position, checkpoint.skip, checkpoint.inside) == (
        BinlogPosition("binlog.000042", 1187),
        3,
        "x:5",
    )
    assert (checkpoint.log, checkpoint.sequence) == (None, None)
    assert checkpoint.to_text() == OLDER_TEXT


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(4, 2**40), st.sampled_from(["", "ab12"]))
def test_what_identifies_a_log_is_read_as_it_is_printed(seconds: int, checksum: int, start: int, previous: str) -> None:
    event = EventMark(start, seconds, checksum)
    log = LogIdentity("binlog.000042", seconds, 7, previous, event)
    checkpoint = replace(Checkpoint.from_text(OLDER_TEXT), log=log, sequence=12)
    read = Checkpoint.from_text(checkpoint.to_text())
    assert (read, read.log, read.sequence) == (checkpoint, log, 12)
    assert read == Checkpoint.from_text(OLDER_TEXT)
    assert -(2**63) <= event.packed < 2**63
    assert EventMark.unpacked(start, event.packed) == event


@pytest.mark.parametrize("log", ['{"file":"b.1"}', '{"file":"b.1","begun":1,"server_id":2,"event":[4,5]}', "7"])
def test_what_identifies_no_log_is_named(log: str) -> None:
    with pytest.raises(PositionError, match="not a checkpoint"):
        Checkpoint.from_text(f'{OLDER_TEXT[:-1]},"log":{log}}}')


def test_a_checkpoint_at_a_sequence_has_all_other_fields() -> None:
    values: dict[str, Any] = {field.name: object() for field in fields(Checkpoint)}
    found = Checkpoint(**values).at_sequence(9)
    assert {name: getattr(found, name) for name in values} == {**values, "sequence": 9}
