"""TYPE_SAMPLES: for every supported type, values as SQL literals, and how they are compared with what SELECT returns.

A `Kind` brings both sides to one canonical text: `select` is the SQL expression whose text is read from the server,
`delivered` turns a value of a change into that text, `wire` the value of the JSON envelope.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from binlogsync.binlog.types.recoding import SINGLE_BYTE

Text = Callable[[Any], str]


@dataclass(frozen=True, slots=True)
class Kind:
    """How one family is compared; `{v}` in `select` is the column, `{fsp}` its fraction digits."""

    select: str
    delivered: Text
    wire: Text
    expected: Text = str


@dataclass(frozen=True, slots=True)
class Sample:
    """One column type and values for it. `servers` names those that have the type."""

    ddl: str
    kind: str
    literals: tuple[str, ...]
    servers: tuple[str, ...] = ("mysql", "mariadb")
    fsp: int = 0


def _fraction(micros: int, fsp: int) -> str:
    assert micros % 10 ** (6 - fsp) == 0, f"{micros} microseconds have more than {fsp} digits"
    return f".{micros:06}"[: 1 + fsp] if fsp else ""


def moment_text(value: datetime | str, fsp: int) -> str:
    """As MySQL prints a DATETIME or TIMESTAMP."""
    if isinstance(value, str):
        return value
    return value.strftime("%Y-%m-%d %H:%M:%S").rjust(19, "0") + _fraction(value.microsecond, fsp)


def time_text(value: timedelta, fsp: int) -> str:
    """As MySQL prints a TIME."""
    micros = (value.days * 86400 + value.seconds) * 1_000_000 + value.microseconds
    sign, micros = ("-", -micros) if micros < 0 else ("", micros)
    seconds, micros = divmod(micros, 1_000_000)
    return f"{sign}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}" + _fraction(micros, fsp)


def float_bits(value: object) -> str:
    """A FLOAT by its bits, so that -0 and 0 differ."""
    return struct.pack(">f", float(value)).hex()  # type: ignore[arg-type]


def double_bits(value: object) -> str:
    """A DOUBLE by its bits."""
    return struct.pack(">d", float(value)).hex()  # type: ignore[arg-type]


def _decimal_text(value: Any) -> str:
    assert isinstance(value, Decimal)
    return f"{value:f}"


def _plain_date(value: date | str) -> str:
    return value if isinstance(value, str) else f"{value.year:04}-{value.month:02}-{value.day:02}"


def _unhex(text: str) -> str:
    return bytes.fromhex(text).decode()


def kind_of(name: str, fsp: int) -> Kind:
    """The comparison of a family."""
    return {
        "integer": Kind("CAST({v} AS CHAR)", lambda v: _typed(v, int), lambda v: _typed(v, int)),
        "float": Kind("CAST({v} AS DOUBLE)", float_bits, float_bits, float_bits),
        "double": Kind("{v}", double_bits, double_bits, double_bits),
        # The zeros in front are display only: no TABLE_MAP tells of them.
        "zerofill": Kind("CAST({v} + 0 AS CHAR)", lambda v: _typed(v, int), lambda v: _typed(v, int)),
        "zerofill decimal": Kind("CAST({v} + 0 AS CHAR)", _decimal_text, lambda v: _typed(v, str)),
        "decimal": Kind("CAST({v} AS CHAR)", _decimal_text, lambda v: _typed(v, str)),
        "text": Kind("HEX(CONVERT({v} USING utf8mb4))", lambda v: _typed(v, str), lambda v: _typed(v, str), _unhex),
        "binary": Kind("HEX({v})", lambda v: v.hex().upper(), lambda v: base64.b64decode(v).hex().upper()),
        "date": Kind("CAST({v} AS CHAR)", _plain_date, lambda v: _typed(v, str)),
        "datetime": Kind("CAST({v} AS CHAR)", lambda v: moment_text(v, fsp), lambda v: v.replace("T", " ")),
        "timestamp": Kind(
            "CAST({v} AS CHAR)", lambda v: moment_text(v, fsp), lambda v: v.replace("T", " ").removesuffix("Z")
        ),
        "time": Kind("CAST({v} AS CHAR)", lambda v: time_text(v, fsp), lambda v: _typed(v, str)),
        "year": Kind("CAST({v} AS CHAR)", lambda v: f"{v:04}", lambda v: f"{v:04}"),
        "set": Kind("HEX(CONVERT({v} USING utf8mb4))", ",".join, ",".join, _unhex),
        "bit": Kind("CAST({v} + 0 AS CHAR)", lambda v: str(int(v)), lambda v: str(int(v))),
        "json": Kind("CAST({v} AS CHAR)", lambda v: _typed(v, str), _json_form, str),
        "json text": Kind("{v}", lambda v: _typed(v, str), lambda v: _typed(v, str)),
    }[name]


def _typed(value: Any, kind: type) -> str:
    assert type(value) is kind, f"{value!r} is not of type {kind.__name__}"
    return str(value)


def _json_form(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _int_edges(bits: int, *, unsigned: bool) -> tuple[str, ...]:
    if unsigned:
        return tuple(str(v) for v in (0, 1, 2 ** (bits - 1) - 1, 2 ** (bits - 1), 2**bits - 1))
    return tuple(str(v) for v in (-(2 ** (bits - 1)), -1, 0, 1, 2 ** (bits - 1) - 1, -(2 ** (bits - 8))))


def _integers() -> list[Sample]:
    widths = {"TINYINT": 8, "SMALLINT": 16, "MEDIUMINT": 24, "INT": 32, "BIGINT": 64}
    found = [Sample(name, "integer", _int_edges(bits, unsigned=False)) for name, bits in widths.items()]
    found.append(Sample("INT(8) ZEROFILL", "zerofill", ("0", "42", "4294967295")))
    return found + [
        Sample(f"{name} UNSIGNED", "integer", _int_edges(bits, unsigned=True)) for name, bits in widths.items()
    ]


def _decimals() -> list[Sample]:
    shapes = [(1, 0), (1, 1), (5, 0), (5, 5), (9, 0), (9, 9), (10, 2), (18, 9), (18, 0), (19, 2), (20, 10), (30, 30)]
    shapes += [(38, 0), (38, 19), (39, 1), (56, 28), (65, 0), (65, 30), (31, 30), (35, 3)]
    found = []
    for precision, scale in shapes:
        whole = precision - scale
        most = ("9" * whole or "0") + ("." + "9" * scale if scale else "")
        least = "0." + "0" * (scale - 1) + "1" if scale else "1"
        digits = ("123456789" * 8)[:whole] or "0"
        mixed = digits + ("." + ("987654321" * 8)[:scale] if scale else "")
        values = (most, f"-{most}", "0", "-0", least, f"-{least}", mixed, f"-{mixed}")
        found.append(Sample(f"DECIMAL({precision},{scale})", "decimal", values))
    found.append(Sample("DECIMAL(10,2) UNSIGNED", "decimal", ("0", "12345678.91", "0.01")))
    return [*found, Sample("DECIMAL(8,3) ZEROFILL", "zerofill decimal", ("0", "12.5"))]


_WORDS = ("''", "'a'", "'it''s'", "'a b '", "'tab\\tnew\\nline \\\\ \"quoted\"'", "'0'", "repeat('x', 40)")
_WIDE = ("'\u00e4\u00f6\u00fc\u00df\u20ac'", "'\u65e5\u672c\u8a9e'")
_ASTRAL = ("'\U0001f600\U0001f468\u200d\U0001f469'", "'\U0010ffff'", "'a\U0001f600b'")
_BYTES = ("x''", "x'00'", "x'ff'", "x'0001020300'", "x'616263'", "x'2020'", "x'80818283'", "x'6100'")


def _texts() -> list[Sample]:
    found = []
    for charset, values in (
        ("utf8mb4", _WORDS + _WIDE + _ASTRAL),
        ("utf8mb3", _WORDS + _WIDE),
        ("ascii", _WORDS + ("char(127)",)),
        ("latin1", (*_WORDS, "'\u00e4\u20ac\u0153'", "_latin1 x'81'", "_latin1 x'818d8f909da0ff80'")),
    ):
        kinds = ("CHAR(60)", "VARCHAR(60)", "VARCHAR(255)", "VARCHAR(300)", "TINYTEXT", "TEXT", "MEDIUMTEXT")
        for kind in (*kinds, "LONGTEXT", "CHAR(255)"):
            found.append(Sample(f"{kind} CHARACTER SET {charset}", "text", values))
    long = ("repeat('\u00e4\U0001f600', 9000)", "repeat('y', 63000)", "'short'", "''")
    found.append(Sample("TEXT CHARACTER SET utf8mb4", "text", long))
    found.append(Sample("MEDIUMTEXT CHARACTER SET utf8mb4", "text", (*long, "repeat('\u65e5', 100000)")))
    found.append(Sample("VARCHAR(8000) CHARACTER SET utf8mb4", "text", ("repeat('\u00e4', 8000)", "''", "'z'")))
    found.append(Sample("VARCHAR(20) COLLATE utf8mb4_bin", "text", _WORDS[:-1] + _WIDE + _ASTRAL))
    found.append(Sample("CHAR(0)", "text", ("''",)))
    found.append(Sample("VARCHAR(0)", "text", ("''",)))
    # Each byte of latin1 and of ascii once.
    each = tuple(f"_latin1 x'{code:02x}'" for code in range(1, 256))
    found.append(Sample("VARCHAR(4) CHARACTER SET latin1", "text", each))
    for charset in sorted(SINGLE_BYTE - {"latin1"}):
        each = tuple(f"_{charset} x'{code:02x}41{code:02x}'" for code in range(1, 256))
        found.append(Sample(f"VARCHAR(4) CHARACTER SET {charset}", "text", each))
        found.append(Sample(f"CHAR(60) CHARACTER SET {charset}", "text", ("'plain words'", f"_{charset} x'61ff6240'")))
    for charset, own in _MULTI_BYTE.items():
        servers = ("mysql",) if charset == "gb18030" else ("mysql", "mariadb")
        for kind in ("CHAR(60)", "VARCHAR(300)", "TEXT"):
            found.append(Sample(f"{kind} CHARACTER SET {charset}", "text", (*_WORDS, *own), servers))
    return found


_KANJI = "'\u65e5\u672c\u8a9e abc'"
_MULTI_BYTE = {
    "big5": (_KANJI, "_big5 x'a440f9d641'", "_big5 x'f9dc'"),
    "gbk": (_KANJI, "_gbk x'8140fea0'"),
    "gb2312": ("_gb2312 x'b0a1f7fe'",),
    "euckr": ("'\uac00\ud7a3 abc'", "_euckr x'8141c8fe'"),
    "sjis": (_KANJI, "_sjis x'815f8160b1'"),
    "cp932": (_KANJI, "_cp932 x'8160fa40b1'"),
    "ujis": (_KANJI, "_ujis x'a1c08ea68fb0a1'", "_ujis x'f5a18ff5a1'"),
    "eucjpms": (_KANJI, "_eucjpms x'a1c08ea68fb0a1'", "_eucjpms x'ada18ff3f38ff4feb0a1'"),
    "ucs2": (_KANJI,),
    "utf16": (_KANJI, *_ASTRAL),
    "utf32": (_KANJI, *_ASTRAL),
    "utf16le": (_KANJI, *_ASTRAL),
    "gb18030": (_KANJI, *_ASTRAL, "_gb18030 x'a8bc81308130'"),
}


def _binaries() -> list[Sample]:
    sizes = (
        "BINARY(8)",
        "BINARY(255)",
        "VARBINARY(20)",
        "VARBINARY(300)",
        "TINYBLOB",
        "BLOB",
        "MEDIUMBLOB",
        "LONGBLOB",
    )
    found = [Sample(kind, "binary", _BYTES) for kind in sizes]
    found.append(Sample("BINARY(0)", "binary", ("x''",)))
    found.append(Sample("BINARY(3)", "binary", ("x''", "x'00'", "x'000000'", "x'610000'", "x'616263'", "x'200000'")))
    big = ("repeat(x'00ff', 30000)", "x''", "repeat('z', 65535)")
    found.append(Sample("BLOB", "binary", big))
    found.append(Sample("LONGBLOB", "binary", ("repeat(x'0180ff', 200000)", "x'01'")))
    return [*found, Sample("VARCHAR(30) CHARACTER SET binary", "binary", _BYTES)]


_DATES = (
    "'1000-01-01'",
    "'9999-12-31'",
    "'1970-01-01'",
    "'1969-12-31'",
    "'2000-02-29'",
    "'1900-02-28'",
    "'0001-01-01'",
)
_IMPOSSIBLE = ("'0000-00-00'", "'2024-02-31'", "'2023-02-29'", "'2024-00-00'", "'2024-05-00'", "'0000-05-05'")


def _temporals() -> list[Sample]:
    impossible = (*_IMPOSSIBLE, "'2024-04-31'", "'1900-02-29'", "'0000-12-31'")
    found = [Sample("DATE", "date", _DATES + impossible)]
    for fsp in range(7):
        part = ("." + "123456"[:fsp]) if fsp else ""
        nines = ("." + "9" * fsp) if fsp else ""
        one = ("." + "0" * (fsp - 1) + "1") if fsp else ""
        moments = [f"{day[:-1]} 23:59:59{nines}'" for day in (*_DATES, *impossible)]
        moments += [f"{day[:-1]} 00:00:00{one}'" for day in _DATES] + [f"'2024-06-15 12:34:56{part}'"]
        zero = ["'0000-00-00 00:00:00'"]
        found.append(Sample(f"DATETIME({fsp})", "datetime", (*moments, *zero), fsp=fsp))
        stamps = (
            f"'1970-01-01 00:00:01{part}'",
            f"'2038-01-19 03:14:07{nines}'",
            "'0000-00-00 00:00:00'",
            f"'2024-06-15 12:34:56{part}'",
            f"'2001-09-09 01:46:40{one}'",
        )
        found.append(Sample(f"TIMESTAMP({fsp})", "timestamp", stamps, fsp=fsp))
        times = ["00:00:00", f"00:00:00{one}", f"12:34:56{part}", "838:59:59", f"837:59:59{nines}", f"23:59:59{nines}"]
        times += ["00:00:01", f"100:00:00{one}", f"00:01:00{part}"]
        signed = [f"'{sign}{value}'" for value in times for sign in ("", "-")]
        found.append(Sample(f"TIME({fsp})", "time", tuple(signed), fsp=fsp))
    return [*found, Sample("YEAR", "year", ("0", "1901", "2155", "2000", "1999", "'0000'"))]


def _labels() -> list[Sample]:
    many = ",".join(f"'m{i}'" for i in range(1, 301))
    members = ",".join(f"'s{i}'" for i in range(64))
    odd = "'','a b','\u00e4\u20ac','it''s','X'"
    found = [
        Sample("ENUM('a','b','c')", "text", ("'a'", "'b'", "'c'", "'nonsense'", "0")),
        Sample(f"ENUM({odd})", "text", ("''", "'a b'", "'\u00e4\u20ac'", "'it''s'", "'x'")),
        Sample(f"ENUM({many})", "text", ("'m1'", "'m255'", "'m256'", "'m300'", "'m257'", "'none'")),
        Sample("ENUM('\u00e4','\u00fc','e') CHARACTER SET latin1", "text", ("'\u00e4'", "'\u00fc'", "'e'")),
        Sample("ENUM('\U0001f600','\u65e5\u672c')", "text", ("'\U0001f600'", "'\u65e5\u672c'")),
        Sample("SET('a','b','\u00e4')", "set", ("''", "'a'", "'a,b'", "'\u00e4'", "'a,b,\u00e4'", "'b,a'", "'zz'")),
        Sample("SET('x','y') CHARACTER SET latin1", "set", ("''", "'x,y'", "'y'")),
        Sample(f"SET({members})", "set", ("''", "'s0'", "'s63'", "'s0,s63'", "'s31,s32'", "18446744073709551615")),
    ]
    for count in (8, 9, 16, 17, 24, 25, 32, 33, 40, 48, 56):
        some = ",".join(f"'s{i}'" for i in range(count))
        found.append(Sample(f"SET({some})", "set", ("''", "'s0'", f"'s{count - 1}'", str(2**count - 1))))
    return found


def _bits() -> list[Sample]:
    found = []
    for width in (1, 2, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 40, 48, 56, 63, 64):
        values = sorted({0, 1, 2**width - 1, 2 ** (width - 1), 0x0123456789ABCDEF & (2**width - 1)})
        found.append(Sample(f"BIT({width})", "bit", tuple(str(value) for value in values)))
    return found


_JSON = (
    "'null'", "'true'", "'false'", "'0'", "'-1'", "'32767'", "'32768'", "'-32769'", "'65535'", "'65536'",
    "'2147483647'", "'2147483648'", "'-2147483649'", "'4294967296'", "'9223372036854775807'",
    "'9223372036854775808'", "'18446744073709551615'", "'-9223372036854775808'",
    "'1.0'", "'0.1'", "'-0.0'", "'1e308'", "'1e-308'", "'5e-324'", "'1.7976931348623157e308'",
    "'100000000000000000000'",
    "'1e15'", "'1e16'", "'123456789012345680000.5'", "'0.000001'", "'0.0000001'", "'1e-10'", "'1e-15'", "'1e-16'",
    "'1.5e-16'", "'12345.678901e-20'", "'3.141592653589793'", "'1e17'", "'1e18'", "'123456789.125e10'", "'2e22'",
    "'\"\"'", "'\"text\"'", "'\"\\\\\"quoted\\\\\" \\\\\\\\ \\\\n \\\\t \\\\u0001 \\\\u007f /\"'",
    "'\"\u00e4\u20ac\U0001f600\"'", "'[]'", "'{}'", "'[1, \"a\", null, true, 2.5]'",
    "'{\"b\": 1, \"a\": {\"c\": [1, 2, {\"d\": null}]}}'", "'{\"\": 0, \"\u00e4\": \"\u00f6\", \"bb\": 1, \"a\": 2}'",
    "JSON_ARRAY(repeat('long', 20000))", "JSON_OBJECT('k', repeat('x', 200), 'big', repeat('y', 70000))",
    "JSON_ARRAY(CAST(123456.789 AS DECIMAL(20,10)), CAST(-0.5 AS DECIMAL(65,30)), CAST(7 AS DECIMAL(5,0)))",
    "JSON_ARRAY(CAST('2024-02-29' AS DATE), CAST('12:34:56.789012' AS TIME(6)), CAST('-838:59:59' AS TIME))",
    "JSON_ARRAY(CAST('2024-02-29 12:34:56.123456' AS DATETIME(6)), CAST('0000-00-00' AS DATE))",
    "JSON_ARRAY(CAST('-00:00:00.000001' AS TIME(6)), CAST('00:00:00' AS TIME), TIMESTAMP'2024-01-01 00:00:00')",
    "CAST(x'00ff61' AS JSON)", "JSON_ARRAY(b'101', x'616263', CAST('a' AS BINARY))", "CAST(CAST(2024 AS YEAR) AS JSON)",
    "JSON_OBJECT('u', CAST(18446744073709551615 AS UNSIGNED), 'f', CAST(1.5 AS FLOAT), 'b', 1 = 1)",
)  # fmt: skip


def _jsons() -> list[Sample]:
    nested = "'" + "[" * 60 + "]" * 60 + "'"
    wide = "JSON_ARRAY(" + ",".join(f"'v{i}'" for i in range(300)) + ")"
    # Deep documents break Python's own parser no sooner than this; MySQL's limit is 100.
    text = ('\'{"b":  1, "a":[1.0,  2]}\'', "'null'", "'\"x\"'")
    return [
        Sample("JSON", "json", (*_JSON, nested, wide), ("mysql",)),
        Sample("JSON", "json text", text, ("mariadb",)),
    ]


def _floats() -> list[Sample]:
    floats = (
        "0",
        "-0e0",
        "0.1",
        "-1.5",
        "3.4028234e38",
        "-3.4028234e38",
        "1.17549435e-38",
        "1e-45",
        "16777217",
        "1e10",
    )
    doubles = (
        "0",
        "-0e0",
        "0.1",
        "1e308",
        "-1.7976931348623157e308",
        "5e-324",
        "2.2250738585072014e-308",
        "123456789.125",
    )
    return [
        Sample("FLOAT", "float", floats),
        Sample("FLOAT UNSIGNED", "float", ("0", "1.25")),
        Sample("DOUBLE", "double", (*doubles, "1e22", "1e-7", "0.30000000000000004")),
        Sample("DOUBLE(10,3)", "double", ("1.5", "-2.125")),
    ]


TYPE_SAMPLES: tuple[Sample, ...] = (
    *_integers(),
    *_floats(),
    *_decimals(),
    *_texts(),
    *_binaries(),
    *_temporals(),
    *_labels(),
    *_bits(),
    *_jsons(),
)
