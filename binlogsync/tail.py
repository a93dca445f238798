"""The tail of one source: read the binlog, flush to the sinks, keep the checkpoint.

    tail = Tail(config, [JetStreamSink(...)], store, TailOptions("main"), owner="me")
    tail.run(stop)

It claims the source's lease, starts at the oldest checkpoint among its sinks, and runs until `stop` is set; then it flushes what
it has and lets go. A lost server, broker or store is retried from what the sinks say they hold; what a retry cannot mend is
raised, and nothing is lost: the next start goes on from the same place.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from binlogsync.accumulate import Accumulator, FlushRules
from binlogsync.binlog.reader import BinlogReader, ReaderOptions, Stretch
from binlogsync.errors import (
    ConfigError,
    DecodeError,
    FencedError,
    LeaseLostError,
    PositionError,
    PreflightError,
    SinkError,
    SourceError,
    StoreError,
)
from binlogsync.fanout import Fanout
from binlogsync.filters import TableFilter
from binlogsync.flush import Flush
from binlogsync.mysql import (
    BinlogDump,
    MySQLConfig,
    ReadAhead,
    ServerInfo,
    inspect_server,
    raise_server_error,
    validate,
)
from binlogsync.mysql.preflight import check, preflight
from binlogsync.origin import find_origin
from binlogsync.position import Checkpoint
from binlogsync.sinks import Sink
from binlogsync.stores import Lease, PositionStore
from binlogsync.subjects import check_source

log = logging.getLogger(__name__)

_TICK_S = 1.0
_HEARTBEAT_S = 5.0
_WAITING_BYTES = 128 << 20
_FIRST_BACKOFF_S = 0.5
_LONGEST_BACKOFF_S = 10.0


@dataclass(frozen=True, slots=True)
class TailOptions:
    """What to tail, and how.

    Attributes:
        source: name of the source: letters, digits, _ and -.
        flush_interval_s, flush_rows, flush_bytes: a flush is due after so many seconds, changes or bytes.
        include, exclude: "database.table" with * and ?; empty `include` means all. What is left out is counted.
        start: where to begin when neither sinks nor store know: now, oldest, file:pos, a GTID set, or an ISO time.
        idle_checkpoint_s: how often a checkpoint that moves without changes is stored.
        retry_s: how long a lost server is retried before `run` raises.
        preflight: check the server's settings at the start.
    """

    source: str
    flush_interval_s: float = 3.0
    flush_rows: int = 1024
    flush_bytes: int = 64 << 20
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    start: str = "now"
    idle_checkpoint_s: float = 60.0
    retry_s: float = 60.0
    preflight: bool = True

    def __post_init__(self) -> None:
        check_source(self.source)
        self.rules()
        if self.retry_s < 0:
            raise ConfigError(f"retry_s is {self.retry_s}; 0 gives up at once, it cannot be below")

    def rules(self) -> FlushRules:
        """The flush rules among the options; raises ConfigError."""
        return FlushRules(self.flush_rows, self.flush_bytes, self.flush_interval_s, self.idle_checkpoint_s)


@dataclass(frozen=True, slots=True)
class TailProgress:
    """What a tail has done since `run` began.

    Attributes:
        changes, transactions, flushes: stored in every sink.
        bytes_read: from the server's socket.
        dropped: changes of tables that the filter leaves out.
        seconds: since `run` began.
        checkpoint: the last one saved.
        lag_s: age of the last transaction read, 0 when all there is has been stored.
        last_flush_changes, last_flush_reason: of the last flush stored.
        tables: (database, table) -> changes stored.
        schema_changes: DDL statements on captured tables.
        recoveries: what was healed, a sentence each.
    """

    changes: int = 0
    transactions: int = 0
    flushes: int = 0
    bytes_read: int = 0
    dropped: int = 0
    seconds: float = 0.0
    checkpoint: Checkpoint | None = None
    lag_s: float = 0.0
    last_flush_changes: int = 0
    last_flush_reason: str | None = None
    tables: Mapping[tuple[str, str], int] = field(default_factory=dict)
    schema_changes: int = 0
    recoveries: tuple[str, ...] = ()


class Tail:
    """One source into its sinks; see the module. `run` may be called once."""

    def __init__(
        self,
        config: MySQLConfig,
        sinks: Sequence[Sink],
        store: PositionStore,
        options: TailOptions,
        *,
        owner: str,
        take_over: bool = False,
    ) -> None:
        """`owner` names this tail in the lease; with `take_over` it claims the lease from a live owner too."""
        if not sinks:
            raise ConfigError("a tail needs at least one sink; give it a JetStreamSink or an AuditSink")
        self._config = config
        self._sinks = tuple(sinks)
        self._store = store
        self._options = options
        self._owner = owner
        self._take_over = take_over
        self._filter = TableFilter(options.include, options.exclude)
        self._progress = TailProgress()
        self._tables: Counter[tuple[str, str]] = Counter()
        self._begun_s = 0.0
        self._heard_s = 0.0
        self._ticked_s = 0.0
        self._last_ts_us = 0
        self._lease: Lease | None = None
        self._report: Callable[[TailProgress], None] | None = None
        self._flushes = 0

    def run(self, stop: threading.Event, on_progress: Callable[[TailProgress], None] | None = None) -> TailProgress:
        """Tail until `stop` is set, and return what was done.

        `on_progress` is called about once a second in the calling thread, also when nothing happens.

        Raises:
            LeaseLostError: another tail holds the source.
            FencedError: another writer has written to a sink.
            PositionError: the checkpoint is purged or foreign.
            PreflightError: the server is not set up for change data capture.
            DecodeError: an event cannot be decoded exactly.
            SourceError, SinkError, StoreError: a server stayed away for longer than `retry_s`.
        """
        self._report = on_progress
        self._begun_s = time.monotonic()
        self._lease = self._store.claim(self._options.source, self._owner, take_over=self._take_over)
        try:
            self._retry(stop)
        finally:
            for sink in self._sinks:
                sink.close()
            self._store.release(self._lease)
        return self._snapshot(idle=True)

    def _retry(self, stop: threading.Event) -> None:
        """Sessions until one ends because of `stop`; the time without success is bounded."""
        failing_since: float | None = None
        backoff = _FIRST_BACKOFF_S
        while True:
            before = self._progress.flushes
            try:
                self._session(stop)
                return
            except (FencedError, LeaseLostError, PositionError, PreflightError):
                raise
            except (SourceError, SinkError, StoreError) as error:
                now = time.monotonic()
                if failing_since is None or self._progress.flushes > before:
                    failing_since, backoff = now, _FIRST_BACKOFF_S
                if now - failing_since >= self._options.retry_s or stop.is_set():
                    raise
                log.warning("%s: %s; trying again in %.1f s", self._options.source, error, backoff)
                self._recovered(f"{type(error).__name__}: {error}")
                self._pause(stop, backoff)
                backoff = min(2 * backoff, _LONGEST_BACKOFF_S)

    def _pause(self, stop: threading.Event, seconds: float) -> None:
        """Wait, and go on reporting."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and not stop.wait(0.2):
            self._tick(idle=False)

    def _session(self, stop: threading.Event) -> None:
        """Open everything, read until `stop`, and close."""
        info = inspect_server(self._config)
        if self._options.preflight:
            check(preflight(self._config))
        origin = find_origin(self._config, info, self._sinks, self._store, self._options.source, self._options.start)
        for sentence in origin.recoveries:
            log.warning("%s: %s", self._options.source, sentence)
            self._recovered(sentence)
        validate(self._config, origin.start)
        log.info("%s: tailing %s from %s", self._options.source, self._config.address, origin.start)
        fanout = Fanout(origin.sinks, self._save, _WAITING_BYTES)
        try:
            with BinlogDump(self._config, origin.start) as dump, ReadAhead(dump) as ahead:
                self._read(stop, ahead, self._reader(info, origin.start), fanout, origin.start)
        finally:
            fanout.close()

    def _reader(self, info: ServerInfo, start: Checkpoint) -> BinlogReader:
        options = ReaderOptions(
            info.server_uuid, info.server_id, mariadb=info.flavor == "mariadb", captures=self._filter.captures
        )
        return BinlogReader(options, replace(start, server_uuid=info.server_uuid))

    def _read(
        self, stop: threading.Event, ahead: ReadAhead, reader: BinlogReader, fanout: Fanout, start: Checkpoint
    ) -> None:
        """Chunks to stretches to flushes."""
        pending = Accumulator(self._options.source, self._options.rules(), start, time.time(), self._flushes + 1)
        try:
            self._follow(stop, ahead, reader, pending, fanout)
        except DecodeError:
            self._finish(pending, fanout)  # what lies before the event that cannot be read is stored all the same
            raise
        self._finish(pending, fanout)

    def _follow(
        self, stop: threading.Event, ahead: ReadAhead, reader: BinlogReader, pending: Accumulator, fanout: Fanout
    ) -> None:
        """Read until `stop`."""
        while not stop.is_set():
            chunk = ahead.next(min(_TICK_S, pending.wait_s(time.time())))
            if chunk is not None:
                self._progress = replace(self._progress, bytes_read=self._progress.bytes_read + len(chunk))
                for stretch in reader.feed(chunk.buffer, chunk.start, chunk.end):
                    self._take(pending, stretch, fanout)
                ahead.recycle(chunk)
                if reader.server_error is not None:
                    raise_server_error(reader.server_error)
                if reader.ended:
                    raise SourceError(f"{self._config.address} ended the dump at {reader.position}")
            self._flush_due(pending, fanout)
            self._count(fanout.check())
            self._tick(idle=chunk is None and not pending.rows and not fanout.waiting)

    def _finish(self, pending: Accumulator, fanout: Fanout) -> None:
        """Store what is left."""
        flush = pending.cut("stop", time.time())
        if flush is not None:
            self._put(fanout, flush)
        fanout.wait(self._tick)
        self._count(fanout.check())

    def _take(self, pending: Accumulator, stretch: Stretch, fanout: Fanout) -> None:
        if stretch.transactions:
            self._last_ts_us = stretch.checkpoint.ts_us
            self._progress = replace(self._progress, transactions=self._progress.transactions + stretch.transactions)
        pending.add(stretch, time.time())
        self._flush_due(pending, fanout)

    def _flush_due(self, pending: Accumulator, fanout: Fanout) -> None:
        reason = pending.due(time.time())
        flush = pending.cut(reason, time.time()) if reason else None
        if flush is not None:
            self._put(fanout, flush)

    def _put(self, fanout: Fanout, flush: Flush) -> None:
        self._flushes = flush.number
        fanout.put(flush, self._tick)

    def _save(self, checkpoint: Checkpoint) -> None:
        """Called by the sinks' threads, one after the other, when all have it."""
        assert self._lease is not None
        self._store.save(self._lease, checkpoint)

    # What is said of it

    def _count(self, stored: Sequence[Flush]) -> None:
        """Add flushes that every sink has to the progress."""
        for flush in stored:
            for batch in flush.batches:
                self._tables[batch.schema.database, batch.schema.table] += len(batch)
            done = self._progress
            self._progress = replace(
                done,
                changes=done.changes + flush.changes,
                flushes=done.flushes + 1,
                dropped=done.dropped + flush.dropped,
                checkpoint=flush.checkpoint,
                last_flush_changes=flush.changes,
                last_flush_reason=flush.reason,
                schema_changes=done.schema_changes + len(flush.schema_changes),
            )

    def _recovered(self, sentence: str) -> None:
        self._progress = replace(self._progress, recoveries=(*self._progress.recoveries, sentence)[-100:])

    def _snapshot(self, *, idle: bool) -> TailProgress:
        lag_s = 0.0 if idle or not self._last_ts_us else max(0.0, time.time() - self._last_ts_us / 1e6)
        seconds = time.monotonic() - self._begun_s
        return replace(self._progress, seconds=seconds, lag_s=lag_s, tables=MappingProxyType(dict(self._tables)))

    def _tick(self, *, idle: bool = False) -> None:
        """Once a second: report, and renew the lease now and then."""
        now = time.monotonic()
        if now - self._ticked_s < _TICK_S:
            return
        self._ticked_s = now
        if now - self._heard_s >= _HEARTBEAT_S:
            assert self._lease is not None
            self._store.heartbeat(self._lease)
            self._heard_s = now
        if self._report is not None:
            self._report(self._snapshot(idle=idle))
