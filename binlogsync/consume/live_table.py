"""One table of a continuous pool: its delivery stays open, and each step applies what has arrived."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from binlogsync.consume.boundaries import count_changes
from binlogsync.consume.delivery import TableDelivery
from binlogsync.consume.engine import ConsumeOptions, ConsumeResult, Table, build_result, open_delivery
from binlogsync.consume.progress import ConsumerProgress, ProgressKey
from binlogsync.consume.targets import TableChanges, Target
from binlogsync.nats.reader import StreamReader

ACK_S = 1.0
"""Seconds between two acks of a table."""
_VERIFY_S = 5.0
_FETCH_S = 1.0
_MANY = 100
_SEEN_S = 600.0


@dataclass(slots=True)
class LiveTable:
    """The open delivery of a table.

    `notify` is called in the thread of the connection when messages of the table have arrived. Methods raise what
    `consume` raises; afterwards the table has to be closed, and opened again.
    """

    table: Table
    target: Target
    options: ConsumeOptions
    reader: StreamReader
    notify: Callable[[], None]
    delivery: TableDelivery
    has_more: bool = True
    """True if messages may be left that `notify` does not report."""
    verified_at: float = 0.0
    seen_at: float = field(default_factory=time.monotonic)

    @classmethod
    def open(
        cls,
        table: Table,
        target: Target,
        options: ConsumeOptions,
        reader: StreamReader,
        notify: Callable[[], None],
        stop: threading.Event,
    ) -> LiveTable:
        """Load a new mirror, then start delivery after the progress; the reader belongs to the table from now on."""
        key = ProgressKey(options.client_id, reader.source, *table)
        target.use_streams(reader.beside(), [key], stop)
        try:
            delivery = open_delivery(reader, key, target, options)
            delivery.ack_every_s = ACK_S
            made = cls(table, target, options, reader, notify, delivery)
            made._begin()
        except BaseException:
            reader.close()
            raise
        return made

    @property
    def progress(self) -> ConsumerProgress:
        """Progress of the applied changes."""
        return self.delivery.tracker.progress

    @property
    def work(self) -> TableChanges:
        """What was fetched and is not applied."""
        return TableChanges(self.delivery.tracker, list(self.delivery.fetched))

    @property
    def has_statement(self) -> bool:
        """True if a schema change was fetched: applying it may take long."""
        return any(item.batch.ddl is not None for item in self.delivery.fetched)

    def fetch(self, stop: threading.Event) -> bool:
        """Fetch what has arrived, up to the limit of a transaction; False if nothing had.

        Raises StreamRecreatedError; the table is to be opened again then.
        """
        limit, before, has_found = self.options.max_changes, 0, False
        ends_at = time.monotonic() + max(self.options.gather_s, 0.05)
        while True:
            is_ahead = self.reader.has_read_ahead(self.delivery.durable)
            is_some = not stop.is_set() and self.delivery.fetch(limit, _FETCH_S)
            has_found = has_found or is_some
            fetched, before = count_changes(self.delivery.fetched) - before, count_changes(self.delivery.fetched)
            is_full = self.delivery.is_full(limit)
            self.has_more = is_some and (is_ahead or is_full or fetched >= _MANY)
            if not self.has_more or is_full or time.monotonic() > ends_at:
                break
        if has_found and time.monotonic() - self.verified_at > _VERIFY_S:
            self.delivery.check_progress()
            self.verified_at = time.monotonic()
        return has_found

    def receive(self) -> None:
        """Keep what has arrived for the next `fetch`, without waiting."""
        self.reader.receive(self.delivery.durable, self.options.max_changes)

    @property
    def has_received(self) -> bool:
        """True if something is kept for the next `fetch`."""
        return self.reader.has_received(self.delivery.durable)

    def confirm(self, work: TableChanges) -> None:
        """The target has applied these changes."""
        self.delivery.confirm(work)

    def settle(self, end: int) -> bool:
        """Ack after a fetch without messages; True if the table has all of the stream, which then ended at `end`.

        Now and then progress is stored that proves that the stream has no later changes of the table.
        """
        self.delivery.ack(wait=False)
        has_all = end <= self.delivery.newest or self.delivery.has_all()
        if has_all and not self.delivery.fetched:
            self.delivery.newest = max(self.delivery.newest, end)
            if time.monotonic() - self.seen_at > _SEEN_S:
                self._store_seen()
                self.reader.narrow(self.delivery.durable)
        return has_all

    def close(self) -> None:
        """Store how far the stream was seen, ack, and leave the durable to the next one."""
        try:
            if not self.delivery.fetched:
                self._store_seen()
            if not self.reader.is_lost:
                self.delivery.ack()
        finally:
            self.leave()

    def leave(self) -> None:
        """Leave the durable, after an error."""
        self.reader.close()

    def take_result(self) -> ConsumeResult:
        """The result since the last call, without its duration."""
        tracker, delivery = self.delivery.tracker, self.delivery
        done = build_result(delivery, 0.0, 1)
        tracker.counts, tracker.first, delivery.skipped, delivery.gap = Counter(), None, 0, None
        return done

    def _store_seen(self) -> None:
        self.delivery.tracker.see(self.target.store, self.delivery.newest)
        self.seen_at = time.monotonic()

    def _begin(self) -> None:
        self.delivery.begin()
        self.reader.listen(self.delivery.durable, self.notify)
        # Not all tables of a pool at the same time.
        self.verified_at, self.has_more = time.monotonic() - random.uniform(0, _VERIFY_S), True
