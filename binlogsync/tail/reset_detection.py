"""Notices that the source's log was reset under a running tail.

RESET BINARY LOGS AND GTIDS (RESET MASTER) does not end a dump: it stays open at an offset of a file that is deleted,
and reports nothing. So a thread asks the server every two seconds, over a connection of its own, how many RESET
statements it has executed and where its log ends. Only where the count has changed, or the log ends before what was
read, the log itself is compared with what was read from it; where it is the same (RESET REPLICA), the dump is opened
again, because a log that was reset within a second looks the same. A server that is restored was restarted, which ends
the dump: the next session validates its start.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress

from binlogsync.errors import PositionError, SourceError
from binlogsync.mysql.config import MySQLConfig, connect, fetch
from binlogsync.mysql.identity import OTHER_LOG, check_identity
from binlogsync.mysql.server import fetch_either, inspect
from binlogsync.mysql.session import Connection
from binlogsync.position import BinlogPosition, Checkpoint

log = logging.getLogger(__name__)

_TIMEOUT_S = 10.0


class ResetDetector:
    """Watches from its making on; `follow` starts the thread, `close` ends it."""

    def __init__(self, config: MySQLConfig, server_uuid: str, every_s: float = 2.0) -> None:
        """Counts the RESET statements so far, which has to come before the start is validated. Raises SourceError."""
        self._config = config
        self._server_uuid = server_uuid
        self._every_s = every_s
        self._lock = threading.Lock()  # of the connection and of what was compared last
        self._connection: Connection | None = None
        self._resets = self._look()[0]
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
        """Raises what the thread has found: PositionError, or SourceError where the dump has to be opened again."""
        if self._error is not None:
            raise self._error

    def confirm(self) -> None:
        """Returns when the log was not reset up to now. Raises PositionError when it was, SourceError as `check`."""
        self.check()
        self._compare()
        self.check()

    def close(self) -> None:
        """End the thread; what it is asking is not waited for."""
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
                # The dump itself tells whether the server is gone.
                if not is_failing and not self._ended.is_set():
                    log.warning("%s: cannot check whether the log was reset: %s", self._config.source, error)
                is_failing = True

    def _compare(self) -> None:
        with self._lock:
            reached = self._reached
            resets, end = self._look()
            own = [each for each in (self._compared, reached) if each and each.server_uuid == self._server_uuid]
            if resets != self._resets or any(end is not None and end < each.position for each in own):
                self._compare_log(own)
            if resets != self._resets:
                self._error = SourceError(
                    f"{self._config.address} executed a RESET statement, and its log is still the one that was read: "
                    "opening the dump again"
                )
            self._compared = reached

    def _compare_log(self, checkpoints: list[Checkpoint]) -> None:
        """Raises PositionError when the server's log is not the one that these are of."""
        assert self._connection is not None
        info = inspect(self._config, self._connection)
        for checkpoint in checkpoints:
            if info.end() < checkpoint.position:
                end = info.end()
                raise PositionError(f"{checkpoint} was read, and the server's log now ends at {end}: {OTHER_LOG}")
            check_identity(self._config, info, checkpoint)

    def _look(self) -> tuple[str, BinlogPosition | None]:
        """(number of RESET statements, end of the log), over a connection that is kept."""
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
