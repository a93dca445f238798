"""The one place that opens a DuckDB file: held for one short transaction, let go in between.

DuckDB lets one process hold a file for writing, and then no other may even read it. So a file is opened, one
transaction runs, and it is closed; a lock held by another process is waited for until a deadline, then it is an error
that names the file and, where DuckDB says so, the process. Threads of this process share one opening of the file: they
take turns at transactions, under the same deadline, and whoever comes while it is open finds it open. Opening costs
about 12 ms however large the file. Arrow goes in by `register`, and never leaves a reference behind.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb

from binlogsync.duckfile_upgrade import upgrade
from binlogsync.errors import BinlogSyncError, SinkError
from binlogsync.escaping import printable
from binlogsync.private_files import FILE_MODE, FOLDER_MODE, make_file, make_folder

META_SCHEMA = "binlogsync_state_in_a_schema_whose_name_is_longer_than_mysql_allows"
"""DuckDB schema of the tables that hold progress and state, beside the data they describe.

MySQL's names have 64 characters at most, so no mirrored database can be this schema, and no file is called so.
"""

_PID = re.compile(r"\(PID (\d+)\)")
_RETRY_S = 0.02
_COMMAND = 100


def quote(*names: str) -> str:
    """An SQL identifier, or several joined by dots."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def first_row(connection: duckdb.DuckDBPyConnection, sql: str, values: Sequence[object] = ()) -> tuple[Any, ...] | None:
    """The first row of a query, None when it has none; the result is read to its end, as the next statement demands."""
    rows: list[tuple[Any, ...]] = connection.execute(sql, values or None).fetchall()
    return rows[0] if rows else None


class _Shared:
    """What the threads of this process have of one file: whose turn it is, and the opening that they share.

    Attributes:
        turn: held for one transaction.
        connection: open, or None.
        log, spill: DuckDB's write-ahead log and its folder for what exceeds memory, beside the file.
        keepers: who wants it to stay open.
        waiting: how many threads want a turn.
        blocked_by: while an opening waits for the lock of another process, what DuckDB says of it.
        since: when it was opened. close_s: how long the last closing took. not_before: when it may be opened again, so
            that other processes have it in between.
    """

    def __init__(self, path: Path) -> None:
        self.turn = threading.Lock()
        self.connection: duckdb.DuckDBPyConnection | None = None
        self.log = Path(f"{path}.wal")
        self.spill = Path(f"{path}.tmp")
        self.keepers: set[int] = set()
        self.waiting = 0
        self.blocked_by: Exception | None = None
        self.since = self.close_s = self.not_before = 0.0

    def close(self) -> None:
        """Let other processes have the file; in a turn."""
        if self.connection is None:
            return
        connection, self.connection = self.connection, None
        begun = time.monotonic()
        try:
            # Of transactions that wrote nothing. While it is open, the file and these are of this process alone.
            if self.log.exists() and not self.log.stat().st_size:
                self.log.unlink()
            with suppress(OSError):
                self.spill.rmdir()
            connection.close()
        finally:
            ended = time.monotonic()
            self.close_s = ended - begun
            was_long = begun - self.since > DuckFile.hold_s / 2
            self.not_before = ended + 2 * _RETRY_S if was_long else 0.0  # those who poll for the file have it then


_SHARED: dict[str, _Shared] = {}
_SHARED_GUARD = threading.Lock()


