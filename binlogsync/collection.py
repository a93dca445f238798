"""Pauses Python's search for reference cycles while many objects are made that stay.

The collector looks through all objects again and again while their number grows, which takes a tenth to a fifth of the
time of importing many modules, of compiling kernels, and of building definitions.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collection() -> Iterator[None]:
    """No garbage collection during the block or the decorated function; afterwards it is as it was before."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
