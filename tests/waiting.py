"""Polling with a deadline, for tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

_POLL_S = 0.02
# A busy machine is several times slower than the quiet one that the timeouts were chosen on.
_PATIENCE = 4

Result = TypeVar("Result")


def wait_until(predicate: Callable[[], Result], timeout_s: float, what: str) -> Result:
    """Returns the first true result of `predicate`; fails with `what` and the last result after a timeout.

    `timeout_s` is what a quiet machine would need at most; a busy one gets more.
    """
    timeout_s *= _PATIENCE
    deadline = time.monotonic() + timeout_s
    while not (result := predicate()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s:.1f} s for: {what}; the last result was {result!r}")
        time.sleep(_POLL_S)
    return result
