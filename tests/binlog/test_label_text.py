"""Labels of ENUM and SET whose bytes may be invalid: what SELECT returns, or the bytes in hexadecimal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from binlogsync.binlog.types.label_text import decode_label
from binlogsync.snapshot.view import read_table
from tests.binlog.dump import DecodedDump, config_of, end_of_log, record
from tests.databases import FreshDatabase

_SURROGATES = "d83d de00 d83dde00 d83d61 dcdcf7 d53700850061dca4 00f01e d8dc00d800dcdcd8 3dd800de d800 d8d8 61d8"
_WIDE = "00110000 0010ffff 001fffff 00200000 610000dc 0000d800 000020ac 000020ac00 00000061 d861 6768696a6b"
_UTF8 = "c3b6 e282ac f09f9880 c3 e282 f09f98 f6 c328 e08080 eda080 08d8de d8d8e4b4 a661a800 90dfd8009580 61dc e261"
_CJK = "93fa967b 93fa96 b0a1f7fe b0a1f7 8140fea0 814030 8130 81308130 61d8 8ea68fb0a1 8fb0 d861 ff a440f9d6"
_LABELS = [bytes.fromhex(text) for text in f"61 6263 646566 6768696a {_SURROGATES} {_WIDE} {_UTF8} {_CJK}".split()]
_SETS = (
    *("ascii", "big5", "cp932", "eucjpms", "euckr", "gb18030", "gb2312", "gbk", "greek", "latin1", "sjis", "swe7"),
    *("ucs2", "ujis", "utf16", "utf16le", "utf32", "utf8mb3", "utf8mb4"),
)
_ALWAYS_KNOWN = {"ascii", "greek", "latin1", "swe7", "utf16", "utf16le"}


@dataclass(frozen=True)
class _Server:
    database: FreshDatabase
    mariadb: bool


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.server) for name in ("mysql", "mariadb")])
def server(request: pytest.FixtureRequest) -> _Server:
    database: FreshDatabase = request.getfixturevalue(request.param)
    database.execute("SET SESSION sql_mode = ''")
    return _Server(database, request.param == "mariadb")


def _selected(server: _Server, charset: str) -> list[bytes]:
    """The bytes that SELECT returns for each label when the column has character set `charset`."""
    kind = "CHARACTER SET latin1 COLLATE latin1_bin"
    with server.database.server.connect(
        database=server.database.name, charset="latin1", use_unicode=False
    ) as connection:
        cursor = connection.cursor()
        literals = [label.decode("latin1").replace("\\", "\\\\").replace("\0", "\\0") for label in _LABELS]
        columns = ", ".join(f"c{k} ENUM('{literal}') {kind}" for k, literal in enumerate(literals))
        cursor.execute(f"CREATE TABLE {charset} ({columns}) {kind}".encode("latin1"))
        cursor.execute(f"ALTER TABLE {charset} CONVERT TO CHARACTER SET {charset}")
        cursor.execute(f"INSERT INTO {charset} VALUES ({', '.join('1' * len(_LABELS))})")
        cursor.execute("SET NAMES utf8mb4")
        cursor.execute(f"SELECT * FROM {charset}")
        row: tuple[Any, ...] = cursor.fetchone() or ()
    return list(row)


def test_a_label_of_any_bytes_is_what_select_returns_or_invalid(server: _Server) -> None:
    refused: dict[str, int] = {}
    for charset in _SETS:
        if charset == "gb18030" and server.mariadb:
            continue
        for label, selected in zip(_LABELS, _selected(server, charset), strict=True):
            text = decode_label(label, charset, mariadb=server.mariadb)
            if text is not None:
                assert text.encode() == selected, (charset, label)
                continue
            refused[charset] = refused.get(charset, 0) + 1
            if charset in ("ucs2", "utf32", "utf8mb3", "utf8mb4"):
                with pytest.raises(UnicodeDecodeError):
                    selected.decode()
    assert not set(refused) & _ALWAYS_KNOWN
    assert all(count < len(_LABELS) - 4 for count in refused.values())  # at least those in ASCII are converted


def _converted(database: FreshDatabase, kind: str, before: str, after: str) -> DecodedDump:
    """Insert a row for every label, in order, into the table t, and decode the log."""
    count = kind.count(",") + 1
    database.execute(f"CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, e {kind}) CHARACTER SET {before}")
    start = end_of_log(database.server)
    database.execute(f"ALTER TABLE t CONVERT TO CHARACTER SET {after}")
    for k in range(count):
        database.execute(f"INSERT INTO t (e) VALUES ({k + 1 if kind.startswith('ENUM') else 1 << k})")
    done = record(database.server, start, lambda name, table: name == database.name).decoded()
    assert done.error is None
    return done


@pytest.mark.parametrize("kind", ["ENUM('bc','\u00f6','def','ghij')", "SET('bc','\u00f6','def','ghij')"])
@pytest.mark.parametrize("charsets", [("utf8mb4", "utf16"), ("utf8mb4", "ascii"), ("utf16", "latin1")])
def test_rows_of_a_converted_table_are_what_select_returns(
    server: _Server, kind: str, charsets: tuple[str, str]
) -> None:
    done = _converted(server.database, kind, *charsets)
    expected = [text for (text,) in server.database.execute("SELECT e FROM t ORDER BY id")]
    values = [change.after and change.after["e"] for change in done.changes]
    assert values == [text if kind.startswith("ENUM") else [text] for text in expected]
    assert len(values) == 4


@pytest.mark.parametrize("kind", ["ENUM('a','\u00f6','b')", "SET('a','\u00f6','b')"])
def test_a_label_that_became_invalid_is_delivered_as_its_bytes(server: _Server, kind: str) -> None:
    done = _converted(server.database, kind, "latin1", "utf8mb4")
    labels = ["a", "x'f6'", "b"]
    assert [change.after and change.after["e"] for change in done.changes] == (
        labels if kind.startswith("ENUM") else [[label] for label in labels]
    )


_MADE: tuple[tuple[str, tuple[str, ...], tuple[object, ...]], ...] = (  # declaration, numbers, what stands for them
    ("ENUM(0xFFFF,'b','x')", ("1", "2", "NULL"), ("x'ffff'", "b", None)),
    ("ENUM(0xFFFF,'b','?','') CHARACTER SET binary", ("1", "3", "4"), ("x'ffff'", "?", "")),
    ("ENUM('\u00e4','b?') CHARACTER SET latin1", ("1", "2", "NULL"), ("\u00e4", "b?", None)),
    ("ENUM('\u00e4','b?') CHARACTER SET utf16", ("1", "2", "NULL"), ("\u00e4", "b?", None)),
    ("ENUM(0xFF,'b') CHARACTER SET gbk", ("1", "2", "NULL"), ("x'ff'", "b", None)),
    ("SET(0xFFFF,'b','c')", ("7", "2", "0"), (["x'ffff'", "b", "c"], ["b"], [])),
    ("SET('a?','\u00e4') CHARACTER SET utf16le", ("3", "2", "NULL"), (["a?", "\u00e4"], ["\u00e4"], None)),
    ("SET('a?','b') CHARACTER SET utf32", ("3", "2", "0"), (["a?", "b"], ["b"], [])),
)


def test_labels_as_bytes_are_equal_in_the_log_and_in_a_snapshot(server: _Server) -> None:
    database = server.database
    database.execute("SET NAMES utf8mb4")
    columns = ", ".join(f"c{k} {ddl}" for k, (ddl, _, _) in enumerate(_MADE))
    database.execute(f"CREATE TABLE t (id INT PRIMARY KEY, {columns}, n INT) CHARACTER SET utf8mb4")
    start = end_of_log(database.server)
    for row in range(3):
        database.execute(f"INSERT INTO t VALUES ({row}, {', '.join(numbers[row] for _, numbers, _ in _MADE)}, -1)")
    wanted = [
        {"id": row, **{f"c{k}": texts[row] for k, (_, _, texts) in enumerate(_MADE)}, "n": -1} for row in range(3)
    ]
    done = record(database.server, start, lambda name, _: name == database.name).decoded()
    assert done.error is None
    assert [change.after for change in done.changes] == wanted
    with read_table(config_of(database.server), database.name, "t") as snapshot:
        assert [change.after for batch in snapshot.batches() for change in batch.changes()] == wanted


def test_labels_of_binary_columns_with_minimal_metadata(mysql: FreshDatabase) -> None:
    mysql.execute("SET GLOBAL binlog_row_metadata = MINIMAL")
    mysql.execute("CREATE TABLE t (e ENUM(0xFFFF, 'b') CHARACTER SET binary)")
    start = end_of_log(mysql.server)
    mysql.execute("INSERT INTO t VALUES (1), (2)")
    done = record(mysql.server, start, lambda name, _: name == mysql.name).decoded()
    mysql.execute("SET GLOBAL binlog_row_metadata = FULL")
    assert done.error is None
    assert [change.after for change in done.changes] == [{"e": "x'ffff'"}, {"e": "b"}]
