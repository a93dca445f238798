"""Who is worked next, where there are more tables than workers. Pure: knows tables only as things to hand out.

Those that have something to do stand in line, in the order in which they came, so none waits longer than one turn of
all others. Those that failed wait for a time of their own first, and have at most half of the workers, however many
they are: the others always find one. Those that have nothing to do rest until they are woken, or for a while.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Scheduler(Generic[Item]):
    """The line. Safe to call from any thread; each item is out once at most. `clock` counts seconds."""

    def __init__(self, items: Iterable[Item], workers: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._line = deque(items)
        self._later: dict[Item, float] = {}
        self._failed: set[Item] = set()
        self._failed_out: set[Item] = set()
        self._most_failed = max(1, workers // 2)
        self._clock = clock
        self._changed = threading.Condition()
        self._is_closed = False
        self._has_rested = False

    def next(self) -> Item | None:
        """The first in line that may be worked, when there is one; None when the line is closed."""
        with self._changed:
            while not self._is_closed:
                due_s = self._come_back()
                for item in self._line:
                    if item not in self._failed or len(self._failed_out) < self._most_failed:
                        self._line.remove(item)
                        if item in self._failed:
                            self._failed_out.add(item)
                        return item
                self._changed.wait(due_s)
            return None

    def again(self, item: Item) -> None:
        """It was worked, and has more to do: behind all that stand in line."""
        self._back(item, has_failed=False)

    def rest(self, item: Item, seconds: float) -> None:
        """It was worked, and has nothing to do until it is woken or the time is over."""
        self._back(item, has_failed=False, later_s=seconds)

    def fail(self, item: Item, seconds: float) -> None:
        """It failed, and is not woken before the time is over."""
        self._back(item, has_failed=True, later_s=seconds)

    def resting(self) -> tuple[list[Item], bool]:
        """Those that can be woken, and whether one of them came since the last call."""
        with self._changed:
            has_rested, self._has_rested = self._has_rested, False
            return [item for item in self._later if item not in self._failed], has_rested

    def wake(self, items: Iterable[Item]) -> None:
        """These have something to do; those that do not rest any more are left as they are."""
        with self._changed:
            for item in items:
                if item in self._later and item not in self._failed:
                    del self._later[item]
                    self._line.append(item)
            self._changed.notify_all()

    def close(self) -> None:
        """Hand out nothing any more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _back(self, item: Item, *, has_failed: bool, later_s: float | None = None) -> None:
        with self._changed:
            self._failed_out.discard(item)
            (self._failed.add if has_failed else self._failed.discard)(item)
            if later_s is None:
                self._line.append(item)
            else:
                self._later[item] = self._clock() + later_s
                self._has_rested = self._has_rested or not has_failed
            self._changed.notify_all()

    def _come_back(self) -> float | None:
        """Those whose time is over join the line; seconds until the next one does, None without."""
        now = self._clock()
        for item in [item for item, due in self._later.items() if due <= now]:
            del self._later[item]
            self._line.append(item)
        return max(0.0, min(self._later.values()) - now) if self._later else None
