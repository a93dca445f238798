"""mysql-replication as a second oracle: its values of the same rows, converted to the same texts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.row_event import WriteRowsEvent

from binlogsync.position import BinlogPosition
from binlogsync.servers.database import DatabaseServer
from tests.binlog.exact.type_sample import TypeSample
from tests.binlog.exact.value_kinds import KINDS

Values = dict[int, Any]
"""The column `v` of a table's rows, by id."""


def inserts(server: DatabaseServer, start: BinlogPosition, database: str, *, mariadb: bool) -> dict[str, Values | str]:
    """The inserted values by table, or the name of the exception that mysql-replication raised."""
    stream = BinLogStreamReader(
        connection_settings={
            "host": server.host,
            "port": server.port,
            "user": server.cdc_user,
            "password": server.cdc_password,
            "ssl_disabled": True,
        },
        server_id=4_000_000_001,
        log_file=start.file,
        log_pos=start.pos,
        resume_stream=True,
        blocking=False,
        only_events=[WriteRowsEvent],
        only_schemas=[database],
        is_mariadb=mariadb,
        enable_logging=False,
    )
    try:
        found: dict[str, Values | str] = {}
        for table, rows in _tables(stream):
            known = found.setdefault(table, {})
            if isinstance(rows, str) or isinstance(known, str):
                found[table] = rows if isinstance(rows, str) else known
            else:
                known.update(rows)  # by id: it reads some events twice when it reconnects
        return found
    finally:
        stream.close()


def _tables(stream: BinLogStreamReader) -> Iterator[tuple[str, Values | str]]:
    while True:
        try:
            event = stream.fetchone()
        except (ValueError, TypeError, LookupError, NotImplementedError):
            continue  # a TABLE_MAP that it cannot parse; it then drops the rows without an error
        if event is None:
            return
        try:
            yield event.table, {row["values"]["id"]: row["values"]["v"] for row in event.rows}
        except Exception as error:  # noqa: BLE001 - it raises many types
            yield event.table, type(error).__name__


def texts(sample: TypeSample, values: Values | str) -> list[str | None] | str:
    """The canonical texts by id, or the name of an exception when the values cannot be converted."""
    if isinstance(values, str):
        return values
    read = _READERS.get(sample.kind, KINDS[sample.kind].row)
    try:
        return [None if value is None else read(value, sample.fsp) for _, value in sorted(values.items())]
    except Exception as error:  # noqa: BLE001 - a value of another type than the column's
        return type(error).__name__


def _members(value: Any, fsp: int) -> str:
    return ",".join(sorted(value))


_READERS: Mapping[str, Callable[[Any, int], str]] = {
    "bit": lambda value, fsp: str(int(value, 2)),
    "set": _members,
    "geometry": lambda value, fsp: value.hex().upper(),
    "json": lambda value, fsp: json.dumps(value, sort_keys=True),
}


def expected(sample: TypeSample, selected: Sequence[str | None]) -> list[str | None]:
    """The texts that SELECT returned, in the same form: sets sorted, JSON documents normalized."""
    if sample.kind == "set":
        return [None if text is None else ",".join(sorted(text.split(","))) for text in selected]
    wired = KINDS[sample.kind].wired
    return [None if text is None else wired(text) if sample.kind == "json" else text for text in selected]


WRONG: Mapping[str, tuple[str, ...]] = {
    "an empty string is str, not bytes; BINARY is without its trailing zeros": (
        "BINARY*", "VARBINARY(*)", "TINYBLOB", "BLOB", "MEDIUMBLOB", "LONGBLOB", "VARCHAR(30) CHARACTER SET binary",
    ),
    "the empty SET is None": ("SET(*", "SET of*"),
    "the year 0000 is 1900": ("YEAR",),
    "zero and impossible dates raise, or are None": ("DATE", "DATETIME(*)"),
    "the zero TIMESTAMP is 1970": ("TIMESTAMP(*)",),
    "negative fractions of TIME are counted from the wrong end": tuple(f"TIME({fsp})" for fsp in range(1, 7)),
    "an opaque value of JSON raises": ("JSON",),
    "VECTOR raises, or its bytes are taken for text": ("VECTOR*",),
    "labels are read as UTF-8": ("ENUM('ä','ü','e') CHARACTER SET latin1",),
    "latin1 is decoded as Python's cp1252, in which five characters are missing": (
        "*CHAR(*) CHARACTER SET latin1", "*TEXT CHARACTER SET latin1",
    ),
    "a byte without a character raises": tuple(
        f"VARCHAR(4) CHARACTER SET {charset}" for charset in ("cp1250", "cp1251", "cp1257", "greek", "hebrew", "tis620")
    )
    + tuple(f"CHAR(60) CHARACTER SET {charset}" for charset in ("greek", "hebrew", "tis620")),
    "some characters are others": (
        "* CHARACTER SET cp1256", "VARCHAR(4) CHARACTER SET cp866", "VARCHAR(4) CHARACTER SET koi8u",
        "* CHARACTER SET sjis", "* CHARACTER SET gb18030",
    ),
    "some characters raise": tuple(f"* CHARACTER SET {charset}" for charset in ("big5", "gbk", "euckr", "ujis")),
    "the bytes are in the wrong order": ("* CHARACTER SET utf16", "* CHARACTER SET utf32"),
    "Python has no such character set, and the bytes are left as they are": tuple(
        f"* CHARACTER SET {charset}"
        for charset in ("armscii8", "dec8", "geostd8", "hp8", "keybcs2", "macce", "swe7", "eucjpms", "ucs2", "utf16le")
    ),
    "temporal columns of before MariaDB 10.1 have other bytes": ("old *",),
    "they are bytes without their zeros": ("UUID", "INET4", "INET6"),
    "compressed columns raise": ("* COMPRESSED*",),
}  # fmt: skip
"""Its wrong results, and the samples that show them; the values of all other samples are correct."""


def is_wrong(sample: TypeSample) -> bool:
    """True when WRONG lists the sample."""
    return any(fnmatchcase(sample.name, pattern) for patterns in WRONG.values() for pattern in patterns)
