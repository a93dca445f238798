"""Cuts fetched changes at binlog positions. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow.compute as pc

from binlogsync.change_batch import ChangeBatch
from binlogsync.nats.messages import StreamBatch
from binlogsync.position import BinlogPosition, Checkpoint
from binlogsync.position_masks import beyond_mask
from binlogsync.position_order import PositionOrder, compare

_MOST_BYTES = 64 << 20
"""Upper limit for the changes of one transaction, besides their number."""


def changes_up_to(
    items: Sequence[StreamBatch], at: Checkpoint, *, before_sequence: int | None = None
) -> list[StreamBatch]:
    """The changes up to the checkpoint; the same items if there are no later ones.

    Rows that a snapshot has published at the checkpoint are included, and those that it published on another server:
    they are in the stream before the next change. With `before_sequence`, the stream sequence of a change at the
    checkpoint, it decides for all changes of other servers, whose positions cannot be compared without GTIDs.
    """
    kept: list[StreamBatch] = []
    for item in items:
        if before_sequence is not None and item.batch.server_uuid != at.server_uuid:
            count = int((item.sequences < before_sequence).sum())
        else:
            count = _count_up_to(item.batch, at)
        if count == len(item):
            kept.append(item)
            continue
        if count:
            kept.append(item.slice(0, count))
        return kept
    return list(items)


def _count_up_to(batch: ChangeBatch, at: Checkpoint) -> int:
    """Number of changes before the first that is beyond the checkpoint."""
    beyond = beyond_mask(batch, at)
    if batch.server_uuid != at.server_uuid and (published := batch.published_rows()) is not None:
        beyond = pc.and_(beyond, pc.invert(published))
    first: int = pc.index(beyond, True).as_py()
    return len(batch) if first < 0 else first


def is_full(items: Sequence[StreamBatch], limit: int) -> bool:
    """True when there are `limit` changes or _MOST_BYTES."""
    return count_changes(items) >= limit or sum(item.batch.nbytes for item in items) >= _MOST_BYTES


def take_first(items: Sequence[StreamBatch], count: int) -> list[StreamBatch]:
    """The first `count` changes."""
    taken: list[StreamBatch] = []
    for item in items:
        if count <= 0:
            break
        taken.append(item if len(item) <= count else item.slice(0, count))
        count -= len(item)
    return taken


def drop_first(items: Sequence[StreamBatch], done: int) -> list[StreamBatch]:
    """The items without their first `done` changes."""
    for number, item in enumerate(items):
        if done < len(item):
            return [item.slice(done, len(item)) if done else item, *items[number + 1 :]]
        done -= len(item)
    return []


def drop_applied(
    items: Sequence[StreamBatch], count_applied: Callable[[ChangeBatch], int]
) -> tuple[list[StreamBatch], int]:
    """The items without the changes that are applied, and how many are; these come first.

    `count_applied` returns how many changes at the start of a batch are applied.
    """
    dropped = 0
    for number, item in enumerate(items):
        count = count_applied(item.batch)
        dropped += count
        if count < len(item):
            return drop_first(items[number:], count), dropped
    return [], dropped


def count_changes(items: Sequence[StreamBatch]) -> int:
    """Number of changes."""
    return sum(len(item) for item in items)


def last_transaction(items: Sequence[StreamBatch]) -> Checkpoint:
    """The start of the last transaction of the items, which may be incomplete."""
    last = items[-1].batch
    file, pos = (last.data.column(name)[-1].as_py() for name in ("file", "txn_pos"))
    return Checkpoint(BinlogPosition(file, pos), last.server_uuid)


def earlier(one: Checkpoint, other: Checkpoint) -> Checkpoint:
    """The earlier checkpoint; `other` if the servers differ, because it was read before the end of the stream."""
    if one.server_uuid != other.server_uuid:
        return other
    return other if compare(other.position, one.position) is PositionOrder.BEFORE else one
