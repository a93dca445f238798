"""Reusable memory for columns. It is not cleared: the caller writes every byte that it exposes to others.

A released block is kept for the next arena of the same shape, because the operating system takes longer to map and
clear new pages than the reader takes to decode into them.
"""

from __future__ import annotations

import mmap
import threading
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_BOUNDARY = 64  # Arrow recommends it for every buffer
_KEPT_BYTES = 64 << 20
_KEPT = 64


def aligned_size(size: int) -> int:
    """Number of bytes that `Arena.take(size)` reserves: `size`, rounded up to the alignment."""
    return -(-size // _BOUNDARY) * _BOUNDARY


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """A block of address space, and the most bytes of it that were ever written, and so occupy memory."""

    shape: Hashable
    memory: npt.NDArray[np.uint8]
    written: int


class _Pool:
    """Free blocks, the one released last at the end.

    A block can be released at any time, even by the garbage collector during `take`, so it goes to `_returned` first.
    """

    def __init__(self) -> None:
        self._free: list[_Block] = []
        self._returned: deque[_Block] = deque()
        self._lock = threading.Lock()

    def take(self, shape: Hashable, size: int) -> _Block:
        """A free block of that shape, or a new one."""
        with self._lock:
            while self._returned:
                self._free.append(self._returned.popleft())
            for i in range(len(self._free) - 1, -1, -1):
                if self._free[i].shape == shape:
                    return self._free.pop(i)
            self._trim()
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
        return _Block(shape, np.frombuffer(mmap.mmap(-1, max(size, 1), flags=flags), np.uint8), 0)

    def release(self, block: _Block) -> None:
        """Keep a released block for reuse, unless too many bytes are kept already."""
        if block.written + sum(other.written for other in tuple(self._returned)) <= _KEPT_BYTES:
            self._returned.append(block)

    def _trim(self) -> None:
        """Free the blocks that have been unused the longest."""
        kept = sum(block.written for block in self._free)
        while self._free and (kept > _KEPT_BYTES or len(self._free) > _KEPT):
            kept -= self._free.pop(0).written


_POOL = _Pool()


class _BlockUse:
    """Owner of a block in use. The block returns to the pool once no array or buffer refers to it."""

    def __init__(self, block: _Block) -> None:
        self.block = block
        self.written = block.written
        self.__array_interface__: dict[str, Any] = block.memory.__array_interface__
        self._release = _POOL.release

    def __del__(self) -> None:
        self._release(_Block(self.block.shape, self.block.memory, self.written))


class Arena:
    """Allocates aligned memory from one block.

    Only written bytes occupy memory, so `size` may be an upper bound that is rarely reached. Arenas with an equal
    `shape` make the same allocations and fill them to a similar extent.
    """

    def __init__(self, size: int, shape: Hashable = None) -> None:
        self._use = _BlockUse(_POOL.take((size, shape), size))
        self._address = int(self._use.block.memory.ctypes.data)
        self._size = size
        self._used = 0

    def take(self, size: int) -> int:
        """Allocate `size` bytes and return their address."""
        address = self._address + self._used
        self._used += aligned_size(size)
        if self._used > self._size:
            raise AssertionError(f"{self._used} bytes taken of {self._size} reserved")
        return address

    def record_written(self, size: int) -> None:
        """Record how many bytes were written, for the limit on the memory that the pool keeps."""
        self._use.written = max(self._use.written, size)

    def buffer(self, address: int, size: int) -> pa.Buffer:
        """An Arrow buffer of `size` bytes at an address that `take` returned."""
        return pa.foreign_buffer(address, size, self._use)

    def view(self, address: int, count: int, dtype: np.dtype[np.generic] | type[np.generic]) -> np.ndarray:
        """A NumPy array of `count` items at an address that `take` returned."""
        start = address - self._address
        return np.asarray(self._use)[start : start + count * np.dtype(dtype).itemsize].view(dtype)
