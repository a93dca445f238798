"""A stop that is a flag and not an exception: the tail ends between two flushes, not in the middle of one."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


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
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, _frame: FrameType | None) -> None:
        stop.ask(signal.Signals(number).name)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
