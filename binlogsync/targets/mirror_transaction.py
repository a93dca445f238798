"""What a mirror does in a transaction of a target: its table, its history, its loads and its fingerprints."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

    from binlogsync.change_batch import ChangeBatch
    from binlogsync.schema import TableSchema
    from binlogsync.targets.conversion import ColumnConverter
    from binlogsync.targets.fingerprints import Fingerprint, FingerprintRequest
    from binlogsync.targets.load_state import LoadState
    from binlogsync.targets.mirror_state import ChangePosition, MirrorState
    from binlogsync.targets.progress import ProgressKey
    from binlogsync.targets.records import RepairRecord


class MirrorTransaction(Protocol):
    """The part of a TableTransaction about mirrors. Methods that return a state return it as stored afterwards."""

    @property
    @abstractmethod
    def converter(self) -> ColumnConverter:
        """Writes the conversions of ALTER TABLE for `rewrite_table` and `has_row`."""

    @abstractmethod
    def load_mirror(self, database: str, table: str) -> MirrorState:
        """The state of a mirror; a new state, with a free name for its table, if there is none."""

    def load_stored_mirrors(self, names: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], MirrorState]:
        """The states that are stored for these (database, table), of which none occurs twice."""
        states = {name: self.load_mirror(*name) for name in names}
        return {name: state for name, state in states.items() if state.is_known}

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
        """Create an empty table with the added columns of the state; one that was kept after a DROP is archived.

        Raises ConsumeError for a type without a counterpart, or a name in use.
        """

    @abstractmethod
    def ensure_deleted_at(self, state: MirrorState, name: str | None) -> MirrorState:
        """Add the column for soft deletes if it is missing. Raises ConsumeError if the mirror has another one."""

    @abstractmethod
    def ensure_metadata(self, state: MirrorState, names: Sequence[str]) -> MirrorState:
        """Add metadata columns (METADATA_COLUMNS) that are missing, with NULL in the rows that the table has.

        From then on, each row has those of its last change; a row that was read has the operation r and no GTID. Raises
        ConsumeError if the mirror has a column that is not among `names`, or the source one of the same name.
        """

    @abstractmethod
    def place_mirror(self, state: MirrorState, location: tuple[str, str]) -> MirrorState:
        """Give a new mirror this (schema, table) instead of the default.

        Raises ConsumeError if a stored mirror has another location, or if another mirror has this one, or is being
        loaded into it.
        """

    @abstractmethod
    def rewrite_table(self, state: MirrorState, schema: TableSchema, values: Sequence[str]) -> MirrorState:
        """Give the table another schema; `values` are the converter's, for each new column."""

    @abstractmethod
    def drop_table(self, state: MirrorState) -> MirrorState:
        """Drop the table; its state stays stored."""

    @abstractmethod
    def drop_or_keep_table(self, state: MirrorState, gone_us: int) -> MirrorState:
        """The source has no such table since `gone_us`: drop, keep or archive the mirror's, by its policy (`on_drop`).

        A kept table stays where it is, without being the mirror's table any longer: `schema` is None, and `kept_us` of
        the policies the time. An archived one gets the time in its name. With soft deletes, all rows are deleted at
        `gone_us`, and "drop" archives the table.
        """

    @abstractmethod
    def forget_mirror(self, database: str, table: str) -> None:
        """Drop the table, also a kept one, its state, and a load that is not complete."""

    @abstractmethod
    def delete_rows(self, state: MirrorState, gone_us: int) -> MirrorState:
        """Delete all rows (TRUNCATE); with soft deletes, mark them as deleted at `gone_us`, microseconds since 1970."""

    @abstractmethod
    def has_row(self, state: MirrorState, *conditions: str) -> bool:
        """True when the table has a row for which one of the conditions of the converter is true; any row for none."""

    @abstractmethod
    def apply_rows(self, state: MirrorState, batches: Sequence[ChangeBatch]) -> None:
        """Apply the changes, all of the schema of the table, in order: the result is the same as one at a time.

        If the policies of the state check the key (`checks_key`), raises ConsumeError if the primary key of the schema,
        which the server need not enforce then, has a NULL or an invalid date, or if a change gives it to a row while
        another row has it.
        """

    @abstractmethod
    def apply_published(
        self, state: MirrorState, batches: Sequence[ChangeBatch], at: ChangePosition, *, has_history: bool
    ) -> MirrorState:
        """Insert rows that a snapshot has published (op "r"), all of the schema of the table; one that the table has
        changes nothing, and one with the key of another replaces it. Returns the updated state.

        Raises ConsumeError if two of the rows have one key of the policies and different values, or a NULL in it. With
        `has_history` the versions of the rows that were inserted or replaced begin at that position. A table
        without a primary key has no equal rows at the source.
        """

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

        If another transaction changes it before this one commits, only one of the two can commit.
        """

    @abstractmethod
    def store_load(self, state: MirrorState, load: LoadState, owner: str) -> None:
        """Store the state of the load, which that owner owns from now on."""

    @abstractmethod
    def check_owner(self, state: MirrorState, owner: str) -> None:
        """Raise ConsumeError unless the owner owns the spare table, also at the end of this transaction."""

    @abstractmethod
    def drop_load(self, state: MirrorState) -> bool:
        """Drop the spare table, also one for other names of the mirror, and the state of its load; False for none."""

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
        table has a column with the name of the mirror's `deleted_at`, or if the key of its policies does not identify
        each row.
        """

    # Tables that were renamed to a mirror's name, built in `TableStore.scratch`.

    @abstractmethod
    def move_table(self, state: MirrorState, database: str, table: str) -> MirrorState:
        """Move the table of a mirror to the mirror of another name, which has none; returns the state of that one."""

    @abstractmethod
    def read_rows(self, state: MirrorState) -> Iterator[pa.Table]:
        """The rows of the mirror's table with their metadata, some thousand at a time, as `copy_rows` takes them."""

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
    def load_requests(self) -> Mapping[tuple[str, str], Sequence[FingerprintRequest]]:
        """The open requests of each (database, table) that has some, without expired ones."""

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
