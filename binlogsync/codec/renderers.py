"""Writes Arrow columns as JSON text, exactly, and without Python code per row.

`column_values` is the entry point: it looks up the renderer of a MySQL type in one table. A new type is a function in
json_columns.py, possibly a code in envelope_writer.py, and one line here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pyarrow as pa

from binlogsync.codec import json_columns
from binlogsync.codec.envelope_writer import EnvelopePart, render_rows
from binlogsync.codec.json_columns import JsonColumn
from binlogsync.codec.json_texts import JsonTexts
from binlogsync.errors import WireError
from binlogsync.schema import ADDRESS_TYPES, BINARY_TYPES, GEOMETRY_TYPES, INTEGER_BITS, TEXT_TYPES, Column

Renderer = Callable[[Column, pa.Array], JsonColumn]


def _bits(column: Column, array: pa.Array) -> JsonColumn:
    return json_columns.booleans(array) if pa.types.is_boolean(array.type) else json_columns.integers(array)


RENDERERS: dict[str, Renderer] = {
    **dict.fromkeys((*INTEGER_BITS, "year"), lambda column, array: json_columns.integers(array)),
    **dict.fromkeys((*TEXT_TYPES, *ADDRESS_TYPES), lambda column, array: json_columns.strings(array)),
    **dict.fromkeys(BINARY_TYPES, lambda column, array: json_columns.binaries(array)),
    **dict.fromkeys(GEOMETRY_TYPES, lambda column, array: json_columns.geometries(array)),
    **dict.fromkeys(("float", "double"), lambda column, array: json_columns.floats(array)),
    **dict.fromkeys(("datetime", "timestamp"), lambda column, array: json_columns.datetimes(array, column.fsp or 0)),
    "decimal": lambda column, array: json_columns.decimals(array),
    "date": lambda column, array: json_columns.dates(array),
    "time": lambda column, array: json_columns.durations(array, column.fsp or 0),
    "bit": _bits,
    "enum": lambda column, array: json_columns.labels(array),
    "set": lambda column, array: json_columns.label_lists(array),
    "vector": lambda column, array: json_columns.float_lists(array),
    "json": lambda column, array: json_columns.lines(array),
}


def column_values(column: Column, array: pa.Array, impossible: pa.StringArray | None = None) -> JsonColumn:
    """How to write the values of a column (Arrow type schema.arrow_type(column)) as JSON; the texts in `impossible`
    replace NULLs.

    Raises WireError for a type without a renderer.
    """
    renderer = RENDERERS.get(column.type)
    if renderer is None:
        raise WireError(f"column {column.name}: type {column.declaration} has no form in JSON yet")
    found = renderer(column, array)
    if impossible is None or impossible.null_count == len(impossible):
        return found
    texts = json_columns.strings(impossible)
    return replace(found, instead=texts, room=found.room + texts.room, text=found.text + texts.text)


def render_column(column: Column, array: pa.Array, impossible: pa.StringArray | None = None) -> JsonTexts:
    """The JSON texts of a single column."""
    return render_rows(len(array), [EnvelopePart(b"", column_values(column, array, impossible))])


__all__ = ["RENDERERS", "JsonTexts", "column_values", "render_column"]
