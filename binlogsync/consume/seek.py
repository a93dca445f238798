"""Where a consumer goes on in a stream, when sequences may have been given out anew.

A sequence alone proves nothing: a stream that is lost and filled again counts from where it likes. So the message that
progress speaks of is read, and believed only when it holds the very change. Otherwise everything is delivered from the
first message on, and dropped up to the change that was done last, by its coordinates on one server and by GTID across
servers. What the stream may no longer hold between that change and its first message is reported as a gap.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from binlogsync.change import ChangeBatch
from binlogsync.consume.gaps import ConsumerGap, new_gap
from binlogsync.consume.progress import ConsumerProgress, ProgressKey, Tracker, progress_at
from binlogsync.errors import ConsumeError
from binlogsync.position import BinlogPosition, Checkpoint
from binlogsync.stream.reader import StreamBatch, StreamReader

log = logging.getLogger(__name__)
_LOOKED_AT = 1000
"""Messages among which the first checkpoint of a stream is: an atomic batch has at most as many."""


@dataclass(frozen=True, slots=True)
class DeliveryStart:
    """Where delivery begins.

    Attributes:
        sequence: stream sequence of the first message wanted.
        drops_done: whether what comes first may be done already.
        found: whether the change done last has come by.
        gap: what the stream may have dropped unseen; None without.
        is_unproven: True when the stream is empty, so that it cannot be told yet whether there is a gap.
    """

    sequence: int
    drops_done: bool = False
    found: bool = False
    gap: ConsumerGap | None = None
    is_unproven: bool = False


def find_start(
    reader: StreamReader, key: ProgressKey, progress: ConsumerProgress, *, is_mirror: bool = False
) -> DeliveryStart:
    """Where to resume; a stream that was recreated, or has dropped what was not seen, is logged."""
    first = reader.first_sequence()
    if progress.is_new:
        return _begin(reader, progress, first, is_mirror=is_mirror)
    index = _find(reader, key, progress)
    if index is not None:
        is_last = index[0] + 1 == index[1]
        return DeliveryStart(progress.sequence + 1) if is_last else DeliveryStart(progress.sequence, drops_done=True)
    if progress.sequence < first and reader.last_sequence() >= progress.seen:
        gap = _dropped(reader, progress, first, is_mirror=is_mirror)
        return DeliveryStart(first, drops_done=gap is not None, gap=gap)
    log.warning(
        "%s: stream sequence %d does not hold the change done last (%s): the stream was lost and filled anew; reading "
        "it from its first message %d, and dropping by coordinates what is done",
        key, progress.sequence, progress, first,
    )  # fmt: skip
    if reader.last_sequence() < first:
        return DeliveryStart(first, drops_done=True, is_unproven=True)
    if _reaches_back(reader, key, progress, first):
        return DeliveryStart(first, drops_done=True)
    return DeliveryStart(
        first, drops_done=True, gap=_recreated(reader, f"the change applied last ({progress})", is_mirror)
    )


def _begin(reader: StreamReader, progress: ConsumerProgress, first: int, *, is_mirror: bool) -> DeliveryStart:
    """Where a consumer begins that has done nothing; behind `seen`, unless the stream was filled anew since."""
    if not progress.seen:
        return DeliveryStart(first)
    if reader.last_sequence() < progress.seen:
        log.warning("the stream ends before sequence %d: it was filled anew; beginning with it", progress.seen)
        return DeliveryStart(
            first, gap=_recreated(reader, f"sequence {progress.seen + 1}, where it was to begin", is_mirror)
        )
    return DeliveryStart(max(progress.seen + 1, first), gap=_dropped(reader, progress, first, is_mirror=is_mirror))


def _dropped(reader: StreamReader, progress: ConsumerProgress, first: int, *, is_mirror: bool) -> ConsumerGap | None:
    """The messages in front of the first that is left, where they were not all seen."""
    if first <= progress.seen + 1:
        return None
    return new_gap(
        "retention",
        f"stream {reader.stream} dropped sequences {progress.seen + 1} to {first - 1} (its retention, or a purge) "
        "before this consumer had read them",
        is_mirror=is_mirror,
    )


def _recreated(reader: StreamReader, after: str, is_mirror: bool) -> ConsumerGap:
    return new_gap(
        "recreated",
        f"stream {reader.stream} was recreated, and what it holds now begins after {after}",
        is_mirror=is_mirror,
    )


def _reaches_back(reader: StreamReader, key: ProgressKey, progress: ConsumerProgress, first: int) -> bool:
    """True when a recreated stream is known to hold all changes of the table that follow the one done last.

    Its first change of the table is not after that one, or the first checkpoint in it is not.
    """
    found = reader.changes_from(key.database, key.table, first)
    if found:
        here = progress_at(found[0].batch, 0, 0, 0)
        if here.server_uuid == progress.server_uuid:
            if here.coordinates <= progress.coordinates:
                return True
        elif (at := _gtid(here.gtid)) and (done := _gtid(progress.gtid)) and at[0] == done[0] and at[1] <= done[1]:
            return True
    for sequence in range(first, min(first + _LOOKED_AT, reader.last_sequence() + 1)):
        if (checkpoint := reader.checkpoint_at(sequence)) is not None:
            return not _is_after(checkpoint, progress)
    return False


def _is_after(checkpoint: Checkpoint, progress: ConsumerProgress) -> bool:
    """True unless the checkpoint is known to be no later than the change done last."""
    if checkpoint.server_uuid == progress.server_uuid:
        return checkpoint.position > BinlogPosition(progress.file, progress.pos)
    return has_gtid(checkpoint, progress) is not False


def holds_progress(reader: StreamReader, key: ProgressKey, progress: ConsumerProgress) -> bool:
    """True while the message of progress holds the change done last."""
    return _find(reader, key, progress) is not None


def _find(reader: StreamReader, key: ProgressKey, progress: ConsumerProgress) -> tuple[int, int] | None:
    """(index of the change in the message of that sequence, changes of the message); None when it is not there."""
    batch = reader.change_at(progress.sequence)
    if batch is None or (batch.schema.database, batch.schema.table) != (key.database, key.table):
        return None
    for index in range(len(batch) - 1, -1, -1):
        there = progress_at(batch, index, 0, 0)
        if (there.server_uuid, there.coordinates) == (progress.server_uuid, progress.coordinates):
            return index, len(batch)
        if there.server_uuid == progress.server_uuid and there.coordinates < progress.coordinates:
            return None
    return None


def has_gtid(checkpoint: Checkpoint, progress: ConsumerProgress) -> bool | None:
    """Whether the transaction done last is before the checkpoint, by GTID; None where that cannot be told."""
    gtids, gtid = checkpoint.gtids, progress.gtid
    if gtids is None or gtid is None or (gtids.flavor == "mysql") != (":" in gtid):
        return None
    return gtids.has(gtid)


def drop_processed(
    work: Sequence[StreamBatch], seek: DeliveryStart, tracker: Tracker
) -> tuple[list[StreamBatch], DeliveryStart, int]:
    """(what is not done yet, the seek from here on, changes dropped)."""
    dropped = 0
    for number, item in enumerate(work):
        done, found = _done(item.batch, tracker.progress, seek.found)
        seek = replace(seek, found=seek.found or found)
        dropped += done
        if done < len(item):
            log.info("%s: %d changes dropped that were done; going on", tracker.key, dropped)
            rest = StreamBatch(item.batch.slice(done, len(item)), item.sequences.slice(done), item.reply)
            return [rest, *work[number + 1 :]], replace(seek, drops_done=False), dropped
    return [], seek, dropped


def _done(batch: ChangeBatch, progress: ConsumerProgress, found: bool) -> tuple[int, bool]:
    """(changes at the head of the batch that are done, whether the one done last is among them)."""
    if batch.server_uuid == progress.server_uuid:
        done = int(np.count_nonzero(_not_after(batch, progress.coordinates)))
        return done, done > 0 and progress_at(batch, done - 1, 0, 0).coordinates == progress.coordinates
    if found:
        return 0, True
    return _done_by_gtid(batch, progress)


def _not_after(batch: ChangeBatch, coordinates: tuple[int, int, int]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Where (file number, pos, row) is not above the coordinates."""
    files = batch.data.column("file")
    numbers = np.array([BinlogPosition(name, 0).file_number for name in files.dictionary.to_pylist()], np.int64)
    file = numbers[files.indices.to_numpy(zero_copy_only=False)]
    pos, row = (batch.data.column(name).to_numpy(zero_copy_only=False) for name in ("pos", "row"))
    number, offset, place = coordinates
    mask: np.ndarray[tuple[int], np.dtype[np.bool_]] = (file < number) | (
        (file == number) & ((pos < offset) | ((pos == offset) & (row <= place)))
    )
    return mask


