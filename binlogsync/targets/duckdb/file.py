"""The only module that opens DuckDB files. A file is open for one short transaction and closed between transactions.

While one process has a DuckDB file open for writing, no other process can open it, not even to read. So each
transaction opens the file, runs and closes it. If another process has locked the file, the transaction waits until a
timeout, then raises an error that names the file and, if DuckDB reports it, the process. Threads of this process share
one connection and run their transactions sequentially, under the same timeout. How a file is opened and closed:
attached_file.py. How Arrow data is passed in: arrow_statement.py.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from binlogsync.errors import BinlogSyncError, ConsumeError, SinkError, TargetBusyError
from binlogsync.escaping import printable
from binlogsync.sql_identifiers import quote_ansi
from binlogsync.targets import Holder
from binlogsync.targets.duckdb.attached_file import AttachedFile
from binlogsync.targets.duckdb.upgrade import upgrade
from binlogsync.waiting import RetryTimer

if TYPE_CHECKING:
    import duckdb
    from duckdb import DuckDBPyConnection as DuckDBPyConnection

META_SCHEMA = "binlogsync_state_in_a_schema_whose_name_is_longer_than_mysql_allows"
"""DuckDB schema of the tables that store progress and state, in the same file as the data.

Names in MySQL have at most 64 characters, so no mirrored database has this name.
"""

_PID = re.compile(r"\(PID (\d+)\)")
RETRY_S = 0.01
_PAUSE_S = 0.03
"""How long the file stays closed for processes that poll for it."""
_COMMAND = 100
_LOCK_S = 0.2
"""Seconds until a thread that waits for another one looks whether that waits for another process."""
_LAST_WAIT_S = 2.0
_RELEASE_S = 1.0


quote = quote_ansi
"""An SQL identifier of DuckDB, or several joined by dots."""


def first_row(connection: duckdb.DuckDBPyConnection, sql: str, values: Sequence[object] = ()) -> tuple[Any, ...] | None:
    """The first row of a query, or None; reads the whole result, which the next statement requires."""
    rows: list[tuple[Any, ...]] = connection.execute(sql, values or None).fetchall()
    return rows[0] if rows else None


_ENSURED: dict[int, set[str]] = {}
"""For the connection of each open transaction, by its id: the tables that exist in the file."""


def ensure_once(connection: duckdb.DuckDBPyConnection, table: str) -> bool:
    """Whether the caller has to create this table if it is missing; always true for a connection of another module.

    False if it was called for the table in this transaction, or in an earlier one that was committed to this file.
    """
    ensured = _ENSURED.get(id(connection))
    if ensured is None:
        return True
    is_first = table not in ensured
    ensured.add(table)
    return is_first


class _SharedFile:
    """The open file that the threads of this process share.

    Attributes:
        lock: held during a transaction.
        file: the file.
        keepers: ids of the DuckFile objects that keep the file open.
        waiting: number of threads that wait for `lock`.
        blocked_by: DuckDB's error since another process has locked the file; None when it was opened after that.
        blocked_since: when that began.
        ensured: the tables that exist in the file, as far as known (see `ensure_once`).
        since: when the file was opened. close_s: how long closing took the last time. not_before: earliest time to open
            the file again, so that other processes get access.
    """

    def __init__(self, path: Path) -> None:
        self.lock = threading.Lock()
        self.file = AttachedFile(path)
        self.keepers: set[int] = set()
        self.waiting = 0
        self.ensured: set[str] = set()
        self.blocked_by: Exception | None = None
        self.since = self.close_s = self.not_before = self.blocked_since = 0.0

    def set_blocked(self, error: Exception) -> None:
        """Another process has locked the file."""
        if self.blocked_by is None:
            self.blocked_since = time.monotonic()
        self.blocked_by = error

    def close(self) -> None:
        """Close the file for other processes; the caller holds `lock`."""
        if not self.file.is_open:
            return
        begun = time.monotonic()
        try:
            self.file.close()
        finally:
            ended = time.monotonic()
            self.close_s = ended - begun
            was_long = begun - self.since > DuckFile.hold_s / 2
            self.not_before = ended + _PAUSE_S if was_long else 0.0


_SHARED: WeakValueDictionary[str, _SharedFile] = WeakValueDictionary()
_RECENT: deque[_SharedFile] = deque(maxlen=4)
"""Those used last: short-lived DuckFile objects of one path then share what it costs to make a connection."""
_SHARED_GUARD = threading.Lock()


def _reset_in_child() -> None:
    """In a forked process, no thread holds a lock or keeps a file open."""
    global _SHARED_GUARD  # noqa: PLW0603 - a lock that another thread held at the fork is never released
    _SHARED_GUARD = threading.Lock()
    _ENSURED.clear()
    for shared in list(_SHARED.values()):
        shared.lock = threading.Lock()
        shared.keepers.clear()
        shared.waiting, shared.blocked_by = 0, None


os.register_at_fork(after_in_child=_reset_in_child)


class DuckFile:
    """A DuckDB file that is opened per transaction. Use one object per thread; several objects may use one file.

    Args:
        path: of the file; its folder is created if it is missing.
        timeout_s: how long to wait while another thread or process uses the file.
        error: the exception class to raise when DuckDB fails.
        storage_version: DuckDB version, like "v1.4.0", whose format a new file gets; None for the newest.
    """

    hold_s = 0.3
    longest_hold_s = 3.0
    stop: threading.Event | None = None
    """See TableStore: ends a wait for another process."""
    holder_wait_s: float | None = None
    """How long to wait while another process uses the file; None for `timeout_s`."""

    def __init__(
        self,
        path: str | Path,
        timeout_s: float = 30.0,
        error: type[BinlogSyncError] = SinkError,
        storage_version: str | None = None,
    ) -> None:
        self.path = Path(path).absolute()
        self.timeout_s = timeout_s
        self._error = error
        with _SHARED_GUARD:
            shared = _SHARED.get(str(self.path)) or _SharedFile(self.path)
            self._shared = _SHARED[str(self.path)] = shared
            _RECENT.append(shared)
        if storage_version is not None:
            shared.file.storage_version = storage_version

    @contextmanager
    def transaction(self, *, keep_open: bool = False, is_small: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
        """One transaction: committed at the end of the block and durable then, or rolled back if the block raises.

        With `keep_open` the file stays open after the transaction, until it has been open for `hold_s`, so that the
        next transactions share the cost of opening. After a long checkpoint, the file stays open up to
        `longest_hold_s`. The caller must call `release` afterwards.
        With `is_small`, for a transaction that changes few rows, statements run in one thread unless the file is large.
        Exceptions of DuckDB are raised as `error`.
        """
        import duckdb

        shared = self._acquire_lock()
        is_done = False
        try:
            self._open()
            with self._cursor(is_small=is_small) as connection:
                ensured = _ENSURED[id(connection)] = shared.ensured.copy()
                try:
                    connection.begin()
                    yield connection
                    connection.commit()
                finally:
                    del _ENSURED[id(connection)]
            is_done, shared.ensured = True, ensured
        except duckdb.Error as error:
            shared.file.discard()
            raise self._error(f"{self.path}: DuckDB rejected the transaction, nothing was stored: {error}") from error
        finally:
            (shared.keepers.add if keep_open and is_done else shared.keepers.discard)(id(self))
            if not self._stays_open():
                shared.close()
            shared.lock.release()

    def release(self) -> None:
        """Close the file if this object keeps it open and no other object or thread needs it."""
        shared = self._shared
        if id(self) not in shared.keepers:
            return
        shared.keepers.discard(id(self))
        # A transaction that takes longer closes the file at its end, if no other object keeps it open.
        if shared.lock.acquire(timeout=_RELEASE_S):
            try:
                if not self._stays_open():
                    shared.close()
            finally:
                shared.lock.release()

    @property
    def is_open(self) -> bool:
        """True while this object keeps the file open."""
        return id(self) in self._shared.keepers and self._shared.file.is_open

    @property
    def holder(self) -> Holder | None:
        """The process that has locked the file since an attempt to open it, which was not repeated with success."""
        shared = self._shared
        error = shared.blocked_by
        return None if error is None else Holder(_owner(error), shared.blocked_since)

    def _stays_open(self) -> bool:
        """Whether the file stays open after a transaction: for keepers and waiting threads, for a limited time."""
        shared = self._shared
        hold_s = max(self.hold_s, min(4 * shared.close_s, self.longest_hold_s))
        return (bool(shared.keepers) or shared.waiting > 0) and time.monotonic() - shared.since < hold_s

    @property
    def _holder_limit_s(self) -> float:
        return self.timeout_s if self.holder_wait_s is None else min(self.timeout_s, self.holder_wait_s)

    def _acquire_lock(self) -> _SharedFile:
        shared, begun, wait_s = self._shared, time.monotonic(), min(_LOCK_S, self._holder_limit_s)
        with _SHARED_GUARD:
            shared.waiting += 1
        try:
            while not shared.lock.acquire(timeout=wait_s):
                waited_s = time.monotonic() - begun
                blocked_by = shared.blocked_by  # the thread that holds `lock` waits for another process
                if blocked_by is not None and waited_s >= self._holder_limit_s:
                    raise self._busy_error(locked_message(self.path, waited_s, blocked_by)) from blocked_by
                if waited_s >= self.timeout_s:
                    raise self._busy_error(
                        f"{self.path} was in use by another thread of this process for {self.timeout_s:g} s; "
                        "increase the timeout"
                    )
                wait_s = min(_LOCK_S, self.timeout_s - waited_s)
        finally:
            with _SHARED_GUARD:
                shared.waiting -= 1
        return shared

    def _open(self) -> None:
        """Open the file if it is not open; waits until the timeout or a stop if another process has locked it."""
        shared = self._shared
        if not shared.file.is_open:
            time.sleep(max(0.0, shared.not_before - time.monotonic()))
            self._attach()
            shared.blocked_by = None
            shared.since = time.monotonic()

    def _attach(self) -> None:
        """Open the file, waiting for a lock until the timeout.

        A stop ends the wait. What is stored after the stop waits for a moment, unless an earlier wait was in vain.
        """
        import duckdb

        file, stop, limit_s = self._shared.file, self.stop, self._holder_limit_s
        if stop is not None and stop.is_set():
            stop, limit_s = None, 0.0 if self._shared.blocked_by is not None else min(limit_s, _LAST_WAIT_S)
        timer = RetryTimer(limit_s, RETRY_S, sleep=time.sleep if stop is None else stop.wait)
        begun = time.monotonic()
        while True:
            try:
                if file.open():
                    self._shared.ensured.clear()
                    self._upgrade(file)
                return
            except (duckdb.Error, OSError) as error:
                if not is_locked(error):
                    file.discard()  # after some errors DuckDB attaches nothing more
                    raise self._error(f"DuckDB cannot open {self.path}: {error}") from error
                self._shared.set_blocked(error)
                if timer.is_over or (stop is not None and stop.is_set()):
                    waited_s = time.monotonic() - begun
                    raise self._busy_error(locked_message(self.path, waited_s, error)) from error
            timer.pause()

    def _cursor(self, *, is_small: bool) -> duckdb.DuckDBPyConnection:
        try:
            self._shared.file.use_threads(one=is_small)
            return self._shared.file.cursor()
        except OSError as error:  # a full disk, or a folder that must not be written to
            self._shared.file.discard()
            raise self._error(f"{self.path} cannot be written: {error}") from error

    def _upgrade(self, file: AttachedFile) -> None:
        try:
            with file.cursor() as connection:
                upgrade(connection, META_SCHEMA)
        except BaseException:
            file.discard()
            raise

    def _busy_error(self, text: str) -> BinlogSyncError:
        return TargetBusyError(text, str(self.path)) if self._error is ConsumeError else self._error(text)


def locked_message(path: Path, waited_s: float, error: Exception) -> str:
    """A sentence that names the file, and the process that has locked it if DuckDB reports that."""
    return (
        f"{path} was locked by {_owner(error)} for {round(waited_s, 1):g} s; close that connection (for example a "
        "DuckDB shell or a notebook), or keep it open for short times only"
    )


def _owner(error: Exception) -> str:
    """The process that DuckDB's error names."""
    match = _PID.search(str(error))
    return _process(match[1]) if match else "another connection"


def _process(pid: str) -> str:
    """The process id, with the command line if this user may read it."""
    try:
        words = Path("/proc", pid, "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return f"process {pid}"
    command = printable(" ".join(words).strip())
    return f"process {pid} ({command[:_COMMAND]})" if command else f"process {pid}"


def is_locked(error: Exception) -> bool:
    """True when another process, or another connection of this process, has the file open."""
    text = str(error)
    return "Could not set lock" in text or "Unique file handle conflict" in text
