"""Detects a reset of the source's binlog while a tail is running.

RESET BINARY LOGS AND GTIDS (RESET MASTER) does not end a dump: it stays open at an offset of a deleted file, and sends
nothing. So a thread queries the server every two seconds, over a separate connection, for the number of RESET
statements executed and the end of the log. If the count has changed, or the log ends before the last position read, the
log is compared with what was read from it. If it is the same (RESET REPLICA), the dump is opened again, because a log
that was reset within the same second looks the same. Restoring a server requires a restart, which ends the dump; the
next session validates its start.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress

from binlogsync.errors import PositionError, SourceError
from binlogsync.mysql.config import MySQLConfig, connect, fetch
from binlogsync.mysql.identity import OTHER_LOG, OTHER_LOG_ADVICE, check_identity
from binlogsync.mysql.server import fetch_either, inspect
from binlogsync.mysql.session import Connection
from binlogsync.position import BinlogPosition, Checkpoint
from binlogsync.position_order import PositionOrder, compare

log = logging.getLogger(__name__)

_TIMEOUT_S = 10.0


class ResetDetector:
    """Detects resets after its construction; `follow` starts the thread, `close` ends it."""

    def __init__(self, config: MySQLConfig, server_uuid: str, every_s: float = 2.0) -> None:
        """Counts the RESET statements so far; create it before the start is validated. Raises SourceError."""
        self._config = config
        self._server_uuid = server_uuid
        self._every_s = every_s
        self._lock = threading.Lock()  # of the connection and of what was compared last
        self._connection: Connection | None = None
        self._resets = self._query()[0]
        self._compared: Checkpoint | None = None
        self._reached: Checkpoint | None = None
        self._error: SourceError | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"log-{config.source}", daemon=True)

    def follow(self, start: Checkpoint) -> None:
        """Reading begins at `start`, which was validated."""
        self._compared = self._reached = start
        self._thread.start()

    def reach(self, checkpoint: Checkpoint) -> None:
        """The log was read up to here."""
        self._reached = checkpoint

    def check(self) -> None:
        """Raises the error found by the thread: PositionError, or SourceError if the dump has to be opened again."""
        if self._error is not None:
            raise self._error

    def confirm(self) -> None:
        """Returns if the log was not reset until now. Raises PositionError if it was, SourceError as `check` does."""
        self.check()
        self._compare()
        self.check()

    def close(self) -> None:
        """End the thread, without waiting for its current query."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(_TIMEOUT_S)
        self._disconnect()

    def _run(self) -> None:
        is_failing = False
        while self._error is None and not self._ended.wait(self._every_s):
            try:
                self._compare()
                is_failing = False
            except PositionError as error:
                self._error = error
            except SourceError as error:
                # If the server is down, the dump itself fails.
                if not is_failing and not self._ended.is_set():
                    log.warning("%s: cannot check whether the log was reset: %s", self._config.source, error)
                is_failing = True

    def _compare(self) -> None:
        with self._lock:
            reached = self._reached
            resets, end = self._query()
            own = [each for each in (self._compared, reached) if each and each.server_uuid == self._server_uuid]
            is_short = end is not None and any(compare(end, each.position) is PositionOrder.BEFORE for each in own)
            if resets != self._resets or is_short:
                self._compare_log(own)
            if resets != self._resets:
                self._error = SourceError(
                    f"{self._config.address} executed a RESET statement, and its log is still the one that was read: "
                    "opening the dump again"
                )
            self._compared = reached

    def _compare_log(self, checkpoints: list[Checkpoint]) -> None:
        """Raises PositionError if the server's log is not the log of these checkpoints."""
        assert self._connection is not None
        info = inspect(self._config, self._connection)
        for checkpoint in checkpoints:
            end = info.end()
            if compare(end, checkpoint.position) is PositionOrder.BEFORE:
                raise PositionError(
                    f"{checkpoint} was read, and the server's log now ends at {end}: {OTHER_LOG}", OTHER_LOG_ADVICE
                )
            check_identity(self._config, info, checkpoint)

    def _query(self) -> tuple[str, BinlogPosition | None]:
        """(number of RESET statements, end of the log), over a connection that stays open."""
        try:
            if self._connection is None:
                self._connection = connect(self._config, read_timeout_s=_TIMEOUT_S)
            counted = fetch(self._config, self._connection, "SHOW GLOBAL STATUS LIKE 'Com_reset'")
            ends = fetch_either(self._config, self._connection, "SHOW BINARY LOG STATUS", "SHOW MASTER STATUS")
        except SourceError:
            self._disconnect()
            raise
        end = BinlogPosition(str(ends[0]["File"]), int(ends[0]["Position"])) if ends else None
        return str(counted[0]["Value"]) if counted else "", end

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.close()
