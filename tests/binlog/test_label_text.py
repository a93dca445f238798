"""Labels of ENUM and SET after ALTER TABLE ... CONVERT TO CHARACTER SET: what SELECT returns, or a clear stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from binlogsync.binlog.types.label_text import decode_label
from tests.binlog.dump import Decoded, end_of_log, record
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


@pytest.fixture(params=["mysql", "mariadb"])
def server(request: pytest.FixtureRequest) -> _Server:
    database: FreshDatabase = request.getfixturevalue(request.param)
    database.execute("SET SESSION sql_mode = ''")
    return _Server(database, request.param == "mariadb")


def _selected(server: _Server, charset: str) -> list[bytes]:
    """What SELECT returns for each of the labels when its bytes are called `charset`; bytes as a client gets them."""
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


def test_a_label_in_any_bytes_is_what_select_returns_or_known_not_to_be_text(server: _Server) -> None:
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
    assert all(count < len(_LABELS) - 4 for count in refused.values())  # those in ASCII at the least are known


def _converted(database: FreshDatabase, kind: str, before: str, after: str) -> tuple[list[str], Decoded]:
    """What SELECT returns of every label, in order, and what the log does."""
    count = kind.count(",") + 1
    database.execute(f"CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, e {kind}) CHARACTER SET {before}")
    start = end_of_log(database.server)
    database.execute(f"ALTER TABLE t CONVERT TO CHARACTER SET {after}")
    for k in range(count):
        database.execute(f"INSERT INTO t (e) VALUES ({k + 1 if kind.startswith('ENUM') else 1 << k})")
    done = record(database.server, start, lambda name, table: name == database.name).decoded()
    return [text for (text,) in database.execute("SELECT e FROM t ORDER BY id")] if not done.error else [], done


@pytest.mark.parametrize("kind", ["ENUM('bc','\u00f6','def','ghij')", "SET('bc','\u00f6','def','ghij')"])
@pytest.mark.parametrize("charsets", [("utf8mb4", "utf16"), ("utf8mb4", "ascii"), ("utf16", "latin1")])
def test_rows_of_a_converted_table_are_what_select_returns(
    server: _Server, kind: str, charsets: tuple[str, str]
) -> None:
    expected, done = _converted(server.database, kind, *charsets)
    assert done.error is None
    values = [change.after and change.after["e"] for change in done.changes]
    assert values == [text if kind.startswith("ENUM") else [text] for text in expected]
    assert len(values) == 4


@pytest.mark.parametrize("kind", ["ENUM('a','\u00f6','b')", "SET('a','\u00f6','b')"])
def test_a_label_that_is_no_text_any_more_stops_only_its_rows(server: _Server, kind: str) -> None:
    _, done = _converted(server.database, kind, "latin1", "utf8mb4")
    assert [change.after and change.after["e"] for change in done.changes] in (["a"], [["a"]])
    assert done.error is not None
    assert (done.error.table, done.error.column) == (f"{server.database.name}.t", "e")
    assert "label 2 are no text in utf8mb4" in str(done.error)
    assert "MODIFY" in str(done.error)
