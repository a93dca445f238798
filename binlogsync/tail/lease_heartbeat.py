"""The heartbeat of a lease, in a thread of its own: a tail that waits for a slow server is alive all the same.

The thread renews the lease as long as the tail's own thread shows itself, and keeps quiet when that has not been seen
for `patience_s`: a tail that hangs for good is given up, and may be replaced. That the lease is lost is told where the
tail shows itself.
"""

from __future__ import annotations

import logging
import threading
import time

from binlogsync.errors import LeaseLostError, StoreError
from binlogsync.stores import Lease, PositionStore

log = logging.getLogger(__name__)


class LeaseHeartbeat:
    """Beats for one lease from start() to stop()."""

    def __init__(self, store: PositionStore, lease: Lease, every_s: float = 5.0, patience_s: float = 300.0) -> None:
        self._store = store
        self._lease = lease
        self._every_s = every_s
        self._patience_s = patience_s
        self._lost: LeaseLostError | None = None
        self._shown_s = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease-{lease.source}", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def report_alive(self) -> None:
        """Say that the tail is moving; raises LeaseLostError when another has claimed the source since."""
        self._shown_s = time.monotonic()
        if self._lost is not None:
            raise self._lost

    def stop(self) -> None:
        """End the thread; a renewal under way is waited for."""
        self._ended.set()
        self._thread.join()

    def _beat(self) -> None:
        is_failing = False
        while not self._ended.wait(self._every_s):
            if time.monotonic() - self._shown_s > self._patience_s:
                log.error(
                    "%s: the tail has hung for %.0f s; its lease is not renewed", self._lease.source, self._patience_s
                )
                continue
            try:
                self._store.heartbeat(self._lease)
                is_failing = False
            except LeaseLostError as error:
                self._lost = error
                return
            except StoreError as error:
                # The next save tells whether the store stays away; a heartbeat may miss a few times.
                if not is_failing:
                    log.warning("%s: the lease could not be renewed: %s", self._lease.source, error)
                is_failing = True
