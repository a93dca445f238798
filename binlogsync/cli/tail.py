"""`binlogsync tail`: the tail without Dagster, or the binlog as JSON lines on stdout.

The first is the tail that Dagster runs: same lease, same position store, same stream; so only one of them runs at a
time. The second requires MySQL only: it stores nothing, takes no lease, and registers as another replica, so it does
not interfere with a tail.
"""

from __future__ import annotations

import os
import socket
import threading
from argparse import Namespace
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

from binlogsync.cli.output import write_envelopes, write_message
from binlogsync.flush import Flush
from binlogsync.mysql import MySQLConfig
from binlogsync.position import Checkpoint
from binlogsync.settings import Settings
from binlogsync.signals import stop_on_signals
from binlogsync.sinks import Sink
from binlogsync.sinks.jetstream import JetStreamSink
from binlogsync.stores.memory import MemoryPositionStore
from binlogsync.tail.progress import TailPhase, TailProgress
from binlogsync.tail.run import Tail
from binlogsync.text_format import format_megabytes, format_rate
from binlogsync.waiting import Interval

_PROGRESS_S = 5.0
_STDOUT_FLUSH_S = 0.3


class StdoutSink(Sink):
    """A Sink that writes each change as a line and stores nothing. Sets `stop` when the reader has closed the pipe."""

    name = "stdout"

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._is_closed_by_reader = False

    def open(self, source: str) -> Checkpoint | None:
        """Nothing is stored, so the tail starts at the position in its options."""
        return None

    def write(self, flush: Flush) -> None:
        """Write the changes, in order."""
        if self._is_closed_by_reader:
            return
        try:
            write_envelopes(flush.batches, flush.source)
        except BrokenPipeError:
            self._is_closed_by_reader = True
            self._stop.set()

    def close(self) -> None:
        """Stdout stays open."""


class ProgressLine:
    """Reports the progress of a tail every few seconds, and what it waits for when that changes."""

    def __init__(self, source: str, server: str, sinks: str, every_s: float = _PROGRESS_S) -> None:
        """`server` and `sinks` are the addresses to show."""
        self._source = source
        self._waits = {"connecting": f"connecting to MySQL at {server}", "opening": f"opening {sinks}"}
        self._interval = Interval(every_s)
        self._before = TailProgress()
        self._phase: TailPhase | None = None

    def __call__(self, progress: TailProgress) -> None:
        """Report a new phase, and progress when a line is due and the tail has started."""
        if progress.phase != self._phase:
            self._phase = progress.phase
            at = progress.checkpoint.position if progress.checkpoint is not None else ""
            text = self._waits.get(progress.phase) or f"reading from {at}; waiting for changes"
            write_message(f"{self._source}: {text}")
        elif progress.checkpoint is not None and self._interval.is_due():
            self.write(progress)

    def write(self, progress: TailProgress) -> None:
        """Write the line, with the rate since the previous one."""
        seconds = max(progress.seconds - self._before.seconds, 1e-3)
        rate = (progress.changes - self._before.changes) / seconds
        at = progress.checkpoint.position if progress.checkpoint is not None else "no position yet"
        dropped = f", {progress.dropped:,} filtered out" if progress.dropped else ""
        write_message(
            f"{self._source}: {progress.changes:,} changes stored ({format_rate(rate)}){dropped}, "
            f"lag {progress.lag_s:.1f} s, {format_megabytes(progress.bytes_read)} read, at {at}"
        )
        self._before = progress


def run(settings: Settings, arguments: Namespace) -> int:
    """Tail until Ctrl-C. Raises BinlogSyncError."""
    source = settings.source(arguments.source)
    return (
        _tail_to_stdout(settings, source, arguments)
        if arguments.stdout
        else _tail_to_stream(settings, source, arguments)
    )


def _tail_to_stream(settings: Settings, source: str, arguments: Namespace) -> int:
    config, audit = settings.mysql(source), settings.audit()
    stream = settings.jetstream()
    sinks: Sequence[Sink] = [JetStreamSink(stream), *([audit] if audit is not None else [])]
    owner = f"{socket.gethostname()}:{os.getpid()}"
    with (
        stop_on_signals() as stop,
        closing(settings.positions()) as store,
        closing(settings.snapshots(source)) as snapshots,
    ):
        options = replace(settings.tail(source), accept_gap=arguments.accept_gap or "", gap_start=arguments.gap_start)
        tail = Tail(config, sinks, store, options, owner=owner, take_over=arguments.take_over, snapshots=snapshots)
        write_message(f"{source}: tailing {config.address}; stop with Ctrl-C (after a last flush)")
        sinks_text = f"the stream at {stream.address}" + (" and the audit log" if audit is not None else "")
        line = ProgressLine(source, config.address, sinks_text)
        line.write(tail.run(stop, line))
    return 0


def _tail_to_stdout(settings: Settings, source: str, arguments: Namespace) -> int:
    options = settings.tail(source)
    options = replace(
        options,
        start=arguments.start or options.start,
        include=tuple(arguments.include) or options.include,
        exclude=tuple(arguments.exclude) or options.exclude,
        flush_interval_s=min(_STDOUT_FLUSH_S, options.flush_interval_s),
    )
    with stop_on_signals() as stop:
        config = _with_own_server_id(settings.mysql(source))
        Tail(config, [StdoutSink(stop)], MemoryPositionStore(), options, owner="stdout").run(stop)
    return 0


def _with_own_server_id(config: MySQLConfig) -> MySQLConfig:
    """The same server under this process's own source name and server id: MySQL ends a dump whose id connects twice."""
    return replace(config, source=f"stdout-{os.getpid()}-{config.source}", server_id=None)
