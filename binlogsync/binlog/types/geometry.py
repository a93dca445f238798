"""GEOMETRY and its subtypes: four bytes of SRID, then WKB, to a struct of both.

Each value has its SRID: a column declared without one may contain several, and no TABLE_MAP has it. Coordinates are in
the order in which MySQL stores them (longitude first), as `SELECT` of the column returns them; ST_AsBinary swaps them
for reference systems with latitude first. Source: "The Geometry Internal Format" in the manuals of MySQL and MariaDB.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_SRID_BYTES = 4
_LEAST = 9  # SRID, byte order, geometry type


def geometry_array(offsets: npt.NDArray[np.int32], data: npt.NDArray[np.uint8]) -> pa.StructArray:
    """Empty values are NULL, since no geometry is empty; raises ValueError for a value that is too short."""
    lengths = np.diff(offsets)
    there = lengths > 0
    if there.any() and int(lengths[there].min()) < _LEAST:
        raise ValueError(f"a geometry of {int(lengths[there].min())} bytes")
    starts = offsets[:-1][there].astype(np.int64)
    pointers = starts[:, None] + np.arange(_SRID_BYTES)
    srids = np.zeros(len(there), np.uint32)
    srids[there] = data[pointers].reshape(-1).view(np.uint32)
    kept = np.ones(int(offsets[-1]), np.bool_)
    kept[pointers] = False
    ends = np.zeros(len(offsets), np.int32)
    np.cumsum(lengths - _SRID_BYTES * there, out=ends[1:])
    wkb = data[: int(offsets[-1])][kept]
    validity = None if there.all() else pa.py_buffer(np.packbits(there, bitorder="little"))
    nulls = int((~there).sum())
    children = [
        pa.Array.from_buffers(pa.uint32(), len(there), [validity, pa.py_buffer(srids)], nulls),
        pa.Array.from_buffers(pa.binary(), len(there), [validity, pa.py_buffer(ends), pa.py_buffer(wkb)], nulls),
    ]
    kind = pa.struct([("srid", pa.uint32()), ("wkb", pa.binary())])
    return pa.Array.from_buffers(kind, len(there), [validity], nulls, children=children)
