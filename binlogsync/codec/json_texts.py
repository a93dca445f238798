"""Columns of JSON texts: the texts of all rows in one buffer, with offsets, as compiled kernels read and write them.

Also the buffers of Arrow arrays as NumPy arrays, for the same kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class JsonTexts:
    """JSON texts by row. Row i is data[offsets[i] : offsets[i + 1]]; `offsets` has one element more than rows."""

    data: Bytes
    offsets: Offsets

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def texts(self) -> list[bytes]:
        """The texts as a list, for tests and for small columns."""
        whole = self.data.tobytes()
        return [whole[self.offsets[i] : self.offsets[i + 1]] for i in range(len(self))]

    @classmethod
    def of(cls, texts: Sequence[bytes]) -> JsonTexts:
        """A column with these texts. The buffer of a column without any text is one byte long, not empty."""
        offsets = np.zeros(len(texts) + 1, np.int64)
        np.cumsum([len(text) for text in texts], out=offsets[1:])
        return cls(np.frombuffer(b"".join(texts) or b"\0", np.uint8), offsets)


def validity(array: pa.Array) -> Bytes:
    """For each row 1 if it has a value, 0 if it is NULL."""
    if array.null_count == 0:
        return np.ones(len(array), np.uint8)
    flags: Bytes = array.is_valid().cast(pa.uint8()).to_numpy()
    return flags


def validity_bitmap(valid: npt.NDArray[Any]) -> pa.Buffer | None:
    """Arrow's bitmap of an array with a byte (0 or 1) for each row; None if all are valid."""
    return None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))


def text_values(array: pa.Array) -> tuple[Bytes, npt.NDArray[np.int32]]:
    """(data, offsets) of a string or binary array, without copying; the offsets of a slice need not begin at 0."""
    _, offsets, data = array.buffers()
    if offsets is None or len(array) == 0:
        return np.empty(0, np.uint8), np.zeros(1, np.int32)
    row_offsets = np.frombuffer(offsets, np.int32, len(array) + 1, array.offset * 4)
    return (np.frombuffer(data, np.uint8) if data is not None and data.size else np.empty(0, np.uint8)), row_offsets
