"""Slows the reading of chunks down, so that a source is not disturbed."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

from binlogsync.errors import ConfigError
from binlogsync.mysql.config import MySQLConfig, fetch
from binlogsync.mysql.session import Connection
from binlogsync.waiting import Interval

log = logging.getLogger(__name__)
_PAUSE_S = 1.0
_REPORT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadLimits:
    """Limits for reading existing rows.

    Attributes:
        rows_per_s: of one table; None for no limit.
        threads_running: no chunk is read while the server's status Threads_running is above it; None for no limit.
    """

    rows_per_s: float | None = None
    threads_running: int | None = 100

    def __post_init__(self) -> None:
        if (self.rows_per_s is not None and self.rows_per_s <= 0) or (
            self.threads_running is not None and self.threads_running < 1
        ):
            raise ConfigError(
                f"the limits for reading existing rows must be above 0, or None; got rows_per_s={self.rows_per_s} and "
                f"threads_running={self.threads_running}"
            )


class Throttle:
    """Applies the limits to the chunks of one table."""

    def __init__(self, limits: LoadLimits, name: str) -> None:
        self._limits = limits
        self._name = name
        self._next_s = 0.0
        self._report = Interval(_REPORT_S)

    def wait(self, config: MySQLConfig, connection: Connection, stop: threading.Event) -> None:
        """Wait before the next chunk until the limits allow it, or until `stop`. Raises SourceError."""
        while (left_s := self._next_s - time.monotonic()) > 0 and not stop.wait(min(left_s, _PAUSE_S)):
            pass
        limit = self._limits.threads_running
        while limit is not None and not stop.is_set() and (count := _threads_running(config, connection)) > limit:
            if self._report.is_due():
                log.info("%s: reading pauses while %d threads run on the server (limit %d)", self._name, count, limit)
            stop.wait(_PAUSE_S)

    def count(self, rows: int, seconds: float) -> None:
        """Record that a chunk of so many rows was read in so many seconds."""
        if self._limits.rows_per_s is not None:
            self._next_s = time.monotonic() + max(0.0, rows / self._limits.rows_per_s - seconds)


def _threads_running(config: MySQLConfig, connection: Connection) -> int:
    rows = fetch(config, connection, "SHOW GLOBAL STATUS LIKE 'Threads_running'")
    return int(rows[0]["Value"]) if rows else 0
