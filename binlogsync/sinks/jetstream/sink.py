"""The JetStream sink: exactly once and in order into one stream for each source; the stream contains its checkpoint.

A flush is packed into publish units (single messages or atomic batches) by other threads, ahead of time if the next
flush is known; a small eager flush by the calling thread. `StreamWriter` stores them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Set
from concurrent.futures import ThreadPoolExecutor

from binlogsync.codec import subjects
from binlogsync.errors import SinkError
from binlogsync.flush import Flush
from binlogsync.nats.snapshot_readers import Readers, direct_rows, find_snapshot_readers
from binlogsync.nats.stream_tables import list_followed_tables, list_stored_tables
from binlogsync.nats.stream_writer import StreamWriter
from binlogsync.nats.unit_queue import UnitQueue
from binlogsync.position import Checkpoint
from binlogsync.schema import TableSchema
from binlogsync.sinks import Sink
from binlogsync.sinks.jetstream.messages import unit_builders
from binlogsync.sinks.jetstream.options import JetStreamOptions
from binlogsync.sinks.jetstream.packing import PackingOptions

log = logging.getLogger(__name__)

_MAKERS = 2
_MAX_SINGLES = 32
"""nats-server stores so many messages in a chain in less time than an atomic batch takes (bench/README.md)."""
_SMALL_BYTES = 1 << 20


class JetStreamSink(Sink):
    """A Sink into a stream of NATS. Only one thread may use it at a time."""

    name = "jetstream"

    def __init__(self, options: JetStreamOptions) -> None:
        self.options = options
        self._writer: StreamWriter | None = None
        self._written = 0
        self._stored_snapshot: str | None = None
        self._makers: ThreadPoolExecutor | None = None
        self._ready: dict[int, tuple[Flush, UnitQueue]] = {}

    @property
    def last_sequence(self) -> int:
        """Stream sequence of the last stored message."""
        return self._written

    @property
    def feeds_consumers(self) -> bool:
        """True: consumers read the stream."""
        return True

    @property
    def takes_snapshots(self) -> bool:
        """True: consumers get the rows in the stream."""
        return True

    @property
    def stored_snapshot(self) -> str | None:
        """In the message with the checkpoint."""
        return self._stored_snapshot

    @property
    def writes_json(self) -> bool:
        """True for the format `json`."""
        return self.options.format == "json"

    def open(self, source: str) -> Checkpoint | None:
        """Connect, create or check the stream, and return its checkpoint; None when it is empty."""
        self.close()
        stream = subjects.stream_name(subjects.check_source(source))
        self._writer = writer = StreamWriter(self.options, self.options.stream_spec(source))
        self._makers = ThreadPoolExecutor(_MAKERS, thread_name_prefix=f"messages-{source}")
        try:
            end = writer.open()
            checkpoint = end.require_checkpoint(stream)
        except BaseException:
            self.close()
            raise
        self._written, self._stored_snapshot = end.sequence, end.snapshot
        log.info("stream %s ends at sequence %d, checkpoint %s", stream, end.sequence, checkpoint)
        return checkpoint

    def note_case(self, lower_case_table_names: str) -> None:
        """Store how the server compares table names, for the readers of the stream."""
        assert self._writer is not None
        self._writer.put_in_schema_bucket(subjects.CASE_KEY, lower_case_table_names.encode())

    def stored_tables(self, source: str) -> Set[tuple[str, str]]:
        """The tables with changes in the stream."""
        return list_stored_tables(self.options, source)

    def find_readers(self, source: str) -> Readers:
        """The consumers with a durable of the stream; adds the subjects of rows for one consumer to the stream."""
        return find_snapshot_readers(self.options, source)

    def direct_rows(self, source: str, prefix: str | None, tables: Collection[tuple[str, str]]) -> None:
        """Let the durables of the consumer read the subjects of the rows."""
        direct_rows(self.options, source, prefix, tables)

    def consumed_tables(self, source: str) -> Set[tuple[str, str]]:
        """The tables with a durable of the stream."""
        return list_followed_tables(self.options, source)

    def write(self, flush: Flush) -> None:
        """Store the flush; returns when the server has acknowledged all of it."""
        writer, makers = self._writer, self._makers
        if writer is None or makers is None:
            raise SinkError("the JetStream sink is not open; call open(source) first")
        units = self._take_units(flush, writer, makers)
        following = self._ready.get(flush.number + 1)
        flushes = (flush,) if following is None else (flush, following[0])
        try:
            writer.store(units, None if following is None else following[1], _schemas(*flushes), flush.checkpoint)
            self._written = units.end
        finally:
            units.drop()

    def start(self, flush: Flush, done: Callable[[Exception | None], None]) -> bool:
        """See Sink: the flush is packed now, and stored by the event loop of the connection."""
        writer, makers = self._writer, self._makers
        if writer is None or makers is None or not _is_small(flush) or not writer.can_start(_schemas(flush)):
            return False
        units = self._take_units(flush, writer, makers)
        self._ready[flush.number] = (flush, units)  # for `write`, if it fails

        def ended(error: Exception | None) -> None:
            if error is None:
                self._written = units.end
                self._ready.pop(flush.number, None)
            done(error)

        writer.start(units, ended)
        return True

    def watch(self) -> None:
        """See Sink. Does nothing while the connection is lost; the next write reconnects."""
        if self._writer is not None:
            self._writer.check()

    def prepare(self, flush: Flush) -> None:
        """Start to build the messages of the flush after the next one."""
        if self._writer is not None and self._makers is not None and not self._writer.is_lost:
            self._ready[flush.number] = (flush, self._take_units(flush, self._writer, self._makers))

    def _take_units(self, flush: Flush, writer: StreamWriter, makers: ThreadPoolExecutor) -> UnitQueue:
        """The units of the flush, as started by `prepare`, or started now."""
        prepared, ready = self._ready.pop(flush.number, (None, None))
        if ready is not None:
            if prepared is flush:
                return ready
            if ready.is_begun:
                raise SinkError(f"flush {flush.number} differs from the prepared one, which is partly stored")
            ready.drop()
        options, is_small = self.options, _is_small(flush)
        if is_small and options.format == "json" and options.changes_per_message == 1 and not writer.is_clustered:
            packing = PackingOptions(as_singles=True)
        else:
            limit = writer.message_limit(flush.checkpoint)
            packing = PackingOptions(options.format, options.changes_per_message, options.max_batch_bytes, limit)
        builders = unit_builders(flush, packing, time.time_ns() // 1000)
        return UnitQueue(builders, None if is_small else makers)

    def close(self) -> None:
        """Close the connection."""
        self._ready.clear()
        makers, self._makers = self._makers, None
        if makers is not None:
            makers.shutdown(wait=False, cancel_futures=True)
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()


def _is_small(flush: Flush) -> bool:
    return flush.reason == "eager" and flush.changes <= _MAX_SINGLES and flush.nbytes <= _SMALL_BYTES


def _schemas(*flushes: Flush) -> dict[str, TableSchema]:
    """The schemas of their changes, by fingerprint."""
    return {b.schema.fingerprint: b.schema for flush in flushes for b in flush.batches if b.ddl is None}
