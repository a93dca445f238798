"""Arrow columns to JSON text, exact and without Python's work on any row.

`render_column` is the way in: it looks up the family of a MySQL type in one table. A new type is one function of a
family file and one line here.
"""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from binlogsync.errors import WireError
from binlogsync.render.binary import render_base64
from binlogsync.render.decimals import render_decimals
from binlogsync.render.fragments import Fragments, overlay, validity
from binlogsync.render.labels import render_arrays, render_label_arrays, render_labels
from binlogsync.render.numbers import render_booleans, render_floats, render_integers
from binlogsync.render.structured import render_geometries, render_json
from binlogsync.render.text import render_strings
from binlogsync.render.times import render_dates, render_datetimes, render_durations
from binlogsync.schema import ADDRESS_TYPES, BINARY_TYPES, GEOMETRY_TYPES, INTEGER_BITS, TEXT_TYPES, Column

Renderer = Callable[[Column, pa.Array], Fragments]


def _bits(column: Column, array: pa.Array) -> Fragments:
    return render_booleans(array) if pa.types.is_boolean(array.type) else render_integers(array)


RENDERERS: dict[str, Renderer] = {
    **dict.fromkeys((*INTEGER_BITS, "year"), lambda column, array: render_integers(array)),
    **dict.fromkeys((*TEXT_TYPES, *ADDRESS_TYPES), lambda column, array: render_strings(array)),
    **dict.fromkeys(BINARY_TYPES, lambda column, array: render_base64(array)),
    **dict.fromkeys(GEOMETRY_TYPES, lambda column, array: render_geometries(array)),
    **dict.fromkeys(("float", "double"), lambda column, array: render_floats(array)),
    **dict.fromkeys(("datetime", "timestamp"), lambda column, array: render_datetimes(array, column.fsp or 0)),
    "decimal": lambda column, array: render_decimals(array),
    "date": lambda column, array: render_dates(array),
    "time": lambda column, array: render_durations(array, column.fsp or 0),
    "bit": _bits,
    "enum": lambda column, array: render_labels(array),
    "set": lambda column, array: render_label_arrays(array),
    "vector": lambda column, array: render_arrays(array, render_floats),
    "json": lambda column, array: render_json(array),
}


def render_column(column: Column, array: pa.Array, impossible: pa.StringArray | None = None) -> Fragments:
    """The column's values (Arrow type schema.arrow_type(column)) as JSON; `impossible` texts take the place of NULLs.

    Raises WireError for a type that has no renderer.
    """
    renderer = RENDERERS.get(column.type)
    if renderer is None:
        raise WireError(f"column {column.name}: type {column.declaration} has no form in JSON yet")
    fragments = renderer(column, array)
    if impossible is None or impossible.null_count == len(impossible):
        return fragments
    return overlay(fragments, render_strings(impossible), validity(impossible))


__all__ = ["RENDERERS", "Fragments", "render_column"]