class DuckFile:
    """A DuckDB file, opened for a transaction. One object a thread; several objects may name one file.

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
        with _SHARED_GUARD:
            self._shared = _SHARED.setdefault(str(self.path), _Shared(self.path))

    @contextmanager
    def transaction(self, *, keep_open: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
        """One transaction: committed at the end of the block, rolled back when the block raises; durable after it.

        With `keep_open` the file is not closed behind it, for the transaction that follows at once, until it has been
        held for `hold_s`: closing writes every changed block, which many transactions then share. Where that takes
        long, the file is held up to `longest_hold_s`, so that closing takes a fifth of the time at most. The caller
        owes a `release`. Whatever DuckDB raises becomes `error`.
        """
        shared = self._take_turn()
        is_done = False
        try:
            with self._open().cursor() as connection:
                make_file(shared.log)  # DuckDB takes one that is there, else it makes one that follows the umask
                connection.begin()
                yield connection
                connection.commit()
            is_done = True
        except duckdb.Error as error:
            raise self._error(
                f"{self.path}: DuckDB refused the transaction, nothing of it is stored: {error}"
            ) from error
        finally:
            (shared.keepers.add if keep_open and is_done else shared.keepers.discard)(id(self))
            if not self._stays_open():
                shared.close()
            shared.turn.release()

    def release(self) -> None:
        """Close the file if a transaction left it open, and nobody else wants it; nothing otherwise."""
        shared = self._shared
        if id(self) not in shared.keepers:
            return
        with shared.turn:
            shared.keepers.discard(id(self))
            if not self._stays_open():
                shared.close()

    @property
    def is_open(self) -> bool:
        """True while this object keeps the file open."""
        return id(self) in self._shared.keepers and self._shared.connection is not None

    def _stays_open(self) -> bool:
        """Whether the file is left open at the end of a turn: for keepers and threads that wait, but not for ever."""
        shared = self._shared
        hold_s = max(self.hold_s, min(4 * shared.close_s, self.longest_hold_s))
        return (bool(shared.keepers) or shared.waiting > 0) and time.monotonic() - shared.since < hold_s

    def _take_turn(self) -> _Shared:
        shared = self._shared
        with _SHARED_GUARD:
            shared.waiting += 1
        try:
            if not shared.turn.acquire(timeout=self.timeout_s):
                if shared.blocked_by is not None:  # the thread whose turn it is waits for another process itself
                    raise self._error(self._held_message(shared.blocked_by)) from shared.blocked_by
                raise self._error(
                    f"{self.path} was in use by another thread of this process for {self.timeout_s:g} s; "
                    "give it more time"
                )
        finally:
            with _SHARED_GUARD:
                shared.waiting -= 1
        return shared

    def _open(self) -> duckdb.DuckDBPyConnection:
        """The opening that is there, or a new one, waiting for the lock of another process until the deadline."""
        shared = self._shared
        if shared.connection is None:
            deadline = time.monotonic() + self.timeout_s
            time.sleep(max(0.0, shared.not_before - time.monotonic()))
            try:
                shared.connection = self._connect(deadline)
            finally:
                shared.blocked_by = None
            shared.since = time.monotonic()
        return shared.connection

    def _connect(self, deadline: float) -> duckdb.DuckDBPyConnection:
        """Open it, waiting for a lock until the deadline."""
        while True:
            try:
                make_folder(self.path.parent)
                if not self.path.exists():
                    self._create()
                connection = duckdb.connect(str(self.path))
                make_file(self._shared.log)
                self._shared.spill.mkdir(FOLDER_MODE, exist_ok=True)
                connection.execute("SET checkpoint_threshold = '256MB'")
                upgrade(connection, META_SCHEMA)
                return connection
            except (duckdb.Error, OSError) as error:
                if not _is_held(error):
                    raise self._error(f"{self.path} cannot be opened by DuckDB: {error}") from error
                if time.monotonic() >= deadline:
                    raise self._error(self._held_message(error)) from error
                self._shared.blocked_by = error
            time.sleep(_RETRY_S)

    def _create(self) -> None:
        """A new file for its owner alone: DuckDB follows the umask, and takes no empty file."""
        with TemporaryDirectory(prefix=f".{self.path.name}-", dir=self.path.parent) as folder:
            aside = Path(folder) / self.path.name
            duckdb.connect(str(aside)).close()
            aside.chmod(FILE_MODE)
            with suppress(FileExistsError):
                os.link(aside, self.path)

    def _held_message(self, error: Exception) -> str:
        match = _PID.search(str(error))
        holder = _process(match[1]) if match else "another connection"
        return (
            f"{self.path} was held by {holder} for {self.timeout_s:g} s; close that connection (a DuckDB shell or "
            "notebook that has the file open?), or open it for short moments only"
        )


def _process(pid: str) -> str:
    """The process with its command line, as far as this user may see it."""
    try:
        words = Path("/proc", pid, "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return f"process {pid}"
    said = printable(" ".join(words).strip())
    return f"process {pid} ({said[:_COMMAND]})" if said else f"process {pid}"


def _is_held(error: Exception) -> bool:
    """True when another process, or a connection of this one with other settings, has the file open."""
    text = str(error)
    return "Could not set lock" in text or "different configuration" in text
