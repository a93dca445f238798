"""Arrow columns to JSON text, exact and without Python's work on any row.

`column_values` is the way in: it looks up the family of a MySQL type in one table. A new type is one function of
values.py, if need be a code in assemble.py, and one line here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pyarrow as pa

from binlogsync.errors import WireError
from binlogsync.render import values
from binlogsync.render.assemble import Part, assemble
from binlogsync.render.fragments import Fragments
from binlogsync.render.values import Values
from binlogsync.schema import ADDRESS_TYPES, BINARY_TYPES, GEOMETRY_TYPES, INTEGER_BITS, TEXT_TYPES, Column

Renderer = Callable[[Column, pa.Array], Values]


def _bits(column: Column, array: pa.Array) -> Values:
    return values.booleans(array) if pa.types.is_boolean(array.type) else values.integers(array)


RENDERERS: dict[str, Renderer] = {
    **dict.fromkeys((*INTEGER_BITS, "year"), lambda column, array: values.integers(array)),
    **dict.fromkeys((*TEXT_TYPES, *ADDRESS_TYPES), lambda column, array: values.strings(array)),
    **dict.fromkeys(BINARY_TYPES, lambda column, array: values.binaries(array)),
    **dict.fromkeys(GEOMETRY_TYPES, lambda column, array: values.geometries(array)),
    **dict.fromkeys(("float", "double"), lambda column, array: values.floats(array)),
    **dict.fromkeys(("datetime", "timestamp"), lambda column, array: values.datetimes(array, column.fsp or 0)),
    "decimal": lambda column, array: values.decimals(array),
    "date": lambda column, array: values.dates(array),
    "time": lambda column, array: values.durations(array, column.fsp or 0),
    "bit": _bits,
    "enum": lambda column, array: values.labels(array),
    "set": lambda column, array: values.label_lists(array),
    "vector": lambda column, array: values.float_lists(array),
    "json": lambda column, array: values.lines(array),
}


def column_values(column: Column, array: pa.Array, impossible: pa.StringArray | None = None) -> Values:
    """How to write the column's values (Arrow type schema.arrow_type(column)) as JSON; `impossible` texts take the
    place of NULLs.

    Raises WireError for a type that has no renderer.
    """
    renderer = RENDERERS.get(column.type)
    if renderer is None:
        raise WireError(f"column {column.name}: type {column.declaration} has no form in JSON yet")
    found = renderer(column, array)
    if impossible is None or impossible.null_count == len(impossible):
        return found
    texts = values.strings(impossible)
    return replace(found, instead=texts, room=found.room + texts.room, text=found.text + texts.text)


def render_column(column: Column, array: pa.Array, impossible: pa.StringArray | None = None) -> Fragments:
    """The column alone."""
    return assemble(len(array), [Part(b"", column_values(column, array, impossible))])


__all__ = ["RENDERERS", "Fragments", "column_values", "render_column"]
