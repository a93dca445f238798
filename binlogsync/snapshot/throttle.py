"""Slows the reading of chunks down, so that a source is not disturbed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from binlogsync.errors import ConfigError
from binlogsync.mysql.config import MySQLConfig, fetch
from binlogsync.mysql.session import Connection
from binlogsync.snapshot.replica_lag import find_lagging
from binlogsync.waiting import Interval

log = logging.getLogger(__name__)
_PAUSE_S = 1.0
_REPORT_S = 10.0
_LAG_S = 1.0
"""How often the lag of replicas is read, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadLimits:
    """Limits for reading existing rows.

    Attributes:
        rows_per_s: of one table; None for no limit.
        threads_running: no chunk is read while the server's status Threads_running is above it; None for no limit.
        replica_lag_s: no chunk is read while the server is a replica with a longer lag, or one of
            `MySQLConfig.replicas` is; None for no limit.
        group_tables: tables of one group, whose mirrors change together, that are loaded at the same time.
    """

    rows_per_s: float | None = None
    threads_running: int | None = 100
    replica_lag_s: float | None = None
    group_tables: int = 4

    def __post_init__(self) -> None:
        values = {name: getattr(self, name) for name in LoadLimits.__slots__}
        if any(value is not None and value <= 0 for value in values.values()):
            shown = ", ".join(f"{name}={value}" for name, value in values.items())
            raise ConfigError(f"the limits for reading existing rows must be above 0, or None; got {shown}")


class Throttle:
    """Applies the limits to the chunks of one table. `on_pause` is called before each pause."""

    def __init__(self, limits: LoadLimits, name: str, on_pause: Callable[[], None] = lambda: None) -> None:
        self._limits = limits
        self._name = name
        self._on_pause = on_pause
        self._next_s = 0.0
        self._report = Interval(_REPORT_S)
        self._looks = Interval(_LAG_S)
        self._lagging: str | None = None

    def wait(
        self, config: MySQLConfig, connection: Connection, stop: threading.Event, *, is_replica: bool = False
    ) -> None:
        """Wait before the next chunk until the limits allow it, or until `stop`. Raises SourceError.

        `is_replica`: the server is a replica of the stream's source.
        """
        while (left_s := self._next_s - time.monotonic()) > 0 and not stop.is_set():
            self._pause(min(left_s, _PAUSE_S), stop)
        while not stop.is_set() and (reason := self._find_reason(config, connection, is_replica)) is not None:
            if self._report.is_due():
                log.info("%s: reading pauses while %s", self._name, reason)
            self._pause(_PAUSE_S, stop)

    def _pause(self, seconds: float, stop: threading.Event) -> None:
        self._on_pause()
        stop.wait(seconds)

    def _find_reason(self, config: MySQLConfig, connection: Connection, is_replica: bool) -> str | None:
        """Why no chunk may be read now; None if it may."""
        limit = self._limits.threads_running
        if limit is not None and (count := _threads_running(config, connection)) > limit:
            return f"{count} threads run on the server (limit {limit})"
        limit_s = self._limits.replica_lag_s
        if limit_s is not None and self._looks.is_due():
            self._lagging = find_lagging(config, connection, limit_s, is_replica=is_replica)
        return self._lagging

    def count(self, rows: int, seconds: float) -> None:
        """Record that a chunk of so many rows was read in so many seconds."""
        if self._limits.rows_per_s is not None:
            self._next_s = time.monotonic() + max(0.0, rows / self._limits.rows_per_s - seconds)


def _threads_running(config: MySQLConfig, connection: Connection) -> int:
    rows = fetch(config, connection, "SHOW GLOBAL STATUS LIKE 'Threads_running'")
    return int(rows[0]["Value"]) if rows else 0
