"""Samples of text in every character set, binary strings, ENUM and SET."""

from __future__ import annotations

from binlogsync.binlog.types.recoding import SINGLE_BYTE
from tests.binlog.exact.type_sample import ALL, MYSQL, TypeSample

_WORDS = ("''", "'a'", "'it''s'", "'a b '", "'tab\\tnew\\nline \\\\ \"quoted\"'", "'0'", "repeat('x', 40)")
_WIDE = ("'\u00e4\u00f6\u00fc\u00df\u20ac'", "'\u65e5\u672c\u8a9e'")
_ASTRAL = ("'\U0001f600\U0001f468\u200d\U0001f469'", "'\U0010ffff'", "'a\U0001f600b'")
_BYTES = ("x''", "x'00'", "x'ff'", "x'0001020300'", "x'616263'", "x'2020'", "x'80818283'", "x'6100'")


def _texts() -> list[TypeSample]:
    found = []
    for charset, values in (
        ("utf8mb4", _WORDS + _WIDE + _ASTRAL),
        ("utf8mb3", _WORDS + _WIDE),
        ("ascii", _WORDS + ("char(127)",)),
        ("latin1", (*_WORDS, "'\u00e4\u20ac\u0153'", "_latin1 x'81'", "_latin1 x'818d8f909da0ff80'")),
    ):
        kinds = ("CHAR(60)", "VARCHAR(60)", "VARCHAR(255)", "VARCHAR(300)", "TINYTEXT", "TEXT", "MEDIUMTEXT")
        for kind in (*kinds, "LONGTEXT", "CHAR(255)"):
            found.append(TypeSample(f"{kind} CHARACTER SET {charset}", "text", values))
    long = ("repeat('\u00e4\U0001f600', 9000)", "repeat('y', 63000)", "'short'", "''")
    found.append(TypeSample("TEXT CHARACTER SET utf8mb4", "text", long))
    found.append(TypeSample("MEDIUMTEXT CHARACTER SET utf8mb4", "text", (*long, "repeat('\u65e5', 100000)")))
    found.append(TypeSample("VARCHAR(8000) CHARACTER SET utf8mb4", "text", ("repeat('\u00e4', 8000)", "''", "'z'")))
    found.append(TypeSample("VARCHAR(20) COLLATE utf8mb4_bin", "text", _WORDS[:-1] + _WIDE + _ASTRAL))
    found.append(TypeSample("CHAR(0)", "text", ("''",)))
    found.append(TypeSample("VARCHAR(0)", "text", ("''",)))
    # Every byte of latin1 and of ascii, once.
    each = tuple(f"_latin1 x'{code:02x}'" for code in range(1, 256))
    found.append(TypeSample("VARCHAR(4) CHARACTER SET latin1", "text", each))
    for charset in sorted(SINGLE_BYTE - {"latin1"}):
        each = tuple(f"_{charset} x'{code:02x}41{code:02x}'" for code in range(1, 256))
        found.append(TypeSample(f"VARCHAR(4) CHARACTER SET {charset}", "text", each))
        found.append(
            TypeSample(f"CHAR(60) CHARACTER SET {charset}", "text", ("'plain words'", f"_{charset} x'61ff6240'"))
        )
    for charset, own in _MULTI_BYTE.items():
        servers = (MYSQL,) if charset == "gb18030" else ALL
        for kind in ("CHAR(60)", "VARCHAR(300)", "TEXT"):
            found.append(TypeSample(f"{kind} CHARACTER SET {charset}", "text", (*_WORDS, *own), servers))
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


def _binaries() -> list[TypeSample]:
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
    found = [TypeSample(kind, "binary", _BYTES) for kind in sizes]
    found.append(TypeSample("BINARY(0)", "binary", ("x''",)))
    found.append(
        TypeSample("BINARY(3)", "binary", ("x''", "x'00'", "x'000000'", "x'610000'", "x'616263'", "x'200000'"))
    )
    big = ("repeat(x'00ff', 30000)", "x''", "repeat('z', 65535)")
    found.append(TypeSample("BLOB", "binary", big))
    found.append(TypeSample("LONGBLOB", "binary", ("repeat(x'0180ff', 200000)", "x'01'")))
    return [*found, TypeSample("VARCHAR(30) CHARACTER SET binary", "binary", _BYTES)]


def _labels() -> list[TypeSample]:
    many = ",".join(f"'m{i}'" for i in range(1, 301))
    members = ",".join(f"'s{i}'" for i in range(64))
    odd = "'','a b','\u00e4\u20ac','it''s','X'"
    found = [
        TypeSample("ENUM('a','b','c')", "text", ("'a'", "'b'", "'c'", "'nonsense'", "0")),
        TypeSample(f"ENUM({odd})", "text", ("''", "'a b'", "'\u00e4\u20ac'", "'it''s'", "'x'")),
        TypeSample(f"ENUM({many})", "text", ("'m1'", "'m255'", "'m256'", "'m300'", "'m257'", "'none'")),
        TypeSample("ENUM('\u00e4','\u00fc','e') CHARACTER SET latin1", "text", ("'\u00e4'", "'\u00fc'", "'e'")),
        TypeSample("ENUM('\U0001f600','\u65e5\u672c')", "text", ("'\U0001f600'", "'\u65e5\u672c'")),
        TypeSample("ENUM('\u00e4','b') CHARACTER SET utf16", "text", ("'\u00e4'", "'b'", "'none'")),
        TypeSample("ENUM('\u65e5\u672c','a') CHARACTER SET sjis", "text", ("'\u65e5\u672c'", "'a'")),
        TypeSample("ENUM('\u00e9','a') CHARACTER SET swe7", "text", ("'\u00e9'", "'a'")),
        TypeSample("SET('\u00e4','\u044e') CHARACTER SET ucs2", "set", ("'\u00e4,\u044e'", "''", "'\u044e'")),
        TypeSample("SET('\u044e','z') CHARACTER SET koi8r", "set", ("'\u044e,z'", "''")),
        TypeSample("SET('a','b','\u00e4')", "set", ("''", "'a'", "'a,b'", "'\u00e4'", "'a,b,\u00e4'", "'b,a'", "'zz'")),
        TypeSample("SET('x','y') CHARACTER SET latin1", "set", ("''", "'x,y'", "'y'")),
        TypeSample(f"SET({members})", "set", ("''", "'s0'", "'s63'", "'s0,s63'", "'s31,s32'", "18446744073709551615")),
    ]
    for count in (8, 9, 16, 17, 24, 25, 32, 33, 40, 48, 56):
        some = ",".join(f"'s{i}'" for i in range(count))
        found.append(TypeSample(f"SET({some})", "set", ("''", "'s0'", f"'s{count - 1}'", str(2**count - 1))))
    return found


def _many_labels() -> list[TypeSample]:
    """ENUMs with about 255 labels, the limit of one byte."""
    found = []
    for count in (255, 256):
        labels = ",".join(f"'{k:x}'" for k in range(count))
        found.append(TypeSample(f"ENUM({labels})", "text", ("'0'", "'fd'", "'fe'", f"{count}", "'none'")))
    return found


STRINGS = (*_texts(), *_binaries(), *_labels(), *_many_labels())
