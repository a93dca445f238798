"""Waiting in tests: poll for what must come true, with a deadline, instead of sleeping and hoping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

_POLL_S = 0.02

Result = TypeVar("Result")


def wait_until(predicate: Callable[[], Result], timeout_s: float, what: str) -> Result:
    """Returns the first true result of `predicate`; fails with `what` and the last result after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while not (result := predicate()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s:.1f} s in vain for: {what}; the last look gave {result!r}")
        time.sleep(_POLL_S)
    return result
