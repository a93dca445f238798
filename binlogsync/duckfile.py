"""The one place that opens a DuckDB file: held for one short transaction, let go in between.

DuckDB lets one process hold a file for writing, and then no other may even read it. So a file is opened, one
transaction runs, and it is closed; a lock held by another process is waited for until a deadline, then it is an error
that names the file and, where DuckDB says so, the process. Threads of this process queue up for the file under the same
deadline. Opening costs about 12 ms however large the file. Arrow goes in by `register`, and never leaves a reference
behind.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from binlogsync.errors import BinlogSyncError, SinkError

META_SCHEMA = "binlogsync"
"""DuckDB schema of the tables that hold progress and state, beside the data they speak of."""

_PID = re.compile(r"\(PID (\d+)\)")
_RETRY_S = 0.02
_FILE_LOCKS: dict[str, threading.Lock] = {}
_FILE_LOCKS_GUARD = threading.Lock()


def quote(*names: str) -> str:
    """An SQL identifier, or several joined by dots."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def first_row(connection: duckdb.DuckDBPyConnection, sql: str, values: Sequence[object] = ()) -> tuple[Any, ...] | None:
    """The first row of a query, None when it has none; the result is read to its end, as the next statement demands."""
    rows: list[tuple[Any, ...]] = connection.execute(sql, values or None).fetchall()
    return rows[0] if rows else None


class DuckFile:
    """A DuckDB file, opened anew for each transaction. One object a thread; several objects may name one file.

    Args:
        path: of the file; its folder is made when it is missing.
        timeout_s: how long a lock held by another is waited for.
        error: what is raised when DuckDB fails.
    """

    hold_s = 1.0
    longest_hold_s = 3.0

    def __init__(self, path: str | Path, timeout_s: float = 30.0, error: type[BinlogSyncError] = SinkError) -> None:
        self.path = Path(path).absolute()
        self.timeout_s = timeout_s
        self._error = error
        with _FILE_LOCKS_GUARD:
            self._lock = _FILE_LOCKS.setdefault(str(self.path), threading.Lock())
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._since = 0.0
        self._close_s = 0.0

    @contextmanager
    def transaction(self, *, keep_open: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
        """One transaction: committed at the end of the block, rolled back when the block raises; durable after it.

        With `keep_open` the file is not closed behind it, for the transaction that follows at once, until it has been
        held for `hold_s`: closing writes every changed block, which many transactions then share. Where that takes
        long, the file is held up to `longest_hold_s`, so that closing takes a fifth of the time at most. The caller
        owes a `release`. Whatever DuckDB raises becomes `error`.
        """
        connection = self._acquire()
        stays_open = False
        try:
            connection.begin()
            yield connection
            connection.commit()
            stays_open = keep_open and time.monotonic() - self._since < self._hold()
        except duckdb.Error as error:
            raise self._error(
                f"{self.path}: DuckDB refused the transaction, nothing of it is stored: {error}"
            ) from error
        finally:
            if not stays_open:
                self.release()

    def release(self) -> None:
        """Close the file if a transaction left it open; nothing otherwise."""
        if self._connection is None:
            return
        connection, self._connection = self._connection, None
        begun = time.monotonic()
        was_long = begun - self._since > self.hold_s / 2
        try:
            connection.close()
        finally:
            self._close_s = time.monotonic() - begun
            self._lock.release()
        if was_long:
            time.sleep(2 * _RETRY_S)  # lets those who poll for the file have it

    def _hold(self) -> float:
        """How long transactions may share one opening of the file, from what the last closing took."""
        return max(self.hold_s, min(4 * self._close_s, self.longest_hold_s))

    @property
    def is_open(self) -> bool:
        """True while this object holds the file."""
        return self._connection is not None

    def _acquire(self) -> duckdb.DuckDBPyConnection:
        if self._connection is not None:
            return self._connection
        deadline = time.monotonic() + self.timeout_s
        if not self._lock.acquire(timeout=self.timeout_s):
            raise self._error(f"{self.path} was held by another thread for {self.timeout_s:g} s; give it more time")
        try:
            self._connection = self._connect(deadline)
        finally:
            if self._connection is None:
                self._lock.release()
        self._since = time.monotonic()
        return self._connection

    def _connect(self, deadline: float) -> duckdb.DuckDBPyConnection:
        """Open it, waiting for a lock until the deadline."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                connection = duckdb.connect(str(self.path))
                connection.execute("SET checkpoint_threshold = '256MB'")
                return connection
            except duckdb.Error as error:
                if not _is_held(error):
                    raise self._error(f"{self.path} cannot be opened by DuckDB: {error}") from error
                if time.monotonic() >= deadline:
                    raise self._error(self._held_message(error)) from error
            time.sleep(_RETRY_S)

    def _held_message(self, error: duckdb.Error) -> str:
        match = _PID.search(str(error))
        holder = f"process {match[1]}" if match else "another connection"
        return (
            f"{self.path} was held by {holder} for {self.timeout_s:g} s; close that connection (a DuckDB shell or "
            "notebook that has the file open?), or open it for short moments only"
        )


def _is_held(error: duckdb.Error) -> bool:
    """True when another process, or a connection of this one with other settings, has the file open."""
    text = str(error)
    return "Could not set lock" in text or "different configuration" in text
