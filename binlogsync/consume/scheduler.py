"""Which item a worker processes next, if there are more items than workers. Pure: does no I/O.

Items with work queue in first-in, first-out order, so none waits longer than one turn of each other item. A failed item
waits before its retry, and failed items occupy at most half of the workers, so that other items always find one. An
item without work is idle until it is woken or its idle time ends. A signal for an item that a worker has is kept until
the item is returned.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(eq=False, slots=True)
class _Sleeper:
    """A worker that waits, and when it looks for delayed items; infinite if another worker does."""

    woken: threading.Condition
    looks_at: float


class Scheduler(Generic[Item]):
    """A queue of items. Thread-safe; an item is never given to two workers at once. `clock` returns seconds.

    With `quick_s`, another worker begins only when those at work have had their items for so long: threads that only
    compute would wait for each other (for the global interpreter lock), so one of them is faster than several.
    Items that `may_wait` for something else do not keep other workers from beginning.
    """

    def __init__(
        self,
        items: Iterable[Item],
        workers: int,
        clock: Callable[[], float] = time.monotonic,
        *,
        quick_s: float = 0.0,
        may_wait: Callable[[Item], bool] = lambda _: False,
    ) -> None:
        self._queue = deque(items)
        self._due_at: dict[Item, float] = {}
        self._failed: set[Item] = set()
        self._failed_in_work: set[Item] = set()
        self._max_failed = max(1, workers // 2)
        self._clock, self._quick_s, self._may_wait = clock, quick_s, may_wait
        self._lock = threading.RLock()
        self._returned = threading.Condition(self._lock)
        self._sleepers: list[_Sleeper] = []
        """Workers that wait and have not been woken, in the order in which they began to wait."""
        self._is_closed = False
        self._has_new_idle = False
        self._in_work: dict[Item, float] = {}
        """The items that workers have, and since when they keep others from beginning."""
        self._signals: dict[Item, float] = {}
        """Signaled items that wait for their time, or for their worker, and when they are due."""
        self._woken = 0
        """Number of workers that were woken and have not looked yet."""
        self._stalled_since: float | None = None

    def add(self, item: Item, workers: int) -> None:
        """Queue a new item; `workers` is the number of workers from now on."""
        with self._lock:
            self._max_failed = max(1, workers // 2)
            self._queue.append(item)
            self._wake_for(self._clock())

    def next(self) -> Item | None:
        """Wait for the next item and return it; None once the scheduler is closed."""
        with self._lock:
            while not self._is_closed:
                due_s = self._queue_due_items()
                busy_s = self._worth_another_at - self._clock() if self._queue else 0.0
                if busy_s <= 0 and (item := self._take_queued()) is not None:
                    # Another worker takes what else is queued, or waits for the next delayed item.
                    self._wake_for(self._clock() + (0.0 if self._queue else due_s))
                    return item
                self._sleep(due_s if busy_s <= 0 else min(busy_s, due_s))
            return None

    def signal(self, item: Item, delay_s: float = 0.0) -> None:
        """Queue an idle item after `delay_s` at the latest, an item in work after it is returned and the delay is over.

        The retry of a failed item is not changed.
        """
        with self._lock:
            due = self._clock() + delay_s
            if item in self._failed or not (item in self._due_at or item in self._in_work):
                return
            self._signals[item] = min(due, self._signals.get(item, due))
            if item in self._due_at:
                self._due_at[item] = min(due, self._due_at[item])
                self._wake_for(self._due_at[item])

    def put_back(self, item: Item, delay_s: float) -> None:
        """Return an item unprocessed; it is signaled, and due after `delay_s`."""
        with self._lock:
            due = self._clock() + delay_s
            self._signals[item] = min(due, self._signals.get(item, due))
            self._return(item, has_failed=False, delay_s=delay_s)

    def take_signaled(self, is_wanted: Callable[[Item], bool], most: int | None = None) -> list[Item]:
        """Give the caller further items that are queued, or signaled and not due yet; `most` with the one it has."""
        with self._lock:
            found = [item for item in self._queue if item not in self._failed and is_wanted(item)]
            found += [item for item in self._signals if item in self._due_at and is_wanted(item)]
            found = found[: None if most is None else most - 1]
            for item in found:
                if item in self._due_at:
                    del self._due_at[item]
                else:
                    self._queue.remove(item)
                self._begin_work(item)
            return found

    def remove(self, item: Item, timeout_s: float) -> bool:
        """Remove an item, after its worker has returned it. False if that takes longer than `timeout_s`."""
        with self._lock:
            if not self._returned.wait_for(lambda: item not in self._in_work, timeout_s):
                return False
            self._due_at.pop(item, None)
            self._signals.pop(item, None)
            self._failed.discard(item)
            if item in self._queue:
                self._queue.remove(item)
            return True

    def stalled_s(self) -> float:
        """How long items have been due while no worker took one; 0 while a worker waits for items."""
        with self._lock:
            if self._sleepers or self._woken:
                self._stalled_since = None
                return 0.0
            now = self._clock()
            is_due = any(item not in self._failed for item in self._queue) or any(
                due <= now for item, due in self._due_at.items() if item not in self._failed
            )
            if not is_due:
                self._stalled_since = None
                return 0.0
            if self._stalled_since is None:
                self._stalled_since = now
            return now - self._stalled_since

    @property
    def workers_asleep(self) -> int:
        """Number of workers that wait and have not been woken."""
        return len(self._sleepers)

    @property
    def _next_look(self) -> float:
        """When the first of the waiting workers looks again, at the latest; it wakes others as far as needed."""
        if self._woken:
            return -math.inf
        return min((sleeper.looks_at for sleeper in self._sleepers), default=math.inf)

    @property
    def _worth_another_at(self) -> float:
        """When another worker may begin: once the newest item in work has taken `quick_s`."""
        return max(self._in_work.values(), default=-math.inf) + self._quick_s

    def _take_queued(self) -> Item | None:
        for item in self._queue:
            if item not in self._failed or len(self._failed_in_work) < self._max_failed:
                self._queue.remove(item)
                if item in self._failed:
                    self._failed_in_work.add(item)
                self._begin_work(item)
                return item
        return None

    def _sleep(self, due_s: float) -> None:
        """Wait until woken; at most `due_s` if no other worker looks again before."""
        looks_at = self._clock() + due_s
        if looks_at >= self._next_look:
            looks_at = math.inf
        sleeper = _Sleeper(threading.Condition(self._lock), looks_at)
        self._sleepers.append(sleeper)
        sleeper.woken.wait(None if looks_at == math.inf else due_s)
        if sleeper in self._sleepers:
            self._sleepers.remove(sleeper)
        else:
            self._woken -= 1

    def _wake_worker(self) -> None:
        """Wake a worker: the last that began to wait, whose memory is still in the caches, and if possible none that
        waits for a delayed item.
        """
        if self._sleepers:
            untimed = (sleeper for sleeper in reversed(self._sleepers) if sleeper.looks_at == math.inf)
            sleeper = next(untimed, self._sleepers[-1])
            self._sleepers.remove(sleeper)
            self._woken += 1
            sleeper.woken.notify()

    def _wake_for(self, due: float) -> None:
        """Wake a worker for an item that is due then, if none looks again in time."""
        if max(due, self._worth_another_at) < self._next_look:
            self._wake_worker()

    def _begin_work(self, item: Item) -> None:
        self._in_work[item] = -math.inf if self._may_wait(item) else self._clock()
        self._signals.pop(item, None)
        self._stalled_since = None

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
        with self._lock:
            has_new_idle, self._has_new_idle = self._has_new_idle, False
            return [item for item in self._due_at if item not in self._failed], has_new_idle

    def wake(self, items: Iterable[Item]) -> None:
        """Queue those of the items that are idle; others are left as they are."""
        with self._lock:
            for item in items:
                if item in self._due_at and item not in self._failed:
                    del self._due_at[item]
                    self._queue.append(item)
            if self._queue:
                self._wake_for(self._clock())

    def close(self) -> None:
        """Make every current and later call of `next` return None."""
        with self._lock:
            self._is_closed = True
            while self._sleepers:
                self._wake_worker()

    def _return(self, item: Item, *, has_failed: bool, delay_s: float | None = None) -> None:
        with self._lock:
            self._failed_in_work.discard(item)
            self._in_work.pop(item, None)
            signal = self._signals.pop(item, None)
            (self._failed.add if has_failed else self._failed.discard)(item)
            if delay_s is None:
                self._queue.append(item)
            else:
                self._due_at[item] = self._clock() + delay_s
                if signal is not None and not has_failed:
                    self._signals[item] = signal
                    self._due_at[item] = min(signal, self._due_at[item])
                self._has_new_idle = self._has_new_idle or not has_failed
                self._wake_for(self._due_at[item])
            if delay_s is None:
                self._wake_for(self._clock())
            self._returned.notify_all()

    def _queue_due_items(self) -> float:
        """Queue the items whose delay is over; returns the seconds until the next one, infinite without any."""
        now = self._clock()
        for item in [item for item, due in self._due_at.items() if due <= now]:
            del self._due_at[item]
            self._queue.append(item)
        return max(0.0, min(self._due_at.values(), default=math.inf) - now)
