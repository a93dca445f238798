"""Finds where a consumer resumes in a stream that may have been recreated.

A recreated stream numbers its messages again. It is noticed by its creation time, which is stored with progress, and
also by the message at the stored sequence, which must contain the change applied last: a stream that was restored from
a backup keeps its creation time. In a recreated stream, delivery restarts at the first message, and applied changes are
filtered out: by coordinates on one server, by GTID across servers. Changes that the stream may no longer have, between
the change applied last and its first message, are reported as a gap.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from binlogsync.change_batch import ChangeBatch
from binlogsync.codec.tail_messages import MOST_WITHOUT_CHECKPOINT
from binlogsync.consume.boundaries import drop_applied
from binlogsync.consume.gaps import ConsumerGap, new_gap
from binlogsync.consume.progress import ConsumerProgress, ProgressKey, Tracker, progress_at
from binlogsync.errors import ConsumeError
from binlogsync.nats.reader import StreamBatch, StreamReader
from binlogsync.position import BinlogPosition, Checkpoint, EventPosition
from binlogsync.position_masks import count_not_after
from binlogsync.position_order import PositionOrder, compare

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DeliveryStart:
    """Where delivery starts.

    Attributes:
        sequence: stream sequence of the first message to deliver.
        drops_done: True when the first changes may have been applied before and have to be filtered.
        found: True once the change applied last was found among them.
        gap: changes that the stream may have dropped before they were read; None if there are none.
        is_unproven: True when the stream is empty, so that a gap cannot be ruled out yet.
        is_recreated: True when the stream was recreated, so that it does not have the change applied last at its
            sequence.
    """

    sequence: int
    drops_done: bool = False
    found: bool = False
    gap: ConsumerGap | None = None
    is_unproven: bool = False
    is_recreated: bool = False


def find_start(
    reader: StreamReader,
    key: ProgressKey,
    progress: ConsumerProgress,
    stream: str | None,
    *,
    is_mirror: bool = False,
) -> DeliveryStart:
    """Find where to resume in the stream that was created at `stream`. Logs a warning when it was recreated."""
    first = reader.first_sequence()
    is_other = None not in (stream, progress.stream) and stream != progress.stream
    if progress.is_new:
        return _begin(reader, progress, first, stream, is_other=is_other, is_mirror=is_mirror)
    index = None if is_other else _find(reader, key, progress)
    if index is not None:
        is_last = index[0] + 1 == index[1]
        return DeliveryStart(progress.sequence + 1) if is_last else DeliveryStart(progress.sequence, drops_done=True)
    if not is_other and progress.sequence < first and reader.last_sequence() >= progress.seen:
        gap = _dropped(reader, progress, first, is_mirror=is_mirror)
        return DeliveryStart(first, drops_done=True, gap=gap)
    log.warning(
        "%s: the stream was recreated at %s: its message %d is not the change applied last (%s); restarting from the "
        "first message %d, applied changes are filtered by position",
        key, stream, progress.sequence, progress, first,
    )  # fmt: skip
    if reader.last_sequence() < first:
        return DeliveryStart(first, drops_done=True, is_unproven=True, is_recreated=True)
    if _reaches_back(reader, key, progress, first):
        return DeliveryStart(first, drops_done=True, is_recreated=True)
    gap = _recreated(reader, stream, f"the change applied last ({progress})", is_mirror)
    return DeliveryStart(first, drops_done=True, is_recreated=True, gap=gap)


def _begin(
    reader: StreamReader,
    progress: ConsumerProgress,
    first: int,
    stream: str | None,
    *,
    is_other: bool,
    is_mirror: bool,
) -> DeliveryStart:
    """Where a consumer without applied changes starts: after `seen`, unless the stream was recreated since."""
    if not progress.seen:
        return DeliveryStart(first)
    if is_other or reader.last_sequence() < progress.seen:
        log.warning(
            "stream %s was recreated at %s, and had %d messages before; starting at its beginning",
            reader.stream, stream, progress.seen,
        )  # fmt: skip
        gap = _recreated(reader, stream, f"message {progress.seen} of the former one, after which it starts", is_mirror)
        return DeliveryStart(first, is_recreated=True, gap=gap)
    return DeliveryStart(max(progress.seen + 1, first), gap=_dropped(reader, progress, first, is_mirror=is_mirror))


def _dropped(reader: StreamReader, progress: ConsumerProgress, first: int, *, is_mirror: bool) -> ConsumerGap | None:
    """The gap of messages that the stream dropped before they were read; None if there are none."""
    if first <= progress.seen + 1:
        return None
    return new_gap(
        "retention",
        f"stream {reader.stream} dropped sequences {progress.seen + 1} to {first - 1} (its retention, or a purge) "
        "before this consumer had read them",
        is_mirror=is_mirror,
    )


def _recreated(reader: StreamReader, stream: str | None, after: str, is_mirror: bool) -> ConsumerGap:
    return new_gap(
        "recreated",
        f"stream {reader.stream} was recreated at {stream}, and its first message may be after {after}",
        is_mirror=is_mirror,
    )


def _reaches_back(reader: StreamReader, key: ProgressKey, progress: ConsumerProgress, first: int) -> bool:
    """True when a recreated stream provably has all changes of the table after the one applied last.

    That is so if its first change of the table, or its first checkpoint, is not after the change applied last.
    """
    found = reader.changes_from(key.database, key.table, first)
    if found:
        here = progress_at(found[0].batch, 0, 0, 0)
        if compare(here.at, progress.at).is_at_or_before:
            return True
        if here.server_uuid != progress.server_uuid and here.gtid is not None and here.gtid == progress.gtid:
            return True
    checkpoint = find_first_checkpoint(reader, first)
    return checkpoint is not None and compare(checkpoint, progress.at).is_at_or_before


def find_first_checkpoint(reader: StreamReader, first: int) -> Checkpoint | None:
    """The first checkpoint of a stream whose first sequence is `first`; None if it has none."""
    sequences = range(first, min(first + MOST_WITHOUT_CHECKPOINT, reader.last_sequence() + 1))
    return next((found for found in map(reader.checkpoint_at, sequences) if found is not None), None)


def holds_progress(reader: StreamReader, key: ProgressKey, progress: ConsumerProgress) -> bool:
    """True when the message at the stored sequence contains the change applied last."""
    return _find(reader, key, progress) is not None


def _find(reader: StreamReader, key: ProgressKey, progress: ConsumerProgress) -> tuple[int, int] | None:
    """(index of the change applied last in the message at its sequence, changes of the message); None if not found."""
    batch = reader.change_at(progress.sequence)
    if batch is None or (batch.schema.database, batch.schema.table) != (key.database, key.table):
        return None
    for index in range(len(batch) - 1, -1, -1):
        change = progress_at(batch, index, 0, 0)
        if change.server_uuid != progress.server_uuid:
            return None
        order = compare(change.at, progress.at)
        if order is PositionOrder.SAME:
            return index, len(batch)
        if order is PositionOrder.BEFORE:
            return None
    return None


def drop_processed(
    work: Sequence[StreamBatch], seek: DeliveryStart, tracker: Tracker
) -> tuple[list[StreamBatch], DeliveryStart, int]:
    """Filter out applied changes: (remaining batches, the start from here on, number of changes filtered out)."""
    found = seek.found

    def count_applied(batch: ChangeBatch) -> int:
        nonlocal found
        done, is_found = _done(batch, tracker.progress, found)
        found = found or is_found
        return done

    rest, dropped = drop_applied(work, count_applied)
    if rest:
        log.info("%s: %d applied changes filtered out; resuming", tracker.key, dropped)
    return rest, replace(seek, found=found, drops_done=not rest), dropped


def _done(batch: ChangeBatch, progress: ConsumerProgress, found: bool) -> tuple[int, bool]:
    """(number of applied changes at the start of the batch, whether the one applied last is among them)."""
    if batch.server_uuid == progress.server_uuid:
        return count_applied(batch, progress)
    if found:
        return 0, True
    return _done_by_gtid(batch, progress)


def count_applied(batch: ChangeBatch, progress: ConsumerProgress) -> tuple[int, bool]:
    """The same for changes of the server of the progress."""
    done = count_not_after(batch, progress.at)
    return done, done > 0 and compare(progress_at(batch, done - 1, 0, 0).at, progress.at) is PositionOrder.SAME


def _done_by_gtid(batch: ChangeBatch, progress: ConsumerProgress) -> tuple[int, bool]:
    """The same for changes of another server.

    If the batch contains the change applied last, its index decides: a replica logs changes in the order of its source.
    Otherwise the GTID numbers decide, which increase for one origin.
    """
    columns = (batch.data.column(name).to_pylist() for name in ("file", "pos", "gtid", "row", "order"))
    changes = [
        EventPosition(BinlogPosition(file, pos), batch.server_uuid, gtid, row, order)
        for file, pos, gtid, row, order in zip(*columns, strict=True)
    ]
    ids = [(change.gtid, change.order) for change in changes]
    if progress.gtid is not None and (progress.gtid, progress.order) in ids:
        return ids.index((progress.gtid, progress.order)) + 1, True
    done = 0
    for change in changes:
        order = compare(change, progress.at)
        if order is PositionOrder.UNKNOWN:
            raise ConsumeError(
                f"{batch.schema.name}: progress {progress} belongs to server {progress.server_uuid}, but the stream "
                f"was recreated from server {batch.server_uuid}, and no GTID identifies the applied changes; consume "
                "this table again under another client id"
            )
        if order is PositionOrder.AFTER:
            break
        done += 1
    return done, False
