"""Applies the stream's changes since the start of a load to the rows that were read in chunks.

The chunks show every change before the start of the load, and some of the later ones. Applied by key, in order, the
changes since the start make the rows equal to the table at each checkpoint at or after the high watermark of the
chunks. A change that is in the rows already is applied again without effect.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from binlogsync.codec.tail_messages import MOST_WITHOUT_CHECKPOINT
from binlogsync.errors import ConsumeError
from binlogsync.mirror.image_columns import fit_images
from binlogsync.nats.messages import StreamBatch
from binlogsync.nats.reader import StreamReader
from binlogsync.nats.temporary_durable import temporary_durable
from binlogsync.position import Checkpoint
from binlogsync.position_order import PositionOrder, compare
from binlogsync.snapshot.watermarks import ReadStoppedError
from binlogsync.targets import TableTransaction
from binlogsync.targets.batch_checks import check_batch, decode_ops, describe_missing_columns
from binlogsync.targets.load_state import LoadState
from binlogsync.targets.mirror_state import MirrorState
from binlogsync.waiting import Interval

log = logging.getLogger(__name__)
_FETCH = 20_000
_FETCH_S = 0.2
_POLL_S = 0.1
_REPORT_S = 10.0
_PATIENCE_S = 150.0
"""How long the stream's checkpoint may stay the same before the high watermark; a tail stores it once in 60 s."""
_TRUNCATE = ord("t")


class RestartLoadError(Exception):
    """The rows that were read cannot be brought up to date: the load must begin again.

    `needs_view`: changes of the table cannot be applied, so it must be read in one view.
    """

    def __init__(self, reason: str, *, needs_view: bool = False) -> None:
        self.reason = reason
        self.needs_view = needs_view
        super().__init__(reason)


def find_last_checkpoint(reader: StreamReader) -> tuple[Checkpoint, int] | None:
    """(the last checkpoint of the stream, its sequence); None if it has none."""
    last = reader.last_sequence()
    for sequence in range(last, max(0, last - MOST_WITHOUT_CHECKPOINT), -1):
        if (found := reader.checkpoint_at(sequence)) is not None:
            return found, sequence
    return None


