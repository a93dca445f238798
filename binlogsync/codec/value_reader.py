"""Converts single values from a JSON decoder to the Python values that Arrow would give, without Arrow.

This is much faster for few values. Values in an unusual format are converted by Arrow, so that both ways accept the
same values, with the same results and errors.
"""

from __future__ import annotations

import binascii
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

from binlogsync.change_batch import unix_epoch
from binlogsync.codec.column_parser import read_column
from binlogsync.schema import BINARY_TYPES, GEOMETRY_TYPES, INTEGER_BITS, Column, TableSchema
from binlogsync.values import python_values

ReadValue = Callable[[Any], Any]
"""Converts a value that is not None. Raises ValueError if it is written in an unusual way."""
_DATE = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DATETIME = re.compile(_DATE.pattern + r"T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?")
_DURATION = re.compile(r"(-?)([0-9]{2,3}):([0-5][0-9]):([0-5][0-9])(?:\.([0-9]{1,6}))?")
_MUTABLE_TYPES = frozenset({"set", "vector", *GEOMETRY_TYPES})
_UINT32_END = 1 << 32


class ImageReader:
    """Converts the values of an image to a dict of its columns."""

    def __init__(self, schema: TableSchema) -> None:
        self._columns = [(column.name, column, _reader(column)) for column in schema.columns]
        self._json_positions = {column.name: at for at, column in enumerate(schema.columns) if column.type == "json"}
        self._mutable = [column.name for column in schema.columns if column.type in _MUTABLE_TYPES]

    def read(self, values: Sequence[Any], json_nulls: Sequence[str] = ()) -> dict[str, Any]:
        """The image without the columns that are UNSET. A JSON null becomes None; in the columns of type JSON that
        `json_nulls` names, it becomes the text "null".

        Raises WireError for a value that does not fit its column.
        """
        image: dict[str, Any] = {}
        for (name, column, read), value in zip(self._columns, values, strict=True):
            if value is None:
                image[name] = None
            elif value is not msgspec.UNSET:
                try:
                    image[name] = read(value)
                except (ValueError, OverflowError):
                    image[name] = _read_by_arrow(column, value)
        for name in json_nulls:
            value = values[self._json_positions[name]] if name in self._json_positions else msgspec.UNSET
            if value is not msgspec.UNSET and bytes(value) == b"null":
                image[name] = "null"
        return image

    def copy(self, image: Mapping[str, Any]) -> dict[str, Any]:
        """A copy of an image that shares no mutable value with it."""
        made = dict(image)
        for name in self._mutable:
            if isinstance(made.get(name), list | dict):
                made[name] = made[name].copy()
        return made


@lru_cache(maxsize=1024)
def image_reader(schema: TableSchema) -> ImageReader:
    """The reader of a table's images."""
    return ImageReader(schema)


def _read_by_arrow(column: Column, value: Any) -> Any:
    array, texts = read_column(column, [bytes(value) if isinstance(value, msgspec.Raw) else value])
    if texts is not None and texts[0].is_valid:
        return texts[0].as_py()
    return python_values(array)[0]


def _reader(column: Column) -> ReadValue:
    kind = column.type
    if kind in INTEGER_BITS:
        half = 1 << (INTEGER_BITS[kind] - 1)
        return _integers(0, 2 * half) if column.unsigned else _integers(-half, half)
    if kind == "bit":
        return _unchanged if column.length == 1 else _integers(0, 1 << 64)
    if kind == "decimal":
        return _decimals(column)
    if kind in BINARY_TYPES:
        return _read_base64
    return _READERS.get("geometry" if kind in GEOMETRY_TYPES else kind, _unchanged)


def _unchanged(value: Any) -> Any:
    return value


def _integers(start: int, end: int) -> ReadValue:
    def read(value: int) -> int:
        if start <= value < end:
            return value
        raise ValueError(value)

    return read


def _decimals(column: Column) -> ReadValue:
    precision, scale = column.precision or 10, column.scale or 0
    digits = f"[0-9]{{1,{precision - scale}}}" if precision > scale else "0"
    usual = re.compile(f"-?{digits}" + (rf"\.[0-9]{{{scale}}}" if scale else ""))

    def read(value: str) -> Decimal:
        number = Decimal(value) if usual.fullmatch(value) else None
        if number is None or (not number and value[0] == "-"):  # Arrow has no negative zero
            raise ValueError(value)
        return number

    return read


def _read_base64(value: str) -> bytes:
    return binascii.a2b_base64(value, strict_mode=True)


def _read_date(value: str) -> date:
    if not _DATE.fullmatch(value):
        raise ValueError(value)
    return date.fromisoformat(value)


def _read_datetime(value: str) -> datetime:
    if not _DATETIME.fullmatch(value):
        raise ValueError(value)
    return datetime.fromisoformat(value)


def _read_timestamp(value: str) -> datetime:
    if not value.endswith("Z"):
        raise ValueError(value)
    return _read_datetime(value[:-1]).replace(tzinfo=unix_epoch().tzinfo)


def _read_duration(value: str) -> timedelta:
    found = _DURATION.fullmatch(value)
    if found is None:
        raise ValueError(value)
    sign, hours, minutes, seconds, fraction = found.groups()
    micros = int((fraction or "").ljust(6, "0"))
    span = timedelta(hours=int(hours), minutes=int(minutes), seconds=int(seconds), microseconds=micros)
    return -span if sign else span


def _read_double(value: msgspec.Raw) -> float | None:
    text = bytes(value)
    if text == b"null":
        return None
    number = float(text) if text[:1] != b'"' else math.inf
    if math.isinf(number):
        raise ValueError(text)
    return number


def _read_json(value: msgspec.Raw) -> str | None:
    text = bytes(value)
    return None if text == b"null" else text.decode()


def _read_geometry(value: Mapping[str, Any]) -> dict[str, Any]:
    if not 0 <= value["srid"] < _UINT32_END:
        raise ValueError(value["srid"])
    return {"srid": value["srid"], "wkb": _read_base64(value["wkb"])}


def _read_through_arrow(value: Any) -> Any:
    raise ValueError(value)


_READERS: dict[str, ReadValue] = {
    "year": _integers(0, 1 << 16),
    "date": _read_date,
    "datetime": _read_datetime,
    "timestamp": _read_timestamp,
    "time": _read_duration,
    "double": _read_double,
    "json": _read_json,
    "geometry": _read_geometry,
    # A conversion of the digits through float64 would round twice.
    "float": _read_through_arrow,
    "vector": _read_through_arrow,
}
