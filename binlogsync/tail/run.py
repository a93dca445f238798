"""The tail of one source: read the binlog, flush to the sinks, save the checkpoint.

    tail = Tail(config, [JetStreamSink(...)], store, TailOptions("main"), owner="me")
    tail.run(stop)

It claims the source's lease, starts at the oldest checkpoint among its sinks, and runs until `stop` is set; then it
flushes the changes read so far and releases the lease. When a server, broker or store is lost, it reconnects and
resumes at the checkpoints of the sinks. Other errors are raised; the next start resumes at the same checkpoint.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from binlogsync.errors import (
    BinlogSyncError,
    ConfigError,
    FencedError,
    LeaseLostError,
    MissingPrepareError,
    PositionError,
    PreflightError,
    SinkError,
    SourceError,
    StoreError,
)
from binlogsync.filters import TableFilter
from binlogsync.mysql import MySQLConfig
from binlogsync.position import Checkpoint
from binlogsync.sinks import Sink
from binlogsync.snapshot.requests import SnapshotRequests
from binlogsync.stores import Lease, PositionStore
from binlogsync.stores.lease_heartbeat import LeaseHeartbeat
from binlogsync.tail.options import TailOptions
from binlogsync.tail.progress import ProgressCounter, TailPhase, TailProgress
from binlogsync.tail.session import Session
from binlogsync.tail.session_config import SessionConfig, SessionState, TailCallbacks
from binlogsync.waiting import Interval, RetryTimer

__all__ = ["Tail", "TailOptions", "TailProgress"]

log = logging.getLogger(__name__)

_REPORT_S = 1.0
_PATIENCE_S = 300.0
_FIRST_BACKOFF_S = 0.5
_LONGEST_BACKOFF_S = 10.0


class Tail:
    """The tail of one source; see the module. `run` may be called once."""

    def __init__(
        self,
        config: MySQLConfig,
        sinks: Sequence[Sink],
        store: PositionStore,
        options: TailOptions,
        *,
        owner: str,
        take_over: bool = False,
        snapshots: SnapshotRequests | None = None,
    ) -> None:
        """`owner` names this tail in the lease; with `take_over` it claims the lease from a live owner too.

        `snapshots` are the requests to publish existing rows into the stream; None for a tail that does not.
        """
        if not sinks:
            raise ConfigError("a tail needs at least one sink; give it a JetStreamSink or an AuditSink")
        self._config = SessionConfig(
            config, tuple(sinks), store, options, TableFilter(options.include, options.exclude), snapshots
        )
        self._owner = owner
        self._take_over = take_over
        self._counter = ProgressCounter()
        self._report_interval = Interval(_REPORT_S)
        self._lease: Lease | None = None
        self._heartbeat: LeaseHeartbeat | None = None
        self._may_overtake = False
        self._report: Callable[[TailProgress], None] | None = None
        self._reported: TailPhase | None = None

    def run(self, stop: threading.Event, on_progress: Callable[[TailProgress], None] | None = None) -> TailProgress:
        """Tail until `stop` is set, and return the progress.

        `on_progress` is called about once a second in the calling thread, even when the source is idle.

        Raises:
            LeaseLostError: another tail holds the source.
            FencedError: another writer has written to a sink.
            PositionError: the checkpoint is purged or foreign.
            PreflightError: the server is not set up for change data capture.
            DecodeError: an event cannot be decoded exactly.
            SourceError, SinkError, StoreError: a server stayed away for longer than `retry_s`, or a sink for longer
                than `stop_s` after the stop.
        """
        self._report = on_progress
        self._counter = ProgressCounter()
        try:
            self._run_sessions(stop)
        finally:
            if self._heartbeat is not None:
                self._heartbeat.stop()
            for sink in self._config.sinks:
                sink.close()
            self._release()
        return self._counter.snapshot(idle=True)

    def _run_sessions(self, stop: threading.Event) -> None:
        """Run sessions until one ends because of `stop`; the time without success is limited."""
        options = self._config.options
        timer = RetryTimer(options.retry_s, _FIRST_BACKOFF_S, _LONGEST_BACKOFF_S, partial(self._pause, stop))
        state, is_failing = SessionState(), False
        while True:
            session = Session(self._config, TailCallbacks(stop, self._tick, self._save), self._counter, state)
            try:
                self._claim()
                session.run()
                return
            except (LeaseLostError, PositionError, PreflightError):
                raise
            except MissingPrepareError as error:
                if error.is_same(session.state.missing):
                    raise
                log.info("source %s: %s; searching earlier binlogs for it", options.source, error)
                state = replace(session.state, missing=error)
            except (SourceError, SinkError, StoreError) as error:
                if isinstance(error, FencedError) and not self._is_overtaking(error):
                    raise
                state = session.state
                if session.has_begun:  # the gap was accepted for that start only
                    self._config = replace(self._config, options=replace(options, accept_gap=""))
                if session.has_stored or not is_failing:
                    timer.restart()
                is_failing = True
                if stop.is_set():
                    self._stopped_in_outage(error)
                    return
                if timer.is_over:
                    raise
                log.warning("source %s: %s; retrying in %.1f s", options.source, error, timer.pause_s)
                self._counter.recovered(f"{type(error).__name__}: {error}")
                timer.pause()
                if stop.is_set():
                    self._stopped_in_outage(error)
                    return

    def _stopped_in_outage(self, error: BinlogSyncError) -> None:
        """End cleanly if the source is down, because nothing is left to store; else raise the error."""
        if not isinstance(error, SourceError):
            raise error
        log.info("%s: stopped while its server was unreachable (%s)", self._config.options.source, error)

    def _is_overtaking(self, error: FencedError) -> bool:
        """True, once, if the previous tail wrote to a sink after this tail had read the end of the sink.

        The lease requires the previous tail to stop; the tail that still holds the lease reads the end again.
        """
        assert self._lease is not None
        if not self._may_overtake:
            return False
        self._may_overtake = False
        self._config.store.leases.renew(self._lease)
        log.warning(
            "%s: %s; this tail holds the lease and opens the sinks again, once", self._config.options.source, error
        )
        return True

    def _claim(self) -> None:
        """Claim the lease if it is not held yet."""
        if self._lease is not None:
            return
        options = self._config.options
        self._lease = self._config.store.leases.claim(options.source, self._owner, take_over=self._take_over)
        self._may_overtake = self._lease.epoch > 1
        renew = partial(self._config.store.leases.renew, self._lease)
        self._heartbeat = LeaseHeartbeat(f"source {options.source}", renew, patience_s=_PATIENCE_S)
        self._heartbeat.start()

    def _release(self) -> None:
        """Release the lease; in an unreachable store it expires."""
        if self._lease is None:
            return
        try:
            self._config.store.leases.release(self._lease)
        except StoreError as error:
            log.warning("%s: the lease could not be released: %s", self._config.options.source, error)

    def _pause(self, stop: threading.Event, seconds: float) -> None:
        """Wait, and continue to report progress."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and not stop.wait(0.2):
            self._tick(False)

    def _save(self, checkpoint: Checkpoint) -> None:
        """Called by the sinks' threads, sequentially, when all sinks have reached the checkpoint."""
        assert self._lease is not None
        self._config.store.checkpoints.save(self._lease, checkpoint)

    def _tick(self, is_idle: bool) -> None:
        """Report to the lease heartbeat that this thread is alive; report progress once a second and in a new phase."""
        if self._heartbeat is not None:
            self._heartbeat.report_alive()
        if self._report is not None and (self._report_interval.is_due() or self._counter.phase != self._reported):
            self._reported = self._counter.phase
            self._report(self._counter.snapshot(idle=is_idle))
