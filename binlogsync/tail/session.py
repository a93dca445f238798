"""One attempt at tailing: open everything, read until the stop or an error, store what was read, let go of it all.

What is read lies before the error that ends a session, and is good: it is stored before the error is raised. A session
decides nothing about trying again; the next one begins at what the sinks say they hold.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from binlogsync.binlog.reader import BinlogReader, DecodedRange
from binlogsync.errors import DecodeError, MissingPrepareError, SinkError, SourceError
from binlogsync.filters import TableFilter
from binlogsync.flush import Flush, FlushReason
from binlogsync.mysql import (
    BinlogDump,
    MySQLConfig,
    ReadAhead,
    ServerInfo,
    find_writable_host,
    find_xa_prepare,
    inspect_server,
    raise_server_error,
    reader_options,
    validate,
)
from binlogsync.mysql.failover import check_order
from binlogsync.mysql.identity import add_log_identity
from binlogsync.mysql.preflight import check, preflight
from binlogsync.mysql.start import add_gtids
from binlogsync.position import BinlogPosition, Checkpoint
from binlogsync.server_facts import ServerFacts
from binlogsync.sinks import SequencedSink, Sink
from binlogsync.sinks.jetstream import JetStreamSink
from binlogsync.stores import PositionStore
from binlogsync.tail.accumulate import Accumulator
from binlogsync.tail.bookmarks import Bookmarker
from binlogsync.tail.existing_tables import ExistingTables
from binlogsync.tail.fanout import Fanout
from binlogsync.tail.foreign_keys import ForeignKeyWatch
from binlogsync.tail.gap import accept_gap
from binlogsync.tail.options import TailOptions
from binlogsync.tail.progress import ProgressCounter
from binlogsync.tail.reset_detection import ResetDetector
from binlogsync.tail.start import TailStart, find_tail_start

log = logging.getLogger(__name__)

_TICK_S = 1.0
_WAITING_BYTES = 128 << 20


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """Where the changes come from, where they go, and which."""

    config: MySQLConfig
    sinks: tuple[Sink, ...]
    store: PositionStore
    options: TailOptions
    filter: TableFilter


@dataclass(frozen=True, slots=True)
class SessionState:
    """What one session leaves to the next one of the same tail.

    Attributes:
        next_number: of the next flush.
        start: where the tail began, while no sink held anything: "now" is not later because there was an outage.
        missing: what the session before could not read because it was prepared before its start.
    """

    next_number: int = 1
    start: Checkpoint | None = None
    missing: MissingPrepareError | None = None


@dataclass(frozen=True, slots=True)
class TailCallbacks:
    """What a session asks of the tail that runs it.

    Attributes:
        stop: set when the tail has to end.
        tick: called about once a second, with True when all there is has been stored; may raise LeaseLostError.
        save: keeps a checkpoint; called from other threads.
    """

    stop: threading.Event
    tick: Callable[[bool], None]
    save: Callable[[Checkpoint], None]


class Session:
    """See the module. `run` may be called once."""

    def __init__(
        self, ends: SessionConfig, calls: TailCallbacks, meter: ProgressCounter, earlier: SessionState
    ) -> None:
        """`earlier` is what the session before has left, or that of a tail that begins."""
        self.state = earlier
        """For the next session."""
        self.has_begun = False
        """True once it was known where to begin, and that the server has what comes next."""
        self.has_stored = False
        """True once everything that was there to read had been stored, or a flush had been."""
        self._config = ends
        self._callbacks = calls
        self._meter = meter
        options = ends.options
        self._bookmarker = Bookmarker(options.source, ends.store, options.bookmarks())
        self._patience_ends_s: float | None = None
        self._reads_back = False  # reading begins before the start, for an XA transaction
        self._is_unconfirmed = False  # another file began since the log was compared
        self._wall_s = time.time() - time.monotonic()
        self._complete: Callable[[Flush], Flush] = lambda flush: flush

    def run(self) -> None:
        """Read until the stop; raises what ends it before that."""
        self._config = replace(
            self._config, config=find_writable_host(self._config.config)
        )  # all that follows is of one server
        config, options = self._config.config, self._config.options
        info = inspect_server(config)
        if options.preflight:
            check(preflight(config))
        self._watch = ResetDetector(config, info.server_uuid)
        try:
            self._run(info)
        finally:
            self._watch.close()

    def _run(self, info: ServerInfo) -> None:
        """The rest of `run`, from where the log is watched."""
        config, options = self._config.config, self._config.options
        self._callbacks.tick(False)
        origin = self._find_origin(info)
        self._announce(origin.recoveries)
        self._callbacks.tick(False)
        if options.accept_gap:
            terms = (options.accept_gap, options.gap_start)
            gaps = accept_gap(config, info, origin, self._config.filter, terms, self._callbacks.save)
            self._announce(str(gap) for gap in gaps)
            if gaps:
                origin = self._find_origin(info)
        if origin.is_first:
            origin = replace(origin, start=add_log_identity(config, info, origin.start))
            self.state = replace(self.state, start=origin.start)
        reached = self._reach_back(info, origin.start)
        if reached is None:
            return
        origin = replace(origin, start=reached)
        validate(config, origin.start)
        if origin.start.resume is not None:
            validate(config, origin.start.read_start())
        check_order(config, info, origin.start.read_start(), filter(None, origin.sinks.values()))
        origin = replace(origin, start=add_gtids(config, info, origin.start))
        self.has_begun = True
        self._announce(self._changed_facts(info))
        self._announce(filter(None, [origin.moved, origin.unidentified(info)]))
        self._meter.begins(origin.start)
        self._bookmarker.begins(origin.start, _sequence_at(origin))
        log.info("%s: tailing %s from %s", options.source, config.address, origin.start)
        if origin.start.resume is not None:
            place = origin.start.resume.position
            log.info("%s: reading from %s on, because an XA transaction was prepared behind it", options.source, place)
        fanout = Fanout(origin.stored, self._callbacks.save, _WAITING_BYTES)
        try:
            self._watch.follow(origin.start)
            self._reads_back = origin.start.resume is not None
            self._read(info, origin.start.read_start(), fanout)
        finally:
            self._patience_ends_s = None
            fanout.close(lambda: self._wait_for(fanout))
            self._count(fanout)

    def _find_origin(self, info: ServerInfo) -> TailStart:
        ends, options = self._config, self._config.options
        start = self.state.start or options.start
        return find_tail_start(ends.config, info, ends.sinks, ends.store, options.source, start)

    def _reach_back(self, info: ServerInfo, start: Checkpoint) -> Checkpoint | None:
        """The start, with the place before what the session before lacked; None when the tail has to stop."""
        missing = self.state.missing
        if missing is None:
            return start
        if start.server_uuid == info.server_uuid and start.position > BinlogPosition(missing.file, missing.pos):
            return start

        def goes_on() -> bool:
            self._callbacks.tick(False)
            return not self._callbacks.stop.is_set()

        return find_xa_prepare(self._config.config, start, missing, goes_on)

    def _announce(self, sentences: Iterable[str]) -> None:
        for sentence in sentences:
            log.warning("%s: %s", self._config.options.source, sentence)
            self._meter.recovered(sentence)

    def _changed_facts(self, info: ServerInfo) -> list[str]:
        """What is different about the server since the source was tailed last, which is noted for the next time."""
        store, source = self._config.store, self._config.options.source
        now, before = ServerFacts.of(info, time.time()), ServerFacts.from_text(store.facts(source))
        changes = now.changes_since(before) if before is not None else []
        if before is None or changes:
            store.put_facts(source, now.to_text())
        return [] if before is None else [f"{each} at {before.at:%Y-%m-%d %H:%M} UTC" for each in changes]

    def _read(self, info: ServerInfo, start: Checkpoint, fanout: Fanout) -> None:
        """Chunks to stretches to flushes; what was read is stored also where reading ends with an error.

        What was read of a file that began meanwhile is stored only when the log was not reset before.
        """
        ends = self._config
        captured = ends.filter.folded(info.fold)
        existing = ExistingTables(ends.config, captured, info.fold, ends.sinks)
        watch = ForeignKeyWatch(ends.config, captured, info.fold)
        self._complete = watch.add_to
        decoding = replace(reader_options(ends.config, info, watch.captures), existing=existing)
        for sink in ends.sinks:
            if isinstance(sink, JetStreamSink):
                sink.note_case(info.variables.get("lower_case_table_names", "0"))
        known = add_log_identity(ends.config, info, start)
        reader = BinlogReader(decoding, replace(known, server_uuid=info.server_uuid))
        options = self._config.options
        pending = Accumulator(options.source, options.rules(), start, self._now_s(), self.state.next_number)
        if not self._reads_back:
            pending.identify(known)
        try:
            with BinlogDump(self._config.config, start) as dump, ReadAhead(dump) as ahead:
                self._follow(ahead, reader, pending, fanout)
        except (DecodeError, SourceError):
            self._finish(pending, fanout)
            raise
        self._finish(pending, fanout)

    def _follow(self, ahead: ReadAhead, reader: BinlogReader, pending: Accumulator, fanout: Fanout) -> None:
        """Read until the stop."""
        while not self._callbacks.stop.is_set():
            chunk = ahead.next(min(_TICK_S, pending.wait_s(self._now_s())))
            if chunk is not None:
                self._meter.read(len(chunk))
                for stretch in reader.feed(chunk.buffer, chunk.start, chunk.end):
                    self._take(pending, stretch, fanout)
                ahead.recycle(chunk)
                if reader.server_error is not None:
                    raise_server_error(reader.server_error)
                if reader.ended:
                    raise SourceError(f"{self._config.config.address} ended the dump at {reader.position}; reconnect")
            self._flush_due(pending, fanout)
            self._watch.check()
            fanout.check()
            self._count(fanout)
            is_idle = chunk is None and not pending.rows and not fanout.waiting
            self.has_stored = self.has_stored or is_idle
            self._callbacks.tick(is_idle)

    def _take(self, pending: Accumulator, stretch: DecodedRange, fanout: Fanout) -> None:
        if stretch.transactions:
            self._meter.seen(stretch.checkpoint.ts_us)
        pending.add(stretch, self._now_s())
        self._flush_due(pending, fanout)
        self._watch.reach(pending.reached)
        self._is_unconfirmed = self._is_unconfirmed or stretch.end == "rotation"

    def _flush_due(self, pending: Accumulator, fanout: Fanout) -> None:
        reason = pending.due(self._now_s())
        if reason is not None:
            self._cut(pending, reason, fanout)

    def _cut(self, pending: Accumulator, reason: FlushReason, fanout: Fanout) -> None:
        if self._is_unconfirmed:
            # After a reset, a dump continues with the next file that has the next name.
            self._watch.confirm()
            self._is_unconfirmed = False
        flush = pending.cut(reason, self._now_s())
        if flush is not None:
            flush = self._complete(flush)
            self.state = replace(self.state, next_number=pending.next_number)
            fanout.put(flush, lambda: self._wait_for(fanout))

    def _finish(self, pending: Accumulator, fanout: Fanout) -> None:
        """Store what is left."""
        self._cut(pending, "stop", fanout)
        fanout.wait(lambda: self._wait_for(fanout))
        self._count(fanout)

    def _wait_for(self, fanout: Fanout) -> None:
        """While sinks are waited for: the tail ticks, and a stop has patience with sinks for so long only."""
        has_moved = self._count(fanout)
        self._callbacks.tick(False)
        if not self._callbacks.stop.is_set():
            return
        now = time.monotonic()
        if self._patience_ends_s is None or has_moved:
            self._patience_ends_s = now + self._config.options.stop_s
        if now > self._patience_ends_s:
            options, names = self._config.options, ", ".join(fanout.lagging_sinks)
            raise SinkError(
                f"{options.source}: stopped, but {names} stored nothing for {options.stop_s:g} s; {fanout.waiting} "
                "flushes are not stored. No change is lost: the next start reads them again"
            )

    def _count(self, fanout: Fanout) -> bool:
        """Count what was stored; True when something was."""
        stored = fanout.finished()
        self._meter.stored(stored)
        for flush, _ in stored:
            self._bookmarker.stored(flush, fanout.take_sequence(flush))
        self.has_stored = self.has_stored or bool(stored)
        return bool(stored)

    def _now_s(self) -> float:
        """Seconds since 1970 that never go back, so that a clock set back delays no flush."""
        return self._wall_s + time.monotonic()


def _sequence_at(origin: TailStart) -> int | None:
    """Stream sequence of the last message before the start; None where no stream ends there."""
    for sink, held in origin.sinks.items():
        if isinstance(sink, SequencedSink) and held in (None, origin.start):
            return sink.last_sequence
    return None
