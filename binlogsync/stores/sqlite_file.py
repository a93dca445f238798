"""The SQLite file of the stores: opened at the first use, shared by threads and processes.

It is in WAL mode with synchronous=FULL: a write is on disk when it returns, and a kill at any time leaves either the
old or the new row. It must be on a local disk, because SQLite's locks do not work on network file systems. PRAGMA
user_version is the version of the schema.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from binlogsync.errors import StoreError
from binlogsync.private_files import make_file, make_folder
from binlogsync.waiting import RetryTimer

SCHEMA_VERSION = 3
BUSY_TIMEOUT_S = 10.0
_CREATE = (
    """
create table if not exists positions (
    source text primary key, checkpoint text,
    owner text not null, epoch integer not null, heard_s real not null, released integer not null
) without rowid
""",
    """
create table if not exists bookmarks (
    source text not null, key text not null, bookmark text not null, primary key (source, key)
) without rowid
""",
    "create table if not exists facts (source text primary key, facts text not null) without rowid",
)
"""Creates the missing tables, which also upgrades a file of an older version."""
_ADVICE = {
    "SQLITE_FULL": "the disk is full; free space, the tail then resumes by itself",
    "SQLITE_READONLY": "the file or its disk is read-only; choose a path that this user may write to",
    "SQLITE_CANTOPEN": "the file cannot be opened or made; choose a path that this user may write to",
    "SQLITE_PERM": "this user may not open it; correct its owner or mode",
    "SQLITE_NOTADB": "it is not an SQLite database; choose another path, or move that file away",
    "SQLITE_CORRUPT": "it is damaged; move it away with its -wal and -shm files, the sinks contain their checkpoints",
    "SQLITE_BUSY": f"another process has locked it for {BUSY_TIMEOUT_S:g} s; find that process with: fuser -v",
    "SQLITE_IOERR": "the disk fails to read or write; check the system log",
}


class SQLiteFile:
    """The file `path`; its folder is created if missing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._closed = False

    def close(self) -> None:
        """Close the file for good; never raises."""
        with self._lock:
            self._closed = True
            self._drop()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One write transaction; it locks at its start, so that data read within it stays valid until the commit."""
        with self.use() as connection:
            connection.execute("begin immediate")
            try:
                yield connection
                connection.execute("commit")
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.execute("rollback")
                raise

    @contextmanager
    def use(self) -> Iterator[sqlite3.Connection]:
        """The open file, for one thread at a time. An error of SQLite becomes StoreError, and the file is reopened at
        the next use."""
        with self._lock:
            try:
                yield self._opened()
            except sqlite3.Error as error:
                self._drop()
                raise self._store_error(error) from error
            except OSError as error:
                self._drop()
                raise StoreError(f"{self.path}: {error.strerror}; choose a path that this user may write to") from error

    def _opened(self) -> sqlite3.Connection:
        if self._closed:
            raise StoreError(f"{self.path}: this store is closed; make a new one")
        if self._connection is not None and self._file != _identity(self.path):
            self._drop()  # the file was deleted or replaced: writes to the old one would be lost
        if self._connection is None:
            make_folder(self.path.parent)
            make_file(self.path)  # SQLite gives -wal and -shm the mode of the file
            self._connection = sqlite3.connect(
                self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            self._prepare(self._connection)
            self._file = _identity(self.path)
        return self._connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Check that the file belongs to this program before changing it, then create missing tables."""
        connection.execute("begin")
        is_new = self._is_new(connection)
        connection.execute("commit")
        _retry_busy(lambda: connection.execute("pragma journal_mode = wal"))
        connection.execute("pragma synchronous = full")
        if not is_new:
            return
        connection.execute("begin immediate")
        if self._is_new(connection):
            for statement in _CREATE:
                connection.execute(statement)
            connection.execute(f"pragma user_version = {SCHEMA_VERSION}")
        connection.execute("commit")

    def _is_new(self, connection: sqlite3.Connection) -> bool:
        """True when tables must be created. Runs in a transaction, so that version and tables are consistent."""
        version = connection.execute("pragma user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"{self.path}: written by a newer release (schema version {version}, supported are versions up to "
                f"{SCHEMA_VERSION}); upgrade this program, or choose another path"
            )
        if version == 0 and connection.execute("select count(*) from sqlite_master").fetchone()[0]:
            raise StoreError(f"{self.path}: an SQLite database of another program; choose another path")
        return bool(version < SCHEMA_VERSION)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _store_error(self, error: sqlite3.Error) -> StoreError:
        code = getattr(error, "sqlite_errorname", "") or ""
        advice = next((text for name, text in _ADVICE.items() if code.startswith(name)), "check the file and its disk")
        return StoreError(f"{self.path}: {error}: {advice}")


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of the file; None when it does not exist."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return (found.st_dev, found.st_ino)


def _retry_busy(step: Callable[[], object]) -> None:
    """Run the step, with retries while the file is locked: SQLite's busy timeout does not cover the switch to WAL."""
    timer = RetryTimer(BUSY_TIMEOUT_S, 0.01)
    while True:
        try:
            step()
            return
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith("SQLITE_BUSY") or timer.is_over:
                raise
            timer.pause()
