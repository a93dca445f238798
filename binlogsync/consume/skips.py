"""Skips one change that a handler cannot handle, by the operator and with a reason.

`skip_change` moves a consumer's progress past its next change, and records in the same transaction who skipped it and
why. It fails if the given change is not the next one. For a change that was skipped before it returns that record and
changes nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from binlogsync.change_batch import ChangeBatch
from binlogsync.codec.envelope import EnvelopeContext, render
from binlogsync.consume.engine import ConsumeOptions, consume
from binlogsync.consume.progress import ConsumerProgress, ProgressKey, ProgressStore, Tracker
from binlogsync.consume.targets import TableChanges, Target
from binlogsync.errors import ConfigError, ConsumeError
from binlogsync.nats.reader import StreamReader
from binlogsync.nats.temporary_durable import temporary_durable
from binlogsync.targets.records import Skip

__all__ = ["Skip", "skip_change", "skips_of"]

_IDLE_S = 2.0
_MAX_S = 60.0


def skips_of(store: ProgressStore, key: ProgressKey) -> Sequence[Skip]:
    """The skipped changes of a consumer, in order."""
    if (tables := store.tables) is not None:
        with tables.begin() as transaction:
            return transaction.load_skips(key)
    return store.skips(key)


def skip_change(
    reader: StreamReader, key: ProgressKey, store: ProgressStore, change_id: str, reason: str, by: str
) -> Skip:
    """Move the consumer past its next change, and record that; returns the record.

    Raises ConfigError without a reason, ConsumeError when another change is the next one (the error names it), or when
    the consumer's progress was updated at the same time.
    """
    if not reason.strip():
        raise ConfigError("a reason is required to skip a change")
    for skip in skips_of(store, key):
        if skip.change_id == change_id:
            return skip
    stop = threading.Event()
    target = _SkipTarget(store, change_id, (reason.strip(), by), stop)
    with temporary_durable(reader, "skip", (key.database, key.table), 1) as durable:
        options = ConsumeOptions(
            client_id=key.client, durable=durable, max_changes=1, gather_s=0, idle_s=_IDLE_S, max_s=_MAX_S
        )
        consume(reader, (key.database, key.table), target, options, stop)
    if target.skipped is None:
        raise ConsumeError(f"{key}: no change is pending, so there is nothing to skip; was {change_id} handled?")
    return target.skipped


class _SkipTarget(Target):
    """A Target that skips the first change it gets, if it is the requested one."""

    def __init__(self, store: ProgressStore, change_id: str, why: tuple[str, str], stop: threading.Event) -> None:
        self.store = store
        self.skipped: Skip | None = None
        self._change_id = change_id
        self._why = why
        self._stop = stop

    def take(self, work: Sequence[TableChanges], stop: threading.Event) -> None:
        """Skip the first change, then stop."""
        [changes] = work
        tracker = changes.tracker
        for item in changes.batches:
            if item.batch.ddl is not None:
                tracker.advance(self.store, [(item.batch, item.last_sequence)])
                continue
            part = item.batch.slice(0, 1)
            skip = self._describe(tracker.key, part)
            moved = _store(self.store, tracker, (part, int(item.sequences[0])), skip)
            tracker.confirm(moved, [part])
            self.skipped = skip
            self._stop.set()
            return

    def _describe(self, key: ProgressKey, part: ChangeBatch) -> Skip:
        [change] = part.changes()
        if change.id != self._change_id:
            raise ConsumeError(
                f"{key}: the next change is not {self._change_id} but {change.id} (op {change.op}, "
                f"{change.source.position} row {change.source.row}); nothing was skipped"
            )
        context = EnvelopeContext(key.source, time.time_ns() // 1000)
        text = render(part, context).texts()[0].decode()
        position = f"{change.source.position} row {change.source.row}"
        change_key = (key.client, key.source, key.database, key.table, change.id, change.op, position)
        return Skip(*change_key, text, *self._why, datetime.now(UTC))


def _store(store: ProgressStore, tracker: Tracker, done: tuple[ChangeBatch, int], skip: Skip) -> ConsumerProgress:
    if (tables := store.tables) is not None:
        with tables.begin() as transaction:
            transaction.insert_skip(skip)
            return tracker.move(transaction, [done])
    return store.skip(tracker.key, tracker, done, skip)
