"""One connection's worth of tailing: connect, read until stopped or failed, store what was read, disconnect.

Changes read before an error are complete; they are stored before the error is raised. A session does not retry; the
next session resumes at the checkpoints of the sinks.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from binlogsync.binlog.reader import BinlogReader, DecodedRange
from binlogsync.codec.image_texts import ImageTextWriter
from binlogsync.collection import exempt_existing_objects
from binlogsync.errors import DecodeError, SinkError, SourceError
from binlogsync.flush import Flush, FlushReason
from binlogsync.mysql import (
    BinlogDump,
    Pace,
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
from binlogsync.position_order import PositionOrder, compare
from binlogsync.server_facts import ServerFacts
from binlogsync.tail.accumulate import Accumulator
from binlogsync.tail.bookmarks import Bookmarker
from binlogsync.tail.existing_tables import ExistingTables
from binlogsync.tail.fanout import Fanout
from binlogsync.tail.foreign_keys import ForeignKeyWatch
from binlogsync.tail.gap import accept_gap
from binlogsync.tail.incremental_snapshot import IncrementalSnapshot
from binlogsync.tail.progress import ProgressCounter, TailPhase
from binlogsync.tail.reset_detection import ResetDetector
from binlogsync.tail.saving import CheckpointSaver
from binlogsync.tail.session_config import SessionConfig, SessionState, TailCallbacks
from binlogsync.tail.snapshot_policy import request_if_needed
from binlogsync.tail.snapshot_start import start_snapshots
from binlogsync.tail.start import TailStart, find_tail_start

log = logging.getLogger(__name__)

_TICK_S = 1.0
_WAITING_BYTES = 128 << 20


class Session:
    """See the module. `run` may be called once."""

    def __init__(
        self, config: SessionConfig, callbacks: TailCallbacks, counter: ProgressCounter, state: SessionState
    ) -> None:
        """`state` is that of the previous session, or an initial one."""
        self.state = state
        """State for the next session."""
        self.has_begun = False
        """True after the start was found and validated."""
        self.has_stored = False
        """True after the first flush was stored, or the backlog was found empty."""
        self._config = config
        self._callbacks = callbacks
        self._counter = counter
        options = config.options
        self._bookmarker = Bookmarker(options.source, config.store.bookmarks, options.bookmarks())
        self._patience_ends_s: float | None = None
        self._saver = CheckpointSaver(callbacks.save, options.checkpoint_s if options.is_eager else 0.0)
        self._stored: Checkpoint | None = None  # the checkpoint, if reading starts before it for an XA transaction
        self._has_empty_sink = False
        self._is_unconfirmed = False  # a rotation was read since the log was last checked for a reset
        self._wall_s = time.time() - time.monotonic()
        self._complete: Callable[[Flush], Flush] = lambda flush: flush
        self._snapshot: IncrementalSnapshot | None = None
        self._wake: Callable[[], None] = lambda: None

    def run(self) -> None:
        """Read until stopped; raises the error that ends the session before."""
        self._enter("connecting")
        self._config = replace(
            self._config, config=find_writable_host(self._config.config)
        )  # all connections go to the same server
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
        """The rest of `run`, after reset detection has started."""
        config, options = self._config.config, self._config.options
        self._enter("opening")
        found = self._find_start(info)
        self._announce(found.recoveries)
        self._callbacks.tick(False)
        if options.accept_gap:
            terms = (options.accept_gap, options.gap_start)
            gaps = accept_gap(
                config, info, found, self._config.filter, terms, self._callbacks.save,
                lambda: self._request_snapshot(has_gap=True),
            )  # fmt: skip
            self._announce(str(gap) for gap in gaps)
            if gaps:
                found = self._find_start(info)
        if found.is_first:
            found = replace(found, start=add_log_identity(config, info, found.start))
            self.state = replace(self.state, start=found.start)
        reached = self._find_missing_prepare(info, found.start)
        if reached is None:
            return
        found = replace(found, start=reached)
        validate(config, found.start)
        if found.start.resume is not None:
            validate(config, found.start.read_start())
        check_order(config, info, found.start.read_start(), filter(None, found.sinks.values()))
        found = replace(found, start=add_gtids(config, info, found.start))
        self.has_begun = True
        self._announce(self._changed_facts(info))
        self._announce(filter(None, [found.moved, found.unidentified(info)]))
        self._counter.begins(found.start)
        self._callbacks.tick(False)
        self._bookmarker.begins(found.start, _sequence_at(found))
        log.info("%s: tailing %s from %s", options.source, config.address, found.start)
        if found.start.resume is not None:
            position = found.start.resume.position
            log.info(
                "%s: reading starts at %s, because an XA transaction was prepared after it", options.source, position
            )
        self._has_empty_sink = None in found.sinks.values()
        fanout = Fanout(found.stored, self._saver.save, _WAITING_BYTES, options.rules(), self._saver.note)
        try:
            self._watch.follow(found.start)
            self._stored = found.start if found.start.resume is not None else None
            if any(sink.takes_snapshots and at is None for sink, at in found.sinks.items()):
                self._request_snapshot(is_new_stream=True)
            self._snapshot = start_snapshots(
                config, options, self._config.snapshots, found.sinks,
                (self._config.filter.folded(info.fold), info.fold), lambda: self._wake(),
            )  # fmt: skip
            self._read(info, found.start.read_start(), fanout)
        finally:
            if self._snapshot is not None:
                self._snapshot.close()
            self._patience_ends_s = None
            fanout.close(lambda: self._wait_for(fanout))
            self._count(fanout)

    def _request_snapshot(self, *, is_new_stream: bool = False, has_gap: bool = False) -> None:
        requests, options = self._config.snapshots, self._config.options
        if requests is not None:
            reasons = {"is_new_stream": is_new_stream, "has_gap": has_gap}
            request_if_needed(requests, options.snapshot, options.source, options.include, **reasons)

    def _enter(self, phase: TailPhase) -> None:
        self._counter.enters(phase)
        self._callbacks.tick(False)

    def _find_start(self, info: ServerInfo) -> TailStart:
        ends, options = self._config, self._config.options
        start = self.state.start or options.start
        return find_tail_start(ends.config, info, ends.sinks, ends.store, options.source, start)

    def _find_missing_prepare(self, info: ServerInfo, start: Checkpoint) -> Checkpoint | None:
        """The start, read from before the XA PREPARE that the last session missed; None when the tail has to stop."""
        missing = self.state.missing
        if missing is None:
            return start
        commit = BinlogPosition(missing.file, missing.pos)
        if start.server_uuid == info.server_uuid and compare(start.position, commit) is PositionOrder.AFTER:
            return start

        def may_continue() -> bool:
            self._callbacks.tick(False)
            return not self._callbacks.stop.is_set()

        return find_xa_prepare(self._config.config, start, missing, may_continue)

    def _announce(self, sentences: Iterable[str]) -> None:
        for sentence in sentences:
            log.warning("%s: %s", self._config.options.source, sentence)
            self._counter.recovered(sentence)

    def _changed_facts(self, info: ServerInfo) -> list[str]:
        """The changes of the server since the source was tailed last; saves its current facts."""
        store, source = self._config.store, self._config.options.source
        now, before = ServerFacts.of(info, time.time()), ServerFacts.from_text(store.checkpoints.load_facts(source))
        changes = now.changes_since(before) if before is not None else []
        if before is None or changes:
            store.checkpoints.save_facts(source, now.to_text())
        return [] if before is None else [f"{each} at {before.at:%Y-%m-%d %H:%M} UTC" for each in changes]

    def _read(self, info: ServerInfo, start: Checkpoint, fanout: Fanout) -> None:
        """Decode the dump and store it in flushes; changes read before an error are stored too.

        Changes of a new binlog file are stored only after a check that the log was not reset.
        """
        ends = self._config
        captured = ends.filter.folded(info.fold)
        existing = ExistingTables(ends.config, captured, info.fold, ends.sinks)
        watch = ForeignKeyWatch(ends.config, captured, info.fold)
        self._complete = watch.add_to
        is_rendered = ends.options.is_eager and any(sink.writes_json for sink in ends.sinks)
        decoding = replace(
            reader_options(ends.config, info, watch.captures), existing=existing, stored=self._stored,
            renderer=ImageTextWriter() if is_rendered else None,
        )  # fmt: skip
        for sink in ends.sinks:
            sink.note_case(info.variables.get("lower_case_table_names", "0"))
        known = add_log_identity(ends.config, info, start)
        reader = BinlogReader(decoding, replace(known, server_uuid=info.server_uuid))
        options = self._config.options
        pending = Accumulator(options.source, options.rules(), start, self._now_s(), self.state.next_number)
        if self._stored is None:
            pending.identify(known)
        if self._has_empty_sink and self._stored is None:
            pending.store_start(info.position or start.position)
        exempt_existing_objects()  # a full collection would delay all changes that arrive meanwhile
        try:
            with BinlogDump(self._config.config, start) as dump, ReadAhead(dump, reads_here=options.is_eager) as ahead:
                self._wake = ahead.wake
                if options.is_eager or self._snapshot is not None:
                    fanout.on_idle = lambda: self._proceed(ahead, pending)
                self._follow(ahead, reader, pending, fanout)
        except (DecodeError, SourceError):
            self._finish(pending, fanout)
            raise
        self._finish(pending, fanout)

    def _proceed(self, ahead: ReadAhead, pending: Accumulator) -> None:
        """Called in any thread when a sink has become idle: what waited for that is flushed now."""
        if self._snapshot is not None and self._snapshot.is_active:
            ahead.wake()
        elif not self._config.options.is_eager:
            return
        elif pending.rows or self._config.options.checkpoint_s == 0:
            ahead.wake()
        else:
            ahead.hasten()

    def _follow(self, ahead: ReadAhead, reader: BinlogReader, pending: Accumulator, fanout: Fanout) -> None:
        """Read until stopped."""
        while not self._callbacks.stop.is_set():
            pace: Pace = "linger"
            if self._config.options.is_eager:
                # The stream is hardly idle while a snapshot is published, and changes go before its rows.
                is_publishing = self._snapshot is not None and self._snapshot.is_active
                pace = "at_once" if fanout.is_idle else "linger" if is_publishing else "collect"
            wait_s = min(_TICK_S, pending.wait_s(self._now_s()))
            if self._snapshot is not None:
                wait_s = min(wait_s, self._snapshot.wait_s(time.monotonic()))
            is_holding = self._snapshot is not None and self._snapshot.is_holding
            if is_holding:
                ahead.wait(wait_s)
            chunk = None if is_holding else ahead.next(wait_s, pace)
            if chunk is not None:
                self._counter.read(len(chunk))
                reader.split_at = None if self._snapshot is None else self._snapshot.split_at
                for decoded in reader.feed(chunk.buffer, chunk.start, chunk.end):
                    if not self._hold(pending, decoded, ahead, fanout):
                        return
                    self._take(pending, decoded, fanout)
                ahead.recycle(chunk)
                if reader.server_error is not None:
                    raise_server_error(reader.server_error)
                if reader.ended:
                    raise SourceError(f"{self._config.config.address} ended the dump at {reader.position}; reconnect")
            self._look_after(pending, fanout)
            while self._publish_rows(pending, fanout):
                continue
            is_idle = chunk is None and not pending.rows and not fanout.waiting
            self.has_stored = self.has_stored or is_idle
            self._callbacks.tick(is_idle)

    def _look_after(self, pending: Accumulator, fanout: Fanout) -> None:
        """Do what is due between two reads."""
        self._flush_due(pending, fanout)
        self._watch.check()
        fanout.check()
        self._saver.save_later()
        self._count(fanout)

    def _hold(self, pending: Accumulator, decoded: DecodedRange, ahead: ReadAhead, fanout: Fanout) -> bool:
        """Publish the rows of a snapshot that have to precede these changes; False when a stop came first."""
        snapshot = self._snapshot
        while snapshot is not None and snapshot.holds(decoded, pending.reached, time.monotonic()):
            if self._callbacks.stop.is_set():
                return False
            if not self._publish_rows(pending, fanout, may_order=False):
                ahead.wait(_TICK_S)
            self._look_after(pending, fanout)
            self._callbacks.tick(False)
        return True

    def _take(self, pending: Accumulator, decoded: DecodedRange, fanout: Fanout) -> None:
        if decoded.transactions:
            self._counter.seen(decoded.checkpoint.ts_us)
        if self._snapshot is not None:
            self._snapshot.observe(decoded)
        pending.add(decoded, self._now_s())
        self._flush_due(pending, fanout)
        self._watch.reach(pending.reached)
        self._is_unconfirmed = self._is_unconfirmed or decoded.end == "rotation"

    def _flush_due(self, pending: Accumulator, fanout: Fanout) -> None:
        reason = pending.due(self._now_s(), self._config.options.is_eager and fanout.is_idle)
        if reason is not None:
            self._cut(pending, reason, fanout)

    def _cut(self, pending: Accumulator, reason: FlushReason, fanout: Fanout) -> None:
        self._confirm_log()
        flush = pending.cut(reason, self._now_s())
        if flush is not None:
            flush = self._complete(flush)
            if self._snapshot is not None:
                self._snapshot.observe_flush(flush)
                flush = replace(flush, snapshot=self._snapshot.progress_at(flush.checkpoint))
            self._put(flush, pending, fanout)

    def _confirm_log(self) -> None:
        if self._is_unconfirmed:
            # After a reset, a dump continues with the next file that has the next name.
            self._watch.confirm()
            self._is_unconfirmed = False

    def _put(self, flush: Flush, pending: Accumulator, fanout: Fanout) -> None:
        self.state = replace(self.state, next_number=pending.next_number)
        fanout.put(flush, lambda: self._wait_for(fanout))

    def _publish_rows(self, pending: Accumulator, fanout: Fanout, *, may_order: bool = True) -> bool:
        """Flush rows of a snapshot, if the stream is at a transaction boundary where some are due; False if not."""
        snapshot, reached = self._snapshot, pending.reached
        if snapshot is None or reached.skip or not snapshot.has_rows(reached, time.monotonic(), may_order=may_order):
            return False
        if not pending.is_empty:
            self._cut(pending, "eager" if self._config.options.is_eager else "rows", fanout)
        rows = snapshot.take_rows(reached, time.monotonic())
        if rows is not None:
            self._confirm_log()
            self._put(pending.cut_rows(rows.batch, rows.progress, self._now_s()), pending, fanout)
        return True

    def _finish(self, pending: Accumulator, fanout: Fanout) -> None:
        """Store the remaining changes."""
        self._cut(pending, "stop", fanout)
        fanout.wait(lambda: self._wait_for(fanout))
        self._saver.close()
        self._count(fanout)

    def _wait_for(self, fanout: Fanout) -> None:
        """Called while waiting for sinks: ticks, and raises if a stop waited `stop_s` seconds without progress."""
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
        """Count the stored flushes; True when there were any."""
        stored = fanout.finished()
        self._counter.stored(stored)
        for flush, _ in stored:
            self._bookmarker.stored(flush, fanout.take_sequence(flush))
            if self._snapshot is not None and flush.has_snapshot_rows:
                self._snapshot.stored(flush, time.monotonic())
        self.has_stored = self.has_stored or bool(stored)
        return bool(stored)

    def _now_s(self) -> float:
        """Seconds since 1970, monotonic, so that a clock set back does not delay a flush."""
        return self._wall_s + time.monotonic()


def _sequence_at(found: TailStart) -> int | None:
    """Stream sequence of the last message before the start; None if no stream ends there."""
    for sink, held in found.sinks.items():
        if (sequence := sink.last_sequence) is not None and held in (None, found.start):
            return sequence
    return None
