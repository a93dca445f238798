"""A transaction of a DuckDB file as a TableTransaction; each method has its SQL in the module of its subject."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa

from binlogsync.change_batch import ChangeBatch
from binlogsync.schema import TableSchema
from binlogsync.targets import TableTransaction
from binlogsync.targets.duckdb import (
    fingerprints,
    history,
    loads,
    previews,
    progress,
    published,
    records,
    repairs,
    row_images,
    rows,
    soft_deletes,
)
from binlogsync.targets.duckdb import mirror_tables as tables
from binlogsync.targets.duckdb import state as states
from binlogsync.targets.duckdb.convert import DuckConverter
from binlogsync.targets.fingerprints import Fingerprint, FingerprintRequest
from binlogsync.targets.load_state import LoadState
from binlogsync.targets.mirror_state import ChangePosition, MirrorState
from binlogsync.targets.progress import ConsumerProgress, ProgressKey
from binlogsync.targets.records import ConsumerGap, RepairRecord, ReplayRecord, RewindRecord, Skip


class DuckTransaction(TableTransaction):
    """The open transaction of a connection."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """See TableTransaction, also for the other methods."""
        return self._connection

    def load_progress(self, key: ProgressKey) -> ConsumerProgress:
        return progress.load_progress(self._connection, key)

    def move_progress(self, key: ProgressKey, before: ConsumerProgress, after: ConsumerProgress) -> ConsumerProgress:
        return progress.move_progress(self._connection, key, before, after)

    def move_all_progress(
        self, moves: Sequence[tuple[ProgressKey, ConsumerProgress, ConsumerProgress]]
    ) -> Sequence[ConsumerProgress]:
        return progress.move_all_progress(self._connection, moves)

    def forget_progress(self, key: ProgressKey) -> None:
        progress.forget_progress(self._connection, key)

    def list_consumers(self, database: str, table: str) -> Sequence[ProgressKey]:
        return progress.list_consumers(self._connection, database, table)

    def load_all_progress(self) -> Mapping[ProgressKey, ConsumerProgress]:
        return progress.load_all_progress(self._connection)

    def load_gaps(self, key: ProgressKey) -> Sequence[ConsumerGap]:
        return records.load_gaps(self._connection, key)

    def insert_gap(self, key: ProgressKey, gap: ConsumerGap) -> None:
        records.insert_gap(self._connection, key, gap)

    def resolve_gaps(self, key: ProgressKey, resolution: str, by: str, until: datetime | None = None) -> None:
        records.resolve_gaps(self._connection, key, resolution, by, until)

    def load_skips(self, key: ProgressKey) -> Sequence[Skip]:
        return records.load_skips(self._connection, key)

    def insert_skip(self, skip: Skip) -> None:
        records.insert_skip(self._connection, skip)

    def insert_rewind(self, record: RewindRecord) -> None:
        records.insert_rewind(self._connection, record)

    def load_replays(self) -> Sequence[ReplayRecord]:
        return records.load_replays(self._connection)

    def insert_replay(self, replay: ReplayRecord) -> None:
        records.insert_replay(self._connection, replay)

    def finish_replay(self, number: str) -> None:
        records.finish_replay(self._connection, number)

    def forget_replay(self, replay: ReplayRecord) -> None:
        records.delete_replay(self._connection, replay.number)
        progress.forget_progress(self._connection, replay.key)

    @property
    def converter(self) -> DuckConverter:
        return DuckConverter()

    def load_mirror(self, database: str, table: str) -> MirrorState:
        states.ensure_meta(self._connection)
        return states.load_state(self._connection, database, table)

    def load_stored_mirrors(self, names: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], MirrorState]:
        states.ensure_meta(self._connection)
        return states.load_stored_states(self._connection, names)

    def list_mirrors(self, client: str, source: str) -> set[tuple[str, str]]:
        states.ensure_meta(self._connection)
        return progress.list_mirrors(self._connection, client, source)

    def list_all_mirrors(self) -> Set[tuple[str, str]]:
        return states.load_mirror_names(self._connection)

    def store_mirror(self, state: MirrorState) -> MirrorState:
        return states.store_state(self._connection, state)

    def create_table(self, state: MirrorState, schema: TableSchema) -> MirrorState:
        return tables.create_table(self._connection, state, schema)

    def ensure_deleted_at(self, state: MirrorState, name: str | None) -> MirrorState:
        return tables.ensure_deleted_at(self._connection, state, name)

    def ensure_metadata(self, state: MirrorState, names: Sequence[str]) -> MirrorState:
        return tables.ensure_metadata(self._connection, state, names)

    def place_mirror(self, state: MirrorState, location: tuple[str, str]) -> MirrorState:
        placed = tables.place_mirror(self._connection, state, location)
        if not state.is_known:
            loads.check_place(self._connection, placed)
        return placed

    def rewrite_table(self, state: MirrorState, schema: TableSchema, values: Sequence[str]) -> MirrorState:
        return tables.rewrite_table(self._connection, state, schema, values)

    def drop_table(self, state: MirrorState) -> MirrorState:
        return tables.drop_table(self._connection, state)

    def drop_or_keep_table(self, state: MirrorState, gone_us: int) -> MirrorState:
        return tables.drop_or_keep_table(self._connection, state, gone_us)

    def forget_mirror(self, database: str, table: str) -> None:
        state = self.load_mirror(database, table)
        loads.drop_load(self._connection, state)
        tables.drop_mirror(self._connection, state)

    def delete_rows(self, state: MirrorState, gone_us: int) -> MirrorState:
        return soft_deletes.delete_rows(self._connection, state, gone_us)

    def has_row(self, state: MirrorState, *conditions: str) -> bool:
        return tables.has_row(self._connection, state, *conditions)

    def apply_rows(self, state: MirrorState, batches: Sequence[ChangeBatch]) -> None:
        rows.apply_rows(self._connection, state, batches)

    def apply_published(
        self, state: MirrorState, batches: Sequence[ChangeBatch], at: ChangePosition, *, has_history: bool
    ) -> MirrorState:
        return published.apply_published(self._connection, state, batches, at, has_history=has_history)

    def record_versions(self, state: MirrorState, batches: Sequence[ChangeBatch]) -> MirrorState:
        return history.record_versions(self._connection, state, row_images.row_images(batches))

    def close_versions(self, state: MirrorState, at: ChangePosition) -> None:
        history.close_versions(self._connection, state, at)

    def open_versions(self, state: MirrorState, at: ChangePosition) -> MirrorState:
        return history.open_versions(self._connection, state, at)

    def begin_load(self, state: MirrorState, schema: TableSchema | None, owner: str) -> None:
        loads.begin_load(self._connection, state, schema, owner)

    def find_load(self, state: MirrorState) -> LoadState | None:
        return loads.find_load(self._connection, state)

    def store_load(self, state: MirrorState, load: LoadState, owner: str) -> None:
        loads.store_load(self._connection, state, load, owner)

    def check_owner(self, state: MirrorState, owner: str) -> None:
        loads.check_owner(self._connection, state, owner)

    def drop_load(self, state: MirrorState) -> bool:
        return loads.drop_load(self._connection, state)

    def insert_rows(self, state: MirrorState, schema: TableSchema, batches: Iterable[ChangeBatch]) -> int:
        return loads.insert_rows(self._connection, state, schema, batches)

    def apply_to_spare(self, state: MirrorState, schema: TableSchema, batches: Sequence[ChangeBatch]) -> None:
        loads.apply_to_spare(self._connection, state, schema, batches)

    def replace_table(self, state: MirrorState, schema: TableSchema, gone_us: int) -> MirrorState:
        return loads.replace_table(self._connection, state, schema, gone_us)

    def move_table(self, state: MirrorState, database: str, table: str) -> MirrorState:
        return tables.move_table(self._connection, state, database, table)

    def read_rows(self, state: MirrorState) -> Iterator[pa.Table]:
        return tables.read_rows(self._connection, state)

    def copy_rows(self, state: MirrorState, rows: pa.Table) -> None:
        loads.copy_rows(self._connection, state, rows)

    def count_rows(self, database: str, table: str, *, with_deleted: bool = True) -> int | None:
        return previews.count_rows(self._connection, database, table, with_deleted=with_deleted)

    def read_first_rows(self, database: str, table: str, limit: int) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        return previews.read_first_rows(self._connection, database, table, limit)

    def load_requests(self) -> Mapping[tuple[str, str], Sequence[FingerprintRequest]]:
        fingerprints.ensure_requests(self._connection)
        return fingerprints.load_requests(self._connection)

    def insert_request(self, state: MirrorState, request: FingerprintRequest) -> None:
        fingerprints.ensure_requests(self._connection)
        fingerprints.insert_request(self._connection, state, request)

    def write_fingerprint(self, state: MirrorState, request: FingerprintRequest) -> None:
        if repairs.is_repair(self._connection, request):
            repairs.apply_repair(self._connection, state, request)
        else:
            fingerprints.write_fingerprint(self._connection, state, request)

    def insert_repair(
        self,
        state: MirrorState,
        request: FingerprintRequest,
        record: RepairRecord,
        content: tuple[TableSchema, pa.Table, Iterable[ChangeBatch]],
    ) -> None:
        repairs.insert_repair(self._connection, state, request, record, content)

    def take_repair(self, request: FingerprintRequest) -> RepairRecord | None:
        return repairs.take_repair(self._connection, request)

    def load_repairs(self, key: ProgressKey) -> Sequence[RepairRecord]:
        return repairs.load_repairs(self._connection, key)

    def take_fingerprint(self, request: FingerprintRequest) -> Fingerprint | None:
        return fingerprints.take_fingerprint(self._connection, request)

    def delete_request(self, request: FingerprintRequest) -> None:
        repairs.delete_repair(self._connection, request)
