"""Applies ChangeBatches to a table of a target, which stays equal to the table of the source.

Consecutive batches of one table with one schema are applied together; a schema change between them is applied in order
(ddl.py). A row that a snapshot has published into the stream replaces the row with its key; one that equals the
mirror's changes nothing, also in a history, and in a table without a primary key. Needs full row images. Zero and
invalid dates are NULL, except in a primary key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pyarrow.compute as pc

from binlogsync.change_batch import ChangeBatch
from binlogsync.errors import MirrorKeyError
from binlogsync.mirror.configuration import configure, has_other_key, load_configured
from binlogsync.mirror.contract import FrozenColumnsError, freeze_columns
from binlogsync.mirror.ddl import RebuildRequiredError, adopt_schema, apply_statement
from binlogsync.mirror.image_columns import ADVICE, find_missing_columns, fit_images
from binlogsync.position import Checkpoint
from binlogsync.position_masks import changes_after
from binlogsync.schema import TableSchema
from binlogsync.server_version import ServerFlavor, flavor_of
from binlogsync.targets import TableTransaction
from binlogsync.targets.batch_checks import check_batch, decode_ops, describe_missing_columns
from binlogsync.targets.mirror_options import DEFAULT_OPTIONS as DEFAULT_OPTIONS
from binlogsync.targets.mirror_options import MirrorOptions, with_key
from binlogsync.targets.mirror_state import ChangePosition, MirrorState

_TRUNCATE = ord("t")


@dataclass(frozen=True, slots=True)
class RebuildReason:
    """Why a mirror must be rebuilt from the server before the next batch is applied.

    Attributes:
        done: number of batches that were applied.
        state: of the mirror that must be rebuilt.
        reason: the reason, for log and error messages.
        is_required: False if the mirror can also start empty, or continue with its rows.
        may_repeat: True if any later change may need a rebuild for the same reason.
    """

    done: int
    state: MirrorState
    reason: str
    is_required: bool
    may_repeat: bool = False


def apply(
    transaction: TableTransaction,
    batches: Sequence[ChangeBatch],
    options: MirrorOptions = DEFAULT_OPTIONS,
    *,
    can_read: bool = False,
    loaded: MirrorState | None = None,
) -> RebuildReason | None:
    """Apply the batches in order in the open transaction; create, alter and drop tables for schema changes.

    `loaded` is the state of the mirror, if it was loaded in this transaction and is still the stored one.

    Returns None when all are applied, otherwise why a mirror must be rebuilt first; with `can_read` also if the rebuild
    is not required. Raises ConsumeError for incomplete row images, and RefusedChangeError, with the number of batches
    that can be applied in another transaction.
    """
    applier = _BatchApplier(transaction, options, can_read)
    if loaded is not None:
        applier.use_loaded(loaded)
    try:
        return _apply(applier, batches)
    except MirrorKeyError as error:
        error.done = applier.first
        raise
    except FrozenColumnsError as error:
        error.done = applier.number
        raise


def _apply(applier: _BatchApplier, batches: Sequence[ChangeBatch]) -> RebuildReason | None:
    for number, batch in enumerate(batches):
        applier.number = number
        try:
            applier.take(batch)
        except RebuildRequiredError as error:
            applier.flush()
            state = applier.state(batch.schema.database, batch.schema.table)
            return RebuildReason(number, state, error.reason, error.is_required, error.may_repeat)
    applier.flush()
    return None


class _BatchApplier:
    """One call of `apply`: collects batches of one table with one schema, and applies them together.

    Attributes:
        number: of the batch that is taken next.
        first: the number of the first of the batches that are, or were last, applied together.
    """

    def __init__(self, transaction: TableTransaction, options: MirrorOptions, can_read: bool) -> None:
        self.number = self.first = 0
        self._transaction = transaction
        self._options = options
        self._can_read = can_read
        self._states: dict[tuple[str, str], MirrorState] = {}
        self._schema: TableSchema | None = None
        self._parts: list[ChangeBatch] = []
        self._has_published = False  # whether all of them are rows of a snapshot, applied by `apply_published`

    def use_loaded(self, state: MirrorState) -> None:
        """Use this state of a mirror, which is the stored one, instead of loading it."""
        self._set_state(configure(self._transaction, state, self._options))

    def state(self, database: str, table: str) -> MirrorState:
        """The state of a mirror."""
        key = (database, table)
        if key not in self._states:
            self._states[key] = load_configured(self._transaction, key, self._options)
        return self._states[key]

    def take(self, batch: ChangeBatch) -> None:
        """Take the next batch; raises RebuildRequiredError before any of it is applied."""
        state = self.state(batch.schema.database, batch.schema.table)
        if has_other_key(state, self._options):
            raise RebuildRequiredError("the `key` of its options changed")
        if state.read_at is not None:
            batch = _after_load(batch, state.read_at)
            if not len(batch):
                return
            self._set_state(self._transaction.store_mirror(replace(state, read_at=None)))
        if batch.ddl is not None:
            self.flush()
            state = self.state(batch.schema.database, batch.schema.table)
            state = apply_statement(self._transaction, state, batch, can_read=self._can_read)
            if state.is_rewritten and self._options.history:
                position = change_position(batch, 0)
                self._transaction.close_versions(state, position)
                state = self._transaction.open_versions(state, position)
            state = freeze_columns(self._transaction, state, self._options)
            self._set_state(replace(state, is_rewritten=False))
        else:
            self._take_rows(batch)

    def flush(self) -> None:
        """Apply the collected batches."""
        schema, parts, self._schema, self._parts = self._schema, self._parts, None, []
        if schema is None or not any(map(len, parts)):
            return
        state = self.state(schema.database, schema.table)
        has_history = self._options.history
        if self._has_published:
            at = change_position(parts[0], 0)
            self._set_state(self._transaction.apply_published(state, parts, at, has_history=has_history))
            return
        self._transaction.apply_rows(state, parts)
        if has_history:
            self._set_state(self._transaction.record_versions(state, parts))

    def _set_state(self, state: MirrorState) -> None:
        self._states[state.database, state.table] = state

    def _take_rows(self, batch: ChangeBatch) -> None:
        state = self.state(batch.schema.database, batch.schema.table)
        if (until := state.policies.repeated) is not None:
            repeated = len(batch) - len(changes_after(batch, until))
            if not repeated:
                self.flush()
                policies = replace(state.policies, repeats_until=None)
                self._set_state(self._transaction.store_mirror(replace(state, policies=policies)))
            elif repeated < len(batch):
                self._take_rows(batch.slice(0, repeated))
                self._take_rows(batch.slice(repeated, len(batch)))
                return
        batch = fit_images(batch, state.left_out)
        is_mariadb = flavor_of(batch.server_uuid) == ServerFlavor.MARIADB
        missing = find_missing_columns(batch) if state.left_out is None and is_mariadb else []
        if missing:
            raise RebuildRequiredError(f"an update or delete has no value of {', '.join(missing)}: {ADVICE}")
        if self._can_read and (problem := describe_missing_columns(batch)):
            raise RebuildRequiredError(problem, may_repeat=True)
        ops = decode_ops(batch)
        truncated = np.flatnonzero(ops == _TRUNCATE)
        if state.policies.key and len(truncated) < len(batch):
            batch = batch.with_schema(with_key(batch.schema, state.policies.key))
        if batch.schema != self._schema:
            self.flush()
        if len(truncated):
            at = int(truncated[-1 if self._options.keeps_only_rows else 0])
            # A TRUNCATE is logged without a schema, so a batch of only TRUNCATEs may have the schema before an ALTER.
            if (ops[:at] != _TRUNCATE).any():
                self._collect(batch.slice(0, at))
            if self._options.keeps_only_rows:
                self._parts = []  # the TRUNCATE deletes these rows
            self.flush()
            self._truncate(batch, at)
            if at + 1 < len(batch):
                self._take_rows(batch.slice(at + 1, len(batch)))
        else:
            self._collect(batch)

    def _collect(self, batch: ChangeBatch) -> None:
        is_upsert = bool(batch.schema.primary_key) and not self._options.history
        # The other rows of a snapshot follow a reset of the table: they are inserted, also those that are equal.
        published = None if is_upsert else batch.merged_rows()
        if published is None:
            self._collect_part(batch, has_published=False)
            return
        mask = published.to_numpy(zero_copy_only=False)
        bounds = [0, *(np.flatnonzero(mask[1:] != mask[:-1]) + 1).tolist(), len(batch)]
        for start, stop in pairwise(bounds):
            self._collect_part(batch.slice(start, stop), has_published=bool(mask[start]))

    def _collect_part(self, batch: ChangeBatch, *, has_published: bool) -> None:
        if has_published != self._has_published:
            self.flush()
            self._has_published = has_published
        if batch.schema != self._schema:
            state = self.state(batch.schema.database, batch.schema.table)
            if state.schema != batch.schema:
                state = adopt_schema(self._transaction, state, batch, can_read=self._can_read)
                self._set_state(freeze_columns(self._transaction, state, self._options))
            self._schema = batch.schema
        check_batch(batch)
        if not self._parts:
            self.first = self.number
        self._parts.append(batch)

    def _truncate(self, batch: ChangeBatch, at: int) -> None:
        """Delete all rows for the TRUNCATE at that index."""
        state = self.state(batch.schema.database, batch.schema.table)
        if state.schema is None:
            return
        position = change_position(batch, at)
        self._transaction.delete_rows(state, position.ts_us)
        if self._options.history:
            self._transaction.close_versions(state, position)


def _after_load(batch: ChangeBatch, read_at: Checkpoint) -> ChangeBatch:
    """The changes that the rows loaded at the checkpoint do not have. These have all rows of a snapshot of another
    server, which the tail no longer reads.
    """
    published = None if batch.server_uuid == read_at.server_uuid else batch.published_rows()
    return changes_after(batch if published is None else batch.select(pc.invert(published)), read_at)


def change_position(batch: ChangeBatch, index: int) -> ChangePosition:
    """Commit time and binlog coordinates of a change."""
    ts, file, pos, row = (batch.data.column(name)[index] for name in ("ts_us", "file", "pos", "row"))
    return ChangePosition(ts.value, file.as_py(), pos.as_py(), row.as_py())
