"""Memory for columns: handed out as it is, so whoever takes it writes every byte that he lets others see.

What was used is kept for the next of the same shape: to have the system map and clear fresh pages takes longer than to
decode into them.
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
    """Bytes that `Arena.take(size)` uses up."""
    return -(-size // _BOUNDARY) * _BOUNDARY


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """A stretch of address space, and how many of its bytes have memory behind them, at most."""

    shape: Hashable
    memory: npt.NDArray[np.uint8]
    written: int


class _Pool:
    """Stretches that nobody uses now, the latest last. What is given back at any moment, also by the garbage collector
    in the middle of `take`, first goes to `_returned`.
    """

    def __init__(self) -> None:
        self._free: list[_Block] = []
        self._returned: deque[_Block] = deque()
        self._lock = threading.Lock()

    def take(self, shape: Hashable, size: int) -> _Block:
        """One of that shape, or a new one."""
        with self._lock:
            while self._returned:
                self._free.append(self._returned.popleft())
            for i in range(len(self._free) - 1, -1, -1):
                if self._free[i].shape == shape:
                    return self._free.pop(i)
            self._trim()
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
        return _Block(shape, np.frombuffer(mmap.mmap(-1, max(size, 1), flags=flags), np.uint8), 0)

    def give(self, stretch: _Block) -> None:
        """Keep it, unless that is too much already."""
        if stretch.written + sum(other.written for other in tuple(self._returned)) <= _KEPT_BYTES:
            self._returned.append(stretch)

    def _trim(self) -> None:
        """Let go of those that were not asked for the longest."""
        kept = sum(stretch.written for stretch in self._free)
        while self._free and (kept > _KEPT_BYTES or len(self._free) > _KEPT):
            kept -= self._free.pop(0).written


_POOL = _Pool()


class _BlockUse:
    """A stretch in use: it goes back when the last array or buffer that points into it is gone."""

    def __init__(self, stretch: _Block) -> None:
        self.stretch = stretch
        self.written = stretch.written
        self.__array_interface__: dict[str, Any] = stretch.memory.__array_interface__
        self._give = _POOL.give

    def __del__(self) -> None:
        self._give(_Block(self.stretch.shape, self.stretch.memory, self.written))


class Arena:
    """Hands out pieces of one stretch.

    Only what is written takes memory, so a size may be an upper bound that is rarely reached. `shape` is the same for
    arenas of which the same pieces are taken and written alike.
    """

    def __init__(self, size: int, shape: Hashable = None) -> None:
        self._lease = _BlockUse(_POOL.take((size, shape), size))
        self._address = int(self._lease.stretch.memory.ctypes.data)
        self._size = size
        self._used = 0

    def take(self, size: int) -> int:
        """The address of `size` more bytes."""
        address = self._address + self._used
        self._used += aligned_size(size)
        if self._used > self._size:
            raise AssertionError(f"{self._used} bytes taken of {self._size} reserved")
        return address

    def written(self, size: int) -> None:
        """Say how many bytes were written, for the account of what is kept."""
        self._lease.written = max(self._lease.written, size)

    def buffer(self, address: int, size: int) -> pa.Buffer:
        """Arrow's view of `size` bytes at an address that `take` gave."""
        return pa.foreign_buffer(address, size, self._lease)

    def view(self, address: int, count: int, dtype: np.dtype[np.generic] | type[np.generic]) -> np.ndarray:
        """NumPy's view of `count` items at an address that `take` gave."""
        start = address - self._address
        return np.asarray(self._lease)[start : start + count * np.dtype(dtype).itemsize].view(dtype)
