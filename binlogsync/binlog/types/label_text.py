"""Converts the label of an ENUM or SET to what SELECT returns for it to a client with character set utf8mb4.

This is usually the label's text. But ALTER TABLE ... CONVERT TO CHARACTER SET, in MySQL 9.7 and MariaDB 11.8, does not
convert the bytes of labels, so that they may be other text in the new character set, or invalid. Servers convert such
bytes with a ? for each one that does not begin a character. MySQL omits a truncated character at the end; MariaDB
returns a ? for each of its bytes. Bytes in utf8mb4 are not converted. ENUM(0xFFFF) creates such labels too.

A label of invalid bytes becomes text like x'ffff', as in SHOW CREATE TABLE of MySQL.

Sources: my_convert in strings/ctype.cc of MySQL and strings/ctype.c of MariaDB; mb_wc of ctype-utf8, ctype-ucs2 there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from binlogsync.binlog.types.text import decode_text

_NONE, _CUT = 0, -1  # sizes: no character begins here, or it is truncated
_MOST_UTF8 = 0x1FFFFF
_Next = Callable[[bytes], tuple[int, int]]
"""Size and code of the character at the begin of the bytes."""


def _ascii(data: bytes) -> tuple[int, int]:
    return (1, data[0]) if data[0] < 0x80 else (_NONE, 0)


def _utf8mb3(data: bytes) -> tuple[int, int]:
    lead = data[0]
    if lead < 0x80:
        return 1, lead
    size = 2 if 0xC2 <= lead < 0xE0 else 3 if 0xE0 <= lead < 0xF0 else 0
    if len(data) < size:
        return _CUT, 0
    tail = data[1:size]
    if not size or any(byte & 0xC0 != 0x80 for byte in tail) or (lead == 0xE0 and tail[0] < 0xA0):
        return _NONE, 0
    code = lead & (0x1F if size == 2 else 0x0F)
    for byte in tail:
        code = code << 6 | byte & 0x3F
    return size, code


def _ucs2(data: bytes) -> tuple[int, int]:
    return (2, int.from_bytes(data[:2], "big")) if len(data) > 1 else (_CUT, 0)


def _utf16(data: bytes, *, little: bool = False) -> tuple[int, int]:
    order = "little" if little else "big"
    first, second = (int.from_bytes(data[at : at + 2], order) for at in (0, 2))  # type: ignore[arg-type]
    if len(data) < 2:
        return _CUT, 0
    if first & 0xFC00 == 0xDC00:
        return _NONE, 0
    if first & 0xFC00 != 0xD800:
        return 2, first
    if len(data) < 4:
        return _CUT, 0
    if second & 0xFC00 != 0xDC00:
        return _NONE, 0
    return 4, 0x10000 + ((first & 0x3FF) << 10 | second & 0x3FF)


def _utf32(data: bytes) -> tuple[int, int]:
    return (4, int.from_bytes(data[:4], "big")) if len(data) > 3 else (_CUT, 0)


_UNICODE: dict[str, _Next] = {
    "ascii": _ascii,
    "utf8mb3": _utf8mb3,
    "ucs2": _ucs2,
    "utf16": _utf16,
    "utf16le": lambda data: _utf16(data, little=True),
    "utf32": _utf32,
}

# Valid text in multi-byte character sets. The server converts invalid bytes differently in each of them.
_GBK = rb"[\x81-\xfe][\x40-\x7e\x80-\xfe]"
_EUC_JP = rb"(?:[\x00-\x7f]|\x8e[\xa1-\xdf]|\x8f?[\xa1-\xfe][\xa1-\xfe])*"
_SHIFT_JIS = rb"(?:[\x00-\x7f\xa1-\xdf]|[\x81-\x9f\xe0-\xfc][\x40-\x7e\x80-\xfc])*"
_WELL_FORMED = {
    "big5": rb"(?:[\x00-\x7f]|[\xa1-\xf9][\x40-\x7e\xa1-\xfe])*",
    "cp932": _SHIFT_JIS,
    "eucjpms": _EUC_JP,
    "euckr": rb"(?:[\x00-\x7f]|[\x81-\xfe][\x41-\x5a\x61-\x7a\x81-\xfe])*",
    "gb18030": rb"(?:[\x00-\x7f]|%s|[\x81-\xfe][0-9][\x81-\xfe][0-9])*" % _GBK,
    "gb2312": rb"(?:[\x00-\x7f]|[\xa1-\xf7][\xa1-\xfe])*",
    "gbk": rb"(?:[\x00-\x7f]|%s)*" % _GBK,
    "sjis": _SHIFT_JIS,
    "ujis": _EUC_JP,
}


def has_doubtful_labels(labels: Sequence[str]) -> bool:
    """True when labels as INFORMATION_SCHEMA declares them may differ from the stored ones: it shows invalid text, and
    characters outside the basic plane, as ?.
    """
    return any(not label or label.startswith("x'") or "?" in label or "\ufffd" in label for label in labels)


def label_text(data: bytes, charset: str, *, mariadb: bool) -> str:
    """The text of a label, or its bytes in hexadecimal if they are invalid.

    Raises ValueError for an unknown character set.
    """
    text = decode_label(data, charset, mariadb=mariadb)
    return f"x'{data.hex()}'" if text is None else text


def members(data: bytes, charset: str, *, mariadb: bool) -> list[str]:
    """The labels in a value of a SET, from bytes in its character set."""
    comma = _COMMAS.get(charset, b",")
    width = len(comma)
    units = [data[at : at + width] for at in range(0, len(data), width)]
    labels = [b""]
    for unit in units:
        if unit == comma:
            labels.append(b"")
        else:
            labels[-1] += unit
    return [label_text(label, charset, mariadb=mariadb) for label in labels] if data else []


_COMMAS = {"ucs2": b"\0,", "utf16": b"\0,", "utf16le": b",\0", "utf32": b"\0\0\0,"}


def decode_label(data: bytes, charset: str, *, mariadb: bool) -> str | None:
    """The text; None when SELECT returns invalid bytes, or the server's conversion of them is not implemented here.

    Raises ValueError for an unknown character set.
    """
    if charset in _UNICODE:
        return _recoded(data, _UNICODE[charset], mariadb=mariadb)
    if charset in _WELL_FORMED and not re.fullmatch(_WELL_FORMED[charset], data, re.DOTALL):
        return None
    try:
        return decode_text(data, charset)
    except UnicodeDecodeError:
        return None


def _recoded(data: bytes, following: _Next, *, mariadb: bool) -> str | None:
    strict = following is _utf8mb3 and not mariadb  # half of a surrogate pair is invalid
    codes: list[int] = []
    at = 0
    while at < len(data):
        size, code = following(data[at:])
        if size == _CUT and not mariadb:
            break
        if size <= 0 or (mariadb and code > 0x10FFFF) or (strict and 0xD800 <= code < 0xE000):
            size, code = 1, ord("?")
        codes.append(code if code <= _MOST_UTF8 else ord("?"))
        at += size
    if any(0xD800 <= code < 0xE000 or code > 0x10FFFF for code in codes):
        return None  # SELECT returns them, encoded like characters
    return "".join(map(chr, codes))
