"""Mirrors of one file apply one transaction at a time, and leave the file to readers in between.

A reader in another process gets the file only while no transaction has it, and an attempt to open it takes a moment.
So a transaction has only as many mirrors as can be applied in half a second, and afterwards the file stays free for as
long as it was in use. With a backlog, all mirrors that have changes join, and the target closes the file at intervals
(targets/duckdb/file.py).
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

LONGEST_USE_S = 0.5
"""How long a transaction should take. One mirror may take longer."""


class FileTurns:
    """Whose turn it is, and how many mirrors a transaction has. Thread-safe.

    Args:
        longest_free_s: the longest time that a file stays free after a transaction, in seconds.
        clock: returns seconds.
    """

    def __init__(self, longest_free_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._longest_free_s = longest_free_s
        self._clock = clock
        self._begun: dict[str, float] = {}
        self._free_until: dict[str, float] = {}
        self._most_mirrors: dict[str, int] = {}
        self._lock = threading.Lock()

    def begin(self, scope: str, *, has_backlog: bool) -> float:
        """Begin a transaction of mirrors with this scope, and call `end` afterwards.

        Returns 0 if that is allowed, else the seconds until it may be: infinity while another transaction has the file.
        With a backlog, a transaction does not leave the file to readers first.
        """
        with self._lock:
            if scope in self._begun:
                return math.inf
            now = self._clock()
            wait_s = self._free_until.get(scope, now) - now
            if wait_s > 0 and not has_backlog:
                return wait_s
            self._begun[scope] = now
            return 0.0

    def most_mirrors(self, scope: str, *, has_backlog: bool) -> int | None:
        """The largest number of mirrors of the transaction, by the time that the last one took; None for no limit.

        A transaction with a backlog has none: the next one begins at once, and would leave the others no turn.
        """
        with self._lock:
            return None if has_backlog else self._most_mirrors.get(scope)

    def end(self, scope: str, mirrors: int) -> None:
        """The transaction of so many mirrors has ended, and the file is closed."""
        with self._lock:
            now = self._clock()
            used_s = now - self._begun.pop(scope)
            self._free_until[scope] = now + min(used_s, self._longest_free_s)
            if used_s > 0:
                self._most_mirrors[scope] = max(1, int(mirrors * LONGEST_USE_S / used_s))
