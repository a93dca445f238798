"""Renews a lease in a separate thread, so that an owner that waits for a slow server keeps its lease.

With `patience_s`, the thread stops renewing when the last call of `report_alive` was so long ago: an owner that hangs
loses its lease and can be replaced.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable

from binlogsync.errors import LeaseLostError, SinkError, StoreError

log = logging.getLogger(__name__)


class LeaseHeartbeat:
    """Renews one lease from start() to stop().

    Args:
        name: whose lease it is, for logs: "source main".
        renew: renews it. Raises LeaseLostError when another owner has it, StoreError or SinkError when it is unknown.
        every_s: seconds between two renewals.
        patience_s: how long the lease is renewed without a call of `report_alive`.
    """

    def __init__(
        self, name: str, renew: Callable[[], None], every_s: float = 5.0, patience_s: float = math.inf
    ) -> None:
        self._name = name
        self._renew = renew
        self._every_s = every_s
        self._patience_s = patience_s
        self._lost: LeaseLostError | None = None
        self._alive_s = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"lease of {name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def is_lost(self) -> bool:
        """True once another owner has the lease."""
        return self._lost is not None

    def report_alive(self) -> None:
        """Report that the owner makes progress; raises LeaseLostError if another owner has the lease."""
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
                log.error("%s made no progress for %.0f s; its lease is not renewed", self._name, self._patience_s)
                continue
            try:
                self._renew()
                is_failing = False
            except LeaseLostError as error:
                log.error("%s", error)
                self._lost = error
                return
            except (StoreError, SinkError) as error:
                # If the store stays unreachable, the next save fails; a few missed renewals are harmless.
                if not is_failing:
                    log.warning("the lease of %s could not be renewed: %s", self._name, error)
                is_failing = True
