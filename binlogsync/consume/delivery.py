"""Delivery of one table's changes from the stream: where it starts, what was fetched, what is applied and acked."""

from __future__ import annotations

import logging
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Literal

from binlogsync.consume.boundaries import count_changes, drop_first, is_full
from binlogsync.consume.gaps import ConsumerGap, record_gap
from binlogsync.consume.progress import ProgressKey, ProgressStore, Tracker
from binlogsync.consume.seek import DeliveryStart, drop_processed, find_start, holds_progress
from binlogsync.consume.targets import TableChanges, Target
from binlogsync.errors import ConsumeError
from binlogsync.nats.complete_reading import StreamRecreatedError, fetch_next
from binlogsync.nats.reader import StreamBatch, StreamReader

log = logging.getLogger(__name__)


@dataclass(slots=True)
class TableDelivery:
    """The state of one table in one run.

    Attributes:
        reader, durable, target, tracker: where the changes come from, where they go, and the progress.
        fetched: changes that are not applied yet.
        newest: stream sequence up to which the changes of the table were fetched.
        skipped: number of changes filtered out because they were applied before.
        gap: messages that the stream dropped before they were read; None if there are none.
        ack_every_s: shortest time between two acks; an ack only saves the server a redelivery. If it is not 0, acks
            after the first transaction are sent without waiting for the server.
    """

    reader: StreamReader
    durable: str
    target: Target
    tracker: Tracker
    on_gap: Literal["warn", "fail"]
    fetched: list[StreamBatch] = field(default_factory=list)
    newest: int = 0
    skipped: int = 0
    gap: str | None = None
    ack_every_s: float = 0.0
    _seek: DeliveryStart = field(default_factory=lambda: DeliveryStart(1))
    _unacked: StreamBatch | None = None
    _acked_at: float = 0.0

    def begin(self) -> None:
        """Find the first message to deliver after the table's progress, and position the durable at it."""
        key, progress = self.tracker.key, self.tracker.progress
        seen = int(self.fetched[0].sequences[0]) - 1 if self.fetched else self.newest
        self.fetched = []
        # What this run has fetched and applied came from the stream in which it began.
        stored = self.tracker.stream or progress.stream
        stream = self.reader.created_at()
        progress = replace(progress, seen=max(progress.seen, seen), stream=stored)
        self._seek = find_start(self.reader, key, progress, stream, is_mirror=self.target.repairs_gaps)
        self.tracker.stream = None if self._seek.is_unproven else stream
        if self._seek.gap is not None:
            self.gap = self._seek.gap.detail
            _report_gap(self.target.store, key, self._seek.gap, self.on_gap)
        if self._seek.is_recreated and not self._seek.is_unproven:
            self.tracker.begin(self.target.store, self._seek.sequence, stream)
        self.target.repair(key, self.tracker.progress)
        self.newest = self._seek.sequence - 1
        self.reader.ensure_durable(self.durable, key.database, key.table, self._seek.sequence, client_id=key.client)

    def fetch(self, limit: int, wait_s: float) -> bool:
        """Fetch the next changes, about `limit` in all; False if none arrived within `wait_s`.

        Raises StreamRecreatedError when delivery must begin again.
        """
        left = limit - count_changes(self.fetched)
        limit, stream = left if left > 0 else limit, self.tracker.stream
        items = list(fetch_next(self.reader, self.durable, self.newest, limit, wait_s, stream=stream))
        if not items:
            return False
        if self._seek.is_unproven:
            raise StreamRecreatedError
        self.newest = items[-1].last_sequence
        last = items[-1]
        if self._seek.drops_done:
            items, self._seek, dropped = drop_processed(items, self._seek, self.tracker)
            self.skipped += dropped
        self.fetched += items
        if not self.fetched:
            self.reader.ack(last)
        return True

    def reading_ahead(self, limit: int, *, is_likely: bool) -> AbstractContextManager[None]:
        """Fetch what comes next during the `with` block, if there probably is more."""
        return self.reader.reading_ahead(self.durable, limit) if is_likely else nullcontext()

    def is_full(self, limit: int) -> bool:
        """True when enough for a transaction is fetched."""
        return is_full(self.fetched, limit)

    def has_all(self) -> bool:
        """True when all messages were fetched; an empty fetch may also be a slow one."""
        return self.reader.has_all(self.durable)

    def check_progress(self) -> None:
        """Raise StreamRecreatedError unless the stream has the change applied last, or only later ones."""
        progress = self.tracker.progress
        if self._seek.is_unproven or not progress.sequence or holds_progress(self.reader, self.tracker.key, progress):
            return
        if self.reader.first_sequence() <= progress.sequence:
            raise StreamRecreatedError

    def confirm(self, work: TableChanges) -> None:
        """The target has applied these changes, the first of `fetched`: forget and ack them."""
        self.fetched = drop_first(self.fetched, count_changes(work.batches))
        replies = [item for item in work.batches if item.reply is not None]
        if replies:
            self._unacked = replies[-1]
            if time.monotonic() - self._acked_at >= self.ack_every_s:
                self.ack(wait=not self.ack_every_s)

    @property
    def has_unacked(self) -> bool:
        """True if changes were applied whose ack is due later."""
        return self._unacked is not None

    def ack(self, *, wait: bool = True) -> None:
        """Ack what was applied; `wait` for the confirmation of the server."""
        last, self._unacked = self._unacked, None
        if last is not None:
            # The first confirmation shows that this user is permitted to send acks.
            self.reader.ack(last, wait=wait or not self._acked_at)
            self._acked_at = time.monotonic()


def _report_gap(store: ProgressStore, key: ProgressKey, gap: ConsumerGap, on_gap: Literal["warn", "fail"]) -> None:
    """Record a gap with progress, before progress moves past it; raises ConsumeError if `on_gap` is "fail"."""
    message = f"{key}: {gap.detail}; changes of this table may be missing"
    if on_gap == "fail":
        raise ConsumeError(message + ": read the table again under another client id, or resume with on_gap='warn'")
    log.error("%s", message)
    record_gap(store, key, gap)
