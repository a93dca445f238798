"""Where consumers and replays store changes: what these need from a target. DuckDB is the first implementation.

A new target is a package that implements `TableStore` and `TableTransaction`, and passes tests/targets/contract.py.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Protocol

import pyarrow as pa

from binlogsync.change import ChangeBatch
from binlogsync.schema import TableSchema
from binlogsync.targets.conversion import ColumnConverter
from binlogsync.targets.fingerprints import Fingerprint, FingerprintRequest
from binlogsync.targets.load_state import LoadState
from binlogsync.targets.mirror_state import ChangePosition, MirrorState
from binlogsync.targets.progress import ConsumerProgress, ProgressKey
from binlogsync.targets.records import ConsumerGap, RepairRecord, ReplayRecord, RewindRecord, Skip


class TableTransaction(Protocol):
    """One transaction: everything that is done in it becomes visible and durable at once, or nothing of it."""

    @property
    @abstractmethod
    def connection(self) -> Any:
        """The connection of the client library, for a user's handler that writes into the same transaction."""

    # Progress, and what is recorded with it.

    @abstractmethod
    def load_progress(self, key: ProgressKey) -> ConsumerProgress:
        """The stored progress; NO_PROGRESS for a new consumer."""

    @abstractmethod
    def move_progress(self, key: ProgressKey, before: ConsumerProgress, after: ConsumerProgress) -> ConsumerProgress:
        """Store `after` if `before` is still stored; returns it as stored, with the next epoch.

        Raises ConsumeError when another writer has updated it: of two writers only one can commit.
        """

    def move_all_progress(
        self, moves: Sequence[tuple[ProgressKey, ConsumerProgress, ConsumerProgress]]
    ) -> Sequence[ConsumerProgress]:
        """`move_progress` for several consumers (key, before, after), of which none occurs twice."""
        return [self.move_progress(key, before, after) for key, before, after in moves]

    @abstractmethod
    def forget_progress(self, key: ProgressKey) -> None:
        """Delete the progress: the consumer is new again."""

    @abstractmethod
    def list_consumers(self, database: str, table: str) -> Sequence[ProgressKey]:
        """All consumers of a table with stored progress."""

    @abstractmethod
    def load_all_progress(self) -> Mapping[ProgressKey, ConsumerProgress]:
        """The progress of all consumers. Changes nothing, also in a new store."""

    @abstractmethod
    def load_gaps(self, key: ProgressKey) -> Sequence[ConsumerGap]:
        """All gaps of a consumer, in order."""

    @abstractmethod
    def insert_gap(self, key: ProgressKey, gap: ConsumerGap) -> None:
        """Store a gap, unless the same gap is already open."""

    @abstractmethod
    def resolve_gaps(self, key: ProgressKey, resolution: str, by: str, until: datetime | None = None) -> None:
        """Resolve all open gaps; those found after `until` stay open."""

    @abstractmethod
    def load_skips(self, key: ProgressKey) -> Sequence[Skip]:
        """The skipped changes of a consumer, in order."""

    @abstractmethod
    def insert_skip(self, skip: Skip) -> None:
        """Store the record of a skipped change."""

    @abstractmethod
    def insert_rewind(self, record: RewindRecord) -> None:
        """Store the record of a rewind."""

    # Replays.

    @abstractmethod
    def load_replay(self, replay: ReplayRecord) -> ReplayRecord | None:
        """The unfinished replay with the same table, request and target; None if there is none."""

    @abstractmethod
    def insert_replay(self, replay: ReplayRecord) -> None:
        """Store that a replay has begun."""

    @abstractmethod
    def move_replay(self, number: str, done: str) -> None:
        """Store the checkpoint after the last stored change of a replay."""

    @abstractmethod
    def finish_replay(self, number: str) -> None:
        """Store that a replay is finished."""

    # Mirrors. Methods that return a state return it as it is stored afterwards.

    @property
    @abstractmethod
    def converter(self) -> ColumnConverter:
        """Writes the conversions of ALTER TABLE for `rewrite_table` and `has_row`."""

    @abstractmethod
    def load_mirror(self, database: str, table: str) -> MirrorState:
        """The state of a mirror; a new state, with a free name for its table, if there is none."""

    @abstractmethod
    def list_mirrors(self, client: str, source: str) -> set[tuple[str, str]]:
        """(database, table) of the mirrors that the client keeps here."""

    @abstractmethod
    def list_all_mirrors(self) -> Set[tuple[str, str]]:
        """(database, table) of every mirror with a stored state. Changes nothing, also in a new store."""

    @abstractmethod
    def store_mirror(self, state: MirrorState) -> MirrorState:
        """Store the state."""

    @abstractmethod
    def create_table(self, state: MirrorState, schema: TableSchema) -> MirrorState:
        """Create an empty table. Raises ConsumeError for a type without a counterpart, or a name in use."""

    @abstractmethod
    def ensure_deleted_at(self, state: MirrorState, name: str | None) -> MirrorState:
        """Add the column for soft deletes if it is missing. Raises ConsumeError if the mirror has another one."""

    @abstractmethod
    def rewrite_table(self, state: MirrorState, schema: TableSchema, values: Sequence[str]) -> MirrorState:
        """Give the table another schema; `values` are the converter's, for each new column."""

    @abstractmethod
    def drop_table(self, state: MirrorState) -> MirrorState:
        """Drop the table; its state stays stored."""

    @abstractmethod
    def drop_or_keep_table(self, state: MirrorState, gone_us: int) -> MirrorState:
        """Drop the table; with soft deletes, keep it under another name, with all rows deleted at `gone_us`."""

    @abstractmethod
    def forget_mirror(self, database: str, table: str) -> None:
        """Drop the table and its state."""

    @abstractmethod
    def delete_rows(self, state: MirrorState, gone_us: int) -> MirrorState:
        """Delete all rows (TRUNCATE); with soft deletes, mark them as deleted at `gone_us`, microseconds since 1970."""

    @abstractmethod
    def has_row(self, state: MirrorState, *conditions: str) -> bool:
        """True when the table has a row for which one of the conditions of the converter is true; any row for none."""

    @abstractmethod
    def apply_rows(self, state: MirrorState, batches: Sequence[ChangeBatch]) -> None:
        """Apply the changes, all of the schema of the table, in order: the result is the same as one at a time."""

    # The history of a mirror: every version of every row.

    @abstractmethod
    def record_versions(self, state: MirrorState, batches: Sequence[ChangeBatch]) -> MirrorState:
        """Store the versions that these changes start and end."""

    @abstractmethod
    def close_versions(self, state: MirrorState, at: ChangePosition) -> None:
        """End every current version: the table was emptied, dropped or rewritten."""

    @abstractmethod
    def open_versions(self, state: MirrorState, at: ChangePosition) -> MirrorState:
        """Start a version for every row of the mirror."""

    # A load: a spare table beside the mirror is filled in many transactions, and replaces the mirror's in the last one.
    # `state` is that of the mirror. The load that began or stored its state last owns the spare table; `owner` is any
    # text that no other load uses.

    @abstractmethod
    def begin_load(self, state: MirrorState, schema: TableSchema | None, owner: str) -> None:
        """Create an empty spare table in place of an earlier one, or none for None; the load has no state yet."""

    @abstractmethod
    def find_load(self, state: MirrorState) -> LoadState | None:
        """The state of the load that was stored last; None if there is none, or no spare table.

        It is still that at the end of this transaction, as far as others change it.
        """

    @abstractmethod
    def store_load(self, state: MirrorState, load: LoadState, owner: str) -> None:
        """Store the state of the load, which that owner owns from now on."""

    @abstractmethod
    def check_owner(self, state: MirrorState, owner: str) -> None:
        """Raise ConsumeError unless the owner owns the spare table, also at the end of this transaction."""

    @abstractmethod
    def drop_load(self, state: MirrorState) -> None:
        """Drop the spare table and the state of its load, if there are any."""

    @abstractmethod
    def insert_rows(self, state: MirrorState, schema: TableSchema, batches: Iterable[ChangeBatch]) -> int:
        """Insert rows of a snapshot (op "r"), all of the spare table's schema, into it; returns their number.

        `batches` may read from a server while the rows are stored, and does not use this transaction. Raises what it
        raises, and ConsumeError for incomplete row images.
        """

    @abstractmethod
    def apply_to_spare(self, state: MirrorState, schema: TableSchema, batches: Sequence[ChangeBatch]) -> None:
        """Apply changes to the spare table in order, by the primary key of `schema`, which may be another unique key.

        A change that is in the rows already has no effect.
        """

    @abstractmethod
    def replace_table(self, state: MirrorState, schema: TableSchema, gone_us: int) -> MirrorState:
        """Replace the mirror's table by the spare table, which has this schema; the load is over.

        With soft deletes, rows that are missing in it become rows deleted at `gone_us`. Raises ConsumeError if the
        table has a column with the name of the mirror's `deleted_at`.
        """

    # Tables that were renamed to a mirror's name, built in `TableStore.scratch`.

    @abstractmethod
    def move_table(self, state: MirrorState, database: str, table: str) -> MirrorState:
        """Move the table of a mirror to the mirror of another name, which has none; returns the state of that one."""

    @abstractmethod
    def read_rows(self, state: MirrorState) -> Iterator[pa.Table]:
        """The rows of the mirror's table, some thousand at a time, as `copy_rows` takes them."""

    @abstractmethod
    def copy_rows(self, state: MirrorState, rows: pa.Table) -> None:
        """Insert rows that `read_rows` of another store of this kind returned into the spare table."""

    # What is shown of a table: the mirror of a table of the source; without one, the table of that name, as a handler
    # may write it.

    @abstractmethod
    def count_rows(self, database: str, table: str, *, with_deleted: bool = True) -> int | None:
        """Number of rows, without soft-deleted ones unless `with_deleted`; None if there is no such table."""

    @abstractmethod
    def read_first_rows(self, database: str, table: str, limit: int) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        """(names of the columns, at most so many rows) of a table that exists."""

    # Verification: the keys and row hashes of the table at a requested position.

    @abstractmethod
    def load_requests(self, database: str, table: str) -> Sequence[FingerprintRequest]:
        """The open requests of a table, without expired ones."""

    @abstractmethod
    def insert_request(self, state: MirrorState, request: FingerprintRequest) -> None:
        """Store a request."""

    @abstractmethod
    def write_fingerprint(self, state: MirrorState, request: FingerprintRequest) -> None:
        """Store the keys and row hashes of the table as it is in this transaction, or apply the requested repair."""

    @abstractmethod
    def insert_repair(
        self,
        state: MirrorState,
        request: FingerprintRequest,
        record: RepairRecord,
        content: tuple[TableSchema, pa.Table, Iterable[ChangeBatch]],
    ) -> None:
        """Store a request for a repair: `write_fingerprint` then replaces rows of the table instead, and records it.

        `content` is the schema of the table, the keys to replace as text (columns k0, k1, ...), and the rows that the
        table had for them at the requested position (op "r").
        """

    @abstractmethod
    def take_repair(self, request: FingerprintRequest) -> RepairRecord | None:
        """The record of the repair, whose request is removed; None if not applied yet.

        Raises LookupError for a deleted request: the mirror was rebuilt after the position, or had other columns.
        """

    @abstractmethod
    def load_repairs(self, key: ProgressKey) -> Sequence[RepairRecord]:
        """All repairs of a mirror, in order."""

    @abstractmethod
    def take_fingerprint(self, request: FingerprintRequest) -> Fingerprint | None:
        """The fingerprint, which is removed; None if not ready. Raises LookupError for a deleted request."""

    @abstractmethod
    def delete_request(self, request: FingerprintRequest) -> None:
        """Delete the request, and its fingerprint or the repair that was not applied, if there are any."""


class TableStore(Protocol):
    """A file, database or lake in which tables, and the progress of consumers, are stored in one transaction."""

    @property
    @abstractmethod
    def address(self) -> str:
        """Where it is: the path of a file, or the address of a server without the password; the same for one store."""

    @abstractmethod
    def begin(self, *, keep_open: bool = False) -> AbstractContextManager[TableTransaction]:
        """One transaction: committed at the end of the block and durable then, or rolled back if the block raises.

        `keep_open` means that another transaction follows at once; the caller calls `release` afterwards.
        """

    @property
    @abstractmethod
    def is_open(self) -> bool:
        """True while this object keeps something open for which other processes wait."""

    @abstractmethod
    def release(self) -> None:
        """Let other processes in."""

    @property
    def version(self) -> object:
        """A value that differs after each change, if that is known without a transaction; None for a missing store."""
        return object()

    def another(self) -> TableStore:
        """The same store for another thread; this object itself if several threads may use it at once."""
        return self

    def scratch(self) -> AbstractContextManager[TableStore] | None:
        """An empty store of this kind, for large tables, which is removed at the end of the block.

        None if the store has none: a renamed table is then read from the server, not built from the stream.
        """
        return None
