"""Which item a worker processes next, if there are more items than workers. Pure: does no I/O.

Items with work queue in first-in, first-out order, so none waits longer than one turn of each other item. A failed item
waits before its retry, and failed items occupy at most half of the workers, so that other items always find one. An
item without work is idle until it is woken or its idle time ends.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Scheduler(Generic[Item]):
    """A queue of items. Thread-safe; an item is never given to two workers at once. `clock` returns seconds."""

    def __init__(self, items: Iterable[Item], workers: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._queue = deque(items)
        self._due_at: dict[Item, float] = {}
        self._failed: set[Item] = set()
        self._failed_in_work: set[Item] = set()
        self._max_failed = max(1, workers // 2)
        self._clock = clock
        self._changed = threading.Condition()
        self._is_closed = False
        self._has_new_idle = False

    def add(self, item: Item, workers: int) -> None:
        """Queue a new item; `workers` is the number of workers from now on."""
        with self._changed:
            self._max_failed = max(1, workers // 2)
            self._queue.append(item)
            self._changed.notify_all()

    def next(self) -> Item | None:
        """Wait for the next item and return it; None once the scheduler is closed."""
        with self._changed:
            while not self._is_closed:
                due_s = self._queue_due_items()
                for item in self._queue:
                    if item not in self._failed or len(self._failed_in_work) < self._max_failed:
                        self._queue.remove(item)
                        if item in self._failed:
                            self._failed_in_work.add(item)
                        return item
                self._changed.wait(due_s)
            return None

    def requeue(self, item: Item) -> None:
        """Return a processed item that has more work to the end of the queue."""
        self._return(item, has_failed=False)

    def set_idle(self, item: Item, seconds: float) -> None:
        """Return a processed item without work; it is queued again when it is woken or after `seconds`."""
        self._return(item, has_failed=False, delay_s=seconds)

    def delay_retry(self, item: Item, seconds: float) -> None:
        """Return a failed item; it is queued again after `seconds`, and `wake` does not shorten that."""
        self._return(item, has_failed=True, delay_s=seconds)

    def idle_items(self) -> tuple[list[Item], bool]:
        """The idle items, and whether one became idle since the last call."""
        with self._changed:
            has_new_idle, self._has_new_idle = self._has_new_idle, False
            return [item for item in self._due_at if item not in self._failed], has_new_idle

    def wake(self, items: Iterable[Item]) -> None:
        """Queue those of the items that are idle; others are left as they are."""
        with self._changed:
            for item in items:
                if item in self._due_at and item not in self._failed:
                    del self._due_at[item]
                    self._queue.append(item)
            self._changed.notify_all()

    def close(self) -> None:
        """Make every current and later call of `next` return None."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _return(self, item: Item, *, has_failed: bool, delay_s: float | None = None) -> None:
        with self._changed:
            self._failed_in_work.discard(item)
            (self._failed.add if has_failed else self._failed.discard)(item)
            if delay_s is None:
                self._queue.append(item)
            else:
                self._due_at[item] = self._clock() + delay_s
                self._has_new_idle = self._has_new_idle or not has_failed
            self._changed.notify_all()

    def _queue_due_items(self) -> float | None:
        """Queue the items whose delay is over; returns the seconds until the next one, None if no item is delayed."""
        now = self._clock()
        for item in [item for item, due in self._due_at.items() if due <= now]:
            del self._due_at[item]
            self._queue.append(item)
        return max(0.0, min(self._due_at.values()) - now) if self._due_at else None
