"""Buffers into which a connection receives, used again when no message in them is needed any longer.

New memory of this size costs more time (page faults) than finding the messages in it.
"""

from __future__ import annotations

import weakref
from collections import deque

import numpy as np
import numpy.typing as npt

SIZE = 4 << 20
LEAST_FREE = 128 << 10
"""With less room at its end, a buffer is replaced."""
_free: deque[npt.NDArray[np.uint8]] = deque(maxlen=4)


class RecycledBuffer:
    """Memory that is filled from its start. Views of `text` keep it from being used for other data.

    Attributes:
        text: the memory.
        filled: number of bytes received.
    """

    def __init__(self, content: bytes | memoryview = b"", needed: int = 0) -> None:
        """A buffer that begins with `content` and has room for `needed` bytes in all, or more."""
        size = max(SIZE, needed + LEAST_FREE)
        try:
            memory = _free.popleft() if size == SIZE else np.empty(size, np.uint8)
        except IndexError:
            memory = np.empty(size, np.uint8)
        view = memory[:]
        if size == SIZE:
            weakref.finalize(view, _free.append, memory).atexit = False
        self.text = memoryview(view.data)
        self.filled = len(content)
        self.text[: self.filled] = content

    @property
    def room(self) -> memoryview:
        """Where the next bytes are received."""
        return self.text[self.filled :]