class CatchUp:
    """Applies changes to the rows of one load.

    Args:
        store: runs a function in a transaction of the mirror's target that also stores the load's new state.
        release: lets other processes use the target for a while.
    """

    def __init__(
        self,
        reader: StreamReader,
        load: LoadState,
        store: Callable[[LoadState, Callable[[TableTransaction, MirrorState], None]], None],
        release: Callable[[], None],
        stop: threading.Event,
    ) -> None:
        self._reader = reader
        self._release = release
        self._load = load
        self._store = store
        self._stop = stop
        self._name = (load.schema.database, load.schema.table)
        self._fetched: list[StreamBatch] = []
        self._newest = load.applied

    def run(self) -> Checkpoint:
        """Apply changes until the rows are right; returns the checkpoint whose table they equal.

        Raises RestartLoadError, ReadStoppedError, ConsumeError if the tail does not reach the high watermark.
        """
        assert self._load.high is not None
        with temporary_durable(self._reader, "load", self._name, self._load.applied + 1) as durable:
            return self._follow(durable, self._load.high)

    def _follow(self, durable: str, high: Checkpoint) -> Checkpoint:
        moved_s, report = time.monotonic(), Interval(_REPORT_S, is_due_at_once=False)
        last: Checkpoint | None = None
        while not self._stop.is_set():
            found = find_last_checkpoint(self._reader)
            if found is None:
                raise RestartLoadError(f"stream {self._reader.stream} was recreated")
            at, sequence = found
            if at.server_uuid != self._load.start.server_uuid:
                raise RestartLoadError(f"the stream continues with server {at.server_uuid}")
            self._apply_up_to(durable, sequence)
            check_stream(self._reader, self._load)
            order = compare(at, high)
            if order is PositionOrder.UNKNOWN:
                raise ConsumeError(
                    f"{'.'.join(self._name)}: the server that was read has transactions that the source of the stream "
                    f"does not have ({high.gtids}); configure the address of the stream's source"
                )
            if order.is_at_or_after and not at.skip:
                return at
            now = time.monotonic()
            if at != last:
                last, moved_s = at, now
            if now - moved_s > _PATIENCE_S:
                raise ConsumeError(
                    f"{'.'.join(self._name)}: all rows were read, but the stream has been at {at} for "
                    f"{_PATIENCE_S:.0f} s and does not reach {high}, the end of the binlog after the last rows; check "
                    "that the tail is running. The load resumes here"
                )
            if report.is_due():
                log.info("%s: all rows were read; the stream is at %s, waiting for %s", ".".join(self._name), at, high)
            self._release()
            self._stop.wait(_POLL_S)
        raise ReadStoppedError

    def _apply_up_to(self, durable: str, end: int) -> None:
        """Apply the changes of messages up to stream sequence `end`."""
        while self._newest < end and not self._stop.is_set():
            items = self._reader.fetch(durable, _FETCH, _FETCH_S)
            if not items:
                if self._reader.has_all(durable):
                    break
                continue
            self._newest = items[-1].last_sequence
            self._reader.ack(items[-1])
            self._fetched += items
            self._apply(end)
        self._apply(end)
        if self._stop.is_set():
            raise ReadStoppedError

    def _apply(self, end: int) -> None:
        todo, rest = list[StreamBatch](), list[StreamBatch]()
        for item in self._fetched:
            count = int((item.sequences <= end).sum())
            if count:
                todo.append(item.slice(0, count))
            if count < len(item):
                rest.append(item.slice(count, len(item)))
        self._fetched = rest
        if todo:
            moved = replace(self._load, applied=todo[-1].last_sequence)
            self._store(moved, lambda transaction, state: apply_to_rows(transaction, state, self._load, todo))
            self._load = moved


def check_stream(reader: StreamReader, load: LoadState) -> None:
    """Raise RestartLoadError unless the stream has all messages since the start of the load."""
    if load.stream not in (None, reader.created_at()):
        raise RestartLoadError(f"stream {reader.stream} was recreated during the load")
    first = reader.first_sequence()
    if first > load.start_sequence + 1:
        raise RestartLoadError(
            f"stream {reader.stream} dropped sequences {load.start_sequence + 1} to {first - 1} (its retention, or a "
            "purge) during the load"
        )
    found = reader.checkpoint_at(load.start_sequence) if first <= load.start_sequence else load.start
    if found != load.start or reader.last_sequence() < load.start_sequence:
        raise RestartLoadError(f"stream {reader.stream} was recreated during the load")


def apply_to_rows(
    transaction: TableTransaction, state: MirrorState, load: LoadState, items: Sequence[StreamBatch]
) -> None:
    """Apply changes to the spare table in the open transaction. Raises RestartLoadError."""
    batches, converter = [], transaction.converter
    for item in items:
        if (ddl := item.batch.ddl) is not None:
            reason = f"a statement may have changed the table during the load: {ddl.sql[:200]}"
            raise RestartLoadError(reason, needs_view=ddl.kind == "foreign_key")
        batch = fit_images(item.batch, load.left_out)
        if describe_missing_columns(batch):
            raise RestartLoadError("a change during the load has incomplete row images", needs_view=True)
        if not converter.has_same_shape(batch.schema, load.schema):
            raise RestartLoadError("its columns changed during the load")
        # Without a primary key, rows are identified by the unique key that they were read by.
        batch = batch.with_schema(replace(batch.schema, primary_key=load.key))
        if (decode_ops(batch) == _TRUNCATE).any():
            raise RestartLoadError("TRUNCATE TABLE ran during the load")
        check_batch(batch)
        batches.append(batch)
    transaction.apply_to_spare(state, replace(load.schema, primary_key=load.key), batches)
