"""Rows of a snapshot -> the changes with op "r" that the tail publishes (source columns: change_batch.py)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from binlogsync.change_batch import OP_TYPE, ChangeBatch, build_batch
from binlogsync.codec.snapshot_state import SnapshotState
from binlogsync.flush import SnapshotProgress
from binlogsync.position import SNAPSHOT, SNAPSHOT_STAGES, Checkpoint
from binlogsync.schema import TableSchema

NO_NUMBERS = (
    "a snapshot has numbers for 2,147,483,648 rows, and the tables before this one have used them; request this table "
    "again by itself, or in several snapshots with a condition each"
)
_FIRST, _TRUE, _LAST = SNAPSHOT_STAGES
LastKey = Callable[[ChangeBatch], tuple[str, ...]]
"""Returns the key of the last row of a batch, as SQL literals."""


@dataclass(frozen=True, slots=True)
class PublishedRows:
    """What the tail publishes as one flush.

    Attributes:
        batch: the rows; None for the end of a snapshot, or a part of it, without rows.
        progress: of the snapshot after them.
    """

    batch: ChangeBatch | None
    progress: SnapshotProgress


def publish(
    rows: ChangeBatch, before: SnapshotState, after: SnapshotState, last_key: LastKey, at: Checkpoint, ts_us: int
) -> PublishedRows:
    """The rows as changes at the transaction boundary `at`.

    Args:
        rows: as they were read.
        before, after: state of the snapshot.
        last_key: of the table.
        at: where the stream is.
        ts_us: when they were read, microseconds since 1970 UTC.
    """
    batch = _changes(rows, before.ordinal, pa.repeat(pa.scalar(f"{SNAPSHOT}{before.id}"), len(rows)), at, ts_us)

    def text_after(done: int) -> str:
        key = last_key(rows.slice(0, done))
        return replace(before, key=key, order=after.order, ordinal=before.ordinal + done).to_text()

    return PublishedRows(batch, SnapshotProgress(after.to_text(), text_after))


def publish_reset(
    table: tuple[TableSchema, int],
    before: SnapshotState,
    after: SnapshotState,
    at: Checkpoint,
    ts_us: int,
    *,
    is_end: bool,
) -> PublishedRows:
    """The change that empties a table (schema, server_id) before all its rows; `is_end` if it has none. The others are
    as for `publish`.
    """
    schema, server_id = table
    nothing = pa.nulls(1, schema.image_type())
    gtids = pa.array([f"{SNAPSHOT}{before.id}:{_LAST if is_end else _FIRST}"])
    source = _source(before.ordinal, gtids, at, ts_us)
    batch = build_batch(schema, ["t"], (nothing, nothing), source, (at.server_uuid, server_id))
    return PublishedRows(batch, SnapshotProgress(after.to_text()))


def publish_whole(
    rows: ChangeBatch, before: SnapshotState, at: Checkpoint, ts_us: int, *, is_end: bool
) -> PublishedRows:
    """Rows of a table after its reset; `is_end` if the last row is the last one of the table. See `publish`."""
    count, name = len(rows), f"{SNAPSHOT}{before.id}"
    gtids = pa.array([*[f"{name}:{_TRUE}"] * (count - 1), f"{name}:{_LAST if is_end else _TRUE}"])

    def text_after(done: int) -> str:
        return replace(before, ordinal=before.ordinal + done, is_reset=not (is_end and done == count)).to_text()

    return PublishedRows(
        _changes(rows, before.ordinal, gtids, at, ts_us), SnapshotProgress(text_after(count), text_after)
    )


def _changes(rows: ChangeBatch, first: int, gtids: pa.Array, at: Checkpoint, ts_us: int) -> ChangeBatch:
    ops = pa.repeat(pa.scalar("r"), len(rows)).dictionary_encode().cast(OP_TYPE)
    images = (rows.data.column("before"), rows.data.column("after"))
    server, source = (at.server_uuid, rows.server_id), _source(first, gtids, at, ts_us)
    return build_batch(rows.schema, ops, images, source, server, rows.impossible)


def _source(first: int, gtids: pa.Array, at: Checkpoint, ts_us: int) -> dict[str, pa.Array]:
    """The source columns of rows with these GTIDs, numbered from the ordinal `first`."""
    count, position = len(gtids), at.position
    numbers = pa.array(np.arange(first, first + count))
    return {
        "ts_us": pa.repeat(pa.scalar(ts_us, pa.int64()), count),
        "gtid": gtids,
        "file": pa.repeat(pa.scalar(position.file), count),
        "pos": pa.repeat(pa.scalar(position.pos, pa.uint64()), count),
        "row": numbers,
        "txn_pos": pa.repeat(pa.scalar(position.pos, pa.uint64()), count),
        "order": numbers,
        "seq": pa.array(np.arange(count)),
    }
