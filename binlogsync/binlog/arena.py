"""Memory for columns: handed out zeroed, so that what a kernel does not write is zero and no old byte leaks into a
batch.
"""

from __future__ import annotations

import mmap

import numpy as np
import pyarrow as pa

_BOUNDARY = 64  # Arrow recommends it for every buffer


def piece(size: int) -> int:
    """Bytes that `Arena.take(size)` uses up."""
    return -(-size // _BOUNDARY) * _BOUNDARY


class Arena:
    """One stretch of address space, given back when the last buffer that points into it is gone.

    Only what is written takes memory, so a size may be an upper bound that is rarely reached.
    """

    def __init__(self, size: int) -> None:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
        self._memory = np.frombuffer(mmap.mmap(-1, max(size, 1), flags=flags), np.uint8)
        self._address = int(self._memory.ctypes.data)
        self._used = 0

    def take(self, size: int) -> int:
        """The address of `size` more bytes."""
        address = self._address + self._used
        self._used += piece(size)
        if self._used > len(self._memory):
            raise AssertionError(f"{self._used} bytes taken of {len(self._memory)} reserved")
        return address

    def buffer(self, address: int, size: int) -> pa.Buffer:
        """Arrow's view of `size` bytes at an address that `take` gave."""
        return pa.foreign_buffer(address, size, self._memory)

    def view(self, address: int, count: int, dtype: np.dtype[np.generic] | type[np.generic]) -> np.ndarray:
        """NumPy's view of `count` items at an address that `take` gave."""
        start = address - self._address
        return self._memory[start : start + count * np.dtype(dtype).itemsize].view(dtype)
