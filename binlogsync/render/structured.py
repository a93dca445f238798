"""JSON columns, whose text is JSON already and goes into the envelope as it is, and GEOMETRY as {srid, wkb}."""

from __future__ import annotations

import pyarrow as pa

from binlogsync.render.assemble import AFTER, Part, assemble
from binlogsync.render.binary import render_base64
from binlogsync.render.fragments import Fragments, copy_text, validity
from binlogsync.render.numbers import render_integers


def render_json(array: pa.Array) -> Fragments:
    """string of JSON text; NULL and the JSON value null look the same here, the envelope tells them apart."""
    return copy_text(array)


def render_geometries(array: pa.StructArray) -> Fragments:
    """struct of srid and wkb: an object, the bytes in base64, as Debezium's io.debezium.data.geometry.Geometry is."""
    srids, wkb = array.flatten()
    parts = [
        Part(b'{"srid":', render_integers(srids), AFTER),
        Part(b',"wkb":', render_base64(wkb), AFTER),
        Part(b"}", None, AFTER),
    ]
    there = validity(array)
    return assemble(len(array), parts, there, there)
