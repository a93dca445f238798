"""Four readers of the same binlog: socket only ("floor"), decoder, mysql-replication, and the tail into JetStream."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import numpy as np
from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.row_event import DeleteRowsEvent, RowsEvent, UpdateRowsEvent, WriteRowsEvent

from bench.workload import DATABASE
from binlogsync.binlog.reader import BinlogReader, ReaderOptions
from binlogsync.flush import Flush
from binlogsync.mysql import BinlogDump, MySQLConfig, ReadAhead, inspect_server, resolve_start
from binlogsync.position import Checkpoint
from binlogsync.sinks import Sink
from binlogsync.sinks.jetstream import JetStreamOptions, JetStreamSink
from binlogsync.start_notation import parse_start
from binlogsync.stores.memory import MemoryPositionStore
from binlogsync.tail.run import Tail, TailOptions

_LAST_WAIT_S = 0.1


@dataclass(frozen=True, slots=True)
class Measurement:
    """Duration, bytes read from the socket (0 if unknown), changes decoded (0 for the floor), and CPU seconds of this
    process (0 if not measured).
    """

    seconds: float
    bytes: int
    changes: int
    cpu_s: float = 0.0


def read_floor(config: MySQLConfig) -> Measurement:
    """Read the socket into one buffer, and drop the bytes."""
    start = resolve_start(config, parse_start("oldest"))
    view = memoryview(np.empty(8 << 20, np.uint8))  # type: ignore[arg-type]
    begun, total = time.perf_counter(), 0
    with BinlogDump(config, start, blocking=False) as dump:
        while size := dump.readinto(view):
            total += size
            if _is_end(view[:size]):
                break
    return Measurement(time.perf_counter() - begun, total, 0)


def _is_end(view: memoryview) -> bool:
    """Whether the bytes end with the EOF packet of a non-blocking dump."""
    return len(view) >= 9 and bytes(view[-9:-6]) == b"\x05\x00\x00" and view[-5] == 0xFE


def read_decoded(config: MySQLConfig) -> Measurement:
    """Decode the binlog to ChangeBatches, with verified checksums."""
    info = inspect_server(config)
    start = resolve_start(config, parse_start("oldest"))
    begun, total, changes = time.perf_counter(), 0, 0
    options = ReaderOptions(info.server_uuid, info.server_id, captures=lambda database, table: database == DATABASE)
    reader = BinlogReader(options, start)
    with BinlogDump(config, start, blocking=False) as dump, ReadAhead(dump) as ahead:
        while not reader.ended and (chunk := ahead.next(10.0)) is not None:
            total += len(chunk)
            for stretch in reader.feed(chunk.buffer, chunk.start, chunk.end):
                changes += sum(len(batch) for batch in stretch.batches)
            ahead.recycle(chunk)
    return Measurement(time.perf_counter() - begun, total, changes)


def read_with_mysql_replication(config: MySQLConfig, most: int) -> Measurement:
    """Decode `most` changes with mysql-replication, as in its documentation, in its faster mode without checksums."""
    stream = BinLogStreamReader(
        connection_settings={"host": config.host, "port": config.port, "user": config.user, "passwd": config.password}
        | ({"ssl_disabled": True} if config.tls.mode == "disabled" else {}),
        server_id=4_000_000_000,
        log_file=resolve_start(config, parse_start("oldest")).position.file,
        log_pos=4,
        resume_stream=True,
        blocking=False,
        only_events=[WriteRowsEvent, UpdateRowsEvent, DeleteRowsEvent],
        only_schemas=[DATABASE],
        enable_logging=False,
    )
    begun, changes = time.perf_counter(), 0
    for event in stream:
        assert isinstance(event, RowsEvent)
        changes += len(event.rows)
        if changes >= most:
            break
    seconds = time.perf_counter() - begun
    stream.close()
    return Measurement(seconds, 0, changes)


class _MeasuringSink(Sink):
    """Wraps a sink: stores the times when it is open and when all changes are stored, then stops the tail."""

    def __init__(self, sink: Sink, changes: int, stop: threading.Event) -> None:
        self.name = sink.name
        self.stored = 0
        self.begun = self.at = 0.0
        self._sink = sink
        self._wanted = changes
        self._stop = stop

    def open(self, source: str) -> Checkpoint | None:
        """Open the wrapped sink, and store the time."""
        checkpoint = self._sink.open(source)
        self.begun = time.perf_counter()
        return checkpoint

    def prepare(self, flush: Flush) -> None:
        """Prepare the flush in the wrapped sink."""
        self._sink.prepare(flush)

    def write(self, flush: Flush) -> None:
        """Write to the wrapped sink, and count the changes."""
        self._sink.write(flush)
        self.stored += flush.changes
        if self.stored >= self._wanted and not self.at:
            self.at = time.perf_counter()
            self._stop.set()

    def close(self) -> None:
        """Close the wrapped sink."""
        self._sink.close()


class _CollectingSink(Sink):
    """A sink that collects the flushes in a list."""

    name = "keep"

    def __init__(self) -> None:
        self.kept: list[Flush] = []

    def open(self, source: str) -> Checkpoint | None:
        """There is no stored checkpoint."""
        return None

    def write(self, flush: Flush) -> None:
        """Append the flush."""
        self.kept.append(flush)

    def close(self) -> None:
        """Does nothing."""


def flushes(config: MySQLConfig, changes: int) -> list[Flush]:
    """The whole binlog, as the flushes of a tail."""
    stop, keep = threading.Event(), _CollectingSink()
    _tail(config, _MeasuringSink(keep, changes, stop), "ready", stop)
    return keep.kept


def tail_into_jetstream(config: MySQLConfig, options: JetStreamOptions, source: str, changes: int) -> Measurement:
    """Run the tail, with acknowledged and fenced messages, from the open stream until all changes are stored."""
    stop = threading.Event()
    sink = _MeasuringSink(JetStreamSink(options), changes, stop)
    size = _tail(config, sink, source, stop)
    if sink.stored != changes:
        raise SystemExit(f"{sink.stored} changes stored, {changes} made")
    return Measurement(sink.at - sink.begun, size, sink.stored)


def _tail(config: MySQLConfig, sink: Sink, source: str, stop: threading.Event) -> int:
    """Run a tail until `stop`. Returns the number of bytes read."""
    # The interval only affects the last flush, which has fewer changes than the others.
    settings = TailOptions(
        source, start="oldest", include=(f"{DATABASE}.*",), preflight=False, flush_interval_s=_LAST_WAIT_S
    )
    return Tail(config, [sink], MemoryPositionStore(), settings, owner="bench").run(stop).bytes_read
