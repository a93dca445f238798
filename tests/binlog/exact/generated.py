"""Generated values, including limits: for each family a column type and a strategy for SQL literals."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from datetime import timedelta

from hypothesis import strategies as st

from tests.binlog.exact.type_sample import ALL, MARIADB, MARIADB_10, MYSQL, TypeSample
from tests.binlog.exact.value_kinds import time_text

Generated = tuple[TypeSample, st.SearchStrategy[str]]
_WIDTH = 9  # columns of a table: hypothesis has about 8,000 bytes of randomness per example
_CHARACTERS = st.characters(exclude_categories=["Cs"])
_KANJI = st.characters(min_codepoint=0x4E00, max_codepoint=0x4FFF)  # characters that are in all Chinese character sets
_FLOATS = st.floats(-(2.0**127), 2.0**127, width=32, allow_subnormal=False)
_POINTERS = st.floats(-90, 90)


def _column(ddl: str, kind: str, strategy: st.SearchStrategy[str], servers: tuple[str, ...] = ALL) -> Generated:
    return TypeSample(ddl, kind, (), servers), strategy


def _integers(bits: int, *, signed: bool) -> st.SearchStrategy[str]:
    least, most = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return st.integers(least, most).map(str)


def _decimals(digits: int, scale: int) -> st.SearchStrategy[str]:
    return st.integers(-(10**digits) + 1, 10**digits - 1).map(lambda number: _scaled(number, scale))


def _scaled(number: int, scale: int) -> str:
    digits = f"{abs(number):0{scale + 1}}"
    return f"{'-' if number < 0 else ''}{digits[:-scale]}.{digits[-scale:]}"


def _times(fsp: int) -> st.SearchStrategy[str]:
    step = 10 ** (6 - fsp)
    most = 3_020_399 * 10**fsp
    return st.integers(-most, most).map(lambda n: f"'{time_text(timedelta(microseconds=n * step), 6)}'")


def _bytes(most: int) -> st.SearchStrategy[str]:
    return st.binary(max_size=most).map(lambda data: f"x'{data.hex()}'")


def _words(characters: st.SearchStrategy[str], most: int) -> st.SearchStrategy[str]:
    return st.text(characters, max_size=most).map(_utf8)


def _utf8(text: str) -> str:
    return f"_utf8mb4 x'{text.encode().hex()}'"


def _floats_text(form: str) -> st.SearchStrategy[str]:
    doubles = st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)
    return (_FLOATS if form == "f" else doubles).map("{:.17e}".format)


def _wkb(points: Sequence[tuple[float, float]]) -> str:
    head = b"\x01\x02\0\0\0" + len(points).to_bytes(4, "little")
    wkb = head + b"".join(struct.pack("<dd", *point) for point in points)
    return f"ST_GeomFromWKB(x'{wkb.hex()}', 4326)"


_LINES = st.lists(st.tuples(_POINTERS, _POINTERS), min_size=2, max_size=5, unique=True).map(_wkb)
_VECTORS = st.lists(_FLOATS, min_size=3, max_size=3).map(lambda n: f"x'{struct.pack('<3f', *n).hex()}'")
_UUIDS = st.uuids().map(lambda value: f"'{value}'")
_INET6 = st.lists(st.sampled_from([0, 0, 0, 1, 0x10, 0xFFFF]) | st.integers(0, 0xFFFF), min_size=8, max_size=8).map(
    lambda words: "'" + ":".join(f"{word:x}" for word in words) + "'"
)
_DOCUMENTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(_CHARACTERS, max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(_CHARACTERS, max_size=5), inner, max_size=4),
    max_leaves=15,
)

COLUMNS: tuple[Generated, ...] = (
    _column("BIGINT", "integer", _integers(64, signed=True)),
    _column("BIGINT UNSIGNED", "integer", _integers(64, signed=False)),
    _column("INT UNSIGNED", "integer", _integers(32, signed=False)),
    _column("MEDIUMINT", "integer", _integers(24, signed=True)),
    _column("MEDIUMINT UNSIGNED", "integer", _integers(24, signed=False)),
    _column("TINYINT", "integer", _integers(8, signed=True)),
    _column("DOUBLE", "double", _floats_text("d")),
    _column("FLOAT", "float", _floats_text("f")),
    _column("DECIMAL(65,30)", "decimal", _decimals(65, 30)),
    _column("DECIMAL(38,10)", "decimal", _decimals(38, 10)),
    _column("DECIMAL(19,4)", "decimal", _decimals(19, 4)),
    _column("DECIMAL(5,2)", "decimal", _decimals(5, 2)),
    _column("VARCHAR(300)", "text", _words(_CHARACTERS, 40)),
    _column("CHAR(40)", "text", _words(_CHARACTERS.filter(str.isalnum), 40)),
    _column("TEXT CHARACTER SET latin1", "text", st.binary(max_size=40).map(lambda b: f"_latin1 x'{b.hex()}'")),
    _column("TEXT CHARACTER SET utf16", "text", _words(_CHARACTERS, 20)),
    _column("TEXT CHARACTER SET gbk", "text", _words(_KANJI, 20)),
    _column("TEXT CHARACTER SET gb18030", "text", _words(_CHARACTERS, 20), (MYSQL,)),
    _column("VARBINARY(300)", "binary", _bytes(300)),
    _column("BINARY(7)", "binary", _bytes(7)),
    _column("DATE", "date", st.dates().map(lambda day: f"'{day.isoformat()}'")),
    _column("DATETIME(6)", "datetime", st.datetimes().map(lambda moment: f"'{moment.isoformat(' ')}'")),
    _column("TIME(6)", "time", _times(6)),
    _column("TIME(3)", "time", _times(3)),
    _column("TIME(1)", "time", _times(1)),
    _column("TIMESTAMP(6)", "timestamp", st.integers(1, 2**31 - 2).map(lambda n: f"FROM_UNIXTIME({n}.{n % 10**6:06})")),
    _column("YEAR", "year", st.integers(1901, 2155).map(str)),
    _column("BIT(64)", "bit", _integers(64, signed=False)),
    _column("BIT(11)", "bit", _integers(11, signed=False)),
    _column("ENUM('a','b','\u00e4')", "text", st.integers(1, 3).map(str)),
    _column("SET('a','b','c','d','e','f','g','h','i')", "set", st.integers(0, 511).map(str)),
    _column("LINESTRING", "geometry", _LINES),
    _column("VECTOR(3)", "vector", _VECTORS, (MYSQL, MARIADB)),
    _column("JSON", "json", _DOCUMENTS.map(lambda value: _utf8(json.dumps(value))), (MYSQL,)),
    _column("UUID", "address", _UUIDS, (MARIADB, MARIADB_10)),
    _column("INET6", "address", _INET6, (MARIADB, MARIADB_10)),
    _column("TEXT COMPRESSED", "text", _words(_CHARACTERS, 300), (MARIADB, MARIADB_10)),
)
_OLD: tuple[Generated, ...] = tuple(
    (TypeSample(f"{name}({fsp})", name.lower(), (), (MARIADB, MARIADB_10), old=True), strategy)
    for fsp in range(7)
    for name, strategy in (
        ("TIME", _times(fsp)),
        ("DATETIME", st.datetimes().map(lambda moment: f"'{moment.isoformat(' ')}'")),
    )
)


def groups(server: str) -> Iterator[tuple[Generated, ...]]:
    """The columns that a server supports, divided into tables."""
    for columns in (COLUMNS, _OLD):
        own = [column for column in columns if server in column[0].servers]
        yield from (tuple(own[k : k + _WIDTH]) for k in range(0, len(own), _WIDTH))


def rows_of(columns: Sequence[Generated], count: int) -> st.SearchStrategy[list[list[str]]]:
    """A strategy for rows, with NULLs in any column."""
    row = st.tuples(*(st.just("NULL") | strategy for _, strategy in columns)).map(list)
    return st.lists(row, min_size=count, max_size=count)