def _done_by_gtid(batch: ChangeBatch, progress: ConsumerProgress) -> tuple[int, bool]:
    """The same for changes of another server.

    Where the change done last is in the batch it decides: what a replica logs comes in the order of its source,
    whatever server wrote it first. Else numbers of GTIDs decide, which count up where they are of one origin.
    """
    places = list(zip(batch.data.column("gtid").to_pylist(), batch.data.column("order").to_pylist(), strict=True))
    if progress.gtid is not None and (progress.gtid, progress.order) in places:
        return places.index((progress.gtid, progress.order)) + 1, True
    done = 0
    for gtid, order in places:
        here, last = _gtid(gtid), _gtid(progress.gtid)
        if here is None or last is None or here[0] != last[0]:
            raise ConsumeError(
                f"{batch.schema.name}: progress {progress} belongs to server {progress.server_uuid}, the stream was "
                f"filled anew from server {batch.server_uuid}, and no GTID tells which changes are done; fill this "
                "table anew under another client id"
            )
        if (here[1], order) > (last[1], progress.order):
            break
        done += 1
    return done, False


def _gtid(text: str | None) -> tuple[str, int] | None:
    """(origin, number) of "uuid:7", "uuid:tag:7" or MariaDB's "0-1-7"; None without a GTID."""
    if text is None:
        return None
    origin, _, number = text.rpartition(":" if ":" in text else "-")
    return origin, int(number)
