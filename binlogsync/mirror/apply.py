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
from binlogsync.mirror.ddl import MustReadError, adopt, apply_statement
from binlogsync.mirror.fitting import ADVICE, fitted, lacking
from binlogsync.mirror.history import Moment, begin_all, end_all, record
from binlogsync.mirror.parts import Letters, Part, check_batch, insert_rows, lacks_columns, ops_of
from binlogsync.mirror.rows import apply_keyed, apply_keyless
from binlogsync.mirror.state import (
    MirrorOptions,
    MirrorState,
    ensure_meta,
    load_state,
    remove_rows,
    store_state,
    with_deleted_at,
)
from binlogsync.schema import TableSchema

__all__ = ["Halt", "apply", "insert_rows"]

PLAIN = MirrorOptions()
_TRUNCATE = ord("t")


@dataclass(frozen=True, slots=True)
class Halt:
    """Why a mirror cannot go on by itself.

    Attributes:
        done: batches that were applied.
        state: of the mirror that the next one is for.
        reason: why it has to be read from the server.
        is_must: False where it can also begin empty, or go on with what it has.
        may_repeat: True where any change that follows may have the same reason.
    """

    done: int
    state: MirrorState
    reason: str
    is_must: bool
    may_repeat: bool = False


def apply(
    connection: duckdb.DuckDBPyConnection,
    batches: Sequence[ChangeBatch],
    options: MirrorOptions = PLAIN,
    *,
    can_read: bool = False,
) -> Halt | None:
    """Apply the batches, in order, inside the open transaction; makes, alters and drops tables as schema changes say.

    Returns None when all are applied, else where a mirror has to be read from the server first; with `can_read` also
    where it could begin without. Raises ConsumeError for partial row images.
    """
    ensure_meta(connection)
    work = _Work(connection, options, can_read)
    for number, batch in enumerate(batches):
        try:
            work.take(batch)
        except MustReadError as need:
            work.flush()
            state = work.state(batch.schema.database, batch.schema.table)
            return Halt(number, state, need.reason, need.is_must, need.may_repeat)
    work.flush()
    return None


class _Work:
    """One call of `apply`: batches of one table under one schema are gathered, and applied together."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, options: MirrorOptions, can_read: bool) -> None:
        self._connection = connection
        self._options = options
        self._can_read = can_read
        self._states: dict[tuple[str, str], MirrorState] = {}
        self._schema: TableSchema | None = None
        self._parts: list[Part] = []

    def state(self, database: str, table: str) -> MirrorState:
        """Of a mirror."""
        key = (database, table)
        if key not in self._states:
            state = load_state(self._connection, database, table)
            self._states[key] = with_deleted_at(self._connection, state, self._options.deleted_at)
        return self._states[key]

    def take(self, batch: ChangeBatch) -> None:
        """The next batch; raises MustReadError, with what came before still gathered or applied."""
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
                end_all(self._connection, state, moment)
                state = begin_all(self._connection, state, moment)
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
            self._keep(record(self._connection, state, parts))

    def _keep(self, state: MirrorState) -> None:
        self._states[state.database, state.table] = state

    def _take_rows(self, batch: ChangeBatch) -> None:
        state = self.state(batch.schema.database, batch.schema.table)
        batch = fitted(batch, state.left_out)
        missing = lacking(batch) if state.left_out is None and batch.server_uuid.startswith("mariadb:") else []
        if missing:
            raise MustReadError(f"an update or delete lacks {', '.join(missing)}: {ADVICE}, where they are generated")
        if self._can_read and (problem := lacks_columns(batch)):
            raise MustReadError(problem, may_repeat=True)
        if batch.schema != self._schema:
            self.flush()
        ops = ops_of(batch)
        truncated = np.flatnonzero(ops == _TRUNCATE)
        if len(truncated):
            at = int(truncated[-1 if self._options == PLAIN else 0])
            if (
                ops[:at] != _TRUNCATE
            ).any():  # else its schema may be that of before an ALTER: TRUNCATE is logged without
                self._gather(batch.slice(0, at), ops[:at])
            if self._options == PLAIN:
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
                self._keep(adopt(self._connection, state, batch.schema, can_read=self._can_read))
            self._schema = batch.schema
        check_batch(batch)
        self._parts.append(Part(batch, ops))

    def _truncate(self, batch: ChangeBatch, at: int) -> None:
        """All rows go with the change at that index."""
        state = self.state(batch.schema.database, batch.schema.table)
        if state.schema is None:
            return
        moment = moment_of(batch, at)
        remove_rows(self._connection, state, moment.ts_us)
        if self._options.history:
            end_all(self._connection, state, moment)


def moment_of(batch: ChangeBatch, index: int) -> Moment:
    """When and where a change was made."""
    ts, file, pos, row = (batch.data.column(name)[index] for name in ("ts_us", "file", "pos", "row"))
    return Moment(ts.value, file.as_py(), pos.as_py(), row.as_py())
