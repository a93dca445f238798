"""Renews a lease in a separate thread, so that a tail that waits for a slow server keeps its lease.

The thread renews the lease while the tail's thread calls `report_alive`, and stops renewing it when the last call was
`patience_s` ago: a tail that hangs loses its lease and can be replaced. `report_alive` raises when the lease is lost.
"""

from __future__ import annotations

import logging
import threading
import time

from binlogsync.errors import LeaseLostError, StoreError
from binlogsync.stores import Lease, PositionStore

log = logging.getLogger(__name__)


class LeaseHeartbeat:
    """Renews one lease from start() to stop()."""

    def __init__(self, store: PositionStore, lease: Lease, every_s: float = 5.0, patience_s: float = 300.0) -> None:
        self._store = store
        self._lease = lease
        self._every_s = every_s
        self._patience_s = patience_s
        self._lost: LeaseLostError | None = None
        self._alive_s = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"lease-{lease.source}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def report_alive(self) -> None:
        """Report that the tail makes progress; raises LeaseLostError if another tail has claimed the source."""
        self._alive_s = time.monotonic()
        if self._lost is not None:
            raise self._lost

    def stop(self) -> None:
        """End the thread after the current renewal."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        is_failing = False
        while not self._ended.wait(self._every_s):
            if time.monotonic() - self._alive_s > self._patience_s:
                log.error(
                    "%s: the tail made no progress for %.0f s; its lease is not renewed",
                    self._lease.source,
                    self._patience_s,
                )
                continue
            try:
                self._store.heartbeat(self._lease)
                is_failing = False
            except LeaseLostError as error:
                self._lost = error
                return
            except StoreError as error:
                # If the store stays unreachable, the next save fails; a few missed renewals are harmless.
                if not is_failing:
                    log.warning("%s: the lease could not be renewed: %s", self._lease.source, error)
                is_failing = True
