"""Logged statements: text in every character set that a client can have, and every status variable.

The servers are the oracle: each statement is sent in the character set of the client, and has to be decoded to the same
text, for the table that it names.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

import pymysql
import pytest

from binlogsync.binlog.query_event import parse_query
from binlogsync.change import SchemaChange
from tests.binlog.binlog_builder import BinlogBuilder
from tests.binlog.dump import DecodedDump, end_of_log, record
from tests.databases import FreshDatabase

_LETTERS = "ßöéłčșĢЖяїΩאبغ֏ა名字表テソ能ﾀ仼한글丂ĳกա"
_NO_LETTERS = frozenset({"ascii"})


@pytest.fixture(params=["mysql", "mariadb", pytest.param("mariadb_10", marks=pytest.mark.exhaustive)])
def database(request: pytest.FixtureRequest) -> Iterator[FreshDatabase]:
    """A database on each server."""
    found: FreshDatabase = request.getfixturevalue(request.param)
    yield found
    found.execute("SET NAMES utf8mb4")


def _client_charsets(database: FreshDatabase) -> list[str]:
    names = [
        str(row[0]) for row in database.execute("SELECT CHARACTER_SET_NAME FROM INFORMATION_SCHEMA.CHARACTER_SETS")
    ]
    usable = []
    for name in names:
        try:
            database.execute(f"SET NAMES {name}")
        except pymysql.Error:
            continue
        if name != "binary":
            usable.append(name)
    database.execute("SET NAMES utf8mb4")
    return usable


def _letters_of(database: FreshDatabase, charset: str) -> dict[str, bytes]:
    """Letters of the character set, and their bytes in it, as converted by the server."""
    database.execute("SET NAMES utf8mb4")
    converted = [f"CONVERT('{letter}' USING {charset})" for letter in _LETTERS]
    [codes] = database.execute(f"SELECT {', '.join(f'HEX({c}), CONVERT({c} USING utf8mb4)' for c in converted)}")
    pairs = zip(_LETTERS, codes[::2], codes[1::2], strict=True)
    return {letter: bytes.fromhex(str(code)) for letter, code, back in pairs if back == letter and code != "60"}


def _done(database: FreshDatabase, start: object) -> DecodedDump:
    done = record(database.server, start, lambda name, _: name == database.name).decoded()  # type: ignore[arg-type]
    assert done.error is None, done.error
    return done


def _statements(done: DecodedDump) -> list[SchemaChange]:
    return [change for decoded_range in done.ranges for change in decoded_range.schema_changes]


_FORMS = (
    "CREATE TABLE `{}` (id INT, e ENUM('{}', 'b') CHARACTER SET utf8mb4 DEFAULT '{}')",
    "ALTER TABLE `{}` ADD COLUMN `c{}` ENUM('{}', 'b') CHARACTER SET utf8mb4 DEFAULT '{}'",
    "CREATE TABLE `a{}` LIKE `{}`",
    "RENAME TABLE `a{}` TO `b{}`",
    "TRUNCATE TABLE `{}`",
)
_GENERATED = (  # statements for which the server logs generated text
    "CREATE TABLE `d{}` AS SELECT * FROM `{}`",
    "DROP TABLE IF EXISTS `{}`, `b{}`",
    "DROP TABLE `d{}`",
)


@pytest.mark.server
def test_text_is_exact_for_every_client_character_set(database: FreshDatabase) -> None:
    charsets = _client_charsets(database)
    assert {"latin1", "cp1251", "sjis", "gbk", "big5", "ujis", "euckr", "utf8mb4"} <= set(charsets)
    start = end_of_log(database.server)
    sent: list[str] = []
    names: list[set[str]] = []
    for charset in charsets:
        letters = _letters_of(database, charset)
        assert letters or charset in _NO_LETTERS, charset
        word = "x" + "".join(letters)
        code = b"x" + b"".join(letters.values())
        database.execute(f"SET NAMES {charset}")
        for form in (*_FORMS, *_GENERATED):
            database.connection.query(form.encode().replace(b"{}", code))
            sent.append(form.replace("{}", word))
            names.append({prefix + word for prefix in ("", "a", "b", "d")})
    database.execute("SET NAMES utf8mb4")
    arrived = _statements(_done(database, start))
    assert len(arrived) == len(sent)
    for change, text, known in zip(arrived, sent, names, strict=True):
        if text.startswith(tuple(form[:8] + form[8:].split("{")[0] for form in _GENERATED)):
            assert {table for _, table in change.tables} <= known, (text, change.sql)
        else:
            assert change.sql == text
        assert change.sql_mode is not None
        assert "\ufffd" not in change.sql


@pytest.mark.server
def test_a_statement_that_depends_on_default_collations_is_read(mariadb: FreshDatabase) -> None:
    """MariaDB 11.3 and newer logs them before the character set."""
    start = end_of_log(mariadb.server)
    mariadb.execute("SET character_set_collations = 'latin1=latin1_bin,utf8mb4=utf8mb4_bin', sql_mode = ANSI_QUOTES")
    mariadb.execute("SET NAMES latin1")
    text = "CREATE TABLE \"straße\" (e ENUM('größe') CHARACTER SET utf8mb4)"
    mariadb.connection.query(text.encode("latin1"))
    [change] = _statements(_done(mariadb, start))
    assert (change.sql, change.tables) == (text, ((mariadb.name, "straße"),))
    assert change.sql_mode == 4


@pytest.mark.server
def test_invalid_bytes_are_marked(database: FreshDatabase) -> None:
    start = end_of_log(database.server)
    for charset in ("utf8mb4", "sjis", "latin1"):
        database.execute(f"SET NAMES {charset}")
        database.connection.query(b"CREATE TABLE t (a VARBINARY(3) DEFAULT _binary'\xfe\xff', b INT)")
        database.connection.query(b"DROP TABLE t")
    created = [change.sql for change in _statements(_done(database, start)) if change.kind == "create"]
    text = "CREATE TABLE t (a VARBINARY(3) DEFAULT _binary'{}', b INT)"
    assert [re.sub("\ufffd+", "\ufffd", sql) for sql in created] == [text.format("\ufffd")] * 2 + [text.format("þÿ")]


@pytest.mark.server
def test_an_alter_in_two_phases_counts_where_it_takes_effect(mariadb: FreshDatabase) -> None:
    start = end_of_log(mariadb.server)
    mariadb.execute("SET binlog_alter_two_phase = 1")
    mariadb.execute("CREATE TABLE t (a INT)")
    mariadb.execute("INSERT INTO t VALUES (1), (1)")
    mariadb.execute("ALTER TABLE t ADD b INT, ALGORITHM=COPY")
    with pytest.raises(pymysql.err.IntegrityError):
        mariadb.execute("ALTER TABLE t ADD UNIQUE (a), ALGORITHM=COPY")
    mariadb.execute("ALTER TABLE t RENAME TO u")
    done = _done(mariadb, start)
    kinds = [(change.kind, change.sql) for change in _statements(done)]
    assert kinds == [
        ("create", "CREATE TABLE t (a INT)"),
        ("alter", "ALTER TABLE t ADD b INT, ALGORITHM=COPY"),
        ("rename", "ALTER TABLE t RENAME TO u"),
    ]
    executed = done.ranges[-1].checkpoint.gtids
    assert executed is not None
    assert executed == end_of_log(mariadb.server).gtids


def _query_body(status: bytes, sql: bytes, database: bytes = b"d") -> bytes:
    head = bytes(8) + bytes([len(database)]) + bytes(2) + len(status).to_bytes(2, "little")
    return head + status + database + b"\0" + sql


_LATIN1, _MODE = bytes([4, 8, 0, 8, 0, 8, 0]), bytes([1, 4, 0, 0, 0, 0, 0, 0, 0])
_VALUES = {
    0: bytes(4), 1: bytes(8), 2: b"\3std\0", 3: bytes(4), 5: b"\6+00:00", 6: b"\3std", 7: bytes(2), 8: bytes(2),
    9: bytes(8), 10: bytes(4), 11: b"\4root\1%", 12: b"\2a\0bc\0", 13: bytes(3), 14: bytes(8), 15: bytes(8), 16: b"\1",
    17: bytes(8), 18: bytes(2), 19: b"\0", 20: b"\0", 128: bytes(3), 129: bytes(8), 130: b"\4" + bytes(8),
    131: b"\2" + bytes(8),
}  # fmt: skip


@pytest.mark.parametrize("code", [*_VALUES, -12])
def test_each_status_variable_is_skipped(code: int) -> None:
    value = b"\xfe" if code == -12 else _VALUES[code]  # too many databases to list
    status = bytes([abs(code)]) + value + _LATIN1 + _MODE
    query = parse_query(_query_body(status, "DROP TABLE straße".encode("latin1")))
    assert (query.database, query.sql, query.sql_mode) == ("d", "DROP TABLE straße", 4)
    assert query.takes_effect


def test_an_unknown_status_variable_that_may_hide_the_character_set_is_an_error() -> None:
    script = BinlogBuilder().gtid(1)
    script.add(2, _query_body(bytes([77, 1]) + _LATIN1, "DROP TABLE straße".encode("latin1")))
    done = script.decoded()
    assert done.error is not None
    assert "status variable with code 77" in str(done.error)
    assert "newer version" in str(done.error)


def test_an_unknown_status_variable_does_not_stop_text_that_is_the_same_in_all_sets() -> None:
    query = parse_query(_query_body(bytes([77, 1]) + _LATIN1 + _MODE, b"DROP TABLE t"))
    assert (query.sql, query.sql_mode) == ("DROP TABLE t", None)


def test_an_unknown_status_variable_after_the_character_set_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            query = parse_query(_query_body(_MODE + _LATIN1 + bytes([78, 1]), "DROP TABLE ß".encode("latin1")))
            assert (query.sql, query.sql_mode) == ("DROP TABLE ß", 4)
    assert [record.args for record in caplog.records] == [(78,)]


def test_a_truncated_status_variable_is_an_error() -> None:
    for code, value in {**_VALUES, 4: bytes(6)}.items():
        with pytest.raises(ValueError, match="expected"):
            parse_query(_query_body(bytes([code]) + value[:-1], b"DROP TABLE t"))
