"""A stop that is a flag and not an exception: the tail ends between two flushes, not in the middle of one."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from binlogsync.signals import asked_by_signals


class StopFlag(threading.Event):
    """Set when the work has to end; `reason` is None until then, and the first one to ask is the one that is kept."""

    reason: str | None = None

    def ask(self, reason: str) -> None:
        """Set it, and remember why when nobody asked before."""
        if self.reason is None:
            self.reason = reason
        self.set()


@contextmanager
def stop_on_signals() -> Iterator[StopFlag]:
    """A flag that SIGINT and SIGTERM set for as long as the block lasts; outside of the main thread nobody sets it."""
    stop = StopFlag()
    with asked_by_signals(stop.ask, once=False):
        yield stop
