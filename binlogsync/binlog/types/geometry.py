"""GEOMETRY and its kinds: four bytes of SRID, then WKB, to a struct of both.

The SRID belongs to each value: a column declared without one may hold several, and no TABLE_MAP names it. Coordinates
are in the order in which MySQL stores them (longitude first), as `SELECT` of the bare column prints them; ST_AsBinary
turns them round for reference systems that put the latitude first. Source: "The Geometry Internal Format" in MySQL's
manual, and MariaDB's, which is the same.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_SRID_BYTES = 4
_LEAST = 9  # the SRID, a byte order, a kind


def geometry_array(offsets: npt.NDArray[np.int32], data: npt.NDArray[np.uint8]) -> pa.StructArray:
    """Values of no bytes are NULL, which no geometry is; raises ValueError for one that is too short."""
    lengths = np.diff(offsets)
    there = lengths > 0
    if there.any() and int(lengths[there].min()) < _LEAST:
        raise ValueError(f"a geometry of {int(lengths[there].min())} bytes")
    starts = offsets[:-1][there].astype(np.int64)
    places = starts[:, None] + np.arange(_SRID_BYTES)
    srids = np.zeros(len(there), np.uint32)
    srids[there] = data[places].reshape(-1).view(np.uint32)
    kept = np.ones(int(offsets[-1]), np.bool_)
    kept[places] = False
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
