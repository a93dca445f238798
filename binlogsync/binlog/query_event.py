"""Parses a statement event: text, current database and status variables.

A status variable is a code and a value whose size depends on the code, so the variables after an unknown code cannot be
read. Sources: Query_event_status_vars in libs/mysql/binlog/event/statement_events.h of MySQL 9.7, and Q_..._CODE in
sql/log_event.h of MariaDB 11.8.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from binlogsync.binlog.bytes import ByteReader
from binlogsync.binlog.charsets import BINARY, charset_of
from binlogsync.binlog.events import EXECUTE_LOAD_QUERY, QUERY, QUERY_COMPRESSED
from binlogsync.binlog.mariadb_compression import decompress_record
from binlogsync.binlog.types.text import UTF8_CHARSETS, decode_text

log = logging.getLogger(__name__)

SQL_MODE, CHARSET, GTID_FLAGS = 1, 4, 130
_START_ALTER, _COMMIT_ALTER, _ROLLBACK_ALTER = 2, 4, 8  # of GTID_FLAGS


def _fixed(size: int) -> Callable[[ByteReader], bytes]:
    return lambda reader: reader.string(size)


def _texts(count: int) -> Callable[[ByteReader], bytes]:
    """Strings, each with a length of one byte."""
    return lambda reader: b"".join(reader.string(reader.integer(1)) for _ in range(count))


def _catalog_with_end(reader: ByteReader) -> bytes:
    return reader.string(reader.integer(1) + 1)


def _database_names(reader: ByteReader) -> bytes:
    """Zero-terminated names; a count of 254 means that there are too many to list."""
    count, names = reader.integer(1), b""
    for _ in range(0 if count == 254 else count):
        while (byte := reader.string(1)) != b"\0":
            names += byte
    return names


def _collations(reader: ByteReader) -> bytes:
    """Pairs of a character set and its default collation."""
    return reader.string(4 * reader.integer(1))


def _gtid_flags(reader: ByteReader) -> bytes:
    """Flags; the event that ends a two-phase ALTER also has the number of the transaction that started it."""
    flags = reader.string(1)
    return flags + (reader.string(8) if flags[0] & (_COMMIT_ALTER | _ROLLBACK_ALTER) else b"")


_READERS: Mapping[int, tuple[str, Callable[[ByteReader], bytes]]] = {
    0: ("FLAGS2", _fixed(4)),
    SQL_MODE: ("SQL_MODE", _fixed(8)),
    2: ("CATALOG", _catalog_with_end),
    3: ("AUTO_INCREMENT", _fixed(4)),
    CHARSET: ("CHARSET", _fixed(6)),
    5: ("TIME_ZONE", _texts(1)),
    6: ("CATALOG_NZ", _texts(1)),
    7: ("LC_TIME_NAMES", _fixed(2)),
    8: ("CHARSET_DATABASE", _fixed(2)),
    9: ("TABLE_MAP_FOR_UPDATE", _fixed(8)),
    10: ("MASTER_DATA_WRITTEN", _fixed(4)),
    11: ("INVOKER", _texts(2)),
    12: ("UPDATED_DB_NAMES", _database_names),
    13: ("MICROSECONDS", _fixed(3)),
    14: ("COMMIT_TS", _fixed(8)),
    15: ("COMMIT_TS2", _fixed(8)),
    16: ("EXPLICIT_DEFAULTS_FOR_TIMESTAMP", _fixed(1)),
    17: ("DDL_LOGGED_WITH_XID", _fixed(8)),
    18: ("DEFAULT_COLLATION_FOR_UTF8MB4", _fixed(2)),
    19: ("SQL_REQUIRE_PRIMARY_KEY", _fixed(1)),
    20: ("DEFAULT_TABLE_ENCRYPTION", _fixed(1)),
    128: ("HRNOW", _fixed(3)),
    129: ("XID", _fixed(8)),
    GTID_FLAGS: ("GTID_FLAGS3", _gtid_flags),
    131: ("CHARACTER_SET_COLLATIONS", _collations),
}
"""By code: the name of the status variable in the server, and the function that reads its value."""


@dataclass(slots=True)
class _Status:
    """The values by code, and the first unknown code."""

    values: dict[int, bytes] = field(default_factory=dict)
    unknown: int | None = None


@dataclass(frozen=True, slots=True)
class QueryEvent:
    """A statement as logged.

    Attributes:
        database: the current database.
        sql: the text. U+FFFD replaces bytes that are invalid in the character set of the client, as in `_binary'...'`;
            such a text is not exact.
        sql_mode: SQL mode of the session, as a number; None when the event does not contain it.
        recodes_literals: True when the session converted non-ASCII string literals to another character set
            (character_set_connection), so that their value may differ from the text.
        takes_effect: False for the start of an ALTER that MariaDB logs in two phases, and for one that was rolled back.
    """

    database: str
    sql: str
    sql_mode: int | None = None
    takes_effect: bool = True
    recodes_literals: bool = False


def parse_query(body: bytes, kind: int = QUERY) -> QueryEvent:
    """Parse the body of a statement event of type `kind`. Raises ValueError, also when the character set of the text is
    unknown.
    """
    reader = ByteReader(body)
    reader.string(8)
    database_size = reader.integer(1)
    reader.integer(2)
    status_size = reader.integer(2)
    if kind == EXECUTE_LOAD_QUERY:
        reader.string(13)  # file id, offsets of the file name in the text, handling of duplicates
    status = _read_status(reader.string(status_size))
    database = reader.string(database_size).decode()
    reader.integer(1)
    sql = decompress_record(reader.rest()) if kind == QUERY_COMPRESSED else reader.rest()
    mode, flags = status.values.get(SQL_MODE), status.values.get(GTID_FLAGS, b"\0")[0]
    return QueryEvent(
        database,
        _decode_statement(sql, _client_charset(status, sql)),
        None if mode is None else int.from_bytes(mode, "little"),
        not flags & (_START_ALTER | _ROLLBACK_ALTER),
        _recodes_literals(status),
    )


def _read_status(data: bytes) -> _Status:
    reader, status = ByteReader(data), _Status()
    while reader.left:
        code = reader.integer(1)
        if code not in _READERS:
            status.unknown = code
            if CHARSET in status.values:
                _warn_once(code)
            break
        status.values[code] = _READERS[code][1](reader)
    return status


_warned: set[int] = set()


def _warn_once(code: int) -> None:
    if code not in _warned:
        _warned.add(code)
        log.warning(
            "statements in the binlog have a status variable with code %d that this version does not know; it follows "
            "the character set and the sql_mode, so their texts are exact; install a newer version of binlogsync",
            code,
        )


def _client_charset(status: _Status, sql: bytes) -> str:
    """The character set of the statement's text; utf8mb4 when the event does not contain it."""
    value = status.values.get(CHARSET)
    if value is not None:
        return charset_of(int.from_bytes(value[:2], "little"))
    if status.unknown is not None and not sql.isascii():
        raise ValueError(
            f"a statement has a status variable with code {status.unknown} that this version does not know, and the "
            "character set of its text may follow it; install a newer version of binlogsync"
        )
    return "utf8mb4"


