"""Waits for a target that another process has open: a query in a shell or a notebook delays mirrors, and fails none."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from binlogsync.errors import TargetBusyError
from binlogsync.waiting import Interval

if TYPE_CHECKING:
    from binlogsync.consume.targets import Target

log = logging.getLogger(__name__)
T = TypeVar("T")

BUSY_PAUSE_S = 1.0
"""Seconds between attempts, each of which waits for the target itself."""
_LONGEST_S = 3600.0
_WARN_S = 300.0
_WARNINGS: dict[str, Interval] = {}
"""When to log the next warning, for each file: all of its tables wait for it at the same time."""
_LOCK = threading.Lock()


def end_waits(target: Target, stop: threading.Event) -> None:
    """Have a stop end each wait of the target for another process; what was to be stored is delivered again."""
    if (tables := target.store.tables) is not None:
        tables.stop = stop


class TargetPatience:
    """How long to wait for a target, since it was found busy for the first time."""

    def __init__(self) -> None:
        self._since: float | None = None

    def allows(self, error: TargetBusyError) -> bool:
        """True if another attempt follows: for an hour. Logs the first error of a file as a warning."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
            with _LOCK:
                is_due = _WARNINGS.setdefault(error.path, Interval(_WARN_S)).is_due()
            log.log(logging.WARNING if is_due else logging.DEBUG, "%s. Waiting for it; no change is lost", error)
        return now - self._since < _LONGEST_S

    def wait(self, error: TargetBusyError, stop: threading.Event) -> None:
        """Wait before another attempt; raises the error if none follows, or `stop` is set."""
        if stop.is_set() or not self.allows(error):
            raise error
        stop.wait(BUSY_PAUSE_S)

    def end(self) -> None:
        """The target was written: the next wait is a new one."""
        self._since = None


def wait_while_busy(action: Callable[[], T], stop: threading.Event, applied: Callable[[], int] = lambda: 0) -> T:
    """Call the function, again while another process has its target open. Raises TargetBusyError at the end of that.

    `applied` returns how many changes were stored: the wait is a new one if a call has stored some.
    """
    patience, before = TargetPatience(), applied()
    while True:
        try:
            return action()
        except TargetBusyError as error:
            if before != (before := applied()):
                patience.end()
            patience.wait(error, stop)
