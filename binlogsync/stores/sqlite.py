"""Stores in a SQLite file: embedded, for the tails of one machine.

The table `positions` has a row for each source: checkpoint, and the lease (owner, epoch, time of the last renewal by
the machine's clock, released). `bookmarks` has a row for each bookmark, as JSON by key; `facts` has the facts about
each source's server.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from binlogsync.bookmarks import Bookmark
from binlogsync.errors import PositionError, StoreError
from binlogsync.position import Checkpoint
from binlogsync.stores import BookmarkStore, CheckpointStore, Lease, LeaseStore, PositionStore
from binlogsync.stores.lease import ClaimRequest, LeaseRecord, check_held, claim_lease
from binlogsync.stores.sqlite_file import SQLiteFile

Clock = Callable[[], float]
_KEEP = """
insert into positions (source, owner, epoch, heard_s, released) values (?, ?, ?, ?, ?)
on conflict (source) do update
set owner = excluded.owner, epoch = excluded.epoch, heard_s = excluded.heard_s, released = excluded.released
"""


class SQLiteCheckpoints(CheckpointStore):
    """The column `checkpoint` of the table `positions`, and the table `facts`; a save renews the lease."""

    def __init__(self, file: SQLiteFile, clock: Clock) -> None:
        self._file = file
        self._clock = clock

    def load(self, source: str) -> Checkpoint | None:
        with self._file.use() as connection:
            row = connection.execute("select checkpoint from positions where source = ?", (source,)).fetchone()
        if row is None or row[0] is None:
            return None
        try:
            return Checkpoint.from_text(row[0])
        except PositionError as error:
            raise StoreError(
                f"{self._file.path}: the checkpoint of source {source!r} cannot be read ({error}); set it to null by "
                "hand, the sinks contain their checkpoints"
            ) from error

    def save(self, lease: Lease, checkpoint: Checkpoint) -> None:
        with self._file.transaction() as connection:
            _renew(connection, lease, self._clock())
            update = "update positions set checkpoint = ? where source = ?"
            connection.execute(update, (checkpoint.to_text(), lease.source))

    def delete(self, lease: Lease) -> None:
        with self._file.transaction() as connection:
            _renew(connection, lease, self._clock())
            connection.execute("update positions set checkpoint = null where source = ?", (lease.source,))
            connection.execute("delete from facts where source = ?", (lease.source,))

    def load_facts(self, source: str) -> str | None:
        with self._file.use() as connection:
            row = connection.execute("select facts from facts where source = ?", (source,)).fetchone()
        return None if row is None else str(row[0])

    def save_facts(self, source: str, text: str) -> None:
        with self._file.transaction() as connection:
            connection.execute("insert or replace into facts values (?, ?)", (source, text))


class SQLiteBookmarks(BookmarkStore):
    """The table `bookmarks`."""

    def __init__(self, file: SQLiteFile) -> None:
        self._file = file

    def load(self, source: str) -> Sequence[Bookmark]:
        select = "select key, bookmark from bookmarks where source = ? order by key"
        with self._file.use() as connection:
            rows = connection.execute(select, (source,)).fetchall()
        try:
            return sorted((Bookmark.from_text(text) for _, text in rows), key=lambda each: each.key)
        except PositionError as error:
            raise StoreError(
                f"{self._file.path}: a bookmark of source {source!r} cannot be read ({error}); delete that row of the "
                "table bookmarks by hand"
            ) from error

    def put(self, source: str, bookmark: Bookmark) -> None:
        insert = "insert or replace into bookmarks values (?, ?, ?)"
        with self._file.transaction() as connection:
            connection.execute(insert, (source, bookmark.key, bookmark.to_text()))

    def delete(self, source: str, key: str) -> bool:
        delete = "delete from bookmarks where source = ? and key = ?"
        with self._file.transaction() as connection:
            return connection.execute(delete, (source, key)).rowcount > 0


class SQLiteLeases(LeaseStore):
    """The lease columns of the table `positions`."""

    def __init__(self, file: SQLiteFile, clock: Clock) -> None:
        self._file = file
        self._clock = clock

    def load(self, source: str) -> Lease | None:
        with self._file.use() as connection:
            held, now_s = _held(connection, source), self._clock()
        if held is not None and held.heard_s > now_s:
            held = self._put_back(source)
        return None if held is None else held.lease(source, now_s)

    def claim(self, source: str, owner: str, *, take_over: bool = False, stale_s: float = 45.0) -> Lease:
        with self._file.transaction() as connection:
            now_s = self._clock()
            held = _held(connection, source)
            claim = claim_lease(source, held, ClaimRequest(owner, take_over, stale_s), now_s)
            _keep(connection, source, claim)
        return claim.lease(source, now_s)

    def renew(self, lease: Lease) -> None:
        with self._file.transaction() as connection:
            _renew(connection, lease, self._clock())

    def release(self, lease: Lease) -> None:
        with self._file.transaction() as connection:
            held = _held(connection, lease.source)
            if held is not None and (held.owner, held.epoch) == (lease.owner, lease.epoch):
                _keep(connection, lease.source, replace(held, released=True))

    def _put_back(self, source: str) -> LeaseRecord | None:
        """Set the renewal time of the lease to the current time, because the clock was set back."""
        with self._file.transaction() as connection:
            held = _held(connection, source)
            if held is not None:
                held = held.at(self._clock())
                _keep(connection, source, held)
        return held


class SQLitePositionStore(PositionStore):
    """The three stores in the SQLite file `path`. `clock` returns seconds since 1970."""

    name = "sqlite"

    def __init__(self, path: Path, clock: Clock = time.time) -> None:
        self.path = Path(path)
        self._file = SQLiteFile(self.path)
        super().__init__(
            SQLiteCheckpoints(self._file, clock), SQLiteBookmarks(self._file), SQLiteLeases(self._file, clock)
        )

    def close(self) -> None:
        self._file.close()

    def describe(self) -> str:
        return f"SQLite file {self.path}"

    def missing_file(self) -> Path | None:
        return None if self.path.exists() else self.path


def _renew(connection: sqlite3.Connection, lease: Lease, now_s: float) -> None:
    held = check_held(lease, _held(connection, lease.source))
    _keep(connection, lease.source, replace(held, heard_s=now_s))


def _held(connection: sqlite3.Connection, source: str) -> LeaseRecord | None:
    select = "select owner, epoch, heard_s, released from positions where source = ?"
    row = connection.execute(select, (source,)).fetchone()
    return None if row is None else LeaseRecord(row[0], row[1], row[2], bool(row[3]))


def _keep(connection: sqlite3.Connection, source: str, claim: LeaseRecord) -> None:
    connection.execute(_KEEP, (source, claim.owner, claim.epoch, claim.heard_s, int(claim.released)))
