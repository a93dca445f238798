"""VECTOR: float32 numbers, least significant byte first, end to end; to Arrow's list<float>.

Source: sql-common/vector_conversion.h; MariaDB logs the same bytes as a VARBINARY.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def vector_array(
    offsets: npt.NDArray[np.int32], data: npt.NDArray[np.uint8], validity: pa.Buffer | None, nulls: int
) -> pa.ListArray:
    """Raises ValueError for a value whose size is not a multiple of four."""
    if (offsets & 3).any():
        raise ValueError("the size of a VECTOR value is not a multiple of four")
    numbers = data[: int(offsets[-1])].view("<f4")
    values = pa.Array.from_buffers(pa.float32(), len(numbers), [None, pa.py_buffer(numbers)], 0)
    pointers = [validity, pa.py_buffer(offsets >> 2)]
    return pa.Array.from_buffers(pa.list_(pa.float32()), len(offsets) - 1, pointers, nulls, children=[values])
