"""How many generated examples a test tries.

A test that calls `examples` has the marker `generated`: `make test-exhaustive` runs it again, with more examples.
"""

from __future__ import annotations

import os

_FACTOR = int(os.environ.get("BINLOGSYNC_TEST_EXAMPLES") or "1")


def examples(count: int) -> int:
    """`count`, the number in `make test`, times `BINLOGSYNC_TEST_EXAMPLES`."""
    return count * _FACTOR
