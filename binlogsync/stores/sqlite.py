"""Positions in a SQLite file: the embedded store, for the tails of one machine.

The table `positions` has a row for each source: checkpoint, and the lease (owner, epoch, time of the last save or
heartbeat by the machine's clock, released). `bookmarks` has a row for each bookmark, as JSON by key; `facts` has the
facts about each source's server. The file is opened at the first use, in WAL mode with synchronous=FULL: a save is on
disk when it returns, and a kill at any time leaves either the old or the new row. Threads and processes may share the
file. It must be on a local disk, because SQLite's locks do not work on network file systems. PRAGMA user_version is the
version of the schema.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from binlogsync.bookmarks import Bookmark
from binlogsync.errors import PositionError, StoreError
from binlogsync.position import Checkpoint
from binlogsync.private_files import make_file, make_folder
from binlogsync.stores import Lease, PositionStore
from binlogsync.stores.lease import ClaimRequest, LeaseRecord, check_held, claim_lease

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
_KEEP = """
insert into positions (source, owner, epoch, heard_s, released) values (?, ?, ?, ?, ?)
on conflict (source) do update
set owner = excluded.owner, epoch = excluded.epoch, heard_s = excluded.heard_s, released = excluded.released
"""
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


class SQLitePositionStore(PositionStore):
    """A PositionStore in the SQLite file `path`; creates its folder if missing. `clock` returns seconds since 1970."""

    name = "sqlite"

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = Path(path)
        self._clock = clock
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._closed = False

    def describe(self) -> str:
        return f"SQLite file {self.path}"

    def missing_file(self) -> Path | None:
        return None if self.path.exists() else self.path

    def load(self, source: str) -> Checkpoint | None:
        with self._use() as connection:
            row = connection.execute("select checkpoint from positions where source = ?", (source,)).fetchone()
        if row is None or row[0] is None:
            return None
        try:
            return Checkpoint.from_text(row[0])
        except PositionError as error:
            raise StoreError(
                f"{self.path}: the checkpoint of source {source!r} cannot be read ({error}); set it to null by hand, "
                "the sinks contain their checkpoints"
            ) from error

    def save(self, lease: Lease, checkpoint: Checkpoint) -> None:
        with self._transaction() as connection:
            self._renew(connection, lease)
            update = "update positions set checkpoint = ? where source = ?"
            connection.execute(update, (checkpoint.to_text(), lease.source))

    def claim(self, source: str, owner: str, *, take_over: bool = False, stale_s: float = 45.0) -> Lease:
        with self._transaction() as connection:
            now_s = self._clock()
            held = _held(connection, source)
            claim = claim_lease(source, held, ClaimRequest(owner, take_over, stale_s), now_s)
            _keep(connection, source, claim)
        return claim.lease(source, now_s)

    def heartbeat(self, lease: Lease) -> None:
        with self._transaction() as connection:
            self._renew(connection, lease)

    def release(self, lease: Lease) -> None:
        with self._transaction() as connection:
            held = _held(connection, lease.source)
            if held is not None and (held.owner, held.epoch) == (lease.owner, lease.epoch):
                _keep(connection, lease.source, replace(held, released=True))

    def lease(self, source: str) -> Lease | None:
        with self._use() as connection:
            held, now_s = _held(connection, source), self._clock()
        if held is not None and held.heard_s > now_s:
            held = self._put_back(source)
        return None if held is None else held.lease(source, now_s)

    def bookmarks(self, source: str) -> Sequence[Bookmark]:
        select = "select key, bookmark from bookmarks where source = ? order by key"
        with self._use() as connection:
            rows = connection.execute(select, (source,)).fetchall()
        try:
            return sorted((Bookmark.from_text(text) for _, text in rows), key=lambda each: each.key)
        except PositionError as error:
            raise StoreError(
                f"{self.path}: a bookmark of source {source!r} cannot be read ({error}); delete that row of the table "
                "bookmarks by hand"
            ) from error

    def put_bookmark(self, source: str, bookmark: Bookmark) -> None:
        insert = "insert or replace into bookmarks values (?, ?, ?)"
        with self._transaction() as connection:
            connection.execute(insert, (source, bookmark.key, bookmark.to_text()))

    def delete_bookmark(self, source: str, key: str) -> bool:
        delete = "delete from bookmarks where source = ? and key = ?"
        with self._transaction() as connection:
            return connection.execute(delete, (source, key)).rowcount > 0

    def facts(self, source: str) -> str | None:
        with self._use() as connection:
            row = connection.execute("select facts from facts where source = ?", (source,)).fetchone()
        return None if row is None else str(row[0])

    def put_facts(self, source: str, text: str) -> None:
        with self._transaction() as connection:
            connection.execute("insert or replace into facts values (?, ?)", (source, text))

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._drop()

    def _renew(self, connection: sqlite3.Connection, lease: Lease) -> None:
        held = check_held(lease, _held(connection, lease.source))
        _keep(connection, lease.source, replace(held, heard_s=self._clock()))

    def _put_back(self, source: str) -> LeaseRecord | None:
        """Set the renewal time of the lease to the current time, because the clock was set back."""
        with self._transaction() as connection:
            held = _held(connection, source)
            if held is not None:
                held = held.at(self._clock())
                _keep(connection, source, held)
        return held

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """One write transaction; it locks at its start, so that data read within it stays valid until the commit."""
        with self._use() as connection:
            connection.execute("begin immediate")
            try:
                yield connection
                connection.execute("commit")
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.execute("rollback")
                raise

    @contextmanager
    def _use(self) -> Iterator[sqlite3.Connection]:
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
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            step()
            return
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _held(connection: sqlite3.Connection, source: str) -> LeaseRecord | None:
    select = "select owner, epoch, heard_s, released from positions where source = ?"
    row = connection.execute(select, (source,)).fetchone()
    return None if row is None else LeaseRecord(row[0], row[1], row[2], bool(row[3]))


def _keep(connection: sqlite3.Connection, source: str, claim: LeaseRecord) -> None:
    connection.execute(_KEEP, (source, claim.owner, claim.epoch, claim.heard_s, int(claim.released)))
