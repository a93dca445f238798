"""Polling with a deadline, for tests."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

_POLL_S, _MAX_POLL_S = 0.02, 1.0
# A busy machine is several times slower than the quiet one that the timeouts were chosen on.
_PATIENCE = 4

_QUICK_S, _LONGEST_REST_S = 0.02, 0.5

Result = TypeVar("Result")


def paced(stop: threading.Event, chance: random.Random, pause_s: float, *, restful: bool = True) -> Iterator[None]:
    """The rounds of a writer until `stop` is set, with random pauses of up to `pause_s` before each.

    If `restful`, pauses are longer after rounds that took more than a quiet machine needs. A test checks everything
    that was written while it waited for something else. On a busy machine it waits longer, and writers that did not
    rest would make it check more, which makes the machine busier still.
    """
    rest_s = 0.0
    while not stop.wait(chance.random() * pause_s + rest_s):
        begun = time.monotonic()
        yield
        took_s = time.monotonic() - begun
        rest_s = min(2 * max(took_s - _QUICK_S, 0.0), _LONGEST_REST_S) if restful else 0.0


def wait_until(predicate: Callable[[], Result], timeout_s: float, what: str) -> Result:
    """Returns the first true result of `predicate`; fails with `what` and the last result after a timeout.

    `timeout_s` is what a quiet machine would need at most; a busy one gets more.
    """
    timeout_s *= _PATIENCE
    deadline = time.monotonic() + timeout_s
    while True:
        begun = time.monotonic()
        if result := predicate():
            return result
        now = time.monotonic()
        if now > deadline:
            raise AssertionError(f"waited {timeout_s:.1f} s for: {what}; the last result was {result!r}")
        # A predicate that is expensive must not take most of the machine from what it waits for.
        time.sleep(min(max(_POLL_S, 2 * (now - begun)), _MAX_POLL_S))
