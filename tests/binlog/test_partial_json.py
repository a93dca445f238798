"""Updates logged as JSON differences (PARTIAL_UPDATE_ROWS): `after` equals what SELECT returns after each of them."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from binlogsync.binlog.types.jsonb import json_text
from binlogsync.binlog.types.jsondiff import apply_diffs
from tests.binlog.damage import packets
from tests.binlog.dump import DecodedDump, end_of_log, record
from tests.databases import FreshDatabase

_DOCUMENT = """{"a": 0, "bb": "a text that is long", "c": [1, 2, {"k": "a value that is long"}], "last name": 1.5,
 "": {"x": [[]]}, "é\\"": 18446744073709551615, "n": null, "big": {"p": "%s"}}""" % ("long " * 14_000)
_PATHS = (
    "$.a",
    "$.bb",
    "$.c",
    "$.c[0]",
    "$.c[2].k",
    "$.c[last]",
    '$."last name"',
    '$.""',
    '$."".x[0]',
    '$."é\\\\""',
    "$.n",
)
_NEW_PATHS = ("$.a.deep", "$.added", "$.c[9]", '$."a b".c', "$.big.q", "$.c[2].m", '$."".x[0][3]', "$.big.p")
_VALUES = (
    "1", "-3.25", "'s'", "NULL", "TRUE", "CAST('[1, {\"z\": 2}]' AS JSON)",
    "CAST('2020-01-02 03:04:05.6' AS DATETIME(6))",
    "CAST(12.340 AS DECIMAL(10, 3))", "CAST('12:13:14' AS TIME)", "18446744073709551615", "x'0102'", "JSON_OBJECT()",
)  # fmt: skip


def _expressions(seed: int, count: int) -> list[str]:
    """Calls of JSON functions that MySQL logs as differences."""
    chance = random.Random(seed)
    found = []
    for _ in range(count):
        paths = [chance.choice((*_PATHS, *_NEW_PATHS)) for _ in range(chance.choice((1, 1, 2)))]
        if chance.random() < 0.25:
            found.append("JSON_REMOVE(v, " + ", ".join(f"'{path}'" for path in paths) + ")")
        else:
            function = chance.choice(("JSON_SET", "JSON_SET", "JSON_REPLACE"))
            values = ", ".join(f"'{path}', {chance.choice(_VALUES)}" for path in paths)
            found.append(f"{function}(v, {values})")
    return found


_TABLE = "CREATE TABLE j (i INT PRIMARY KEY, n INT, v JSON, t VARCHAR(9), w JSON)"
_SETTINGS = "SET SESSION binlog_row_value_options = PARTIAL_JSON"


@pytest.mark.parametrize("compression", ["OFF", "ON"])
def test_after_is_what_select_returns(mysql: FreshDatabase, compression: str) -> None:
    mysql.execute(_TABLE)
    mysql.execute("INSERT INTO j VALUES (1, 0, %s, 't', '[]')", (_DOCUMENT,))
    start = end_of_log(mysql.server)
    mysql.execute(_SETTINGS)
    mysql.execute(f"SET SESSION binlog_transaction_compression = {compression}")
    expected = []
    for number, expression in enumerate(_expressions(5, 120)):
        other = ", w = JSON_ARRAY_INSERT(w, '$[0]', n)" if number % 7 == 0 else ""
        mysql.execute(f"UPDATE j SET n = n + 1, v = {expression}{other}")
        [row] = mysql.execute("SELECT i, n, CAST(v AS CHAR), t, CAST(w AS CHAR) FROM j")
        expected.append(dict(zip("invtw", row, strict=True)))
    recording = record(mysql.server, start, lambda database, table: database == mysql.name)
    kinds = Counter(payload[5] for payload in packets(recording.raw)[:-1])
    assert kinds[39] > 100 or kinds[40] > 100
    assert [change.after for change in recording.changes()] == expected


def _outcome(mysql: FreshDatabase, image: str, *, left_out: bool = False) -> DecodedDump:
    mysql.execute(_TABLE)
    mysql.execute("CREATE TABLE other (i INT)")
    mysql.execute("""INSERT INTO j VALUES (1, 0, '{"a": 1, "b": "long enough"}', 't', '[]')""")
    start = end_of_log(mysql.server)
    for statement in (
        "INSERT INTO other VALUES (1)",
        _SETTINGS,
        f"SET SESSION binlog_row_image = {image}",
        "UPDATE j SET n = 1",
        "UPDATE j SET v = JSON_SET(v, '$.a', 2), t = 'u'",
        "INSERT INTO other VALUES (2)",
    ):
        mysql.execute(statement)
    captures = ("other",) if left_out else ("other", "j")
    return record(mysql.server, start, lambda name, table: name == mysql.name and table in captures).decoded()


def test_a_before_image_without_the_value_is_an_error(mysql: FreshDatabase) -> None:
    done = _outcome(mysql, "MINIMAL")
    assert done.error is not None
    assert (done.error.table, done.error.column) == (f"{mysql.name}.j", "v")
    assert "binlog_row_value_options" in str(done.error)
    images = [(change.before, change.after) for change in done.changes]
    assert images == [(None, {"i": 1}), ({"i": 1}, {"n": 1})]


def test_noblob_logs_the_values_that_differences_need(mysql: FreshDatabase) -> None:
    done = _outcome(mysql, "NOBLOB")
    assert done.error is None
    assert [change.after and change.after.get("v") for change in done.changes] == [
        None,
        '{"a": 1, "b": "long enough"}',
        '{"a": 2, "b": "long enough"}',
        None,
    ]


@pytest.mark.parametrize("image", ["MINIMAL", "NOBLOB", "FULL"])
def test_partial_updates_of_an_excluded_table_are_counted(mysql: FreshDatabase, image: str) -> None:
    done = _outcome(mysql, image, left_out=True)
    assert done.error is None
    assert [change.after for change in done.changes] == [{"i": 1}, {"i": 2}]
    assert sum(decoded_range.dropped for decoded_range in done.ranges) == 2


def _diff(operation: int, path: str, value: bytes | None = None) -> bytes:
    diff = bytes([operation, len(path)]) + path.encode()
    return diff if value is None else diff + bytes([len(value)]) + value


_SMALL = b"\x00\x01\x00\x0c\x00\x0b\x00\x01\x00\x05\x07\x00a"  # {"a": 7}
_ONE, _TEXT = b"\x05\x01\x00", b"\x0c\x03abc"


@pytest.mark.parametrize(
    ("diffs", "text"),
    [
        (b"", '{"a": 7}'),
        (_diff(0, "$.a", _ONE), '{"a": 1}'),
        (
            _diff(0, "$.a", _TEXT) + _diff(1, "$.b", _SMALL) + _diff(1, "$.b.a2", _ONE),
            '{"a": "abc", "b": {"a": 7, "a2": 1}}',
        ),
        (_diff(1, "$.aa", _ONE) + _diff(1, "$.B", _ONE), '{"B": 1, "a": 7, "aa": 1}'),
        (_diff(2, "$.a"), "{}"),
    ],
)
def test_differences_are_applied_in_order(diffs: bytes, text: str) -> None:
    assert json_text(apply_diffs(_SMALL, diffs)) == text


@pytest.mark.parametrize(
    "diffs",
    [
        _diff(0, "$.b", _ONE),  # replaces what is not there
        _diff(1, "$.a", _ONE),  # inserts what is there
        _diff(2, "$[0]"),  # an element of an object
        _diff(1, "$.a.b", _ONE),  # a member of a number
        _diff(0, "$", _ONE),  # a path of the root only
        _diff(0, "$.a", b""),
        _diff(3, "$.a", _ONE),
        _diff(0, "$.*", _ONE),
        _diff(0, "$.a", _ONE)[:-1],
        b"\x00",
    ],
)  # fmt: skip
def test_differences_that_do_not_apply_are_errors(diffs: bytes) -> None:
    with pytest.raises(ValueError, match=r"JSON|expected"):
        apply_diffs(_SMALL, diffs)
