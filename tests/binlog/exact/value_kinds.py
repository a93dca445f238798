"""KINDS: how the values of each family of types are converted to a canonical text.

The forms of a value (from SELECT, in a row of a change, in an envelope, in a mirror) are equal if these texts are.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

Text = Callable[[Any, int], str]


def same(text: str) -> str:
    """The text that SELECT returns is the canonical one."""
    return text


@dataclass(frozen=True, slots=True)
class ValueKind:
    """The conversions of one family.

    Attributes:
        select: SQL expression whose text the server returns; {v} is the column.
        row: converts a value of a change, given the number of fractional digits.
        wire: converts a value of an envelope.
        mirror: converts a value of DuckDB; None to use `row`.
        expected: converts the text that SELECT returns.
        wired, mirrored: convert the expected text to that of an envelope or a mirror; None is NULL.
    """

    select: str
    row: Text
    wire: Text
    mirror: Text | None = None
    expected: Callable[[str], str] = same
    wired: Callable[[str], str | None] = same
    mirrored: Callable[[str], str | None] = same


def _typed(kind: type) -> Text:
    def text(value: Any, fsp: int) -> str:
        assert type(value) is kind, f"{value!r} is not of type {kind.__name__}"
        return str(value)

    return text


def _fraction(micros: int, fsp: int) -> str:
    assert micros % 10 ** (6 - fsp) == 0, f"{micros} microseconds have more than {fsp} digits"
    return f".{micros:06}"[: 1 + fsp] if fsp else ""


def moment_text(value: datetime | str, fsp: int) -> str:
    """A DATETIME or TIMESTAMP as MySQL prints it."""
    if isinstance(value, str):
        return value
    return value.strftime("%Y-%m-%d %H:%M:%S").rjust(19, "0") + _fraction(value.microsecond, fsp)


def time_text(value: timedelta, fsp: int) -> str:
    """A TIME as MySQL prints it."""
    micros = (value.days * 86400 + value.seconds) * 1_000_000 + value.microseconds
    sign, micros = ("-", -micros) if micros < 0 else ("", micros)
    seconds, micros = divmod(micros, 1_000_000)
    return f"{sign}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}" + _fraction(micros, fsp)


def _date_text(value: date | str, fsp: int) -> str:
    return value if isinstance(value, str) else f"{value.year:04}-{value.month:02}-{value.day:02}"


def _possible(text: str) -> str | None:
    """None for an impossible date or time."""
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return None
    return text


def _bits(form: str) -> Text:
    """The bits of a number, so that -0 and 0 differ."""
    return lambda value, fsp: struct.pack(form, float(value)).hex()


def _decimal_text(value: Any, fsp: int) -> str:
    assert isinstance(value, Decimal)
    return f"{value:f}"


def _mirrored_decimal(value: Any, fsp: int) -> str:
    return value if isinstance(value, str) else f"{value:f}"  # above 38 digits a mirror has text


def _unhex(text: str) -> str:
    return bytes.fromhex(text).decode()


def _vector(value: Any, fsp: int) -> str:
    return struct.pack(f"<{len(value)}f", *value).hex().upper()


def _geometry(value: Mapping[str, Any], fsp: int) -> str:
    srid: bytes = value["srid"].to_bytes(4, "little")
    return (srid + bytes(value["wkb"])).hex().upper()


def _geometry_wire(value: Mapping[str, Any], fsp: int) -> str:
    assert list(value) == ["srid", "wkb"]
    return _geometry({**value, "wkb": base64.b64decode(value["wkb"])}, fsp)


def parse_json(text: str | bytes) -> Any:
    """Parse JSON so that -0 remains a negative zero, which Python's parser reads as the integer 0."""
    return json.loads(text, parse_int=lambda digits: -0.0 if digits == "-0" else int(digits))


def _document(text: str) -> str | None:
    return None if text == "null" else json.dumps(parse_json(text), sort_keys=True)


_TEXT, _PLAIN = _typed(str), "CAST({v} AS CHAR)"
_UTF8 = "HEX(CONVERT({v} USING utf8mb4))"
KINDS: Mapping[str, ValueKind] = {
    "integer": ValueKind(_PLAIN, _typed(int), _typed(int)),
    # Leading zeros are for display only: a TABLE_MAP does not contain ZEROFILL.
    "zerofill": ValueKind("CAST({v} + 0 AS CHAR)", _typed(int), _typed(int)),
    "zerofill decimal": ValueKind("CAST({v} + 0 AS CHAR)", _decimal_text, _TEXT, _mirrored_decimal),
    "decimal": ValueKind(_PLAIN, _decimal_text, _TEXT, _mirrored_decimal),
    "float": ValueKind("CAST({v} AS DOUBLE)", _bits(">f"), _bits(">f"), expected=lambda text: _bits(">f")(text, 0)),
    "double": ValueKind("{v}", _bits(">d"), _bits(">d"), expected=lambda text: _bits(">d")(text, 0)),
    "bit": ValueKind("CAST({v} + 0 AS CHAR)", lambda v, fsp: str(int(v)), lambda v, fsp: str(int(v))),
    "year": ValueKind(_PLAIN, lambda v, fsp: f"{v:04}", lambda v, fsp: f"{v:04}"),
    "text": ValueKind(_UTF8, _TEXT, _TEXT, expected=_unhex),
    "address": ValueKind(_PLAIN, _TEXT, _TEXT),
    "binary": ValueKind(
        "HEX({v})", lambda v, fsp: v.hex().upper(), lambda v, fsp: base64.b64decode(v, validate=True).hex().upper()
    ),
    "set": ValueKind(_UTF8, lambda v, fsp: ",".join(v), lambda v, fsp: ",".join(v), expected=_unhex),
    "date": ValueKind(_PLAIN, _date_text, _TEXT, mirrored=_possible),
    "datetime": ValueKind(_PLAIN, moment_text, lambda v, fsp: v.replace("T", " "), mirrored=_possible),
    "timestamp": ValueKind(
        _PLAIN, moment_text, lambda v, fsp: v.replace("T", " ").removesuffix("Z"), mirrored=_possible
    ),
    "time": ValueKind(_PLAIN, time_text, _TEXT),
    "json": ValueKind(_PLAIN, _TEXT, lambda v, fsp: json.dumps(v, sort_keys=True), wired=_document),
    "json text": ValueKind("{v}", _TEXT, _TEXT),
    "geometry": ValueKind("HEX({v})", _geometry, _geometry_wire),
    "vector": ValueKind("HEX({v})", _vector, _vector),
}
