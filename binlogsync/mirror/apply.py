"""ChangeBatches into a DuckDB table that stays equal to MySQL's.

The mirror of `shop.orders` is the table `orders` in the schema `shop` (see mirror/schema.py for the types). Batches of
one table under one schema are gathered and applied at once (mirror/rows.py); a schema change between them is applied in
its place (mirror/ddl.py). Needs full row images. Zero and impossible dates are
NULL, but in a primary key (mirror/key_dates.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import duckdb
import numpy as np

from binlogsync.change import ChangeBatch
from binlogsync.flush import changes_after
from binlogsync.mirror.ddl import RebuildRequiredError, adopt_schema, apply_statement
from binlogsync.mirror.history import ChangePosition, close_versions, open_versions, record_versions
from binlogsync.mirror.image_columns import ADVICE, find_missing_columns, fit_images
from binlogsync.mirror.row_images import (
    Letters,
    RowImages,
    check_batch,
    decode_ops,
    describe_missing_columns,
    insert_rows,
)
from binlogsync.mirror.rows import apply_keyed, apply_keyless
from binlogsync.mirror.state import (
    MirrorOptions,
    MirrorState,
    delete_rows,
    ensure_deleted_at,
    ensure_meta,
    load_state,
    store_state,
)
from binlogsync.schema import TableSchema

__all__ = ["RebuildReason", "apply", "insert_rows"]

DEFAULT_OPTIONS = MirrorOptions()
_TRUNCATE = ord("t")


@dataclass(frozen=True, slots=True)
class RebuildReason:
    """Why a mirror cannot go on by itself.

    Attributes:
        done: batches that were applied.
        state: of the mirror that the next one is for.
        reason: why it has to be read from the server.
        is_required: False where it can also begin empty, or go on with what it has.
        may_repeat: True where any change that follows may have the same reason.
    """

    done: int
    state: MirrorState
    reason: str
    is_required: bool
    may_repeat: bool = False


def apply(
    connection: duckdb.DuckDBPyConnection,
    batches: Sequence[ChangeBatch],
    options: MirrorOptions = DEFAULT_OPTIONS,
    *,
    can_read: bool = False,
) -> RebuildReason | None:
    """Apply the batches, in order, inside the open transaction; makes, alters and drops tables as schema changes say.

    Returns None when all are applied, else where a mirror has to be read from the server first; with `can_read` also
    where it could begin without. Raises ConsumeError for partial row images.
    """
    ensure_meta(connection)
    work = _BatchApplier(connection, options, can_read)
    for number, batch in enumerate(batches):
        try:
            work.take(batch)
        except RebuildRequiredError as need:
            work.flush()
            state = work.state(batch.schema.database, batch.schema.table)
            return RebuildReason(number, state, need.reason, need.is_required, need.may_repeat)
    work.flush()
    return None


class _BatchApplier:
    """One call of `apply`: batches of one table under one schema are gathered, and applied together."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, options: MirrorOptions, can_read: bool) -> None:
        self._connection = connection
        self._options = options
        self._can_read = can_read
        self._states: dict[tuple[str, str], MirrorState] = {}
        self._schema: TableSchema | None = None
        self._parts: list[RowImages] = []

    def state(self, database: str, table: str) -> MirrorState:
        """Of a mirror."""
        key = (database, table)
        if key not in self._states:
            state = load_state(self._connection, database, table)
            self._states[key] = ensure_deleted_at(self._connection, state, self._options.deleted_at)
        return self._states[key]

    def take(self, batch: ChangeBatch) -> None:
        """The next batch; raises RebuildRequiredError, with what came before still gathered or applied."""
        state = self.state(batch.schema.database, batch.schema.table)
        if state.read_at is not None:
            batch = changes_after(batch, state.read_at)
            if not len(batch):
                return
            self._keep(store_state(self._connection, replace(state, read_at=None)))
        if batch.ddl is not None:
            self.flush()
            state = self.state(batch.schema.database, batch.schema.table)
            state = apply_statement(self._connection, state, batch, can_read=self._can_read)
            if state.is_rewritten and self._options.history:
                moment = moment_of(batch, 0)
                close_versions(self._connection, state, moment)
                state = open_versions(self._connection, state, moment)
            self._keep(replace(state, is_rewritten=False))
        else:
            self._take_rows(batch)

    def flush(self) -> None:
        """Apply what is gathered."""
        schema, parts, self._schema, self._parts = self._schema, self._parts, None, []
        if schema is None or not any(len(part.ops) for part in parts):
            return
        way = apply_keyed if schema.primary_key else apply_keyless
        state = self.state(schema.database, schema.table)
        way(self._connection, state, schema, parts)
        if self._options.history:
            self._keep(record_versions(self._connection, state, parts))

    def _keep(self, state: MirrorState) -> None:
        self._states[state.database, state.table] = state

    def _take_rows(self, batch: ChangeBatch) -> None:
        state = self.state(batch.schema.database, batch.schema.table)
        batch = fit_images(batch, state.left_out)
        missing = (
            find_missing_columns(batch) if state.left_out is None and batch.server_uuid.startswith("mariadb:") else []
        )
        if missing:
            raise RebuildRequiredError(
                f"an update or delete lacks {', '.join(missing)}: {ADVICE}, where they are generated"
            )
        if self._can_read and (problem := describe_missing_columns(batch)):
            raise RebuildRequiredError(problem, may_repeat=True)
        if batch.schema != self._schema:
            self.flush()
        ops = decode_ops(batch)
        truncated = np.flatnonzero(ops == _TRUNCATE)
        if len(truncated):
            at = int(truncated[-1 if self._options == DEFAULT_OPTIONS else 0])
            if (
                ops[:at] != _TRUNCATE
            ).any():  # else its schema may be that of before an ALTER: TRUNCATE is logged without
                self._gather(batch.slice(0, at), ops[:at])
            if self._options == DEFAULT_OPTIONS:
                self._parts = []  # nothing is left of it
            self.flush()
            self._truncate(batch, at)
            if at + 1 < len(batch):
                self._take_rows(batch.slice(at + 1, len(batch)))
        else:
            self._gather(batch, ops)

    def _gather(self, batch: ChangeBatch, ops: Letters) -> None:
        if batch.schema != self._schema:
            state = self.state(batch.schema.database, batch.schema.table)
            if state.schema != batch.schema:
                self._keep(adopt_schema(self._connection, state, batch.schema, can_read=self._can_read))
            self._schema = batch.schema
        check_batch(batch)
        self._parts.append(RowImages(batch, ops))

    def _truncate(self, batch: ChangeBatch, at: int) -> None:
        """All rows go with the change at that index."""
        state = self.state(batch.schema.database, batch.schema.table)
        if state.schema is None:
            return
        moment = moment_of(batch, at)
        delete_rows(self._connection, state, moment.ts_us)
        if self._options.history:
            close_versions(self._connection, state, moment)


def moment_of(batch: ChangeBatch, index: int) -> ChangePosition:
    """When and where a change was made."""
    ts, file, pos, row = (batch.data.column(name)[index] for name in ("ts_us", "file", "pos", "row"))
    return ChangePosition(ts.value, file.as_py(), pos.as_py(), row.as_py())
