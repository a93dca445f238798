"""A stop flag, set by signals, so that a tail ends between two flushes and not in the middle of one."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from binlogsync.signals import call_on_signals


class StopFlag(threading.Event):
    """An event that requests a stop. `reason` is None until then, and afterwards the first reason."""

    reason: str | None = None

    def request(self, reason: str) -> None:
        """Request a stop. Later reasons do not replace the first one."""
        if self.reason is None:
            self.reason = reason
        self.set()


@contextmanager
def stop_on_signals() -> Iterator[StopFlag]:
    """A flag that SIGINT and SIGTERM set while the block runs. Outside of the main thread, signals do not set it."""
    stop = StopFlag()
    with call_on_signals(stop.request, once=False):
        yield stop
