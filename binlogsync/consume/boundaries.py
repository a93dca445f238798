"""Cuts fetched changes at binlog positions. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from binlogsync.nats.messages import StreamBatch
from binlogsync.position import BinlogPosition, Checkpoint
from binlogsync.position_masks import changes_after
from binlogsync.position_order import PositionOrder, compare


def changes_up_to(items: Sequence[StreamBatch], at: Checkpoint) -> list[StreamBatch]:
    """The changes before the checkpoint; the same items if there are no later ones."""
    kept: list[StreamBatch] = []
    for item in items:
        later = len(changes_after(item.batch, at))
        if not later:
            kept.append(item)
            continue
        count = len(item) - later
        if count:
            kept.append(StreamBatch(item.batch.slice(0, count), item.sequences.slice(0, count), None))
        return kept
    return list(items)


def drop_first(items: Sequence[StreamBatch], done: int) -> list[StreamBatch]:
    """The items without their first `done` changes."""
    rest: list[StreamBatch] = []
    for item in items:
        if done >= len(item):
            done -= len(item)
            continue
        rest.append(replace(item, batch=item.batch.slice(done, len(item)), sequences=item.sequences.slice(done)))
        done = 0
    return rest


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
