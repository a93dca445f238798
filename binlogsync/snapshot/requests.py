"""Requests to publish the existing rows of tables into a running stream, and how far each of them is.

Whoever wants a snapshot creates a request; the tail of the source polls for it, from any machine. A request and its
status are stored as one record with a revision, and each update names the revision that it read (compare and set): so
an operator's `paused` and the tail's count of rows never overwrite each other. The operator sets the states `paused`,
`running` and `cancelled`; the tail sets the others, the tables, `first_ordinal` and the counts.

How far the rows are in the stream is a part of the stream itself: the status only reports it.
"""

from __future__ import annotations

import secrets
import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol, TypeAlias

import msgspec

from binlogsync.codec.subjects import parse_snapshot_prefix
from binlogsync.errors import ConfigError, StoreError, excerpt
from binlogsync.filters import TableFilter
from binlogsync.snapshot.condition import refuse_condition

SnapshotState: TypeAlias = Literal["waiting", "running", "paused", "cancelled", "done", "failed"]
TableState: TypeAlias = Literal["waiting", "running", "done", "failed", "cancelled"]

ENDED: frozenset[SnapshotState] = frozenset({"cancelled", "done", "failed"})
"""States that never change again."""

_KEPT = 50
_LONGEST_ID = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotRequest:
    """What to publish.

    Attributes:
        id: unique among the requests of a source: up to 32 ASCII letters and digits.
        patterns: "database.table" with * and ?; a name in backquotes is taken as it is (binlogsync.filters).
        created_us: when it was created, microseconds since 1970 UTC.
        where: SQL condition for the rows of the one table; None for all rows.
        subject: the first tokens of the subjects of its rows, if they are for one consumer alone: what
            binlogsync.codec.subjects.snapshot_prefix() returns. None for the subjects of the tables.
        rows_per_s: limit of the rate; None for no limit.
        tables: (database, table) that the tail has found for the patterns when it began; before, empty.
        first_ordinal: ordinal of its first row, set by the tail when it began; None before. The ordinals at
            one position never repeat.
    """

    id: str
    patterns: tuple[str, ...]
    created_us: int
    where: str | None = None
    subject: str | None = None
    rows_per_s: float | None = None
    tables: tuple[tuple[str, str], ...] = ()
    first_ordinal: int | None = None

    @property
    def consumer(self) -> str | None:
        """Client id of the consumer that gets the rows; None if all do."""
        found = None if self.subject is None else parse_snapshot_prefix(self.subject)
        return None if found is None else found[1]

    def __post_init__(self) -> None:
        if not (self.id.isascii() and self.id.isalnum() and len(self.id) <= _LONGEST_ID):
            raise ConfigError(f"{excerpt(self.id)} cannot be the id of a snapshot: use up to 32 letters and digits")
        if not self.patterns:
            raise ConfigError("a snapshot needs at least one table; give a name or a pattern, such as shop.orders")
        TableFilter(self.patterns)
        if self.where is not None and not self.where.strip():
            raise ConfigError("the condition of a snapshot is empty; leave it out to publish all rows")
        if self.rows_per_s is not None and not 0 < self.rows_per_s < float("inf"):
            raise ConfigError(f"rows_per_s ({self.rows_per_s}) of a snapshot must be a number above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotTableStatus:
    """How far one table is: `rows` published of about `estimate` (0 if unknown); why it failed, or ""."""

    state: TableState = "waiting"
    rows: int = 0
    estimate: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotStatus:
    """How far a request is.

    Attributes:
        state: of the request.
        error: why it failed and what to do next, or what it waits for; "" for nothing.
        tables: of each table, in the order of the request's tables.
        began_us, updated_us, ended_us: when the tail began it, updated it last, and ended it; microseconds since 1970
            UTC, 0 if it has not.
    """

    state: SnapshotState = "waiting"
    error: str = ""
    tables: tuple[SnapshotTableStatus, ...] = ()
    began_us: int = 0
    updated_us: int = 0
    ended_us: int = 0

    @property
    def has_ended(self) -> bool:
        """True when nothing more will be published for it."""
        return self.state in ENDED

    @property
    def rows(self) -> int:
        """Rows published of all tables."""
        return sum(table.rows for table in self.tables)


def cancelled_tables(tables: Sequence[SnapshotTableStatus]) -> tuple[SnapshotTableStatus, ...]:
    """The tables of a request that was cancelled, once nothing more is published for it."""
    return tuple(
        table if table.state in ("done", "failed") else replace(table, state="cancelled", error="") for table in tables
    )


class StoredSnapshot(NamedTuple):
    """A request, its status, and the revision that the next update has to name."""

    request: SnapshotRequest
    status: SnapshotStatus
    revision: int


class SnapshotRequests(Protocol):
    """The requests of one source. Every method may raise StoreError, and is safe to call from any thread."""

    @abstractmethod
    def create(self, request: SnapshotRequest) -> StoredSnapshot:
        """Store a new request, which waits for the tail. Raises StoreError if one with its id exists.

        Of the requests that have ended, the newest 50 are kept.
        """

    @abstractmethod
    def list(self) -> Sequence[StoredSnapshot]:
        """All requests, the oldest first. Cheap while nothing changes: the tail calls it every second."""

    @abstractmethod
    def load(self, id: str) -> StoredSnapshot | None:
        """One request; None when there is none with that id."""

    @abstractmethod
    def update(
        self, before: StoredSnapshot, status: SnapshotStatus, request: SnapshotRequest | None = None
    ) -> StoredSnapshot | None:
        """Replace the status, and the request if one is given (the tail adds its tables and first ordinal).

        Returns what is stored now; None, and stores nothing, when that is no longer `before`: load it and decide again.
        Raises StoreError when there is no request with that id.
        """

    def close(self) -> None:
        """Close connections; never raises."""
        return


def new_request(
    patterns: Sequence[str], where: str | None = None, subject: str | None = None, rows_per_s: float | None = None
) -> SnapshotRequest:
    """A request with a new id, created now. Raises ConfigError."""
    if where is not None and (problem := refuse_condition(where)):
        raise ConfigError(problem)
    return SnapshotRequest(
        id=secrets.token_hex(4),
        patterns=tuple(patterns),
        created_us=time.time_ns() // 1000,
        where=where,
        subject=subject,
        rows_per_s=rows_per_s,
    )


def in_order(stored: Sequence[StoredSnapshot]) -> list[StoredSnapshot]:
    """The requests, the oldest first."""
    return sorted(stored, key=lambda each: (each.request.created_us, each.request.id))


def ids_to_forget(stored: Sequence[StoredSnapshot]) -> list[str]:
    """The ids of the requests that ended before the newest ones that are kept."""
    ended = [each.request.id for each in in_order(stored) if each.status.has_ended]
    return ended[:-_KEPT]


class _Record(msgspec.Struct, frozen=True):
    request: SnapshotRequest
    status: SnapshotStatus


def to_json(request: SnapshotRequest, status: SnapshotStatus) -> bytes:
    """The record as JSON."""
    return msgspec.json.encode(_Record(request, status))


def from_json(text: bytes, revision: int) -> StoredSnapshot:
    """The record that to_json() wrote. Raises StoreError."""
    try:
        record = msgspec.json.decode(text, type=_Record)
    except (msgspec.DecodeError, ConfigError, UnicodeDecodeError) as error:
        raise StoreError(
            f"a snapshot request cannot be read ({error}): {excerpt(text)}; update binlogsync if a later version wrote "
            "it, or delete its key"
        ) from error
    return StoredSnapshot(record.request, record.status, revision)
