"""The backoff after failures, the pauses and time limit of a loop that tries again, and regular reports of a loop.

Libraries for this retry a function that raises. Most loops here wait for a condition, wait while they report progress,
or put one of many tables off without blocking a thread; so they need the values below and no decorator.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable


def backoff_s(first_s: float, longest_s: float, failures: int) -> float:
    """Seconds to wait after so many failures in a row, from 1: `first_s`, doubled each time, up to `longest_s`."""
    return min(longest_s, first_s * 2.0 ** min(failures - 1, 30))


class RetryTimer:
    """Pauses and time limit of a loop that tries again.

    Args:
        limit_s: seconds after which the loop gives up.
        first_s: the first pause; each further one is twice as long.
        longest_s: the longest pause; None for equal pauses.
        sleep: waits for so many seconds.
    """

    def __init__(
        self,
        limit_s: float,
        first_s: float,
        longest_s: float | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._limit_s = limit_s
        self._first_s = first_s
        self._longest_s = first_s if longest_s is None else longest_s
        self._sleep = sleep
        self.restart()

    def restart(self) -> None:
        """Begin again: after a success."""
        self._ends_at = time.monotonic() + self._limit_s
        self._pauses = 0

    @property
    def is_over(self) -> bool:
        """True after the time limit."""
        return time.monotonic() >= self._ends_at

    @property
    def pause_s(self) -> float:
        """Seconds of the next pause."""
        return backoff_s(self._first_s, self._longest_s, self._pauses + 1)

    def pause(self) -> None:
        """Wait before the next attempt."""
        seconds = self.pause_s
        self._pauses += 1
        self._sleep(seconds)


class Interval:
    """Lets a loop do something at most once in `every_s` seconds. `clock` returns seconds."""

    def __init__(
        self, every_s: float, clock: Callable[[], float] = time.monotonic, *, is_due_at_once: bool = True
    ) -> None:
        self._every_s = every_s
        self._clock = clock
        self._due_s = -math.inf if is_due_at_once else clock() + every_s

    def is_due(self) -> bool:
        """True if it is time; the next time is then `every_s` later."""
        now = self._clock()
        if now < self._due_s:
            return False
        self._due_s = now + self._every_s
        return True
