"""Reduces garbage collections: none while many long-lived objects are created, and none of these afterwards.

The collector looks through all objects again and again while their number grows, which takes a tenth to a fifth of the
time of importing many modules, of compiling kernels, and of building definitions.
"""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache


@contextmanager
def without_collection() -> Iterator[None]:
    """No garbage collection during the block or the decorated function."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@cache
def exempt_existing_objects() -> None:
    """Leave all present objects out of later collections; for processes that run one long loop.

    A full collection looks at more than 100,000 objects of imported modules, which stops all threads for 50 to 150 ms.
    Only the first call in a process has an effect.
    """
    if (pyarrow := sys.modules.get("pyarrow")) is not None:
        # For its first array pyarrow imports pandas, if that is installed: 0.4 s, and 26,000 more objects.
        pyarrow.array([0])
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)  # otherwise DuckDB reports leaked objects at the end
