"""Rows of a chunk -> the changes with op "r" that the tail publishes (binlogsync.change: their source columns)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from binlogsync.change import OP_TYPE, SNAPSHOT, ChangeBatch, build_batch
from binlogsync.codec.snapshot_state import SnapshotState
from binlogsync.flush import SnapshotProgress
from binlogsync.position import Checkpoint

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
    count, first, position = len(rows), before.ordinal, at.position
    numbers = pa.array(np.arange(first, first + count))
    source = {
        "ts_us": pa.repeat(pa.scalar(ts_us, pa.int64()), count),
        "gtid": pa.repeat(pa.scalar(f"{SNAPSHOT}{before.id}"), count),
        "file": pa.repeat(pa.scalar(position.file), count),
        "pos": pa.repeat(pa.scalar(position.pos, pa.uint64()), count),
        "row": numbers,
        "txn_pos": pa.repeat(pa.scalar(position.pos, pa.uint64()), count),
        "order": numbers,
        "seq": pa.array(np.arange(count)),
    }
    ops = pa.repeat(pa.scalar("r"), count).dictionary_encode().cast(OP_TYPE)
    images = (rows.data.column("before"), rows.data.column("after"))
    batch = build_batch(rows.schema, ops, images, source, (at.server_uuid, rows.server_id), rows.impossible)

    def text_after(done: int) -> str:
        key = last_key(rows.slice(0, done))
        return replace(before, key=key, order=after.order, ordinal=first + done).to_text()

    return PublishedRows(batch, SnapshotProgress(after.to_text(), text_after))