def _recodes_literals(status: _Status) -> bool:
    value = status.values.get(CHARSET)
    if value is None:
        return False
    client, connection = (charset_of(int.from_bytes(part, "little")) for part in (value[:2], value[2:4]))
    return client != connection or client == BINARY


# Text that the server generates, as SHOW CREATE TABLE prints it, is UTF-8 regardless of the client's character set.
_GENERATED = re.compile(rb"CREATE (?:OR REPLACE )?(?:TEMPORARY )?TABLE (?:IF NOT EXISTS )?[^(\n]* \(\n  [`\"]")
_QUOTED = re.compile(rb"`(?:[^`]|``)*`|'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\"", re.DOTALL)


def _decode_statement(sql: bytes, charset: str) -> str:
    if sql.isascii() and charset != "swe7":
        return sql.decode("ascii")
    if charset in UTF8_CHARSETS or charset == BINARY:
        return sql.decode("ascii" if charset == "ascii" else "utf-8", "replace")
    if _GENERATED.match(sql) and not sql.isascii():
        with suppress(ValueError):  # not UTF-8: a client sent a statement in the same format
            return sql.decode()
    if charset == "swe7":
        return _decode_swe7(sql)
    return "".join(_characters(sql, charset))


def _decode_swe7(sql: bytes) -> str:
    """swe7 replaces some ASCII signs by letters. They are letters only in names and literals: the syntax is ASCII."""
    pieces, at = [], 0
    for quoted in _QUOTED.finditer(sql):
        begin, end = quoted.span()
        inside = decode_text(sql[begin + 1 : end - 1].replace(b"\\", b"\0"), "swe7").replace("\0", "\\")
        pieces += [sql[at : begin + 1].decode("ascii", "replace"), inside, chr(sql[end - 1])]
        at = end
    return "".join(pieces) + sql[at:].decode("ascii", "replace")


def _characters(sql: bytes, charset: str) -> Iterator[str]:
    """Decode character by character. U+FFFD replaces invalid bytes, and bytes that decode to an ASCII sign, which would
    change the syntax.
    """
    at = 0
    while at < len(sql):
        size, character = 1, chr(sql[at])
        if sql[at] >= 0x80:
            size, character = next(_readings(sql[at : at + 4], charset), (1, "\ufffd"))
        at += size
        yield character


def _readings(data: bytes, charset: str) -> Iterator[tuple[int, str]]:
    """(number of bytes, character) for each character that the bytes may begin with, shortest first."""
    for size in range(1, len(data) + 1):
        if size > 1 and data[size - 1] < 0x30:
            return
        with suppress(ValueError):
            text = decode_text(data[:size], charset)
            yield size, "\ufffd" if text.isascii() else text
