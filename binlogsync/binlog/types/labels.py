"""ENUM and SET: numbers in the row, labels in the TABLE_MAP.

ENUM becomes dictionary<int16, string>; number 0 is the empty string that MySQL stores for an invalid value. SET becomes
list<string>, members in the order of their declaration.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

INVALID = 0xFFFF


def enum_array(
    numbers: npt.NDArray[np.uint16], labels: tuple[str, ...], validity: pa.Buffer | None, nulls: int
) -> pa.DictionaryArray:
    """Numbers from 1 to labels, as the kernel writes them: INVALID for number 0, and 0 where there is no value.

    Raises ValueError for a number without a label.
    """
    invalid = numbers == INVALID
    codes = np.maximum(numbers.astype(np.int32) - 1, 0)
    names = list(labels)
    if invalid.any():
        if "" not in names:
            names.append("")
        codes[invalid] = names.index("")
    if len(codes) and int(codes.max()) >= max(len(names), 1):
        raise ValueError(f"number {int(codes.max()) + 1} has no label, the type has {len(labels)}")
    codes = codes.astype(np.int16)
    indices = pa.Array.from_buffers(pa.int16(), len(codes), [validity, pa.py_buffer(codes)], nulls)
    return pa.DictionaryArray.from_arrays(indices, pa.array(names, pa.string()))


def set_array(
    masks: npt.NDArray[np.uint64], labels: tuple[str, ...], validity: pa.Buffer | None, nulls: int
) -> pa.ListArray:
    """Bit masks (NULLs zero) to lists of labels; raises ValueError for a bit without a label."""
    members = np.unpackbits(masks.view(np.uint8).reshape(-1, 8), axis=1, bitorder="little")
    if members[:, len(labels) :].any():
        raise ValueError(f"a member number above {len(labels)} has no label")
    rows, bits = members.nonzero()
    offsets = np.zeros(len(masks) + 1, np.int32)
    np.cumsum(np.bincount(rows, minlength=len(masks)), out=offsets[1:])
    values = pa.array(labels, pa.string()).take(pa.array(bits.astype(np.int64)))
    return pa.Array.from_buffers(
        pa.list_(pa.string()), len(masks), [validity, pa.py_buffer(offsets)], nulls, children=[values]
    )
