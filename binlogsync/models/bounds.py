"""Compares the bounds of a model's fields with the ranges of the columns, to find too narrow bounds before any row.

Bounds are read from annotations: `Annotated[int, msgspec.Meta(lt=100)]`, `Annotated[str, annotated_types.MaxLen(9)]`,
and from pydantic's `Field(max_length=9)`.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from binlogsync.schema import BINARY_TYPES, INTEGER_BITS, TEXT_TYPES, Column

_BITS = {**INTEGER_BITS, "mediumint": 24}
_LONGEST = {"tiny": 255, "": 65535, "medium": (1 << 24) - 1, "long": (1 << 32) - 1}


def find_narrow_bound(hint: Any, metadata: Sequence[Any], column: Column) -> str | None:
    """Describes how the bounds of a field exclude values of its column; None when they do not."""
    for bound in (*metadata, *_bounds(hint)):
        problem = _range(bound, column) or _length(bound, column) or _digits(bound, column)
        if problem is not None:
            return f"the column is {column.declaration} {problem}; widen the bound, or remove it"
    return None


def _bounds(hint: Any) -> Iterator[Any]:
    """The annotations of a type hint, besides its types."""
    origin = get_origin(hint)
    if origin is Annotated:
        inner, *annotations = get_args(hint)
        yield from annotations
        yield from _bounds(inner)
    elif origin in (Union, types.UnionType):
        for part in get_args(hint):
            yield from _bounds(part)


def _values(column: Column) -> tuple[int, int] | None:
    """The smallest and the largest value of an integer column."""
    if column.type in _BITS:
        bits = _BITS[column.type]
        return (0, (1 << bits) - 1) if column.unsigned else (-(1 << bits - 1), (1 << bits - 1) - 1)
    if column.type == "bit" and column.length and column.length > 1:
        return 0, (1 << column.length) - 1
    return (0, 2155) if column.type == "year" else None


def _range(bound: Any, column: Column) -> str | None:
    values = _values(column)
    if values is None:
        return None
    least, greatest = values
    ge, gt, le, lt = (_number(bound, name) for name in ("ge", "gt", "le", "lt"))
    shown = f"({least} to {greatest}), and the field takes"
    if ge is not None and ge > least:
        return f"{shown} {ge} and more"
    if gt is not None and gt >= least:
        return f"{shown} more than {gt}"
    if le is not None and le < greatest:
        return f"{shown} {le} and less"
    return f"{shown} less than {lt}" if lt is not None and lt <= greatest else None


def _length(bound: Any, column: Column) -> str | None:
    most = _number(bound, "max_length")
    if most is None or column.type not in TEXT_TYPES | BINARY_TYPES:
        return None
    kind = column.type.removesuffix("text").removesuffix("blob")
    longest = column.length if column.length is not None else _LONGEST.get(kind, 0)
    return f"(up to {longest} long), and the field takes up to {most}" if most < longest else None


def _digits(bound: Any, column: Column) -> str | None:
    if column.type != "decimal":
        return None
    digits, places = _number(bound, "max_digits"), _number(bound, "decimal_places")
    if digits is not None and digits < (column.precision or 0):
        return f"and the field takes {digits} digits"
    if places is not None and places < (column.scale or 0):
        return f"and the field takes {places} decimal places"
    return None


def _number(bound: Any, name: str) -> float | int | None:
    value = getattr(bound, name, None)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
